//! How an expectation waits: when it is asked again, when it gives up, and in whose words it fails.
//!
//! A match wins over everything but a [line that must not come](super::watch): over the end of the stream, the helper's
//! exit, and the deadline. An expectation that fails consumes nothing.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conversation::{Channel, Conversation, State};
use super::explain;
use super::verbs::{Unmet, Verb};
use crate::error::{Error, ErrorKind};
use crate::report::{self, Attempt};

/// How long a stream that has ended may wait for the news of its helper's end, so that a report can say how it ended.
pub(crate) const EXIT_NEWS: Duration = Duration::from_millis(250);

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
pub(crate) enum End {
    /// The stream has ended, or the helper has, or there will be no news of it.
    Over,
    TimedOut,
    Unmet(Unmet),
    /// The helper said what it must not say.
    Tripped,
}

/// How far a verb's wait has come.
#[derive(Debug)]
pub(crate) struct Progress {
    limit: Option<Instant>,
    /// The stream has ended, or the helper and all of its tree; until when the other may still come.
    give_up: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(limit: Duration) -> Progress {
        Progress { limit: deadline(limit), give_up: None }
    }

    /// When it has to be asked again, even if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.give_up, self.limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Looks at what has arrived. `Err(None)`: the deadline has changed.
    pub(crate) fn check<V: Verb>(
        &mut self,
        verb: &mut V,
        state: &mut State,
        channel: Channel,
    ) -> Option<Result<V::Answer, Option<End>>> {
        if state.tripped.is_some() {
            return Some(Err(Some(End::Tripped)));
        }
        if let Some(answer) = verb.look(state, channel) {
            return Some(answer.map_err(|unmet| Some(End::Unmet(unmet))));
        }
        let eof = state.stream_ref(channel).is_eof();
        let exited = state.life.exited.is_some() || state.life.is_over();
        let over = if V::ENDS_WITH_HELPER { exited } else { eof };
        if over {
            return Some(self.end(verb, state, channel, End::Over));
        }
        if (eof || state.life.is_over()) && self.give_up.is_none() {
            // The end of the stream comes a moment before the news of how the helper ended. Or a moment after it: what the
            // test process starts by itself has a copy of every descriptor between fork and exec.
            self.give_up = Some(Instant::now() + EXIT_NEWS);
            return Some(Err(None));
        }
        None
    }

    /// The deadline has passed.
    pub(crate) fn late<V: Verb>(
        &mut self,
        verb: &mut V,
        state: &mut State,
        channel: Channel,
    ) -> Result<V::Answer, End> {
        let end = if self.give_up.is_some() { End::Over } else { End::TimedOut };
        self.end(verb, state, channel, end).map_err(|end| end.unwrap_or(End::TimedOut))
    }

    fn end<V: Verb>(
        &mut self,
        verb: &mut V,
        state: &mut State,
        channel: Channel,
        end: End,
    ) -> Result<V::Answer, Option<End>> {
        match verb.without_more(state, channel) {
            Some(answer) => answer.map_err(|unmet| Some(End::Unmet(unmet))),
            None => Err(Some(end)),
        }
    }
}

impl Wait<'_> {
    /// Waits until the verb has its answer, or never will.
    pub(crate) fn run<V: Verb>(&self, mut verb: V) -> Result<V::Answer, Error> {
        if let Some(why) = verb.problem() {
            return Err(self.refuse(&verb, &why));
        }
        let mut progress = Progress::new(self.limit);
        let end = loop {
            let found = self.conversation.wait(progress.deadline(), |state| {
                let answer = progress.check(&mut verb, state, self.channel)?;
                Some(answer.inspect(|answer| self.note(state, &verb, V::note(answer))))
            });
            match self.outcome(found, &mut verb, &mut progress) {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(end)) => break end,
                None => {}
            }
        };
        Err(self.explain(&mut verb, end))
    }

    /// What a wait has come to; `None` if it goes on, with another deadline.
    pub(super) fn outcome<V: Verb>(
        &self,
        found: Option<Result<V::Answer, Option<End>>>,
        verb: &mut V,
        progress: &mut Progress,
    ) -> Option<Result<V::Answer, End>> {
        match found {
            Some(Ok(answer)) => Some(Ok(answer)),
            Some(Err(Some(end))) => Some(Err(end)),
            Some(Err(None)) => None,
            None => {
                let mut state = self.conversation.lock();
                let late = progress.late(verb, &mut state, self.channel);
                Some(late.inspect(|answer| self.note(&mut state, verb, V::note(answer))))
            }
        }
    }

    /// The transcript says what was met, and where that was asked.
    pub(crate) fn note<V: Verb>(&self, state: &mut State, verb: &V, what: &str) {
        if !verb.is_quiet() {
            state.transcript.note(verb.name(), what, self.at);
        }
    }

    /// Looks once, without waiting; `None` if the answer is not there.
    pub(crate) fn peek<V: Verb>(&self, mut verb: V) -> Option<V::Answer> {
        self.conversation.wait(Some(Instant::now()), |state| verb.look(state, self.channel))?.ok()
    }

    pub(crate) fn explain<V: Verb>(&self, verb: &mut V, end: End) -> Error {
        let mut state = self.conversation.lock();
        state.reported = true;
        let explanation = explain::of(verb, &state, self.channel, self.limit, end);
        let attempt = Attempt { verb: verb.name(), object: verb.object(self.channel), at: self.at };
        let help = explanation.help.as_deref();
        report::failure(
            explanation.kind,
            &self.conversation.subject,
            &state,
            &attempt,
            &explanation.why,
            &explanation.details,
            help,
        )
    }

    pub(crate) fn refuse<V: Verb>(&self, verb: &V, why: &str) -> Error {
        let state = self.conversation.lock();
        let attempt = Attempt { verb: verb.name(), object: verb.object(self.channel), at: self.at };
        report::failure(ErrorKind::InvalidInput, &self.conversation.subject, &state, &attempt, why, &[], None)
    }
}

/// `None` when it lies beyond what the clock can tell: then it never comes.
pub(crate) fn deadline(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}
