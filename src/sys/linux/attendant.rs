//! The set of descriptors that one thread watches for everybody (epoll(7)), and how to wake that thread.
//!
//! Every entry fires once and is then off until it is armed again, so a descriptor that somebody else reads meanwhile
//! does not wake the thread over and over.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::fds::Until;

/// No sleep is longer: what the kernel can be asked for has a limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// The token of the wake-up call.
const WAKE: u64 = u64::MAX;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Watch {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Watch {
    pub(crate) fn new() -> io::Result<Watch> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Watch { epoll, wake })
    }

    /// Fires once with this token when there is something to read, or room to write; again after the next call.
    pub(crate) fn arm(&self, fd: &OwnedFd, until: Until, token: u64) -> io::Result<()> {
        let direction = match until {
            Until::Readable => EventFlags::IN,
            Until::Writable => EventFlags::OUT,
        };
        let (data, flags) = (EventData::new_u64(token), direction | EventFlags::ONESHOT);
        match epoll::modify(&self.epoll, fd.as_fd(), data, flags) {
            Err(rustix::io::Errno::NOENT) => Ok(epoll::add(&self.epoll, fd.as_fd(), data, flags)?),
            other => Ok(other?),
        }
    }

    /// Ends the thread's current or next [`wait`](Watch::wait).
    pub(crate) fn wake(&self) {
        // EAGAIN: it is so thoroughly woken already that the counter is full.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The tokens that have fired, without those of wake-up calls. May return early without any.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<u64>> {
        let timeout = deadline.map(|d| {
            let left = d.saturating_duration_since(Instant::now()).min(LONGEST);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut space = [MaybeUninit::uninit(); 64];
        let (events, _) = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let mut tokens = Vec::new();
        for event in events.iter() {
            if event.data.u64() == WAKE {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            } else {
                tokens.push(event.data.u64());
            }
        }
        Ok(tokens)
    }
}
