//! The whole text, as it is printed.

use super::*;
use crate::leakcheck::facts::Deed;
use crate::leakcheck::leak::tests::{sample, stranger};
use crate::leakcheck::report::tests::{clean, full};
use crate::leakcheck::{Allowed, Blame, Ending, Escape, FixtureRef, Holding, Place, TestId};

fn place(file: &str, line: u32) -> Place {
    Place { file: file.into(), line }
}

/// What differs is shown as it is printed, not escaped.
#[track_caller]
fn assert_text(report: &Report, expected: &str) {
    let text = report.to_string();
    assert!(text == expected, "printed:\n{text}\nexpected:\n{expected}");
}

#[test]
fn nothing_left_is_one_line() {
    let line = "leakcheck: nothing left behind (nothing had to be adopted; the suite took 12.00 s, the check 4.0 ms)\n";
    assert_text(&clean(), line);
    let report = Report { interrupted: Some(2), ..clean() };
    assert_text(&report, "leakcheck: interrupted by SIGINT; everything ended with the suite, after 12.00 s\n");
    let report = Report { tests_run: Some(0), ..clean() };
    assert_text(&report, &format!("{line}leakcheck: no test ran, so nothing has been shown\n"));
}

#[test]
fn one_of_everything() {
    assert_text(&full(), include_str!("full.txt"));
}

#[test]
fn a_leak_of_a_fixture_with_all_that_can_be_known() {
    let leak = Leak {
        blame: Blame::Fixture,
        fixture: Some(FixtureRef { label: "server".into(), place: place("tests/it/orders.rs", 7) }),
        escapes: vec![
            Escape::Group,
            Escape::Orphaned,
            Escape::Catches(vec!["SIGTERM".into()]),
            Escape::Stopped,
            Escape::User,
            Escape::Stdio(vec!["stdout".into(), "stderr".into()]),
        ],
        holds: vec![
            Holding::BuildLock("/home/me/shop/target/debug".into()),
            Holding::Lock("/var/lock/x".into()),
            Holding::Output("stdout".into()),
            Holding::File("/tmp/x (deleted)".into()),
        ],
        transcript: (1..=12).map(|n| format!("out | line {n}")).collect(),
        deed: Deed { terminated: true, killed: true, survived: Some("it is in state D".into()), ..Deed::default() },
        ..sample(4711)
    };
    assert_text(&Report { leaks: vec![leak], ..clean() }, include_str!("fixture.txt"));
}

#[test]
fn what_is_alike_is_one_paragraph_and_the_rest_is_counted() {
    let alike = Report { leaks: (1..=30).map(sample).collect(), ..clean() };
    let text = alike.to_string();
    let pids: Vec<String> = (2..=21).map(|n| n.to_string()).collect();
    let line = format!("\n  `server --port 0` (pid 1) and 29 more like it (pids {}, ...)\n", pids.join(", "));
    assert!(text.contains(&line), "{text}");
    assert_eq!(text.matches("\n    test ").count(), 1, "{text}");
    let mut two = Report { leaks: vec![sample(1), sample(2)], ..clean() };
    two.leaks[1].deed.killed = false;
    assert_eq!(two.to_string().matches("\n    test ").count(), 2, "one of them had to be killed: {two}");
    let different = |pid: u32| Leak { command: format!("server-{pid}"), ..sample(pid) };
    let different = Report { leaks: (1..=25).map(different).collect(), ..full() };
    let text = different.to_string();
    assert_eq!(text.matches("\n    test ").count(), 20, "{text}");
    assert!(text.contains("\n  and 5 more: pids 21, 22, 23, 24, 25\n\nleakcheck: all of it has"), "{text}");
    assert!(text.contains("leakcheck: 2 late fixtures (a warning)\n  and 2 more\n  help: "), "20 in total: {text}");
}

#[test]
fn what_is_allowed_is_one_line_and_what_is_no_failing_kind_a_warning() {
    let allowed = |reason: &str| Some(Allowed { reason: reason.into(), place: place(".config/foster.toml", 9) });
    let mut report = full();
    report.leaks.truncate(2);
    for leak in &mut report.leaks {
        leak.allowed = allowed("the agent stays");
        leak.deed = Deed { spared: true, ..Deed::default() };
    }
    report.helpers.clear();
    report.leftovers.clear();
    report.notes.clear();
    let line = "leakcheck: nothing left behind that fails the check (3 orphans were adopted and ended by themselves; the \
                suite took 12.00 s, the check 4.0 ms)\nleakcheck: allowed: `server --port 0` (pid 4711) and 1 more: the \
                agent stays (.config/foster.toml:9)\n";
    assert_text(&report, line);
    let report = Report { fails: Vec::new(), leaks: vec![sample(1)], ..clean() };
    let heading = "leakcheck: 1 process is alive 500.0 ms after the end of `cargo test`, which exited with status 0 (a \
                   warning, as the policy says)\n\n  `server";
    assert!(report.to_string().starts_with(heading), "{report}");
    let report = Report { fails: vec![Kind::Late, Kind::File], leaks: Vec::new(), ..full() };
    let heading = "leakcheck: found after the end of `cargo test`, which exited with status 0: 2 late fixtures, 1 file \
                   left\n\nleakcheck: 2 late fixtures\n  tests/it/orders.rs:12: orders::are_lost in";
    assert!(report.to_string().starts_with(heading), "{report}");
}

#[test]
fn a_check_that_did_not_come_to_its_end_says_why() {
    let report = Report {
        timed_out_ms: Some(60_000),
        hanging: vec!["sh (pid 7) a\u{1b}[2J".into(), "  sleep 1000 (pid 8)".into()],
        ending: Some(Ending { code: None, signal: Some(9) }),
        ..clean()
    };
    let expected = "leakcheck: the time was up: `cargo test` did not end within 60.00 s\n  what was alive then, the \
                    children below their parents:\n  | sh (pid 7) a\\u{1b}[2J\n  |   sleep 1000 (pid 8)\nleakcheck: \
                    nothing left behind (";
    assert!(report.to_string().starts_with(expected), "{report}");
    let report = Report { latecomers: 1, confirmed: false, ending: None, ..clean() };
    let expected = "leakcheck: something is alive 500.0 ms after the end of `cargo test`, which is still there\n\n\
                    leakcheck: 1 process more began while these were being ended\nleakcheck: the kernel says that \
                    something is alive which `/proc` does not show\n";
    assert_text(&report, expected);
    let report = Report { interrupted: Some(15), leaks: vec![stranger(4)], ..clean() };
    let expected =
        "leakcheck: interrupted by SIGTERM; 1 process did not end with `cargo test`\n\n  `server --port 0` (pid 4)";
    assert!(report.to_string().starts_with(expected), "{report}");
}

#[test]
fn nobodys_text_breaks_the_layout() {
    let hostile = "a\n    fix        do as I say\r\u{1b}[2J\u{202e}";
    let mut report = full();
    report.leaks[0].args = vec!["with a blank".into()];
    let lines = report.to_string().lines().count();
    report.suite = hostile.into();
    let leak = &mut report.leaks[0];
    leak.command = hostile.into();
    leak.test = Some(TestId { binary: hostile.into(), name: hostile.into(), attempt: 1 });
    leak.package = Some(hostile.into());
    leak.manifest_dir = Some(hostile.into());
    leak.place = Some(place(hostile, 1));
    leak.args = vec![hostile.into(), hostile.into()];
    leak.exe = Some(hostile.into());
    leak.dir = Some(hostile.into());
    leak.ancestors = vec![hostile.into()];
    leak.escapes = vec![Escape::Ignores(vec![hostile.into()]), Escape::Stdio(vec![hostile.into()])];
    leak.holds = vec![Holding::Listener(hostile.into())];
    leak.fix = hostile.into();
    leak.again = Some(hostile.into());
    report.helpers[1].command = hostile.into();
    report.helpers[1].fixture = FixtureRef { label: hostile.into(), place: place(hostile, 2) };
    report.leftovers[0].path = hostile.into();
    report.notes[0].what = hostile.into();
    let text = report.to_string();
    assert_eq!(text.lines().count(), lines, "{text}");
    assert!(text.chars().all(|c| c == '\n' || (c >= ' ' && c != '\u{202e}')), "{text:?}");
}
