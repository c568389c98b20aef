//! Lines that must not come: they end every wait, whoever waits for what.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::conversation::Channel;
use super::matcher::Matcher;
use super::verbs::describe;

/// How much of a line without an ending is kept to be looked at.
const LONGEST: usize = 64 << 10;

/// What must not come, shared by a builder and the fixtures that it spawns.
#[derive(Clone, Default)]
pub(crate) struct Unwanted(Arc<Mutex<Vec<Matcher<'static>>>>);

impl fmt::Debug for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwanted").finish_non_exhaustive()
    }
}

impl Unwanted {
    pub(crate) fn add(&self, matcher: Matcher<'static>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(matcher);
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Why one of them makes no sense, if that is so.
    pub(crate) fn problem(&self) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find_map(|m| m.problem().map(|why| format!("`{m}` must not come, it says: {why}")))
    }
}

/// It has come.
#[derive(Debug, Clone)]
pub(crate) struct Tripped {
    pub(crate) channel: Channel,
    pub(crate) line: Vec<u8>,
    /// What it should not have been.
    pub(crate) description: String,
}

impl fmt::Display for Tripped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the helper said on {} what it must not say", self.channel.name())
    }
}

/// Looks at every line that arrives.
#[derive(Debug)]
pub(crate) struct Lookout {
    unwanted: Unwanted,
    /// The beginning of a line whose rest has not come, for each stream.
    begun: [Vec<u8>; 2],
}

impl Lookout {
    /// `None` if nothing is unwanted: then nobody has to look.
    pub(crate) fn new(unwanted: &Unwanted) -> Option<Lookout> {
        (!unwanted.is_empty()).then(|| Lookout { unwanted: unwanted.clone(), begun: Default::default() })
    }

    /// These bytes have come. The first line that must not be there, if there is one.
    pub(crate) fn see(&mut self, channel: Channel, bytes: &[u8]) -> Option<Tripped> {
        let begun = &mut self.begun[channel as usize];
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, then) = (&rest[..at], &rest[at + 1..]);
            rest = then;
            let tripped = if begun.is_empty() {
                judge(&self.unwanted, channel, line)
            } else {
                begun.extend_from_slice(line);
                let tripped = judge(&self.unwanted, channel, begun);
                begun.clear();
                tripped
            };
            if tripped.is_some() {
                return tripped;
            }
        }
        let room = LONGEST.saturating_sub(begun.len());
        begun.extend_from_slice(&rest[..rest.len().min(room)]);
        None
    }

    /// The stream has ended: what it ended with is a line as well.
    pub(crate) fn end(&mut self, channel: Channel) -> Option<Tripped> {
        let line = std::mem::take(&mut self.begun[channel as usize]);
        (!line.is_empty()).then(|| judge(&self.unwanted, channel, &line))?
    }
}

fn judge(unwanted: &Unwanted, channel: Channel, line: &[u8]) -> Option<Tripped> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut all = unwanted.0.lock().unwrap_or_else(PoisonError::into_inner);
    for matcher in all.iter_mut() {
        // Whoever reads asks it, also a fixture that is dropped while its test panics: a second panic would be an abort.
        let description = match catch_unwind(AssertUnwindSafe(|| matcher.in_line(line))) {
            Ok(false) => continue,
            Ok(true) => describe(matcher),
            Err(_) => format!("{}, which panicked", describe(matcher)),
        };
        return Some(Tripped { channel, line: line.to_vec(), description });
    }
    None
}
