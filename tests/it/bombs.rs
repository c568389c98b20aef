//! Fork bombs (A11 to A13) below a fixture: ended in bounded time, without a cgroup and with one, at a limit of 200 processes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::{Process, Scene, read_line};

/// How long the end of a saturated bomb may take.
///
/// On a machine with two cores that has nothing else to do it takes about a second, and three are allowed where
/// `FOSTER_TEST_ALONE` says that it is so, as one step of CI does. Beside other tests, two of them bombs, it is only bounded.
fn limit() -> Duration {
    Duration::from_secs(if std::env::var_os("FOSTER_TEST_ALONE").is_some() { 3 } else { 30 })
}

const KINDS: [&str; 3] = ["group", "setsid", "hopper"];

fn bomb() -> &'static std::path::Path {
    assert_cmd::cargo::cargo_bin!("bomb")
}

/// Every kind of bomb, without a cgroup, which is the harder case, and with one where that is possible.
fn each_case(check: impl Fn(&str, &str)) {
    for kind in KINDS {
        check(kind, "cgroup");
        if crate::cgroup::possible() {
            check(kind, "");
        }
    }
}

/// A test process that has a bomb as its helper, which is saturated by now.
fn with_bomb(scene: &Scene, ending: &str, kind: &str, off: &str) -> (Child, Process) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("victim"));
    command.arg(ending).arg(bomb()).args([kind, "200"]).arg(scene.fifo()).env("FOSTER_DISABLE", off);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
    let victim = Process::open(child.id() as i32);
    (child, victim)
}

#[test]
fn a_bomb_is_stopped_by_its_fixture() {
    each_case(|kind, off| {
        let scene = Scene::new();
        let (mut child, victim) = with_bomb(&scene, "stop", kind, off);
        let began = Instant::now();
        drop(child.stdin.take());
        // It ends by `_exit` when `stop` has returned, so nothing but that can have ended the bomb.
        let ended = victim.ends_within(limit());
        let took = began.elapsed();
        let gone = scene.fifo_is_closed_within(Duration::ZERO);
        if !gone {
            victim.put_down();
            scene.put_down_holders();
        }
        child.wait().unwrap();
        assert!(ended && gone, "bomb {kind} without {off:?}: stopped, but not gone");
        assert!(took < limit(), "bomb {kind} without {off:?}: {took:?}");
    });
}

#[test]
fn a_bomb_ends_with_a_killed_test_process() {
    each_case(|kind, off| {
        let scene = Scene::new();
        let (mut child, victim) = with_bomb(&scene, "signal", kind, off);
        let began = Instant::now();
        victim.signal(Signal::KILL);
        let gone = scene.fifo_is_closed_within(limit());
        let took = began.elapsed();
        child.wait().unwrap();
        if !gone {
            scene.put_down_holders();
        }
        assert!(gone && took < limit(), "bomb {kind} without {off:?}: {took:?}");
    });
}

/// The negative control: killing what is there, round after round and without freezing, does not end the worst of them.
#[test]
fn a_bomb_outlives_the_one_process_that_a_plain_kill_ends() {
    let scene = Scene::new();
    let mut command = Command::new(bomb());
    command.args(["setsid", "50"]).arg(scene.fifo());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(read_line(child.stdout.take().unwrap()), "hidden");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!scene.fifo_is_closed_within(Duration::from_millis(200)), "the bomb is gone by itself");
    scene.put_down_holders();
}
