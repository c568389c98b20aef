//! What must not be shown anywhere, and how it is found in what is.
//!
//! A secret is hidden wherever it stands, also where it overlaps another one. Where a piece of text begins or ends inside
//! of it, because the rest has not come yet, was not kept, or went to somebody else, the part is hidden as soon as it
//! tells something: from three bytes on, or from half of the secret.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use memchr::memmem::Finder;

use super::visible::Visible;

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &[u8] = b"[secret]";

/// From how many bytes on a line of a secret of several lines is hidden by itself.
const LEAST_LINE: usize = 4;

/// From how many bytes on a part of a secret is one, too.
const TELLING: usize = 3;

/// What must not be shown anywhere: one list for a fixture, its transcripts and its matches, also for those that exist
/// already when a secret is added.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<RwLock<Vec<Vec<u8>>>>);

impl fmt::Debug for Secrets {
    /// How many there are, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.read().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl PartialEq for Secrets {
    /// Secrets are no part of what is compared.
    fn eq(&self, _: &Secrets) -> bool {
        true
    }
}

impl Eq for Secrets {}

/// Which ends of a text may lie inside a secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) begin: bool,
    pub(crate) end: bool,
}

impl Cut {
    /// Nothing is missing.
    pub(crate) const NONE: Cut = Cut { begin: false, end: false };
    /// It is a part of something longer.
    pub(crate) const BOTH: Cut = Cut { begin: true, end: true };
}

impl Secrets {
    pub(crate) fn add(&self, secret: &[u8]) {
        if secret.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(secret);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // As it is, and as reports, `Debug` and command lines write it.
        let quoted = text.replace('\'', "'\\''");
        let mut forms = vec![
            secret.to_vec(),
            Visible(secret).to_string().into_bytes(),
            text.escape_debug().to_string().into_bytes(),
            Visible(quoted.as_bytes()).to_string().into_bytes(),
        ];
        // A terminal ends lines in its own way, and who repeats lines may put something before each.
        let lines = secret.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        forms.extend(lines.filter(|line| line.len() >= LEAST_LINE && *line != secret).map(<[u8]>::to_vec));
        for form in forms {
            if !all.contains(&form) {
                all.push(form);
            }
        }
    }

    /// All of these as well.
    pub(crate) fn add_all(&self, others: &Secrets) {
        if Arc::ptr_eq(&self.0, &others.0) {
            return;
        }
        let others = others.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for other in others {
            if !all.contains(&other) {
                all.push(other);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Where they stand, from left to right. Those that overlap are one place.
    pub(crate) fn places(&self, bytes: &[u8], cut: Cut) -> Vec<Range<usize>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut places = Vec::new();
        for secret in all.iter() {
            let finder = Finder::new(secret);
            let mut at = 0;
            while let Some(offset) = finder.find(&bytes[at..]) {
                places.push(at + offset..at + offset + secret.len());
                at += offset + 1;
            }
            places.extend(parts(secret, bytes, cut));
        }
        merged(places)
    }

    /// Where a secret begins whose end has not come, at the earliest.
    fn pending(&self, bytes: &[u8]) -> usize {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        let first = (bytes.len() + 1).saturating_sub(longest);
        let begun = |at: usize| all.iter().any(|s| s.len() > bytes.len() - at && s.starts_with(&bytes[at..]));
        (first..bytes.len()).find(|at| begun(*at)).unwrap_or(bytes.len())
    }

    /// The same without them.
    pub(crate) fn redacted<'b>(&self, bytes: &'b [u8], cut: Cut) -> Cow<'b, [u8]> {
        let places = self.places(bytes, cut);
        if places.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut last = 0;
        for place in places {
            out.extend_from_slice(&bytes[last..place.start]);
            out.extend_from_slice(HIDDEN);
            last = place.end;
        }
        out.extend_from_slice(&bytes[last..]);
        Cow::Owned(out)
    }

    /// The same for text.
    pub(crate) fn redacted_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redacted(text.as_bytes(), Cut::NONE)).into_owned()
    }
}

/// Parts of the secret at the ends of what was cut, and all of it if it lies inside the secret.
fn parts(secret: &[u8], bytes: &[u8], cut: Cut) -> Vec<Range<usize>> {
    let tells = |length: usize| length >= TELLING || length * 2 >= secret.len();
    let longest = bytes.len().min(secret.len() - 1);
    let mut found = Vec::new();
    if cut.end {
        let part = (1..=longest).rev().find(|n| bytes.ends_with(&secret[..*n]));
        found.extend(part.filter(|n| tells(*n)).map(|n| bytes.len() - n..bytes.len()));
    }
    if cut.begin {
        let part = (1..=longest).rev().find(|n| bytes.starts_with(&secret[secret.len() - n..]));
        found.extend(part.filter(|n| tells(*n)).map(|n| 0..n));
    }
    let inside = cut.begin && cut.end && !bytes.is_empty() && bytes.len() < secret.len() && tells(bytes.len());
    if inside && memchr::memmem::find(secret, bytes).is_some() {
        found.push(0..bytes.len());
    }
    found
}

/// Those that overlap become one; those that only touch stay two.
fn merged(mut places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    places.sort_by_key(|p| p.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(places.len());
    for place in places {
        match merged.last_mut() {
            Some(last) if place.start < last.end => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}

/// Leaves secrets out of a stream that is written down as it comes: what may become one is held back until that is known.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    held: Vec<u8>,
    /// So much of it belongs to a secret that `[secret]` was written for.
    covered: usize,
}

impl Redactor {
    /// What can be written now that these bytes have come. At most the longest secret is held back.
    pub(crate) fn feed<'b>(&mut self, secrets: &Secrets, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.held.is_empty() && secrets.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut buffer = std::mem::take(&mut self.held);
        buffer.extend_from_slice(bytes);
        let end = secrets.pending(&buffer);
        let out = self.take(secrets, &buffer, end, Cut::NONE);
        self.held = buffer.split_off(end);
        Cow::Owned(out)
    }

    /// The rest: nothing more comes.
    pub(crate) fn finish(&mut self, secrets: &Secrets) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.held);
        self.take(secrets, &buffer, buffer.len(), Cut { begin: false, end: true })
    }

    /// The first part of it, up to `end`.
    fn take(&mut self, secrets: &Secrets, buffer: &[u8], end: usize, cut: Cut) -> Vec<u8> {
        let mut places = secrets.places(buffer, cut);
        let said = self.covered;
        if said > 0 {
            places.push(0..said);
            places = merged(places);
        }
        let mut out = Vec::with_capacity(end);
        let mut last = 0;
        self.covered = said.saturating_sub(end);
        for place in places.into_iter().take_while(|p| p.start < end) {
            out.extend_from_slice(&buffer[last..place.start]);
            if place.start >= said {
                out.extend_from_slice(HIDDEN);
            }
            last = place.end;
            self.covered = self.covered.max(place.end.saturating_sub(end));
        }
        if last < end {
            out.extend_from_slice(&buffer[last..end]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(all: &[&str]) -> Secrets {
        let secrets = Secrets::default();
        all.iter().for_each(|s| secrets.add(s.as_bytes()));
        secrets
    }

    fn hidden(all: &[&str], text: &str, cut: Cut) -> String {
        String::from_utf8_lossy(&secrets(all).redacted(text.as_bytes(), cut)).into_owned()
    }

    #[test]
    fn one_that_contains_another_and_two_that_overlap_are_hidden_whole() {
        assert_eq!(hidden(&["abc", "xabcx"], "-xabcx-abc-", Cut::NONE), "-[secret]-[secret]-");
        assert_eq!(hidden(&["abc", "bcdefg"], "-abcdefg-", Cut::NONE), "-[secret]-");
        assert_eq!(hidden(&["aa"], "-aaaaa-", Cut::NONE), "-[secret]-");
        assert_eq!(hidden(&["ab"], "ababab", Cut::NONE), "[secret][secret][secret]");
    }

    #[test]
    fn a_part_is_hidden_only_where_the_text_was_cut_and_only_if_it_tells_something() {
        let hide = |text: &str, cut| hidden(&["hunter2"], text, cut);
        assert_eq!(hide("is hunte", Cut::BOTH), "is [secret]");
        assert_eq!(hide("nter2 was", Cut::BOTH), "[secret] was");
        assert_eq!(hide("unter", Cut::BOTH), "[secret]");
        assert_eq!(hide("huh", Cut::BOTH), "huh");
        assert_eq!(hide("wi2 th", Cut::BOTH), "wi2 th");
        assert_eq!(hide("is hunte", Cut::NONE), "is hunte");
        assert_eq!(hide("nter2 was", Cut { begin: false, end: true }), "nter2 was");
        assert_eq!(hidden(&["ab"], "xa", Cut::BOTH), "x[secret]", "half of it");
    }

    #[test]
    fn every_way_in_which_it_may_be_written_is_hidden() {
        let all = ["it's \"a\"\tb"];
        for text in ["it's \"a\"\tb", "it's \"a\"\\tb", "it\\'s \\\"a\\\"\\tb", "it'\\''s \"a\"\\tb"] {
            assert_eq!(hidden(&all, text, Cut::NONE), "[secret]", "{text}");
        }
    }

    #[test]
    fn debug_tells_nothing_but_how_many_there_are() {
        assert_eq!(format!("{:?}", secrets(&["hunter2"])), "Secrets(1)");
    }

    /// Whatever the pieces are, what is written is what the whole would be; and nothing long is held back.
    #[test]
    fn pieces_are_redacted_as_the_whole_is() {
        let mut seed = 1_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let mut hits = 0;
        for _ in 0..5000 {
            let word = |random: &mut dyn FnMut(usize) -> usize, length: usize| -> String {
                (0..=random(length)).map(|_| ['a', 'b', 'c'][random(3)]).collect()
            };
            let all: Vec<String> = (0..=random(3)).map(|_| word(&mut random, 6)).collect();
            let all = secrets(&all.iter().map(String::as_str).collect::<Vec<_>>());
            let text = word(&mut random, 40);
            let mut redactor = Redactor::default();
            let mut written = Vec::new();
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let (piece, then) = rest.split_at(1 + random(rest.len().min(5)));
                written.extend_from_slice(&redactor.feed(&all, piece));
                assert!(redactor.held.len() < 7, "{redactor:?}");
                rest = then;
            }
            written.extend(redactor.finish(&all));
            let whole = all.redacted(text.as_bytes(), Cut { begin: false, end: true });
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&whole), "{text}");
            hits += usize::from(matches!(whole, Cow::Owned(_)));
        }
        assert!(hits > 1000, "hardly anything was hidden: the test proves nothing");
    }
}
