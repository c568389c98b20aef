//! The check itself: start the suite, adopt and reap what loses its parent, and see what is alive at the end.

use std::collections::BTreeSet;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use super::deed;
use super::evidence::Ground;
use super::facts::{millis, unix_ms};
use super::hang;
use super::interrupt::{self, Cause};
use super::lineage::{Lineage, Proc};
use super::pace::Pace;
use super::policy::Policy;
use super::progress::Line;
use super::run_dir::RunDir;
use super::suite::Suite;
use super::{Leak, Options, Report};
use crate::report::seconds;
use crate::sys::fds::{Until, poll};
use crate::sys::supervise::{Notices, Request, say_all};
use crate::sys::tasks::{self, Below};
use crate::sys::{AsFd, OwnedFd, process, procfs, signals, tree};

/// A suite that runs, and everything below it.
pub(super) struct Check<'a> {
    pub(super) notices: Notices,
    pub(super) suite: i32,
    /// This process.
    own: procfs::Stat,
    /// Readable when the suite has ended; it is SIGCHLD that tells us, unless the caller has other threads.
    ended: Option<OwnedFd>,
    /// The suite's, once it has ended.
    pub(super) status: Option<ExitStatus>,
    /// Children that this process had before: none of our business, as long as they live.
    pub(super) before: BTreeSet<i32>,
    /// What the policy leaves alone, with all that is below it, and the process groups of these.
    pub(super) spared: BTreeSet<i32>,
    pub(super) spared_groups: BTreeSet<i32>,
    /// Does the policy leave this one alone?
    pub(super) spares: &'a dyn Fn(&Leak) -> bool,
    adopted: usize,
    /// Everybody, zombies included, whom a look for what is alive has shown.
    pub(super) seen: BTreeSet<i32>,
    pub(super) lineage: Lineage,
    pace: Pace,
    ground: Ground,
    /// A request that came when everything was being ended already.
    late: Option<Request>,
}

pub(super) fn run(options: &Options, suite: &Suite, policy: &Policy, run_dir: &RunDir) -> io::Result<Report> {
    let mut command = suite.command(options, run_dir);
    run_dir.apply(&mut command);
    supervise(options, &mut command, &|leak| policy.spares(leak))
}

/// Runs a command to its end and ends what it has left, except for what is to be left alone.
pub(super) fn supervise(
    options: &Options,
    command: &mut Command,
    spares: &dyn Fn(&Leak) -> bool,
) -> io::Result<Report> {
    let began = Instant::now();
    let mut check = Check::start(options, command, spares)?;
    let mut report = Report { started_unix_ms: unix_ms(SystemTime::now()), ..Report::new(options) };
    let limit = options.timeout.and_then(|limit| Some((limit, began.checked_add(limit)?)));
    let cause = check.await_suite(limit);
    let ended = Instant::now();
    report.took_ms = millis(ended - began);
    let mut line = Line::new();
    let (empty, cause) = match cause {
        None => check.await_rest(ended + options.patience(), &mut line),
        some => (false, some),
    };
    if let Some(Cause::TimeUp(limit)) = cause {
        report.timed_out_ms = Some(millis(limit));
        report.hanging = hang::describe(&mut check);
        // At once: whoever waits for the end of all this may not have the patience to see it.
        let lines: String = report.hanging.iter().map(|line| format!("  {line}\n")).collect();
        let (suite, limit) = (options.line(), seconds(limit));
        say_all(&format!(
            "leakcheck: the time limit of {limit} is over, and `{suite}` still runs; this is what hangs:\n{lines}"
        ));
    }
    let mut leaks = match cause {
        Some(cause) => interrupt::end(&mut check, cause, &mut line),
        None if empty => Vec::new(),
        None => check.find(),
    };
    if cause.is_none() {
        deed::set_aside(&mut check, &mut leaks);
    }
    if !check.is_empty() {
        (report.latecomers, report.confirmed) = deed::end(&mut check, &mut leaks, cause.is_some(), &mut line);
    }
    line.erase();
    check.is_requested();
    report.interrupted = match cause {
        Some(Cause::Request(request)) => Some(request.signal),
        Some(Cause::TimeUp(_)) => None,
        None => check.late.map(|request| request.signal),
    };
    report.adopted = check.adopted;
    report.leaks = leaks;
    report.ending = check.status.map(Into::into);
    report.checking_ms = millis(ended.elapsed());
    Ok(report)
}

impl<'a> Check<'a> {
    fn start(options: &Options, suite: &mut Command, spares: &'a dyn Fn(&Leak) -> bool) -> io::Result<Check<'a>> {
        if !procfs::available() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "/proc is not mounted"));
        }
        let failed = |what: String| move |e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"));
        process::become_subreaper().map_err(failed("failed to become a child subreaper".to_owned()))?;
        let gone = || io::Error::new(io::ErrorKind::Unsupported, "/proc does not show this process");
        let own = procfs::stat(process::own_pid()).ok_or_else(gone)?;
        let before = procfs::children(own.pid).into_iter().collect();
        let endings = [signals::SIGINT, signals::SIGTERM, signals::SIGHUP, signals::SIGQUIT];
        let notices = Notices::new(&endings).map_err(failed("failed to make a signalfd".to_owned()))?;
        let child = notices.start(suite).map_err(failed(format!("failed to start `{}`", options.line())))?;
        let ground = Ground::new(suite);
        let suite = child.id() as i32;
        Ok(Check {
            notices,
            suite,
            own,
            ended: process::pidfd(suite).ok(),
            status: None,
            before,
            spared: BTreeSet::new(),
            spared_groups: BTreeSet::new(),
            spares,
            adopted: 0,
            seen: BTreeSet::new(),
            lineage: Lineage::default(),
            pace: Pace::new(Instant::now()),
            ground,
            late: None,
        })
    }

    /// Waits for the suite's end, reaping orphans and looking at the tree meanwhile. What came first, if something did.
    fn await_suite(&mut self, limit: Option<(Duration, Instant)>) -> Option<Cause> {
        let mut used = tasks::used();
        loop {
            self.reap();
            // Asked for after the reaping: Ctrl-C reaches the whole foreground group in one step of the kernel's, so a
            // suite that ended by it has ended after our own notice was there.
            let request = self.notices.next_request();
            if request.is_some() || self.status.is_some() {
                return request.map(Cause::Request);
            }
            let now = Instant::now();
            if let Some((limit, _)) = limit.filter(|(_, deadline)| now >= *deadline) {
                return Some(Cause::TimeUp(limit));
            }
            if self.pace.is_due(now, tasks::last_born) {
                self.glance();
                // With all that has led to it since the last one.
                let before = std::mem::replace(&mut used, tasks::used());
                self.pace.took(now, used.saturating_sub(before));
            }
            let next = self.pace.next();
            let ready = poll(
                [
                    Some((self.notices.child_ends().as_fd(), Until::Readable)),
                    Some((self.notices.requests(), Until::Readable)),
                    self.ended.as_ref().map(|fd| (fd.as_fd(), Until::Readable)),
                ],
                Some(limit.map_or(next, |(_, deadline)| deadline.min(next))),
            );
            match ready {
                // Reaped now, or else it is traced, and SIGCHLD comes when the tracer has let it go.
                Ok([_, _, true]) => self.ended = None,
                Ok(_) => {}
                // Out of memory, at the worst. Without poll there is no waiting, and so no suite.
                Err(_) => return Some(Cause::Request(Request { signal: signals::SIGTERM, from_terminal: false })),
            }
        }
    }

    /// Gives what is just ending the time to do so. True if nothing is left; and the request that came meanwhile.
    fn await_rest(&mut self, deadline: Instant, line: &mut Line) -> (bool, Option<Cause>) {
        loop {
            if self.is_empty() {
                return (true, None);
            }
            let request = self.notices.next_request();
            let now = Instant::now();
            if request.is_some() || now >= deadline {
                return (false, request.map(Cause::Request));
            }
            line.show(|| {
                let (alive, left) = (self.alive().len(), seconds(deadline - now));
                format!("leakcheck: the suite has ended, {alive} of its processes have not; waiting for {left} more")
            });
            self.await_notice(line.next().map_or(deadline, |next| next.min(deadline)));
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

    /// Has a request come by now, when everything is being ended anyway?
    pub(super) fn is_requested(&mut self) -> bool {
        self.late = self.late.or_else(|| self.notices.next_request());
        self.late.is_some()
    }

    /// Reaps every child that has ended; true if the kernel says that there is none left at all.
    pub(super) fn reap(&mut self) -> bool {
        let Check { notices, suite, status, before, spared, adopted, .. } = self;
        tree::reap_all(notices.child_ends(), &mut |pid, how| {
            if pid == *suite && status.is_none() {
                *status = Some(how);
            } else if !before.remove(&pid) && !spared.remove(&pid) {
                *adopted += 1;
            }
        })
    }

    /// To whom nothing may be done.
    pub(super) fn untouchable(&self) -> BTreeSet<i32> {
        self.before.union(&self.spared).copied().collect()
    }

    /// Is nothing left below us? The kernel's word, unless children from before make it impossible to ask.
    pub(super) fn is_empty(&mut self) -> bool {
        loop {
            if self.reap() {
                return true;
            }
            if (self.before.is_empty() && self.spared.is_empty()) || !self.children().is_empty() {
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

    /// Our children, without those from before and what is spared.
    pub(super) fn children(&self) -> Vec<i32> {
        let ours = |pid: &i32| !self.before.contains(pid) && !self.spared.contains(pid);
        procfs::children(process::own_pid()).into_iter().filter(ours).collect()
    }

    /// Everybody below us, zombies included, without those from before and what is spared; noted for later.
    pub(super) fn look(&mut self) -> Vec<Below> {
        let found = tasks::below(&self.own, &|pid| self.before.contains(&pid) || self.spared.contains(&pid));
        self.lineage.note(&found, &mut Proc);
        found
    }

    /// As [`look`](Check::look), without the orphans that have been seen before, and without what is below them: they pile up
    /// in a suite that leaks, and everything about their births is known that ever will be.
    fn glance(&mut self) {
        let Check { own, suite, before, lineage, .. } = self;
        let known = |pid: i32| pid != *suite && (before.contains(&pid) || lineage.is_orphan(pid));
        let found = tasks::below(own, &known);
        lineage.note(&found, &mut Proc);
    }

    /// Everything that is alive below us.
    pub(super) fn alive(&mut self) -> Vec<procfs::Stat> {
        self.ground.refresh();
        let mut found: Vec<procfs::Stat> = self.look().into_iter().map(|below| below.stat).collect();
        self.seen.extend(found.iter().map(|stat| stat.pid));
        found.retain(|stat| !stat.is_zombie());
        found.sort_unstable_by_key(|stat| stat.pid);
        found
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
    pub(super) fn describe(&mut self, stat: &procfs::Stat) -> Option<Leak> {
        let line = self.lineage.line(stat, self.suite);
        let leak = Leak::read(stat, line, &mut self.ground);
        // What has ended meanwhile has left nothing to be read, and is no leak.
        procfs::stat(stat.pid).filter(|now| now.start == stat.start && !now.is_zombie()).map(|_| leak)
    }
}
