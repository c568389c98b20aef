//! The guardian and the keepers themselves: what they hold, what they survive, and what happens when they do not.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::registry::{self, Role};
use rustix::process::Signal as Sig;

use crate::scene::{LIMIT, Process, Scene, hide, read_line};

pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|p| p.parse().unwrap()).collect()
}

pub(crate) fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The guardian of a test process, if it has one.
pub(crate) fn of(test_process: i32) -> Option<Process> {
    children(test_process).into_iter().find(|p| comm(*p) == "foster-guardian").map(Process::open)
}

/// A victim that waits for its order, with its guardian and the keeper of its helper.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    child: Child,
    pub(crate) victim: Process,
    pub(crate) guardian: Process,
    pub(crate) keeper: Process,
    pub(crate) family: Vec<Process>,
}

impl Stage {
    /// At level L2, which is what most machines have.
    fn set(ending: &str, hiding: &str) -> Stage {
        Stage::set_without("cgroup", ending, hiding)
    }

    pub(crate) fn set_without(off: &str, ending: &str, hiding: &str) -> Stage {
        let scene = Scene::new();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("victim"));
        command.arg(ending).arg(hide()).arg(hiding).arg(scene.record()).arg(scene.fifo());
        command.env("FOSTER_DISABLE", off).process_group(0);
        let stderr = std::fs::File::create(scene.path("stderr")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
        let victim = Process::open(child.id() as i32);
        let guardian = of(victim.pid).unwrap();
        let family = scene.family();
        let keeper = children(guardian.pid).into_iter().find(|k| children(*k).contains(&family[0].pid)).unwrap();
        assert_eq!(comm(keeper), "foster-keeper");
        Stage { scene, victim, guardian, keeper: Process::open(keeper), family, child }
    }

    pub(crate) fn say_go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    pub(crate) fn reap(mut self) -> std::process::ExitStatus {
        assert!(self.victim.ends_within(LIMIT), "the victim does not end");
        self.child.wait().unwrap()
    }
}

/// C1, keeper: its tree falls to the guardian, which ends it, while the test process goes on.
#[test]
fn c1_a_killed_keeper_leaves_nobody() {
    for hiding in ["setsid", "daemon", "ignore-term", "stopped"] {
        let mut stage = Stage::set("return", hiding);
        stage.keeper.signal(Sig::KILL);
        stage.scene.assert_gone(&stage.family, &format!("keeper killed, {hiding}"));
        assert!(stage.victim.is_alive() && stage.guardian.is_alive());
        stage.say_go();
        assert_eq!(stage.reap().code(), Some(0));
    }
}

/// C1, guardian: each keeper notices and clears its own tree.
#[test]
fn c1_a_killed_guardian_leaves_nobody() {
    for hiding in ["setsid", "daemon", "ignore-term", "stopped"] {
        let mut stage = Stage::set("return", hiding);
        stage.guardian.signal(Sig::KILL);
        stage.scene.assert_gone(&stage.family, &format!("guardian killed, {hiding}"));
        assert!(stage.keeper.ends_within(LIMIT));
        stage.say_go();
        assert_eq!(stage.reap().code(), Some(0));
    }
}

/// C1, both, and the test process: only the helper itself has a last resort then, PR_SET_PDEATHSIG.
#[test]
fn c1_guardian_and_keeper_killed_take_the_helper_with_them() {
    let stage = Stage::set("return", "alone");
    // Stopped first, so that it cannot see the other die.
    stage.guardian.signal(Sig::STOP);
    stage.keeper.signal(Sig::KILL);
    stage.guardian.signal(Sig::KILL);
    assert!(stage.family[0].ends_within(LIMIT));
    let mut stage = stage;
    stage.say_go();
    stage.reap();
}

#[test]
fn c1_the_test_gets_a_typed_error_at_the_next_use() {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// C2: a guardian that was stopped goes on when the test process ends, and the keepers do not need it.
#[test]
fn c2_a_stopped_guardian_changes_nothing() {
    let mut stage = Stage::set("signal", "daemon");
    stage.guardian.signal(Sig::STOP);
    stage.victim.signal(Sig::KILL);
    stage.scene.assert_gone(&stage.family, "guardian stopped, test process killed");
    assert!(stage.guardian.ends_within(LIMIT));
    assert_eq!(stage.reap().signal(), Some(9));
}

/// C3: they end when their work is done, not when somebody asks.
#[test]
fn c3_requests_to_end_are_ignored() {
    let mut stage = Stage::set("return", "setsid");
    for signal in [Sig::TERM, Sig::HUP, Sig::INT, Sig::QUIT, Sig::PIPE, Sig::TSTP, Sig::USR1, Sig::USR2, Sig::ALARM] {
        stage.guardian.signal(signal);
        stage.keeper.signal(signal);
    }
    stage.say_go();
    stage.scene.assert_gone(&stage.family, "signalled guardian and keeper");
    assert_eq!(stage.reap().code(), Some(0));
}

/// C4: `pkill` for the test's name, or for where it was built, misses them.
#[test]
fn c4_their_names_do_not_say_which_test_they_belong_to() {
    let stage = Stage::set("return", "alone");
    for process in [&stage.guardian, &stage.keeper] {
        let name = comm(process.pid);
        assert!(name.starts_with("foster-"), "{name}");
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap();
        assert!(!line.contains("victim") && !line.contains("target"), "{line:?}");
    }
    let mut stage = stage;
    stage.say_go();
    stage.reap();
}

/// C6: exactly the descriptors that they need; no terminal, a session of their own, `/` as directory.
#[test]
fn c6_what_they_hold() {
    let stage = Stage::set("return", "alone");
    // They may still be closing what they have just sent.
    for process in [&stage.guardian, &stage.keeper] {
        let began = Instant::now();
        while !std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap().contains(") S ") {
            assert!(began.elapsed() < LIMIT, "process {} never sleeps", process.pid);
            std::thread::yield_now();
        }
    }
    let kinds = |pid: i32| {
        let mut kinds = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned();
            let kind = target.split(':').next().unwrap().to_owned();
            let kind = if target.starts_with("anon_inode") { target } else { kind };
            *kinds.entry(kind).or_insert(0) += 1;
        }
        kinds
    };
    let expected = |pairs: &[(&str, i32)]| pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    // Control, goodbye and the spare keeper's socket; the farewell pipe's two ends.
    let guardian =
        [("/dev/null", 3), ("socket", 3), ("pipe", 2), ("anon_inode:[signalfd]", 1), ("anon_inode:[pidfd]", 2)];
    let keeper =
        [("/dev/null", 3), ("socket", 1), ("pipe", 1), ("anon_inode:[signalfd]", 1), ("anon_inode:[pidfd]", 2)];
    // Newer kernels have a file system for pidfds and print `pidfd:[…]`.
    let plain = |kinds: BTreeMap<String, i32>| {
        let rename = |(k, n): (String, i32)| (if k == "pidfd" { "anon_inode:[pidfd]".to_owned() } else { k }, n);
        kinds.into_iter().map(rename).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(plain(kinds(stage.guardian.pid)), expected(&guardian));
    assert_eq!(plain(kinds(stage.keeper.pid)), expected(&keeper));
    for process in [&stage.guardian, &stage.keeper] {
        assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap(), Path::new("/"));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[3], stage.guardian.pid.to_string(), "session");
        assert_eq!(fields[4], "0", "terminal");
    }
    let mut stage = stage;
    stage.say_go();
    stage.reap();
}

/// C7: after a clean end there is no guardian, no keeper and no zombie, before the test process itself is reaped.
#[test]
fn c7_a_clean_end_leaves_no_process_and_no_zombie() {
    let mut stage = Stage::set("return", "daemon");
    stage.say_go();
    assert!(stage.victim.ends_within(LIMIT));
    // The victim is a zombie now and its children, had it any, would be somebody else's.
    assert!(!stage.guardian.is_alive() && !stage.keeper.is_alive());
    for pid in [stage.guardian.pid, stage.keeper.pid] {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a zombie: {}", comm(pid));
    }
    stage.scene.assert_gone(&stage.family, "clean end");
    stage.reap();
}

/// C5 in part: nobody waits for an end of file on our account.
#[test]
fn c5_the_output_of_the_test_process_ends_with_it() {
    let scene = Scene::new();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("victim"));
    command.arg("_exit").arg(hide()).arg("ignore-term").arg(scene.record()).arg(scene.fifo());
    let began = Instant::now();
    // `output` waits for the end of both pipes: whoever held a copy would keep it waiting.
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// C8: a marker without the rest is no invitation; the program runs as if nothing had been said.
#[test]
fn c8_a_marker_alone_makes_no_guardian() {
    for marker in ["", "1", "1:00", "nonsense", &format!("{}:0123456789abcdef", std::process::id())] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("greet"));
        let output = command.env("FOSTER_GUARDIAN", marker).stdin(Stdio::null()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "name? ", "marker {marker:?}");
        let mut victim = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
        let output = victim.env("FOSTER_GUARDIAN", marker).arg("level").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "L1\n", "marker {marker:?}: {errors}");
        assert!(errors.contains("FOSTER_GUARDIAN is set"), "{errors}");
    }
}

/// C8: a socket and the right marker, but the wrong nonce: the guardian gives up, and nothing hangs.
#[test]
fn c8_a_wrong_nonce_or_a_silent_parent_ends_the_guardian() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("victim"));
    command.env("FOSTER_GUARDIAN", format!("{}:0123456789abcdef", std::process::id()));
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    (&ours).write_all(&[1, 0, 0, 0, 255]).unwrap();
    assert!(handle.ends_within(LIMIT));
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// C10: what is required and cannot be had is an error, not a lower level.
#[test]
fn c10_a_required_level_that_cannot_be_had_fails_the_spawn() {
    let run = |require: &str, disable: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
        command.arg("level").env("FOSTER_REQUIRE", require).env("FOSTER_DISABLE", disable);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(run("L2", "").0);
    assert!(run("L1", "guardian").0);
    let (ok, errors) = run("L2", "guardian");
    assert!(!ok && errors.contains("FOSTER_REQUIRE=L2, but only level L1 can be reached here"), "{errors}");
    let (ok, errors) = run("L9", "");
    assert!(!ok && errors.contains("FOSTER_REQUIRE=L9 names no level"), "{errors}");
}

/// C11: many threads spawn for the first time at once, in a process of their own: one guardian.
#[test]
fn c11_many_first_spawns_at_once_start_one_guardian() {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.arg("threads").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// C13: without descriptors there is an error; with them again, everything works again.
#[test]
fn c13_exhausted_descriptors_are_an_error_and_no_half_wired_helper() {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.arg("descriptors").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn attacked_succeeds(mode: &str) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.arg(mode).output().unwrap();
    assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A guardian that cannot fork says so; other fixtures and later spawns have no part in it.
#[test]
fn c13_exhausted_processes_are_an_error_and_cost_nobody_else_anything() {
    attacked_succeeds("processes");
}

#[test]
fn c13_too_few_descriptors_at_the_first_spawn_do_not_lower_the_level_for_good() {
    attacked_succeeds("first-descriptors");
}

#[test]
fn c1_a_keeper_killed_before_its_order_is_replaced() {
    attacked_succeeds("idle-keeper");
}

/// What a keeper has served to the end is forgotten, and nobody who was with it can touch what comes next.
#[test]
fn a_keeper_serves_one_fixture_after_the_other() {
    attacked_succeeds("again");
}

/// C2 for keepers: one that was stopped goes on at once.
#[test]
fn c2_a_helper_that_stops_its_keeper_does_not_outlive_its_fixture() {
    attacked_succeeds("stopped-keeper");
}

/// C8: where the guardian cannot prove its origin, the program's `main` runs once all the same.
#[test]
fn c8_main_does_not_run_twice() {
    if !rustix::process::getuid().is_root() && !crate::real_programs::skipped("only root may make a pid namespace") {
        return;
    }
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.arg("namespace").output().unwrap();
    // Such a process cannot have children any more once its first one, init there, has ended: the spawn is an error.
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "main runs\n", "{errors}");
    assert!(errors.contains("failed to spawn `cat`"), "{errors}");
}

/// C9: a program that was deleted while it runs can still start its guardian.
#[test]
fn c9_a_deleted_program_still_has_a_guardian() {
    // A link and not a copy: while a file is being written, another thread may pass its descriptor on to a child for a
    // moment, and then nobody may execute it (ETXTBSY).
    let original = assert_cmd::cargo::cargo_bin!("attacked");
    let dir = tempfile::tempdir_in(original.parent().unwrap()).unwrap();
    let copy: PathBuf = dir.path().join("attacked");
    std::fs::hard_link(original, &copy).unwrap();
    let output = Command::new(&copy).arg("deleted").env("FOSTER_DISABLE", "cgroup").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "L2\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// The temporary directories of fixtures are gone after every ending, SIGKILL included.
#[test]
fn directories_are_gone_however_the_process_ends() {
    for (mode, signal) in [("dir-exit", false), ("dir-wait", true)] {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
        command.arg(mode).arg(&outside).env("TMPDIR", temp.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let made = PathBuf::from(read_line(child.stdout.take().unwrap()));
        let handle = Process::open(child.id() as i32);
        let guardian = children(handle.pid).into_iter().find(|p| comm(*p) == "foster-guardian").unwrap();
        let guardian = Process::open(guardian);
        assert!(made.starts_with(temp.path()) && made.join("link").exists(), "{}", made.display());
        if signal {
            handle.signal(Sig::KILL);
        } else {
            drop(child.stdin.take());
        }
        child.wait().unwrap();
        assert!(guardian.ends_within(LIMIT));
        let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["outside"], "{mode}");
        assert!(outside.join("precious").exists(), "a link was followed out of the directory");
    }
}

/// Nothing of this very test binary's own keepers is listed twice, and its guardian is one.
#[test]
fn one_guardian_serves_all_tests_of_a_binary() {
    let _fx = Fixture::command("cat").spawn().unwrap();
    let guardians = registry::live().into_iter().filter(|e| e.role() == Role::Guardian).count();
    assert_eq!(guardians, 1);
}
