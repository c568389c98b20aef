//! What a failing test prints, word for word: numbers that differ from run to run are shown as `#`.

use std::time::Duration;

use foster::prelude::*;

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
    let seen = normal(&format!("{error:?}"));
    assert!(seen == wanted, "--- seen\n{seen}\n--- wanted\n{wanted}\n---");
}

fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).label("shell").spawn().unwrap()
}

#[test]
fn a_timeout() {
    let fx = sh("echo starting; echo careful >&2; read x");
    fx.stderr().expect_line("careful").unwrap();
    let error = fx.within(Duration::from_millis(30)).expect("ready").unwrap_err();
    let wanted = "failed to expect `ready` from `shell`: timed out after # s
  expected   \"ready\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo starting; echo careful >&#; read x'` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, silent for # s
  stdout     # bytes unread: \"starting\\n\"
  stderr     nothing unread

  transcript (last # of # lines)
#s out | starting
#s err | careful";
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
    let error = fx.expect_line("done").unwrap_err();
    let wanted = "failed to expect line `done` from `shell`: the next line is another one
  expected   \"done\"
  got        \"five ms\"
  at         tests/it/reports.rs:#:#
  helper     `sh -c 'echo '\\''took five ms'\\''; read x'` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, silent for # s
  stdout     # bytes unread: \"five ms\\n\"
  stderr     nothing unread

  transcript (last # of # lines)
#s out | took five ms

  help: the expectation before this one ended inside this line; this is the rest of it";
    assert_report(&error, wanted);
}

#[test]
fn a_text_on_the_other_stream_and_one_that_was_passed_over() {
    let fx = sh("echo ready >&2; echo first; echo second; read x");
    fx.expect("second").unwrap();
    let waited = fx.within(Duration::from_millis(30));
    let report = format!("{:?}", waited.expect("first").unwrap_err());
    assert!(report.ends_with("help: the text was said earlier, and an expectation before this one has passed over it"));
    let report = format!("{:?}", waited.expect("ready").unwrap_err());
    assert!(report.ends_with("help: the text is on stderr: expect it with `.stderr().expect(…)`"), "{report}");
}

#[test]
fn a_silent_helper_and_a_full_pipe() {
    let fx = Fixture::command("sleep").arg("50").timeout(Duration::from_millis(30)).spawn().unwrap();
    let error = fx.send("x".repeat(200_000)).unwrap_err();
    let wanted = format!(
        "failed to send `{}...` to `sleep`: timed out after # s: # of # bytes were taken, the helper does not read
  at         tests/it/reports.rs:#:#
  helper     `sleep #` (pid #), spawned at tests/it/reports.rs:#:#
  state      running for # s, it has not said anything
  stdout     nothing unread
  stderr     nothing unread

  transcript (last # of # lines)",
        "x".repeat(60)
    );
    let seen = normal(&format!("{error:?}"));
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
    let report = format!("{:?}", waited.expect(predicate::str::contains("item?")).unwrap_err());
    assert!(report.contains("what has arrived is not a whole line"), "{report}");
    fx.expect("item? ").unwrap();
    fx.send_line("").unwrap();
    let report = format!("{:?}", waited.expect(predicate::str::contains("wrong")).unwrap_err());
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
    let printed = format!("Error: {:?}", result.unwrap_err());
    assert!(printed.contains("transcript: nothing has been said"), "{printed}");
}
