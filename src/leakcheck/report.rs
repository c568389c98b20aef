//! The result of a leak check: what was run, what it left behind, and the status that this means.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{AllowanceUse, Allowed, Ending, Helper, Kind, Leftover, PolicyNote, Shard, TestRun};
use super::leak::Leak;
use super::{COULD_NOT_CHECK, LEAKED, NO_TESTS, Options, TIMED_OUT};
use crate::Signal;

/// The version of the JSON format. A change that older readers cannot read counts it up.
pub(super) const SCHEMA: u32 = 1;

/// What a suite did, and what it left behind.
///
/// `Display` is what the command line prints: one line when nothing was left, else a paragraph for each finding (of the
/// first twenty).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub(super) schema: u32,
    /// The version of foster that wrote it.
    pub(super) foster: String,
    /// The suite's command line, as a person would type it.
    pub(super) suite: String,
    /// Where it was run.
    pub(super) dir: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<Shard>,
    /// Whose reports this one was merged from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) shards: Vec<Shard>,
    pub(super) started_unix_ms: u64,
    pub(super) took_ms: u64,
    /// What the check itself took, after the suite.
    pub(super) checking_ms: u64,
    pub(super) grace_ms: u64,
    /// How the suite ended; `None` only when it could not be ended.
    pub(super) ending: Option<Ending>,
    /// The signal that ended the check and the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interrupted: Option<i32>,
    /// The time limit, if the suite reached it and was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timed_out_ms: Option<u64>,
    /// What was alive when the time was up: a line for each process, indented by its depth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hanging: Vec<String>,
    /// How many tests ran, if that could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tests_run: Option<u64>,
    /// Those of which more is known than their number.
    #[serde(default)]
    pub(super) tests: Vec<TestRun>,
    pub(super) leaks: Vec<Leak>,
    /// Leaks that were killed, but are not in the list: they began while the others were being ended.
    #[serde(default)]
    pub(super) latecomers: usize,
    /// Has the kernel confirmed that nothing is left?
    pub(super) confirmed: bool,
    /// Orphans that ended by themselves.
    pub(super) adopted: usize,
    /// Every fixture's helper, for the timeline; the late ones are findings.
    #[serde(default)]
    pub(super) helpers: Vec<Helper>,
    #[serde(default)]
    pub(super) leftovers: Vec<Leftover>,
    /// The run's temporary directory, if it was not removed because something that may stay could need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept_dir: Option<PathBuf>,
    /// Lines of foster's journals that made no sense: of a process that was killed while it wrote.
    #[serde(default)]
    pub(super) journal_skipped: usize,
    /// Allowances that matched nothing, or have expired.
    #[serde(default)]
    pub(super) notes: Vec<PolicyNote>,
    /// How often each allowance was needed; empty unless every test of the suite, or of its shard, has run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allowances: Vec<AllowanceUse>,
    /// What keeps a merged report from being complete: then the check could not be made as required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// Of a merged report: those that ran no test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) empty_shards: Vec<Shard>,
    /// Which kinds of findings fail the check.
    pub(super) fails: Vec<Kind>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Report {
        Report {
            schema: SCHEMA,
            foster: env!("CARGO_PKG_VERSION").to_owned(),
            suite: options.line(),
            dir: std::env::current_dir().unwrap_or_default(),
            shard: options.shard,
            shards: Vec::new(),
            started_unix_ms: 0,
            took_ms: 0,
            checking_ms: 0,
            grace_ms: super::facts::millis(options.patience()),
            ending: None,
            interrupted: None,
            timed_out_ms: None,
            hanging: Vec::new(),
            tests_run: None,
            tests: Vec::new(),
            leaks: Vec::new(),
            latecomers: 0,
            confirmed: true,
            adopted: 0,
            helpers: Vec::new(),
            leftovers: Vec::new(),
            kept_dir: None,
            journal_skipped: 0,
            notes: Vec::new(),
            allowances: Vec::new(),
            problems: Vec::new(),
            empty_shards: Vec::new(),
            fails: vec![Kind::Process],
        }
    }

    /// What was alive after the suite had ended and the grace was over, also what the policy allows.
    ///
    /// After an [interruption](Report::interrupted): what did not end with the suite.
    #[must_use]
    pub fn leaks(&self) -> &[Leak] {
        &self.leaks
    }

    /// Files and sockets that were left in the run's temporary directory, also what the policy allows.
    #[must_use]
    pub fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }

    /// Every helper that a fixture of foster's ran.
    #[must_use]
    pub fn helpers(&self) -> &[Helper] {
        &self.helpers
    }

    /// The helpers that their tests did not stop.
    pub fn late(&self) -> impl Iterator<Item = &Helper> {
        self.helpers.iter().filter(|h| h.ended_by.is_late())
    }

    /// Tests of which the check knows something.
    #[must_use]
    pub fn tests(&self) -> &[TestRun] {
        &self.tests
    }

    /// Was nothing found that fails the check? Then the kernel has confirmed that nothing is alive but what the policy
    /// leaves alone.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failing() == 0 && self.latecomers == 0 && self.confirmed
    }

    /// How many findings fail the check.
    #[must_use]
    pub fn failing(&self) -> usize {
        self.findings().filter(|(kind, allowed)| allowed.is_none() && self.fails.contains(kind)).count()
    }

    /// Every finding: its kind, and whether it is allowed.
    pub(super) fn findings(&self) -> impl Iterator<Item = (Kind, Option<&Allowed>)> {
        let leaks = self.leaks.iter().map(|l| (l.kind, l.allowed.as_ref()));
        let late = self.late().map(|h| (Kind::Late, h.allowed.as_ref()));
        let files = self.leftovers.iter().map(|f| (f.kind, f.allowed.as_ref()));
        leaks.chain(late).chain(files)
    }

    /// How the suite itself ended; `None` if it was interrupted and could not be ended.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// How many processes lost their parent, were adopted by the check, and ended by themselves.
    #[must_use]
    pub fn adopted(&self) -> usize {
        self.adopted
    }

    /// How long the suite ran.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms)
    }

    /// The signal that ended the check and the suite, if one did.
    #[must_use]
    pub fn interrupted(&self) -> Option<Signal> {
        self.interrupted.map(Signal::from_raw)
    }

    /// The status for this process to exit with, as [the module](super) describes it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if let Some(signal) = self.interrupted {
            return u8::try_from(128 + signal).unwrap_or(u8::MAX);
        }
        if !self.problems.is_empty() {
            return COULD_NOT_CHECK;
        }
        if self.timed_out_ms.is_some() {
            return TIMED_OUT;
        }
        match self.ending.map_or(u8::MAX, Ending::shell_status) {
            0 if !self.is_clean() => LEAKED,
            0 if self.tests_run == Some(0) || !self.empty_shards.is_empty() => NO_TESTS,
            own => own,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::{EndedBy, FixtureRef, Outcome, Place, TestId};
    use super::super::leak::tests::{sample, stranger};
    use super::*;

    /// A report of a suite that succeeded and left nothing.
    pub(in super::super) fn clean() -> Report {
        let options = Options::command("cargo", ["test"]);
        Report {
            dir: "/home/me/shop".into(),
            started_unix_ms: 1_790_000_000_000,
            took_ms: 12_000,
            checking_ms: 4,
            ending: Some(Ending { code: Some(0), signal: None }),
            ..Report::new(&options)
        }
    }

    /// One of everything.
    pub(in super::super) fn full() -> Report {
        let test = |name: &str| TestId { binary: "shop::it".into(), name: name.into(), attempt: 1 };
        let run = |name: &str, outcome, started: u64| TestRun {
            id: test(name),
            outcome,
            started_unix_ms: Some(1_790_000_000_000 + started),
            took_ms: Some(1_200),
        };
        let helper = |name: &str, ended_by, ended: Option<u64>| Helper {
            test: Some(test(name)),
            fixture: FixtureRef {
                label: "server".into(),
                place: Place { file: "tests/it/orders.rs".into(), line: 12 },
            },
            pid: 77,
            command: "server --port 0".into(),
            started_unix_ms: 1_790_000_000_100,
            ended_unix_ms: ended,
            ended_by,
            ending: Some("was killed by SIGTERM".into()),
            transcript: vec![
                "out > listening on 127.0.0.1:8080".into(),
                "<script>alert(1)</script> & \"quotes\"".into(),
            ],
            allowed: None,
        };
        let leftover = |kind, path: &str, files| Leftover {
            kind,
            path: path.into(),
            bytes: 4096,
            files,
            created_unix_ms: Some(1_790_000_000_300),
            tests: vec![test("orders::are_kept")],
            fixture: None,
            note: None,
            allowed: None,
        };
        Report {
            tests_run: Some(3),
            tests: vec![
                run("orders::are_kept", Outcome::Passed, 0),
                run("orders::are_lost", Outcome::Failed, 700),
                run("carts::are_empty", Outcome::Unknown, 2000),
            ],
            leaks: vec![
                sample(4711),
                stranger(4712),
                Leak { kind: Kind::Daemon, command: "sccache".into(), ..stranger(4713) },
            ],
            adopted: 3,
            helpers: vec![
                helper("orders::are_kept", EndedBy::Drop, Some(1_790_000_001_000)),
                helper("orders::are_lost", EndedBy::Exit, Some(1_790_000_002_000)),
                helper("carts::are_empty", EndedBy::Guardian, None),
            ],
            leftovers: vec![leftover(Kind::File, "out.log", None), leftover(Kind::Socket, "x.sock", None)],
            notes: vec![PolicyNote {
                place: Place { file: ".config/foster.toml".into(), line: 4 },
                what: "this allowance matched nothing".into(),
            }],
            ..clean()
        }
    }

    #[test]
    fn a_leak_never_hides_a_failure_and_the_signal_wins() {
        let exited = |code| Ending { code: Some(code), signal: None };
        let killed = Ending { code: None, signal: Some(9) };
        for (ending, clean_code, leaky) in [(exited(0), 0, 23), (exited(101), 101, 101), (killed, 137, 137)] {
            let mut report = Report { ending: Some(ending), ..clean() };
            assert_eq!(report.exit_code(), clean_code, "{ending}");
            report.leaks.push(stranger(1));
            assert_eq!(report.exit_code(), leaky, "{ending}");
            report.timed_out_ms = Some(1);
            assert_eq!(report.exit_code(), 124, "{ending}");
            report.interrupted = Some(15);
            assert_eq!(report.exit_code(), 143, "{ending}");
        }
        assert_eq!(Report { confirmed: false, ..clean() }.exit_code(), 23);
        assert_eq!(Report { latecomers: 1, ..clean() }.exit_code(), 23);
        assert_eq!(Report { tests_run: Some(0), ..clean() }.exit_code(), 4);
        assert_eq!(Report { tests_run: Some(0), ending: Some(exited(3)), ..clean() }.exit_code(), 3);
    }

    #[test]
    fn what_is_allowed_or_no_failing_kind_does_not_fail() {
        let allowed = || Some(Allowed { reason: "x".into(), place: Place { file: "f".into(), line: 1 } });
        let mut report = full();
        assert_eq!((report.failing(), report.exit_code()), (2, 23));
        for leak in &mut report.leaks {
            leak.allowed = allowed();
        }
        assert_eq!((report.failing(), report.exit_code()), (0, 0));
        report.fails = Kind::ALL.to_vec();
        assert_eq!(report.failing(), 4, "two late fixtures, a file and a socket");
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        for report in [clean(), full()] {
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report, "{json}");
        }
    }
}
