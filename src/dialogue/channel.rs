//! `Input` and `Output`: a helper's streams as channel handles, for threads that are not the test's.

use std::panic::Location;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::conversation::{Channel, Conversation};
use super::expect::{EXIT_NEWS, Wait, deadline};
use super::found::Match;
use super::matcher::{IntoMatcher, IntoMatchers};
use super::stdin::SendError;
use super::verbs::absent::{Nothing, Silence};
use super::verbs::several::{Any, Unordered};
use super::verbs::single::{Eof, NextLine, Place, Prompt, Select};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Attempt, seconds};
use crate::settings;
use crate::sys::pty::LONGEST_LINE;
use crate::transcript::Visible;

/// How much of a message that could not be sent is shown.
const SHOWN: usize = 60;

/// A helper's standard input as a channel: cloneable, and usable from any thread.
///
/// Messages of several threads never mix: each is written whole before the next one begins.
/// Dropping a handle, even the last one, closes nothing; [`close`](Input::close) does.
///
/// # Examples
///
/// Several threads feed one helper:
///
/// ```
/// use foster::Fixture;
///
/// # fn main() -> foster::Result {
/// let fx = Fixture::command("cat").spawn()?;
/// std::thread::scope(|scope| {
///     for n in 0..4 {
///         let input = fx.input();
///         scope.spawn(move || input.send_line(&format!("from thread {n}")).unwrap());
///     }
/// });
/// fx.send_eof()?;
/// assert_eq!(fx.output().lines().count(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Input {
    pub(crate) conversation: Arc<Conversation>,
    pub(crate) limit: Duration,
}

impl Input {
    /// The same handle with another time limit for each message.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Input {
        Input { limit: settings::scaled(limit), ..self.clone() }
    }

    /// Sends these bytes, all of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] when the helper does not read in time: the message says how much it took.
    /// [`ErrorKind::InputClosed`] when the helper has closed its input or has ended, or [`close`](Input::close) was called.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        self.send_from(bytes.as_ref(), Location::caller())
    }

    /// Sends this text and a line ending (`\n`; what the Enter key sends, `\r`, to a [terminal](crate::FixtureBuilder::pty)),
    /// in one piece.
    ///
    /// # Errors
    ///
    /// As [`send`](Input::send).
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Result {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(self.conversation.enter());
        self.send_from(&bytes, Location::caller())
    }

    /// Gives the helper the end of its input. Without effect if it has it already.
    ///
    /// On a terminal that is a character, and more can be sent after it: see [`send_eof`](crate::Fixture::send_eof).
    /// The helper sees the end of a pipe once no process holds the writing end any more: a program that the *test process* has
    /// forked without `exec` may hold a copy.
    pub fn close(&self) {
        self.conversation.close_stdin();
    }

    /// The sending end of a `std` channel whose messages all go to the helper, for code that wants one.
    ///
    /// A thread of its own forwards them; it ends with the last clone of the sender, or when the helper takes no more.
    #[must_use]
    #[track_caller]
    pub fn into_sender(self) -> mpsc::Sender<Vec<u8>> {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let at = Location::caller();
        let forward = move || {
            while let Ok(message) = receiver.recv() {
                // Once the helper takes no more, the receiver is dropped and the next `send` tells.
                if self.send_from(&message, at).is_err() {
                    break;
                }
            }
        };
        std::thread::spawn(forward);
        sender
    }

    /// Sends a line that no transcript and no report ever shows, not even when the helper repeats it: `[secret]` stands
    /// there instead.
    ///
    /// # Errors
    ///
    /// As [`send`](Input::send).
    #[track_caller]
    pub fn send_secret(&self, secret: &str) -> Result {
        self.conversation.secrets.add(secret.as_bytes());
        self.send_from(&[secret.as_bytes(), self.conversation.enter()].concat(), Location::caller())
    }

    pub(crate) fn send_from(&self, bytes: &[u8], at: &'static Location<'static>) -> Result {
        let error = match self.conversation.send(bytes, deadline(self.limit), at) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, SendError::Broken { .. }) {
            // If it has ended, the news of it come a moment later.
            let news = Instant::now() + EXIT_NEWS;
            self.conversation.wait(Some(news), |s| (s.life.exited.is_some() || s.life.is_over()).then_some(()));
        }
        Err(self.not_sent(bytes, error, at))
    }

    /// What a message was that was not sent whole, and why.
    pub(crate) fn not_sent(&self, bytes: &[u8], error: SendError, at: &'static Location<'static>) -> Error {
        let mut state = self.conversation.lock();
        state.reported = true;
        let taken = |sent: usize| format!("{sent} of {} bytes were taken", bytes.len());
        let (kind, why) = match &error {
            SendError::TimedOut { sent } => (
                ErrorKind::Timeout,
                format!("timed out after {}: {}, the helper does not read", seconds(self.limit), taken(*sent)),
            ),
            SendError::Broken { sent } => {
                let closed = match &state.life.exited {
                    Some(exit) => format!("the helper {}", report::status(exit.status)),
                    None => "the helper has closed its input".to_owned(),
                };
                (ErrorKind::InputClosed, format!("{closed}: {}", taken(*sent)))
            }
            SendError::LongLine(length) => (
                ErrorKind::InvalidInput,
                format!("the line is {length} bytes long, and a terminal that collects lines takes {LONGEST_LINE}"),
            ),
            SendError::Closed => (ErrorKind::InputClosed, "its input is closed already".to_owned()),
            SendError::Io(e) => (ErrorKind::Io, e.to_string()),
        };
        let bytes = &state.redacted(bytes)[..];
        let shown = &bytes[..bytes.len().min(SHOWN)];
        let dots = if shown.len() < bytes.len() { "..." } else { "" };
        let object = format!("{}{dots}", Visible(shown));
        // The last words of a helper that has gone say why.
        let attempt = Attempt { verb: "send", object, at };
        let failure = report::failure(kind, &self.conversation.subject, &state, &attempt, &why, &[], None);
        match error {
            SendError::Io(e) => failure.with_source(e),
            _ => failure,
        }
    }
}

/// A helper's output stream as a channel of lines: cloneable, and usable from any thread.
///
/// All handles of one stream, and the fixture's own expectations, draw from the same queue: each line goes to one of them.
#[derive(Debug, Clone)]
pub struct Output {
    pub(crate) conversation: Arc<Conversation>,
    pub(crate) channel: Channel,
    pub(crate) limit: Duration,
    /// The limit was chosen for this handle.
    pub(crate) chosen: bool,
}

impl Output {
    /// The same handle with another time limit for each call.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Output {
        Output { limit: settings::scaled(limit), chosen: true, ..self.clone() }
    }

    /// Waits for the first later place that matches, and consumes everything up to its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`]; [`ErrorKind::Exited`] or [`ErrorKind::Eof`] as soon as it can never come any more.
    /// Nothing is consumed then.
    #[track_caller]
    pub fn expect<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).run(Place::new(matcher.into_matcher()))
    }

    /// Waits for the next line, which has to match, and consumes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] if it is another line, and those of [`expect`](Output::expect). Nothing is consumed then.
    #[track_caller]
    pub fn expect_line<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).run(NextLine::new(matcher.into_matcher()))
    }

    /// Waits until what has arrived ends with this in the middle of a line, and consumes it: a prompt.
    ///
    /// A text, a template or a pattern has to be the end of the unfinished line; a predicate or a closure is asked about all
    /// of that line. What is followed by more is no prompt.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("sh").args(["-c", "printf 'name? '; read name; echo hello $name"]).spawn()?;
    /// fx.expect_prompt("? ")?;
    /// fx.send_line("Bob")?;
    /// fx.expect_line("hello Bob")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn expect_prompt<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).run(Prompt(matcher.into_matcher()))
    }

    /// Waits for one of several, each found as [`expect`](Output::expect) finds it: its index, and what was found.
    ///
    /// Of those that have arrived, the one that begins first; of two that begin together, the first in the list.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("sh").args(["-c", "echo refused: too late"]).spawn()?;
    /// match fx.expect_any(("accepted", like("refused: {why}")))? {
    ///     (0, _) => panic!("it is never accepted"),
    ///     (_, refused) => assert_eq!(refused.get::<String>("why")?, "too late"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn expect_any<K>(&self, matchers: impl IntoMatchers<K>) -> Result<(usize, Match)> {
        self.wait(Location::caller()).run(Any::new(matchers.into_matchers()))
    }

    /// Waits for all of several, in any order and each at a place of its own; what was found, in the order of the list.
    ///
    /// Consumes everything up to the end of the last one.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect); the report says which are missing.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("printf").arg("two\\none\\nthree\\n").spawn()?;
    /// fx.expect_unordered(["one", "two"])?;
    /// fx.expect_line("three")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn expect_unordered<K>(&self, matchers: impl IntoMatchers<K>) -> Result<Vec<Match>> {
        self.wait(Location::caller()).run(Unordered::new(matchers.into_matchers()))
    }

    /// Nothing comes for this long (scaled by `FOSTER_TIMEOUT_SCALE`), and nothing is unread but the end of the line of the
    /// last match. The end of the stream is an answer at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unwanted`] as soon as something comes.
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) -> Result {
        self.within(duration).wait(Location::caller()).run(Silence)
    }

    /// Nothing like this is there: in what is unread, or, with [`within`](Output::within), in what comes until then.
    ///
    /// Consumes nothing. The end of the stream is an answer at once. What stands there without a line ending counts as a
    /// line.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unwanted`] as soon as it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("sh").args(["-c", "echo WARN: old >&2; echo ready; read never"]).spawn()?;
    /// fx.expect("ready")?;
    /// assert!(fx.stderr().expect_none("WARN").is_err());
    /// fx.stderr().expect_none("panicked at")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn expect_none<K>(&self, matcher: impl IntoMatcher<K>) -> Result {
        let wait = self.wait(Location::caller());
        let limit = if self.chosen { self.limit } else { Duration::ZERO };
        Wait { limit, ..wait }.run(Nothing::new(matcher.into_matcher()))
    }

    /// Waits for a line that matches, as a whole, and takes it out; the lines before it stay unread, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("printf").arg("event 1\\nreply 7\\nevent 2\\n").spawn()?;
    /// let reply = fx.select(like("reply {number}"))?;
    /// assert_eq!(reply.get::<u32>("number")?, 7);
    /// fx.expect_line("event 1")?;
    /// fx.expect_line("event 2")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn select<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).run(Select::new(matcher.into_matcher()))
    }

    /// Waits for the end of the stream; what had not been consumed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], also when the helper has ended but something that it started holds the stream open.
    #[track_caller]
    pub fn expect_eof(&self) -> Result<String> {
        let rest = self.wait(Location::caller()).run(Eof)?;
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }

    /// Waits for the next line, without its ending.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    #[track_caller]
    pub fn recv(&self) -> Result<String> {
        Ok(self.wait(Location::caller()).run(NextLine::any())?.text)
    }

    /// As [`recv`](Output::recv), with another time limit.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    #[track_caller]
    pub fn recv_timeout(&self, limit: Duration) -> Result<String> {
        self.within(limit).recv()
    }

    /// The next line if it is there already.
    #[must_use]
    pub fn try_recv(&self) -> Option<String> {
        Some(self.wait(Location::caller()).peek(NextLine::any())?.text)
    }

    /// All lines from now on, until the stream ends. A time-out is an item, and the iterator can be asked again after it.
    ///
    /// It ends with the stream, also when the helper has crashed: ask [`wait`](crate::Fixture::wait) how it ended.
    #[track_caller]
    pub fn lines(&self) -> Lines {
        Lines { output: self.clone(), at: Location::caller() }
    }

    /// The receiving end of a `std` channel of lines, for code that wants one.
    ///
    /// A thread of its own forwards them; it ends with the stream, or when a line comes and the receiver is gone.
    #[must_use]
    #[track_caller]
    pub fn into_receiver(self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        let all = Output { limit: Duration::MAX, ..self }.lines();
        let forward = move || {
            for line in all.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        };
        std::thread::spawn(forward);
        receiver
    }

    pub(crate) fn wait(&self, at: &'static Location<'static>) -> Wait<'_> {
        Wait { conversation: &self.conversation, channel: self.channel, limit: self.limit, at }
    }
}

impl IntoIterator for Output {
    type Item = Result<String>;
    type IntoIter = Lines;

    #[track_caller]
    fn into_iter(self) -> Lines {
        Lines { output: self, at: Location::caller() }
    }
}

/// The lines of an [`Output`]; see [`Output::lines`].
#[derive(Debug)]
pub struct Lines {
    output: Output,
    at: &'static Location<'static>,
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        match self.output.wait(self.at).run(NextLine::any()) {
            Err(e) if ended(&e) => None,
            other => Some(other.map(|line| line.text)),
        }
    }
}

fn ended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Eof | ErrorKind::Exited)
}
