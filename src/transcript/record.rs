//! How a transcript grows, and what it lets go.

use std::collections::VecDeque;
use std::ops::Deref;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::log::Log;
use super::secrets::{Cut, HIDDEN, Secrets};
use super::show::noted;
use super::{Direction, Known, Transcript};

/// How many bytes of the beginning are kept.
const HEAD: usize = 16 << 10;

/// How many bytes of the end are kept.
const TAIL: usize = 64 << 10;

/// How many pieces of the end are kept, however small they are.
const TAIL_PIECES: usize = 1024;

/// How much of what was found is kept, so that a secret in it can be seen as a whole. Less is shown.
const FOUND: usize = 512;

/// How large a piece of the end may be: pieces are let go as a whole.
const PIECE: usize = 8 << 10;

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
    pub(super) verb: &'static str,
    pub(super) from: Option<&'static Location<'static>>,
}

impl Piece {
    pub(super) fn size(&self) -> usize {
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

    /// The file that it is written into as well.
    pub(crate) fn log_path(&self) -> Option<&Path> {
        self.log.as_ref()?.path()
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
        loop {
            let (first, then) = rest.split_at(first_piece(rest));
            let size = piece.verb.len() + first.len();
            self.tail_bytes += size;
            // The place is that of the whole, and stands at its end.
            let from = piece.from.filter(|_| then.is_empty());
            append(&mut self.tail, Piece { begin: self.recorded, from, ..piece.clone() }, first);
            self.recorded += size as u64;
            rest = then;
            if rest.is_empty() {
                break;
            }
        }
        while self.tail_bytes > TAIL || self.tail.len() > TAIL_PIECES {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.size();
            self.gap += oldest.size() as u64;
        }
    }
}

/// How much of it is one piece: whole lines, if there are any.
fn first_piece(bytes: &[u8]) -> usize {
    if bytes.len() <= PIECE {
        return bytes.len();
    }
    memchr::memrchr(b'\n', &bytes[..PIECE]).map_or(PIECE, |at| at + 1)
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
        let fits = last.bytes.len() + bytes.len() <= PIECE;
        if last.direction == piece.direction && piece.direction.is_helper() && (unfinished || together) && fits {
            last.bytes.extend_from_slice(bytes);
            last.last = piece.at;
            return;
        }
    }
    to.push(Piece { bytes: bytes.to_vec(), ..piece });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(secrets: &[&str]) -> Recorder {
        let all = Secrets::default();
        secrets.iter().for_each(|s| all.add(s.as_bytes()));
        Recorder::new("x", Instant::now(), all, None)
    }

    fn kept(t: &Transcript) -> usize {
        t.head.iter().chain(&t.tail).map(Piece::size).sum()
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one_line() {
        let mut t = recorder(&[]);
        t.record(Direction::Out, b"hel");
        t.record(Direction::Out, b"lo\n");
        assert!(t.to_string().ends_with("out | hello\n"), "{}", t.to_string());
        assert_eq!(t.rows().len(), 1);
    }

    #[test]
    fn the_beginning_and_the_end_stay_and_the_gap_is_counted() {
        let mut t = recorder(&[]);
        t.record(Direction::Out, b"first\n");
        let flood = vec![b'x'; 1000];
        for _ in 0..1000 {
            t.record(Direction::Out, &flood);
        }
        t.record(Direction::Out, &vec![b'y'; 3 * TAIL]);
        t.record(Direction::Err, b"last\n");
        let text = t.to_string();
        assert!(text.contains("out | first\n"));
        assert!(text.ends_with("err | last\n"));
        assert_eq!(t.omitted() as usize + kept(&t), 6 + 1_000_000 + 3 * TAIL + 5);
        assert!((TAIL..=HEAD + TAIL).contains(&kept(&t)), "{}", kept(&t));
    }

    /// One small word after a flood that filled the end must not push all of it out.
    #[test]
    fn the_end_of_a_flood_stays_when_something_follows() {
        let mut t = recorder(&[]);
        t.record(Direction::Out, &vec![b'x'; 5 * TAIL]);
        t.note("expect", "x", Location::caller());
        assert!(t.stdout().len() >= HEAD + TAIL - 2 * PIECE, "{}", t.stdout().len());
        assert_eq!(t.omitted() as usize + kept(&t), 5 * TAIL + "expectx".len());
    }

    /// Wherever a line was cut to be kept, it is shown as one.
    #[test]
    fn a_long_line_is_one_line() {
        let mut t = recorder(&[]);
        t.record(Direction::Out, &vec![b'x'; HEAD - 5]);
        t.record(Direction::Out, &[&vec![b'x'; 20_000][..], b"\nnext\n"].concat());
        t.record_sent(&vec![b'y'; 20_000], 20_000, Location::caller());
        t.record_sent(b"z", 1, Location::caller());
        let lengths: Vec<(usize, bool)> = t.entries().map(|e| (e.bytes().len(), e.location().is_some())).collect();
        assert_eq!(lengths, [(HEAD - 5 + 20_000, false), (4, false), (20_000, true), (1, true)]);
    }

    #[test]
    fn last_lines_are_the_last_ones() {
        let mut t = recorder(&[]);
        for i in 0..10 {
            t.record(Direction::Out, format!("{i}\n").as_bytes());
        }
        let (last, of) = t.last_lines(2);
        assert!(last.lines().count() == 2 && last.ends_with("| 9\n"), "{last}");
        assert_eq!(of, 10);
    }

    #[test]
    fn a_part_begins_where_it_was_marked() {
        let mut t = recorder(&[]);
        t.record(Direction::Out, b"one\ntw");
        t.note("expect", "one", Location::caller());
        let mark = t.mark();
        assert_eq!(t.since(mark).to_string(), "");
        t.record(Direction::Out, b"o\n");
        t.note("expect silence", "", Location::caller());
        let part = t.since(mark);
        let texts: Vec<String> = part.entries().map(|e| e.text()).collect();
        assert_eq!(texts, ["o", "expect silence"]);
        assert_eq!((part.stdout().as_str(), part.omitted()), ("o\n", 0));
    }

    #[test]
    fn of_a_message_of_which_only_a_part_was_sent_no_part_of_a_secret_is_shown() {
        for sent in 0..=11 {
            let mut t = recorder(&["hunter2"]);
            t.record_sent(b"a hunter2 b", sent, Location::caller());
            t.record_sent(b"zz\n", 3, Location::caller());
            let wanted = ["", "a", "a "].get(sent).copied().unwrap_or("a [secret]");
            let text: String = t.entries().map(|e| e.text()).collect();
            assert!(text.starts_with(wanted) && !text.contains('h') && text.ends_with("zz"), "{sent}: {text}");
        }
    }

    #[test]
    fn a_note_is_short_and_hides_a_secret_that_it_would_cut() {
        for before in 0..80 {
            let mut t = recorder(&["hunter2"]);
            let what = "-".repeat(before) + "hunter2" + &"-".repeat(100);
            t.note("expect", &what, Location::caller());
            let text = t.entries().next().unwrap().text();
            assert!(!text.contains('h') && text.ends_with("`...") && text.len() < 80, "{before}: {text}");
        }
        // One that is added later is hidden, too, also where what was kept ends inside of it.
        for before in FOUND - 10..FOUND {
            let mut t = recorder(&[]);
            t.note("expect", &("-".repeat(before) + "hunter2"), Location::caller());
            t.secrets.add(b"hunter2");
            assert!(!t.to_string().contains("hun"));
        }
    }

    /// Whatever is kept and whatever is not: of a secret, nothing that tells anything is shown.
    #[test]
    fn no_gap_makes_a_secret_readable() {
        let mut seed = 3_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let mut gaps = 0;
        for round in 0..60 {
            let mut t = recorder(if round % 2 == 0 { &["hunter2"] } else { &["hunter2", "ter2-hunter2-x"] });
            let mark = t.mark();
            // Just before the end of what is kept of the beginning.
            t.record(Direction::Out, &vec![b'.'; HEAD - 20 + random(20)]);
            for _ in 0..40 {
                let at = random(8);
                t.record(Direction::Out, &b"hunter2"[..at.min(7)]);
                if random(2) == 0 {
                    t.record(Direction::Err, b"noise\n");
                }
                t.record(Direction::Out, &b"hunter2"[at.min(7)..]);
                let filler = [0, 10, PIECE - 3, PIECE + 5, TAIL + 7][random(5)];
                let filler = [vec![b'.'; random(filler + 1)], b"-hunter2".to_vec()].concat();
                t.record(Direction::Out, &filler);
            }
            gaps += usize::from(t.omitted() > 0);
            let texts = [t.to_string(), t.stdout(), t.since(mark).to_string(), format!("{:?}", t.transcript)];
            for text in texts {
                for part in ["hun", "unt", "nte", "ter", "er2"] {
                    assert!(!text.contains(part), "round {round}: `{part}` is shown");
                }
                assert!(text.contains("[secret]"));
            }
        }
        assert!(gaps > 40, "{gaps}");
    }
}
