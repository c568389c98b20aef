//! The set of descriptors that one thread watches for everybody (epoll(7)), and how to wake that thread.
//!
//! Every entry fires once and is then off until it is armed again, so a descriptor that somebody else reads meanwhile
//! does not wake the thread over and over.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::fds::Until;

/// No sleep is longer: what the kernel can be asked for has a limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// The token of the wake-up call.
const WAKE: u64 = u64::MAX;

/// The token of the timer.
const TICK: u64 = u64::MAX - 1;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Watch {
    epoll: Arc<OwnedFd>,
    wake: OwnedFd,
    timer: OwnedFd,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fired {
    /// What was armed with this token.
    Token(u64),
    /// The time of [`Watch::tick_in`] has come.
    Tick,
}

impl Watch {
    pub(crate) fn new() -> io::Result<Watch> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TICK), EventFlags::IN)?;
        Ok(Watch { epoll, wake, timer })
    }

    /// Wakes the thread once, after so long. It costs the caller a fraction of what waking it now would cost
    /// (timerfd_settime(2)).
    pub(crate) fn tick_in(&self, pause: Duration) {
        let value = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // It fails for times that are none.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
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

    /// Readable when something that is armed has fired (epoll(7)).
    pub(crate) fn source(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.epoll)
    }

    /// Ends the thread's current or next [`wait`](Watch::wait).
    pub(crate) fn wake(&self) {
        // EAGAIN: it is so thoroughly woken already that the counter is full.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// What has happened, without wake-up calls. May return early without any.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<Fired>> {
        let timeout = deadline.map(|d| {
            let left = d.saturating_duration_since(Instant::now()).min(LONGEST);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut space = [MaybeUninit::uninit(); 64];
        let (events, _) = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let mut fired = Vec::new();
        for event in events.iter() {
            match event.data.u64() {
                WAKE => {
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
                TICK => {
                    // EAGAIN: it has been set anew meanwhile, and comes once more.
                    if rustix::io::read(&self.timer, &mut [0; 8]).is_ok() {
                        fired.push(Fired::Tick);
                    }
                }
                token => fired.push(Fired::Token(token)),
            }
        }
        Ok(fired)
    }
}
