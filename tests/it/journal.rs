//! What fixtures tell the leak check, and that they tell nobody else.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::endings::VICTIM_THAT_ABORTS;
use crate::scene::{LIMIT, Process, fresh, read_line};

/// Whole lines of all journals in this directory; a torn one at the end of each is left out.
fn records(dir: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        all.extend(
            whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"))),
        );
    }
    all
}

fn of<'r>(records: &'r [Value], event: &str) -> Vec<&'r Value> {
    records.iter().filter(|r| r["event"] == event).collect()
}

/// A victim whose helper waits, below a leak check if there is a directory.
fn victim(program: &Path, ending: &str, dir: Option<&Path>, off: &str) -> Command {
    talking(program, ending, "echo \"a word\" >&2; echo hidden; read never", dir, off)
}

/// A victim whose helper is this script.
fn talking(program: &Path, ending: &str, script: &str, dir: Option<&Path>, off: &str) -> Command {
    let mut command = fresh(program);
    command.args([ending, "sh", "-c", script]);
    command.env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE").env_remove("RUST_BACKTRACE");
    command.env_remove("NEXTEST_TEST_NAME").env_remove("FOSTER_LEAKCHECK");
    if let Some(dir) = dir {
        command.env("FOSTER_LEAKCHECK", dir);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Lets it end: by itself, or by this signal.
fn end(mut command: Command, signal: Option<Signal>) -> (u32, Output) {
    let mut child = command.spawn().unwrap();
    let handle = Process::open(child.id() as i32);
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
    match signal {
        Some(signal) => handle.signal(signal),
        None => child.stdin.take().unwrap().write_all(b"\n").unwrap(),
    }
    if !handle.ends_within(LIMIT) {
        handle.put_down();
        panic!("the victim does not end");
    }
    (child.id(), child.wait_with_output().unwrap())
}

fn line_of(path: &str, code: &str) -> usize {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    1 + text.lines().position(|line| line.contains(code)).unwrap()
}

#[test]
fn every_end_is_noted_with_who_began_it() {
    let plain = assert_cmd::cargo::cargo_bin!("victim");
    let cases: [(&Path, &str, Option<Signal>, Option<&str>); 13] = [
        (plain, "stop", None, Some("test")),
        (plain, "return", None, Some("drop")),
        (plain, "panic", None, Some("drop")),
        (plain, "exit", None, Some("exit")),
        (plain, "forget", None, Some("exit")),
        (plain, "cycle", None, Some("exit")),
        (plain, "signal", Some(Signal::TERM), Some("signal")),
        (plain, "signal", Some(Signal::INT), Some("signal")),
        (&VICTIM_THAT_ABORTS, "panic", None, Some("panic")),
        // Nobody has noted it: it was the guardian's.
        (plain, "abort", None, None),
        (plain, "_exit", None, None),
        (plain, "segv", None, None),
        (plain, "signal", Some(Signal::KILL), None),
    ];
    for (program, ending, signal, by) in cases {
        // With the guardian, and at L1, where threads of the test process do its work.
        for off in ["cgroup", "guardian"] {
            let dir = tempfile::tempdir().unwrap();
            let (pid, output) = end(victim(program, ending, Some(dir.path()), off), signal);
            let context = format!("{ending} {signal:?} without {off}: {}", String::from_utf8_lossy(&output.stderr));
            let records = records(dir.path());
            let [started] = of(&records, "started")[..] else { panic!("{context}: {records:?}") };
            assert_eq!(started["process"], pid, "{context}");
            assert_eq!(started["label"], "sh", "{context}");
            assert_eq!(started["file"], "fixtures/victim.rs", "{context}");
            let line = line_of("fixtures/victim.rs", "builder.pty() } else { builder }.spawn()");
            assert_eq!(started["line"], line, "{context}");
            assert!(started["pid"].as_i64() > Some(0) && started["start"].as_i64() > Some(0), "{context}");
            assert!(started["command"].as_str().unwrap().starts_with("sh -c 'echo "), "{context}");
            let ended = of(&records, "ended");
            let seen: Vec<_> = ended.iter().map(|e| e["by"].as_str().unwrap()).collect();
            assert_eq!(seen, by.into_iter().collect::<Vec<_>>(), "{context}");
            for ended in ended {
                let transcript = ended["transcript"].to_string();
                assert!(transcript.contains("out | hidden") && transcript.contains("err | a word"), "{context}");
                // The hooks end its input first, and then it is a race.
                let ending = ended["ending"].as_str().unwrap();
                assert!(["was killed by SIGTERM", "exited with status 1"].contains(&ending), "{context}: {ending}");
                assert_eq!(ended["fixture"], started["fixture"], "{context}");
                // Nobody knows of escapees without a guardian.
                let known = off == "cgroup" || ["test", "drop"].contains(&ended["by"].as_str().unwrap());
                assert_eq!(ended["escapees"].as_u64(), known.then_some(0), "{context}");
                assert!(ended["at"].as_u64() >= started["at"].as_u64(), "{context}");
            }
        }
    }
}

/// The control for the above: a helper that has ended by itself was ended by no hook, also if its fixture lives on.
#[test]
fn a_helper_that_has_ended_by_itself_was_ended_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut command =
        talking(assert_cmd::cargo::cargo_bin!("victim"), "forget", "echo hidden; exit 0", Some(dir.path()), "cgroup");
    let mut child = command.spawn().unwrap();
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
    let started = records(dir.path()).remove(0);
    let helper = started["pid"].as_i64().unwrap();
    // Its keeper has reaped it, and said so.
    let deadline = Instant::now() + LIMIT;
    while Path::new(&format!("/proc/{helper}")).exists() {
        assert!(Instant::now() < deadline, "the helper does not end");
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let records = records(dir.path());
    let ended = of(&records, "ended");
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0]["by"], &ended[0]["ending"]), (&Value::from("test"), &Value::from("exited with status 0")));
}

/// What a helper finds in its environment, and what is in the directory that would be the journal's.
#[test]
fn without_a_leak_check_nothing_is_noted_and_helpers_see_nothing_of_it() {
    let script = "echo hidden; env > \"$OUT\"; exit 0";
    for on in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        fs::create_dir(&journal).unwrap();
        let mut command =
            talking(assert_cmd::cargo::cargo_bin!("victim"), "wait", script, on.then_some(&*journal), "cgroup");
        command.env("OUT", dir.path().join("env"));
        let (pid, output) = end(command, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let env = fs::read_to_string(dir.path().join("env")).unwrap();
        let marker = env.lines().find(|line| line.starts_with("FOSTER_FIXTURE="));
        assert_eq!(marker, on.then(|| format!("FOSTER_FIXTURE={pid}-1")).as_deref());
        assert_eq!(fs::read_dir(&journal).unwrap().count(), usize::from(on));
        if on {
            assert_eq!(of(&records(&journal), "ended")[0]["by"], "test");
        }
    }
}

#[test]
fn who_asks_for_an_empty_environment_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = fresh(assert_cmd::cargo::cargo_bin!("speaks"));
    let output = command.arg("empty").env("FOSTER_LEAKCHECK", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "A=B\n");
    assert_eq!(records(dir.path()).len(), 2);
}

/// A static made by `shared!` lives as long as the process: nobody is late.
#[test]
fn the_scope_of_a_shared_fixture_ends_with_the_process() {
    for (mode, by) in [("shared", "drop"), ("static", "exit")] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = fresh(assert_cmd::cargo::cargo_bin!("speaks"));
        let output = command.arg(mode).env("FOSTER_LEAKCHECK", dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(of(&records(dir.path()), "ended")[0]["by"], by, "{mode}");
    }
}

#[test]
fn a_secret_is_in_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = fresh(assert_cmd::cargo::cargo_bin!("speaks"));
    command.arg("waits").env("FOSTER_LEAKCHECK", dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let (_, output) = end(command, Some(Signal::TERM));
    assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()));
    let records = records(dir.path());
    let text = format!("{records:?}");
    assert!(text.contains("[secret]") && text.contains("the talker"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("got hun") && !text.contains("ter2"), "{text}");
}

/// What cannot be written does no harm, and is said once.
#[test]
fn a_journal_that_cannot_be_written_fails_nothing() {
    let mut command = victim(assert_cmd::cargo::cargo_bin!("victim"), "forget", None, "cgroup");
    command.env("FOSTER_LEAKCHECK", "/nonexistent/journal");
    let (_, output) = end(command, None);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("FOSTER_LEAKCHECK").count(), 1, "{said}");
}

/// Killed at any moment: what is there is whole lines, and whoever has ended had started.
#[test]
fn a_process_that_is_killed_leaves_whole_lines() {
    let mut torn = 0;
    for round in 0..12_u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut command = fresh(assert_cmd::cargo::cargo_bin!("many"));
        command.arg("100000").env("FOSTER_LEAKCHECK", dir.path()).env("FOSTER_DISABLE", "cgroup");
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let handle = Process::open(child.id() as i32);
        // A different place in its work each time, and then whatever it is doing.
        let size = || fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
        let deadline = Instant::now() + LIMIT;
        while size() < 1 + round * 777 {
            assert!(Instant::now() < deadline, "nothing is noted");
            std::thread::yield_now();
        }
        handle.signal(Signal::KILL);
        child.wait().unwrap();
        let text = fs::read_to_string(fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path()).unwrap();
        torn += u32::from(!text.ends_with('\n'));
        let records = records(dir.path());
        let numbers = |event| of(&records, event).iter().map(|r| r["fixture"].as_u64().unwrap()).collect::<Vec<_>>();
        let (started, ended) = (numbers("started"), numbers("ended"));
        assert!(
            started.len() - ended.len() <= 1 && started.starts_with(&ended),
            "round {round}: {started:?} {ended:?}"
        );
    }
    // One that crosses a page may be cut there (generic_perform_write), if the signal comes at that very moment.
    assert!(torn <= 1, "{torn} lines are torn");
}

/// Nothing is noted by those who have no part in it: with every mechanism off, a fixture that is forgotten has no end.
#[test]
fn without_hooks_no_end_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (_, output) = end(victim(assert_cmd::cargo::cargo_bin!("victim"), "forget", Some(dir.path()), "hooks"), None);
    assert!(output.status.success());
    let records = records(dir.path());
    assert_eq!((of(&records, "started").len(), of(&records, "ended").len()), (1, 0));
}
