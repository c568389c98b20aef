//! The end of an interrupted run: everything below is asked to leave, from the top down, and then made to.
//!
//! A test runner that is asked ends its tests, and a second request means "at once" to many programs; so nobody is asked
//! twice, and nobody who has a parent left: each process is asked when it becomes our child.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::check::Check;
use super::leak::Leak;
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
/// A second request cuts the waiting short.
pub(super) fn end(check: &mut Check, request: Request) -> Vec<Leak> {
    let own_group = procfs::stat(process::own_pid()).map(|s| s.group);
    let mut round = Round {
        began: Instant::now(),
        orphans: check.children().into_iter().filter(|pid| *pid != check.suite).collect(),
        told: own_group.filter(|_| request.from_terminal),
        asked: BTreeSet::new(),
    };
    let mut found: Vec<Leak> = Vec::new();
    let mut announced = false;
    while !check.is_empty() {
        let passed = round.began.elapsed();
        let settled = passed >= SETTLING;
        let insists = check.notices.next_request().is_some() && settled;
        let over = insists || passed >= PATIENCE;
        if over || (settled && !announced) {
            for stat in check.alive() {
                let reported = found.iter().any(|l| l.is(stat.pid, stat.start));
                if !reported && (over || round.orphans.contains(&stat.pid)) {
                    found.extend(check.describe(&stat));
                }
            }
        }
        if over {
            break;
        }
        if settled && !announced {
            announced = true;
            let (name, left) = (signal_name(request.signal), seconds(PATIENCE.saturating_sub(passed)));
            say_all(&format!(
                "leakcheck: interrupted by {name}; what still runs has {left} to end, a second signal ends it now\n"
            ));
        }
        round.ask(&check.children(), passed);
        let next = [SETTLING, TOLD, PATIENCE].into_iter().find(|d| *d > passed).unwrap_or(PATIENCE);
        check.await_notice(round.began + next);
    }
    found
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
