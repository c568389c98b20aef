//! A transcript without what differs from run to run, for snapshot tests.

use std::fmt;

use super::entry::{Line, Row};
use super::visible::Shortened;
use super::{Direction, Filters, Known, Transcript};

/// A transcript without what differs from run to run; made by [`Transcript::normalized`].
///
/// `Display` prints it line by line. With the feature `serde` it implements `serde::Serialize`, as the transcript does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized {
    pub(super) lines: Vec<Normal>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Normal {
    /// Seconds after the start, or what stands for them.
    pub(super) time: String,
    pub(super) label: Option<String>,
    /// `None` where something was not kept.
    pub(super) said: Option<Said>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) direction: Direction,
    pub(super) text: String,
    pub(super) ended: bool,
    pub(super) location: Option<String>,
}

impl Transcript {
    /// Without what differs from run to run: see [`Filters`] for what that is.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("sh").args(["-c", "echo \"I am pid $$, on 127.0.0.1:40123\"; cat"]).spawn()?;
    /// fx.ask("hello", "hello")?;
    /// let said = fx.transcript().normalized().to_string();
    /// assert!(said.contains("[TIME] out | I am pid [PID], on 127.0.0.1:[PORT]\n"), "{said}");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn normalized(&self) -> Normalized {
        self.filtered(&Filters::default())
    }

    /// The same with filters of one's own.
    #[must_use]
    pub fn filtered(&self, filters: &Filters) -> Normalized {
        Normalized::new(self.rows().iter().map(|row| (None, row)), filters, &self.known)
    }
}

impl Normalized {
    pub(super) fn new<'r>(
        rows: impl Iterator<Item = (Option<&'r str>, &'r Row)>,
        filters: &Filters,
        known: &Known,
    ) -> Normalized {
        let filter = filters.prepared(known);
        let line = |(label, row): (Option<&str>, &Row)| {
            let label = label.map(str::to_owned);
            let Row::Said(entry) = row else {
                return Normal { time: String::new(), label, said: None };
            };
            let location = entry.location.filter(|_| filters.locations);
            let said = Said {
                direction: entry.direction,
                text: filter.apply(&entry.text()),
                ended: entry.ended,
                location: location.map(|at| format!("{}:{}", at.file(), at.line())),
            };
            Normal { time: filter.time(entry.elapsed), label, said: Some(said) }
        };
        Normalized { lines: rows.map(line).collect() }
    }
}

impl fmt::Display for Normalized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |line: &Normal| line.label.as_ref().map_or(0, |l| l.chars().count());
        let width = self.lines.iter().map(label).max().unwrap_or(0);
        for line in &self.lines {
            let label = line.label.as_ref().map(|label| format!("{label:<width$} ")).unwrap_or_default();
            let Some(said) = &line.said else {
                writeln!(f, "{label}... not kept ...")?;
                continue;
            };
            let text = Shortened(said.text.as_bytes());
            write!(f, "{} {label}{}", line.time, Line { text, direction: said.direction, ended: said.ended })?;
            match &said.location {
                Some(at) => writeln!(f, "    <- {at}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
