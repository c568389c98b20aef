//! A keeper: an init for exactly one fixture at a time.
//!
//! It is forked by the guardian ahead of need and sleeps until its control socket, which the test process holds, brings an
//! order. Being a subreaper, it becomes the parent of everything below its helper that loses its own, so "nothing is left"
//! is the kernel's word (`ECHILD`) and not a guess, and whatever is found here belongs to this fixture.
//!
//! When nothing is left it waits for another order, unless it had to kill: then it ends.
//! It takes its tree down *at once* when it can no longer be asked: the test process is gone (end of file on the socket, or
//! its pidfd says so) or the guardian is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::link::{Link, Next};
use super::protocol::{Found, Frame, Ladder, Order};
use crate::sys::cgroup::{Cgroup, Compartment};
use crate::sys::clone::{self, Program, Stage};
use crate::sys::exit::exit_now;
use crate::sys::fds::{Until, has_bytes, is_ready, poll};
use crate::sys::tree::{self, Survivor};
use crate::sys::{AsFd, process, procfs, signals};

/// How long SIGKILL may take to empty a tree before what is left is reported instead of waited for.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long it is tried again after that, and how long nothing is done in between.
const RETRY_LIMIT: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A tombstone was left: the guardian tries again, now that they are its children.
pub(super) const EXIT_WITH_SURVIVORS: i32 = 2;

/// How long a reply may wait for room in the socket. It always has room, unless the test process has lost its mind.
const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// How long a keeper that has never had an order, and cannot get one any more, waits for news of its guardian.
const LET_GO_LIMIT: Duration = Duration::from_secs(1);

/// Why a keeper ends its tree without having been asked to.
const GUARDIAN_DIED: &str = "the guardian process had died";
const NONSENSE: &str = "the test process had sent what makes no sense";

/// A report names no more processes than this, and cuts their command lines here: it has to fit into the socket's buffer
/// while nobody reads.
const MOST_FOUND: usize = 128;
const LONGEST_COMMAND: usize = 256;

/// What a keeper is born with.
#[derive(Debug)]
pub(super) struct Birthright {
    /// The control socket; the other end is the fixture's.
    pub(super) link: OwnedFd,
    /// A byte here, which nobody reads: everybody is asked to leave, politely. End of file without it: the guardian died.
    pub(super) farewell: OwnedFd,
    /// The test process.
    pub(super) test_process: OwnedFd,
    /// The guardian.
    pub(super) guardian: OwnedFd,
    /// The directory that holds all fixtures' directories: removed from here only when the guardian cannot any more.
    pub(super) root: PathBuf,
    /// The cgroup that holds all fixtures' cgroups, where there are such.
    pub(super) cgroups: Option<Cgroup>,
}

struct Keeper {
    link: Link,
    born: Watched,
    own: clone::Own,
    child_ends: OwnedFd,
    helper: Option<i32>,
    started: Instant,
    /// The helper's status, once it has one.
    status: Option<ExitStatus>,
    /// What had left the helper when the end was asked for.
    escapees: BTreeMap<i32, Found>,
    /// Where the helper goes.
    compartment: Option<Compartment>,
    /// Children that have been sent SIGTERM and are not reaped yet.
    asked: BTreeSet<i32>,
    ladder: Ladder,
    step: Step,
}

struct Watched {
    farewell: OwnedFd,
    test_process: OwnedFd,
    guardian: OwnedFd,
    root: PathBuf,
    cgroups: Option<Cgroup>,
}

/// Where the keeper is on the way down.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Nobody has asked for the end.
    Serving,
    /// The helper has been given the end of its input and may leave by itself until then.
    AwaitingExit(Instant),
    /// The tree has been sent SIGTERM and may leave by itself until then.
    AwaitingLeave(Instant),
}

/// The keeper's whole life. Never returns.
pub(super) fn main(born: Birthright) -> ! {
    let Birthright { link, farewell, test_process, guardian, root, cgroups } = born;
    process::set_name(c"foster-keeper");
    process::go_on_with_parents_end();
    let (Ok(()), Ok(child_ends)) = (process::become_subreaper(), signals::child_ends()) else {
        // Without these a keeper cannot keep its promise. The closed socket tells the test process.
        exit_now(1);
    };
    let mut keeper = Keeper {
        link: Link::new(link),
        born: Watched { farewell, test_process, guardian, root, cgroups },
        own: clone::Own::read(),
        compartment: None,
        child_ends,
        helper: None,
        started: Instant::now(),
        status: None,
        escapees: BTreeMap::new(),
        asked: BTreeSet::new(),
        ladder: Ladder { eof: None, term: None },
        step: Step::Serving,
    };
    keeper.rest();
    loop {
        keeper.turn();
    }
}

/// What fits into a report.
fn fit(mut survivors: Vec<Survivor>) -> Vec<Survivor> {
    survivors.truncate(MOST_FOUND);
    for survivor in &mut survivors {
        survivor.command = survivor.command.chars().take(LONGEST_COMMAND).collect();
    }
    survivors
}

impl Keeper {
    /// Is as it was when it was born, and ready for an order.
    fn rest(&mut self) {
        self.helper = None;
        self.status = None;
        self.escapees.clear();
        self.asked.clear();
        self.step = Step::Serving;
        if self.compartment.is_none() {
            // Made now, while nobody waits for it. Without one the helper is contained as if there were no cgroups here.
            let own = self.born.cgroups.as_ref().map(|all| all.of_keeper(process::own_pid()));
            self.compartment = own.and_then(|own| Compartment::make(own).ok());
        }
    }

    /// Waits for one event of any kind and deals with it.
    fn turn(&mut self) {
        let deadline = match self.step {
            Step::Serving => None,
            Step::AwaitingExit(t) | Step::AwaitingLeave(t) => Some(t),
        };
        // Once the farewell has been heard, its end of file must not wake us again.
        let farewell = matches!(self.step, Step::Serving).then_some((self.born.farewell.as_fd(), Until::Readable));
        let ready = poll(
            [
                Some((self.born.test_process.as_fd(), Until::Readable)),
                Some((self.born.guardian.as_fd(), Until::Readable)),
                Some((self.child_ends.as_fd(), Until::Readable)),
                Some((self.link.as_fd(), Until::Readable)),
                farewell,
            ],
            deadline,
        );
        let Ok([test_process, guardian, child_ended, asked, farewell]) = ready else {
            self.take_down_and_exit(Some("the keeper could not wait any more"));
        };
        if guardian {
            self.take_down_and_exit(Some(GUARDIAN_DIED));
        }
        if test_process {
            self.await_guardian(KILL_LIMIT);
            self.take_down_and_exit(Some("the test process had ended"));
        }
        if child_ended {
            self.reap();
        }
        if asked {
            self.obey();
        }
        if farewell {
            if self.guardian_died() {
                self.take_down_and_exit(Some(GUARDIAN_DIED));
            }
            self.descend(self.ladder);
        }
        // Read anew: what happened above may have begun a step with a time of its own.
        match self.step {
            Step::AwaitingExit(t) | Step::AwaitingLeave(t) if Instant::now() >= t => self.next_step(),
            _ => {}
        }
    }

    /// Is it gone, or on its way? The pipe says so first: a process that ends closes its files, and then its pidfd is
    /// readable. At a clean end there is a word in the pipe before it is closed.
    fn guardian_died(&self) -> bool {
        let Watched { farewell, guardian, .. } = &self.born;
        is_ready(guardian, Until::Readable) || (is_ready(farewell, Until::Readable) && !has_bytes(farewell))
    }

    /// A keeper without a helper has nothing to take down, but it may be the last one that can clear up behind a guardian
    /// and other keepers that are being killed at this very moment: it waits until it knows.
    fn await_guardian(&self, limit: Duration) {
        if self.helper.is_none() {
            let Watched { farewell, guardian, .. } = &self.born;
            let until = [farewell, guardian].map(|fd| Some((fd.as_fd(), Until::Readable)));
            let _ = poll(until, Some(Instant::now() + limit));
        }
    }

    /// Reads the control socket until nothing is there.
    fn obey(&mut self) {
        loop {
            match self.link.next() {
                Ok(Next::NotYet) => return,
                Ok(Next::Closed) => {
                    self.await_guardian(LET_GO_LIMIT);
                    self.take_down_and_exit(Some("the test process had let go of it"));
                }
                Ok(Next::Frame(Frame::Spawn(order))) if self.helper.is_none() => self.spawn(*order),
                // The request of a fixture of which nothing was left when it came.
                Ok(Next::Frame(Frame::Terminate | Frame::Stop(_) | Frame::Kill)) if self.helper.is_none() => {}
                Ok(Next::Frame(Frame::Terminate)) => {
                    self.asked.clear();
                    self.ask_to_leave();
                }
                Ok(Next::Frame(Frame::Stop(ladder))) => self.descend(ladder),
                Ok(Next::Frame(Frame::Kill)) => self.take_down_and_exit(None),
                Ok(Next::Frame(_)) => self.take_down_and_exit(Some(NONSENSE)),
                Err(e) => {
                    // Descriptors were lost (EMFILE), or a frame made no sense.
                    let errno = e.raw_os_error().unwrap_or(0);
                    self.tell(&[Frame::Refused { stage: Stage::Prepare, errno }]);
                    self.take_down_and_exit(Some(NONSENSE));
                }
            }
        }
    }

    fn spawn(&mut self, order: Order) {
        let mut fd = || self.link.take_fd();
        let (Some(cwd), Some(stdin), Some(stdout), Some(stderr)) = (fd(), fd(), fd(), fd()) else {
            self.take_down_and_exit(Some(NONSENSE));
        };
        self.ladder = order.ladder;
        self.started = Instant::now();
        let Order { candidates, args, env, dir, inherited, terminal, .. } = order;
        let stdio = [stdin, stdout, stderr];
        let program = Program { candidates, args, env, cwd, dir, stdio, terminal, inherited };
        let place = self.compartment.as_ref().map(Compartment::dir);
        let (mut in_cgroup, mut started) = (place.is_some(), clone::start(&program, &self.own, place));
        if in_cgroup && started.as_ref().is_err_and(|(stage, _)| *stage == Stage::Clone) {
            // Somebody has removed it, or forbids it after all. The test process hears of it and decides.
            (in_cgroup, started) = (false, clone::start(&program, &self.own, None));
        }
        // From here on the pipes are the helper's alone: its end is their end.
        drop(program);
        match started {
            Ok(pid) => {
                self.helper = Some(pid);
                let pidfd = process::pidfd(pid).ok();
                let fds: Vec<_> = pidfd.as_ref().map(AsFd::as_fd).into_iter().collect();
                // A failure means that the test process is gone, which the next turn sees.
                let frame = Frame::Spawned { pid, in_cgroup };
                let _ = self.link.send(&frame, &fds, Instant::now() + REPLY_LIMIT);
            }
            Err((stage, e)) => {
                self.tell(&[Frame::Refused { stage, errno: e.raw_os_error().unwrap_or(0) }]);
                self.leave(0);
            }
        }
    }

    /// Collects what has ended, tells about the helper, and leaves when nothing is left.
    fn reap(&mut self) {
        let (helper, mut ended) = (self.helper, None);
        let asked = &mut self.asked;
        let empty = tree::reap_all(&self.child_ends, &mut |pid, status| {
            asked.remove(&pid);
            if Some(pid) == helper {
                ended = Some(status);
            }
        });
        if empty && self.helper.is_some() {
            let mut frames: Vec<Frame> = ended.map(|status| self.exited(status, Vec::new(), "")).into_iter().collect();
            let vacant = self.compartment.as_ref().is_none_or(Compartment::is_vacant);
            if !vacant {
                // Nobody waits for a cgroup to be removed.
                self.tell(&std::mem::take(&mut frames));
            }
            // With one that cannot be removed it is not what it was.
            let stays = vacant || self.clear_cgroup(KILL_LIMIT);
            frames.push(Frame::Gone { escapees: self.take_escapees(), survivors: Vec::new(), stays });
            // In one breath, so that the test process wakes once.
            self.tell(&frames);
            if !stays {
                self.leave(0);
            }
            self.rest();
            return;
        }
        if let Some(status) = ended {
            self.status = Some(status);
            let exited = self.exited(status, self.outside_helper(), "");
            self.tell(&[exited]);
            if let Step::AwaitingExit(_) = self.step {
                self.next_step();
            }
        }
        if let Step::AwaitingLeave(_) = self.step {
            // Whoever has lost its parent just now, in a process group of its own, has not been asked yet.
            self.ask_to_leave();
        }
    }

    /// Everything that is alive below this keeper, but not (any more) below the helper.
    fn outside_helper(&self) -> Vec<Found> {
        let mut found = Vec::new();
        let patience = Instant::now() + procfs::EXEC_LIMIT;
        for child in procfs::children(process::own_pid()) {
            if Some(child) != self.helper || self.status.is_some() {
                let alive = |s: &procfs::Stat| !s.is_zombie();
                let below = procfs::descendants(child).into_iter().filter(alive);
                for stat in procfs::stat(child).filter(alive).into_iter().chain(below) {
                    if found.len() < MOST_FOUND {
                        let command = procfs::command_line(stat.pid, patience).chars().take(LONGEST_COMMAND).collect();
                        found.push(Found { pid: stat.pid, command });
                    }
                }
            }
        }
        found
    }

    /// Remembers what has to be ended beside the helper: at the moment when somebody asks for the end, not earlier,
    /// because what leaves by itself a moment after its helper is none.
    fn note_escapees(&mut self) {
        for found in self.outside_helper() {
            self.escapees.entry(found.pid).or_insert(found);
        }
    }

    fn take_escapees(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.escapees).into_values().collect()
    }

    /// Begins the way down; a second request can only make it shorter.
    fn descend(&mut self, ladder: Ladder) {
        self.ladder = ladder;
        if self.helper.is_none() {
            self.leave(0);
        }
        self.note_escapees();
        match (self.step, ladder.eof) {
            (Step::Serving, Some(eof)) if self.status.is_none() => {
                self.step = Step::AwaitingExit(Instant::now() + eof);
            }
            (Step::Serving, _) => self.next_step(),
            (Step::AwaitingExit(_) | Step::AwaitingLeave(_), _) => {}
        }
    }

    fn next_step(&mut self) {
        match (self.step, self.ladder.term) {
            (Step::Serving | Step::AwaitingExit(_), Some(grace)) => {
                self.step = Step::AwaitingLeave(Instant::now() + grace);
                self.ask_to_leave();
                // What has reacted already (or has been gone for long) need not be waited for.
                self.reap();
            }
            _ => self.take_down_and_exit(None),
        }
    }

    /// SIGTERM to every group of ours that has not had it yet, and SIGCONT, so that what was stopped can act on it.
    fn ask_to_leave(&mut self) {
        let mut children = procfs::children(process::own_pid());
        children.retain(|pid| self.asked.insert(*pid));
        tree::ask_groups(&children);
    }

    /// Kills everything, tells what that took, and ends. `abandoned` says why, if it was not asked for.
    fn take_down_and_exit(&mut self, abandoned: Option<&str>) -> ! {
        if abandoned.is_none() {
            self.note_escapees();
        }
        let (helper, mut ended) = (self.helper, None);
        let cgroups: Vec<Cgroup> = self.compartment.iter().map(|c| c.cgroup().clone()).collect();
        let deadline = Instant::now() + KILL_LIMIT;
        let survivors = tree::kill_all(&BTreeSet::new(), &cgroups, &self.child_ends, deadline, &mut |pid, status| {
            if Some(pid) == helper {
                ended = Some(status);
            }
        });
        if let Some(status) = ended {
            let exited = self.exited(status, Vec::new(), abandoned.unwrap_or_default());
            self.tell(&[exited]);
        }
        let alone = survivors.is_empty();
        let escapees = self.take_escapees();
        if alone {
            self.clear_cgroup(KILL_LIMIT);
        }
        self.tell(&[Frame::Gone { escapees, survivors: fit(survivors), stays: false }]);
        if alone || self.keep_trying(&cgroups) {
            self.leave(0);
        }
        self.leave(EXIT_WITH_SURVIVORS)
    }

    /// A report has said what could not be ended in time. It is not given up for that: it is tried again, ever more seldom,
    /// until the test process ends. True when nothing is left.
    fn keep_trying(&mut self, cgroups: &[Cgroup]) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let next = Instant::now() + pause;
            let ready = poll(
                [
                    Some((self.born.test_process.as_fd(), Until::Readable)),
                    Some((self.born.guardian.as_fd(), Until::Readable)),
                    Some((self.born.farewell.as_fd(), Until::Readable)),
                    Some((self.child_ends.as_fd(), Until::Readable)),
                ],
                Some(next),
            );
            let last = !matches!(ready, Ok([false, false, false, _]));
            if last && !self.guardian_died() {
                // It does the same to the same processes, as soon as they are its own.
                return false;
            }
            let limit = if last { KILL_LIMIT } else { RETRY_LIMIT };
            let deadline = Instant::now() + limit;
            if tree::kill_all(&BTreeSet::new(), cgroups, &self.child_ends, deadline, &mut |_, _| {}).is_empty() {
                return true;
            }
            if last {
                return false;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes sure that nothing is left in the cgroup, either, and removes it; true if it is gone.
    fn clear_cgroup(&mut self, limit: Duration) -> bool {
        self.compartment.take().is_none_or(|c| c.cgroup().clear(Instant::now() + limit))
    }

    /// Ends the keeper, whose tree is gone as far as it could be.
    fn leave(&mut self, code: i32) -> ! {
        self.clear_cgroup(if code == EXIT_WITH_SURVIVORS { Duration::ZERO } else { KILL_LIMIT });
        if self.guardian_died() {
            // The guardian cannot do it any more. Other keepers try as well; what is gone is no error,
            // and the last one to finish finds nothing in use.
            crate::own_dir::remove_all(&self.born.root);
            if let Some(all) = &self.born.cgroups {
                // Also what a keeper has left that was killed as well: the one thing that still knows it.
                all.clear(Instant::now() + KILL_LIMIT);
            }
        }
        exit_now(code)
    }

    fn exited(&self, status: ExitStatus, left: Vec<Found>, note: &str) -> Frame {
        Frame::Exited { status, after: self.started.elapsed(), left, note: note.to_owned() }
    }

    fn tell(&self, frames: &[Frame]) {
        // If nobody hears it, the next turn notices that; there is nothing else to do about it.
        let _ = self.link.send_all(frames, Instant::now() + REPLY_LIMIT);
    }
}
