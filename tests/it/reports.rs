//! What a failing test prints, word for word: numbers that differ from run to run are shown as `#`.

use std::process::Command;
use std::time::{Duration, Instant};

use foster::prelude::*;

use crate::real_programs::have;

/// Every number, with its decimals and its unit of time, becomes `#`.
fn normal(report: &str) -> String {
    let mut out = String::new();
    let mut chars = report.chars().peekable();
    while let Some(c) = chars.next() {
        if !c.is_ascii_digit() {
            out.push(c);
            continue;
        }
        while chars.next_if(|c| c.is_ascii_digit() || *c == '.').is_some() {}
        out.push('#');
    }
    // A time's leading spaces depend on its length.
    let lines = out.replace("# ms", "# s");
    let lines = lines.lines().map(|l| if l.trim_start().starts_with("#s ") { l.trim_start() } else { l });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_report(error: &foster::Error, wanted: &str) {
    let seen = normal(&format!("{error:#}"));
    assert!(seen == wanted, "--- seen\n{seen}\n--- wanted\n{wanted}\n---");
}

/// Fails until the helper is where it will stay: it may take a moment to get there.
#[track_caller]
fn settled(place: &str, fail: impl Fn() -> foster::Error) -> foster::Error {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let error = fail();
        let report = format!("{error:#}");
        if report.contains(place) {
            return error;
        }
        assert!(Instant::now() < deadline, "it never says `{place}`:\n{report}");
    }
}

const READS: &str = "it is reading from its standard input";

fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).label("shell").spawn().unwrap()
}

#[test]
fn a_timeout() {
    let fx = sh("echo starting; echo careful >&2; read x");
    fx.stderr().expect_line("careful").unwrap();
    let error = settled(READS, || fx.within(Duration::from_millis(5)).expect("ready").unwrap_err());
    let wanted = "failed to expect `ready` from `shell`: timed out after # s
  expected   \"ready\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo starting; echo careful >&#; read x'` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, silent for # s; it is reading from its standard input
  stdout     # bytes unread: \"starting\\n\"
  stderr     nothing unread

  transcript (last # of # lines)
#s out | starting
#s err | careful
#s ok  | expect line `careful`    <- tests/it/reports.rs:#

  help: the helper waits for input: is a line still to be sent, or only its line ending?";
    assert_report(&error, wanted);
}

#[test]
fn an_exit() {
    let fx = sh("echo going down; exit 3");
    let error = fx.expect("ready").unwrap_err();
    assert!(error.to_string().ends_with("the helper exited with status 3"), "{error}");
    let wanted = "failed to expect `ready` from `shell`: the helper exited with status #
  expected   \"ready\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo going down; exit #'` (pid #), spawned at tests/it/reports.rs:#:#
  state      exited with status # after # s
  stdout     # bytes unread: \"going down\\n\", at its end
  stderr     nothing unread, at its end

  transcript (last # of # lines)
#s out | going down";
    assert_report(&error, wanted);
}

#[test]
fn a_mismatch_in_the_rest_of_a_line() {
    let fx = sh("echo 'took five ms'; read x");
    fx.expect("took ").unwrap();
    let error = settled(READS, || fx.expect_line("done").unwrap_err());
    let wanted = "failed to expect line `done` from `shell`: the next line is another one
  expected   \"done\"
  got        \"five ms\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo '\\''took five ms'\\''; read x'` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, silent for # s; it is reading from its standard input
  stdout     # bytes unread: \"five ms\\n\"
  stderr     nothing unread

  transcript (last # of # lines)
#s out | took five ms
#s ok  | expect `took `    <- tests/it/reports.rs:#

  help: the expectation before this one ended inside this line; this is the rest of it";
    assert_report(&error, wanted);
}

#[test]
fn a_text_on_the_other_stream_and_one_that_was_passed_over() {
    let fx = sh("echo ready >&2; echo first; echo second; read x");
    fx.expect("second").unwrap();
    let waited = fx.within(Duration::from_millis(30));
    let report = format!("{:#}", waited.expect("first").unwrap_err());
    assert!(report.ends_with("help: the text was said earlier, and an expectation before this one has passed over it"));
    let report = format!("{:#}", waited.expect("ready").unwrap_err());
    assert!(report.ends_with("help: the text is on stderr: expect it with `.stderr().expect(…)`"), "{report}");
}

#[test]
fn a_silent_helper_and_a_full_pipe() {
    let fx = Fixture::command("sleep").arg("50").timeout(Duration::from_millis(30)).spawn().unwrap();
    let error = settled("it is sleeping", || fx.send("x".repeat(200_000)).unwrap_err());
    let wanted = format!(
        "failed to send `{}...` to `sleep`: timed out after # s: # of # bytes were taken, the helper does not read
  at         tests/it/reports.rs:#:#
  helper     `sleep #` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, it has not said anything; it is sleeping
  stdout     nothing unread
  stderr     nothing unread

  transcript (last # of # lines)",
        "x".repeat(60)
    );
    let seen = normal(&format!("{error:#}"));
    assert!(seen.starts_with(&wanted), "--- seen\n{seen}\n--- wanted\n{wanted}");
}

/// The line is nearly the one that was expected: what is the difference?
#[test]
fn a_near_miss_says_what_differs() {
    for (line, expected, help) in [
        ("listening on port 80", "listening", "the line contains the text"),
        ("ready ", "ready", "they differ only in white space"),
        ("\\033[32mready\\033[0m", "ready", "they differ only in terminal codes"),
        ("one\\ntwo", "two", "a later line is this text"),
    ] {
        let fx = sh(&format!("printf '{line}\\n'; read x"));
        let error = fx.expect_line(expected).unwrap_err();
        let report = format!("{error:#}");
        assert!(report.contains(help), "{line}: {report}");
        assert!(!report.contains('\u{1b}'), "a terminal would act on it: {report:?}");
    }
}

#[test]
fn a_predicate_that_waits_for_a_prompt_or_on_the_wrong_stream_is_told_so() {
    let fx = sh("printf 'item? '; read x; echo went wrong >&2; read x");
    let waited = fx.within(Duration::from_millis(50));
    let report = format!("{:#}", waited.expect(predicate::str::contains("item?")).unwrap_err());
    assert!(report.contains("what has arrived last is not a whole line"), "{report}");
    fx.expect("item? ").unwrap();
    fx.send_line("").unwrap();
    let report = format!("{:#}", waited.expect(predicate::str::contains("wrong")).unwrap_err());
    assert!(report.contains("a line on stderr satisfies it: \"went wrong\""), "{report}");
}

/// An `assert!` that fails says nothing about the helper, so its fixture does.
#[test]
fn a_panic_shows_the_helper() {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("attacked"));
    let output = command.arg("panics").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("foster: the test panicked; this is its helper `sh`:"), "{errors}");
    assert!(errors.contains("err | the reason"), "{errors}");
    assert_eq!(errors.matches("foster: the test panicked").count(), 1, "a report of foster's own is enough: {errors}");
}

#[test]
fn a_question_mark_in_a_test_prints_the_report() {
    // libtest prints `Error: ` and the error's Debug, so that is where the report has to be.
    let fx = sh("exit 0");
    let result: foster::Result = fx.expect_line("x").map(drop);
    let printed = format!("Error: {:#}", result.unwrap_err());
    assert!(printed.contains("transcript: nothing has been said"), "{printed}");
}

#[test]
fn an_exit_that_left_something_behind() {
    // The one that is left is there before the shell ends.
    let fx = sh("sleep 50 & exit 3");
    let error = fx.expect("ready").unwrap_err();
    let wanted = "failed to expect `ready` from `shell`: the helper exited with status #
  expected   \"ready\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'sleep # & exit #'` (pid #), spawned at tests/it/reports.rs:#:#
  state      exited with status # after # s; it left behind: pid # `";
    let seen = normal(&format!("{error:#}"));
    assert!(seen.starts_with(wanted), "--- seen\n{seen}\n--- wanted\n{wanted}");
    assert!(seen.ends_with("\n  transcript: nothing has been said"), "{seen}");
}

#[test]
fn an_end_by_a_signal() {
    let fx = sh("echo going down; kill -SEGV $$");
    let error = fx.expect("ready").unwrap_err();
    let wanted = "failed to expect `ready` from `shell`: the helper was killed by SIGSEGV
  expected   \"ready\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo going down; kill -SEGV $$'` (pid #), spawned at tests/it/reports.rs:#:#
  state      was killed by SIGSEGV after # s
  stdout     # bytes unread: \"going down\\n\", at its end
  stderr     nothing unread, at its end

  transcript (last # of # lines)
#s out | going down";
    assert_report(&error, wanted);
}

#[test]
fn a_line_that_is_nearly_it() {
    let fx = sh("echo listening on port 8O80; read x");
    let error = settled(READS, || fx.within(Duration::from_millis(5)).expect("listening on port 8080").unwrap_err());
    let wanted = "failed to expect `listening on port #` from `shell`: timed out after # s
  expected   \"listening on port #\"
  closest    \"listening on port #O#\"
                                 ^ from here they differ
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo listening on port #O#; read x'` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, silent for # s; it is reading from its standard input
  stdout     # bytes unread: \"listening on port #O#\\n\"
  stderr     nothing unread

  transcript (last # of # lines)
#s out | listening on port #O#

  help: the helper waits for input: is a line still to be sent, or only its line ending?";
    assert_report(&error, wanted);
}

#[test]
fn who_waits_for_the_end_of_a_helper_that_waits_for_the_end_of_its_input_is_told_so() {
    let fx = Fixture::command("cat").spawn().unwrap();
    let wanted = "\n\n  help: the helper waits for input: it may be the end of it that it waits for, which `send_eof` and `wait` give";
    settled(wanted, || fx.within(Duration::from_millis(5)).expect_exit().unwrap_err());
    settled(wanted, || fx.within(Duration::from_millis(5)).expect_eof().unwrap_err());
    // The control: with an input that has ended, nobody waits for it.
    fx.send_eof().unwrap();
    assert!(fx.expect_exit().unwrap().success());
}

/// The column of the mark, and those of the letters above it.
#[track_caller]
fn columns(report: &str, name: &str) -> (usize, char, char) {
    let lines: Vec<&str> = report.lines().collect();
    let mark = lines.iter().position(|l| l.trim_start().starts_with("^ from here")).expect("there is a mark");
    let at = lines[mark].chars().position(|c| c == '^').unwrap();
    let row = |name: &str| lines[..mark].iter().rev().find(|l| l.trim_start().starts_with(name)).unwrap().to_owned();
    let letter = |line: &str| line.chars().nth(at).unwrap_or(' ');
    assert!(row("expected").chars().take(at).skip(13).eq(row(name).chars().take(at).skip(13)), "{report}");
    (at, letter(row("expected")), letter(row(name)))
}

#[test]
fn the_mark_stands_below_the_first_letter_that_differs() {
    for (said, expected, letters) in
        [("abcdX", "abcdY", ('Y', 'X')), ("ab", "abc", ('c', '"')), ("\\303\\244\\tbX", "\u{e4}\tbY", ('Y', 'X'))]
    {
        let fx = sh(&format!("printf '{said}\\n'"));
        let report = format!("{:#}", fx.expect_line(expected).unwrap_err());
        let (_, wanted, got) = columns(&report, "got");
        assert_eq!((wanted, got), letters, "{report}");
    }
    // Of long lines, the place where they differ, and both begin at the same letter.
    for before in [0, 50, 250, 5000] {
        let line = |c: char| "0123456789".repeat(before / 10) + &c.to_string() + &"z".repeat(5000);
        let fx = Fixture::command("echo").arg(line('X')).label("echo").spawn().unwrap();
        let report = format!("{:#}", fx.expect_line(line('Y')).unwrap_err());
        let row = report.lines().find(|l| l.trim_start().starts_with("got")).unwrap();
        assert!(row.len() < 300, "{row}");
        if before > 0 {
            let (_, wanted, got) = columns(&report, "got");
            assert_eq!((wanted, got), ('Y', 'X'), "{report}");
        }
    }
}

#[test]
fn the_other_helpers_of_the_test_are_named() {
    let db = Fixture::command("sleep").arg("50").label("db").spawn().unwrap();
    let web = Fixture::command("cat").label("web").spawn().unwrap();
    // nextest says the name of its only test, whichever thread asks: there, nobody is a stranger.
    let other_test = || Fixture::command("sleep").arg("51").label("stranger").spawn().unwrap();
    let libtest = std::env::var_os("NEXTEST_TEST_NAME").is_none();
    let other_test = || std::thread::Builder::new().name("another_test".to_owned()).spawn(other_test).unwrap().join();
    let _other_test = libtest.then(|| other_test().unwrap());
    let gone = Fixture::command("true").label("gone").spawn().unwrap();
    gone.stop().unwrap();
    let others = format!(
        "\n  others     `db` (pid {}) is sleeping; `web` (pid {}) is reading from its standard input\n",
        db.id(),
        web.id()
    );
    let fx = sh("read x");
    let error = settled(&others, || fx.within(Duration::from_millis(5)).expect("x").unwrap_err());
    let report = format!("{error:#}");
    assert!(!report.contains("stranger"), "{report}");
    assert!(!report.contains("gone"), "{report}");
    // The control: a test with one helper has no others.
    drop((db, web));
    let alone = format!("{:#}", fx.within(Duration::from_millis(5)).expect("x").unwrap_err());
    assert!(!alone.contains("others     `db`") && !alone.contains("`web`"), "{alone}");
}

/// What `speaks` prints, on a terminal or into a pipe.
fn printed(mode: &str, terminal: bool, env: &[(&str, &str)]) -> String {
    let speaks = assert_cmd::cargo::cargo_bin!("speaks");
    let mut command = Command::new("script");
    if terminal {
        command.args(["-qec", &format!("'{}' {mode}", speaks.display()), "/dev/null"]);
    } else {
        command = Command::new(speaks);
        command.arg(mode);
    }
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    let command = command.env("TERM", "xterm").envs(env.iter().copied()).stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace("\r\n", "\n")
}

#[test]
fn a_report_is_in_color_on_a_terminal_and_nowhere_else() {
    if !have("script") {
        return;
    }
    let red = "\u{1b}[1m\u{1b}[31mfailed to expect `ready` from `sh`";
    let plain = printed("fails", false, &[]);
    assert!(plain.contains("Error: failed to expect `ready` from `sh`: timed out"), "{plain}");
    assert!(plain.contains("\n  closest    \"reade\"\n                  ^ from here they differ\n"), "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let colored = printed("fails", true, &[]);
    assert!(colored.contains(red), "{colored:?}");
    assert!(colored.contains("\u{1b}[31merr | careful"), "{colored:?}");
    for env in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let seen = printed("fails", true, &[env]);
        assert!(seen.contains("failed to expect `ready`") && !seen.contains('\u{1b}'), "{env:?}: {seen:?}");
    }
    let forced = printed("fails", false, &[("CLICOLOR_FORCE", "1")]);
    assert!(forced.contains(red), "{forced:?}");
    let both = printed("fails", false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(!both.contains('\u{1b}'), "{both:?}");
    // What a panic shows, too.
    let panicked = printed("panics", true, &[]);
    assert!(panicked.contains("\u{1b}[31merr | careful"), "{panicked:?}");
}
