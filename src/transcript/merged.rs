//! The transcripts of several fixtures as one, in the order of time.

use std::fmt;
use std::time::Instant;

use super::entry::Row;
use super::{Entry, Filters, Known, Normalized, Secrets, Transcript};

/// The transcripts of several fixtures as one, in the order of time; made by [`foster::merged`](crate::merged) and
/// [`Transcript::merge`].
///
/// Times are counted from the start of the first helper. What is a secret of one fixture is hidden in all.
/// With the feature `serde` it implements `serde::Serialize`, as a [`Transcript`] does, with the key `label` in each line.
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// let (a, b) = (foster::Fixture::command("cat").label("a").spawn()?, foster::Fixture::command("cat").label("b").spawn()?);
/// a.ask("one", "one")?;
/// b.ask("two", "two")?;
/// a.ask("three", "three")?;
/// let all = foster::merged([&a, &b]);
/// let said: Vec<String> = all.entries().map(|(label, entry)| format!("{label} {}", entry.text())).collect();
/// let place = |what: &str| said.iter().position(|s| s == what).unwrap();
/// assert!(place("a one") < place("b two") && place("b two") < place("a three"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Merged {
    labels: Vec<String>,
    /// Whose it is, and what.
    rows: Vec<(usize, Row)>,
    known: Known,
}

impl Merged {
    pub(super) fn new(parts: Vec<Transcript>) -> Merged {
        let secrets = Secrets::default();
        parts.iter().for_each(|part| secrets.add_all(&part.secrets));
        let began = parts.iter().map(|part| part.began).min().unwrap_or_else(Instant::now);
        let mut merged = Merged { labels: labels(&parts), rows: Vec::new(), known: Known::default() };
        for (index, part) in parts.into_iter().enumerate() {
            let part = Transcript { secrets: secrets.clone(), ..part };
            for mut row in part.rows() {
                if let Row::Said(entry) = &mut row {
                    entry.elapsed = entry.moment.saturating_duration_since(began);
                }
                merged.rows.push((index, row));
            }
            merged.known.pids.extend(part.known.pids);
            merged.known.dirs.extend(part.known.dirs);
        }
        // Stable: what one fixture has said stays in its order.
        merged.rows.sort_by_key(|(_, row)| row.moment());
        merged
    }

    /// Every line that is kept, and the label of its fixture. Fixtures of the same label are told apart by a number.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.labeled().filter_map(|(label, row)| match row {
            Row::Said(entry) => Some((label, entry)),
            Row::Gap { .. } => None,
        })
    }

    /// As [`Transcript::normalized`].
    #[must_use]
    pub fn normalized(&self) -> Normalized {
        self.filtered(&Filters::default())
    }

    /// As [`Transcript::filtered`].
    #[must_use]
    pub fn filtered(&self, filters: &Filters) -> Normalized {
        let rows = self.labeled().map(|(label, row)| (Some(label), row));
        Normalized::new(rows, filters, &self.known)
    }

    pub(super) fn labeled(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.rows.iter().map(|(index, row)| (self.labels[*index].as_str(), row))
    }
}

/// What each part is called: its label, and its number if another one has the same.
fn labels(parts: &[Transcript]) -> Vec<String> {
    let count = |label: &str, parts: &[Transcript]| parts.iter().filter(|p| p.label() == label).count();
    let name = |(index, part): (usize, &Transcript)| match count(part.label(), parts) {
        1 => part.label().to_owned(),
        _ => format!("{}#{}", part.label(), count(part.label(), &parts[..=index])),
    };
    parts.iter().enumerate().map(name).collect()
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
        for (label, row) in self.labeled() {
            match row {
                Row::Said(entry) => writeln!(f, "{:>8.3}s {label:<width$} {entry}", entry.elapsed.as_secs_f64())?,
                Row::Gap { bytes, .. } => writeln!(f, "{:>10}{label:<width$} ... {bytes} bytes not kept ...", "")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<(&str, &Entry)> = self.entries().collect();
        f.debug_struct("Merged").field("entries", &entries).finish_non_exhaustive()
    }
}
