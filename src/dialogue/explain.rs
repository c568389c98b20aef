//! Why an expectation was not met, in words that end the search: what came instead, what was nearly it, and the usual reasons.

use std::time::Duration;

use super::conversation::{Channel, State};
use super::expect::End;
use super::verbs::{Judge, Unmet, Verb};
use crate::error::ErrorKind;
use crate::report::{seconds, status};
use crate::transcript::{Shortened, Visible};

/// How many lines are compared with what was expected, and how much of each.
const COMPARED: (usize, usize) = (200, 200);

/// How alike a line must be to be called the closest: half of it has to be right.
const ALIKE: f64 = 0.5;

/// The changing parts of a report.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(crate) kind: ErrorKind,
    pub(crate) why: String,
    pub(crate) details: Vec<(&'static str, String)>,
    pub(crate) help: Option<String>,
}

/// Explains how this verb's wait ended.
pub(crate) fn of<V: Verb>(verb: &mut V, state: &State, channel: Channel, limit: Duration, end: End) -> Explanation {
    let mut details = verb.details();
    let timed_out = || format!("timed out after {}", seconds(limit));
    match end {
        End::Unmet(Unmet::Mismatch { got, mid_line, cut }) => {
            let literal = verb.matcher().and_then(|m| m.literal().map(<[u8]>::to_vec));
            let got = state.redacted(&got).into_owned();
            match &literal {
                Some(text) => compare(&mut details, "got", &state.redacted(text), &got),
                None => details.push(("got", format!("\"{}\"", Shortened(&got)))),
            }
            let help = why_not_equal(state, channel, literal.as_deref(), &got, mid_line, cut);
            let why = "the next line is another one".to_owned();
            Explanation { kind: ErrorKind::Mismatch, why, details, help }
        }
        End::Unmet(Unmet::Unwanted { got }) => {
            details.push(("got", format!("\"{}\"", Shortened(&state.redacted(&got)))));
            let why = "the helper has said it".to_owned();
            let why = if verb.object(channel).is_empty() { "the helper has said something".to_owned() } else { why };
            Explanation { kind: ErrorKind::Unwanted, why, details, help: None }
        }
        End::Tripped => {
            let (why, line) = match &state.tripped {
                Some(tripped) => (
                    tripped.to_string(),
                    format!("\"{}\", which is {}", Shortened(&state.redacted(&tripped.line)), tripped.description),
                ),
                None => ("the helper said what it must not say".to_owned(), String::new()),
            };
            details.push(("got", line));
            Explanation { kind: ErrorKind::Unwanted, why, details, help: None }
        }
        End::Over | End::TimedOut => {
            let mut help = None;
            if let Some(matcher) = verb.matcher() {
                help = where_else(state, channel, matcher);
                if let Some(text) = matcher.literal().map(<[u8]>::to_vec) {
                    if let Some(line) = closest(state, channel, &text) {
                        compare(&mut details, "closest", &state.redacted(&text), &line);
                    }
                }
            }
            let exited = state.life.exited.as_ref().map(|e| status(e.status));
            if help.is_none() && !V::ENDS_WITH_HELPER && exited.is_some() {
                help = Some("the helper has ended, but something that it started holds the stream open".to_owned());
            }
            let (kind, why) = match (end, exited) {
                (End::TimedOut, _) => (ErrorKind::Timeout, timed_out()),
                (_, Some(exited)) => (ErrorKind::Exited, format!("the helper {exited}")),
                (_, None) => match &state.life.lost {
                    Some(lost) => (ErrorKind::Guardian, lost.clone()),
                    None => (ErrorKind::Eof, format!("the helper has closed its {}", channel.name())),
                },
            };
            Explanation { kind, why, details, help }
        }
    }
}

/// The usual reasons why a line is nearly the one that was expected.
fn why_not_equal(
    state: &State,
    channel: Channel,
    text: Option<&[u8]>,
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
    let text = text?;
    let plain = without_escapes(got);
    if got.trim_ascii() == text.trim_ascii() {
        return Some("they differ only in white space at the ends".into());
    }
    if plain != got && plain == text {
        return Some("they differ only in terminal codes; many programs leave them out if NO_COLOR is set".into());
    }
    if got.eq_ignore_ascii_case(text) {
        return Some("they differ only in upper and lower case".into());
    }
    if memchr::memmem::find(got, text).is_some() {
        return Some(
            "the line contains the text, and `expect_line` compares whole lines; `expect` finds it, and so does \
             `predicate::str::contains`"
                .into(),
        );
    }
    let unread = state.stream_ref(channel).window.unread();
    let mut later = unread.split(|b| *b == b'\n').skip(1).map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    later.any(|line| line == text).then(|| "a later line is this text; `expect` finds it".into())
}

/// The usual reasons why something is waited for in vain.
fn where_else(state: &State, channel: Channel, matcher: &mut dyn Judge) -> Option<String> {
    let other = match channel {
        Channel::Stdout => Channel::Stderr,
        Channel::Stderr => Channel::Stdout,
    };
    let elsewhere = state.stream_ref(other).window.unread();
    let unread = state.stream_ref(channel).window.unread();
    let Some(text) = matcher.literal() else {
        let tail = unread.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        if !tail.is_empty() && matcher.is_about_lines() && state.life.exited.is_none() {
            let waits = "what has arrived last is not a whole line, and predicates, closures and patterns are asked \
                         about whole lines";
            return Some(format!("{waits}; a prompt is found by `expect_prompt`, or by a text"));
        }
        let mut lines = elsewhere.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(100);
        let found = lines.find(|line| matcher.in_line(line))?;
        return Some(format!("a line on {} satisfies it: \"{}\"", other.name(), Shortened(&state.redacted(found))));
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

/// The line that is most like what was expected.
fn closest(state: &State, channel: Channel, text: &[u8]) -> Option<Vec<u8>> {
    let (lines, length) = COMPARED;
    let text = String::from_utf8_lossy(&text[..text.len().min(length)]).into_owned();
    let unread = state.stream_ref(channel).window.unread();
    let all = unread.rsplit(|b| *b == b'\n').filter(|line| !line.is_empty()).take(lines);
    let scored = all.filter_map(|line| {
        let begin = String::from_utf8_lossy(&line[..line.len().min(length)]);
        let likeness = strsim::normalized_levenshtein(&text, &begin);
        // What is the same was passed over for another reason, which the help tells.
        (likeness >= ALIKE && *begin != *text).then_some((likeness, line))
    });
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, line)| state.redacted(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

/// How much of two texts is shown before and behind the place where they begin to differ.
const AROUND: (usize, usize) = (80, 120);

/// What came, below what was expected, with a mark at the first place where they differ. Of long texts, that place.
fn compare(details: &mut Vec<(&'static str, String)>, name: &'static str, wanted: &[u8], got: &[u8]) {
    let shown = |bytes: &[u8]| -> Vec<char> { Visible(bytes).to_string().chars().collect() };
    let (wanted, got) = (shown(wanted), shown(got));
    let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let (before, behind) = AROUND;
    let long = wanted.len().max(got.len()) > before + behind;
    let first = if long { same.saturating_sub(before) } else { 0 };
    let part = |text: &[char]| -> String {
        let last = if long { text.len().min(same + behind) } else { text.len() };
        let dots = |there: bool| if there { "..." } else { "" };
        let middle: String = text.get(first..last).unwrap_or_default().iter().collect();
        format!("\"{}{middle}{}\"", dots(first > 0), dots(last < text.len()))
    };
    if let (true, Some(row)) = (long, details.iter_mut().find(|(name, _)| *name == "expected")) {
        row.1 = part(&wanted);
    }
    details.push((name, part(&got)));
    // A mark below the first letter says nothing that the eye does not see.
    if same > 0 {
        let column = 1 + same - first + if first > 0 { 3 } else { 0 };
        details.push(("", format!("{}^ from here they differ", " ".repeat(column))));
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
