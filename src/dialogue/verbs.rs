//! What can be asked of one stream: each verb looks at what has arrived, and takes what it wanted.
//!
//! A verb knows nothing about waiting: [`expect`](super::expect) asks it again whenever there is something new.

use super::conversation::{Channel, State, Stream};
use super::found::{Lossy, Match};
use super::matcher::Matcher;
use super::search::{Found, Line, Stretch};

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

fn one(matcher: &Matcher<'_>) -> Vec<(&'static str, String)> {
    vec![("expected", describe(matcher))]
}

/// Will no more of the helper's own output come? Then a line without its ending is a line.
pub(crate) fn is_last(state: &State, channel: Channel) -> bool {
    state.stream_ref(channel).is_eof() || state.life.exited.is_some()
}

fn stretch(stream: &Stream, last: bool) -> Stretch<'_> {
    Stretch { bytes: stream.window.unread(), offset: stream.window.offset(), last }
}

/// Consumes everything up to the end of what was found.
fn take(stream: &mut Stream, found: Found) -> Match {
    let mut taken = matched(stream, &found);
    taken.skipped = Lossy::new(&stream.window.unread()[..found.text.start]);
    stream.window.consume(found.end);
    stream.mid_line = found.mid_line;
    taken
}

fn matched(stream: &Stream, found: &Found) -> Match {
    Match {
        text: String::from_utf8_lossy(&stream.window.unread()[found.text.clone()]).into_owned(),
        skipped: Lossy::default(),
        partial: found.partial,
        truncated: !found.mid_line && found.text.start == 0 && stream.window.is_cut(),
        captures: found.captures.clone(),
    }
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

/// The next line. `searched` is where no line ending was found so far.
fn next_line(stream: &mut Stream, searched: &mut u64, last: bool) -> Option<Line> {
    skip_ending(stream, last);
    let stretch = stretch(stream, last);
    let line = stretch.line(0, stretch.index(*searched));
    if line.is_none() {
        *searched = stretch.position(stretch.bytes.len());
    }
    line
}

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
