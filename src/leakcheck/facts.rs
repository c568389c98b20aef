//! What a report is made of, besides the leaks themselves: plain data, the same in memory and in the JSON file.
//!
//! Times of day are milliseconds since 1970 (`…_unix_ms`), durations are milliseconds (`…_ms`).
//! A field that is unknown is `None`, and is missing in the file; nothing is made up.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::sys::ending_signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its status, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl Ending {
    /// Status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.code == Some(0)
    }

    /// The status that a shell would show: 128 + N for signal N.
    pub(super) fn shell_status(self) -> u8 {
        match (self.code, self.signal) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (None, None) => u8::MAX,
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Ending {
        Ending { code: status.code(), signal: ending_signal(status) }
    }
}

impl fmt::Display for Ending {
    /// As in "the suite *exited with status 1*".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with status {code}"),
            (None, Some(signal)) => write!(f, "was killed by {}", crate::report::signal_name(signal)),
            (None, None) => f.write_str("ended in a way that is unknown"),
        }
    }
}

/// What became of a test, as its runner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded.
    Passed,
    /// It failed, also by a time limit or a signal.
    Failed,
    /// Its runner has not told us.
    #[default]
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        })
    }
}

/// One test, as its runner names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TestId {
    /// The test binary: nextest's id of it (`shop`, `shop::it`, `shop::bin/server`), also under `cargo test`.
    /// For documentation tests the package and `::doc`.
    pub binary: String,
    /// The test's name in its binary: `orders::are_kept`.
    pub name: String,
    /// Which attempt, from 1; higher ones are retries.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
}

fn first() -> u32 {
    1
}

fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.binary)?;
        if self.attempt > 1 { write!(f, ", attempt {}", self.attempt) } else { Ok(()) }
    }
}

/// One run of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    /// Which test, and which attempt.
    #[serde(flatten)]
    pub id: TestId,
    /// How it went.
    #[serde(default)]
    pub outcome: Outcome,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_unix_ms: Option<u64>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

impl TestRun {
    /// When it ended, if that is known.
    pub(super) fn ended_unix_ms(&self) -> Option<u64> {
        Some(self.started_unix_ms? + self.took_ms?)
    }
}

/// A line of source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file: relative to the directory that the check was started in, where it is below it.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// How the test that is blamed was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Blame {
    /// It was started by a fixture, and foster has noted the test.
    Fixture,
    /// The environment that it was started with names the test, as nextest sets it.
    Environment,
    /// It was seen as a child of the thread on which libtest ran the test, or as a descendant of one.
    Thread,
    /// The test left the same behind when it was run alone.
    Rerun,
    /// Only the test binary is known.
    Binary,
    /// Nobody is known.
    #[default]
    Nobody,
}

/// The fixture that started a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixtureRef {
    /// Its label.
    pub label: String,
    /// The line of the test that called `spawn`.
    pub place: Place,
}

/// How a process got away from its test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Escape {
    /// It is in a session of its own, so neither the terminal nor a signal to the group reaches it.
    Session,
    /// It is in a process group of its own.
    Group,
    /// Its parent ended first: a double fork, or a parent that did not wait.
    Orphaned,
    /// It ignores these signals.
    Ignores(Vec<String>),
    /// It catches SIGTERM and goes on.
    Catches(Vec<String>),
    /// It is stopped, and acts on no signal but SIGKILL and SIGCONT.
    Stopped,
    /// It has another environment than its test, or none to be read.
    Environment,
    /// It runs as another user.
    User,
    /// It holds a standard stream of the suite, which keeps readers of it waiting.
    Stdio(Vec<String>),
}

/// What a process holds that others may miss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Holding {
    /// A socket that listens: `tcp 127.0.0.1:8080`, `unix /tmp/x.sock`.
    Listener(String),
    /// The lock of a build directory: the next `cargo build` waits for it.
    BuildLock(PathBuf),
    /// A lock on another file.
    Lock(PathBuf),
    /// A standard stream of the suite.
    Output(String),
    /// A file that has been deleted, or is in the run's temporary directory.
    File(PathBuf),
}

/// What was done to a leak.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Deed {
    /// It was asked to end, with SIGTERM.
    pub terminated: bool,
    /// It was made to end, with SIGKILL.
    pub killed: bool,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Why it lives on, if it does although it was to be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survived: Option<String>,
    /// It was left alone, because the policy says so.
    #[serde(default)]
    pub spared: bool,
}

/// What the policy says about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The reason that the policy gives.
    pub reason: String,
    /// Where the allowance stands.
    pub place: Place,
}

/// What a finding is, for the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A process that was alive after the grace.
    Process,
    /// A well-known daemon that a tool keeps for its next run: sccache, gpg-agent, adb.
    Daemon,
    /// A fixture that its test did not stop.
    Late,
    /// A file that was left in the temporary directory.
    File,
    /// A socket that was left on disk.
    Socket,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub(super) const ALL: [Kind; 5] = [Kind::Process, Kind::Daemon, Kind::Late, Kind::File, Kind::Socket];

    /// As it stands in the policy file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Daemon => "daemon",
            Kind::Late => "late",
            Kind::File => "file",
            Kind::Socket => "socket",
        }
    }
}

/// Who ended a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EndedBy {
    /// The test: `stop`, `finish`, `kill`; or nobody, because the helper has ended by itself.
    Test,
    /// The end of the fixture's scope; for a `shared!` one that is the end of the process.
    Drop,
    /// The exit hook: the process had come to its end.
    Exit,
    /// A signal hook.
    Signal,
    /// The panic hook, under `panic = "abort"`.
    Panic,
    /// The guardian: the test process was gone.
    Guardian,
    /// The leak check: it was still alive, and is among the leaks; or the run was cut short, and so was the test.
    Check,
}

impl EndedBy {
    /// Did nobody in the test end it? What the check had to end is a leak, and not late as well.
    pub(super) fn is_late(self) -> bool {
        !matches!(self, EndedBy::Test | EndedBy::Drop | EndedBy::Check)
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndedBy::Test => "the test",
            EndedBy::Drop => "the end of its scope",
            EndedBy::Exit => "the exit hook",
            EndedBy::Signal => "a signal hook",
            EndedBy::Panic => "the panic hook",
            EndedBy::Guardian => "the guardian",
            EndedBy::Check => "the leak check",
        })
    }
}

/// A helper that a fixture ran, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// The test that started it, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestId>,
    /// The fixture.
    pub fixture: FixtureRef,
    /// Its number.
    pub pid: u32,
    /// What it ran, in one line.
    pub command: String,
    /// When it was started.
    pub started_unix_ms: u64,
    /// When it had ended; `None` if nobody in the test process has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_unix_ms: Option<u64>,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// How it ended, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// The last lines of its transcript.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<String>,
    /// The policy allows that it ended late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,
}

/// A file or a socket that was left in the run's temporary directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// [`Kind::File`] or [`Kind::Socket`].
    pub kind: Kind,
    /// Where it was, relative to the temporary directory.
    pub path: PathBuf,
    /// Bytes; of a directory, all that is in it.
    pub bytes: u64,
    /// How many files a directory holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// When it was made, if the file system knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_ms: Option<u64>,
    /// The tests that ran when it was made: one is an answer, several are suspects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestId>,
    /// The fixture whose own directory it is, or is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixture: Option<FixtureRef>,
    /// How it came about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The policy allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Allowed>,
}

/// Which part of a suite that is spread over several machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// An allowance that matched nothing, or has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyNote {
    /// Where it stands.
    pub place: Place,
    /// What is the matter with it.
    pub what: String,
}

/// How often an allowance was for a finding: so that a merge can tell which of them no shard has needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowanceUse {
    /// Where it stands.
    pub place: Place,
    /// What it is for, in words.
    pub what: String,
    /// How many findings it was for.
    pub matched: u32,
}

/// Milliseconds since 1970, as the files have them.
pub(super) fn unix_ms(at: SystemTime) -> u64 {
    millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration as the files have it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_what_a_shell_would_show() {
        let of = |code, signal| Ending { code, signal };
        assert_eq!(of(Some(7), None).shell_status(), 7);
        assert_eq!(of(None, Some(9)).shell_status(), 137);
        assert_eq!(of(Some(7), None).to_string(), "exited with status 7");
        assert_eq!(of(None, Some(9)).to_string(), "was killed by SIGKILL");
        assert!(of(Some(0), None).success() && !of(Some(1), None).success() && !of(None, Some(9)).success());
    }

    #[test]
    fn the_first_attempt_is_not_worth_a_word() {
        let test = |attempt| TestId { binary: "shop::it".to_owned(), name: "orders::are_kept".to_owned(), attempt };
        assert_eq!(test(1).to_string(), "orders::are_kept in shop::it");
        assert_eq!(test(2).to_string(), "orders::are_kept in shop::it, attempt 2");
        assert_eq!(serde_json::to_string(&test(1)).unwrap(), r#"{"binary":"shop::it","name":"orders::are_kept"}"#);
        for attempt in [1, 3] {
            let json = serde_json::to_string(&test(attempt)).unwrap();
            assert_eq!(serde_json::from_str::<TestId>(&json).unwrap(), test(attempt));
        }
    }
}
