//! The polite ways out: one grace for all, the right status, and other people's handlers left alone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::{LIMIT, Process, fresh, make_fifo};

/// A running `hooks` program with its helpers.
struct Armed {
    child: Child,
    handle: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    helpers: Vec<Process>,
}

fn arm(command: &mut Command, dir: &Path) -> Armed {
    let record = dir.join("record");
    command.env("HOOKS_RECORD", &record).env_remove("FOSTER_DISABLE");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut armed = Armed { child, handle, stdin, stdout, helpers: Vec::new() };
    assert_eq!(armed.line(), "armed");
    let pids = std::fs::read_to_string(record).unwrap();
    armed.helpers = pids.lines().map(|pid| Process::open(pid.parse().unwrap())).collect();
    armed
}

impl Armed {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ends(mut self) -> ExitStatus {
        let ended = self.handle.ends_within(LIMIT);
        if !ended {
            self.handle.put_down();
        }
        for helper in &self.helpers {
            assert!(helper.ends_within(LIMIT), "helper {} has survived", helper.pid);
        }
        let status = self.child.wait().unwrap();
        assert!(ended, "the program does not end");
        status
    }
}

fn hooks(mode: &str) -> Command {
    let mut command = fresh(assert_cmd::cargo::cargo_bin!("hooks"));
    command.arg(mode);
    command
}

#[test]
fn on_a_signal_all_helpers_are_asked_at_once_and_one_grace_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let armed = arm(&mut hooks("many"), dir.path());
    let began = Instant::now();
    armed.handle.signal(Signal::TERM);
    let status = armed.ends();
    let took = began.elapsed();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    // One after the other would take four seconds; each has really been given its time.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(2000), "{took:?}");
}

#[test]
fn at_exit_all_helpers_are_asked_at_once_and_one_grace_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let mut armed = arm(&mut hooks("many"), dir.path());
    let began = Instant::now();
    armed.stdin.write_all(b"end\n").unwrap();
    let status = armed.ends();
    let took = began.elapsed();
    assert_eq!(status.code(), Some(5));
    assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(2000), "{took:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("asked");
    let asked = make_fifo(&fifo);
    let armed = arm(hooks("tells").arg(&fifo), dir.path());
    let began = Instant::now();
    armed.handle.signal(Signal::TERM);
    // The clean-up is under way: the helper has been asked, and has thirty seconds.
    assert!(crate::scene::is_readable(&asked, LIMIT), "the helper was not asked");
    armed.handle.signal(Signal::INT);
    let status = armed.ends();
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_handler_that_was_there_before_is_the_only_one() {
    the_users_handler_decides("user-before");
}

#[test]
fn a_handler_that_is_installed_later_decides() {
    the_users_handler_decides("user-after");
}

fn the_users_handler_decides(mode: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut armed = arm(&mut hooks(mode), dir.path());
    armed.handle.signal(Signal::TERM);
    let deadline = Instant::now() + LIMIT;
    let mut answer = String::new();
    while answer != "handled" {
        assert!(Instant::now() < deadline, "the user's handler did not run: {answer}");
        armed.stdin.write_all(b"handled?\n").unwrap();
        answer = armed.line();
    }
    assert!(armed.helpers[0].is_alive(), "the user's handler decides what a signal means");
    armed.stdin.write_all(b"end\n").unwrap();
    assert_eq!(armed.ends().code(), Some(5));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin!("hooks");
    let mut command = fresh("sh");
    command.args(["-c", "trap '' HUP INT; exec \"$0\" many"]).arg(program);
    let mut armed = arm(&mut command, dir.path());
    for signal in [Signal::HUP, Signal::INT] {
        armed.handle.signal(signal);
        armed.stdin.write_all(b"handled?\n").unwrap();
        assert_eq!(armed.line(), "not yet", "it goes on after {signal:?}");
        assert!(armed.helpers.iter().all(Process::is_alive));
    }
    armed.handle.signal(Signal::TERM);
    assert_eq!(armed.ends().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_fixture_in_a_static_is_ended_by_the_exit_hook() {
    let dir = tempfile::tempdir().unwrap();
    let mut armed = arm(&mut hooks("statics"), dir.path());
    armed.stdin.write_all(b"end\n").unwrap();
    assert_eq!(armed.ends().code(), Some(5));
}

#[test]
fn at_exit_the_end_of_the_input_comes_first_where_the_policy_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("ended");
    let ended = make_fifo(&fifo);
    let mut armed = arm(hooks("eof-ladder").arg(&fifo), dir.path());
    armed.stdin.write_all(b"end\n").unwrap();
    assert!(crate::scene::is_readable(&ended, LIMIT), "the helper was killed before it could say its last word");
    assert_eq!(armed.ends().code(), Some(5));
}

/// Under unwinding a panic must not touch the helpers of tests that go on in other threads.
#[test]
fn a_panic_in_another_thread_touches_nobody() {
    let mine = foster::Fixture::command("cat").spawn().unwrap();
    let other = std::thread::spawn(|| {
        let _theirs = foster::Fixture::command("cat").spawn().unwrap();
        panic!("as planned");
    });
    assert!(other.join().is_err());
    mine.send_line("still here").unwrap();
    mine.expect_line("still here").unwrap();
}

/// Drop while the thread unwinds: bounded, silent, and the helper is gone before `join` returns.
#[test]
fn a_panicking_test_drops_its_fixture_and_the_helper_is_gone() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let fx = foster::Fixture::command("cat").spawn().unwrap();
        sender.send(Process::open(fx.id() as i32)).unwrap();
        panic!("as planned");
    });
    let helper = receiver.recv().unwrap();
    assert!(thread.join().is_err());
    assert!(!helper.is_alive());
}
