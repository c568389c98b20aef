//! Who started whom, noted while it can still be seen.
//!
//! The kernel forgets a parent when it ends: the orphan's parent is then the subreaper, which is us.
//! There is no event for "somebody below you has forked", so looks are taken [at times](super::pace), and what was born and
//! has lost its parent between two of them remains "unknown".
//!
//! What a process says about itself is noted when it is first seen as well: a later `exec`, a title written over the
//! environment, or its end would hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub(super) use super::line::{Born, Line, Marks};
use super::options::HINTS;
use crate::sys::tasks::{self, Below};
use crate::sys::{details, procfs};

/// More than this is not remembered.
const ENOUGH: usize = 20_000;

/// How often an environment that reads empty is asked for again: some processes have really none.
const ASK_AGAIN: u32 = 20;

/// How many executables of one process are remembered: a process may call `exec` without end.
const EXECUTABLES: usize = 4;

/// A process for ever: its number and its start.
type Key = (i32, u64);

/// What is asked of the kernel about a process that a look has found.
pub(super) trait Eyes {
    /// The file that it executes.
    fn executable(&mut self, pid: i32) -> Option<PathBuf>;
    /// `None` if nothing can be read, which says nothing: right after a fork it reads empty (E11).
    fn marks(&mut self, pid: i32) -> Option<Marks>;
    /// The name of a thread.
    fn thread(&mut self, pid: i32, thread: i32) -> Option<String>;
    /// The pipes that are its standard output and error.
    fn outputs(&mut self, pid: i32) -> Vec<String>;
}

/// The real ones.
#[derive(Debug)]
pub(super) struct Proc;

impl Eyes for Proc {
    fn executable(&mut self, pid: i32) -> Option<PathBuf> {
        details::executable(pid)
    }

    fn marks(&mut self, pid: i32) -> Option<Marks> {
        details::variables(pid, &HINTS)
    }

    fn thread(&mut self, pid: i32, thread: i32) -> Option<String> {
        tasks::name(pid, thread)
    }

    fn outputs(&mut self, pid: i32) -> Vec<String> {
        [1, 2].into_iter().filter_map(|fd| details::descriptor(pid, fd)).filter(|link| is_pipe(link)).collect()
    }
}

/// Does whoever reads from it wait for as long as somebody holds this?
pub(super) fn is_pipe(link: &str) -> bool {
    link.starts_with("pipe:") || link.starts_with("socket:")
}

#[derive(Debug)]
struct Known {
    born: Born,
    /// `None` for a child of ours.
    parent: Option<Key>,
    /// Was it a child of ours when it was last seen?
    orphaned: bool,
    /// Has its environment not been read yet, since its last `exec`?
    unread: bool,
    /// How often it has been asked for since then.
    asked: u32,
    /// Of its program: see [`procfs::Stat::image`].
    image: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    known: BTreeMap<Key, Known>,
}

impl Lineage {
    /// Notes what a look has shown. A parent that is known is never forgotten for a later one: that is a foster parent.
    pub(super) fn note(&mut self, seen: &[Below], eyes: &mut dyn Eyes) {
        let now: BTreeMap<i32, &procfs::Stat> = seen.iter().map(|b| (b.stat.pid, &b.stat)).collect();
        if self.known.len() + seen.len() > ENOUGH {
            self.forget(&now);
        }
        for Below { stat, thread } in seen {
            let key = (stat.pid, stat.start);
            let mut changed = false;
            let known = self.known.entry(key).or_insert_with(|| {
                changed = true;
                let parent = now.get(&stat.parent);
                // A thread that ends leaves its children to the main one, and only if that has ended, to another.
                let told = parent.is_some_and(|p| *thread != p.pid && !matches!(p.state, 'Z' | 'X'));
                Known {
                    parent: parent.map(|p| (p.pid, p.start)),
                    orphaned: false,
                    unread: true,
                    asked: 0,
                    image: stat.image,
                    born: newborn(stat, told.then_some(*thread), eyes),
                }
            });
            known.orphaned = !now.contains_key(&stat.parent);
            // What has ended has no memory, and was no other program for that.
            if changed || known.born.comm != stat.comm || (known.image != stat.image && stat.image != 0) {
                known.born.comm.clone_from(&stat.comm);
                known.born.group = stat.group;
                known.image = stat.image;
                // It may be in the middle of its `exec`, when the new environment reads empty.
                (known.unread, known.asked) = (true, 0);
                if known.born.executables.len() < EXECUTABLES {
                    let exe = eyes.executable(stat.pid);
                    known.born.executables.extend(exe.filter(|exe| known.born.executables.last() != Some(exe)));
                }
            }
            known.ask(stat, eyes);
        }
    }

    /// Has this one been seen as a child of ours before, and been asked where it comes from?
    ///
    /// Not by its start: a number that has passed on to another child of ours is as rare as it is harmless, since everybody
    /// who is alive at the end is seen then.
    pub(super) fn is_orphan(&self, pid: i32) -> bool {
        let known = self.known.range((pid, 0)..=(pid, u64::MAX)).next_back();
        known.is_some_and(|(_, known)| known.orphaned && (!known.unread || known.asked >= ASK_AGAIN))
    }

    /// Forgets who is neither there nor an ancestor of anybody.
    fn forget(&mut self, now: &BTreeMap<i32, &procfs::Stat>) {
        let mut kept: BTreeSet<Key> = BTreeSet::new();
        for stat in now.values() {
            let mut next = Some((stat.pid, stat.start));
            while let Some(key) = next.filter(|key| kept.insert(*key)) {
                next = self.known.get(&key).and_then(|known| known.parent);
            }
        }
        self.known.retain(|key, _| kept.contains(key));
    }

    /// Somebody below us and its ancestors, as they were when they were born; `top` is the suite itself.
    pub(super) fn line(&self, of: &procfs::Stat, top: i32) -> Line {
        let mut line = Line::default();
        let mut next = Some((of.pid, of.start));
        while let Some(known) = next.and_then(|key| self.known.get(&key)) {
            line.born.push(known.born.clone());
            // The number of a parent is taken for the process that had it then, so a circle cannot be; but never hang.
            next = known.parent.filter(|_| line.born.len() < 100);
        }
        line.complete = line.born.last().is_some_and(|born| born.pid == top);
        line
    }
}

fn newborn(stat: &procfs::Stat, thread: Option<i32>, eyes: &mut dyn Eyes) -> Born {
    Born {
        pid: stat.pid,
        start: stat.start,
        comm: stat.comm.clone(),
        executables: Vec::new(),
        thread: thread.and_then(|thread| eyes.thread(stat.parent, thread)),
        marks: None,
        group: stat.group,
        outputs: Vec::new(),
    }
}

impl Known {
    /// Reads the environment, unless that has been done; what an older one has told is kept.
    fn ask(&mut self, stat: &procfs::Stat, eyes: &mut dyn Eyes) {
        if !self.unread || stat.is_zombie() || self.asked >= ASK_AGAIN {
            return;
        }
        self.asked += 1;
        if let Some(told) = eyes.marks(stat.pid) {
            self.unread = false;
            let marks = self.born.marks.get_or_insert_with(Marks::new);
            for (name, value) in told {
                marks.entry(name).or_insert(value);
            }
        }
        if self.born.outputs.is_empty() && self.born.runs_tests() {
            self.born.outputs = eyes.outputs(stat.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::looks_like_a_test;
    use super::*;
    use std::path::Path;

    fn child(pid: i32, parent: i32, thread: i32, comm: &str) -> Below {
        let (group, session, threads) = (pid, pid, 1);
        let stat = procfs::Stat {
            pid,
            comm: comm.to_owned(),
            state: 'S',
            parent,
            group,
            session,
            threads,
            start: 7,
            image: 1,
        };
        Below { stat, thread }
    }

    fn stat(pid: i32, parent: i32, comm: &str) -> Below {
        child(pid, parent, parent, comm)
    }

    /// Sees what it is told to see.
    #[derive(Default)]
    struct Fake {
        marks: BTreeMap<i32, Option<Marks>>,
        asked: Vec<i32>,
    }

    impl Eyes for Fake {
        fn executable(&mut self, pid: i32) -> Option<PathBuf> {
            Some(format!("/target/debug/deps/{pid}-0123456789abcdef").into())
        }

        fn marks(&mut self, pid: i32) -> Option<Marks> {
            self.asked.push(pid);
            self.marks.get(&pid).cloned().flatten()
        }

        fn thread(&mut self, _: i32, thread: i32) -> Option<String> {
            Some(format!("thread {thread}"))
        }

        fn outputs(&mut self, _: i32) -> Vec<String> {
            Vec::new()
        }
    }

    fn test_marks(name: &str) -> Option<Marks> {
        Some([("NEXTEST_TEST_NAME".to_owned(), name.to_owned())].into())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_parent_is_remembered_after_its_end() {
        let mut lineage = Lineage::default();
        lineage.note(&[stat(10, 1, "cargo"), stat(11, 10, "it"), stat(12, 11, "sh")], &mut Fake::default());
        lineage.note(&[stat(12, 1, "server"), stat(13, 12, "worker")], &mut Fake::default());
        let of = |pid| lineage.line(&stat(pid, 1, "").stat, 10);
        assert_eq!((of(12).names(), of(12).complete), (names(&["it (pid 11)", "cargo (pid 10)"]), true));
        assert_eq!(
            (of(13).names(), of(13).complete),
            (names(&["server (pid 12)", "it (pid 11)", "cargo (pid 10)"]), true)
        );
    }

    #[test]
    fn what_was_not_seen_is_not_made_up() {
        let mut lineage = Lineage::default();
        lineage.note(&[stat(12, 1, "server"), stat(13, 12, "worker")], &mut Fake::default());
        let of = |pid| lineage.line(&stat(pid, 1, "").stat, 10);
        assert_eq!((of(12).names(), of(12).complete), (Vec::new(), false));
        assert_eq!((of(13).names(), of(13).complete), (names(&["server (pid 12)"]), false));
        assert_eq!(of(99), Line::default());
    }

    /// E11: an environment that reads empty right after the fork is asked again, and never taken for "none".
    #[test]
    fn e11_an_empty_environment_is_asked_again_and_what_was_told_is_kept() {
        let mut lineage = Lineage::default();
        let mut eyes = Fake::default();
        let seen = [stat(10, 1, "it")];
        let told = |lineage: &Lineage| lineage.line(&stat(10, 1, "").stat, 10).marks("NEXTEST_TEST_NAME").cloned();
        for _ in 0..3 {
            lineage.note(&seen, &mut eyes);
            assert_eq!(told(&lineage), None);
        }
        eyes.marks.insert(10, test_marks("a::b"));
        lineage.note(&seen, &mut eyes);
        assert_eq!(told(&lineage), test_marks("a::b"));
        assert_eq!(eyes.asked.len(), 4);
        // From now on it is known, whatever becomes of the process; a new program may tell more.
        lineage.note(&seen, &mut eyes);
        assert_eq!(eyes.asked.len(), 4);
        for marks in [None, Some(Marks::new()), test_marks("other")] {
            eyes.marks.insert(10, marks);
            lineage.note(&[stat(10, 1, &format!("exec {}", eyes.asked.len()))], &mut eyes);
            assert_eq!(told(&lineage), test_marks("a::b"));
        }
        eyes.marks.insert(10, Some([("CARGO_PKG_NAME".to_owned(), "shop".to_owned())].into()));
        lineage.note(&[stat(10, 1, "last")], &mut eyes);
        let all = told(&lineage).unwrap();
        assert_eq!((all.len(), all["CARGO_PKG_NAME"].as_str()), (2, "shop"));
    }

    /// One that has none at all is not asked for ever; and one that had no test is asked again after an `exec`.
    #[test]
    fn whoever_has_nothing_to_tell_is_not_asked_for_ever() {
        let mut lineage = Lineage::default();
        let mut eyes = Fake::default();
        for _ in 0..ASK_AGAIN + 5 {
            lineage.note(&[stat(10, 1, "it")], &mut eyes);
        }
        assert_eq!(eyes.asked.len(), ASK_AGAIN as usize);
        eyes.marks.insert(11, Some(Marks::new()));
        for comm in ["tokio-rt", "tokio-rt", "it-77"] {
            lineage.note(&[stat(11, 1, comm)], &mut eyes);
        }
        assert_eq!(eyes.asked.iter().filter(|pid| **pid == 11).count(), 2, "before and after the exec");
        // Another program may have the same name; in the middle of the `exec` there is nothing to be read.
        eyes.marks.insert(11, None);
        let mut same_name = stat(11, 1, "it-77");
        same_name.stat.image = 2;
        lineage.note(&[same_name.clone()], &mut eyes);
        eyes.marks.insert(11, test_marks("a::b"));
        lineage.note(&[same_name], &mut eyes);
        assert_eq!(lineage.line(&stat(11, 1, "").stat, 11).marks("NEXTEST_TEST_NAME").cloned(), test_marks("a::b"));
    }

    #[test]
    fn the_thread_that_started_the_topmost_one_below_the_test_is_the_tests() {
        let mut lineage = Lineage::default();
        lineage.note(
            &[stat(10, 1, "cargo"), stat(11, 10, "it"), child(12, 11, 110, "sh"), child(13, 12, 120, "server")],
            &mut Fake::default(),
        );
        // Its thread has ended since, and it is listed under the main one: what was noted at first stays.
        lineage.note(&[stat(11, 10, "it"), stat(12, 11, "sh")], &mut Fake::default());
        let line = lineage.line(&stat(13, 1, "").stat, 10);
        let origin = line.origin(|exe| exe.ends_with("11-0123456789abcdef")).unwrap();
        assert_eq!((origin.pid, origin.thread.as_deref()), (11, Some("thread 110")));
        assert_eq!(origin.executable, Path::new("/target/debug/deps/11-0123456789abcdef"));
        let outermost = line.origin(looks_like_a_test).unwrap();
        assert_eq!((outermost.pid, outermost.thread), (10, None));
        assert_eq!(line.origin(|_| false), None);
        assert_eq!(line.names()[1], "it (pid 11, thread thread 110)");
    }

    /// A child that is seen first when its thread is gone, or when the main thread is, tells nothing.
    #[test]
    fn a_thread_that_says_nothing_is_not_believed() {
        let mut lineage = Lineage::default();
        let mut headless = stat(11, 10, "it");
        headless.stat.state = 'Z';
        lineage.note(&[stat(10, 1, "cargo"), headless, child(12, 11, 110, "a")], &mut Fake::default());
        lineage.note(&[stat(20, 1, "it"), stat(21, 20, "b")], &mut Fake::default());
        for pid in [12, 21] {
            assert_eq!(lineage.line(&stat(pid, 1, "").stat, 10).born[0].thread, None, "{pid}");
        }
    }

    #[test]
    fn an_orphan_is_known_when_it_has_been_asked() {
        let mut lineage = Lineage::default();
        let mut eyes = Fake::default();
        lineage.note(&[stat(10, 1, "cargo"), stat(11, 10, "it"), stat(12, 11, "sh")], &mut eyes);
        lineage.note(&[stat(10, 1, "cargo"), stat(12, 1, "sh")], &mut eyes);
        assert!(!lineage.is_orphan(12), "its environment has not been read");
        eyes.marks.insert(12, Some(Marks::new()));
        lineage.note(&[stat(10, 1, "cargo"), stat(12, 1, "sh")], &mut eyes);
        assert!(lineage.is_orphan(12) && !lineage.is_orphan(11) && !lineage.is_orphan(13));
    }

    #[test]
    fn who_is_forgotten_is_nobodys_ancestor() {
        let mut lineage = Lineage::default();
        lineage.note(&[stat(10, 1, "cargo"), stat(11, 10, "it"), stat(12, 11, "sh")], &mut Fake::default());
        let orphan = stat(12, 1, "sh");
        lineage.forget(&[(12, &orphan.stat)].into());
        assert_eq!(lineage.line(&orphan.stat, 10).names(), names(&["it (pid 11)", "cargo (pid 10)"]));
        lineage.forget(&BTreeMap::new());
        assert!(lineage.known.is_empty());
    }
}
