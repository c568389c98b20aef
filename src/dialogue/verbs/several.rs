//! Verbs about several things: one of them, or all of them in any order.

use super::{Unmet, Verb, describe, is_last, matched, skip_ending, stretch, take};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::Matcher;
use crate::dialogue::search::{Found, Stretch};

/// One of several, whichever comes first.
pub(crate) struct Any<'m>(Vec<(Matcher<'m>, u64)>);

impl<'m> Any<'m> {
    pub(crate) fn new(matchers: Vec<Matcher<'m>>) -> Any<'m> {
        Any(matchers.into_iter().map(|m| (m, 0)).collect())
    }
}

fn listed<'m>(matchers: impl Iterator<Item = &'m Matcher<'m>>, and: &str) -> String {
    matchers.map(ToString::to_string).collect::<Vec<_>>().join(and)
}

fn problem_of_any<'m>(mut matchers: impl Iterator<Item = &'m Matcher<'m>>) -> Option<String> {
    let first = matchers.next();
    match first {
        None => Some("there is nothing to expect".to_owned()),
        Some(first) => std::iter::once(first).chain(matchers).find_map(Matcher::problem),
    }
}

/// The earliest place, and whose it is.
fn earliest<'a, 'm: 'a>(
    stretch: Stretch<'_>,
    matchers: impl Iterator<Item = (usize, &'a mut Matcher<'m>, &'a mut u64)>,
) -> Option<(usize, Found)> {
    let places = matchers.filter_map(|(i, matcher, searched)| Some((i, matcher.seek(stretch, searched)?)));
    places.min_by_key(|(i, found)| (found.text.start, *i))
}

impl Verb for Any<'_> {
    type Answer = (usize, Match);

    fn name(&self) -> &'static str {
        "expect any"
    }
    fn object(&self, _channel: Channel) -> String {
        listed(self.0.iter().map(|(m, _)| m), "` or `")
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        self.0.iter().enumerate().map(|(i, (m, _))| (if i == 0 { "expected" } else { "or" }, describe(m))).collect()
    }
    fn problem(&self) -> Option<String> {
        problem_of_any(self.0.iter().map(|(m, _)| m))
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<(usize, Match), Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        let matchers = self.0.iter_mut().enumerate().map(|(i, (m, searched))| (i, m, searched));
        let (i, found) = earliest(stretch(stream, last), matchers)?;
        Some(Ok((i, take(stream, found))))
    }
    fn note(answer: &(usize, Match)) -> &str {
        answer.1.text()
    }
}

/// All of several, in any order, each at a place of its own.
pub(crate) struct Unordered<'m> {
    wanted: Vec<Wanted<'m>>,
    /// Where the last place ended.
    end: u64,
    mid_line: bool,
}

struct Wanted<'m> {
    matcher: Matcher<'m>,
    searched: u64,
    found: Option<Match>,
}

impl<'m> Unordered<'m> {
    pub(crate) fn new(matchers: Vec<Matcher<'m>>) -> Unordered<'m> {
        let wanted = matchers.into_iter().map(|matcher| Wanted { matcher, searched: 0, found: None }).collect();
        Unordered { wanted, end: 0, mid_line: false }
    }
}

impl Verb for Unordered<'_> {
    type Answer = Vec<Match>;

    fn name(&self) -> &'static str {
        "expect unordered"
    }
    fn object(&self, _channel: Channel) -> String {
        listed(self.wanted.iter().map(|w| &w.matcher), "` and `")
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        let row = |w: &Wanted<'_>| (if w.found.is_some() { "found" } else { "missing" }, describe(&w.matcher));
        self.wanted.iter().map(row).collect()
    }
    fn problem(&self) -> Option<String> {
        problem_of_any(self.wanted.iter().map(|w| &w.matcher))
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Vec<Match>, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        skip_ending(stream, last);
        loop {
            let missing = self.wanted.iter_mut().enumerate().filter(|(_, w)| w.found.is_none());
            let matchers = missing.map(|(i, w)| (i, &mut w.matcher, &mut w.searched));
            let stretch = stretch(stream, last);
            let Some((i, found)) = earliest(stretch, matchers) else { break };
            self.wanted[i].found = Some(matched(stream, &found));
            self.end = stretch.position(found.end);
            self.mid_line = found.mid_line;
            for wanted in &mut self.wanted {
                wanted.searched = wanted.searched.max(self.end);
            }
        }
        if self.wanted.iter().any(|w| w.found.is_none()) {
            return None;
        }
        let end = usize::try_from(self.end.saturating_sub(stream.window.offset())).unwrap_or(usize::MAX);
        stream.window.consume(end);
        stream.mid_line = self.mid_line;
        Some(Ok(self.wanted.iter_mut().filter_map(|w| w.found.take()).collect()))
    }
}
