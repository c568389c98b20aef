//! The verbs with which a fixture talks and listens, with its usual time limit.

use std::panic::Location;
use std::time::Duration;

use crate::dialogue::channel::{Input, Output};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, IntoMatchers};
use crate::error::Result;
use crate::fixture::Fixture;

impl Fixture {
    /// A handle on the helper's standard input, for other threads.
    #[must_use]
    pub fn input(&self) -> Input {
        self.usual().input()
    }

    /// A handle on the helper's standard output, for other threads. The same as [`stdout`](Fixture::stdout).
    #[must_use]
    pub fn output(&self) -> Output {
        self.usual().stdout()
    }

    /// The helper's standard output.
    #[must_use]
    pub fn stdout(&self) -> Output {
        self.usual().stdout()
    }

    /// The helper's standard error, with the same verbs: `fx.stderr().expect("warning")`.
    #[must_use]
    pub fn stderr(&self) -> Output {
        self.usual().stderr()
    }

    /// Sends bytes to the helper's standard input.
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        self.usual().send(bytes)
    }

    /// Sends text and a line ending.
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Result {
        self.usual().send_line(line)
    }

    /// Gives the helper the end of its input. Without effect if it has it already.
    ///
    /// On a [terminal](crate::FixtureBuilder::pty) it is a character, as for a person at the keyboard: the one that the
    /// terminal has for it (Ctrl-D), twice if a line has been begun and the terminal collects lines. It ends one read, so
    /// each call sends it again. A helper that is about to change the modes of the terminal may miss it, as it may miss
    /// what a hasty person types: wait for its prompt first.
    ///
    /// # Errors
    ///
    /// For a pipe none; for a terminal those of [`Input::send`].
    #[track_caller]
    pub fn send_eof(&self) -> Result {
        self.usual().input().send_eof_from(Location::caller())
    }

    /// Waits for the first later place on standard output that matches; see [`Output::expect`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().expect(matcher)
    }

    /// Waits for the next line on standard output, which has to match; see [`Output::expect_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_line`].
    #[track_caller]
    pub fn expect_line<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().expect_line(matcher)
    }

    /// Waits for a prompt on standard output; see [`Output::expect_prompt`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_prompt`].
    #[track_caller]
    pub fn expect_prompt<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().expect_prompt(matcher)
    }

    /// Waits for one of several on standard output; see [`Output::expect_any`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_any`].
    #[track_caller]
    pub fn expect_any<K>(&self, matchers: impl IntoMatchers<K>) -> Result<(usize, Match)> {
        self.usual().expect_any(matchers)
    }

    /// Waits for all of several on standard output, in any order; see [`Output::expect_unordered`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_unordered`].
    #[track_caller]
    pub fn expect_unordered<K>(&self, matchers: impl IntoMatchers<K>) -> Result<Vec<Match>> {
        self.usual().expect_unordered(matchers)
    }

    /// Nothing comes on standard output for this long; see [`Output::expect_silence`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_silence`].
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) -> Result {
        self.stdout().expect_silence(duration)
    }

    /// Nothing like this is unread on standard output; see [`Output::expect_none`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_none`].
    #[track_caller]
    pub fn expect_none<K>(&self, matcher: impl IntoMatcher<K>) -> Result {
        self.usual().expect_none(matcher)
    }

    /// Takes the first line that matches out of standard output, and leaves those before it; see [`Output::select`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::select`].
    #[track_caller]
    pub fn select<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().select(matcher)
    }

    /// Sends a line, and waits for the first later place on standard output that matches.
    ///
    /// What had arrived before the question is no answer to it: it is passed over, and [`Match::skipped`] has it.
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`] and of [`Output::expect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("sh").args(["-c", "while read a b; do echo $((a + b)); done"]).spawn()?;
    /// fx.ask("2 2", "4")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn ask<K>(&self, line: &str, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().ask(line, matcher)
    }

    /// Sends a line, such as a password, that no transcript and no report ever shows; see [`Input::send_secret`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_secret(&self, secret: &str) -> Result {
        self.usual().send_secret(secret)
    }

    /// Waits for the end of standard output; what had not been consumed.
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_eof`].
    #[track_caller]
    pub fn expect_eof(&self) -> Result<String> {
        self.usual().expect_eof()
    }
}
