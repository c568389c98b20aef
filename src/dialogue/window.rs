//! The bounded stretch of a stream that has arrived and that nobody has consumed yet.
//!
//! It slides through one buffer of at most twice its capacity, so a flood costs one move of each byte
//! and no allocation, and what is unread is always contiguous: a search needs no seams.

use std::io;
use std::ops::Range;

use crate::sys::{OwnedFd, fds};

/// How much unread output is kept unless the builder says otherwise: the oldest is dropped, and counted, beyond it.
pub(crate) const CAPACITY: usize = 1 << 20;

/// What is read at once as long as the helper says little: a page, not the sixteen of a whole pipe.
const FIRST_CHUNK: usize = 4 << 10;

/// The default size of a pipe (pipe(7)): a read that fills this has met a flood.
const CHUNK: usize = 64 << 10;

/// What a pipe in a flood is enlarged to, where the kernel allows it.
const FLOOD_CHUNK: usize = 256 << 10;

/// What one [`Window::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// This many bytes came, and the pipe is empty now.
    Some(usize),
    /// This many bytes came, and there are probably more.
    More(usize),
    /// Nothing was there.
    Nothing,
    /// End of file.
    Eof,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Window {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes of the stream lie before `start`.
    offset: u64,
    dropped: u64,
    /// What is unread begins inside a line whose beginning was dropped.
    cut: bool,
    capacity: usize,
    chunk: usize,
    /// Has the pipe been enlarged, or has the kernel refused?
    grown: bool,
}

impl Window {
    pub(crate) fn new(capacity: usize) -> Window {
        Window {
            buf: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            dropped: 0,
            cut: false,
            capacity: capacity.max(1),
            chunk: FIRST_CHUNK,
            grown: false,
        }
    }

    /// What has arrived and has not been consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The position in the stream of the first unread byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes were dropped unread, because more had arrived than is kept.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Has a whole pipe been read at once?
    pub(crate) fn is_flooded(&self) -> bool {
        self.chunk >= CHUNK
    }

    /// Was the beginning of the first unread line dropped?
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.cut &= n == 0;
        let n = n.min(self.end - self.start);
        self.start += n;
        self.offset += n as u64;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Takes out a part from the middle. What was before it stays, and so does what comes after it; positions in the stream
    /// are counted as if the part had come first.
    pub(crate) fn take_out(&mut self, part: Range<usize>) {
        let (begin, end) = (self.start + part.start, self.start + part.end);
        self.buf.copy_within(self.start..begin, self.start + part.len());
        debug_assert!(end <= self.end, "only what has arrived can be taken out");
        let cut = self.cut && part.start > 0;
        self.consume(part.len());
        self.cut = cut;
    }

    /// What the last [`fill`](Window::fill) brought.
    pub(crate) fn latest(&self, n: usize) -> &[u8] {
        &self.buf[self.end - n..self.end]
    }

    /// Reads once, without waiting. An error other than the end of the stream is told apart, never swallowed.
    pub(crate) fn fill(&mut self, fd: &OwnedFd) -> io::Result<Filled> {
        let excess = (self.end - self.start).saturating_sub(self.capacity);
        if excess > 0 {
            let cut = self.unread()[excess - 1] != b'\n';
            self.consume(excess);
            self.cut = cut;
            self.dropped += excess as u64;
        }
        self.make_room();
        let n = match fds::read_some(fd, &mut self.buf[self.end..self.end + self.chunk])? {
            None => return Ok(Filled::Nothing),
            Some(0) => return Ok(Filled::Eof),
            Some(n) => n,
        };
        self.end += n;
        if n < self.chunk {
            return Ok(Filled::Some(n));
        }
        if self.chunk < CHUNK {
            self.chunk = CHUNK;
        } else if !self.grown {
            self.grown = true;
            if let Some(size) = fds::grow_pipe(fd, FLOOD_CHUNK) {
                self.chunk = size.min(FLOOD_CHUNK);
            }
        }
        Ok(Filled::More(n))
    }

    /// Makes sure that one chunk fits behind what is unread.
    fn make_room(&mut self) {
        if self.end + self.chunk <= self.buf.len() {
            return;
        }
        let unread = self.end - self.start;
        let needed = unread + self.chunk;
        if needed * 2 > self.buf.len() {
            // Twice what is needed, so that a move happens once in as many bytes as it moves.
            let limit = self.capacity.saturating_add(self.chunk).saturating_mul(2);
            self.buf.resize((needed * 2).min(limit).max(needed), 0);
        }
        if self.end + self.chunk > self.buf.len() {
            self.buf.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = unread;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(window: &mut Window, bytes: &[u8]) {
        let (read, write) = fds::pipe().unwrap();
        fds::set_nonblocking(&read).unwrap();
        fds::set_nonblocking(&write).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            sent += fds::write_some(&write, &bytes[sent..]).unwrap().unwrap_or(0);
            window.fill(&read).unwrap();
        }
        while !matches!(window.fill(&read).unwrap(), Filled::Nothing) {}
    }

    #[test]
    fn what_goes_in_comes_out_in_order_however_it_is_cut() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut window = Window::new(CAPACITY);
        let mut out = Vec::new();
        for piece in data.chunks(97_003) {
            feed(&mut window, piece);
            let take = window.unread().len() / 2 + 1;
            out.extend_from_slice(&window.unread()[..take]);
            window.consume(take);
            assert_eq!(window.offset(), out.len() as u64);
        }
        out.extend_from_slice(window.unread());
        assert_eq!(window.dropped(), 0);
        assert!(out == data);
    }

    #[test]
    fn a_part_is_taken_out_of_the_middle() {
        let mut window = Window::new(CAPACITY);
        feed(&mut window, b"0123456789");
        window.consume(1);
        window.take_out(2..5);
        assert_eq!((window.unread(), window.offset()), (b"126789".as_slice(), 4));
        window.take_out(0..1);
        window.take_out(4..5);
        assert_eq!((window.unread(), window.offset()), (b"2678".as_slice(), 6));
    }

    #[test]
    fn the_oldest_goes_when_nobody_reads_and_every_byte_is_counted() {
        let data = vec![b'x'; 5 * CAPACITY];
        let mut window = Window::new(CAPACITY);
        feed(&mut window, &data);
        assert_eq!(window.dropped() + window.unread().len() as u64, data.len() as u64);
        assert!(window.unread().len() <= CAPACITY + FLOOD_CHUNK);
        assert!(window.buf.len() <= 2 * (CAPACITY + FLOOD_CHUNK), "{} bytes", window.buf.len());
    }
}
