//! The verbs as futures, for tests that are tasks: awaitable on any executor, with the same names, limits and errors.

mod channel;

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use channel::{InputFutures, OutputFutures};

use crate::builder::FixtureBuilder;
use crate::dialogue::awaiting::How;
use crate::dialogue::conversation::Channel;
use crate::dialogue::expect::{Wait, deadline};
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, IntoMatchers};
use crate::dialogue::verbs::single::Place;
use crate::ending;
use crate::error::Result;
use crate::finished::Finished;
use crate::fixture::Fixture;
use crate::stop::Stopped;
use crate::within::Within;

/// What the verbs of [`Fixture::futures`] return: a future for any executor.
///
/// Nothing happens before it is polled, and its time limit begins with the first poll.
/// It needs no runtime: the thread that reads for those on whom nobody waits wakes it.
///
/// # Cancel safety
///
/// An expectation that is dropped has consumed nothing: the next one finds everything that it would have found.
/// So `select!` and time limits of the runtime's own are safe, again and again in a loop.
///
/// A message that is dropped before its turn has come, behind another one, is not sent. One that has begun is sent whole all
/// the same, as soon as the helper reads, and before every other message.
///
/// What ends a helper goes on when it is dropped: only the wait for it ends.
///
/// # Panics
///
/// When it is polled after it was ready, as any `async` block.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Awaitable<'a, T>(Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>);

impl<'a, T> Awaitable<'a, T> {
    pub(crate) fn new(work: impl Future<Output = Result<T>> + Send + 'a) -> Awaitable<'a, T> {
        Awaitable(Box::pin(work))
    }
}

impl<T> Future for Awaitable<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Awaitable<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaitable").finish_non_exhaustive()
    }
}

/// The verbs of a [`Fixture`] as futures; see [`Fixture::futures`].
///
/// What does not wait has no future: [`send_eof`](Fixture::send_eof), [`signal`](Fixture::signal),
/// [`terminate`](Fixture::terminate), [`transcript`](Fixture::transcript).
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct FixtureFutures<'a>(Within<'a>);

impl Fixture {
    /// The same verbs as futures, for any executor: tokio, smol, pollster, one of your own.
    ///
    /// Those of one stream, and messages, do not borrow the fixture: they can be given to a task. Threads and tasks can wait
    /// on one fixture at the same time.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// # pollster::block_on(async {
    /// let fx = foster::Fixture::command("sh").args(["-c", "echo ready; read name; echo hello $name"]).spawn()?;
    /// fx.futures().expect("ready").await?;
    /// fx.futures().send_line("Bob").await?;
    /// fx.futures().expect_line("hello Bob").await?;
    /// assert!(fx.futures().expect_exit().await?.success());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn futures(&self) -> FixtureFutures<'_> {
        FixtureFutures(self.usual())
    }

    /// As [`finish`](Fixture::finish), for a task.
    ///
    /// Dropped before it is ready, it stops the helper as [`stop`](Fixture::stop) does.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Fixture::finish).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// # pollster::block_on(async {
    /// let fx = foster::Fixture::command("echo").arg("done").spawn_async().await?;
    /// fx.finish_async().await?.assert().success().stdout("done\n");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[track_caller]
    pub fn finish_async(self) -> Awaitable<'static, Finished> {
        Awaitable::new(self.finish_in(How::Awaiting, Location::caller()))
    }

    /// As [`restart`](Fixture::restart), for a task.
    ///
    /// Dropped before it is ready, it leaves the helper stopped, or started and not yet ready.
    ///
    /// # Errors
    ///
    /// Those of [`restart`](Fixture::restart).
    #[track_caller]
    pub fn restart_async(&mut self) -> Awaitable<'_, ()> {
        Awaitable::new(self.start_again(How::Awaiting, Location::caller()))
    }
}

impl FixtureBuilder {
    /// As [`spawn`](FixtureBuilder::spawn), for a task: awaits that the helper is [ready](FixtureBuilder::ready).
    ///
    /// The start itself takes less than a millisecond of the thread that polls. Dropped before it is ready, it ends the helper.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](FixtureBuilder::spawn).
    ///
    /// # Platforms
    ///
    /// Linux.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// # pollster::block_on(async {
    /// let server = Fixture::command("sh").args(["-c", "echo listening on 127.0.0.1:4711; read never"]);
    /// let fx = server.ready(Ready::line(like("listening on {addr}"))).spawn_async().await?;
    /// assert_eq!(fx.capture::<String>("addr")?, "127.0.0.1:4711");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_async(self) -> Awaitable<'static, Fixture> {
        Awaitable::new(self.spawn_in(How::Awaiting, Location::caller()))
    }
}

impl<'a> Within<'a> {
    /// The same verbs as futures, with this time limit; see [`Fixture::futures`].
    pub fn futures(&self) -> FixtureFutures<'a> {
        FixtureFutures(*self)
    }
}

impl<'a> FixtureFutures<'a> {
    /// See [`Fixture::input`].
    pub fn input(&self) -> InputFutures {
        self.0.input().futures()
    }

    /// See [`Fixture::stdout`].
    pub fn stdout(&self) -> OutputFutures {
        self.0.stdout().futures()
    }

    /// See [`Fixture::stderr`].
    pub fn stderr(&self) -> OutputFutures {
        self.0.stderr().futures()
    }

    /// See [`Fixture::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`](crate::Input::send).
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Awaitable<'static, ()> {
        self.input().send(bytes)
    }

    /// See [`Fixture::send_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`](crate::Input::send).
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Awaitable<'static, ()> {
        self.input().send_line(line)
    }

    /// See [`Fixture::send_secret`].
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`](crate::Input::send).
    #[track_caller]
    pub fn send_secret(&self, secret: &str) -> Awaitable<'static, ()> {
        self.input().send_secret(secret)
    }

    /// See [`Fixture::expect`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`](crate::Output::expect).
    #[track_caller]
    pub fn expect<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.stdout().expect(matcher)
    }

    /// See [`Fixture::expect_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_line`](crate::Output::expect_line).
    #[track_caller]
    pub fn expect_line<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.stdout().expect_line(matcher)
    }

    /// See [`Fixture::expect_prompt`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`](crate::Output::expect).
    #[track_caller]
    pub fn expect_prompt<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.stdout().expect_prompt(matcher)
    }

    /// See [`Fixture::expect_any`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`](crate::Output::expect).
    #[track_caller]
    pub fn expect_any<'m, K>(&self, matchers: impl IntoMatchers<K> + 'm) -> Awaitable<'m, (usize, Match)> {
        self.stdout().expect_any(matchers)
    }

    /// See [`Fixture::expect_unordered`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`](crate::Output::expect).
    #[track_caller]
    pub fn expect_unordered<'m, K>(&self, matchers: impl IntoMatchers<K> + 'm) -> Awaitable<'m, Vec<Match>> {
        self.stdout().expect_unordered(matchers)
    }

    /// See [`Fixture::expect_silence`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_silence`](crate::Output::expect_silence).
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) -> Awaitable<'static, ()> {
        self.stdout().expect_silence(duration)
    }

    /// See [`Fixture::expect_none`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_none`](crate::Output::expect_none).
    #[track_caller]
    pub fn expect_none<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, ()> {
        self.stdout().expect_none(matcher)
    }

    /// See [`Fixture::select`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`](crate::Output::expect).
    #[track_caller]
    pub fn select<'m, K>(&self, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        self.stdout().select(matcher)
    }

    /// See [`Fixture::ask`]. Dropped before it is ready, it may have asked, and has consumed nothing of the answer.
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::ask`].
    #[track_caller]
    pub fn ask<'m, K>(&self, line: &str, matcher: impl IntoMatcher<K> + 'm) -> Awaitable<'m, Match> {
        let at = Location::caller();
        let enter = self.0.fixture.conversation.enter();
        let (output, question) = (self.0.stdout(), self.0.input().message(&[line.as_bytes(), enter], at));
        let matcher = matcher.into_matcher();
        Awaitable::new(async move {
            let conversation = &output.conversation;
            // What has arrived before the question is no answer to it.
            conversation.wait(Some(Instant::now()), |_| None::<()>);
            let position = conversation.lock().stream(Channel::Stdout).arrived();
            let began = Instant::now();
            question.await?;
            let limit = output.limit.saturating_sub(began.elapsed());
            Wait { limit, ..output.wait(at) }.run_awaited(Place::after(matcher, position)).await
        })
    }

    /// See [`Fixture::expect_eof`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_eof`](crate::Output::expect_eof).
    #[track_caller]
    pub fn expect_eof(&self) -> Awaitable<'static, String> {
        self.stdout().expect_eof()
    }

    /// See [`Fixture::expect_exit`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::expect_exit`].
    #[track_caller]
    pub fn expect_exit(&self) -> Awaitable<'a, ExitStatus> {
        let (Within { fixture, limit, .. }, at) = (self.0, Location::caller());
        Awaitable::new(async move {
            let ended = fixture.conversation.change(deadline(limit), ending::exit).await;
            fixture.exit_of(ended, limit, "expect", at)
        })
    }

    /// See [`Fixture::wait`]. The helper's input ends with the first poll.
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::expect_exit`].
    #[track_caller]
    pub fn wait(&self) -> Awaitable<'a, ExitStatus> {
        let (fixture, exit) = (self.0.fixture, self.expect_exit());
        Awaitable::new(async move {
            fixture.conversation.close_stdin();
            exit.await
        })
    }

    /// See [`Fixture::kill`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::kill`].
    #[track_caller]
    pub fn kill(&self) -> Awaitable<'a, ()> {
        Awaitable::new(self.0.fixture.kill_in(How::Awaiting, Location::caller()))
    }

    /// See [`Fixture::stop`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::kill`].
    #[track_caller]
    pub fn stop(&self) -> Awaitable<'a, Stopped> {
        Awaitable::new(self.0.fixture.stop_in(How::Awaiting, Location::caller()))
    }
}
