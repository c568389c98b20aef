//! What can be asked of one stream: each verb looks at what has arrived, and takes what it wanted.
//!
//! A verb knows nothing about waiting: [`expect`](crate::dialogue::expect) asks it again whenever there is something new.

pub(crate) mod absent;
pub(crate) mod optional;
pub(crate) mod piece;
pub(crate) mod several;
pub(crate) mod single;

use crate::dialogue::conversation::{Channel, State, Stream};
use crate::dialogue::found::{Lossy, Match};
use crate::dialogue::matcher::Matcher;
use crate::dialogue::search::{Found, Line, Stretch};

/// One request, asked again and again until it has an answer.
pub(crate) trait Verb: Send {
    type Answer: Send;

    /// Does the helper's exit end the wait, although somebody else may still write?
    const ENDS_WITH_HELPER: bool = true;

    /// As in `failed to … `x``.
    fn name(&self) -> &'static str;

    /// What is to come, for the first line of a report.
    fn object(&self, channel: Channel) -> String;

    /// The lines that a report begins with.
    fn details(&self) -> Vec<(&'static str, String)>;

    /// The only matcher, if there is only one.
    fn matcher(&mut self) -> Option<&mut dyn Judge> {
        None
    }

    /// Why it makes no sense, if it does not.
    fn problem(&self) -> Option<String> {
        None
    }

    /// The answer, if what has arrived has it.
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Self::Answer, Unmet>>;

    /// Nothing will come any more, or time is up, and that is an answer as well.
    fn without_more(&mut self, _state: &mut State, _channel: Channel) -> Option<Result<Self::Answer, Unmet>> {
        None
    }

    /// Does the transcript say nothing about it?
    fn is_quiet(&self) -> bool {
        false
    }

    /// What the answer was, for the transcript; empty for what says nothing new.
    fn note(_answer: &Self::Answer) -> &str {
        ""
    }
}

/// What came instead.
#[derive(Debug)]
pub(crate) enum Unmet {
    /// The next line is another one.
    Mismatch { got: Vec<u8>, mid_line: bool, cut: bool },
    /// Something came that was not to come.
    Unwanted { got: Vec<u8> },
}

/// A matcher as far as an explanation needs it.
pub(crate) trait Judge {
    fn literal(&self) -> Option<&[u8]>;
    fn in_line(&mut self, line: &[u8]) -> bool;
    /// Is it asked about lines that are complete?
    fn is_about_lines(&self) -> bool;
}

impl Judge for Matcher<'_> {
    fn literal(&self) -> Option<&[u8]> {
        Matcher::literal(self)
    }
    fn in_line(&mut self, line: &[u8]) -> bool {
        Matcher::in_line(self, line)
    }
    fn is_about_lines(&self) -> bool {
        Matcher::is_about_lines(self)
    }
}

/// What a report says was expected.
pub(crate) fn describe(matcher: &Matcher<'_>) -> String {
    match matcher.literal() {
        Some(_) => format!("\"{matcher}\""),
        None => matcher.to_string(),
    }
}

pub(super) fn one(matcher: &Matcher<'_>) -> Vec<(&'static str, String)> {
    vec![("expected", describe(matcher))]
}

/// Will no more of the helper's own output come? Then a line without its ending is a line.
pub(crate) fn is_last(state: &State, channel: Channel) -> bool {
    state.stream_ref(channel).is_eof() || state.life.exited.is_some()
}

pub(super) fn stretch(stream: &Stream, last: bool) -> Stretch<'_> {
    Stretch { bytes: stream.window.unread(), offset: stream.window.offset(), last }
}

/// Consumes everything up to the end of what was found.
pub(super) fn take(stream: &mut Stream, found: Found) -> Match {
    let mut taken = matched(stream, &found);
    taken.skipped = Lossy::new(&stream.window.unread()[..found.text.start]);
    stream.window.consume(found.end);
    stream.mid_line = found.mid_line;
    taken
}

pub(super) fn matched(stream: &Stream, found: &Found) -> Match {
    Match {
        text: String::from_utf8_lossy(&stream.window.unread()[found.text.clone()]).into_owned(),
        skipped: Lossy::default(),
        partial: found.partial,
        truncated: !found.mid_line && found.text.start == 0 && stream.window.is_cut(),
        captures: found.captures.clone(),
        secrets: stream.secrets.clone(),
    }
}

/// A match that reached the end of its line takes the ending with it, as soon as a line is asked for.
pub(super) fn skip_ending(stream: &mut Stream, last: bool) {
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

/// The next line. `searched` is where no line ending was found so far.
pub(super) fn next_line(stream: &mut Stream, searched: &mut u64, last: bool) -> Option<Line> {
    skip_ending(stream, last);
    let stretch = stretch(stream, last);
    let line = stretch.line(0, stretch.index(*searched));
    if line.is_none() {
        *searched = stretch.position(stretch.bytes.len());
    }
    line
}
