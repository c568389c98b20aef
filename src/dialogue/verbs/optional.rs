//! The next line, if it is this one: what comes instead decides that it is not.

use super::{Unmet, Verb, describe, is_last, skip_ending, stretch, take};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::Matcher;

/// What the step after it looks for, which may not be a whole line.
pub(crate) enum Follower<'m> {
    /// A line, or the end.
    Line,
    /// One of these, anywhere.
    Places(Vec<Matcher<'m>>),
    Prompt(Matcher<'m>),
}

pub(crate) struct Optional<'m> {
    pub(crate) matcher: Matcher<'m>,
    pub(crate) follower: Follower<'m>,
}

impl Verb for Optional<'_> {
    type Answer = Option<Match>;

    fn name(&self) -> &'static str {
        "expect or pass over"
    }
    fn object(&self, _channel: Channel) -> String {
        self.matcher.to_string()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        vec![("optional", describe(&self.matcher))]
    }
    fn problem(&self) -> Option<String> {
        self.matcher.problem_as_line()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Option<Match>, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        let stretch = stretch(stream, last);
        let Some(line) = stretch.line(0, 0) else {
            let decided = match &mut self.follower {
                Follower::Line => false,
                Follower::Places(all) => all.iter_mut().any(|m| m.seek(stretch, &mut 0).is_some()),
                Follower::Prompt(prompt) => prompt.at_end(stretch).is_some(),
            };
            return decided.then_some(Ok(None));
        };
        Some(Ok(self.matcher.on_line(stretch.text(&line.text)).map(|captures| take(stream, line.found(captures)))))
    }
    fn without_more(&mut self, state: &mut State, channel: Channel) -> Option<Result<Option<Match>, Unmet>> {
        // At the end of the output there is no line; a time-out decides nothing.
        is_last(state, channel).then_some(Ok(None))
    }
    fn note(answer: &Option<Match>) -> &str {
        answer.as_ref().map_or("", Match::text)
    }
}
