//! What a helper and its test have said to each other: the bounded record of it, in the order in which it arrived.
//!
//! [`Fixture::transcript`](crate::Fixture::transcript) is the record as it is at that moment.
//! Reports show the end of it, and `FOSTER_LOG=dir` writes all of it into files, as it happens.
//!
//! The beginning and the end are kept; what lies between is counted. A helper that prints for hours costs the same memory
//! as one that prints a page.

mod entry;
mod filters;
mod log;
mod merged;
mod normalized;
mod record;
mod scan;
mod secrets;
#[cfg(feature = "serde")]
mod serialize;
mod show;
mod visible;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use entry::{Direction, Entry};
pub use filters::Filters;
pub use merged::Merged;
pub use normalized::Normalized;

use entry::Row;
pub(crate) use log::Log;
use record::Piece;
pub(crate) use record::Recorder;
pub(crate) use secrets::{Cut, Secrets};
pub(crate) use visible::{Shortened, Visible};

/// What a helper and its test have said to each other so far.
///
/// `Display` prints it as failing tests show it: time since the start, direction, text, and for what was sent and for
/// expectations that were met the line of the test.
/// At most the first 16 KiB and the last 64 KiB are kept; a line in between says how much is missing.
/// What was sent by [`send_secret`](crate::Fixture::send_secret) appears as `[secret]` wherever it was said.
///
/// For snapshot tests, [`normalized`](Transcript::normalized) replaces what differs from run to run.
/// With the feature `serde` it implements `serde::Serialize`: a list with one map for each line, with the keys `time`
/// (seconds after the start), `direction` (`in`, `out`, `err`, or `ok`), `text`, `complete: false` where there was no line ending, and
/// `location` where the line is about one of the test's.
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// let fx = foster::Fixture::command("cat").spawn()?;
/// fx.send_line("hello")?;
/// fx.expect_line("hello")?;
/// let said = fx.transcript().to_string();
/// assert!(said.contains("in  | hello"), "{said}");
/// assert!(said.contains("out | hello"), "{said}");
/// assert!(said.contains("ok  | expect line `hello`"), "{said}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transcript {
    label: Arc<str>,
    began: Instant,
    head: Vec<Piece>,
    head_bytes: usize,
    tail: VecDeque<Piece>,
    tail_bytes: usize,
    gap: u64,
    /// How much there has been in all.
    recorded: u64,
    /// When the helper said something last.
    heard: Option<Duration>,
    /// It begins in the middle: see [`since`](Transcript::since).
    cut: bool,
    pub(crate) secrets: Secrets,
    /// What filters know about this helper.
    known: Known,
}

/// What can be said about a helper that changes with every run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) pids: Vec<u32>,
    pub(crate) dirs: Vec<PathBuf>,
}

/// A moment in a conversation; see [`Fixture::mark`](crate::Fixture::mark).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Transcript {
    /// What the fixture is called in reports.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// This moment, for [`since`](Transcript::since).
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.recorded)
    }

    /// The part that was recorded after this moment.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Transcript {
        let later = |piece: &Piece| piece.after(mark.0);
        let tail_begin = self.tail.front().map_or(self.recorded, |p| p.begin);
        Transcript {
            head: self.head.iter().filter_map(later).collect(),
            tail: self.tail.iter().filter_map(later).collect(),
            gap: self.gap.min(tail_begin.saturating_sub(mark.0)),
            cut: true,
            ..self.clone()
        }
    }

    /// Every line that is kept, in the order in which it arrived.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::transcript::Direction;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("cat").spawn()?;
    /// fx.send_line("hello")?;
    /// fx.expect_line("hello")?;
    /// let sent = fx.transcript().entries().find(|e| e.direction() == Direction::In).unwrap();
    /// assert_eq!(sent.text(), "hello");
    /// assert_eq!(sent.location().unwrap().file(), file!());
    /// # Ok(())
    /// # }
    /// ```
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        self.rows().into_iter().filter_map(|row| match row {
            Row::Said(entry) => Some(entry),
            Row::Gap { .. } => None,
        })
    }

    /// The transcripts of several fixtures as one, in the order of time; see also [`foster::merged`](crate::merged).
    pub fn merge<'t>(transcripts: impl IntoIterator<Item = &'t Transcript>) -> Merged {
        Merged::new(transcripts.into_iter().cloned().collect())
    }

    /// What the helper has said on its standard output, as far as it is kept; invalid UTF-8 appears as U+FFFD.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.text_of(Direction::Out)
    }

    /// What the helper has said on its standard error, as far as it is kept; invalid UTF-8 appears as U+FFFD.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.text_of(Direction::Err)
    }

    fn text_of(&self, direction: Direction) -> String {
        let all = self.shown().into_iter().filter(|(piece, _)| piece.direction == direction);
        let bytes: Vec<u8> = all.flat_map(|(_, bytes)| bytes.into_owned()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many bytes between the beginning and the end are not kept.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.gap
    }

    /// Has nothing been said yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// How long nothing has been said by the helper; `None` if it never said anything.
    pub(crate) fn silence(&self) -> Option<Duration> {
        Some(self.began.elapsed().saturating_sub(self.heard?))
    }

    /// Did the helper say this, as far as the record goes? Only within one piece.
    pub(crate) fn was_heard(&self, text: &[u8]) -> bool {
        let mut all = self.head.iter().chain(&self.tail).filter(|p| p.direction.is_helper());
        all.any(|p| memchr::memmem::find(&p.bytes, text).is_some())
    }

    /// With what filters have to know.
    pub(crate) fn knowing(mut self, known: Known) -> Transcript {
        self.known = known;
        self
    }

    /// The last lines, for a failure report, and how many there are in all.
    pub(crate) fn last_lines(&self, count: usize) -> (String, usize) {
        let rows = self.rows();
        let from = rows.len().saturating_sub(count);
        (rows[from..].iter().map(|row| format!("{row}\n")).collect(), rows.len())
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Debug for Transcript {
    /// Without secrets, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<Entry> = self.entries().collect();
        f.debug_struct("Transcript")
            .field("label", &self.label)
            .field("entries", &entries)
            .field("omitted", &self.gap)
            .finish_non_exhaustive()
    }
}
