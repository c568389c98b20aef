//! What is done to leaks: they are asked, and then made to end; and what the policy spares is left alone.
//!
//! Everything has been read by now, because the kernel forgets a process with its end.
//! Asking comes first so that a server can remove its files and a database can close its log; it is short, because whoever
//! was forgotten by its test has had the grace already.
//!
//! A process that is spared is left alone with everything below it, wherever it is in the tree: when a leak above it is
//! ended, it becomes our child and is spared as such, and no signal goes to its process group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Leak;
use super::check::Check;
use super::evidence;
use super::facts::millis;
use super::progress::Line;
use crate::sys::fds::{Until, await_any, is_ready};
use crate::sys::{AsFd, ending_signal, process, procfs, signals, tasks, tree};

/// How long leaks may take to end when they are asked to.
const POLITE: Duration = Duration::from_millis(300);

/// How long SIGKILL may take to empty the tree before what is left is reported instead of waited for.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Takes what the policy spares, and whatever is below it, out of all that follows.
pub(super) fn set_aside(check: &mut Check<'_>, leaks: &mut [Leak]) {
    for leak in leaks.iter_mut() {
        leak.deed.spared = (check.spares)(leak);
    }
    let roots: BTreeSet<i32> = leaks.iter().filter(|l| l.deed.spared).map(pid).collect();
    if roots.is_empty() {
        return;
    }
    for leak in leaks.iter_mut() {
        leak.deed.spared = leak.deed.spared || is_below(pid(leak), &roots);
    }
    for leak in leaks.iter().filter(|l| l.deed.spared) {
        check.spared.insert(pid(leak));
        check.spared_groups.insert(leak.group);
        // Also of what is below it and has not been described.
        let below = procfs::stat(pid(leak)).map(|stat| tasks::below(&stat, &|_| false));
        check.spared_groups.extend(below.into_iter().flatten().map(|below| below.stat.group));
    }
}

/// Ends every leak that is not spared, and whatever else is there; `asked` says that everybody has been asked already.
///
/// How many were killed whom nobody had seen, and whether the kernel confirms that nothing is left but what is spared.
pub(super) fn end(check: &mut Check<'_>, leaks: &mut Vec<Leak>, asked: bool, line: &mut Line) -> (usize, bool) {
    let began = Instant::now();
    if !asked {
        ask(check, leaks, line);
    }
    if check.is_empty() {
        return (0, true);
    }
    for leak in leaks.iter_mut().filter(|l| !l.deed.spared && l.deed.took_ms.is_none()) {
        // What has ended meanwhile did so when it was asked, or with its parent.
        leak.deed.killed = procfs::stat(pid(leak)).is_some_and(|s| leak.is(s.pid, s.start) && !s.is_zombie());
        if leak.deed.killed && leak.deed.terminated {
            leak.escapes.extend(evidence::caught(pid(leak)));
        }
    }
    let (latecomers, ends) = kill(check, leaks);
    for leak in leaks.iter_mut().filter(|l| !l.deed.spared && l.deed.took_ms.is_none()) {
        // Whose parent has reaped it ended some time before everything was over.
        let end = ends.get(&pid(leak)).copied().unwrap_or_else(Instant::now);
        leak.deed.took_ms = leak.deed.survived.is_none().then_some(millis(end - began));
        leak.deed.killed &= leak.deed.survived.is_none();
    }
    (latecomers, check.is_empty())
}

/// Asks all of them at once and waits until they have ended, or for as long as that may take.
fn ask(check: &mut Check<'_>, leaks: &mut [Leak], line: &mut Line) {
    let began = Instant::now();
    let wanted: BTreeSet<(i32, u64)> =
        leaks.iter().filter(|l| !l.deed.spared).map(|l| (pid(l), l.start_ticks)).collect();
    let mut asked = tree::handles(&check.untouchable(), &|stat| wanted.contains(&(stat.pid, stat.start)));
    for (stat, handle) in &asked {
        // ESRCH: it has just ended. EPERM is reported when killing fails as well.
        let terminated = process::signal_pidfd(handle.as_fd(), signals::SIGTERM).is_ok();
        // So that one that is stopped can act on it.
        let _ = process::signal_pidfd(handle.as_fd(), signals::SIGCONT);
        if let Some(leak) = leaks.iter_mut().find(|l| l.is(stat.pid, stat.start)) {
            leak.deed.terminated = terminated;
        }
    }
    let deadline = began + POLITE;
    loop {
        // Whoever waits for a child of its own waits for that child's parent to be reaped by us.
        check.reap();
        asked.retain(|(stat, handle)| {
            let ended = is_ready(handle, Until::Readable);
            if let Some(leak) = leaks.iter_mut().find(|l| ended && l.is(stat.pid, stat.start)) {
                leak.deed.took_ms = Some(millis(began.elapsed()));
            }
            !ended
        });
        if asked.is_empty() || Instant::now() >= deadline || check.is_requested() {
            break;
        }
        line.show(|| format!("leakcheck: {} that were asked to end have not yet", asked.len()));
        let handles = asked.iter().map(|(_, handle)| handle.as_fd());
        let notices = [check.notices.child_ends().as_fd(), check.notices.requests()];
        await_any(&handles.chain(notices).collect::<Vec<_>>(), deadline);
    }
}

/// SIGKILL to everything that is not spared. How many were killed whom nobody had seen; when each child of ours ended.
fn kill(check: &mut Check<'_>, leaks: &mut Vec<Leak>) -> (usize, BTreeMap<i32, Instant>) {
    let mut ends = BTreeMap::new();
    let mut latecomers = 0;
    let (untouchable, groups) = (check.untouchable(), check.spared_groups.clone());
    let deadline = Instant::now() + KILL_LIMIT;
    let Check { notices, suite, status, before, seen, spared, .. } = check;
    let mut reaped = |pid, how| {
        ends.insert(pid, Instant::now());
        if pid == *suite && status.is_none() {
            *status = Some(how);
        } else if !before.remove(&pid)
            && !spared.contains(&pid)
            && !seen.contains(&pid)
            && ending_signal(how) == Some(signals::SIGKILL)
        {
            latecomers += 1;
        }
    };
    let survivors = tree::kill_all_but(&untouchable, &groups, &[], notices.child_ends(), deadline, &mut reaped);
    for survivor in survivors {
        if !leaks.iter().any(|l| l.is(survivor.pid, survivor.start)) {
            leaks.extend(procfs::stat(survivor.pid).and_then(|stat| check.describe(&stat)));
        }
        if let Some(leak) = leaks.iter_mut().find(|l| l.is(survivor.pid, survivor.start)) {
            leak.deed.survived = Some(survivor.reason);
        }
    }
    (latecomers, ends)
}

/// The kernel's numbers fit; what does not is nobody's.
fn pid(leak: &Leak) -> i32 {
    i32::try_from(leak.pid).unwrap_or(i32::MAX)
}

/// Is one of them above this process, as the tree is now?
fn is_below(pid: i32, roots: &BTreeSet<i32>) -> bool {
    let own = process::own_pid();
    let mut next = procfs::stat(pid);
    for _ in 0..100 {
        match next {
            Some(stat) if roots.contains(&stat.parent) => return true,
            Some(stat) if stat.parent > 1 && stat.parent != own => next = procfs::stat(stat.parent),
            _ => return false,
        }
    }
    false
}
