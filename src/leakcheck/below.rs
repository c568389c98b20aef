//! Runs a command below us, to its end and not longer than that, sees what it leaves, and ends that.
//!
//! For what the check itself starts when the suite is over: listing tests, and running suspects again.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::sys::fds::{Until, poll};
use crate::sys::supervise::{Notices, Request};
use crate::sys::{AsFd, details, process, procfs, signals, tree};

/// How long SIGKILL may take.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Watches over one command after the other.
pub(super) struct Below {
    notices: Notices,
    /// Who was there before: what the policy spares, and what could not be ended. None of our business.
    before: BTreeSet<i32>,
    /// Somebody has wanted us to end: nothing more is started.
    request: Option<Request>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if it was ended, because its time was up or somebody wants us to end.
    pub(super) status: Option<ExitStatus>,
    /// What was alive after its end and the grace. It has been ended.
    pub(super) left: Vec<Trace>,
}

/// By what a process can be recognized when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) exe: Option<PathBuf>,
    pub(super) command: String,
}

impl Below {
    pub(super) fn new() -> io::Result<Below> {
        process::become_subreaper()?;
        let notices = Notices::new(&[signals::SIGINT, signals::SIGTERM, signals::SIGHUP, signals::SIGQUIT])?;
        let before = procfs::children(process::own_pid()).into_iter().collect();
        Ok(Below { notices, before, request: None })
    }

    /// The grace is paid only when something is alive after the end.
    ///
    /// # Errors
    ///
    /// When it cannot be started, and when somebody has wanted us to end.
    pub(super) fn run(&mut self, command: &mut Command, until: Instant, grace: Duration) -> io::Result<Ended> {
        if self.request.is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let own = self.notices.start(command)?.id() as i32;
        let mut ended = Ended { status: None, left: Vec::new() };
        let mut deadline = until;
        loop {
            let had = ended.status;
            let empty = self.reap(own, &mut ended.status);
            if had.is_none() && ended.status.is_some() {
                deadline = (Instant::now() + grace).min(until.max(Instant::now()));
            }
            self.request = self.notices.next_request();
            if (ended.status.is_some() && empty) || self.request.is_some() || Instant::now() >= deadline {
                break;
            }
            let ready = [
                Some((self.notices.child_ends().as_fd(), Until::Readable)),
                Some((self.notices.requests(), Until::Readable)),
            ];
            // An error is treated like a deadline that passes: there is no waiting without it.
            if poll(ready, Some(deadline)).is_err() {
                break;
            }
        }
        if ended.status.is_some() && self.request.is_none() {
            ended.left = self.alive().iter().map(trace).collect();
        }
        self.end_all(own);
        Ok(ended)
    }

    pub(super) fn request(&self) -> Option<Request> {
        self.request
    }

    /// Reaps what has ended; true if nothing is left but who was there before.
    fn reap(&mut self, own: i32, status: &mut Option<ExitStatus>) -> bool {
        let Below { notices, before, .. } = self;
        loop {
            let mut changed = false;
            let none = tree::reap_all(notices.child_ends(), &mut |pid, how| {
                changed = true;
                if pid == own && status.is_none() {
                    *status = Some(how);
                } else {
                    before.remove(&pid);
                }
            });
            let children = procfs::children(process::own_pid());
            // A list that is read while it changes may be short: it counts only if nothing has changed.
            if none || !children.iter().all(|pid| before.contains(pid)) {
                return none;
            }
            if !changed {
                return true;
            }
        }
    }

    fn alive(&self) -> Vec<procfs::Stat> {
        let children = procfs::children(process::own_pid()).into_iter().filter(|pid| !self.before.contains(pid));
        let all = children.flat_map(|pid| procfs::stat(pid).into_iter().chain(procfs::descendants(pid)));
        all.filter(|stat| !stat.is_zombie()).collect()
    }

    fn end_all(&mut self, own: i32) {
        let deadline = Instant::now() + KILL_LIMIT;
        let spared = self.before.clone();
        tree::kill_all(&spared, &[], self.notices.child_ends(), deadline, &mut |_, _| {});
        // What could not be ended must not be taken for the next one's.
        let left = procfs::children(process::own_pid());
        self.before.extend(left.into_iter().filter(|pid| *pid != own));
    }
}

fn trace(stat: &procfs::Stat) -> Trace {
    Trace {
        exe: details::executable(stat.pid),
        command: super::leak::cut(procfs::command_line(stat.pid, Instant::now() + procfs::EXEC_LIMIT)),
    }
}
