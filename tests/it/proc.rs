//! A `/proc` that is not there, shows others, or lacks a file (C10): the level that is left, and what it still does.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::endings::EVERYTHING_OFF;
use crate::hidings;
use crate::hostile::{program, run, text};
use crate::real_programs::skipped;
use crate::scene::{CONTROL, LIMIT, Process, Scene, read_line};

/// What takes `/proc` away from the program that follows.
#[derive(Debug, Clone, Copy)]
enum Without {
    /// An empty file system lies over it.
    Any,
    /// It is that of the pid namespace outside, where our numbers are those of strangers. The first process there goes on
    /// until the end of its input, or the kernel would end everybody else with it.
    Own,
}

impl Without {
    const BOTH: [Without; 2] = [Without::Any, Without::Own];

    fn command(self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]);
        match self {
            Without::Any => command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]),
            Without::Own => {
                command.args(["--pid", "--fork", "sh", "-c", "\"$@\"; code=$?; read -r end; exit $code", "sh"])
            }
        };
        command
    }

    fn possible(self) -> bool {
        run(self.command().arg("true")).status.success() || skipped("user and mount namespaces are not allowed here")
    }
}

#[test]
fn c10_without_a_proc_of_ones_own_the_level_is_l1_and_is_said_once() {
    for without in Without::BOTH.into_iter().filter(|w| w.possible()) {
        let output = run(without.command().arg(program("attacked")).arg("level"));
        let (out, errors) = text(&output);
        assert_eq!(out, "L1\n", "{without:?}: {errors}");
        assert_eq!(errors.matches("containment level L1 only").count(), 1, "{without:?}: {errors}");
        let missing = match without {
            Without::Any => "/proc/self/exe",
            Without::Own => "there is no /proc that shows this process",
        };
        assert!(errors.contains(missing), "{without:?}: it does not say what is missing: {errors}");
    }
}

#[test]
fn c10_without_a_proc_of_ones_own_a_higher_level_cannot_be_required() {
    for without in Without::BOTH.into_iter().filter(|w| w.possible()) {
        for (level, possible) in [("L2", false), ("L1", true)] {
            let output = run(without.command().arg(program("attacked")).arg("level").env("FOSTER_REQUIRE", level));
            let (out, errors) = text(&output);
            assert_eq!(output.status.success(), possible, "{without:?} {level}: {out}{errors}");
            let said = errors.contains("FOSTER_REQUIRE=L2, but only level L1 can be reached here");
            assert_ne!(said, possible, "{without:?} {level}: {errors}");
        }
    }
}

/// What level L1 promises holds without `/proc`: a helper ends with a process that returns, exits, or forgets it.
#[test]
fn c10_without_a_proc_of_ones_own_a_helper_is_ended_all_the_same() {
    for without in Without::BOTH.into_iter().filter(|w| w.possible()) {
        for ending in ["return", "panic", "exit", "forget"] {
            assert!(ends(without, ending, ""), "{without:?}, {ending}: the helper has survived");
        }
        // The control: nobody else would have ended it.
        assert!(!ends(without, "return", EVERYTHING_OFF), "{without:?}: it ends by itself");
    }
}

/// Does a helper that ignores SIGTERM end with its test process?
fn ends(without: Without, ending: &str, off: &str) -> bool {
    let scene = Scene::new();
    let mut command = without.command();
    let helper = "trap '' TERM; exec 3>\"$0\"; echo hidden; exec sleep 50";
    command.arg(program("victim")).args([ending, "sh", "-c", helper]).arg(scene.fifo());
    command.env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let outermost = Process::open(child.id() as i32);
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed", "{without:?}, {ending}");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let ended = scene.fifo_is_closed_within(if off.is_empty() { LIMIT } else { CONTROL });
    if matches!(without, Without::Own) {
        assert!(outermost.is_alive(), "the namespace is gone, and with it everybody: that proves nothing");
    }
    if !ended {
        scene.put_down_holders();
    }
    drop(child.stdin.take());
    assert!(outermost.ends_within(LIMIT));
    child.wait().unwrap();
    ended
}

/// Without the lists of children every process is looked at: slower, and the promise is the same.
///
/// `childless` fails if nobody has asked for such a list, so this cannot pass without having taken that way.
#[test]
fn c10_without_the_lists_of_children_the_promise_is_the_same() {
    let childless = || Command::new(program("childless"));
    let probe = run(childless().args(["cat", "/proc/1/task/1/children"]));
    if !text(&probe).1.contains("No such file") && !skipped("seccomp listeners are not allowed here") {
        return;
    }
    assert_eq!(run(childless().arg("true")).status.code(), Some(98), "nobody has asked, and that is not noticed");
    let output = run(childless().arg(program("attacked")).arg("level"));
    assert_eq!(text(&output), ("L2\n".to_owned(), String::new()));
    for (ending, status) in [("return", 0), ("abort", 134)] {
        for hiding in ["setsid", "daemon", "stopped", "subreaper", "nested", "bomb-group"] {
            let what = format!("{ending} against {hiding}, no lists of children");
            let (mut scene, family, code) = childless_victim(childless(), ending, hiding, "");
            scene.assert_gone(&family, &what);
            assert_eq!(code, Some(status), "{what}");
        }
    }
    let (mut scene, family, _) = childless_victim(childless(), "return", "daemon", EVERYTHING_OFF);
    scene.assert_survived(&family, "return against daemon, no lists of children, everything off");
}

/// A victim's family, and how `childless` ended, if it did: it waits for the last of the family.
fn childless_victim(mut command: Command, ending: &str, hiding: &str, off: &str) -> (Scene, Vec<Process>, Option<i32>) {
    let scene = Scene::new();
    let victim = program("victim");
    command
        .arg(&victim)
        .arg(ending)
        .args(hidings::helper(hiding, hidings::BOMB, &scene, &victim))
        .env("FOSTER_DISABLE", off);
    command.env_remove("FOSTER_REQUIRE");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let outermost = Process::open(child.id() as i32);
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed", "{ending} against {hiding}");
    let family = scene.family();
    drop(child.stdin.take());
    if !outermost.ends_within(if off.is_empty() { LIMIT } else { Duration::ZERO }) {
        outermost.put_down();
    }
    let code = child.wait().unwrap().code();
    (scene, family, code)
}
