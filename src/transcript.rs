//! The bounded record of what was said, in the order in which it arrived, and how it prints.
//!
//! The beginning and the end are kept; what lies between is counted. A helper that prints for hours costs the same memory
//! as one that prints a page.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How many bytes of the beginning are kept.
const HEAD: usize = 16 << 10;

/// How many bytes of the end are kept.
const TAIL: usize = 64 << 10;

/// How many entries of the end are kept, however small they are.
const TAIL_ENTRIES: usize = 1024;

/// How much of what was found is noted.
const NOTED: usize = 60;

/// Lines that follow each other within this time are one entry: a flood is not a million entries.
const TOGETHER: Duration = Duration::from_millis(1);

/// What stands in the place of a secret.
const HIDDEN: &[u8] = b"[secret]";

/// What must not be shown anywhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(crate) fn add(&mut self, secret: &[u8]) {
        if !secret.is_empty() && !self.0.iter().any(|s| s == secret) {
            self.0.push(secret.to_vec());
            // A secret that contains another one is hidden as a whole.
            self.0.sort_by_key(|s| std::cmp::Reverse(s.len()));
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where they stand in it, from left to right.
    pub(crate) fn places(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let next = self.0.iter().filter_map(|s| Some((memchr::memmem::find(&bytes[at..], s)?, s.len())));
            let Some((offset, length)) = next.min_by_key(|(offset, length)| (*offset, std::cmp::Reverse(*length)))
            else {
                break;
            };
            places.push(at + offset..at + offset + length);
            at += offset + length;
        }
        places
    }

    /// The same bytes without them.
    pub(crate) fn redacted<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let places = self.places(bytes);
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
}

/// Who said it, to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
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
    fn is_helper(self) -> bool {
        matches!(self, Direction::Out | Direction::Err)
    }

    fn sign(self) -> &'static str {
        match self {
            Direction::In => "in ",
            Direction::Out => "out",
            Direction::Err => "err",
            Direction::Met => "ok ",
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    /// How much was recorded before it.
    begin: u64,
    at: Duration,
    last: Duration,
    direction: Direction,
    bytes: Vec<u8>,
    from: Option<&'static Location<'static>>,
}

/// What a helper and its test have said to each other so far.
///
/// `Display` prints it as failing tests show it: time since the start, direction, text.
/// At most the first 16 KiB and the last 64 KiB are kept; a line in between says how much is missing.
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
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Transcript {
    began: Instant,
    head: Vec<Entry>,
    head_bytes: usize,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    gap: u64,
    /// How many bytes there have been in all.
    recorded: u64,
    pub(crate) secrets: Secrets,
}

/// A moment in a conversation; see [`Fixture::mark`](crate::Fixture::mark).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Transcript {
    pub(crate) fn new(began: Instant) -> Transcript {
        Transcript {
            began,
            head: Vec::new(),
            head_bytes: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            gap: 0,
            recorded: 0,
            secrets: Secrets::default(),
        }
    }

    /// Adds what was said just now. Costs at most a copy of [`TAIL`] bytes, however much it is.
    pub(crate) fn record(&mut self, direction: Direction, bytes: &[u8]) {
        self.add(direction, bytes, None);
    }

    /// The test has sent this.
    pub(crate) fn record_sent(&mut self, bytes: &[u8], from: &'static Location<'static>) {
        self.add(Direction::In, bytes, Some(from));
    }

    /// The test has found what it expected.
    pub(crate) fn note(&mut self, verb: &str, what: &str, from: &'static Location<'static>) {
        let end = (0..=what.len().min(NOTED)).rev().find(|end| what.is_char_boundary(*end)).unwrap_or(0);
        let line = what[..end].lines().next().unwrap_or_default();
        let dots = if line.len() < what.len() { "..." } else { "" };
        let note = if what.is_empty() { verb.to_owned() } else { format!("{verb} `{line}`{dots}") };
        self.add(Direction::Met, note.as_bytes(), Some(from));
    }

    fn add(&mut self, direction: Direction, bytes: &[u8], from: Option<&'static Location<'static>>) {
        let at = self.began.elapsed();
        let mut rest = bytes;
        if self.tail.is_empty() && self.head_bytes < HEAD {
            let (first, then) = rest.split_at(rest.len().min(HEAD - self.head_bytes));
            self.head_bytes += first.len();
            append(&mut self.head, self.recorded, at, direction, first, from);
            self.recorded += first.len() as u64;
            rest = then;
        }
        if rest.is_empty() {
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
        self.tail_bytes += rest.len();
        append(&mut self.tail, self.recorded, at, direction, rest, from);
        self.recorded += rest.len() as u64;
        while self.tail_bytes > TAIL || self.tail.len() > TAIL_ENTRIES {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.bytes.len();
            self.gap += oldest.bytes.len() as u64;
        }
    }

    /// This moment, for [`since`](Transcript::since).
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.recorded)
    }

    /// The part that was recorded after this moment.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Transcript {
        let later = |entry: &Entry| {
            let before = usize::try_from(mark.0.saturating_sub(entry.begin)).unwrap_or(usize::MAX);
            let bytes = entry.bytes.get(before..).filter(|b| !b.is_empty())?.to_vec();
            Some(Entry { begin: entry.begin.max(mark.0), bytes, ..*entry })
        };
        let mut part = Transcript {
            head: self.head.iter().filter_map(later).collect(),
            tail: self.tail.iter().filter_map(later).collect(),
            ..self.clone()
        };
        let tail_begin = self.tail.front().map_or(self.recorded, |e| e.begin);
        part.gap = self.gap.min(tail_begin.saturating_sub(mark.0));
        part
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
        let all = self.shown().into_iter().filter(|(entry, _)| entry.direction == direction);
        let bytes: Vec<u8> = all.flat_map(|(_, bytes)| bytes.into_owned()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many bytes between the beginning and the end are not kept.
    pub fn omitted(&self) -> u64 {
        self.gap
    }

    /// How long nothing has been said by the helper; `None` if it never said anything.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let all = self.head.iter().chain(&self.tail);
        let last = all.filter(|e| e.direction.is_helper()).map(|e| e.last).max()?;
        Some(self.began.elapsed().saturating_sub(last))
    }

    /// Did the helper say this, as far as the record goes? Only within one entry.
    pub(crate) fn was_heard(&self, text: &[u8]) -> bool {
        let mut all = self.head.iter().chain(&self.tail).filter(|e| e.direction.is_helper());
        all.any(|e| memchr::memmem::find(&e.bytes, text).is_some())
    }

    /// All entries as they may be shown. A secret is found wherever it was said, also when something else came in between.
    fn shown(&self) -> Vec<(&Entry, Cow<'_, [u8]>)> {
        let entries = || self.head.iter().chain(&self.tail);
        let mut shown: Vec<(&Entry, Cow<'_, [u8]>)> = entries().map(|e| (e, Cow::Borrowed(&e.bytes[..]))).collect();
        if self.secrets.is_empty() {
            return shown;
        }
        for direction in [Direction::In, Direction::Out, Direction::Err, Direction::Met] {
            let mut whole = Vec::new();
            // Which entry each byte is of.
            let mut owners = Vec::new();
            for (i, entry) in entries().enumerate().filter(|(_, e)| e.direction == direction) {
                whole.extend_from_slice(&entry.bytes);
                owners.resize(whole.len(), i);
            }
            let mut last = 0;
            let mut pieces: Vec<Vec<u8>> = vec![Vec::new(); shown.len()];
            let keep = |from: usize, to: usize, pieces: &mut Vec<Vec<u8>>| {
                for at in from..to {
                    pieces[owners[at]].push(whole[at]);
                }
            };
            let hits = self.secrets.places(&whole);
            if hits.is_empty() {
                continue;
            }
            for place in hits {
                keep(last, place.start, &mut pieces);
                pieces[owners[place.start]].extend_from_slice(HIDDEN);
                last = place.end;
            }
            keep(last, whole.len(), &mut pieces);
            for (i, (entry, bytes)) in shown.iter_mut().enumerate() {
                if entry.direction == direction {
                    *bytes = Cow::Owned(std::mem::take(&mut pieces[i]));
                }
            }
        }
        shown
    }

    /// The last lines, for a failure report.
    pub(crate) fn last_lines(&self, count: usize) -> String {
        let all = self.to_string();
        let lines: Vec<&str> = all.lines().collect();
        let from = lines.len().saturating_sub(count);
        lines[from..].iter().flat_map(|l| [*l, "\n"]).collect()
    }

    /// Has nothing been said yet?
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    pub(crate) fn line_count(&self) -> usize {
        self.to_string().lines().count()
    }
}

/// Both halves grow at the end.
trait Grow {
    fn last(&mut self) -> Option<&mut Entry>;
    fn push(&mut self, entry: Entry);
}

impl Grow for Vec<Entry> {
    fn last(&mut self) -> Option<&mut Entry> {
        self.last_mut()
    }
    fn push(&mut self, entry: Entry) {
        Vec::push(self, entry);
    }
}

impl Grow for VecDeque<Entry> {
    fn last(&mut self) -> Option<&mut Entry> {
        self.back_mut()
    }
    fn push(&mut self, entry: Entry) {
        self.push_back(entry);
    }
}

fn append(
    to: &mut impl Grow,
    begin: u64,
    at: Duration,
    direction: Direction,
    bytes: &[u8],
    from: Option<&'static Location<'static>>,
) {
    if let Some(last) = to.last() {
        // A line that comes in pieces is one line; a flood of lines is one entry, up to a size that can be let go.
        let unfinished = last.bytes.last() != Some(&b'\n');
        let together = at.saturating_sub(last.last) < TOGETHER && last.bytes.len() < 4096;
        let fits = last.bytes.len() + bytes.len() <= HEAD;
        if last.direction == direction && direction.is_helper() && (unfinished || together) && fits {
            last.bytes.extend_from_slice(bytes);
            last.last = at;
            return;
        }
    }
    to.push(Entry { begin, at, last: at, direction, bytes: bytes.to_vec(), from });
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown();
        let (head, tail) = shown.split_at(self.head.len());
        for (entry, bytes) in head {
            print(f, entry, bytes)?;
        }
        if self.gap > 0 {
            writeln!(f, "          ... {} bytes not kept ...", self.gap)?;
        }
        for (entry, bytes) in tail {
            print(f, entry, bytes)?;
        }
        Ok(())
    }
}

fn print(f: &mut fmt::Formatter<'_>, entry: &Entry, bytes: &[u8]) -> fmt::Result {
    let mut lines = bytes.split_inclusive(|b| *b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let (text, ended) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        write!(f, "{:>8.3}s {} | {}", entry.at.as_secs_f64(), entry.direction.sign(), Shortened(text))?;
        if !ended && entry.direction != Direction::Met {
            f.write_str(" (no newline)")?;
        }
        if let (Some(from), None) = (entry.from, lines.peek()) {
            write!(f, "    <- {}:{}", from.file(), from.line())?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}

/// A line as a person can read it: of a very long one, both ends.
struct Shortened<'a>(&'a [u8]);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const END: usize = 200;
        if self.0.len() <= 3 * END {
            return Visible(self.0).fmt(f);
        }
        let (head, rest) = self.0.split_at(END);
        let (middle, tail) = rest.split_at(rest.len() - END);
        write!(f, "{} ...({} bytes)... {}", Visible(head), middle.len(), Visible(tail))
    }
}

/// Bytes as a person can read them: text stays text, everything that a terminal would act on is escaped.
pub(crate) struct Visible<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    '\n' => f.write_str("\\n")?,
                    c if c.is_control() => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_in_pieces_is_one_line() {
        let mut t = Transcript::new(Instant::now());
        t.record(Direction::Out, b"hel");
        t.record(Direction::Out, b"lo\n");
        assert!(t.to_string().ends_with("out | hello\n"), "{t}");
        assert_eq!(t.line_count(), 1);
    }

    #[test]
    fn the_beginning_and_the_end_stay_and_the_gap_is_counted() {
        let mut t = Transcript::new(Instant::now());
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
        let kept: usize = t.head.iter().chain(&t.tail).map(|e| e.bytes.len()).sum();
        assert_eq!(t.omitted() as usize + kept, 6 + 1_000_000 + 3 * TAIL + 5);
        assert!(kept <= HEAD + TAIL, "{kept}");
    }

    #[test]
    fn nothing_in_it_can_move_a_cursor_or_hide_a_byte() {
        let shown = Visible(b"a\x1b[2J\xff\0\r\tz\xc3\xa4").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\xff\\u{0}\\r\\tz\u{e4}");
    }

    #[test]
    fn a_very_long_line_is_shown_by_its_ends() {
        let mut t = Transcript::new(Instant::now());
        t.record(Direction::Out, &vec![b'x'; 10_000]);
        let text = t.to_string();
        assert!(text.len() < 600 && text.contains("...(9600 bytes)..."), "{text}");
    }

    #[test]
    fn last_lines_are_the_last_ones() {
        let mut t = Transcript::new(Instant::now());
        for i in 0..10 {
            t.record(Direction::Out, format!("{i}\n").as_bytes());
        }
        let last = t.last_lines(2);
        assert!(last.lines().count() == 2 && last.ends_with("| 9\n"), "{last}");
    }
}
