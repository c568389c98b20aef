//! Messages that futures send: each whole, or not at all as long as the helper lives and reads.
//!
//! A message belongs to the input from the moment when its turn has come, not to the future: it is written by whoever can,
//! the future when it is polled or the [attendant](super::attendant) when there is room. So a task that is not polled holds
//! nobody up, and a future that is dropped in the middle of its message leaves nothing behind that another message could
//! follow: the rest is sent all the same, before anybody else's turn. A future that is dropped before its turn sends nothing.
//! Only one whose time is up takes its message back, and says how much of it was sent.
//!
//! **No wake-up is lost.** A future that waits for its turn enlists under the lock under which turns change. One that waits
//! for room enlists, tries once more, and only then has the attendant watch the pipe, which fires at once if there is room.
//! The attendant watches on until the message is through; who ends a message, in whatever way, tells everybody.

use std::future::poll_fn;
use std::io;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use super::attendant;
use super::awaiting::ask_again;
use super::bells::Listener;
use super::conversation::Conversation;
use super::stdin::{End, SendError, Stdin};
use crate::sys::OwnedFd;
use crate::sys::fds::write_some;

/// How many writes one call makes in a row, before it lets others go on.
const ROUNDS: usize = 16;

/// A message of a future.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    at: &'static Location<'static>,
    fate: Mutex<Fate>,
}

#[derive(Debug, Default)]
struct Fate {
    sent: usize,
    /// What became of it, until its future has taken note.
    result: Option<Result<(), SendError>>,
}

/// How far one call has come.
#[derive(Debug)]
enum Pushed {
    /// This message has met its fate.
    Over(Arc<Message>),
    /// This is where room is needed.
    Full(Arc<OwnedFd>),
    /// Nothing was to be done.
    Idle,
}

impl Message {
    pub(crate) fn new(bytes: Vec<u8>, at: &'static Location<'static>) -> Arc<Message> {
        Arc::new(Message { bytes, at, fate: Mutex::default() })
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stdin {
    /// Writes what there is room for of the message that has begun.
    fn push(&self) -> Pushed {
        let mut end = self.end();
        let Some((fd, message)) = &end.begun else { return Pushed::Idle };
        let mut fate = message.fate();
        for _ in 0..ROUNDS {
            let rest = &message.bytes[fate.sent..];
            let written = if rest.is_empty() { Ok(Some(0)) } else { write_some(fd, rest) };
            let result = match written {
                Ok(Some(n)) => {
                    fate.sent += n;
                    if fate.sent < message.bytes.len() {
                        continue;
                    }
                    Ok(())
                }
                Ok(None) => break,
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(SendError::Broken { sent: fate.sent }),
                Err(e) => Err(SendError::Io(e)),
            };
            fate.result = Some(result);
            drop(fate);
            return self.conclude(&mut end).map_or(Pushed::Idle, Pushed::Over);
        }
        Pushed::Full(Arc::clone(fd))
    }

    /// The message that has begun has met its fate: the next one, please.
    fn conclude(&self, end: &mut End) -> Option<Arc<Message>> {
        let (_, message) = end.begun.take()?;
        end.busy = false;
        if matches!(message.fate().result, Some(Err(SendError::Broken { .. }))) {
            end.fd = None;
            end.broken = true;
        }
        if end.waiting > 0 {
            self.free.notify_all();
        }
        Some(message)
    }

    /// Time is up: takes this message back, unless it has met its fate this very moment.
    fn take_back(&self, message: &Arc<Message>) -> bool {
        let mut end = self.end();
        let ours = end.begun.as_ref().is_some_and(|(_, begun)| Arc::ptr_eq(begun, message));
        if ours {
            let mut fate = message.fate();
            fate.result = Some(Err(SendError::TimedOut { sent: fate.sent }));
            drop(fate);
            self.conclude(&mut end);
        }
        ours
    }
}

impl Conversation {
    /// Sends a message, in the way of a future.
    pub(crate) async fn send_awaited(
        self: &Arc<Self>,
        message: &Arc<Message>,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let mut listener = Listener::new(&self.stdin.bells);
        let mut begun = false;
        poll_fn(|context| self.try_to_send(context, &mut listener, &mut begun, message, deadline)).await
    }

    fn try_to_send(
        self: &Arc<Self>,
        context: &Context<'_>,
        listener: &mut Listener<'_>,
        begun: &mut bool,
        message: &Arc<Message>,
        deadline: Option<Instant>,
    ) -> Poll<Result<(), SendError>> {
        self.refuse_matchers();
        listener.set(context.waker());
        if !*begun {
            let mut end = self.stdin.end();
            let Some(fd) = end.fd.clone() else {
                let error = if end.broken { SendError::Broken { sent: 0 } } else { SendError::Closed };
                return Poll::Ready(Err(error));
            };
            if end.busy {
                if deadline.is_some_and(|d| Instant::now() >= d) {
                    return Poll::Ready(Err(SendError::TimedOut { sent: 0 }));
                }
                if !listener.enlist(deadline) {
                    ask_again(context);
                }
                return Poll::Pending;
            }
            end.busy = true;
            end.begun = Some((fd, Arc::clone(message)));
            *begun = true;
        }
        let mut room = self.go_on();
        let mut told = true;
        if room.is_some() && deadline.is_none_or(|d| Instant::now() < d) {
            // Once more, for what happened before we were on the list.
            told = listener.enlist(deadline);
            room = self.go_on();
        }
        if let Some(result) = message.fate().result.take() {
            return Poll::Ready(result);
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            if self.stdin.take_back(message) {
                self.record(message);
                self.stdin.bells.ring();
            }
            let result = message.fate().result.take();
            return Poll::Ready(result.unwrap_or(Err(SendError::TimedOut { sent: 0 })));
        }
        if !told || room.is_none_or(|fd| !attendant::watch_input(self, &fd)) {
            ask_again(context);
        }
        Poll::Pending
    }

    /// There may be room in the helper's input: for the attendant.
    pub(super) fn go_on_sending(self: &Arc<Self>) {
        if let Some(fd) = self.go_on() {
            // Refused only without memory: then its future goes on, if there still is one, and those whose turn does not
            // come are told when their time is up.
            let _ = attendant::watch_input(self, &fd);
        }
    }

    /// Goes on with the message that has begun, whosever it is; what is full, if that stops it.
    fn go_on(&self) -> Option<Arc<OwnedFd>> {
        match self.stdin.push() {
            Pushed::Full(fd) => Some(fd),
            Pushed::Idle => None,
            Pushed::Over(message) => {
                self.record(&message);
                self.stdin.bells.ring();
                None
            }
        }
    }

    /// The transcript has what was really sent.
    fn record(&self, message: &Message) {
        let sent = message.fate().sent;
        if sent > 0 {
            self.lock().transcript.record_sent(&message.bytes[..sent], message.at);
        }
    }
}
