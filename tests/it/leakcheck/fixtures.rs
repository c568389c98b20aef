//! What the check knows from foster's own fixtures: which of them are late, and whose a leak is.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::running::{CASES, Ended, Running, checker, have, suite};
use crate::endings::{EVERYTHING_OFF, VICTIM_THAT_ABORTS};
use crate::scene::{LIMIT, Process, hide, read_line};

/// A check whose report is read afterwards.
pub(super) struct Reported {
    dir: TempDir,
}

impl Reported {
    pub(super) fn new() -> Reported {
        Reported { dir: tempfile::tempdir().unwrap() }
    }

    /// The checker, told where to write.
    pub(super) fn checker(&self, args: &[&str]) -> Command {
        let mut words = vec!["--grace", "100", "--report-dir", self.dir.path().to_str().unwrap()];
        words.extend(args);
        checker(&words)
    }

    pub(super) fn read(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.dir.path().join("leakcheck.json")).unwrap()).unwrap()
    }
}

fn victim() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("victim")
}

/// The line of `victim` that spawns.
fn place() -> Value {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/victim.rs")).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("} else { builder }.spawn()")).unwrap();
    serde_json::json!({ "file": "fixtures/victim.rs", "line": line })
}

/// A victim that ends like this, below a check; the report, and what was printed.
fn check(program: &Path, ending: &str, signal: Option<Signal>) -> (Value, Ended) {
    let reported = Reported::new();
    let mut command = reported.checker(&["exec", "--"]);
    command.arg(program).args([ending, "sh", "-c", "echo \"a word\" >&2; echo hidden; read never"]);
    command.env("FOSTER_DISABLE", "cgroup").env_remove("FOSTER_REQUIRE").env_remove("NEXTEST_TEST_NAME");
    let mut running = Running::start(command, "", "");
    assert_eq!(read_line(File::from(running.stdout())), "armed");
    if let Some(signal) = signal {
        let checker = running.handle.pid;
        let children = fs::read_to_string(format!("/proc/{checker}/task/{checker}/children")).unwrap();
        Process::open(children.trim().parse().unwrap()).signal(signal);
        assert!(running.handle.ends_within(LIMIT), "{}", running.stderr());
    }
    let ended = running.end();
    (reported.read(), ended)
}

/// Each of the four ways in which others have to end what a test has not ended; and the controls: a test that did.
#[test]
fn a_fixture_that_its_test_did_not_end_is_late() {
    let cases = [
        (victim(), "forget", None, "exit", "the exit hook"),
        (victim(), "signal", Some(Signal::TERM), "signal", "a signal hook"),
        (&**VICTIM_THAT_ABORTS, "panic", None, "panic", "the panic hook"),
        (victim(), "signal", Some(Signal::KILL), "guardian", "the guardian"),
        (victim(), "stop", None, "test", ""),
        (victim(), "return", None, "drop", ""),
    ];
    for (program, ending, signal, ended_by, words) in cases {
        let (report, ended) = check(program, ending, signal);
        let context = format!("{ending} {signal:?}: {report:#}\n{}", ended.stderr);
        let [helper] = &report["helpers"].as_array().unwrap()[..] else { panic!("{context}") };
        assert_eq!(helper["ended_by"], ended_by, "{context}");
        assert_eq!(helper["fixture"]["place"], place(), "{context}");
        assert_eq!(helper["fixture"]["label"], "sh", "{context}");
        assert_eq!(report["leaks"], serde_json::json!([]), "{context}");
        // Where it is said: the line of the spawn, and who had to end it.
        let line = format!("fixtures/victim.rs:{}", place()["line"]);
        let late = !words.is_empty();
        assert_eq!(ended.stderr.contains(&line), late, "{context}");
        assert_eq!(late && ended.stderr.contains(words), late, "{context}");
        if ended_by == "guardian" {
            assert!(helper["ended_unix_ms"].is_null() && helper["transcript"].is_null(), "{context}");
        } else {
            assert!(helper["transcript"].to_string().contains("err | a word"), "{context}");
            assert!(helper["ended_unix_ms"].as_u64() >= helper["started_unix_ms"].as_u64(), "{context}");
        }
        // Late is a warning, and no status of its own.
        let own = match (signal, ended_by) {
            (Some(signal), _) => 128 + signal.as_raw(),
            (None, "panic") => 128 + Signal::ABORT.as_raw(),
            _ => 0,
        };
        assert_eq!(ended.status.code(), Some(own), "{context}");
        assert_eq!(ended.status.signal(), None);
    }
}

/// What lives on although foster has started it, as it does when every mechanism is switched off.
#[test]
fn a_leak_is_given_to_the_fixture_that_started_it() {
    let reported = Reported::new();
    let mut command = reported.checker(&["exec", "--"]);
    let scene = crate::scene::Scene::new();
    command.arg(victim()).arg("return").arg(hide()).arg("daemon").arg(scene.record()).arg(scene.fifo());
    command.env("FOSTER_DISABLE", EVERYTHING_OFF).env_remove("FOSTER_REQUIRE");
    let mut running = Running::start(command, "", "");
    assert_eq!(read_line(File::from(running.stdout())), "armed");
    let family = scene.family();
    let ended = running.end();
    let report = reported.read();
    { scene }.assert_gone(&family, "a fixture without its mechanisms");
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    let leaks = report["leaks"].as_array().unwrap();
    assert_eq!(leaks.len(), family.len(), "{report:#}");
    for leak in leaks {
        assert_eq!(leak["fixture"]["label"], "hide", "{report:#}");
        assert_eq!(leak["fixture"]["place"], place(), "{report:#}");
        assert_eq!(leak["place"], place(), "{report:#}");
    }
}

/// Under libtest the thread has the test's name; nextest says it.
#[test]
fn a_leak_of_a_fixture_is_given_to_its_test() {
    let through_nextest = have("cargo-nextest");
    for nextest in [false, true] {
        if nextest && !through_nextest {
            continue;
        }
        let reported = Reported::new();
        let mut command = if nextest {
            let words = ["--rerun", "0", "--", "nextest", "run", "--test", "cases", "--run-ignored", "only"];
            let mut command = reported.checker(&words);
            command.args(["--status-level", "none", "--", "--exact", "forgets"]);
            command
        } else {
            let mut command = reported.checker(&["--rerun", "0", "exec", "--"]);
            command.arg(&*CASES);
            // With more than one, each has a thread of its own.
            suite(command, "forgets")
        };
        command.env("FOSTER_DISABLE", EVERYTHING_OFF).env_remove("FOSTER_REQUIRE").env_remove("RUST_TEST_THREADS");
        let ended = Running::start(command, "", "").end();
        let report = reported.read();
        let context = format!("nextest {nextest}: {report:#}\n{}", ended.stderr);
        assert_eq!(ended.status.code(), Some(23), "{context}");
        let leaks = report["leaks"].as_array().unwrap();
        assert!(!leaks.is_empty(), "{context}");
        for leak in leaks {
            assert_eq!(leak["test"]["name"], "forgets", "{context}");
            assert_eq!(leak["blame"], "fixture", "{context}");
            assert_eq!(leak["fixture"]["place"]["file"], "fixtures/cases.rs", "{context}");
        }
        if nextest {
            assert_eq!(leaks[0]["test"]["binary"], "foster::cases", "{context}");
        }
        // What the check had to end is a leak, and not late as well.
        assert_eq!(report["helpers"][0]["ended_by"], "check", "{context}");
    }
}
