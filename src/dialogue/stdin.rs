//! The helper's standard input: whole messages, one sender at a time, and never a wait without an end.
//!
//! On a terminal it is what is typed: its end is a character, and after it more can be typed.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::bells::Bells;
use super::outbox::Message;
use crate::sys::fds::{Until, poll};
use crate::sys::pty::{Keyboard, LONGEST_LINE};
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
    /// A terminal that collects lines would lose the end of this one, which is so long.
    LongLine(usize),
    /// The kernel refused for another reason.
    Io(io::Error),
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Stdin {
    terminal: bool,
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
    /// What was typed last.
    pub(super) last: Option<u8>,
}

impl Stdin {
    pub(super) fn new(fd: OwnedFd, terminal: bool) -> Stdin {
        Stdin {
            terminal,
            end: Mutex::new(End {
                fd: Some(Arc::new(fd)),
                busy: false,
                begun: None,
                broken: false,
                waiting: 0,
                last: None,
            }),
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
        let result = match self.too_long(&fd, bytes) {
            Some(length) => Err(SendError::LongLine(length)),
            None => write_all(&fd, bytes, deadline, &mut sent, write, full),
        };
        let mut end = self.end();
        end.busy = false;
        if sent > 0 {
            end.last = Some(bytes[sent - 1]);
        }
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

    /// How long the longest line in it is, if the terminal would lose its end.
    pub(super) fn too_long(&self, fd: &OwnedFd, bytes: &[u8]) -> Option<usize> {
        if !self.terminal || bytes.len() <= LONGEST_LINE {
            return None;
        }
        let longest = bytes.split_inclusive(|b| matches!(b, b'\n' | b'\r')).map(<[u8]>::len).max().unwrap_or(0);
        let lost = longest > LONGEST_LINE && Keyboard::of(fd).is_ok_and(|keyboard| keyboard.is_by_lines());
        lost.then_some(longest)
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Our end, until it is closed.
    pub(super) fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.end().fd.clone()
    }

    /// What has to be typed so that the helper reads the end of its input. Nothing if it is no terminal, or closed.
    ///
    /// A terminal that collects lines gives the helper what it has when the character comes, and that is the end only if it
    /// is nothing: in the middle of a line it has to come twice.
    pub(super) fn ending(&self) -> Vec<u8> {
        let (fd, last) = {
            let end = self.end();
            (end.fd.clone(), end.last)
        };
        let Some(keyboard) = fd.filter(|_| self.terminal).and_then(|fd| Keyboard::of(&fd).ok()) else {
            return Vec::new();
        };
        let mid_line = keyboard.is_by_lines() && last.is_some_and(|last| !keyboard.ends_line(last));
        vec![keyboard.end_of_file(); if mid_line { 2 } else { 1 }]
    }

    /// Lets go of our end; without effect if that was done already.
    pub(super) fn close(&self) {
        if self.end().fd.take().is_some() {
            self.free.notify_all();
            self.bells.ring();
        }
    }
}

/// Has the helper let go of its end? A terminal says EIO.
pub(super) fn is_broken(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::BrokenPipe || e.raw_os_error() == Some(crate::sys::EIO)
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
            Err(e) if is_broken(&e) => return Err(SendError::Broken { sent: *sent }),
            Err(e) => return Err(SendError::Io(e)),
        }
    }
    Ok(())
}
