//! The check itself: start the suite, adopt and reap what loses its parent, and see what is alive at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use super::facts::{millis, unix_ms};
use super::lineage::Lineage;
use super::policy::Policy;
use super::run_dir::RunDir;
use super::suite::Suite;
use super::{Leak, Options, Report};
use crate::sys::fds::{Until, poll};
use crate::sys::supervise::{Notices, Request};
use crate::sys::{AsFd, OwnedFd, ending_signal, process, procfs, signals, tree};

/// How long SIGKILL may take to empty the tree before what is left is reported instead of waited for.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A suite that runs, and everything below it.
pub(super) struct Check {
    pub(super) notices: Notices,
    pub(super) suite: i32,
    /// Readable when the suite has ended; it is SIGCHLD that tells us, unless the caller has other threads.
    ended: Option<OwnedFd>,
    /// The suite's, once it has ended.
    pub(super) status: Option<ExitStatus>,
    /// Children that this process had before: none of our business, as long as they live.
    before: BTreeSet<i32>,
    adopted: usize,
    /// Everybody, zombies included, whom a look for what is alive has shown.
    seen: BTreeSet<i32>,
    lineage: Lineage,
}

pub(super) fn run(options: &Options, suite: &Suite, policy: &Policy, run_dir: &RunDir) -> io::Result<Report> {
    let began = Instant::now();
    let mut command = suite.command(options, run_dir);
    run_dir.apply(&mut command);
    let mut check = Check::start(options, &mut command)?;
    let mut report = Report { started_unix_ms: unix_ms(SystemTime::now()), ..Report::new(options) };
    let interruption = check.await_suite();
    let ended = Instant::now();
    report.took_ms = millis(ended - began);
    let (empty, interruption) = match interruption {
        None => check.await_rest(ended + options.patience()),
        some => (false, some),
    };
    let mut leaks = match interruption {
        Some(request) => super::interrupt::end(&mut check, request),
        None if empty => Vec::new(),
        None => check.find(),
    };
    report.interrupted = interruption.map(|r| r.signal);
    report.adopted = check.adopted;
    if !check.is_empty() {
        (report.latecomers, report.confirmed) = check.end_all(&mut leaks);
    }
    for leak in &mut leaks {
        leak.deed.spared = policy.spares(leak);
    }
    report.leaks = leaks;
    report.ending = check.status.map(Into::into);
    report.checking_ms = millis(ended.elapsed());
    Ok(report)
}

impl Check {
    fn start(options: &Options, suite: &mut Command) -> io::Result<Check> {
        if !procfs::available() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "/proc is not mounted"));
        }
        let failed = |what: String| move |e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"));
        process::become_subreaper().map_err(failed("failed to become a child subreaper".to_owned()))?;
        let before = procfs::children(process::own_pid()).into_iter().collect();
        let endings = [signals::SIGINT, signals::SIGTERM, signals::SIGHUP, signals::SIGQUIT];
        let notices = Notices::new(&endings).map_err(failed("failed to make a signalfd".to_owned()))?;
        let child = notices.start(suite).map_err(failed(format!("failed to start `{}`", options.line())))?;
        let suite = child.id() as i32;
        let ended = process::pidfd(suite).ok();
        let (seen, lineage) = (BTreeSet::new(), Lineage::default());
        Ok(Check { notices, suite, ended, status: None, before, adopted: 0, seen, lineage })
    }

    /// Waits for the suite's end, reaping orphans meanwhile. The request that came first, if one did.
    fn await_suite(&mut self) -> Option<Request> {
        loop {
            self.reap();
            // Asked for after the reaping: Ctrl-C reaches the whole foreground group in one step of the kernel's, so a
            // suite that ended by it has ended after our own notice was there.
            let request = self.notices.next_request();
            if request.is_some() || self.status.is_some() {
                return request;
            }
            self.lineage.look_at_times(process::own_pid());
            let ready = poll(
                [
                    Some((self.notices.child_ends().as_fd(), Until::Readable)),
                    Some((self.notices.requests(), Until::Readable)),
                    self.ended.as_ref().map(|fd| (fd.as_fd(), Until::Readable)),
                ],
                None,
            );
            match ready {
                // Reaped now, or else it is traced, and SIGCHLD comes when the tracer has let it go.
                Ok([_, _, true]) => self.ended = None,
                Ok(_) => {}
                // Out of memory, at the worst. Without poll there is no waiting, and so no suite.
                Err(_) => return Some(Request { signal: signals::SIGTERM, from_terminal: false }),
            }
        }
    }

    /// Gives what is just ending the time to do so. True if nothing is left; and the request that came meanwhile.
    fn await_rest(&mut self, deadline: Instant) -> (bool, Option<Request>) {
        loop {
            if self.is_empty() {
                return (true, None);
            }
            let request = self.notices.next_request();
            if request.is_some() || Instant::now() >= deadline {
                return (false, request);
            }
            self.await_notice(deadline);
        }
    }

    /// Waits until a child has ended, somebody has asked for our end, or the deadline has passed.
    pub(super) fn await_notice(&self, deadline: Instant) {
        // An error is treated like a deadline: the caller looks at what is there.
        let _ = poll(
            [
                Some((self.notices.child_ends().as_fd(), Until::Readable)),
                Some((self.notices.requests(), Until::Readable)),
            ],
            Some(deadline),
        );
    }

    /// Reaps every child that has ended; true if the kernel says that there is none left at all.
    fn reap(&mut self) -> bool {
        let Check { notices, suite, status, before, adopted, .. } = self;
        tree::reap_all(notices.child_ends(), &mut |pid, how| {
            if pid == *suite && status.is_none() {
                *status = Some(how);
            } else if !before.remove(&pid) {
                *adopted += 1;
            }
        })
    }

    /// Is nothing left below us? The kernel's word, unless children from before make it impossible to ask.
    pub(super) fn is_empty(&mut self) -> bool {
        loop {
            if self.reap() {
                return true;
            }
            if self.before.is_empty() || !self.children().is_empty() {
                return false;
            }
            // A list that is read while it changes may be short: it counts only if nothing has changed.
            let reaped = self.adopted;
            self.reap();
            if self.adopted == reaped && self.children().is_empty() {
                return true;
            }
        }
    }

    /// Our children, without those from before.
    pub(super) fn children(&self) -> Vec<i32> {
        procfs::children(process::own_pid()).into_iter().filter(|pid| !self.before.contains(pid)).collect()
    }

    /// Everything that is alive below us.
    pub(super) fn alive(&mut self) -> Vec<procfs::Stat> {
        let mut found = BTreeMap::new();
        for child in self.children() {
            for stat in procfs::stat(child).into_iter().chain(procfs::descendants(child)) {
                // One that moved while we walked is listed once.
                found.entry(stat.pid).or_insert(stat);
            }
        }
        self.seen.extend(found.keys());
        let found: Vec<_> = found.into_values().collect();
        self.lineage.note(&found);
        found.into_iter().filter(|s| !s.is_zombie()).collect()
    }

    /// The leaks.
    fn find(&mut self) -> Vec<Leak> {
        // A list that is read while it changes may be short. What no list shows is found when it is killed.
        for _ in 0..3 {
            let leaks: Vec<Leak> = self.alive().iter().filter_map(|s| self.describe(s)).collect();
            if !leaks.is_empty() || self.is_empty() {
                return leaks;
            }
        }
        Vec::new()
    }

    /// All that is known about one of [`alive`](Check::alive), if it still is.
    pub(super) fn describe(&self, stat: &procfs::Stat) -> Option<Leak> {
        let mut leak = Leak::read(stat);
        (leak.ancestors, leak.ancestors_complete) = self.lineage.ancestors(stat, self.suite);
        // What has ended meanwhile has left nothing to be read, and is no leak.
        procfs::stat(stat.pid).filter(|now| now.start == stat.start && !now.is_zombie()).map(|_| leak)
    }

    /// Kills everything. How many were killed whom nobody had seen, and whether the kernel confirms the end.
    fn end_all(&mut self, leaks: &mut Vec<Leak>) -> (usize, bool) {
        let Check { notices, suite, status, before, seen, .. } = self;
        let mut latecomers = 0;
        let spared = before.clone();
        let deadline = Instant::now() + KILL_LIMIT;
        let survivors = tree::kill_all(&spared, &[], notices.child_ends(), deadline, &mut |pid, how| {
            if pid == *suite && status.is_none() {
                *status = Some(how);
            } else if !before.remove(&pid) && !seen.contains(&pid) && ending_signal(how) == Some(signals::SIGKILL) {
                latecomers += 1;
            }
        });
        for survivor in survivors {
            if let (None, Some(stat)) = (known(leaks, survivor.pid, survivor.start), procfs::stat(survivor.pid)) {
                leaks.extend(self.describe(&stat));
            }
            if let Some(leak) = known(leaks, survivor.pid, survivor.start) {
                leak.deed.survived = Some(survivor.reason);
            }
        }
        for leak in leaks {
            leak.deed.killed = leak.deed.survived.is_none();
        }
        (latecomers, self.is_empty())
    }
}

fn known(leaks: &mut [Leak], pid: i32, start: u64) -> Option<&mut Leak> {
    leaks.iter_mut().find(|l| l.is(pid, start))
}
