//! How a helper is asked to leave, and what became of that.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::guardian::protocol::Ladder;
use crate::settings;

/// The ladder that [`stop`](crate::Fixture::stop), `Drop` and the end of the process walk down: each step ends early
/// when nothing is left, and after the last one everything that is still there is killed.
///
/// The default is [`Stop::terminate`] with two seconds.
/// Times are scaled by `FOSTER_TIMEOUT_SCALE`.
///
/// # Examples
///
/// ```
/// use foster::{Fixture, Stop};
/// use std::time::Duration;
///
/// # fn main() -> foster::Result {
/// // A calculator leaves when its input ends; should it not, it is asked, and then it is killed.
/// let policy = Stop::eof(Duration::from_millis(500)).then_terminate(Duration::from_secs(2));
/// let fx = Fixture::command("cat").stop_policy(policy).spawn()?;
/// let stopped = fx.stop()?;
/// assert!(stopped.status().is_some_and(|s| s.success()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Stop {
    eof: Option<Duration>,
    term: Option<Duration>,
}

impl Stop {
    /// First the helper's input ends; it has this long to leave by itself.
    pub fn eof(grace: Duration) -> Stop {
        Stop { eof: Some(grace), term: None }
    }

    /// SIGTERM (and SIGCONT, so that a stopped process can act on it) to the helper's process groups;
    /// they have this long to leave.
    pub fn terminate(grace: Duration) -> Stop {
        Stop { eof: None, term: Some(grace) }
    }

    /// No asking: SIGKILL at once.
    pub fn kill() -> Stop {
        Stop { eof: None, term: None }
    }

    /// After the step before, SIGTERM with this long to leave.
    pub fn then_terminate(self, grace: Duration) -> Stop {
        Stop { term: Some(grace), ..self }
    }

    pub(crate) fn ladder(self) -> Ladder {
        Ladder { eof: self.eof.map(settings::scaled), term: self.term.map(settings::scaled) }
    }
}

impl Default for Stop {
    fn default() -> Stop {
        Stop::terminate(Duration::from_secs(2))
    }
}

/// What became of a fixture that was stopped: its status, and what else had to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) escapees: Vec<Escapee>,
}

impl Stopped {
    /// The helper's exit status; `None` only if its keeper was killed before it could tell.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Processes that had left the helper and were found alive below this fixture's keeper: daemons, orphans,
    /// whatever called `setsid`. They have been ended, too.
    ///
    /// # Platforms
    ///
    /// Always empty at level L1, which cannot see them.
    pub fn escapees(&self) -> &[Escapee] {
        &self.escapees
    }
}

/// A process that left its helper and was found below the helper's keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escapee {
    pid: u32,
    command: String,
}

impl Escapee {
    pub(crate) fn new(pid: i32, command: String) -> Escapee {
        Escapee { pid: pid as u32, command }
    }

    /// Its pid at the time.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its command line at the time.
    pub fn command(&self) -> &str {
        &self.command
    }
}

impl fmt::Display for Escapee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} `{}`", self.pid, self.command)
    }
}

/// A process that could not be ended within the limit; it appears in the error of the call that tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survivor {
    pid: u32,
    command: String,
    reason: String,
}

impl Survivor {
    pub(crate) fn new(pid: i32, command: String, reason: String) -> Survivor {
        Survivor { pid: pid as u32, command, reason }
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} `{}`: {}", self.pid, self.command, self.reason)
    }
}
