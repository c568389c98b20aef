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
//! The attendant watches on until the message is through; who ends a message, in whatever way, writes it into the transcript
//! before the next one may begin, and tells everybody.
//! Where a slow matcher keeps the state locked, and so the transcript, the attendant tries again at its next tick.

use std::future::poll_fn;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use super::attendant;
use super::awaiting::ask_again;
use super::bells::Listener;
use super::conversation::{Conversation, State};
use super::stdin::{SendError, Stdin, is_broken};
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
    /// What became of it, until its future has taken note. Whoever writes this settles it: nobody else touches it any more.
    result: Option<Result<(), SendError>>,
    /// The next message may begin.
    settled: bool,
}

/// How far one call has come.
#[derive(Debug)]
enum Pushed {
    /// This message has met its fate, and the caller has to [settle](Conversation::settle) it.
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

    /// What became of it, once.
    fn result(&self) -> Option<Result<(), SendError>> {
        let mut fate = self.fate();
        if fate.settled { fate.result.take() } else { None }
    }
}

impl Stdin {
    /// Is a future's message on its way?
    pub(super) fn has_begun(&self) -> bool {
        self.end().begun.is_some()
    }

    /// Writes what there is room for of the message that has begun.
    fn push(&self) -> Pushed {
        let end = self.end();
        let Some((fd, message)) = &end.begun else { return Pushed::Idle };
        let mut fate = message.fate();
        if fate.result.is_some() {
            return Pushed::Idle;
        }
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
                Err(e) if is_broken(&e) => Err(SendError::Broken { sent: fate.sent }),
                Err(e) => Err(SendError::Io(e)),
            };
            fate.result = Some(result);
            return Pushed::Over(Arc::clone(message));
        }
        Pushed::Full(Arc::clone(fd))
    }

    /// Time is up for this message: true unless it has met its fate already. Then the caller has to settle it.
    fn take_back(&self, message: &Message) -> bool {
        // Nobody writes meanwhile.
        let _end = self.end();
        let mut fate = message.fate();
        let ours = fate.result.is_none();
        if ours {
            fate.result = Some(Err(SendError::TimedOut { sent: fate.sent }));
        }
        ours
    }

    /// The next one, please.
    fn conclude(&self, message: &Message) {
        let mut end = self.end();
        let mut fate = message.fate();
        fate.settled = true;
        end.begun = None;
        end.busy = false;
        if fate.sent > 0 {
            end.last = Some(message.bytes[fate.sent - 1]);
        }
        if matches!(fate.result, Some(Err(SendError::Broken { .. }))) {
            end.fd = None;
            end.broken = true;
        }
        if end.waiting > 0 {
            self.free.notify_all();
        }
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
            if self.is_hung_up() {
                return Poll::Ready(Err(SendError::Broken { sent: 0 }));
            }
            let mut end = self.stdin.end();
            let Some(fd) = end.fd.clone() else {
                let error = if end.broken { SendError::Broken { sent: 0 } } else { SendError::Closed };
                return Poll::Ready(Err(error));
            };
            if let Some(length) = self.stdin.too_long(&fd, &message.bytes) {
                return Poll::Ready(Err(SendError::LongLine(length)));
            }
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
        self.go_on();
        if let Some(result) = message.result() {
            return Poll::Ready(result);
        }
        if deadline.is_some_and(|d| Instant::now() >= d) && self.stdin.take_back(message) {
            self.settle(message);
        }
        // Once more, for what happened before we were on the list.
        let told = listener.enlist(deadline);
        let room = self.go_on();
        if let Some(result) = message.result() {
            return Poll::Ready(result);
        }
        // Without room that could be watched, somebody is just settling it, and rings.
        if !told || room.is_some_and(|fd| !attendant::watch_input(self, &fd)) {
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
        // Nobody reads meanwhile, so what the helper answers is recorded after the message.
        let mut state = self.lock();
        let pushed = self.stdin.push();
        if let Pushed::Over(message) = &pushed {
            self.record(&mut state, message);
        }
        drop(state);
        match pushed {
            Pushed::Full(fd) => Some(fd),
            Pushed::Idle => None,
            Pushed::Over(message) => {
                self.conclude(&message);
                None
            }
        }
    }

    /// The transcript has what was really sent.
    fn record(&self, state: &mut State, message: &Message) {
        let sent = message.fate().sent;
        if sent > 0 {
            state.transcript.record_sent(&self.as_lines(&message.bytes), sent, message.at);
        }
    }

    /// This message is written no more.
    fn settle(&self, message: &Message) {
        self.record(&mut self.lock(), message);
        self.conclude(message);
    }

    /// Now it is somebody else's turn.
    fn conclude(&self, message: &Message) {
        self.stdin.conclude(message);
        self.stdin.bells.ring();
    }
}
