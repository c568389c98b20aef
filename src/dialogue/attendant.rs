//! One thread for the whole process that reads for those on whom nobody waits, so that no helper blocks on a full pipe.
//!
//! It must cost nothing while tests wait for themselves, which is nearly always. So a conversation that somebody has
//! just waited on is only put on a list; a few milliseconds later the attendant looks whether it has been used again, and
//! begins to watch it only if not. A dialogue at full speed thus costs one look per tick, and an idle one costs nothing at
//! all: the thread sleeps without a time limit.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::conversation::{Channel, Conversation};
use super::window::Filled;
use crate::sys::attendant::Watch;
use crate::sys::signals;

/// How long a conversation is left alone after it was used.
const TICK: Duration = Duration::from_millis(5);

/// How many reads one stream may have in a row while others wait for theirs.
const TURN: usize = 16;

/// The thread needs little: it reads into buffers that exist and formats nothing.
const STACK: usize = 128 * 1024;

#[derive(Debug, Default)]
struct Book {
    /// Everyone who lives, by number.
    known: HashMap<u64, Weak<Conversation>>,
    /// Those to be looked at at the next tick, with the number of waits that they had seen.
    waiting: Vec<(Weak<Conversation>, u64)>,
    /// The thread has a tick to come.
    ticking: bool,
}

#[derive(Debug)]
struct Attendant {
    watch: Watch,
    book: Mutex<Book>,
}

/// Only a success is kept: what was lacking once may be there the next time.
static ATTENDANT: OnceCell<Arc<Attendant>> = OnceCell::new();
static IDS: AtomicU64 = AtomicU64::new(1);

/// A number for a new conversation.
pub(super) fn next_id() -> u64 {
    IDS.fetch_add(1, Ordering::Relaxed)
}

/// The attendant, started if this is the first call; `None` while the system has no room for it, and then helpers
/// can block on a pipe that is full and that nobody waits for, as with `std::process`.
fn attendant() -> Option<&'static Attendant> {
    let start = || -> io::Result<Arc<Attendant>> {
        let attendant = Arc::new(Attendant { watch: Watch::new()?, book: Mutex::default() });
        let own = Arc::clone(&attendant);
        let thread = std::thread::Builder::new().name("foster-attendant".to_owned()).stack_size(STACK);
        // With every signal blocked, so that no handler of the test's ever runs on this thread.
        signals::with_all_blocked(|| thread.spawn(move || own.run()))?;
        Ok(attendant)
    };
    ATTENDANT.get_or_try_init(start).ok().map(|a| &**a)
}

/// Makes a new conversation known.
pub(super) fn introduce(conversation: &Arc<Conversation>) {
    if let Some(attendant) = attendant() {
        attendant.book().known.insert(conversation.id, Arc::downgrade(conversation));
    }
}

/// This one is gone.
pub(super) fn forget(id: u64) {
    if let Some(attendant) = ATTENDANT.get() {
        attendant.book().known.remove(&id);
    }
}

/// Everyone who lives.
pub(crate) fn everyone() -> Vec<Arc<Conversation>> {
    let Some(attendant) = ATTENDANT.get() else { return Vec::new() };
    attendant.book().known.values().filter_map(Weak::upgrade).collect()
}

/// Takes in what has arrived for anybody, without waiting.
pub(crate) fn look_at_everyone() {
    for conversation in everyone() {
        conversation.wait(Some(Instant::now()), |_| None::<()>);
    }
}

/// Nobody waits on this one at the moment; see to it that it is read if that lasts.
pub(super) fn idle(conversation: &Arc<Conversation>) {
    let Some(attendant) = attendant() else { return };
    // Once more, for the case that there was no attendant when it was introduced.
    attendant.book().known.entry(conversation.id).or_insert_with(|| Arc::downgrade(conversation));
    conversation.attended.store(true, Ordering::Relaxed);
    attendant.enlist(conversation, u64::MAX);
}

impl Attendant {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be looked at at the next tick.
    fn enlist(&self, conversation: &Arc<Conversation>, waits: u64) {
        let mut book = self.book();
        book.waiting.push((Arc::downgrade(conversation), waits));
        let wake = !book.ticking;
        book.ticking = true;
        drop(book);
        if wake {
            self.watch.wake();
        }
    }

    fn run(&self) {
        let mut tick: Option<Instant> = None;
        loop {
            // Out of memory in the kernel is the only failure; then the next round tries again.
            let fired = self.watch.wait(tick).unwrap_or_default();
            for token in fired {
                self.serve(token);
            }
            if tick.is_some_and(|t| Instant::now() >= t) {
                tick = None;
                self.look_around();
            }
            if tick.is_none() && self.book().ticking {
                tick = Some(Instant::now() + TICK);
            }
        }
    }

    /// Begins to watch those that have not been used since they were listed; the others wait for another tick.
    fn look_around(&self) {
        let waiting = {
            let mut book = self.book();
            book.ticking = false;
            std::mem::take(&mut book.waiting)
        };
        for (conversation, seen) in waiting {
            let Some(conversation) = conversation.upgrade() else { continue };
            match conversation.try_lock() {
                Some(state) if !state.is_led() => {
                    if state.waits == seen {
                        let sources = state.sources();
                        for (channel, fd) in [Channel::Stdout, Channel::Stderr].into_iter().zip(&sources) {
                            if let Some(fd) = fd {
                                self.arm(&conversation, channel, fd);
                            }
                        }
                    } else {
                        let waits = state.waits;
                        drop(state);
                        self.enlist(&conversation, waits);
                    }
                }
                // Somebody waits on it and reads. When they leave, they tell us.
                Some(state) => {
                    conversation.attended.store(false, Ordering::Relaxed);
                    drop(state);
                }
                // Somebody is at it this very moment.
                None => self.enlist(&conversation, seen),
            }
        }
    }

    fn arm(&self, conversation: &Conversation, channel: Channel, fd: &crate::sys::OwnedFd) {
        // Refused only without memory; the stream is then read when somebody waits for it.
        let _ = self.watch.arm(fd, conversation.id * 2 + channel as u64);
    }

    /// Reads what has come on a stream that nobody waits for.
    fn serve(&self, token: u64) {
        let channel = if token % 2 == 0 { Channel::Stdout } else { Channel::Stderr };
        let Some(conversation) = self.book().known.get(&(token / 2)).and_then(Weak::upgrade) else { return };
        let Some(mut state) = conversation.try_lock().filter(|state| !state.is_led()) else {
            // Whoever is at it reads, and tells us on leaving; to be sure, we look again at the next tick.
            self.enlist(&conversation, u64::MAX);
            return;
        };
        for _ in 0..TURN {
            if !matches!(state.read(channel), Filled::More(_)) {
                break;
            }
        }
        conversation.announce(&state);
        let sources = state.sources();
        drop(state);
        if let Some(fd) = &sources[channel as usize] {
            self.arm(&conversation, channel, fd);
        }
    }
}
