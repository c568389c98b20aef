//! Containment: every way in which a test process can end, against every way in which a helper can hide.
//!
//! Each combination is run twice: as it is, and with every mechanism switched off, where somebody has to survive.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use once_cell::sync::Lazy;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cargo;
use crate::hidings;
use crate::scene::{CONTROL, LIMIT, Process, Scene, fresh, read_line};

pub(crate) const EVERYTHING_OFF: &str = "guardian,hooks,drop";

/// Level L2, which is what most machines have.
const NO_CGROUP: &str = "cgroup";

/// Who gets the signal.
#[derive(Debug, Clone, Copy)]
enum To {
    TestBinary,
    Group,
}

/// One way to end.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// The victim does it itself.
    Own(&'static str),
    /// The harness sends this.
    Sent(Signal, To),
    /// SIGSTOP, and SIGKILL while it is stopped.
    StoppedThenKilled,
    /// The victim becomes another program, which holds nothing of what it held.
    Exec,
    /// SIGKILL while a copy of the victim, made by fork, holds all of its descriptors.
    KilledWithCopy,
}

#[derive(Debug)]
struct Run {
    victim: i32,
    guardian: Option<Process>,
    status: ExitStatus,
    family: Vec<Process>,
    stderr: String,
}

/// Lets a victim end; who was there, and how it ended.
fn run(victim: &Path, scene: &Scene, ending: Ending, hiding: &str, off: &str) -> Run {
    let word = match ending {
        Ending::Own(word) => word,
        Ending::Sent(..) | Ending::StoppedThenKilled => "signal",
        Ending::Exec => "exec",
        Ending::KilledWithCopy => "fork",
    };
    let stderr = scene.path("stderr");
    let mut command = fresh(victim);
    command.arg(word).args(hidings::helper(hiding, hidings::BOMB, scene, victim));
    command.env("BOMB_STOP", scene.path("stop"));
    command.env("VICTIM_COPY", scene.path("copy"));
    command.env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE").env_remove("RUST_BACKTRACE");
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(std::fs::File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    let victim = Process::open(child.id() as i32);
    let said = read_line(child.stdout.take().unwrap());
    let complaint = || std::fs::read_to_string(&stderr).unwrap_or_default();
    assert_eq!(said, "armed", "{ending:?} {hiding}: the victim did not come so far: {}", complaint());
    let family = scene.family();
    let guardian = crate::guardian::of(victim.pid);
    match ending {
        Ending::Own(_) => child.stdin.as_mut().unwrap().write_all(b"\n").unwrap(),
        Ending::StoppedThenKilled => {
            victim.signal(Signal::STOP);
            victim.signal(Signal::KILL);
        }
        Ending::Exec => {
            child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            for process in &family {
                process.ends_within(if off == EVERYTHING_OFF { CONTROL } else { LIMIT });
            }
            assert!(victim.is_alive(), "the program that it has become is none of foster's business");
            victim.put_down();
        }
        Ending::Sent(signal, To::TestBinary) => victim.signal(signal),
        Ending::Sent(signal, To::Group) => {
            // The victim is not reaped, so the group is its own.
            kill_process_group(Pid::from_raw(victim.pid).unwrap(), signal).unwrap();
        }
        Ending::KilledWithCopy => {
            let copy = std::fs::read_to_string(scene.path("copy")).unwrap();
            let copy = Process::open(copy.parse().unwrap());
            victim.signal(Signal::KILL);
            assert!(victim.ends_within(LIMIT));
            // The copy lives until the family is gone: that is the point.
            for process in &family {
                process.ends_within(if off == EVERYTHING_OFF { CONTROL } else { LIMIT });
            }
            assert!(copy.is_alive(), "the copy of the test process is none of foster's business");
            copy.put_down();
        }
    }
    if !victim.ends_within(LIMIT) {
        victim.put_down();
        panic!("{ending:?} {hiding}: the victim does not end");
    }
    let status = child.wait().unwrap();
    Run { victim: victim.pid, guardian, status, family, stderr: complaint() }
}

/// One row of the matrix, and its negative control.
fn check_with(victim: &Path, ending: Ending, status: Result<i32, Signal>) {
    for hiding in hidings::possible() {
        let mut scene = Scene::new();
        let ran = run(victim, &scene, ending, hiding, NO_CGROUP);
        scene.assert_gone(&ran.family, &format!("{ending:?} against {hiding}"));
        let seen = ran.status.signal().map_or_else(|| Ok(ran.status.code().unwrap()), Err);
        let wanted = status.map_err(Signal::as_raw);
        assert_eq!(seen, wanted, "{ending:?} against {hiding}: status of the test process\n{}", ran.stderr);

        let mut scene = Scene::new();
        let ran = run(victim, &scene, ending, hiding, EVERYTHING_OFF);
        scene.assert_survived(&ran.family, &format!("{ending:?} against {hiding}, everything off"));
    }
}

fn check(ending: Ending, status: Result<i32, Signal>) {
    check_with(victim(), ending, status);
}

fn victim() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("victim")
}

#[test]
fn b1_return() {
    check(Ending::Own("return"), Ok(0));
}

#[test]
fn b2_panic() {
    check(Ending::Own("panic"), Ok(101));
}

#[test]
fn b3_panic_abort() {
    check_with(&VICTIM_THAT_ABORTS, Ending::Own("panic"), Err(Signal::ABORT));
}

#[test]
fn b4_abort() {
    check(Ending::Own("abort"), Err(Signal::ABORT));
}

#[test]
fn b5_exit() {
    check(Ending::Own("exit"), Ok(3));
}

#[test]
fn b6_exit_now() {
    check(Ending::Own("_exit"), Ok(4));
}

#[test]
fn b7_segv() {
    check(Ending::Own("segv"), Err(Signal::SEGV));
}

#[test]
fn b7_stack_overflow() {
    check(Ending::Own("overflow"), Err(Signal::ABORT));
}

#[test]
fn b8_int_to_the_test_binary() {
    check(Ending::Sent(Signal::INT, To::TestBinary), Err(Signal::INT));
}

#[test]
fn b8_int_to_the_group() {
    check(Ending::Sent(Signal::INT, To::Group), Err(Signal::INT));
}

#[test]
fn b8_term_to_the_test_binary() {
    check(Ending::Sent(Signal::TERM, To::TestBinary), Err(Signal::TERM));
}

#[test]
fn b8_term_to_the_group() {
    check(Ending::Sent(Signal::TERM, To::Group), Err(Signal::TERM));
}

#[test]
fn b8_hup_to_the_test_binary() {
    check(Ending::Sent(Signal::HUP, To::TestBinary), Err(Signal::HUP));
}

#[test]
fn b8_hup_to_the_group() {
    check(Ending::Sent(Signal::HUP, To::Group), Err(Signal::HUP));
}

#[test]
fn b8_quit_to_the_test_binary() {
    check(Ending::Sent(Signal::QUIT, To::TestBinary), Err(Signal::QUIT));
}

#[test]
fn b8_quit_to_the_group() {
    check(Ending::Sent(Signal::QUIT, To::Group), Err(Signal::QUIT));
}

#[test]
fn b9_kill() {
    check(Ending::Sent(Signal::KILL, To::TestBinary), Err(Signal::KILL));
    check(Ending::Sent(Signal::KILL, To::Group), Err(Signal::KILL));
}

#[test]
fn b10_stop_then_kill() {
    check(Ending::StoppedThenKilled, Err(Signal::KILL));
}

#[test]
fn b11_exec_of_something_else() {
    check(Ending::Exec, Err(Signal::KILL));
}

#[test]
fn b12_kill_while_a_copy_holds_every_socket() {
    check(Ending::KilledWithCopy, Err(Signal::KILL));
}

#[test]
fn b17_the_main_thread_exits_first() {
    check(Ending::Own("main-exits"), Ok(6));
}

#[test]
fn b20_panic_while_panicking() {
    check(Ending::Own("double-panic"), Err(Signal::ABORT));
}

#[test]
fn b21_forgotten_fixture() {
    check(Ending::Own("forget"), Ok(0));
}

#[test]
fn b21_fixture_in_a_cycle() {
    check(Ending::Own("cycle"), Ok(0));
}

/// The guardian alone is enough for every ending: the other mechanisms only make the usual ones quick and polite.
#[test]
fn the_guardian_alone_is_enough() {
    for ending in [
        Ending::Own("return"),
        Ending::Own("panic"),
        Ending::Own("exit"),
        Ending::Own("abort"),
        Ending::Sent(Signal::TERM, To::TestBinary),
        Ending::Sent(Signal::KILL, To::TestBinary),
    ] {
        for hiding in hidings::possible() {
            let mut scene = Scene::new();
            let ran = run(victim(), &scene, ending, hiding, "hooks,drop,cgroup");
            scene.assert_gone(&ran.family, &format!("{ending:?} against {hiding}, guardian alone"));
        }
    }
}

/// Level L3: a cgroup takes nothing away from the others, and what it adds is in `cgroup.rs`.
#[test]
fn with_a_cgroup() {
    if !crate::cgroup::possible() {
        return;
    }
    for ending in
        [Ending::Own("return"), Ending::Own("abort"), Ending::Sent(Signal::TERM, To::Group), Ending::StoppedThenKilled]
    {
        for hiding in hidings::possible() {
            let mut scene = Scene::new();
            let ran = run(victim(), &scene, ending, hiding, "");
            scene.assert_gone(&ran.family, &format!("{ending:?} against {hiding}, with a cgroup"));
            assert!(ran.guardian.expect("it was started").ends_within(LIMIT));
            assert_eq!(crate::cgroup::left_by(ran.victim), Vec::<std::path::PathBuf>::new(), "{ending:?} {hiding}");
        }
    }
}

/// Without a guardian (L1) the hooks end what is in the helper's own process group.
#[test]
fn the_hooks_alone_are_enough_for_what_can_be_caught() {
    let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].map(|s| Ending::Sent(s, To::TestBinary));
    let own = ["return", "panic", "exit", "forget"].map(Ending::Own);
    for ending in own.into_iter().chain(signals) {
        for hiding in ["ignore-term", "stopped"] {
            let mut scene = Scene::new();
            let ran = run(victim(), &scene, ending, hiding, "guardian,drop");
            scene.assert_gone(&ran.family, &format!("{ending:?} against {hiding}, hooks alone"));
            assert!(ran.stderr.contains("containment level L1 only"), "it is not said: {}", ran.stderr);
            assert_eq!(ran.stderr.matches("containment level").count(), 1, "it is said more than once");
        }
    }
}

/// What the hooks cannot reach is what the guardian is for; if this fails, the levels are described wrongly.
#[test]
fn without_the_guardian_a_daemon_survives_even_a_return() {
    let mut scene = Scene::new();
    let ran = run(victim(), &scene, Ending::Own("return"), "daemon", "guardian");
    scene.assert_survived(&ran.family, "return against daemon at L1");
}

/// Nor do the hooks hear of what cannot be caught: at L1 even a helper that hides nowhere survives it.
#[test]
fn without_the_guardian_helpers_survive_what_cannot_be_caught() {
    for ending in [
        Ending::Own("abort"),
        Ending::Own("_exit"),
        Ending::Own("segv"),
        Ending::Own("overflow"),
        Ending::Sent(Signal::KILL, To::TestBinary),
        Ending::StoppedThenKilled,
    ] {
        let mut scene = Scene::new();
        let ran = run(victim(), &scene, ending, "alone", "guardian");
        assert!(!ran.family.is_empty());
        scene.assert_survived(&ran.family, &format!("{ending:?} at L1"));
    }
}

/// The victim, built with `panic = "abort"`: a profile of its own, built once.
pub(crate) static VICTIM_THAT_ABORTS: Lazy<PathBuf> =
    Lazy::new(|| cargo::build("victim", &["--profile", "abort", "--bin", "victim"]));
