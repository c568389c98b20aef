//! How a transcript is shown: without secrets, and cut into lines.

use std::borrow::Cow;
use std::panic::Location;

use super::entry::Row;
use super::record::Piece;
use super::secrets::{Cut, HIDDEN, Secrets};
use super::{Direction, Entry, Transcript};

/// How much of what was found is shown in a note.
const NOTED: usize = 60;

impl Transcript {
    /// All pieces as they may be shown. A secret is found wherever it was said, also when something else came in between.
    pub(super) fn shown(&self) -> Vec<(&Piece, Cow<'_, [u8]>)> {
        let pieces = self.head.iter().chain(&self.tail);
        let mut shown: Vec<(&Piece, Cow<'_, [u8]>)> = pieces.map(|p| (p, Cow::Borrowed(&p.bytes[..]))).collect();
        if self.secrets.is_empty() {
            return shown;
        }
        // What lies before a gap and what lies after it are two texts, of which one has lost its end.
        let split = if self.gap > 0 { self.head.len() } else { shown.len() };
        let (before, after) = shown.split_at_mut(split);
        for direction in [Direction::In, Direction::Out, Direction::Err] {
            redact(before, direction, &self.secrets, Cut { begin: self.cut, end: true });
            redact(after, direction, &self.secrets, Cut::BOTH);
        }
        shown
    }

    /// What is shown, line by line.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for speech in self.speeches() {
            let Speech { piece, bytes, from, after_gap, .. } = speech;
            if after_gap {
                rows.extend(self.gap_before(piece));
            }
            let entry = |bytes: Vec<u8>, ended, location| Entry {
                moment: self.began + piece.at,
                elapsed: piece.at,
                direction: piece.direction,
                bytes,
                ended,
                location,
            };
            if piece.direction == Direction::Met {
                rows.push(Row::Said(entry(noted(piece.verb, &bytes, &self.secrets), true, from)));
                continue;
            }
            let mut lines = bytes.split_inclusive(|b| *b == b'\n').peekable();
            while let Some(line) = lines.next() {
                let (text, ended) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
                let from = from.filter(|_| lines.peek().is_none());
                rows.push(Row::Said(entry(text.to_vec(), ended, from)));
            }
        }
        rows
    }

    /// What is shown, with lines that were kept in several pieces put together.
    fn speeches(&self) -> Vec<Speech<'_>> {
        let mut speeches: Vec<Speech<'_>> = Vec::new();
        for (index, (piece, bytes)) in self.shown().into_iter().enumerate() {
            let after_gap = index == self.head.len() && self.gap > 0;
            let end = piece.begin + piece.size() as u64;
            match speeches.last_mut().filter(|last| !after_gap && last.goes_on_with(piece)) {
                Some(last) => {
                    last.bytes.to_mut().extend_from_slice(&bytes);
                    last.end = end;
                    last.from = piece.from.or(last.from);
                }
                None => speeches.push(Speech { piece, bytes, end, from: piece.from, after_gap }),
            }
        }
        speeches
    }

    fn gap_before(&self, piece: &Piece) -> Option<Row> {
        (self.gap > 0).then(|| Row::Gap { bytes: self.gap, until: self.began + piece.at })
    }
}

/// What somebody has said in one go.
struct Speech<'a> {
    /// The first piece of it.
    piece: &'a Piece,
    bytes: Cow<'a, [u8]>,
    /// How much had been recorded when it was over.
    end: u64,
    from: Option<&'static Location<'static>>,
    after_gap: bool,
}

impl Speech<'_> {
    /// Is this the rest of its last line?
    fn goes_on_with(&self, piece: &Piece) -> bool {
        // What the test sends is a message of its own each time.
        let same = piece.direction.is_helper() || (piece.direction == Direction::In && piece.at == self.piece.at);
        let follows = self.end == piece.begin && self.piece.direction == piece.direction;
        same && follows && !self.bytes.ends_with(b"\n")
    }
}

/// What a note says.
pub(super) fn noted(verb: &str, what: &[u8], secrets: &Secrets) -> Vec<u8> {
    if what.is_empty() {
        return verb.as_bytes().to_vec();
    }
    // Of long texts only a part was kept, and a part of a secret may be its end.
    let whole = secrets.redacted(what, Cut::BOTH);
    let text = String::from_utf8_lossy(&whole);
    let end = (0..=text.len().min(NOTED)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let line = text[..end].lines().next().unwrap_or_default();
    let dots = if line.len() < text.len() { "..." } else { "" };
    format!("{verb} `{line}`{dots}").into_bytes()
}

/// Leaves the secrets out of what was said in this direction.
fn redact(pieces: &mut [(&Piece, Cow<'_, [u8]>)], direction: Direction, secrets: &Secrets, cut: Cut) {
    let mut whole = Vec::new();
    // Which piece each byte is of.
    let mut owners = Vec::new();
    for (i, (piece, _)) in pieces.iter().enumerate().filter(|(_, (p, _))| p.direction == direction) {
        whole.extend_from_slice(&piece.bytes);
        owners.resize(whole.len(), i);
    }
    let hits = secrets.places(&whole, cut);
    if hits.is_empty() {
        return;
    }
    let mut parts: Vec<Vec<u8>> = vec![Vec::new(); pieces.len()];
    let mut last = 0;
    for place in hits {
        (last..place.start).for_each(|at| parts[owners[at]].push(whole[at]));
        parts[owners[place.start]].extend_from_slice(HIDDEN);
        last = place.end;
    }
    (last..whole.len()).for_each(|at| parts[owners[at]].push(whole[at]));
    for ((piece, bytes), part) in pieces.iter_mut().zip(parts) {
        if piece.direction == direction {
            *bytes = Cow::Owned(part);
        }
    }
}
