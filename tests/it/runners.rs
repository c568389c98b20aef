//! The runner dies, or is impatient: cargo and nextest, killed or asked to end, and nextest's own time limit.
//!
//! Whatever the runner does to itself or to the test binary, the test binary and everything below it end.
//! Each deed is done once, to a runner whose test has a helper in every hiding place; and once more with the mechanism
//! switched off, where each of these helpers has to survive.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cargo;
use crate::endings::EVERYTHING_OFF;
use crate::hidings;
use crate::real_programs::have;
use crate::scene::{CONTROL, LIMIT, Process, Scene};

/// Not told to watch its runner, the guardian has no part in what happens to it.
const RUNNER_NOT_WATCHED: &str = "runner";

/// A guardian leaves its test process alone for half a second after the end of the runner. An end that has not come after
/// three times as long does not come.
const WATCHED: Duration = Duration::from_millis(1500);

/// What happens to the runner.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// This signal.
    Signal(Signal),
    /// This signal, and again as soon as the test binary is being asked to end.
    Twice(Signal),
    /// It has been stopped meanwhile and goes on, to find that the test's time is up.
    GoesOn,
}

/// A test of the suite `cases` with a helper in every hiding place, after the deed.
struct Suite {
    test_process: Process,
    families: Vec<(&'static str, Scene, Vec<Process>)>,
}

/// Runs the suite `cases`, whose test `stays` never ends by itself, and does something to the runner when all helpers
/// are there.
fn run(mut runner: Command, deed: Deed, off: &str) -> Suite {
    let victim = assert_cmd::cargo::cargo_bin!("victim");
    let scenes: Vec<(&'static str, Scene)> = hidings::possible().map(|hiding| (hiding, Scene::new())).collect();
    let mut lines = String::new();
    for (hiding, scene) in &scenes {
        lines += scene.path("stop").to_str().unwrap();
        for word in hidings::helper(hiding, hidings::SMALL_BOMB, scene, victim) {
            lines += &format!("\t{}", word.to_str().unwrap());
        }
        lines += "\n";
    }
    let common = Scene::new();
    std::fs::write(common.path("families"), lines).unwrap();
    runner.env("CASES_FAMILIES", common.path("families")).env("CASES_ARMED", common.path("armed"));
    runner.env("CASES_TESTER", common.path("tester")).env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE");
    if matches!(deed, Deed::GoesOn) {
        runner.env("CASES_STOP_RUNNER", "1");
    }
    let log = std::fs::File::create(common.path("log")).unwrap();
    runner.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut child = runner.spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    let said = || std::fs::read_to_string(common.path("log")).unwrap_or_default();
    if !common.is_armed(&handle) {
        handle.put_down();
        child.wait().unwrap();
        panic!("{deed:?}: the helpers are not there in time, or the runner ended first: {}", said());
    }
    let test_process = std::fs::read_to_string(common.path("tester")).unwrap();
    let test_process = Process::open(test_process.parse().unwrap());
    let families = scenes.into_iter().map(|(hiding, scene)| {
        let family = scene.family();
        (hiding, scene, family)
    });
    let suite = Suite { test_process, families: families.collect() };
    match deed {
        Deed::Signal(signal) => handle.signal(signal),
        Deed::Twice(signal) => {
            handle.signal(signal);
            handle.signal(signal);
        }
        Deed::GoesOn => handle.signal(Signal::CONT),
    }
    let ended = handle.ends_within(Duration::from_secs(60));
    if !ended {
        handle.put_down();
    }
    child.wait().unwrap();
    assert!(ended, "{deed:?}: the runner does not end: {}", said());
    suite
}

impl Suite {
    fn assert_gone(mut self, what: &str) {
        if !self.test_process.ends_within(LIMIT) {
            self.test_process.put_down();
            panic!("{what}: the test process has survived");
        }
        for (hiding, scene, family) in &mut self.families {
            scene.assert_gone(family, &format!("{what} against {hiding}"));
        }
    }

    /// The negative control: somebody of each family survives, and the test process does if it should.
    fn assert_survived(mut self, what: &str, test_process: bool) {
        let alive = !self.test_process.ends_within(if test_process { WATCHED } else { LIMIT });
        assert_eq!(alive, test_process, "{what}: is the test process alive?");
        let until = Instant::now() + if test_process { Duration::ZERO } else { CONTROL };
        // The bombs first, which burn time for as long as they are there.
        for (hiding, scene, family) in self.families.iter_mut().rev() {
            scene.assert_survived_until(until, family, &format!("{what} against {hiding}"));
        }
        self.test_process.put_down();
    }
}

fn cargo_test() -> Command {
    let mut command = cargo::command();
    command.args(["test", "--quiet", "--test", "cases", "--", "--ignored", "--exact", "stays"]);
    command
}

/// nextest with a configuration of its own, and where that is kept.
fn nextest(config: &str) -> (Command, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nextest.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = cargo::command();
    command.args(["nextest", "run", "--test", "cases", "--run-ignored", "all", "--config-file"]).arg(file);
    command.args(["--no-fail-fast", "-E", "test(=stays)"]);
    (command, dir)
}

/// Does it to nextest, against every hiding place, and once more as the control.
fn check_nextest(config: &str, deed: Deed, off: &str, what: &str) {
    if !have("cargo-nextest") {
        return;
    }
    let (runner, _dir) = nextest(config);
    run(runner, deed, "").assert_gone(what);
    let (runner, _dir) = nextest(config);
    run(runner, deed, off).assert_survived(&format!("{what}, {off} off"), off == RUNNER_NOT_WATCHED);
}

/// B13: cargo alone is killed.
#[test]
fn b13_kill_of_cargo_only() {
    run(cargo_test(), Deed::Signal(Signal::KILL), "").assert_gone("SIGKILL of cargo");
    let control = run(cargo_test(), Deed::Signal(Signal::KILL), RUNNER_NOT_WATCHED);
    control.assert_survived("SIGKILL of cargo, runner not watched", true);
}

/// Who asks the test binary first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    CtrlCFirst,
    /// It does nothing before both have.
    AtOnce,
    GuardianFirst,
    /// Ctrl-C again, while the helper says goodbye.
    Twice,
}

/// Ctrl-C reaches cargo and the test binary at once; the helper takes 700 ms for its goodbye, and has them.
///
/// Ctrl-C and the guardian, which knows only that cargo has died, both ask the test binary to end.
fn ctrl_c(order: Order) {
    let scene = Scene::new();
    let bye = scene.path("bye");
    let mut runner = crate::scene::fresh(env!("CARGO"));
    runner.args(["--offline", "test", "--quiet", "--test", "cases", "--", "--ignored", "--exact", "says_goodbye"]);
    runner.current_dir(env!("CARGO_MANIFEST_DIR")).env("CASES_BYE", &bye).env("CASES_ARMED", scene.path("armed"));
    runner.env("CASES_TESTER", scene.path("tester"));
    runner.env_remove("FOSTER_DISABLE").env_remove("NEXTEST").env_remove("NEXTEST_TEST_NAME");
    runner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = std::os::unix::process::CommandExt::process_group(&mut runner, 0).spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    assert!(scene.is_armed(&handle), "cargo ended first");
    let tester = std::fs::read_to_string(scene.path("tester")).unwrap();
    let tester = Process::open(tester.parse().unwrap());
    // A group that nobody of its session has a child in gets SIGHUP and SIGCONT (setpgid(2)); a child of ours prevents it.
    let mut anchor = Command::new("sleep");
    let mut anchor = std::os::unix::process::CommandExt::process_group(anchor.arg("60"), handle.pid).spawn().unwrap();
    if order == Order::AtOnce {
        tester.signal(Signal::STOP);
    }
    if order != Order::GuardianFirst {
        tester.signal(Signal::INT);
    }
    handle.signal(Signal::INT);
    assert!(handle.ends_within(crate::scene::LIMIT));
    child.wait().unwrap();
    match order {
        Order::CtrlCFirst => {}
        Order::AtOnce => {
            let deadline = Instant::now() + LIMIT;
            while !is_pending(&tester, Signal::TERM) {
                assert!(Instant::now() < deadline, "the guardian does not ask");
                // Nothing announces a signal that waits for a stopped process.
                std::thread::yield_now();
            }
            tester.signal(Signal::CONT);
        }
        Order::GuardianFirst | Order::Twice => {
            assert!(scene.hears("asked"), "the guardian does not ask");
            tester.signal(Signal::INT);
        }
    }
    let ended = scene.armed_ends();
    anchor.kill().unwrap();
    anchor.wait().unwrap();
    assert!(ended, "the test binary does not end");
    let said = std::fs::read_to_string(&bye).unwrap_or_default();
    assert_eq!(said, if order == Order::Twice { "" } else { "bye\n" }, "{order:?}: the helper's time");
}

/// Does this signal wait for the process? (proc_pid_status(5): ShdPnd)
fn is_pending(process: &Process, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).unwrap_or_default();
    u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set >> (signal.as_raw() - 1) & 1 == 1)
}

/// That cargo has died of it must not look like a second signal.
#[test]
fn ctrl_c_to_cargo_and_the_test_binary_is_polite() {
    for order in [Order::CtrlCFirst, Order::AtOnce, Order::GuardianFirst] {
        ctrl_c(order);
    }
}

/// The control: a second Ctrl-C is one, and takes the helper's time.
#[test]
fn ctrl_c_twice_is_not() {
    ctrl_c(Order::Twice);
}

/// B14: nextest alone is killed.
#[test]
fn b14_kill_of_nextest_only() {
    check_nextest("", Deed::Signal(Signal::KILL), RUNNER_NOT_WATCHED, "SIGKILL of nextest");
}

/// B14: nextest alone is asked to end.
#[test]
fn b14_term_of_nextest_only() {
    check_nextest("", Deed::Signal(Signal::TERM), EVERYTHING_OFF, "SIGTERM to nextest");
}

/// B15: nextest ends a test that takes too long, politely and then by force.
#[test]
fn b15_nextest_terminates_a_slow_test() {
    let config = "[profile.default]\nslow-timeout = { period = \"2s\", terminate-after = 1, grace-period = \"2s\" }\n";
    check_nextest(config, Deed::GoesOn, EVERYTHING_OFF, "terminate-after of nextest");
}

/// B15: Ctrl-C, and once more by the impatient.
#[test]
fn b15_ctrl_c_twice_to_nextest() {
    check_nextest("", Deed::Twice(Signal::INT), EVERYTHING_OFF, "Ctrl-C twice to nextest");
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
