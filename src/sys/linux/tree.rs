//! The end of a process tree, confirmed by the kernel.
//!
//! The caller is a subreaper, so whatever loses its parent becomes its child: killing the children, reaping them
//! and looking again converges on an empty tree.
//! Two things make it converge quickly: a whole process group dies by one call, and a tree that forks faster than we kill
//! is frozen first.
//!
//! No signal goes to a number that is not proven: a child that only the caller can reap keeps its number until then,
//! and so does the group that it is in (kernel/pid.c: a number is free when no task uses it as pid, group or session);
//! anything deeper is signalled through a pidfd whose place in the tree was checked *after* it was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::fds::{Until, is_ready, poll};
use super::process::{self, Reaped};
use super::procfs::{self, Stat};
use super::signals;

/// How long killing alone may go on before the tree is frozen.
const FREEZE_AFTER: Duration = Duration::from_millis(250);

/// How long killing one by one may go on before the cgroup, where there is one, ends the rest in one step.
///
/// Also how long guardians and keepers below us, those of a test process that was a helper, may clean up behind it: they
/// know what is to be removed, and are quick.
const SPARE_GUARDIANS_FOR: Duration = Duration::from_millis(100);

/// A process that could not be ended, and why: a tombstone in the report, never an endless wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survivor {
    pub(crate) pid: i32,
    /// Clock ticks after boot; with the pid it names one process for ever.
    pub(crate) start: u64,
    pub(crate) command: String,
    pub(crate) reason: String,
}

/// Kills and reaps every descendant of the caller, except the children in `spared` and what is below them.
///
/// Returns when nothing is left or the deadline has passed, with what is left.
/// `child_ends` is the caller's [`signals::child_ends`]; `reaped` is told about every child that is reaped.
/// What is in `cgroups` is part of the tree, or was before its keeper died.
pub(crate) fn kill_all(
    spared: &BTreeSet<i32>,
    cgroups: &[Cgroup],
    child_ends: &OwnedFd,
    deadline: Instant,
    reaped: &mut dyn FnMut(i32, ExitStatus),
) -> Vec<Survivor> {
    kill_all_but(spared, &BTreeSet::new(), cgroups, child_ends, deadline, reaped)
}

/// As [`kill_all`], where the spared may be anywhere in the tree: one that loses its parent is spared as our child, too.
///
/// No signal goes to `groups`, those that somebody spared is in: the others in them are killed one by one.
pub(crate) fn kill_all_but(
    spared: &BTreeSet<i32>,
    groups: &BTreeSet<i32>,
    cgroups: &[Cgroup],
    child_ends: &OwnedFd,
    deadline: Instant,
    reaped: &mut dyn FnMut(i32, ExitStatus),
) -> Vec<Survivor> {
    let own = process::own_pid();
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut refused = BTreeMap::new();
    let mut first = None;
    loop {
        let no_child = reap_all(child_ends, reaped);
        if no_child {
            return Vec::new();
        }
        let children: Vec<i32> = procfs::children(own).into_iter().filter(|pid| !spared.contains(pid)).collect();
        if children.is_empty() && !spared.is_empty() {
            // The kernel cannot say ECHILD while spared children live. A list read while the tree changes may be
            // short, so only a second look with nothing reaped in between counts as empty.
            let mut changed = false;
            reap_all(child_ends, &mut |pid, status| {
                changed = true;
                reaped(pid, status);
            });
            if !changed && procfs::children(own).iter().all(|pid| spared.contains(pid)) {
                return Vec::new();
            }
            continue;
        }
        if Instant::now() >= deadline {
            let mut left = survivors(own, spared, &refused);
            if left.is_empty() && spared.is_empty() {
                // The kernel has just said that there are children, so somebody is left, whatever /proc shows.
                let (command, reason) = ("?".to_owned(), "/proc does not show it (hidepid?)".to_owned());
                left.push(Survivor { pid: 0, start: 0, command, reason });
            }
            return left;
        }
        let patient = began.elapsed() < SPARE_GUARDIANS_FOR;
        if !patient {
            cgroups.iter().for_each(Cgroup::kill);
        }
        if began.elapsed() >= FREEZE_AFTER {
            // To the end: one that slipped through multiplies again in the time that others would take from us.
            first.get_or_insert_with(process::GoFirst::new);
            freeze_and_kill(own, spared, deadline);
        }
        kill_each(&children, groups, patient, &mut refused);
        // A death in the second generation hands us orphans without telling us, hence the growing time limit.
        let next_look = (Instant::now() + pause).min(deadline);
        let _ = poll([Some((child_ends.as_fd(), Until::Readable))], Some(next_look));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks the given children, and every process group that they are in, to leave.
///
/// SIGCONT after SIGTERM, so that a stopped process can act on it.
pub(crate) fn ask_groups(children: &[i32]) {
    signal_each(children, &BTreeSet::new(), &[libc::SIGTERM, libc::SIGCONT], false, &mut BTreeMap::new());
}

/// SIGKILL to the given children and their groups; for as long as we are `patient`, not to guardians and keepers.
fn kill_each(children: &[i32], spared: &BTreeSet<i32>, patient: bool, refused: &mut BTreeMap<i32, io::Error>) {
    signal_each(children, spared, &[libc::SIGKILL], patient, refused);
}

/// What guardians and keepers call themselves.
const OWN_NAMES: [&str; 2] = ["foster-guardian", "foster-keeper"];

fn signal_each(
    children: &[i32],
    spared: &BTreeSet<i32>,
    signals: &[i32],
    patient: bool,
    refused: &mut BTreeMap<i32, io::Error>,
) {
    let own_session = process::session(0).unwrap_or(0);
    // Whose groups have been dealt with, or must not be.
    let mut groups = spared.clone();
    for pid in children {
        match procfs::stat(*pid) {
            Some(stat) if patient && OWN_NAMES.contains(&stat.comm.as_str()) => {
                // It has seen by itself that its test process is gone; if it was stopped, it sees that now.
                let _ = process::signal_child(*pid, libc::SIGCONT);
                continue;
            }
            Some(stat) if stat.session != own_session && groups.insert(stat.group) => {
                // A session that began below us holds descendants of ours only, so its groups do, too.
                // ESRCH or EPERM: its members are dealt with one by one.
                for signal in signals {
                    let _ = process::signal_group(stat.group, *signal);
                }
            }
            _ => {}
        }
        for signal in signals {
            match process::signal_child(*pid, *signal) {
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                    refused.insert(*pid, e);
                }
                _ => {}
            }
        }
    }
}

/// Reaps what has ended; true when the kernel says that there is no child left at all.
pub(crate) fn reap_all(child_ends: &OwnedFd, reaped: &mut dyn FnMut(i32, ExitStatus)) -> bool {
    // First the notices, then the children: an end between the two leaves a notice behind.
    signals::drain(child_ends);
    loop {
        match process::reap_any() {
            Reaped::One(pid, status) => reaped(pid, status),
            Reaped::NothingYet => return false,
            Reaped::NoChild => return true,
        }
    }
}

/// Stops the whole tree, looks again until nothing new is found, and only then kills: what is stopped cannot fork.
///
/// One look is not enough to say so: whoever loses its parent in the middle of it moves from a list that has not been read
/// yet to one that has. It moves once, to us, so the next look finds it.
fn freeze_and_kill(own: i32, spared: &BTreeSet<i32>, deadline: Instant) {
    const LOOKS: u32 = 2;
    let mut held: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    let mut nothing_new = 0;
    while nothing_new < LOOKS && Instant::now() < deadline {
        let before = held.len();
        let mut next = vec![own];
        let mut seen = BTreeSet::new();
        while let Some(parent) = next.pop() {
            for pid in procfs::children(parent) {
                if spared.contains(&pid) || !seen.insert(pid) {
                    continue;
                }
                if !held.contains_key(&pid) {
                    let Some((handle, _)) = prove(pid, parent, own, &held) else { continue };
                    let _ = process::signal_pidfd(handle.as_fd(), libc::SIGSTOP);
                    held.insert(pid, handle);
                }
                next.push(pid);
            }
        }
        nothing_new = if held.len() == before { nothing_new + 1 } else { 0 };
    }
    for handle in held.values() {
        // ESRCH: already gone. EPERM: reported by the round that follows, when it is a child of ours.
        let _ = process::signal_pidfd(handle.as_fd(), libc::SIGKILL);
    }
}

/// A handle on `pid` if it is a child of `parent`, and `parent` is still the process that we know.
///
/// The order matters: open, then read who the parent is, then see that neither has ended meanwhile.
/// A process that is alive keeps its number, so what was read was read about the process behind the handle.
fn prove(pid: i32, parent: i32, own: i32, held: &BTreeMap<i32, OwnedFd>) -> Option<(OwnedFd, Stat)> {
    let handle = process::pidfd(pid).ok()?;
    let stat = procfs::stat(pid)?;
    let parent_alive = parent == own || held.get(&parent).is_some_and(|p| !is_ready(p, Until::Readable));
    (stat.parent == parent && parent_alive && !is_ready(&handle, Until::Readable)).then_some((handle, stat))
}

/// Handles on those below the caller whom `wanted` names, each proven to be there; on nobody who is spared, or below one.
///
/// Who moves during the look may be missed, and so is whoever is too many for the descriptors that this process may have.
#[cfg(feature = "leakcheck")]
pub(crate) fn handles(spared: &BTreeSet<i32>, wanted: &dyn Fn(&Stat) -> bool) -> Vec<(Stat, OwnedFd)> {
    let own = process::own_pid();
    let mut held: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    let mut found = Vec::new();
    let mut next = vec![own];
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // Some are needed for `/proc`, and for what is open already.
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(64);
    while let Some(parent) = next.pop() {
        for pid in procfs::children(parent) {
            if spared.contains(&pid) || held.contains_key(&pid) || held.len() >= most {
                continue;
            }
            let Some((handle, stat)) = prove(pid, parent, own, &held) else { continue };
            held.insert(pid, handle);
            next.push(pid);
            found.push(stat);
        }
    }
    let wanted = found.into_iter().filter(|stat| wanted(stat));
    wanted.filter_map(|stat| held.remove(&stat.pid).map(|handle| (stat, handle))).collect()
}

fn survivors(own: i32, spared: &BTreeSet<i32>, refused: &BTreeMap<i32, io::Error>) -> Vec<Survivor> {
    let mut left = Vec::new();
    let mut next: Vec<i32> = procfs::children(own).into_iter().filter(|pid| !spared.contains(pid)).collect();
    while let Some(pid) = next.pop() {
        next.extend(procfs::children(pid).into_iter().filter(|child| !spared.contains(child)));
        if let Some(stat) = procfs::stat(pid).filter(|s| !s.is_zombie()) {
            left.push(Survivor {
                pid,
                start: stat.start,
                // Time is up already.
                command: procfs::command_line(pid, Instant::now()),
                reason: reason(&stat, refused.get(&pid)),
            });
        }
    }
    left
}

fn reason(stat: &Stat, refused: Option<&io::Error>) -> String {
    match (refused, stat.state) {
        (Some(e), _) => format!("the kernel refuses to signal it ({e}): it runs as another user"),
        (None, 'D') => "it is in uninterruptible sleep (state D)".to_owned(),
        (None, 't') => "it is stopped by a tracer (state t)".to_owned(),
        (None, state) => format!("it has not reacted to SIGKILL yet (state {state})"),
    }
}
