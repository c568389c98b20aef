//! Transcripts as data, for snapshot tests with `insta` and the like.

use serde_core::ser::{Serialize, SerializeMap as _, Serializer};

use super::entry::Row;
use super::normalized::Normal;
use super::{Direction, Merged, Normalized, Transcript};

impl Serialize for Direction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One line, as a map.
struct Line<'a> {
    time: Time<'a>,
    label: Option<&'a str>,
    said: Result<Said<'a>, u64>,
}

enum Time<'a> {
    Seconds(f64),
    Text(&'a str),
}

struct Said<'a> {
    direction: Direction,
    text: &'a str,
    complete: bool,
    location: Option<&'a str>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(label) = self.label {
            map.serialize_entry("label", label)?;
        }
        match &self.said {
            Ok(said) => {
                match self.time {
                    Time::Seconds(seconds) => map.serialize_entry("time", &seconds)?,
                    Time::Text(text) => map.serialize_entry("time", text)?,
                }
                map.serialize_entry("direction", &said.direction)?;
                map.serialize_entry("text", said.text)?;
                if !said.complete {
                    map.serialize_entry("complete", &false)?;
                }
                if let Some(location) = said.location {
                    map.serialize_entry("location", location)?;
                }
            }
            Err(0) => map.serialize_entry("omitted", &true)?,
            Err(bytes) => map.serialize_entry("omitted", bytes)?,
        }
        map.end()
    }
}

/// A row as it is.
struct Plain<'a>(Option<&'a str>, &'a Row);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Plain(label, row) = *self;
        match row {
            Row::Gap { bytes, .. } => Line { time: Time::Text(""), label, said: Err(*bytes) }.serialize(serializer),
            Row::Said(entry) => {
                let text = entry.text();
                let location = entry.location.map(|at| format!("{}:{}", at.file(), at.line()));
                let said = Said {
                    direction: entry.direction,
                    text: &text,
                    complete: entry.ended,
                    location: location.as_deref(),
                };
                // Microseconds are all that means anything.
                let seconds = entry.elapsed.as_micros() as f64 / 1e6;
                Line { time: Time::Seconds(seconds), label, said: Ok(said) }.serialize(serializer)
            }
        }
    }
}

impl Serialize for Transcript {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows().iter().map(|row| Plain(None, row)))
    }
}

impl Serialize for Merged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.labeled().map(|(label, row)| Plain(Some(label), row)))
    }
}

impl Serialize for Normalized {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.lines.iter().map(Filtered))
    }
}

/// A line that went through filters.
struct Filtered<'a>(&'a Normal);

impl Serialize for Filtered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Normal { time, label, said } = self.0;
        let said = said.as_ref().map(|said| Said {
            direction: said.direction,
            text: &said.text,
            complete: said.ended,
            location: said.location.as_deref(),
        });
        Line { time: Time::Text(time), label: label.as_deref(), said: said.ok_or(0) }.serialize(serializer)
    }
}
