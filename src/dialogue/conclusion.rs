//! What the leak check is told about the end of a helper, if it wants to know.
//!
//! Usually that is when the news of the end are heard. What is still alive when the process ends is looked at once more.

use std::time::{Duration, Instant};

use super::conversation::{Conversation, State};
use crate::sys::AsFd;
use crate::sys::fds::{Until, poll};

/// How long the state is asked for: usually it is locked for microseconds, and a slow matcher is not waited for.
const PATIENCE: Duration = Duration::from_millis(1);

impl State {
    /// Tells what is known now, unless that was done.
    pub(super) fn note_end(&mut self) {
        if let Some(ticket) = self.life.ticket.take() {
            ticket.ended(&self.life, &self.transcript);
        }
    }
}

impl Conversation {
    /// Hears what has happened already, before the process ends all that lives: a helper that has ended by itself was not
    /// ended by a hook.
    ///
    /// Takes nothing for long: a test may be in the middle of anything.
    pub(crate) fn hear_before_the_end(&self) {
        if let Some(mut state) = self.ask_for_state().filter(|state| !state.is_led()) {
            self.hear(&mut state, Instant::now());
        }
    }

    /// Tells what became of the helper, now that the process has ended all that lived. Whoever had to do that may take until
    /// the deadline to say how it went; whoever waits for it in a test hears nothing any more.
    pub(crate) fn note_end(&self, deadline: Instant) {
        if let Some(mut state) = self.ask_for_state() {
            self.hear(&mut state, deadline);
            state.note_end();
        }
    }

    fn ask_for_state(&self) -> Option<super::conversation::Locked<'_>> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_lock() {
                None if Instant::now() < until => std::thread::yield_now(),
                other => return other.filter(|state| state.life.ticket.is_some()),
            }
        }
    }

    fn hear(&self, state: &mut State, deadline: Instant) {
        while let Some(source) = state.life.source() {
            // Without a guardian, its exit is the last that is heard.
            let deadline = if state.life.exited.is_some() { Instant::now() } else { deadline };
            if !matches!(poll([Some((source.as_fd(), Until::Readable))], Some(deadline)), Ok([true])) {
                break;
            }
            state.take_in([false, false, true]);
        }
    }
}
