//! Fork bombs (A11 to A13) below a fixture: ended in bounded time, without a cgroup, at a limit of 200 processes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foster::{Fixture, Stop};
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

#[test]
fn a_bomb_is_stopped_by_its_fixture() {
    for kind in KINDS {
        let scene = Scene::new();
        let fx =
            Fixture::command(bomb()).args([kind, "200"]).arg(scene.fifo()).stop_policy(Stop::kill()).spawn().unwrap();
        fx.expect_line("hidden").unwrap();
        let began = Instant::now();
        fx.stop().unwrap();
        let took = began.elapsed();
        assert!(scene.fifo_is_closed_within(Duration::ZERO), "bomb {kind}: stopped, but not gone");
        assert!(took < limit(), "bomb {kind}: {took:?}");
    }
}

#[test]
fn a_bomb_ends_with_a_killed_test_process() {
    for kind in KINDS {
        let scene = Scene::new();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("victim"));
        command.arg("signal").arg(bomb()).args([kind, "200"]).arg(scene.fifo());
        command.env_remove("FOSTER_DISABLE");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
        let victim = Process::open(child.id() as i32);
        let began = Instant::now();
        victim.signal(Signal::KILL);
        let gone = scene.fifo_is_closed_within(limit());
        let took = began.elapsed();
        child.wait().unwrap();
        if !gone {
            scene.put_down_holders();
        }
        assert!(took < limit(), "bomb {kind}: {took:?}");
    }
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
