//! Arbitrary bytes for the decoder of the guardian's frames: no panic, no memory for what is only claimed, and nothing that is
//! cut short passes for a frame.
//!
//! With `FUZZ_SEEDS=DIR` it writes one frame of each kind into DIR first, which is then a corpus to begin with.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use foster::__fuzz::{Decoded, End, receive, samples};
use libfuzzer_sys::fuzz_target;

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(live, Ordering::Relaxed);
    LARGEST.fetch_max(size, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    // `realloc` is `alloc` and `dealloc` here, so for a moment both count.
}

/// What `work` has allocated at the most, beside what was there before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// What a frame of so many bytes may need while it is read: an item of a list is four times as large as its shortest form
/// on the wire, beside the bytes themselves, which may become three times as long where they are no text.
fn allowed(bytes: usize) -> usize {
    8 * bytes + 1024
}

/// All frames that a link makes of the chunks.
fn collect(chunks: &[&[u8]]) -> (Vec<Decoded>, End) {
    let mut frames = Vec::new();
    let end = receive(chunks, |frame| frames.push(frame));
    (frames, end)
}

fn check(data: &[u8]) {
    // As the body of one frame.
    let (frame, used) = peak(|| Decoded::from_body(data));
    assert!(used <= allowed(data.len()), "{used} bytes for a frame of {}", data.len());
    if let Some(frame) = frame {
        let bytes = frame.encode();
        assert_eq!(
            Decoded::from_body(&bytes[4..]).as_ref(),
            Some(&frame),
            "written and read again, it is another frame"
        );
        // Wherever it is cut, it is none; all places for short ones, some for others.
        let step = bytes.len() / 64 + 1;
        for end in (4..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            assert_eq!(Decoded::from_body(&bytes[4..end]), None, "cut to {end} of {}", bytes.len());
        }
        let longer = [&bytes[4..], &[0]].concat();
        assert_eq!(Decoded::from_body(&longer), None, "with a byte too many");
        let (start, end) = bytes.split_at(data.iter().map(|b| usize::from(*b)).sum::<usize>() % bytes.len());
        assert_eq!(collect(&[start]), (Vec::new(), End::NotYet), "half a frame");
        let whole = collect(&[start, end]);
        if frame.has_descriptors() {
            assert_eq!(whole, (Vec::new(), End::Refused), "its descriptors are missing");
        } else {
            assert_eq!(whole, (vec![frame], End::NotYet));
        }
    }
    // As what comes through the socket: where the stream is cut makes no difference.
    let middle = data.first().map_or(0, |b| usize::from(*b)) * data.len() / 256;
    let (start, end) = data.split_at(middle);
    let whole = collect(&[data]);
    assert_eq!(collect(&[start, end]), whole, "cut at {middle}");
    // What the link itself needs: one frame at a time, and one copy of the bytes that have come, whose buffer has doubled until
    // they fitted. (What is kept of short frames is many times as long as they are, but nobody keeps them.)
    let (end, used) = peak(|| receive(&[data], drop));
    assert_eq!(end, whole.1);
    assert!(used <= allowed(data.len()) + 4 * data.len() + 64 * 1024, "{used} bytes for a stream of {}", data.len());
}

/// The longest frame that a link accepts, full of the items that grow most, needs no allocation that is longer.
fn check_the_longest() {
    const LIMIT: usize = 16 << 20;
    // The tag of an order, and its list of candidates: empty strings.
    let mut body = vec![7];
    body.extend_from_slice(&(LIMIT as u32 / 4 - 2).to_le_bytes());
    body.resize(LIMIT, 0);
    LARGEST.store(0, Ordering::Relaxed);
    assert_eq!(Decoded::from_body(&body), None, "the rest of the order is missing");
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= LIMIT, "{largest} bytes at once for a frame of {LIMIT}");
}

/// The shortest frames, as many as fit into what a fuzzer tries: twenty times as long when somebody keeps them all.
fn check_many_short() {
    const WANT_KEEPER: [u8; 5] = [1, 0, 0, 0, 3];
    let stream = WANT_KEEPER.repeat(4096 / WANT_KEEPER.len());
    assert_eq!(collect(&[&stream]).0.len(), 4096 / WANT_KEEPER.len());
    check(&stream);
}

fn prepare() {
    check_the_longest();
    check_many_short();
    write_seeds();
}

fn write_seeds() {
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (number, frame) in samples().iter().enumerate() {
        let dir = std::path::Path::new(&dir);
        // Once as a body, once as it travels.
        std::fs::write(dir.join(format!("body-{number}")), &frame[4..]).expect("the directory is there");
        std::fs::write(dir.join(format!("frame-{number}")), frame).expect("the directory is there");
    }
}

fuzz_target!(init: prepare(), |data: &[u8]| check(data));
