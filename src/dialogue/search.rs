//! Where in a stretch of output something is: without waiting, and without consuming anything.

use std::ops::Range;

/// What has arrived and nobody has consumed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) bytes: &'a [u8],
    /// The position of its first byte in the stream.
    pub(crate) offset: u64,
    /// Nothing will follow, so a line without an ending is a line.
    pub(crate) last: bool,
}

/// Named parts of what was found.
pub(crate) type Captures = Vec<(String, String)>;

/// A place, as indices into the stretch.
#[derive(Debug)]
pub(crate) struct Found {
    /// What was expected, or the line that passed the test.
    pub(crate) text: Range<usize>,
    /// Where the rest begins.
    pub(crate) end: usize,
    pub(crate) captures: Captures,
    /// A line without its ending.
    pub(crate) partial: bool,
    /// The rest begins inside a line.
    pub(crate) mid_line: bool,
}

impl<'a> Stretch<'a> {
    /// The index of this position in the stream, as far as it lies in the stretch.
    pub(crate) fn index(&self, position: u64) -> usize {
        usize::try_from(position.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// The position in the stream of this index.
    pub(crate) fn position(&self, index: usize) -> u64 {
        self.offset + index as u64
    }

    /// The line that begins at `begin`; `from` is where no line ending was found so far.
    pub(crate) fn line(&self, begin: usize, from: usize) -> Option<Line> {
        let from = from.clamp(begin, self.bytes.len());
        match memchr::memchr(b'\n', &self.bytes[from..]) {
            Some(at) => {
                let text = &self.bytes[begin..from + at];
                let length = text.strip_suffix(b"\r").unwrap_or(text).len();
                Some(Line { text: begin..begin + length, end: from + at + 1, partial: false })
            }
            None if self.last && begin < self.bytes.len() => {
                Some(Line { text: begin..self.bytes.len(), end: self.bytes.len(), partial: true })
            }
            None => None,
        }
    }

    /// Where the line begins in which this index lies; not before `from`.
    pub(crate) fn line_begin(&self, from: usize, index: usize) -> usize {
        memchr::memrchr(b'\n', &self.bytes[from..index]).map_or(from, |at| from + at + 1)
    }

    /// What comes after the last line ending.
    pub(crate) fn tail(&self) -> Range<usize> {
        self.line_begin(0, self.bytes.len())..self.bytes.len()
    }

    pub(crate) fn text(&self, range: &Range<usize>) -> &'a [u8] {
        &self.bytes[range.clone()]
    }
}

/// A line in a stretch.
#[derive(Debug)]
pub(crate) struct Line {
    /// Without its ending.
    pub(crate) text: Range<usize>,
    /// Where the next one begins.
    pub(crate) end: usize,
    /// It has no ending.
    pub(crate) partial: bool,
}

impl Line {
    /// The whole line is what was expected.
    pub(crate) fn found(self, captures: Captures) -> Found {
        Found { text: self.text, end: self.end, captures, partial: self.partial, mid_line: false }
    }
}
