//! The helper's standard input: whole messages, one sender at a time, and never a wait without an end.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::bells::Bells;
use super::outbox::Message;
use crate::sys::fds::{Until, poll};
use crate::sys::{AsFd, OwnedFd};

/// Why a message was not sent whole.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The input was closed on our side.
    Closed,
    /// The helper has closed it, or has ended.
    Broken {
        /// How many bytes it had taken of this message.
        sent: usize,
    },
    /// The helper did not read in time.
    TimedOut {
        /// How many bytes it had taken of this message.
        sent: usize,
    },
    /// The kernel refused for another reason.
    Io(io::Error),
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Stdin {
    end: Mutex<End>,
    pub(super) free: Condvar,
    /// Futures that wait for their turn, or for room.
    pub(super) bells: Bells,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) fd: Option<Arc<OwnedFd>>,
    /// Somebody is in the middle of a message: nobody else's bytes may come between.
    pub(super) busy: bool,
    /// It is this message, of a future, and goes here.
    pub(super) begun: Option<(Arc<OwnedFd>, Arc<Message>)>,
    /// The helper has closed it, or has ended.
    pub(super) broken: bool,
    /// Threads that wait for their turn: without any, nobody needs a system call that wakes them.
    pub(super) waiting: usize,
}

impl Stdin {
    pub(super) fn new(fd: OwnedFd) -> Stdin {
        Stdin {
            end: Mutex::new(End { fd: Some(Arc::new(fd)), busy: false, begun: None, broken: false, waiting: 0 }),
            free: Condvar::new(),
            bells: Bells::default(),
        }
    }

    pub(super) fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all of it, or says why not; and how much was taken. `write` writes what there is room for, and
    /// `full` is called when the helper has to be waited for.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        deadline: Option<Instant>,
        write: impl FnMut(&OwnedFd, &[u8]) -> io::Result<Option<usize>>,
        full: impl Fn(),
    ) -> (Result<(), SendError>, usize) {
        let fd = match self.claim(deadline) {
            Ok(fd) => fd,
            Err(e) => return (Err(e), 0),
        };
        let mut sent = 0;
        let result = write_all(&fd, bytes, deadline, &mut sent, write, full);
        let mut end = self.end();
        end.busy = false;
        if matches!(result, Err(SendError::Broken { .. })) {
            end.fd = None;
            end.broken = true;
        }
        // All: one who finds it closed would keep the call to himself.
        if end.waiting > 0 {
            self.free.notify_all();
        }
        drop(end);
        self.bells.ring();
        (result, sent)
    }

    /// Waits for the turn of the calling thread.
    fn claim(&self, deadline: Option<Instant>) -> Result<Arc<OwnedFd>, SendError> {
        let mut end = self.end();
        loop {
            let Some(fd) = end.fd.clone() else {
                return Err(if end.broken { SendError::Broken { sent: 0 } } else { SendError::Closed });
            };
            if !end.busy {
                end.busy = true;
                return Ok(fd);
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(SendError::TimedOut { sent: 0 });
            }
            end.waiting += 1;
            end = match left {
                None => self.free.wait(end).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.free.wait_timeout(end, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            end.waiting -= 1;
        }
    }

    /// Lets go of our end; without effect if that was done already.
    pub(super) fn close(&self) {
        if self.end().fd.take().is_some() {
            self.free.notify_all();
            self.bells.ring();
        }
    }
}

fn write_all(
    fd: &OwnedFd,
    bytes: &[u8],
    deadline: Option<Instant>,
    sent: &mut usize,
    mut write: impl FnMut(&OwnedFd, &[u8]) -> io::Result<Option<usize>>,
    full: impl Fn(),
) -> Result<(), SendError> {
    while *sent < bytes.len() {
        match write(fd, &bytes[*sent..]) {
            Ok(Some(n)) => *sent += n,
            Ok(None) => {
                full();
                if deadline.is_some_and(|d| Instant::now() >= d) {
                    return Err(SendError::TimedOut { sent: *sent });
                }
                poll([Some((fd.as_fd(), Until::Writable))], deadline).map_err(SendError::Io)?;
            }
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(SendError::Broken { sent: *sent }),
            Err(e) => return Err(SendError::Io(e)),
        }
    }
    Ok(())
}
