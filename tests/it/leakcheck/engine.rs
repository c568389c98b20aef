//! What is known of a leak's birth, how it is asked to end, and what is printed of a suite that hangs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Instant;

use super::running::{Running, checked, checker, have, run};
use crate::scene::{LIMIT, read_line};

/// Waits until the checker has looked at the tree as it is now: it sleeps after each look. The first of the sleeps counted
/// may end a look that had begun before, and some may be waits for a page of its program.
fn has_looked(checker: i32) {
    let sleeps = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{checker}/status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    };
    let (before, deadline) = (sleeps(), Instant::now() + LIMIT);
    while sleeps() < before + 6 {
        assert!(Instant::now() < deadline, "the checker does not look again");
        std::thread::yield_now();
    }
}

/// Under `cargo test` there is no environment that names the test, but libtest's thread does.
#[test]
fn e1_under_cargo_test_the_thread_names_the_test() {
    let running = Running::start(checked(&["--grace", "100"], "leaves_a_family"), "setsid", "");
    let family = running.family();
    has_looked(running.handle.pid);
    let mut ended = running.end();
    ended.scene.assert_gone(&family, "a thread of libtest's");
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches(", thread leaves_a_family)").count(), family.len(), "{}", ended.stderr);
}

/// A total deadline: what hangs is printed at once, with the thread that is the test, and nothing is left of it.
#[test]
fn a_suite_that_hangs_is_printed_and_ended() {
    let running = Running::start(checked(&["--timeout", "2"], "leaves_a_family"), "setsid", "");
    let family = running.family();
    assert!(running.handle.ends_within(LIMIT), "{}", running.stderr());
    let mut ended = running.end();
    ended.scene.assert_gone(&family, "a suite that hangs");
    assert_eq!(ended.status.code(), Some(124), "{}", ended.stderr);
    let first = ended.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("leakcheck: the time limit of 2.00 s is over, and `"), "{}", ended.stderr);
    assert!(first.ends_with(" still runs; this is what hangs:"), "{}", ended.stderr);
    let thread = "\n    its thread leaves_a_family...: reading from its standard input\n";
    assert!(ended.stderr.contains(thread), "{}", ended.stderr);
    for process in &family {
        assert!(ended.stderr.contains(&format!("(pid {}), for ", process.pid)), "{}", ended.stderr);
    }
}

/// A leak can say goodbye. Somebody asks for our end meanwhile: what was found is printed all the same.
#[test]
fn e7_a_request_while_leaks_are_being_ended_does_not_hide_them() {
    let script =
        "setsid sh -c \"trap 'echo bye > bye; kill -INT $PPID' TERM; : > ready; sleep 20 & while :; do wait; done\" &
        n=0; while [ ! -e ready ] && [ $n -lt 9000000 ]; do n=$((n+1)); done";
    let dir = tempfile::tempdir().unwrap();
    let mut command = checker(&["--grace", "0", "exec", "--", "sh", "-c", script]);
    command.current_dir(dir.path());
    let ended = run(command);
    assert!(dir.path().join("bye").exists(), "it was not asked: {}", ended.stderr);
    // Should the request come when all is over, it is nobody's any more.
    let status = (ended.status.signal(), ended.status.code());
    assert!(status == (Some(2), None) || status == (None, Some(23)), "{status:?}: {}", ended.stderr);
    let outcome = "leakcheck: all of it has been ended; the kernel confirms that nothing is left\n";
    assert!(ended.stderr.contains("\n  `sh -c trap ") && ended.stderr.contains(outcome), "{}", ended.stderr);
}

/// One line that is gone when the report comes; and nothing of the kind without a terminal.
#[test]
fn progress_is_shown_on_a_terminal_only() {
    let words = ["--grace", "1300", "exec", "--", "sh", "-c", "(setsid sleep 20 &) ; echo done"];
    let waiting = "\r\u{1b}[2Kleakcheck: the suite has ended, 1 of its processes have not; waiting for ";
    if have("script") {
        let mut command = Command::new("script");
        let checker = checker(&words);
        let quoted = std::iter::once(checker.get_program()).chain(checker.get_args());
        let quoted: Vec<String> = quoted.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        command.arg("-qec").arg(quoted.join(" ")).arg("/dev/null").env("TERM", "xterm");
        let mut running = Running::start(command, "", "");
        let mut output = File::from(running.stdout());
        let ended = running.end();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(ended.status.code(), Some(23), "{text}");
        let (before, after) = text.split_once(waiting).unwrap_or_else(|| panic!("no progress: {text:?}"));
        assert!(before.contains("done"), "the terminal is the suite's while it runs: {text:?}");
        let (_, report) = after.split_once("\r\u{1b}[2K").unwrap_or_else(|| panic!("it is not erased: {text:?}"));
        assert!(report.contains("leakcheck: 1 process is alive") && !report.contains("waiting for"), "{text:?}");
    }
    let mut running = Running::start(checker(&words), "", "");
    assert_eq!(read_line(File::from(running.stdout())), "done");
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stderr.contains("waiting for"), "{}", ended.stderr);
}

/// Where the kernel has no lists of children, every process is looked at: slower, and the leak is found all the same.
#[test]
fn e1_without_the_lists_of_children_a_leak_is_found() {
    let childless = assert_cmd::cargo::cargo_bin!("childless");
    let probe = Command::new(childless).args(["cat", "/proc/1/task/1/children"]).output().unwrap();
    if !String::from_utf8_lossy(&probe.stderr).contains("No such file") {
        assert!(std::env::var_os("FOSTER_TEST_ALL_PROGRAMS").is_none(), "seccomp listeners are not allowed here");
        let _ = writeln!(std::io::stderr(), "SKIPPED: seccomp listeners are not allowed here");
        return;
    }
    let script = "(setsid sleep 20 > /dev/null 2>&1 &)";
    let checker = checker(&["--grace", "0", "exec", "--", "sh", "-c", script]);
    let mut command = Command::new(childless);
    command.arg(checker.get_program()).args(checker.get_args());
    let ended = run(command);
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    let outcome = "leakcheck: all of it has been ended; the kernel confirms that nothing is left\n";
    assert!(ended.stderr.contains("sleep 20` (pid ") && ended.stderr.contains(outcome), "{}", ended.stderr);
}
