//! How a transcript grows, what it lets go, and how it is cut into lines when somebody looks.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Row;
use super::log::Log;
use super::secrets::{Cut, HIDDEN, Secrets};
use super::{Direction, Entry, Known, Transcript};

/// How many bytes of the beginning are kept.
const HEAD: usize = 16 << 10;

/// How many bytes of the end are kept.
const TAIL: usize = 64 << 10;

/// How many pieces of the end are kept, however small they are.
const TAIL_PIECES: usize = 1024;

/// How much of what was found is shown in a note.
const NOTED: usize = 60;

/// How much of it is kept, so that a secret in it can be seen as a whole.
const FOUND: usize = 512;

/// Lines that follow each other within this time are one piece: a flood is not a million pieces.
const TOGETHER: Duration = Duration::from_millis(1);

/// What arrived together, or nearly so.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// How much was recorded before it.
    pub(super) begin: u64,
    pub(super) at: Duration,
    last: Duration,
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
    /// What was done with it, in a note.
    verb: &'static str,
    from: Option<&'static Location<'static>>,
}

impl Piece {
    fn size(&self) -> usize {
        self.verb.len() + self.bytes.len()
    }

    /// What was recorded after this moment.
    pub(super) fn after(&self, mark: u64) -> Option<Piece> {
        let before = usize::try_from(mark.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        if before == 0 {
            return Some(self.clone());
        }
        // Nothing is added to a note later.
        let bytes = self.bytes.get(before..).filter(|b| !b.is_empty() && self.verb.is_empty())?.to_vec();
        Some(Piece { begin: mark, bytes, ..*self })
    }
}

/// The record of a conversation that goes on. Reads as a [`Transcript`].
#[derive(Debug)]
pub(crate) struct Recorder {
    transcript: Transcript,
    log: Option<Log>,
}

impl Deref for Recorder {
    type Target = Transcript;
    fn deref(&self) -> &Transcript {
        &self.transcript
    }
}

impl Recorder {
    pub(crate) fn new(label: &str, began: Instant, secrets: Secrets, log: Option<Log>) -> Recorder {
        let transcript = Transcript {
            label: Arc::from(label),
            began,
            head: Vec::new(),
            head_bytes: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            gap: 0,
            recorded: 0,
            heard: None,
            cut: false,
            secrets,
            known: Known::default(),
        };
        Recorder { transcript, log }
    }

    /// Adds what was said just now. Costs at most a copy of [`TAIL`] bytes, however much it is.
    pub(crate) fn record(&mut self, direction: Direction, bytes: &[u8]) {
        self.add(direction, bytes, "", None);
    }

    /// The test has sent these bytes, or the first `sent` of them.
    pub(crate) fn record_sent(&mut self, bytes: &[u8], sent: usize, from: &'static Location<'static>) {
        let places = self.transcript.secrets.places(bytes, Cut::NONE);
        if places.is_empty() {
            return self.add(Direction::In, &bytes[..sent], "", Some(from));
        }
        // Now, while all of a secret can be seen: of half of it, nobody could tell later.
        let mut shown = Vec::new();
        let mut last = 0;
        for place in places.into_iter().take_while(|p| p.start < sent) {
            shown.extend_from_slice(&bytes[last..place.start]);
            shown.extend_from_slice(HIDDEN);
            last = place.end;
        }
        shown.extend_from_slice(bytes.get(last..sent).unwrap_or_default());
        self.add(Direction::In, &shown, "", Some(from));
    }

    /// The test has found what it expected.
    pub(crate) fn note(&mut self, verb: &'static str, what: &str, from: &'static Location<'static>) {
        self.add(Direction::Met, &what.as_bytes()[..what.len().min(FOUND)], verb, Some(from));
    }

    fn add(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        verb: &'static str,
        from: Option<&'static Location<'static>>,
    ) {
        let at = self.transcript.began.elapsed();
        if let Some(log) = &mut self.log {
            match direction {
                Direction::Met => log.line(at, direction, &noted(verb, bytes, &self.transcript.secrets), from),
                _ => log.bytes(at, direction, bytes, from),
            }
        }
        self.transcript.add(at, direction, bytes, verb, from);
    }
}

/// What a note says.
fn noted(verb: &str, what: &[u8], secrets: &Secrets) -> Vec<u8> {
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

impl Transcript {
    fn add(
        &mut self,
        at: Duration,
        direction: Direction,
        bytes: &[u8],
        verb: &'static str,
        from: Option<&'static Location<'static>>,
    ) {
        if direction.is_helper() && !bytes.is_empty() {
            self.heard = Some(at);
        }
        let mut rest = bytes;
        let mut piece = Piece { begin: 0, at, last: at, direction, bytes: Vec::new(), verb, from };
        if self.tail.is_empty() && self.head_bytes < HEAD {
            let whole = verb.is_empty() || verb.len() + rest.len() <= HEAD - self.head_bytes;
            let room = if whole { HEAD - self.head_bytes } else { 0 };
            let (first, then) = rest.split_at(rest.len().min(room));
            if whole && !(first.is_empty() && verb.is_empty()) {
                self.head_bytes += verb.len() + first.len();
                piece.begin = self.recorded;
                append(&mut self.head, piece.clone(), first);
                self.recorded += (verb.len() + first.len()) as u64;
                piece.verb = "";
            }
            rest = then;
        }
        if rest.is_empty() && piece.verb.is_empty() {
            return;
        }
        if rest.len() > TAIL {
            let skipped = rest.len() - TAIL;
            self.gap += skipped as u64 + self.tail_bytes as u64;
            self.recorded += skipped as u64;
            self.tail.clear();
            self.tail_bytes = 0;
            rest = &rest[skipped..];
        }
        let size = piece.verb.len() + rest.len();
        self.tail_bytes += size;
        piece.begin = self.recorded;
        append(&mut self.tail, piece, rest);
        self.recorded += size as u64;
        while self.tail_bytes > TAIL || self.tail.len() > TAIL_PIECES {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.size();
            self.gap += oldest.size() as u64;
        }
    }

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
        for (index, (piece, bytes)) in self.shown().into_iter().enumerate() {
            if index == self.head.len() {
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
                rows.push(Row::Said(entry(noted(piece.verb, &bytes, &self.secrets), true, piece.from)));
                continue;
            }
            let mut lines = bytes.split_inclusive(|b| *b == b'\n').peekable();
            while let Some(line) = lines.next() {
                let (text, ended) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
                let from = piece.from.filter(|_| lines.peek().is_none());
                rows.push(Row::Said(entry(text.to_vec(), ended, from)));
            }
        }
        rows
    }

    fn gap_before(&self, piece: &Piece) -> Option<Row> {
        (self.gap > 0).then(|| Row::Gap { bytes: self.gap, until: self.began + piece.at })
    }
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

/// Both halves grow at the end.
trait Grow {
    fn last(&mut self) -> Option<&mut Piece>;
    fn push(&mut self, piece: Piece);
}

impl Grow for Vec<Piece> {
    fn last(&mut self) -> Option<&mut Piece> {
        self.last_mut()
    }
    fn push(&mut self, piece: Piece) {
        Vec::push(self, piece);
    }
}

impl Grow for VecDeque<Piece> {
    fn last(&mut self) -> Option<&mut Piece> {
        self.back_mut()
    }
    fn push(&mut self, piece: Piece) {
        self.push_back(piece);
    }
}

fn append(to: &mut impl Grow, piece: Piece, bytes: &[u8]) {
    if let Some(last) = to.last() {
        // A line that comes in pieces is one line; a flood of lines is one piece, up to a size that can be let go.
        let unfinished = last.bytes.last() != Some(&b'\n');
        let together = piece.at.saturating_sub(last.last) < TOGETHER && last.bytes.len() < 4096;
        let fits = last.bytes.len() + bytes.len() <= HEAD;
        if last.direction == piece.direction && piece.direction.is_helper() && (unfinished || together) && fits {
            last.bytes.extend_from_slice(bytes);
            last.last = piece.at;
            return;
        }
    }
    to.push(Piece { bytes: bytes.to_vec(), ..piece });
}
