//! The runner dies, or is impatient: cargo and nextest, killed or asked to end, and nextest's own time limit.
//!
//! Whatever the runner does to itself or to the test binary, the test binary and everything below it end.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::cargo;
use crate::real_programs::have;
use crate::scene::{Process, Scene, hide};

const HIDINGS: [&str; 5] = ["setsid", "daemon", "env-i", "ignore-term", "stopped"];

/// What happens to the runner.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// This signal.
    Signal(Signal),
    /// This signal, and again as soon as the test binary is being asked to end.
    Twice(Signal),
    /// Nothing: it ends the test itself.
    Nothing,
}

/// Runs the suite `cases`, whose test `stays` never ends by itself, and does something to the runner when the helper
/// is there. The test binary signs the record, too.
fn run(mut runner: Command, scene: &Scene, hiding: &str, deed: Deed, off: &str) -> Vec<Process> {
    runner.env("CASES_HIDE", hide()).env("CASES_HOW", hiding).env("CASES_ARMED", scene.path("armed"));
    runner.env("CASES_RECORD", scene.record()).env("CASES_FIFO", scene.fifo());
    runner.env("FOSTER_DISABLE", off);
    let log = std::fs::File::create(scene.path("log")).unwrap();
    runner.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut child = runner.spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    let said = || std::fs::read_to_string(scene.path("log")).unwrap_or_default();
    assert!(scene.is_armed(&handle), "{deed:?}: the runner ended first: {}", said());
    let family = scene.family();
    match deed {
        Deed::Signal(signal) => handle.signal(signal),
        Deed::Twice(signal) => {
            handle.signal(signal);
            handle.signal(signal);
        }
        Deed::Nothing => {}
    }
    let ended = handle.ends_within(std::time::Duration::from_secs(60));
    if !ended {
        handle.put_down();
    }
    child.wait().unwrap();
    assert!(ended, "{deed:?}: the runner does not end: {}", said());
    family
}

fn cargo_test() -> Command {
    let mut command = cargo::command();
    command.args(["test", "--quiet", "--test", "cases", "--", "--ignored", "--exact", "stays"]);
    command
}

fn nextest(config: &str, scene: &Scene) -> Command {
    let file = scene.path("nextest.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = cargo::command();
    command.args(["nextest", "run", "--test", "cases", "--run-ignored", "all", "--config-file"]).arg(file);
    command.args(["--no-fail-fast", "-E", "test(=stays)"]);
    command
}

/// B13: cargo alone is killed.
#[test]
fn b13_kill_of_cargo_only() {
    for hiding in HIDINGS {
        let mut scene = Scene::new();
        let family = run(cargo_test(), &scene, hiding, Deed::Signal(Signal::KILL), "");
        scene.assert_gone(&family, &format!("SIGKILL of cargo against {hiding}"));
        // The control: not told to watch its runner, the test binary lives on.
        let mut scene = Scene::new();
        let family = run(cargo_test(), &scene, hiding, Deed::Signal(Signal::KILL), "runner");
        scene.assert_survived(&family, &format!("SIGKILL of cargo against {hiding}, runner not watched"));
    }
}

/// Ctrl-C reaches cargo and the test binary at once. That cargo has died of it must not look like a second signal: the
/// helper is asked, and has its time.
#[test]
fn ctrl_c_to_cargo_and_the_test_binary_is_polite() {
    for _ in 0..5 {
        let scene = Scene::new();
        let bye = scene.path("bye");
        let mut runner = crate::scene::fresh(env!("CARGO"));
        runner.args(["--offline", "test", "--quiet", "--test", "cases", "--", "--ignored", "--exact", "says_goodbye"]);
        runner.current_dir(env!("CARGO_MANIFEST_DIR")).env("CASES_BYE", &bye).env("CASES_ARMED", scene.path("armed"));
        runner.env_remove("FOSTER_DISABLE").env_remove("NEXTEST").env_remove("NEXTEST_TEST_NAME");
        runner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = std::os::unix::process::CommandExt::process_group(&mut runner, 0).spawn().unwrap();
        let handle = Process::open(child.id() as i32);
        assert!(scene.is_armed(&handle), "cargo ended first");
        // It is not reaped, so the group is its own.
        let group = rustix::process::Pid::from_raw(handle.pid).unwrap();
        rustix::process::kill_process_group(group, Signal::INT).unwrap();
        assert!(handle.ends_within(crate::scene::LIMIT));
        child.wait().unwrap();
        // The helper takes 700 ms for its goodbye, after which the FIFO is at its end.
        let ended = scene.armed_ends();
        assert!(ended, "the test binary does not end");
        assert_eq!(std::fs::read_to_string(&bye).unwrap_or_default(), "bye\n", "the helper was not given its time");
    }
}

/// B14: nextest alone is killed, or asked to end.
#[test]
fn b14_kill_of_nextest_only() {
    if !have("cargo-nextest") {
        return;
    }
    for hiding in HIDINGS {
        let mut scene = Scene::new();
        let runner = nextest("", &scene);
        let family = run(runner, &scene, hiding, Deed::Signal(Signal::KILL), "");
        scene.assert_gone(&family, &format!("SIGKILL of nextest against {hiding}"));
        let mut scene = Scene::new();
        let runner = nextest("", &scene);
        let family = run(runner, &scene, hiding, Deed::Signal(Signal::KILL), "runner");
        scene.assert_survived(&family, &format!("SIGKILL of nextest against {hiding}, runner not watched"));
    }
}

#[test]
fn b14_term_of_nextest_only() {
    if !have("cargo-nextest") {
        return;
    }
    for hiding in HIDINGS {
        let mut scene = Scene::new();
        let runner = nextest("", &scene);
        let family = run(runner, &scene, hiding, Deed::Signal(Signal::TERM), "");
        scene.assert_gone(&family, &format!("SIGTERM to nextest against {hiding}"));
    }
}

/// B15: nextest ends a test that takes too long, politely and then by force.
#[test]
fn b15_nextest_terminates_a_slow_test() {
    if !have("cargo-nextest") {
        return;
    }
    for hiding in HIDINGS {
        let mut scene = Scene::new();
        let config =
            "[profile.default]\nslow-timeout = { period = \"500ms\", terminate-after = 1, grace-period = \"2s\" }\n";
        let runner = nextest(config, &scene);
        let family = run(runner, &scene, hiding, Deed::Nothing, "");
        scene.assert_gone(&family, &format!("terminate-after of nextest against {hiding}"));
    }
}

/// B15: Ctrl-C, and once more by the impatient.
#[test]
fn b15_ctrl_c_twice_to_nextest() {
    if !have("cargo-nextest") {
        return;
    }
    for hiding in HIDINGS {
        let mut scene = Scene::new();
        let runner = nextest("", &scene);
        let family = run(runner, &scene, hiding, Deed::Twice(Signal::INT), "");
        scene.assert_gone(&family, &format!("Ctrl-C twice to nextest against {hiding}"));
    }
}

/// C5: a forgotten fixture whose helper takes its time does not make nextest see a leak, and does not keep a pipe waiting.
#[test]
fn c5_nextest_sees_no_leak_and_a_pipe_ends() {
    if !have("cargo-nextest") {
        return;
    }
    let scene = Scene::new();
    let config = "[profile.default]\nleak-timeout = { period = \"100ms\", result = \"fail\" }\n";
    let file = scene.path("nextest.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = cargo::command();
    command.args(["nextest", "run", "--test", "cases", "--run-ignored", "all", "--config-file"]).arg(file);
    let output = command.args(["-E", "test(=forgets)"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed") && !said.contains("leaky"), "{said}");
    // `output` returns at the end of the pipe: whoever held it would keep us waiting.
    let mut command = cargo::command();
    command.args(["test", "--quiet", "--test", "cases", "--", "--ignored", "--exact", "forgets"]);
    let began = std::time::Instant::now();
    assert!(command.stdin(Stdio::null()).output().unwrap().status.success());
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
