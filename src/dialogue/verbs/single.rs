//! Verbs about one thing: a place, the next line, a prompt, a selected line, the end.

use super::{Judge, Unmet, Verb, is_last, matched, next_line, one, skip_ending, stretch, take};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::Matcher;

/// The first later place.
pub(crate) struct Place<'m> {
    matcher: Matcher<'m>,
    searched: u64,
}

impl<'m> Place<'m> {
    pub(crate) fn new(matcher: Matcher<'m>) -> Place<'m> {
        Place { matcher, searched: 0 }
    }

    /// Not before this position in the stream.
    pub(crate) fn after(matcher: Matcher<'m>, position: u64) -> Place<'m> {
        Place { matcher, searched: position }
    }
}

impl Verb for Place<'_> {
    type Answer = Match;

    fn name(&self) -> &'static str {
        "expect"
    }
    fn object(&self, _channel: Channel) -> String {
        self.matcher.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        one(&self.matcher)
    }
    fn matcher(&mut self) -> Option<&mut dyn Judge> {
        Some(&mut self.matcher)
    }
    fn problem(&self) -> Option<String> {
        self.matcher.problem()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Match, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        if self.matcher.is_about_lines() {
            skip_ending(stream, last);
        }
        let found = self.matcher.seek(stretch(stream, last), &mut self.searched)?;
        Some(Ok(take(stream, found)))
    }
    fn note(answer: &Match) -> &str {
        answer.text()
    }
}

/// The next line, which has to match.
pub(crate) struct NextLine<'m> {
    matcher: Matcher<'m>,
    searched: u64,
    quiet: bool,
}

impl<'m> NextLine<'m> {
    pub(crate) fn new(matcher: Matcher<'m>) -> NextLine<'m> {
        NextLine { matcher, searched: 0, quiet: false }
    }

    /// Whatever it is.
    pub(crate) fn any() -> NextLine<'m> {
        NextLine { matcher: Matcher::any_line(), searched: 0, quiet: true }
    }
}

impl Verb for NextLine<'_> {
    type Answer = Match;

    fn name(&self) -> &'static str {
        "expect line"
    }
    fn object(&self, _channel: Channel) -> String {
        self.matcher.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        one(&self.matcher)
    }
    fn matcher(&mut self) -> Option<&mut dyn Judge> {
        Some(&mut self.matcher)
    }
    fn problem(&self) -> Option<String> {
        self.matcher.problem_as_line()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Match, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        let line = next_line(stream, &mut self.searched, last)?;
        let raw = &stream.window.unread()[line.text.clone()];
        let Some(captures) = self.matcher.on_line(raw) else {
            let got = raw.to_vec();
            return Some(Err(Unmet::Mismatch { got, mid_line: stream.mid_line, cut: stream.window.is_cut() }));
        };
        Some(Ok(take(stream, line.found(captures))))
    }
    fn is_quiet(&self) -> bool {
        self.quiet
    }
    fn note(answer: &Match) -> &str {
        answer.text()
    }
}

/// What has arrived ends with this, in the middle of a line.
pub(crate) struct Prompt<'m>(pub(crate) Matcher<'m>);

impl Verb for Prompt<'_> {
    type Answer = Match;

    fn name(&self) -> &'static str {
        "expect prompt"
    }
    fn object(&self, _channel: Channel) -> String {
        self.0.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        one(&self.0)
    }
    fn matcher(&mut self) -> Option<&mut dyn Judge> {
        Some(&mut self.0)
    }
    fn problem(&self) -> Option<String> {
        match self.0.literal() {
            Some([.., b'\n']) => Some("a prompt is not the end of a line, and this text ends with one".to_owned()),
            _ => self.0.problem(),
        }
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Match, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        let found = self.0.at_end(stretch(stream, last))?;
        Some(Ok(take(stream, found)))
    }
    fn note(answer: &Match) -> &str {
        answer.text()
    }
}

/// The first whole line that matches; those before it stay.
pub(crate) struct Select<'m> {
    matcher: Matcher<'m>,
    searched: u64,
}

impl<'m> Select<'m> {
    pub(crate) fn new(matcher: Matcher<'m>) -> Select<'m> {
        Select { matcher, searched: 0 }
    }
}

impl Verb for Select<'_> {
    type Answer = Match;

    fn name(&self) -> &'static str {
        "select"
    }
    fn object(&self, _channel: Channel) -> String {
        self.matcher.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        one(&self.matcher)
    }
    fn matcher(&mut self) -> Option<&mut dyn Judge> {
        Some(&mut self.matcher)
    }
    fn problem(&self) -> Option<String> {
        self.matcher.problem_as_line()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Match, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        let stretch = stretch(stream, last);
        let mut begin = stretch.index(self.searched);
        while let Some(line) = stretch.line(begin, begin) {
            if let Some(captures) = self.matcher.on_line(stretch.text(&line.text)) {
                let found = line.found(captures);
                let taken = matched(stream, &found);
                stream.window.take_out(begin..found.end);
                stream.mid_line &= begin > 0;
                return Some(Ok(taken));
            }
            begin = line.end;
            self.searched = stretch.position(begin);
        }
        None
    }
    fn note(answer: &Match) -> &str {
        answer.text()
    }
}

/// The end of the stream, and what was left on it.
pub(crate) struct Eof;

impl Verb for Eof {
    type Answer = Vec<u8>;
    const ENDS_WITH_HELPER: bool = false;

    fn name(&self) -> &'static str {
        "expect"
    }
    fn object(&self, channel: Channel) -> String {
        format!("end of {}", channel.name())
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Vec<u8>, Unmet>> {
        let stream = state.stream(channel);
        stream.is_eof().then(|| {
            let rest = stream.window.unread().to_vec();
            stream.window.consume(rest.len());
            Ok(rest)
        })
    }
}
