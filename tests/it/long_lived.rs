//! The case that this crate exists for: a long-lived helper with two channels, several producers that feed one input,
//! answers read without any sleeping, and whatever happens to the test process, the helper is gone afterwards.
//!
//! The program is `examples/long_lived.rs`, so that what is shown to users is what is tested.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use once_cell::sync::Lazy;
use rustix::process::Signal;

use crate::cargo;
use crate::scene::{LIMIT, Process};

/// `cargo test` has built it; `cargo test --test it` alone has not.
static EXAMPLE: Lazy<PathBuf> = Lazy::new(|| cargo::build("long_lived", &["--example", "long_lived"]));

/// Runs the example up to the moment when everything has been answered, ends it, and looks what is left.
fn end_by(word: &str, signal: Option<Signal>) -> std::process::ExitStatus {
    let mut command = Command::new(&*EXAMPLE);
    command.arg(assert_cmd::cargo::cargo_bin!("chat")).arg(word);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().expect("the example says who its helper is").unwrap();
    let helper = Process::open(first.strip_prefix("helper ").unwrap().parse().unwrap());
    assert_eq!(lines.next().unwrap().unwrap(), "400 answers, 400 log lines");
    if let Some(signal) = signal {
        handle.signal(signal);
    }
    assert!(handle.ends_within(LIMIT), "the example does not end");
    let status = child.wait().unwrap();
    assert!(helper.ends_within(LIMIT), "the helper has survived {word}");
    status
}

#[test]
fn success() {
    assert_eq!(end_by("success", None).code(), Some(0));
}

#[test]
fn panic() {
    assert_eq!(end_by("panic", None).code(), Some(101));
}

#[test]
fn exit() {
    assert_eq!(end_by("exit", None).code(), Some(3));
}

#[test]
fn abort() {
    assert_eq!(end_by("abort", None).signal(), Some(Signal::ABORT.as_raw()));
}

#[test]
fn sigterm() {
    assert_eq!(end_by("wait", Some(Signal::TERM)).signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn sigkill() {
    assert_eq!(end_by("wait", Some(Signal::KILL)).signal(), Some(Signal::KILL.as_raw()));
}
