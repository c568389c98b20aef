//! Expectations on one stream: what they consume, when they give up, and what they say then.
//!
//! A match wins over everything: over the end of the stream, the helper's exit, and the deadline.
//! An expectation that fails consumes nothing.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::conversation::{Channel, Conversation, State, Stream};
use super::matcher::{Kind, Lossy, Match, Matcher};
use crate::error::{Error, ErrorKind};
use crate::report::{self, Attempt, seconds, status};
use crate::transcript::Visible;

/// How long a stream that has ended may wait for the news of its helper's end, so that a report can say how it ended.
pub(super) const EXIT_NEWS: Duration = Duration::from_millis(250);

/// Where, for how long, and on whose behalf.
#[derive(Debug, Clone)]
pub(crate) struct Wait<'a> {
    pub(crate) conversation: &'a Arc<Conversation>,
    pub(crate) channel: Channel,
    pub(crate) limit: Duration,
    pub(crate) at: &'static Location<'static>,
}

/// Why an expectation cannot be met any more.
#[derive(Debug)]
enum End {
    Eof,
    Exited,
    Mismatch { got: Vec<u8>, mid_line: bool, cut: bool },
}

impl Wait<'_> {
    /// The first later place that matches.
    pub(crate) fn expect(&self, mut matcher: Matcher<'_>) -> Result<Match, Error> {
        if matcher.literal().is_some_and(<[u8]>::is_empty) {
            return Err(self.refuse("expect", "an empty text is found everywhere, so expecting it checks nothing"));
        }
        let mut searched = 0;
        let channel = self.channel;
        let finder = matcher.literal().map(|text| Finder::new(text).into_owned());
        let result = self.until(|state| {
            let last = is_last(state, channel);
            let stream = state.stream(channel);
            match (&mut matcher.kind, &finder) {
                (_, Some(finder)) => find_literal(stream, finder, &mut searched),
                (Kind::Literal(_), None) => None,
                (Kind::Line { test, .. }, None) => find_line(stream, test, &mut searched, last),
            }
        });
        result.map_err(|end| self.explain("expect", &mut matcher, end))
    }

    /// The next line, which has to match.
    pub(crate) fn expect_line(&self, mut matcher: Matcher<'_>) -> Result<Match, Error> {
        if let Some(at) = matcher.literal().and_then(|text| memchr::memchr(b'\n', text)) {
            let why = format!("the text has a line ending at byte {at}, and no line has one");
            return Err(self.refuse("expect line", &why));
        }
        let mut searched = 0;
        let channel = self.channel;
        let result = self.until(|state| {
            let last = is_last(state, channel);
            let stream = state.stream(channel);
            let line = next_line(stream, &mut searched, last)?;
            let raw = &stream.window.unread()[..line.text];
            let text = String::from_utf8_lossy(raw).into_owned();
            if !matcher.matches_line(raw, &text) {
                let got = raw.to_vec();
                return Some(Err(End::Mismatch { got, mid_line: stream.mid_line, cut: stream.window.is_cut() }));
            }
            let truncated = stream.window.is_cut();
            consume_line(stream, line.length);
            Some(Ok(Match { text, skipped: Lossy::default(), partial: line.partial, truncated }))
        });
        let result = match result {
            Ok(inner) => inner.map_err(Some),
            Err(end) => Err(end),
        };
        result.map_err(|end| self.explain("expect line", &mut matcher, end))
    }

    /// The next line, whatever it is.
    pub(crate) fn next_line(&self) -> Result<Match, Error> {
        let any = Kind::Line { test: Box::new(|_| true), description: "a line".to_owned() };
        self.expect_line(Matcher { kind: any })
    }

    /// The next line, if it has arrived whole.
    pub(crate) fn try_next_line(&self) -> Option<Match> {
        let channel = self.channel;
        let mut searched = 0;
        self.conversation.wait(Some(Instant::now()), |state| {
            let last = is_last(state, channel);
            let stream = state.stream(channel);
            let line = next_line(stream, &mut searched, last)?;
            let text = String::from_utf8_lossy(&stream.window.unread()[..line.text]).into_owned();
            let truncated = stream.window.is_cut();
            consume_line(stream, line.length);
            Some(Match { text, skipped: Lossy::default(), partial: line.partial, truncated })
        })
    }

    /// The end of the stream; what was left on it.
    pub(crate) fn expect_eof(&self) -> Result<Vec<u8>, Error> {
        let channel = self.channel;
        let found = self.conversation.wait(deadline(self.limit), |state| {
            let stream = state.stream(channel);
            stream.is_eof().then(|| {
                let rest = stream.window.unread().to_vec();
                stream.window.consume(rest.len());
                rest
            })
        });
        found.ok_or_else(|| {
            let state = self.conversation.lock();
            let held = "the helper has ended, but something that it started holds the stream open";
            let help = state.life.exited.as_ref().map(|_| held);
            let object = format!("end of {}", channel.name());
            self.fail(&state, ErrorKind::Timeout, "expect", object, &self.timed_out(), &[], help)
        })
    }

    /// Waits for `look` to find something; `Err(None)` when time is up, `Err(Some(…))` when it never will.
    fn until<R>(&self, mut look: impl FnMut(&mut State) -> Option<R>) -> Result<R, Option<End>> {
        let channel = self.channel;
        let limit = deadline(self.limit);
        let mut give_up: Option<Instant> = None;
        loop {
            // The end of the stream comes a moment before the news of how the helper ended.
            let until = match (give_up, limit) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let mut just_ended = false;
            let found = self.conversation.wait(until, |state| {
                if let Some(found) = look(state) {
                    return Some(Ok(found));
                }
                let eof = state.stream_ref(channel).is_eof();
                if state.life.exited.is_some() || state.life.is_over() {
                    return Some(Err(if eof { End::Eof } else { End::Exited }));
                }
                if eof && give_up.is_none() {
                    just_ended = true;
                    return Some(Err(End::Eof));
                }
                None
            });
            match found {
                Some(Ok(found)) => return Ok(found),
                Some(Err(_)) if just_ended => give_up = Some(Instant::now() + EXIT_NEWS),
                Some(Err(end)) => return Err(Some(end)),
                None if give_up.is_some() => return Err(Some(End::Eof)),
                None => return Err(None),
            }
        }
    }

    fn explain(&self, verb: &str, matcher: &mut Matcher<'_>, end: Option<End>) -> Error {
        let mut state = self.conversation.lock();
        state.reported = true;
        let expected = match matcher.literal() {
            Some(text) => format!("\"{}\"", Visible(text)),
            None => matcher.to_string(),
        };
        let mut details = vec![("expected", expected)];
        let exited = state.life.exited.as_ref().map(|e| status(e.status));
        let help;
        let (kind, why) = match end {
            Some(End::Mismatch { got, mid_line, cut }) => {
                details.push(("got", format!("\"{}\"", Visible(&got))));
                help = self.why_not_equal(&state, matcher, &got, mid_line, cut);
                (ErrorKind::Mismatch, "the next line is another one".to_owned())
            }
            end => {
                help = self.where_else(&state, matcher);
                match end {
                    None => (ErrorKind::Timeout, self.timed_out()),
                    Some(_) if exited.is_some() => {
                        (ErrorKind::Exited, format!("the helper {}", exited.unwrap_or_default()))
                    }
                    Some(_) if state.life.lost.is_some() => {
                        (ErrorKind::Guardian, state.life.lost.clone().unwrap_or_default())
                    }
                    Some(_) => (ErrorKind::Eof, format!("the helper has closed its {}", self.channel.name())),
                }
            }
        };
        self.fail(&state, kind, verb, matcher.to_string(), &why, &details, help.as_deref())
    }

    /// The usual reasons why a line is nearly the one that was expected.
    fn why_not_equal(
        &self,
        state: &State,
        matcher: &Matcher<'_>,
        got: &[u8],
        mid_line: bool,
        cut: bool,
    ) -> Option<String> {
        if cut {
            return Some("the beginning of this line was dropped; keep more with `.buffer(…)`".into());
        }
        if mid_line {
            return Some("the expectation before this one ended inside this line; this is the rest of it".into());
        }
        let text = matcher.literal()?;
        let plain = without_escapes(got);
        if got.trim_ascii() == text.trim_ascii() {
            return Some("they differ only in white space at the ends".into());
        }
        if plain != got && plain == text {
            return Some("they differ only in terminal codes; many programs leave them out if NO_COLOR is set".into());
        }
        if memchr::memmem::find(got, text).is_some() {
            return Some(
                "the line contains the text, and `expect_line` compares whole lines; `expect` finds it, and so does \
                 `predicate::str::contains`"
                    .into(),
            );
        }
        let unread = state.stream_ref(self.channel).window.unread();
        let mut later = unread.split(|b| *b == b'\n').skip(1).map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        later.any(|line| line == text).then(|| "a later line is this text; `expect` finds it".into())
    }

    /// The usual reasons why something is waited for in vain.
    fn where_else(&self, state: &State, matcher: &mut Matcher<'_>) -> Option<String> {
        let other = match self.channel {
            Channel::Stdout => Channel::Stderr,
            Channel::Stderr => Channel::Stdout,
        };
        let elsewhere = state.stream_ref(other).window.unread();
        let unread = state.stream_ref(self.channel).window.unread();
        let Some(text) = matcher.literal() else {
            if !unread.is_empty() && !unread.contains(&b'\n') && state.life.exited.is_none() {
                return Some(
                    "what has arrived is not a whole line, and predicates and closures are asked about whole lines; \
                     a text finds a prompt"
                        .into(),
                );
            }
            let mut lines = elsewhere.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(100);
            let found = lines.find(|line| matcher.matches_line(line, &String::from_utf8_lossy(line)))?;
            return Some(format!("a line on {} satisfies it: \"{}\"", other.name(), Visible(found)));
        };
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, text).is_some();
        if has(elsewhere) {
            return Some(format!("the text is on {name}: expect it with `.{name}().expect(…)`", name = other.name()));
        }
        if has(unread) {
            return Some("the text has arrived, but inside a longer line; `expect` finds it there".into());
        }
        state
            .transcript
            .was_heard(text)
            .then(|| "the text was said earlier, and an expectation before this one has passed over it".into())
    }

    fn timed_out(&self) -> String {
        format!("timed out after {}", seconds(self.limit))
    }

    fn refuse(&self, verb: &str, why: &str) -> Error {
        let state = self.conversation.lock();
        let object = self.channel.name().to_owned();
        self.fail(&state, ErrorKind::InvalidInput, verb, object, why, &[], None)
    }

    #[expect(clippy::too_many_arguments, reason = "private; each is one part of the report's first lines")]
    fn fail(
        &self,
        state: &State,
        kind: ErrorKind,
        verb: &str,
        object: String,
        why: &str,
        details: &[(&str, String)],
        help: Option<&str>,
    ) -> Error {
        let attempt = Attempt { verb, object, at: self.at };
        report::failure(kind, &self.conversation.subject, state, &attempt, why, details, help)
    }
}

/// What a terminal would show of it: control sequences (ECMA-48) left out.
fn without_escapes(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == 0x1b && bytes.next_if_eq(&b'[').is_some() {
            while bytes.next_if(|b| !(0x40..=0x7e).contains(b)).is_some() {}
            bytes.next();
        } else {
            out.push(byte);
        }
    }
    out
}

/// `None` when it lies beyond what the clock can tell: then it never comes.
pub(crate) fn deadline(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

/// Will no more of the helper's own output come? Then a line without its ending is a line.
fn is_last(state: &State, channel: Channel) -> bool {
    state.stream_ref(channel).is_eof() || state.life.exited.is_some()
}

fn find_literal(stream: &mut Stream, finder: &Finder<'_>, searched: &mut u64) -> Option<Match> {
    let needle = finder.needle();
    let offset = stream.window.offset();
    let unread = stream.window.unread();
    // What was searched before is not searched again, except for a match that began in it.
    let overlap = (needle.len() - 1) as u64;
    let from = searched.saturating_sub(overlap).saturating_sub(offset).min(unread.len() as u64);
    let from = usize::try_from(from).unwrap_or(unread.len());
    *searched = offset + unread.len() as u64;
    let at = from + finder.find(&unread[from..])?;
    let skipped = Lossy::new(&unread[..at]);
    let text = String::from_utf8_lossy(needle).into_owned();
    let mid_line = needle.last() != Some(&b'\n');
    stream.window.consume(at + needle.len());
    stream.mid_line = mid_line;
    Some(Match { text, skipped, partial: false, truncated: false })
}

/// A line in what is unread, from wherever it was looked for.
struct Line {
    /// How long its text is.
    text: usize,
    /// How long it is with its ending.
    length: usize,
    partial: bool,
}

/// The next line without consuming it. `searched` is where no line ending was found so far.
fn next_line(stream: &mut Stream, searched: &mut u64, last: bool) -> Option<Line> {
    skip_ending(stream, last);
    let offset = stream.window.offset();
    let unread = stream.window.unread();
    let from = usize::try_from(searched.saturating_sub(offset)).unwrap_or(0).min(unread.len());
    let line = line_at(unread, 0, from, last);
    if line.is_none() {
        *searched = offset + unread.len() as u64;
    }
    line
}

/// A match that reached the end of its line takes the ending with it, as soon as a line is asked for.
fn skip_ending(stream: &mut Stream, last: bool) {
    if stream.window.is_cut() {
        // What was dropped meanwhile was the rest of that line, and more.
        stream.mid_line = false;
    }
    if !stream.mid_line {
        return;
    }
    let length = match stream.window.unread() {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        // Not known yet: the ending may still come.
        [] | [b'\r'] if !last => return,
        _ => 0,
    };
    if length > 0 {
        stream.window.consume(length);
        stream.mid_line = false;
    }
}

/// The line that begins at `begin`; `from` is where no line ending was found so far.
fn line_at(unread: &[u8], begin: usize, from: usize, last: bool) -> Option<Line> {
    let rest = &unread[begin..];
    let from = from.max(begin);
    match memchr::memchr(b'\n', &unread[from..]) {
        Some(at) => {
            let end = from + at - begin;
            let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]).len();
            Some(Line { text, length: end + 1, partial: false })
        }
        None if last && !rest.is_empty() => Some(Line { text: rest.len(), length: rest.len(), partial: true }),
        None => None,
    }
}

fn consume_line(stream: &mut Stream, length: usize) {
    stream.window.consume(length);
    stream.mid_line = false;
}

/// The first line that passes the test. `searched` is the beginning of the first line that was not tested yet.
fn find_line(stream: &mut Stream, test: &mut dyn FnMut(&str) -> bool, searched: &mut u64, last: bool) -> Option<Match> {
    skip_ending(stream, last);
    let offset = stream.window.offset();
    let unread = stream.window.unread();
    let mut begin = usize::try_from(searched.saturating_sub(offset)).unwrap_or(0).min(unread.len());
    while let Some(line) = line_at(unread, begin, begin, last) {
        let text = String::from_utf8_lossy(&unread[begin..begin + line.text]);
        if test(&text) {
            let found = Match {
                text: text.into_owned(),
                skipped: Lossy::new(&unread[..begin]),
                partial: line.partial,
                truncated: begin == 0 && stream.window.is_cut(),
            };
            consume_line(stream, begin + line.length);
            return Some(found);
        }
        begin += line.length;
        *searched = offset + begin as u64;
    }
    None
}
