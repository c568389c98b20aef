//! The verbs of a fixture with a time limit of their own.

use std::panic::Location;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dialogue::channel::{Input, Output};
use crate::dialogue::conversation::Channel;
use crate::dialogue::expect::{Wait, deadline};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, IntoMatchers};
use crate::dialogue::verbs::single::Place;
use crate::ending;
use crate::error::Result;
use crate::fixture::Fixture;

/// The verbs of a [`Fixture`] with another time limit; see [`Fixture::within`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Within<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) limit: Duration,
    /// Chosen by the caller, not the fixture's usual one.
    pub(crate) chosen: bool,
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
        Output { conversation: Arc::clone(&self.fixture.conversation), channel, limit: self.limit, chosen: self.chosen }
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

    /// See [`Output::expect_prompt`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_prompt`].
    #[track_caller]
    pub fn expect_prompt<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.stdout().expect_prompt(matcher)
    }

    /// See [`Output::expect_any`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_any`].
    #[track_caller]
    pub fn expect_any<K>(&self, matchers: impl IntoMatchers<K>) -> Result<(usize, Match)> {
        self.stdout().expect_any(matchers)
    }

    /// See [`Output::expect_unordered`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_unordered`].
    #[track_caller]
    pub fn expect_unordered<K>(&self, matchers: impl IntoMatchers<K>) -> Result<Vec<Match>> {
        self.stdout().expect_unordered(matchers)
    }

    /// See [`Output::expect_none`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_none`].
    #[track_caller]
    pub fn expect_none<K>(&self, matcher: impl IntoMatcher<K>) -> Result {
        self.stdout().expect_none(matcher)
    }

    /// See [`Output::select`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::select`].
    #[track_caller]
    pub fn select<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.stdout().select(matcher)
    }

    /// See [`Fixture::ask`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::ask`].
    #[track_caller]
    pub fn ask<K>(&self, line: &str, matcher: impl IntoMatcher<K>) -> Result<Match> {
        let conversation = &self.fixture.conversation;
        // What has arrived before the question is no answer to it.
        conversation.wait(Some(Instant::now()), |_| None::<()>);
        let position = conversation.lock().stream(Channel::Stdout).arrived();
        let began = Instant::now();
        self.send_line(line)?;
        let left = self.limit.saturating_sub(began.elapsed());
        let wait = Wait { conversation, channel: Channel::Stdout, limit: left, at: Location::caller() };
        wait.run(Place::after(matcher.into_matcher(), position))
    }

    /// See [`Fixture::send_secret`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_secret(&self, secret: &str) -> Result {
        self.input().send_secret(secret)
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
        self.expect_exit_at(Location::caller())
    }

    pub(crate) fn expect_exit_at(&self, at: &'static Location<'static>) -> Result<ExitStatus> {
        let ended = self.fixture.conversation.wait(deadline(self.limit), ending::exit);
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
