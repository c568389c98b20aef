//! Who started whom, noted while it can still be seen.
//!
//! The kernel forgets a parent when it ends: the orphan's parent is then the subreaper, which is us.
//! There is no event for "somebody below you has forked", and looking again and again would cost every suite something.
//! So a look is taken when an event comes anyway, an orphan's end or the suite's, and often the answer remains "unknown".

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sys::procfs;

/// Orphans may end thousands of times a second. A look costs some ten microseconds per process.
const PAUSE: Duration = Duration::from_millis(50);

/// More than this is not remembered.
const ENOUGH: usize = 20_000;

/// A process for ever: its number and its start.
type Key = (i32, u64);

#[derive(Debug)]
struct Known {
    comm: String,
    /// `None` for a child of ours.
    parent: Option<Key>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    known: BTreeMap<Key, Known>,
    last: Option<Instant>,
}

impl Lineage {
    /// Looks below `root`, unless that was done a moment ago.
    pub(super) fn look_at_times(&mut self, root: i32) {
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.note(&procfs::descendants(root));
            self.last = Some(Instant::now());
        }
    }

    /// Notes what a look has shown. A parent that is known is never forgotten for a later one: that is a foster parent.
    pub(super) fn note(&mut self, seen: &[procfs::Stat]) {
        let keys: BTreeMap<i32, Key> = seen.iter().map(|s| (s.pid, (s.pid, s.start))).collect();
        if self.known.len() + seen.len() > ENOUGH {
            self.known.retain(|key, _| keys.get(&key.0) == Some(key));
        }
        for stat in seen {
            let parent = keys.get(&stat.parent).copied();
            let known =
                self.known.entry((stat.pid, stat.start)).or_insert_with(|| Known { comm: String::new(), parent });
            // It changes with `exec`.
            known.comm.clone_from(&stat.comm);
        }
    }

    /// The ancestors of a process below us, the nearest first, and whether the last of them is `top`, the suite itself.
    ///
    /// Otherwise the parent of the last one, or of the process itself, is unknown.
    pub(super) fn ancestors(&self, of: &procfs::Stat, top: i32) -> (Vec<String>, bool) {
        let mut names = Vec::new();
        let mut last = of.pid;
        let mut key = self.known.get(&(of.pid, of.start)).and_then(|known| known.parent);
        while let Some(at) = key {
            let Some(known) = self.known.get(&at) else { break };
            names.push(format!("{} (pid {})", known.comm, at.0));
            last = at.0;
            // The number of a parent is taken for the process that had it then, so a circle cannot be; but never hang.
            key = known.parent.filter(|_| names.len() < 100);
        }
        (names, last == top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, comm: &str) -> procfs::Stat {
        let (group, session, threads) = (pid, pid, 1);
        procfs::Stat { pid, comm: comm.to_owned(), state: 'S', parent, group, session, threads, start: 7 }
    }

    #[test]
    fn a_parent_is_remembered_after_its_end() {
        let mut lineage = Lineage::default();
        lineage.note(&[stat(10, 1, "cargo"), stat(11, 10, "it"), stat(12, 11, "sh")]);
        lineage.note(&[stat(12, 1, "server"), stat(13, 12, "worker")]);
        let of = |pid| lineage.ancestors(&stat(pid, 1, ""), 10);
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(12), (names(&["it (pid 11)", "cargo (pid 10)"]), true));
        assert_eq!(of(13), (names(&["server (pid 12)", "it (pid 11)", "cargo (pid 10)"]), true));
    }

    #[test]
    fn what_was_not_seen_is_not_made_up() {
        let mut lineage = Lineage::default();
        lineage.note(&[stat(12, 1, "server"), stat(13, 12, "worker")]);
        let of = |pid| lineage.ancestors(&stat(pid, 1, ""), 10);
        assert_eq!(of(12), (Vec::new(), false));
        assert_eq!(of(13), (vec!["server (pid 12)".to_owned()], false));
        assert_eq!(of(99), (Vec::new(), false));
    }
}
