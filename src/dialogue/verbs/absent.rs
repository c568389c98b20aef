//! Verbs about what is not to come.

use super::{Unmet, Verb, describe, is_last, skip_ending, stretch};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::matcher::Matcher;

/// Nothing at all, for a while.
pub(crate) struct Silence;

impl Verb for Silence {
    type Answer = ();
    const ENDS_WITH_HELPER: bool = false;

    fn name(&self) -> &'static str {
        "expect silence"
    }
    fn object(&self, _channel: Channel) -> String {
        String::new()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<(), Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        let unread = stream.window.unread();
        (!unread.is_empty()).then(|| Err(Unmet::Unwanted { got: first_line(unread).to_vec() }))
    }
    fn without_more(&mut self, _state: &mut State, _channel: Channel) -> Option<Result<(), Unmet>> {
        Some(Ok(()))
    }
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == b'\n').next().unwrap_or(bytes)
}

/// Nothing like this, up to the time limit.
pub(crate) struct Nothing<'m> {
    matcher: Matcher<'m>,
    searched: u64,
}

impl<'m> Nothing<'m> {
    pub(crate) fn new(matcher: Matcher<'m>) -> Nothing<'m> {
        Nothing { matcher, searched: 0 }
    }

    fn find(&mut self, state: &mut State, channel: Channel, last: bool) -> Option<Unmet> {
        let stream = state.stream(channel);
        let stretch = stretch(stream, last);
        let found = self.matcher.seek(stretch, &mut self.searched)?;
        let begin = stretch.line_begin(0, found.text.start);
        let line = first_line(&stretch.bytes[begin..]);
        Some(Unmet::Unwanted { got: line.strip_suffix(b"\r").unwrap_or(line).to_vec() })
    }
}

impl Verb for Nothing<'_> {
    type Answer = ();
    const ENDS_WITH_HELPER: bool = false;

    fn name(&self) -> &'static str {
        "expect none"
    }
    fn object(&self, _channel: Channel) -> String {
        self.matcher.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        vec![("unwanted", describe(&self.matcher))]
    }
    fn problem(&self) -> Option<String> {
        self.matcher.problem()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<(), Unmet>> {
        let last = is_last(state, channel);
        self.find(state, channel, last).map(Err)
    }
    fn without_more(&mut self, state: &mut State, channel: Channel) -> Option<Result<(), Unmet>> {
        // What stands there without a line ending counts as well.
        Some(self.find(state, channel, true).map_or(Ok(()), Err))
    }
}
