//! One leak, with all that is known about it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::evidence::Ground;
use super::facts::{Allowed, Blame, Deed, Escape, FixtureRef, Holding, Kind, Outcome, Place, TestId, millis, unix_ms};
use super::line::{Line, Origin};
use crate::sys::{details, procfs};

/// A command line that is longer is cut: it is there to be recognized.
const COMMAND_CHARS: usize = 400;

/// A process that was alive after the suite had ended and the grace was over. It has been ended since, if that was possible.
///
/// `Display` is a paragraph for people, the same as in the [`Report`](super::Report).
///
/// # Limits
///
/// The package, and under nextest the test, come from the environment that the process was started with. A program that
/// has cleared or overwritten it hides them, and one that has changed it lies. Everything else comes from the kernel, or
/// says [how it was found](Leak::blame).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    pub(super) kind: Kind,
    /// The test that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) test: Option<TestId>,
    #[serde(default)]
    pub(super) blame: Blame,
    /// Where more than one test may have started it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) suspects: Vec<TestId>,
    /// Of the test itself.
    #[serde(default)]
    pub(super) outcome: Outcome,
    /// How much of its age was after the end of its test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) age_after_test_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) package: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest_dir: Option<PathBuf>,
    /// Where an annotation belongs: the line of the spawn, else of the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Place>,
    pub(super) pid: u32,
    /// Clock ticks after boot; with the pid it names one process for ever.
    pub(super) start_ticks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started_unix_ms: Option<u64>,
    /// When it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) age_ms: Option<u64>,
    /// In one line, and cut.
    pub(super) command: String,
    /// Each one by itself, as far as it is UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exe: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dir: Option<PathBuf>,
    pub(super) state: char,
    pub(super) group: i32,
    pub(super) session: i32,
    /// At its birth, the nearest first, as `name (pid N)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ancestors: Vec<String>,
    /// Is the last of them the suite itself?
    #[serde(default)]
    pub(super) ancestors_complete: bool,
    /// Itself and they, with all that was noted: for whoever finds the test. Not in the file.
    #[serde(skip)]
    pub(super) line: Line,
    /// How it got away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) escapes: Vec<Escape>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) holds: Vec<Holding>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fixture: Option<FixtureRef>,
    /// The last lines of its fixture's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) transcript: Vec<String>,
    #[serde(default)]
    pub(super) deed: Deed,
    /// What to change, in a sentence or two.
    #[serde(default)]
    pub(super) fix: String,
    /// The command that runs its test again, under the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed: Option<Allowed>,
}

impl Leak {
    /// Reads what the kernel knows, now: it forgets it with the process. The rest is found later.
    ///
    /// The test is the one in whose process the leak was born, whatever its own environment says by now.
    pub(super) fn read(stat: &procfs::Stat, line: Line, ground: &mut Ground) -> Leak {
        let procfs::Stat { pid, start, state, group, session, .. } = *stat;
        // Both at once: what comes next may take as long as an environment reads empty.
        let age = details::age(start);
        let started = age.and_then(|age| SystemTime::now().checked_sub(age));
        let own = ground.marks(stat);
        let told = |name: &str| line.marks(name).or(own.as_ref());
        let hint = |name: &str| told(name)?.get(name).cloned();
        let of_test = told("NEXTEST_TEST_NAME");
        let of_test = |name: &str| of_test?.get(name).cloned();
        let attempt = of_test("NEXTEST_ATTEMPT").and_then(|n| n.parse().ok()).unwrap_or(1);
        let binary = || of_test("NEXTEST_BINARY_ID").unwrap_or_default();
        let test = of_test("NEXTEST_TEST_NAME").map(|name| TestId { binary: binary(), name, attempt });
        let mut leak = Leak {
            kind: Kind::Process,
            blame: if test.is_some() { Blame::Environment } else { Blame::Nobody },
            test,
            suspects: Vec::new(),
            outcome: Outcome::Unknown,
            age_after_test_ms: None,
            package: hint("CARGO_PKG_NAME"),
            manifest_dir: hint("CARGO_MANIFEST_DIR").map(PathBuf::from),
            place: None,
            // The kernel's are positive.
            pid: pid.unsigned_abs(),
            start_ticks: start,
            started_unix_ms: started.map(unix_ms),
            age_ms: age.map(millis),
            command: cut(procfs::command_line(pid, Instant::now() + procfs::EXEC_LIMIT)),
            args: Vec::new(),
            exe: details::executable(pid),
            dir: details::working_dir(pid),
            state,
            group,
            session,
            ancestors: line.names(),
            ancestors_complete: line.complete && line.born.len() > 1,
            line: Line::default(),
            escapes: Vec::new(),
            holds: Vec::new(),
            fixture: None,
            transcript: Vec::new(),
            deed: Deed::default(),
            fix: String::new(),
            again: None,
            allowed: None,
        };
        ground.gather(&mut leak, stat, &line, own.as_ref());
        leak.line = line;
        leak
    }

    /// The test process that it comes from: the outermost one whose executable `is_test` knows. [`looks_like_a_test`](super::line::looks_like_a_test) knows
    /// cargo's by their places; whoever has a list of them knows better.
    pub(super) fn origin(&self, is_test: impl Fn(&Path) -> bool) -> Option<Origin> {
        self.line.origin(is_test)
    }

    pub(super) fn is(&self, pid: i32, start: u64) -> bool {
        (self.pid, self.start_ticks) == (pid.unsigned_abs(), start)
    }

    /// Its number. It may belong to another process by now.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// [`Kind::Process`], or [`Kind::Daemon`] for one that is well known.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The command line, in one line; the name in brackets if there was none.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The working directory, unless it could not be read.
    #[must_use]
    pub fn working_dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The file that it was executing, unless it could not be read.
    #[must_use]
    pub fn executable(&self) -> Option<&Path> {
        self.exe.as_deref()
    }

    /// How long it had been running.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age_ms.map(Duration::from_millis)
    }

    /// The test that started it, if it could be found.
    #[must_use]
    pub fn test(&self) -> Option<&TestId> {
        self.test.as_ref()
    }

    /// How [`test`](Leak::test) was found.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// The package whose tests started it, if cargo or nextest runs the suite.
    #[must_use]
    pub fn package(&self) -> Option<&str> {
        self.package.as_deref()
    }

    /// The fixture that started it, and the line that did.
    #[must_use]
    pub fn fixture(&self) -> Option<&FixtureRef> {
        self.fixture.as_ref()
    }

    /// How it got away from its test.
    #[must_use]
    pub fn escapes(&self) -> &[Escape] {
        &self.escapes
    }

    /// What it held.
    #[must_use]
    pub fn holds(&self) -> &[Holding] {
        &self.holds
    }

    /// What was done to it.
    #[must_use]
    pub fn deed(&self) -> &Deed {
        &self.deed
    }

    /// Why it could not be ended; `None` if it has been.
    #[must_use]
    pub fn survived(&self) -> Option<&str> {
        self.deed.survived.as_deref()
    }

    /// What the policy says about it, if it allows it.
    #[must_use]
    pub fn allowed(&self) -> Option<&Allowed> {
        self.allowed.as_ref()
    }
}

pub(super) fn cut(command: String) -> String {
    match command.char_indices().nth(COMMAND_CHARS) {
        Some((at, _)) => format!("{}...", &command[..at]),
        None => command,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A leak of which everything is known, for the tests of whatever shows leaks.
    pub(in super::super) fn sample(pid: u32) -> Leak {
        Leak {
            kind: Kind::Process,
            test: Some(TestId { binary: "shop::it".into(), name: "orders::are_kept".into(), attempt: 2 }),
            blame: Blame::Environment,
            suspects: Vec::new(),
            outcome: Outcome::Passed,
            age_after_test_ms: Some(700),
            package: Some("shop".into()),
            manifest_dir: Some("/home/me/shop".into()),
            place: Some(Place { file: "tests/it/orders.rs".into(), line: 42 }),
            pid,
            start_ticks: 1,
            started_unix_ms: Some(1_790_000_000_000),
            age_ms: Some(1500),
            command: "server --port 0".into(),
            args: vec!["server".into(), "--port".into(), "0".into()],
            exe: Some("/usr/bin/server".into()),
            dir: Some("/home/me/shop".into()),
            state: 'S',
            group: 10,
            session: 9,
            ancestors: vec!["it-77aa (pid 40)".into(), "cargo-nextest (pid 39)".into()],
            ancestors_complete: true,
            line: Line::default(),
            escapes: vec![Escape::Session, Escape::Ignores(vec!["SIGTERM".into()])],
            holds: vec![Holding::Listener("tcp 127.0.0.1:8080".into())],
            fixture: None,
            transcript: Vec::new(),
            deed: Deed { terminated: true, killed: true, took_ms: Some(203), survived: None, spared: false },
            fix: "wait for it in its test, or start it as a `foster::Fixture`, which ends with the test".into(),
            again: Some(
                "cargo xtask leakcheck -- nextest run -E 'binary_id(=shop::it) & test(=orders::are_kept)'".into(),
            ),
            allowed: None,
        }
    }

    /// A leak of which as little is known as can be.
    pub(in super::super) fn stranger(pid: u32) -> Leak {
        Leak {
            test: None,
            blame: Blame::Nobody,
            outcome: Outcome::Unknown,
            age_after_test_ms: None,
            package: None,
            manifest_dir: None,
            place: None,
            started_unix_ms: None,
            age_ms: None,
            args: Vec::new(),
            exe: None,
            dir: None,
            ancestors: Vec::new(),
            ancestors_complete: false,
            escapes: vec![Escape::Environment],
            holds: Vec::new(),
            again: None,
            ..sample(pid)
        }
    }

    #[test]
    fn a_leak_is_read_back_as_it_was_written() {
        for leak in [sample(4711), stranger(7)] {
            let json = serde_json::to_string(&leak).unwrap();
            assert_eq!(serde_json::from_str::<Leak>(&json).unwrap(), leak, "{json}");
        }
    }

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(cut("é".repeat(COMMAND_CHARS + 1)), format!("{}...", "é".repeat(COMMAND_CHARS)));
        assert_eq!(cut("é".repeat(COMMAND_CHARS)), "é".repeat(COMMAND_CHARS));
    }
}
