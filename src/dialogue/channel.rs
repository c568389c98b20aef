//! `Input` and `Output`: a helper's streams as channel handles, for threads that are not the test's.

use std::panic::Location;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::conversation::{Channel, Conversation};
use super::expect::{EXIT_NEWS, Wait, deadline};
use super::matcher::{IntoMatcher, Match};
use super::stdin::SendError;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Attempt, seconds};
use crate::settings;
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

    /// Sends this text and a line ending (`\n`), in one piece.
    ///
    /// # Errors
    ///
    /// As [`send`](Input::send).
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Result {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.send_from(&bytes, Location::caller())
    }

    /// Gives the helper the end of its input. Without effect if it has it already.
    ///
    /// The helper sees the end once no process holds the writing end any more: a program that the *test process* has
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
            SendError::Closed => (ErrorKind::InputClosed, "its input is closed already".to_owned()),
            SendError::Io(e) => (ErrorKind::Io, e.to_string()),
        };
        let shown = &bytes[..bytes.len().min(SHOWN)];
        let dots = if shown.len() < bytes.len() { "..." } else { "" };
        let object = format!("{}{dots}", Visible(shown));
        // The last words of a helper that has gone say why.
        let attempt = Attempt { verb: "send", object, at };
        let failure = report::failure(kind, &self.conversation.subject, &state, &attempt, &why, &[], None);
        Err(match error {
            SendError::Io(e) => failure.with_source(e),
            _ => failure,
        })
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
}

impl Output {
    /// The same handle with another time limit for each call.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Output {
        Output { limit: settings::scaled(limit), ..self.clone() }
    }

    /// Waits for the first later place that matches, and consumes everything up to its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`]; [`ErrorKind::Exited`] or [`ErrorKind::Eof`] as soon as it can never come any more.
    /// Nothing is consumed then.
    #[track_caller]
    pub fn expect<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).expect(matcher.into_matcher())
    }

    /// Waits for the next line, which has to match, and consumes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] if it is another line, and those of [`expect`](Output::expect). Nothing is consumed then.
    #[track_caller]
    pub fn expect_line<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.wait(Location::caller()).expect_line(matcher.into_matcher())
    }

    /// Waits for the end of the stream; what had not been consumed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], also when the helper has ended but something that it started holds the stream open.
    #[track_caller]
    pub fn expect_eof(&self) -> Result<String> {
        let rest = self.wait(Location::caller()).expect_eof()?;
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }

    /// Waits for the next line, without its ending.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Output::expect).
    #[track_caller]
    pub fn recv(&self) -> Result<String> {
        Ok(self.wait(Location::caller()).next_line()?.text)
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
        Some(self.wait(Location::caller()).try_next_line()?.text)
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
        match self.output.wait(self.at).next_line() {
            Err(e) if ended(&e) => None,
            other => Some(other.map(|line| line.text)),
        }
    }
}

fn ended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Eof | ErrorKind::Exited)
}
