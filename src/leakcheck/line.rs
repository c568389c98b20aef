//! Somebody and its ancestors, as they were when they were born: what is kept of a leak's birth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::facts::unix_ms;
use crate::sys::details;

/// What the environment of a process says about where it comes from: those of the [`HINTS`](super::options::HINTS) that it has.
pub(super) type Marks = BTreeMap<String, String>;

/// A process as it was when it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Born {
    pub(super) pid: i32,
    pub(super) start: u64,
    /// The name, as it was last seen.
    pub(super) comm: String,
    /// What it has executed, the first first.
    pub(super) executables: Vec<PathBuf>,
    /// The thread that started it, if its parent had several and this was not the main one: libtest gives a test's name to
    /// the thread that runs it, and the kernel cuts it to 15 bytes.
    pub(super) thread: Option<String>,
    /// `None` as long as nothing could be read.
    pub(super) marks: Option<Marks>,
    pub(super) group: i32,
    /// If it runs tests: the pipes that are its standard output and error.
    pub(super) outputs: Vec<String>,
}

impl Born {
    /// Is it known to run tests: one of nextest's, or a test binary of cargo's?
    pub(super) fn runs_tests(&self) -> bool {
        self.mark("NEXTEST_TEST_NAME").is_some() || self.executables.iter().any(|exe| looks_like_a_test(exe))
    }

    pub(super) fn mark(&self, name: &str) -> Option<&String> {
        self.marks.as_ref()?.get(name)
    }
}

/// `target/debug/deps/it-0123456789abcdef`
pub(super) fn looks_like_a_test(executable: &Path) -> bool {
    let in_deps = executable.parent().and_then(Path::file_name).is_some_and(|dir| dir == "deps");
    // One that was built again while it ran is `… (deleted)`.
    let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hash = name.trim_end_matches(" (deleted)").rsplit_once('-').map_or("", |(_, hash)| hash);
    in_deps && hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The test process that a leak comes from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The file that the test process executed.
    pub(super) executable: PathBuf,
    pub(super) pid: u32,
    /// The thread of it that started the leak, or the ancestor through which the leak comes from it, if that was not the
    /// main thread: the first 15 bytes of the test's name, unless the test has named a thread of its own.
    pub(super) thread: Option<String>,
    /// When that was; a clock tick, which is 10 ms, may be missing.
    pub(super) started_unix_ms: Option<u64>,
}

/// Somebody and its ancestors at its birth, itself first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) born: Vec<Born>,
    /// Is the last of them the suite itself? Otherwise the parent of the last one is unknown.
    pub(super) complete: bool,
}

impl Line {
    /// For people: the ancestors, the nearest first.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |(below, born): (&Born, &Born)| match &below.thread {
            Some(thread) if born.runs_tests() => {
                format!("{} (pid {}, thread {})", born.comm, born.pid, thread.escape_debug())
            }
            _ => format!("{} (pid {})", born.comm, born.pid),
        };
        self.born.iter().zip(self.born.iter().skip(1)).map(name).collect()
    }

    /// What the environment of the outermost process says that names one of this: whatever runs tests below a test, and
    /// says so in the environment, belongs to that test.
    pub(super) fn marks(&self, name: &str) -> Option<&Marks> {
        self.born.iter().rev().find(|born| born.mark(name).is_some())?.marks.as_ref()
    }

    /// The outermost process that executes something of which `is_test` says that it runs tests.
    pub(super) fn origin(&self, is_test: impl Fn(&Path) -> bool) -> Option<Origin> {
        let found = self.born.iter().enumerate().rev();
        let of = |born: &Born| born.executables.iter().find(|exe| is_test(exe)).cloned();
        let (at, executable) = found.filter_map(|(at, born)| Some((at, of(born)?))).next()?;
        let child = at.checked_sub(1).and_then(|below| self.born.get(below));
        let age = child.and_then(|child| details::age(child.start));
        Some(Origin {
            executable,
            pid: self.born[at].pid.unsigned_abs(),
            thread: child.and_then(|child| child.thread.clone()),
            started_unix_ms: age.and_then(|age| std::time::SystemTime::now().checked_sub(age)).map(unix_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_is_known_by_its_place() {
        for (path, is) in [
            ("/x/target/debug/deps/it-0123456789abcdef", true),
            ("/x/target/debug/deps/it-0123456789abcdef (deleted)", true),
            ("/x/target/debug/it-0123456789abcdef", false),
            ("/x/target/debug/deps/it-0123456789abcde", false),
            ("/x/target/debug/deps/it-0123456789abcdeg", false),
            ("/usr/bin/sh", false),
        ] {
            assert_eq!(looks_like_a_test(Path::new(path)), is, "{path}");
        }
    }
}
