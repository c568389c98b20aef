//! The verbs of `Input` and `Output` as futures.

use std::panic::Location;
use std::time::{Duration, Instant};

use super::Awaitable;
use crate::dialogue::channel::{Input, Output};
use crate::dialogue::conversation::State;
use crate::dialogue::expect::{EXIT_NEWS, deadline};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, IntoMatchers};
use crate::dialogue::outbox::Message;
use crate::dialogue::stdin::SendError;
use crate::dialogue::verbs::Verb;
use crate::dialogue::verbs::absent::{Nothing, Silence};
use crate::dialogue::verbs::several::{Any, Unordered};
use crate::dialogue::verbs::single::{Eof, NextLine, Place, Prompt, Select};

/// The verbs of an [`Input`] as futures; see [`Fixture::futures`](crate::Fixture::futures).
#[derive(Debug, Clone)]
#[must_use]
pub struct InputFutures(Input);

/// The verbs of an [`Output`] as futures; see [`Fixture::futures`](crate::Fixture::futures).
#[derive(Debug, Clone)]
#[must_use]
pub struct OutputFutures(Output);

impl Input {
    /// The same verbs as futures; see [`Fixture::futures`](crate::Fixture::futures).
    pub fn futures(&self) -> InputFutures {
        InputFutures(self.clone())
    }

    /// Sends these parts as one message.
    pub(super) fn message(self, parts: &[&[u8]], at: &'static Location<'static>) -> Awaitable<'static, ()> {
        let message = Message::new(parts.concat(), at);
        Awaitable::new(async move {
            let conversation = &self.conversation;
            let error = match conversation.send_awaited(&message, deadline(self.limit)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error, SendError::Broken { .. }) {
                // If it has ended, the news of it come a moment later.
                let news = Instant::now() + EXIT_NEWS;
                let over = |s: &mut State| (s.life.exited.is_some() || s.life.is_over()).then_some(());
                conversation.change(Some(news), over).await;
            }
            Err(self.not_sent(&message.bytes, error, at))
        })
    }
}

impl InputFutures {
    /// See [`Input::send`]. For what becomes of a message whose future is dropped see [`Awaitable`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Awaitable<'static, ()> {
        self.0.clone().message(&[bytes.as_ref()], Location::caller())
    }

    /// See [`Input::send_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Awaitable<'static, ()> {
        self.0.clone().message(&[line.as_bytes(), self.0.conversation.enter()], Location::caller())
    }

    /// See [`Input::send_secret`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_secret(&self, secret: &str) -> Awaitable<'static, ()> {
        let (input, secret, at) = (self.0.clone(), secret.to_owned(), Location::caller());
        Awaitable::new(async move {
            input.conversation.secrets.add(secret.as_bytes());
            let enter = input.conversation.enter();
            input.message(&[secret.as_bytes(), enter], at).await
        })
    }
}

impl Output {
    /// The same verbs as futures; see [`Fixture::futures`](crate::Fixture::futures).
    pub fn futures(&self) -> OutputFutures {
        OutputFutures(self.clone())
    }

    /// Runs this verb when it is polled.
    fn awaited<'m, V: Verb + 'm>(self, verb: V, at: &'static Location<'static>) -> Awaitable<'m, V::Answer> {
        Awaitable::new(async move { self.wait(at).run_awaited(verb).await })
    }
}

impl OutputFutures {
    fn run<'m, V: Verb + 'm>(&self, verb: V, at: &'static Location<'static>) -> Awaitable<'m, V::Answer> {
        self.0.clone().awaited(verb, at)
    }

    /// See [`Output::expect`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.run(Place::new(matcher.into_matcher()), Location::caller())
    }

    /// See [`Output::expect_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_line`].
    #[track_caller]
    pub fn expect_line<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.run(NextLine::new(matcher.into_matcher()), Location::caller())
    }

    /// See [`Output::expect_prompt`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect_prompt<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.run(Prompt(matcher.into_matcher()), Location::caller())
    }

    /// See [`Output::expect_any`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect_any<'m, K>(&self, matchers: impl IntoMatchers<K> + 'm) -> Awaitable<'m, (usize, Match)> {
        self.run(Any::new(matchers.into_matchers()), Location::caller())
    }

    /// See [`Output::expect_unordered`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect_unordered<'m, K>(&self, matchers: impl IntoMatchers<K> + 'm) -> Awaitable<'m, Vec<Match>> {
        self.run(Unordered::new(matchers.into_matchers()), Location::caller())
    }

    /// See [`Output::expect_silence`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_silence`].
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) -> Awaitable<'static, ()> {
        self.0.within(duration).awaited(Silence, Location::caller())
    }

    /// See [`Output::expect_none`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_none`].
    #[track_caller]
    pub fn expect_none<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, ()> {
        let limit = if self.0.chosen { self.0.limit } else { Duration::ZERO };
        Output { limit, ..self.0.clone() }.awaited(Nothing::new(matcher.into_matcher()), Location::caller())
    }

    /// See [`Output::select`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn select<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.run(Select::new(matcher.into_matcher()), Location::caller())
    }

    /// See [`Output::expect_eof`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_eof`].
    #[track_caller]
    pub fn expect_eof(&self) -> Awaitable<'static, String> {
        let rest = self.run(Eof, Location::caller());
        Awaitable::new(async move { Ok(String::from_utf8_lossy(&rest.await?).into_owned()) })
    }

    /// See [`Output::recv`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn recv(&self) -> Awaitable<'static, String> {
        let line = self.run(NextLine::any(), Location::caller());
        Awaitable::new(async move { Ok(line.await?.text) })
    }
}
