//! The end of a run that is interrupted or out of time: everything below is asked to leave, from the top down, and then
//! made to.
//!
//! A test runner that is asked ends its tests, and a second request means "at once" to many programs; so nobody is asked
//! twice, and nobody who has a parent left: each process is asked when it becomes our child.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::check::Check;
use super::deed;
use super::leak::Leak;
use super::progress::Line;
use crate::report::{seconds, signal_name};
use crate::sys::supervise::{Request, say_all};
use crate::sys::{process, procfs, signals};

/// How long everything together may take to leave. CI systems kill some seconds after they have asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an orphan may take to end by itself, because its parent may have ended in this very moment.
///
/// A second signal within that time is taken for an echo of the first: timeout(1) signals its child and then the group.
const SETTLING: Duration = Duration::from_millis(500);

/// How long whoever has been told by the terminal may take, before the request comes all the same: a job that a shell
/// has put into the background ignores Ctrl-C.
const TOLD: Duration = Duration::from_secs(2);

/// How many orphans the policy is asked about before they are asked to end: some suites make thousands in a second.
const CONSIDERED: usize = 500;

/// Why the suite is ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// Somebody has asked for it.
    Request(Request),
    /// It has taken longer than this.
    TimeUp(Duration),
}

/// Who is asked when, and who is reported.
struct Round {
    began: Instant,
    /// Children at the beginning that are not the suite: they had lost their parents before.
    orphans: BTreeSet<i32>,
    /// The foreground process group, if all of it has been told by the terminal.
    told: Option<i32>,
    asked: BTreeSet<i32>,
}

/// Ends the suite and what it has started, as politely as they let us, except for what must be killed.
///
/// The leaks: orphans that did not end by themselves at once, and whatever has not ended when it was asked.
/// A second request cuts the waiting short. What the policy spares is left alone, and is among the leaks.
pub(super) fn end(check: &mut Check<'_>, cause: Cause, line: &mut Line) -> Vec<Leak> {
    let own_group = procfs::stat(process::own_pid()).map(|s| s.group);
    let mut considered = BTreeSet::from([check.suite]);
    let mut found = spare(check, &mut considered);
    let mut round = Round {
        began: Instant::now(),
        orphans: check.children().into_iter().filter(|pid| *pid != check.suite).collect(),
        told: own_group.filter(|_| matches!(cause, Cause::Request(request) if request.from_terminal)),
        asked: BTreeSet::new(),
    };
    let mut announced = false;
    while !check.is_empty() {
        let passed = round.began.elapsed();
        let settled = passed >= SETTLING;
        let insists = check.notices.next_request().is_some() && (settled || matches!(cause, Cause::TimeUp(_)));
        let over = insists || passed >= PATIENCE;
        if over || (settled && !announced) {
            let mut more: Vec<Leak> = Vec::new();
            for stat in check.alive() {
                let reported = found.iter().any(|l| l.is(stat.pid, stat.start));
                if !reported && (over || round.orphans.contains(&stat.pid)) {
                    more.extend(check.describe(&stat));
                }
            }
            // Only now: what the suite had started to stay may have become an orphan since.
            deed::set_aside(check, &mut more);
            found.append(&mut more);
        }
        if over {
            break;
        }
        if settled && !announced {
            announced = true;
            let why = match cause {
                Cause::Request(request) => format!("interrupted by {}", signal_name(request.signal)),
                Cause::TimeUp(_) => "all of it has been asked to end".to_owned(),
            };
            let (left, again) = (
                seconds(PATIENCE.saturating_sub(passed)),
                if matches!(cause, Cause::TimeUp(_)) { "a" } else { "a second" },
            );
            line.erase();
            say_all(&format!("leakcheck: {why}; what still runs has {left} to end, {again} signal ends it now\n"));
        }
        found.append(&mut spare(check, &mut considered));
        round.ask(&check.children(), passed);
        let next = [SETTLING, TOLD, PATIENCE].into_iter().find(|d| *d > passed).unwrap_or(PATIENCE);
        check.await_notice(round.began + next);
    }
    for leak in &mut found {
        leak.deed.terminated = round.asked.contains(&i32::try_from(leak.pid).unwrap_or(0));
    }
    found
}

/// The orphans that the policy spares, of those who have not been considered yet: they are not even asked.
fn spare(check: &mut Check<'_>, considered: &mut BTreeSet<i32>) -> Vec<Leak> {
    let children = check.children();
    let mut new = |pid: &i32| considered.len() < CONSIDERED && considered.insert(*pid);
    let new: BTreeSet<i32> = children.into_iter().filter(|pid| new(pid)).collect();
    if new.is_empty() {
        return Vec::new();
    }
    let alive = check.alive();
    let mut leaks: Vec<Leak> =
        alive.iter().filter(|stat| new.contains(&stat.pid)).filter_map(|stat| check.describe(stat)).collect();
    deed::set_aside(check, &mut leaks);
    leaks.retain(|leak| leak.deed.spared);
    leaks
}

impl Round {
    fn ask(&mut self, children: &[i32], passed: Duration) {
        for pid in children {
            let due = if self.told.is_some() && procfs::stat(*pid).map(|s| s.group) == self.told {
                TOLD
            } else if self.orphans.contains(pid) {
                SETTLING
            } else {
                Duration::ZERO
            };
            if passed >= due && self.asked.insert(*pid) {
                // ESRCH cannot be, as only we can reap it; EPERM is reported when killing fails as well.
                let _ = process::signal_child(*pid, signals::SIGTERM);
                // So that one that is stopped can act on it.
                let _ = process::signal_child(*pid, signals::SIGCONT);
            }
        }
    }
}
