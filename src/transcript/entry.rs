//! One line of a transcript: who said what, when, and which line of the test it was about.

use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::visible::{Shortened, Visible};

/// Who said it, to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// The test, to the helper's standard input.
    In,
    /// The helper, on its standard output.
    Out,
    /// The helper, on its standard error.
    Err,
    /// Nobody: the test has found what it expected.
    Met,
}

impl Direction {
    /// Has the helper said it?
    pub(super) fn is_helper(self) -> bool {
        matches!(self, Direction::Out | Direction::Err)
    }

    /// As it is printed: `in`, `out`, `err`, or `ok`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Err => "err",
            Direction::Met => "ok",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One line of a [`Transcript`](super::Transcript): all of it, or what came of it before somebody else said something.
///
/// `Display` prints it as a transcript does, without the time.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) moment: Instant,
    pub(super) elapsed: Duration,
    pub(super) direction: Direction,
    /// Without secrets, and without the line ending.
    pub(super) bytes: Vec<u8>,
    pub(super) ended: bool,
    pub(super) location: Option<&'static Location<'static>>,
}

impl Entry {
    /// Who said it.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// What was said, without its line ending: control characters and bytes that are no UTF-8 are shown as escapes,
    /// secrets as `[secret]`.
    #[must_use]
    pub fn text(&self) -> String {
        Visible(&self.bytes).to_string()
    }

    /// The same as bytes, with nothing escaped. Secrets are left out of them as well.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How long after the start of the helper; in a [`Merged`](super::Merged) transcript, of the first helper.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The line of the test that sent it, or that found what it expected.
    #[must_use]
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }

    /// Did it have a line ending? A prompt has none, and neither has a line that was interrupted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("elapsed", &self.elapsed)
            .field("direction", &self.direction)
            .field("text", &self.text())
            .field("complete", &self.ended)
            .field("location", &self.location.map(ToString::to_string))
            .finish()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = Line { text: Shortened(&self.bytes), direction: self.direction, ended: self.ended };
        write!(f, "{line}")?;
        match self.location {
            Some(from) => write!(f, "    <- {}:{}", from.file(), from.line()),
            None => Ok(()),
        }
    }
}

/// The part of a line that says who and what.
pub(super) struct Line<'a> {
    pub(super) text: Shortened<'a>,
    pub(super) direction: Direction,
    pub(super) ended: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<3} | {}", self.direction, self.text)?;
        f.write_str(if self.ended || self.direction == Direction::Met { "" } else { " (no newline)" })
    }
}

/// What a transcript consists of when it is shown.
#[derive(Debug, Clone)]
pub(super) enum Row {
    Said(Entry),
    /// So many bytes were not kept here.
    Gap {
        bytes: u64,
        until: Instant,
    },
}

impl Row {
    pub(super) fn moment(&self) -> Instant {
        match self {
            Row::Said(entry) => entry.moment,
            Row::Gap { until, .. } => *until,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Said(entry) => write!(f, "{:>8.3}s {entry}", entry.elapsed.as_secs_f64()),
            Row::Gap { bytes, .. } => write!(f, "          ... {bytes} bytes not kept ..."),
        }
    }
}
