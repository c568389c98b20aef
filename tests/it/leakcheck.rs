//! The leak check: every planted leak is found, printed and ended, and nothing else is taken for one.
//!
//! The planted suites are the ignored tests in `fixtures/cases.rs`, which use std only. The checker is the xtask of this
//! workspace, built once and run as a user runs it.

mod browser;
mod engine;
mod files;
mod fixtures;
mod interrupted;
mod left;
mod page;
mod policy;
mod running;
mod shards;

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::cargo;
use crate::scene::{LIMIT, Process, Scene, hide, read_line};
use running::{CASES, Running, checked, checker, have, read_to_end, run, suite};

/// Hiding places, by their number in the list of traps: A1, A2, A3, A7, A8. The first of each family is an ordinary child.
const HIDINGS: [&str; 5] = ["setsid", "daemon", "env-i", "ignore-term", "stopped"];

/// A4, A5, A9, A17, A18.
const MORE_HIDINGS: [&str; 5] = ["argv", "close-all", "subreaper", "vfork", "chatty"];

/// Everything that the report must say about each of the family.
fn assert_reported(stderr: &str, family: &[Process], how: &str) {
    let directory = format!("    directory  {}\n", env!("CARGO_MANIFEST_DIR"));
    let executable = format!("    executable {}\n", hide().canonicalize().unwrap().display());
    for process in family {
        // Those that are alike share a paragraph.
        let pid = process.pid.to_string();
        let names_it = |text: &str| {
            let heading = text.trim_start_matches('\n').lines().next().unwrap_or_default();
            heading.split(|c: char| !c.is_ascii_digit()).any(|word| word == pid)
        };
        let found = stderr.split("\n\n").find(|paragraph| names_it(paragraph));
        let text = found.unwrap_or_else(|| panic!("{how}: nothing about pid {}: {stderr}", process.pid));
        // One that has overwritten its arguments has none to show, and is known by its file all the same.
        let command = format!("  `{} {how} ", hide().display());
        assert!(text.starts_with(&command) || how == "argv" && text.starts_with("  `[hide]`"), "{how}: {text}");
        assert!(text.contains(&directory) && text.contains(&executable), "{how}: {text}");
    }
    let outcome = "leakcheck: all of it has been ended; the kernel confirms that nothing is left\n";
    assert!(stderr.contains(outcome), "{how}: {stderr}");
}

#[test]
fn e1_every_planted_leak_is_found_printed_and_ended() {
    for how in HIDINGS.into_iter().chain(MORE_HIDINGS) {
        let running = Running::start(checked(&["--grace", "100"], "leaves_a_family"), how, "");
        let family = running.family();
        let mut ended = running.end();
        ended.scene.assert_gone(&family, how);
        assert_eq!(ended.status.code(), Some(23), "{how}: {}", ended.stderr);
        assert_reported(&ended.stderr, &family, how);
        // The child in vfork has not signed the record, but it is found.
        let count = family.len() + usize::from(how == "vfork");
        let heading = format!("leakcheck: {count} processes are alive 100.0 ms after the end of `");
        assert!(ended.stderr.contains(&heading), "{how}: {}", ended.stderr);
        // What cargo has said about the test that you read must not be said about the planted one.
        assert!(ended.stderr.contains("    test       unknown: "), "{how}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("\n    test ").count(), ended.stderr.matches("unknown: nothing").count());
    }
}

/// The negative control: what is found above is really alive without a checker.
#[test]
fn e1_without_the_check_the_planted_leaks_live_on() {
    for how in HIDINGS {
        let running = Running::start(suite(Command::new(&*CASES), "leaves_a_family"), how, "");
        let family = running.family();
        let mut ended = running.end();
        assert!(ended.status.success(), "{how}: {}", ended.stderr);
        ended.scene.assert_survived(&family, how);
    }
}

#[test]
fn e2_a_zombie_is_no_leak() {
    let ended = run(checked(&["--grace", "60000"], "leaves_a_zombie"));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let line = "leakcheck: nothing left behind (1 orphan was adopted and ended by itself; ";
    assert!(ended.stderr.contains(line), "{}", ended.stderr);
}

#[test]
fn e2_an_orphan_that_ends_is_reaped_while_the_suite_runs() {
    // `cat` is an orphan when its pid is known, and ends when we let it. The loop consists of builtins: it only looks,
    // and gives up after some seconds.
    let script = "exec 3<&0; pid=$(sh -c 'cat <&3 >/dev/null & echo $!'); echo adopted; n=0
        while [ -e /proc/$pid ] && [ $n -lt 3000000 ]; do n=$((n+1)); done; [ ! -e /proc/$pid ]";
    let mut running = Running::start(checker(&["exec", "--", "sh", "-c", script]), "", "");
    assert_eq!(read_line(File::from(running.stdout())), "adopted");
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("(1 orphan was adopted"), "{}", ended.stderr);
}

#[test]
fn e3_the_grace_is_paid_only_when_something_is_alive() {
    let ended = run(checked(&["--grace", "60000"], "leaves_nothing"));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("leakcheck: nothing left behind (nothing had to be adopted; "),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.took < LIMIT, "{:?}", ended.took);
}

/// What is just ending is no leak, and no longer waited for than it takes.
#[test]
fn e3_the_grace_ends_with_the_last_process() {
    // The daemon reads our pipe, so it lives until we let it go.
    let script = "exec 3<&0; (setsid cat <&3 >/dev/null &); echo done";
    let mut running = Running::start(checker(&["--grace", "60000", "exec", "--", "sh", "-c", script]), "", "");
    assert_eq!(read_line(File::from(running.stdout())), "done");
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("(1 orphan was adopted and ended by itself; "), "{}", ended.stderr);
}

/// foster's own guardian, which cleans up after a test process that was killed.
#[test]
fn e3_what_foster_is_just_ending_is_no_leak() {
    let scene = Scene::new();
    let mut command = checker(&["exec", "--"]);
    command.arg(assert_cmd::cargo::cargo_bin!("victim")).arg("signal");
    command.arg(hide()).arg("daemon").arg(scene.record()).arg(scene.fifo());
    command.env_remove("FOSTER_DISABLE").env_remove("FOSTER_REQUIRE");
    let mut running = Running::start(command, "", "");
    assert_eq!(read_line(File::from(running.stdout())), "armed");
    let family = scene.family();
    let checker = running.handle.pid;
    let victim = std::fs::read_to_string(format!("/proc/{checker}/task/{checker}/children")).unwrap();
    Process::open(victim.trim().parse().unwrap()).signal(Signal::KILL);
    let ended = running.end();
    { scene }.assert_gone(&family, "SIGKILL of a suite that uses foster");
    assert_eq!(ended.status.code(), Some(128 + 9), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("leakcheck: nothing left behind"), "{}", ended.stderr);
}

/// Through a real `cargo test`, which has a status of its own and names the package.
#[test]
fn e4_a_failing_suite_keeps_its_status_and_its_leak_is_printed() {
    let command = checker(&["--grace", "100", "--", "test", "--quiet", "--test", "cases", "--"]);
    let running = Running::start(suite(command, "leaves_a_family"), "setsid", "fail");
    let family = running.family();
    let mut ended = running.end();
    ended.scene.assert_gone(&family, "a failing suite");
    assert_eq!(ended.status.code(), Some(101), "{}", ended.stderr);
    assert_reported(&ended.stderr, &family, "setsid");
    let heading =
        "after the end of `cargo test --quiet --test cases -- --ignored --exact leaves_a_family`, which exited";
    assert!(ended.stderr.contains(heading), "{}", ended.stderr);
    let package = format!("    package    foster in {}\n", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(ended.stderr.matches(&package).count(), ended.stderr.matches("\n    test ").count(), "{}", ended.stderr);
    assert!(ended.stderr.contains(&package), "{}", ended.stderr);
}

#[test]
fn e4_the_suites_own_status_is_passed_on() {
    for (script, code) in [("true", 0), ("false", 1), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let ended = run(checker(&["exec", "--", "sh", "-c", script]));
        assert_eq!(ended.status.code(), Some(code), "{script}: {}", ended.stderr);
    }
}

/// Whoever was there before is a stranger, although the check is its parent, too.
#[test]
fn a_child_from_before_is_neither_waited_for_nor_touched() {
    let mut command = Command::new("sh");
    let script = "exec 3<&0; cat <&3 >/dev/null & echo $!; exec \"$@\"";
    command.args(["-c", script, "sh"]);
    let words = checker(&["--grace", "60000", "exec", "--", "sh", "-c", "(true &)"]);
    command.arg(words.get_program()).args(words.get_args());
    let mut running = Running::start(command, "", "");
    let stranger = Process::open(read_line(File::from(running.stdout())).parse().unwrap());
    assert!(running.handle.ends_within(LIMIT), "{}", running.stderr());
    assert!(stranger.is_alive());
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("leakcheck: nothing left behind"), "{}", ended.stderr);
    assert!(stranger.ends_within(LIMIT), "it reads our pipe, which is closed now");
}

/// With nextest, the test is named.
#[test]
fn e1_nextest_names_the_test() {
    if !have("cargo-nextest") {
        return;
    }
    // Without capture, nextest leaves the test our standard input.
    let words = ["--grace", "100", "--", "nextest", "run", "--no-capture", "--test", "cases", "--run-ignored", "only"];
    let mut command = checker(&words);
    command.arg("leaves_a_family");
    let running = Running::start(command, "daemon", "");
    let family = running.family();
    let mut ended = running.end();
    ended.scene.assert_gone(&family, "nextest");
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    assert_reported(&ended.stderr, &family, "daemon");
    let test = "    test       leaves_a_family in foster::cases; ";
    assert!(ended.stderr.contains(test), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches(test).count(), ended.stderr.matches("\n    test ").count(), "{}", ended.stderr);
}

#[test]
fn e5_a_suite_that_cannot_be_started_is_said() {
    let ended = run(checker(&["exec", "--", "/nonexistent/suite", "x"]));
    assert_eq!(ended.status.code(), Some(24), "{}", ended.stderr);
    let line = "leakcheck: could not check: failed to start `/nonexistent/suite x`: No such file or directory";
    assert!(ended.stderr.starts_with(line), "{}", ended.stderr);
}

#[test]
fn e5_arguments_that_make_no_sense_are_said() {
    for args in [&["--wait"][..], &["test"], &["--grace", "soon"], &["exec", "true"], &["exec", "--"]] {
        let ended = run(checker(args));
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("leakcheck: "), "{args:?}: {}", ended.stderr);
    }
    let help = checker(&["--help"]).output().unwrap();
    assert!(help.status.success() && help.stdout.starts_with(b"Runs a test suite and finds"), "{help:?}");
}

/// As it is typed: through cargo's alias, which also passes the status on.
#[test]
fn e5_cargo_xtask_leakcheck_works() {
    // Built before, so that what is awaited below is no build.
    drop(checker(&[]));
    let mut command = cargo::command();
    command.args(["xtask", "leakcheck", "exec", "--", "sh", "-c", "exit 9"]);
    let ended = run(command);
    assert_eq!(ended.status.code(), Some(9), "{}", ended.stderr);
    assert!(ended.stderr.contains("leakcheck: nothing left behind"), "{}", ended.stderr);
}

/// Standard output is passed through, and a leak that holds it hangs nobody: not the checker, and not its reader.
#[test]
fn e8_a_leak_that_holds_the_output_does_not_hang_the_check() {
    let held = |command: Command| {
        let mut running = Running::start(command, "daemon", "");
        let family = running.family();
        let stdout = running.stdout();
        let ended = running.end();
        assert!(ended.took < LIMIT);
        let closed = read_to_end(stdout, Duration::from_millis(200));
        (family, ended.scene, closed, ended.stderr)
    };
    let (family, mut scene, closed, stderr) = held(checked(&["--grace", "100"], "leaves_a_family"));
    scene.assert_gone(&family, "a daemon that holds the output");
    let text = closed.expect("with the daemon, the last holder of the pipe has ended");
    assert!(text.contains("test leaves_a_family ... ok"), "{text}\n{stderr}");
    let (family, mut scene, closed, _) = held(suite(Command::new(&*CASES), "leaves_a_family"));
    scene.assert_survived(&family, "a daemon that holds the output, without a check");
    assert!(closed.is_none(), "nobody has held the output: this test proves nothing");
}
