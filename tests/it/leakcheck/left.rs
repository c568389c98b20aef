//! E9: what a suite leaves in the file system, and that the check itself leaves nothing there.

use std::fs::{self, File};
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::fixtures::Reported;
use super::running::{CASES, Running, have, suite};
use crate::scene::{LIMIT, Process, read_line};

fn shown(report: &Value) -> Vec<(Value, Value, Value)> {
    let left = report["leftovers"].as_array().unwrap().iter();
    left.map(|l| (l["kind"].clone(), l["path"].clone(), l["files"].clone())).collect()
}

fn expected() -> Vec<(Value, Value, Value)> {
    vec![
        (json!("file"), json!("cache"), json!(2)),
        (json!("file"), json!("left.log"), Value::Null),
        (json!("socket"), json!("left.sock"), Value::Null),
    ]
}

/// Files, a directory and a socket: told, removed, and a warning until somebody wants more.
#[test]
fn e9_what_is_left_in_the_temporary_directory_is_told_and_removed() {
    for (test, expected) in [("leaves_files", expected()), ("leaves_nothing", Vec::new())] {
        let reported = Reported::new();
        let tmp = tempfile::tempdir().unwrap();
        let mut command = reported.checker(&["exec", "--"]);
        command.arg(&*CASES).env("TMPDIR", tmp.path());
        let ended = Running::start(suite(command, test), "", "").end();
        let report = reported.read();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(shown(&report), expected, "{report:#}");
        for (_, path, _) in expected {
            assert!(ended.stderr.contains(path.as_str().unwrap()), "{}", ended.stderr);
        }
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "the check has left something itself");
    }
}

/// One test at a time: the one that ran when they were made is the answer, although others ran, too.
#[test]
fn e9_what_is_left_is_named_with_the_test() {
    if !have("cargo-nextest") {
        return;
    }
    let reported = Reported::new();
    let words = ["--", "nextest", "run", "--test", "cases", "--run-ignored", "only", "-j1", "-E"];
    let mut command = reported.checker(&words);
    command.arg("test(=leaves_files) + test(=leaves_nothing) + test(=leaves_a_zombie)");
    let ended = Running::start(command, "", "").end();
    let report = reported.read();
    let context = format!("{report:#}\n{}", ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{context}");
    assert_eq!(shown(&report), expected(), "{context}");
    for left in report["leftovers"].as_array().unwrap() {
        assert_eq!(left["tests"], json!([{ "binary": "foster::cases", "name": "leaves_files" }]), "{context}");
    }
}

/// The control: in the directory that everybody uses, nobody is asked what he has left there.
#[test]
fn without_a_directory_of_its_own_nothing_is_told() {
    let reported = Reported::new();
    let tmp = tempfile::tempdir().unwrap();
    let mut command = reported.checker(&["--no-tmpdir", "exec", "--"]);
    command.arg(&*CASES).env("TMPDIR", tmp.path());
    let ended = Running::start(suite(command, "leaves_files"), "", "").end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(shown(&reported.read()), []);
    assert!(tmp.path().join("left.log").exists());
}

/// However the check ends, as long as it can do something about it, its directory is gone.
#[test]
fn the_directory_of_a_run_is_removed_after_an_interruption() {
    for signal in [None, Some(Signal::INT), Some(Signal::TERM)] {
        let reported = Reported::new();
        let tmp = tempfile::tempdir().unwrap();
        let script = "mkdir \"$TMPDIR/d\"; : > \"$TMPDIR/d/file\"; echo \"$TMPDIR\"; read line";
        let mut command = reported.checker(&["exec", "--", "sh", "-c", script]);
        command.env("TMPDIR", tmp.path());
        let mut running = Running::start(command, "", "");
        let inner = read_line(File::from(running.stdout()));
        assert!(Path::new(&inner).starts_with(tmp.path()) && Path::new(&inner).join("d/file").exists(), "{inner}");
        if let Some(signal) = signal {
            running.handle.signal(signal);
            assert!(running.handle.ends_within(LIMIT), "{}", running.stderr());
        }
        running.end();
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "{signal:?}");
        // Whoever was interrupted had no occasion to remove anything.
        assert_eq!(shown(&reported.read()).len(), usize::from(signal.is_none()), "{signal:?}");
    }
}

/// An empty TMPDIR is none, as for mktemp(1).
#[test]
fn an_empty_tmpdir_is_none() {
    let mut command = super::running::checker(&["--no-report", "exec", "--", "sh", "-c", "echo \"$TMPDIR\""]);
    command.env("TMPDIR", "");
    let mut running = Running::start(command, "", "");
    let inner = read_line(File::from(running.stdout()));
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(inner.starts_with("/tmp/foster-"), "{inner}");
}

/// Whoever asks foster to keep directories finds them after the check, too.
#[test]
fn what_is_to_be_kept_is_kept_by_the_check_as_well() {
    for keep in [true, false] {
        let reported = Reported::new();
        let tmp = tempfile::tempdir().unwrap();
        let mut command = reported.checker(&["exec", "--"]);
        command.arg(assert_cmd::cargo::cargo_bin!("speaks")).arg(if keep { "keep" } else { "dir" });
        command.env("TMPDIR", tmp.path()).env_remove("FOSTER_KEEP").env_remove("FOSTER_DISABLE");
        let mut running = Running::start(command, "", "");
        let said = read_line(File::from(running.stdout()));
        let dir = Path::new(said.split_once(' ').unwrap().1).to_owned();
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(dir.join("notes").exists(), keep, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("the suite's temporary directory stays in "), keep, "{}", ended.stderr);
        assert_eq!(shown(&reported.read()), []);
    }
}

/// A test process that is killed together with its guardian: nobody is there to remove the directory of its fixture, and
/// whose that was is known.
#[test]
fn e9_the_directory_of_a_fixture_is_given_to_it() {
    let reported = Reported::new();
    let mut command = reported.checker(&["exec", "--"]);
    command.arg(assert_cmd::cargo::cargo_bin!("speaks")).arg("dir");
    command.env("FOSTER_DISABLE", "cgroup").env_remove("FOSTER_KEEP").env_remove("FOSTER_REQUIRE");
    let mut running = Running::start(command, "", "");
    let said = read_line(File::from(running.stdout()));
    let helper: i32 = said.split_once(' ').unwrap().0.parse().unwrap();
    let parent = |pid: i32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let keeper = Process::open(parent(helper));
    let guardian = Process::open(parent(keeper.pid));
    let suite = Process::open(parent(guardian.pid));
    // All are stopped before the first one dies, so that nobody notices and does the guardian's work.
    guardian.signal(Signal::STOP);
    suite.signal(Signal::STOP);
    let keepers = fs::read_to_string(format!("/proc/{0}/task/{0}/children", guardian.pid)).unwrap();
    let mut all: Vec<Process> = keepers.split_whitespace().map(|pid| Process::open(pid.parse().unwrap())).collect();
    assert!(all.iter().any(|process| process.pid == keeper.pid), "{keepers}");
    all.iter().for_each(|process| process.signal(Signal::STOP));
    all.extend([guardian, suite]);
    all.iter().for_each(|process| process.signal(Signal::KILL));
    assert!(all.iter().all(|process| process.ends_within(LIMIT)));
    let suite = all.pop().unwrap();
    let ended = running.end();
    let report = reported.read();
    let left = &report["leftovers"][0];
    let context = format!("{report:#}\n{}", ended.stderr);
    assert_eq!(left["fixture"]["label"], "sh", "{context}");
    assert_eq!(left["fixture"]["place"]["file"], "fixtures/speaks.rs", "{context}");
    assert!(left["note"].as_str().unwrap().contains(&format!("in the test process {}", suite.pid)), "{context}");
    assert_eq!(report["helpers"][0]["ended_by"], "guardian", "{context}");
}
