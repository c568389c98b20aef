//! A dialogue played for what the program says now: only what is sent matters, and after each message the program gets time.

use std::time::{Duration, Instant};

use super::check::Block;
use super::syntax::{Entry, Status, Want};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::search::Captures;
use crate::dialogue::verbs::is_last;
use crate::error::{ErrorKind, Result};
use crate::fixture::Fixture;
use crate::report::seconds;
use crate::settings::scaled;

/// A program that was silent for this long has said what it had to say.
const QUIET: Duration = Duration::from_millis(250);

/// The same for one that has said less than the file has.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line as it was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Printed {
    pub(super) text: Vec<u8>,
    /// It has a line ending.
    pub(super) ended: bool,
}

/// From one message to the next.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The line that begins it: a command, or something that is sent.
    pub(super) head: usize,
    /// What the file expects on each stream: the lines' numbers.
    pub(super) wants: [Vec<usize>; 2],
    /// What the program has said.
    pub(super) printed: [Vec<Printed>; 2],
    /// Nothing is sent after it.
    pub(super) last: bool,
}

impl Block<'_> {
    pub(super) fn want(&self, line: usize) -> Option<&Want> {
        match &self.lines[line].entry {
            Entry::Out(want) | Entry::Err(want) => Some(want),
            _ => None,
        }
    }

    fn turns(&self) -> Vec<Turn> {
        let mut turns: Vec<Turn> = Vec::new();
        for (i, entry) in self.entries() {
            match entry {
                Entry::Command(_) | Entry::Send(..) | Entry::SendEof => turns.push(Turn { head: i, ..Turn::default() }),
                Entry::Out(_) => turns.iter_mut().last().into_iter().for_each(|t| t.wants[0].push(i)),
                Entry::Err(_) => turns.iter_mut().last().into_iter().for_each(|t| t.wants[1].push(i)),
                Entry::Nothing | Entry::Status(_) => {}
            }
        }
        turns
    }

    /// Plays all turns; how it ended. `values_after` gets each turn, and says what its lines capture.
    ///
    /// # Errors
    ///
    /// When something cannot be sent any more, or when it does not end.
    pub(super) fn replay(
        &self,
        values: &mut Captures,
        mut values_after: impl FnMut(&Turn, &mut Captures),
    ) -> Result<Status> {
        let fx = self.spawn(values)?;
        let input_end = self.input_end();
        for mut turn in self.turns() {
            if let Entry::Send(text, ending) = &self.lines[turn.head].entry {
                self.send(&fx, turn.head, text, ending, values)?;
            }
            turn.last = turn.head == input_end;
            if turn.last {
                fx.conversation.close_stdin();
            }
            // Turns without messages after the end of the input do not exist: a message ends it at the earliest.
            self.listen(&fx, &mut turn)?;
            values_after(&turn, values);
        }
        let ended = fx.usual().expect_exit_at(self.at).map_err(|e| self.located(e, self.last_line(), None))?;
        Ok(super::check::status_of(ended))
    }

    /// Takes in what the program says, until it is silent, or to its end.
    fn listen(&self, fx: &Fixture, turn: &mut Turn) -> Result {
        let wanted = turn
            .wants
            .each_ref()
            .map(|wants| wants.iter().filter(|i| !matches!(self.want(**i), Some(Want::Rest))).count());
        let mut said: [Vec<u8>; 2] = Default::default();
        let began = Instant::now();
        let to_the_end = turn.last;
        let mut rest = false;
        while !rest {
            let less = said.iter().zip(wanted).any(|(said, wanted)| pieces(said).count() < wanted);
            let quiet = scaled(if less { PATIENCE } else { QUIET });
            let limit = began.checked_add(fx.limit());
            let deadline = if to_the_end { limit } else { Instant::now().checked_add(quiet).min(limit).or(limit) };
            let heard = fx.conversation.wait(deadline, |state| take(state, &mut said, to_the_end));
            rest = heard != Some(false);
            let late = limit.is_some_and(|limit| Instant::now() >= limit);
            if late && (heard.is_none() == to_the_end || heard == Some(false)) {
                let why = match to_the_end {
                    true => format!("it has not ended within {}, though its input has", seconds(fx.limit())),
                    false => format!("it has not come to rest within {}", seconds(fx.limit())),
                };
                let help = "a program is blessed when it is silent after each message and ends with its input";
                let error = fx.fail_with(ErrorKind::Timeout, "bless", self.at, &why, help);
                return Err(self.located(error, turn.head, None));
            }
        }
        turn.printed = said.each_ref().map(|said| pieces(said).collect());
        Ok(())
    }
}

/// Takes what is there: `true` at the end of everything, `false` if there was something new.
fn take(state: &mut State, said: &mut [Vec<u8>; 2], to_the_end: bool) -> Option<bool> {
    let mut new = false;
    for (channel, said) in [Channel::Stdout, Channel::Stderr].into_iter().zip(said) {
        let window = &mut state.stream(channel).window;
        new |= !window.unread().is_empty();
        said.extend_from_slice(window.unread());
        window.consume(window.unread().len());
    }
    if is_last(state, Channel::Stdout) && is_last(state, Channel::Stderr) {
        return Some(true);
    }
    (new && !to_the_end).then_some(false)
}

fn pieces(said: &[u8]) -> impl Iterator<Item = Printed> + '_ {
    said.split_inclusive(|b| *b == b'\n').map(|line| match line.strip_suffix(b"\n") {
        Some(text) => Printed { text: text.strip_suffix(b"\r").unwrap_or(text).to_vec(), ended: true },
        None => Printed { text: line.to_vec(), ended: false },
    })
}
