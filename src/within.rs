//! The verbs of a fixture with a time limit of their own.

use std::panic::Location;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::dialogue::channel::{Input, Output};
use crate::dialogue::conversation::Channel;
use crate::dialogue::expect::deadline;
use crate::dialogue::matcher::{IntoMatcher, Match};
use crate::error::Result;
use crate::fixture::Fixture;

/// The verbs of a [`Fixture`] with another time limit; see [`Fixture::within`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Within<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) limit: Duration,
}

impl Within<'_> {
    /// See [`Fixture::input`].
    #[must_use]
    pub fn input(&self) -> Input {
        Input { conversation: Arc::clone(&self.fixture.conversation), limit: self.limit }
    }

    /// See [`Fixture::stdout`].
    #[must_use]
    pub fn stdout(&self) -> Output {
        self.stream(Channel::Stdout)
    }

    /// See [`Fixture::stderr`].
    #[must_use]
    pub fn stderr(&self) -> Output {
        self.stream(Channel::Stderr)
    }

    fn stream(&self, channel: Channel) -> Output {
        Output { conversation: Arc::clone(&self.fixture.conversation), channel, limit: self.limit }
    }

    /// See [`Fixture::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        self.input().send_from(bytes.as_ref(), Location::caller())
    }

    /// See [`Fixture::send_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Result {
        self.input().send_line(line)
    }

    /// See [`Fixture::expect`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.stdout().expect(matcher)
    }

    /// See [`Fixture::expect_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_line`].
    #[track_caller]
    pub fn expect_line<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.stdout().expect_line(matcher)
    }

    /// See [`Fixture::expect_eof`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_eof`].
    #[track_caller]
    pub fn expect_eof(&self) -> Result<String> {
        self.stdout().expect_eof()
    }

    /// See [`Fixture::expect_exit`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::expect_exit`].
    #[track_caller]
    pub fn expect_exit(&self) -> Result<ExitStatus> {
        let at = Location::caller();
        let ended = self.fixture.conversation.wait(deadline(self.limit), |state| {
            let exit = state.life.exited.as_ref().map(|e| Ok(e.status));
            exit.or_else(|| state.life.lost.clone().map(Err))
        });
        self.fixture.exit_of(ended, self.limit, "expect", at)
    }

    /// See [`Fixture::wait`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::expect_exit`].
    #[track_caller]
    pub fn wait(&self) -> Result<ExitStatus> {
        self.fixture.conversation.close_stdin();
        self.expect_exit()
    }
}
