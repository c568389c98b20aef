//! Hostile environments (A19, B16, C9, C10, C19, C21): what is missing lowers the level and says so, strangers are safe, and
//! an end at the worst moment is an end all the same.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::endings::EVERYTHING_OFF;
use crate::hidings;
use crate::real_programs::skipped;
use crate::scene::{LIMIT, Process, Scene, fresh, read_line};
use crate::unkillable::{Place, as_nobody};

pub(crate) fn program(name: &str) -> std::path::PathBuf {
    assert_cmd::cargo::cargo_bin!("attacked").with_file_name(name)
}

/// Bounded by the fixture programs' own deadlines.
pub(crate) fn run(command: &mut Command) -> Output {
    let given = |command: &Command, name: &str| command.get_envs().any(|(key, _)| key == name);
    if !given(command, "FOSTER_REQUIRE") {
        command.env_remove("FOSTER_REQUIRE");
    }
    if !given(command, "FOSTER_DISABLE") {
        // What there is on every machine; `cgroup.rs` is about the rest.
        command.env("FOSTER_DISABLE", "cgroup");
    }
    command.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What is denied, and the level that is left without it.
const DENIED: [(&str, &str); 6] = [
    ("pidfd_open", "L1"),
    ("signalfd4", "L1"),
    ("subreaper", "L1"),
    ("close_range", "L2"),
    ("pidfd_send_signal", "L2"),
    // Then nobody reads while nobody waits, but that is no matter of containment.
    ("epoll_create1", "L2"),
];

#[test]
fn c10_each_missing_facility_lowers_the_level_and_is_said_once() {
    for (what, level) in DENIED {
        for errno in ["ENOSYS", "EPERM"] {
            let mut command = Command::new(program("deny"));
            let output = run(command.args([what, errno]).arg(program("attacked")).arg("level"));
            let (out, errors) = text(&output);
            assert_eq!(out, format!("{level}\n"), "{what} {errno}: {errors}");
            let said = errors.matches("containment level L1 only").count();
            assert_eq!(said, usize::from(level == "L1"), "{what} {errno}: {errors}");
        }
    }
}

#[test]
fn c10_a_missing_facility_fails_where_the_level_is_required() {
    for (what, level) in DENIED {
        let mut command = Command::new(program("deny"));
        command.args([what, "ENOSYS"]).arg(program("attacked")).arg("level").env("FOSTER_REQUIRE", "L2");
        let output = run(&mut command);
        assert_eq!(output.status.success(), level == "L2", "{what}: {}", text(&output).1);
    }
}

/// C21: as process 1 of a pid namespace, which inherits everybody's orphans.
#[test]
fn c21_as_process_1_of_a_namespace() {
    if !namespaces() {
        return;
    }
    let mut command = in_namespace();
    let output = run(command.arg(program("attacked")).arg("level"));
    assert_eq!(text(&output).0, "L2\n", "{}", text(&output).1);
}

/// C19: the numbers of helpers that are gone are given to strangers, and no signal reaches one.
#[test]
fn c19_no_signal_reaches_a_stranger_that_has_a_helpers_number() {
    if !namespaces() {
        return;
    }
    let mut command = in_namespace();
    let output = run(command.arg(program("reuse")).arg("2000"));
    assert!(output.status.success(), "{}", text(&output).1);
}

/// The control: a kill by number does reach the stranger, so the check above can fail.
#[test]
fn c19_a_kill_by_number_would_have_reached_it() {
    if !namespaces() {
        return;
    }
    let script = "true & old=$!; wait $old; echo $((old - 1)) > /proc/sys/kernel/ns_last_pid; sleep 50 & new=$!; \
                  kill -9 $old 2>/dev/null; wait $new; echo $((old == new)) $?";
    let mut command = in_namespace();
    let output = run(command.args(["sh", "-c", script]));
    // The stranger had the number, and 137 is the shell's word for SIGKILL.
    assert_eq!(text(&output).0, "1 137\n", "{}", text(&output).1);
}

fn in_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
    command
}

fn namespaces() -> bool {
    run(in_namespace().arg("true")).status.success() || skipped("user and pid namespaces are not allowed here")
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root() || skipped("only root can become another user")
}

/// C21: as a user without any privileges.
#[test]
fn c21_as_an_unprivileged_user() {
    if !is_root() {
        return;
    }
    let attacked = Place::new();
    let attacked = attacked.copy(&program("attacked"), "attacked", 0o755);
    let output = run(as_nobody().arg(attacked).arg("level").current_dir("/"));
    assert_eq!(text(&output).0, "L2\n", "{}", text(&output).1);
}

/// B16: the OOM killer takes the test process; its helpers go with it. And its control.
#[test]
fn b16_out_of_memory() {
    let Some(cgroup) = MemoryCgroup::new() else { return };
    for hiding in hidings::possible() {
        let (mut scene, family) = out_of_memory(&cgroup, hiding, "");
        scene.assert_gone(&family, &format!("out of memory against {hiding}"));
        let (mut scene, family) = out_of_memory(&cgroup, hiding, EVERYTHING_OFF);
        scene.assert_survived(&family, &format!("out of memory against {hiding}, everything off"));
    }
}

/// Lets the OOM killer take a victim; who was below it.
fn out_of_memory(cgroup: &MemoryCgroup, hiding: &str, off: &str) -> (Scene, Vec<Process>) {
    let scene = Scene::new();
    let victim = program("victim");
    let mut command = Command::new(&victim);
    command.arg("out-of-memory").args(hidings::helper(hiding, hidings::BOMB, &scene, &victim));
    command.env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE").env("BOMB_STOP", scene.path("stop"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed", "{hiding}");
    let family = scene.family();
    cgroup.take_in(child.id());
    drop(child.stdin.take());
    let handle = Process::open(child.id() as i32);
    let ended = handle.ends_within(LIMIT);
    if !ended {
        handle.put_down();
    }
    let status = child.wait().unwrap();
    assert!(ended, "the OOM killer does not come");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    (scene, family)
}

/// A memory cgroup of our own with a small limit.
struct MemoryCgroup(std::path::PathBuf);

impl MemoryCgroup {
    fn new() -> Option<MemoryCgroup> {
        let name = format!("foster-test-{}", std::process::id());
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let dir = Path::new(root).join(&name);
            if std::fs::create_dir(&dir).is_ok() {
                let cgroup = MemoryCgroup(dir);
                if std::fs::write(cgroup.0.join(limit), "67108864").is_ok() {
                    return Some(cgroup);
                }
            }
        }
        // No program that could be installed: a machine without such a cgroup is no failure.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIPPED: no memory cgroup can be made here");
        None
    }

    fn take_in(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// C9: under valgrind `/proc/self/exe` is valgrind; the guardian starts all the same.
#[test]
fn c9_under_valgrind_gdb_and_strace() {
    let attacked = program("attacked");
    let attacked = attacked.to_str().unwrap();
    for (tool, args) in [
        ("valgrind", vec!["--quiet", "--trace-children=no", attacked, "level"]),
        ("strace", vec!["-f", "-o", "/dev/null", attacked, "level"]),
        ("gdb", vec!["--batch", "-nx", "-ex", "run", "--args", attacked, "level"]),
    ] {
        if !crate::real_programs::have(tool) {
            continue;
        }
        let output = run(Command::new(tool).args(args));
        let (out, errors) = text(&output);
        assert!(out.contains("L2\n"), "{tool}: {out}{errors}");
    }
}

/// A19: ended between request and reply, again and again, at every moment of the first milliseconds, by one signal after
/// the other: some cannot be caught, some are asked for by foster's own hooks, and SIGSEGV has a handler of Rust's.
#[test]
fn a19_ended_between_request_and_reply() {
    const SIGNALS: [Signal; 7] =
        [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::SEGV, Signal::ABORT];
    for (round, signal) in (0..60u32).zip(SIGNALS.into_iter().cycle()) {
        let scene = Scene::new();
        let mut command = fresh(program("victim"));
        command.arg("signal").args(hidings::helper("daemon", hidings::BOMB, &scene, &program("victim")));
        command.env_remove("FOSTER_DISABLE").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let handle = Process::open(child.id() as i32);
        // Waiting for an end that does not come is the one way to let a moment pass.
        assert!(!handle.ends_within(Duration::from_micros(u64::from(round) * 150)));
        let began = Instant::now();
        handle.signal(signal);
        if signal == Signal::SEGV {
            // `fresh` and the victim each take their first one for a mistake and do without the handler from then on.
            while !handle.ends_within(Duration::from_millis(50)) && began.elapsed() < LIMIT {
                handle.signal(signal);
            }
        }
        let ended = handle.ends_within(LIMIT);
        handle.put_down();
        child.wait().unwrap();
        assert!(ended, "round {round}: {signal:?} does not end the test process");
        assert!(scene.is_closed_for_good(), "round {round}: somebody has come after {signal:?} to the test process");
    }
}
