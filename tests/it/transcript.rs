//! The record of a conversation: what it shows, what it hides, and what is written down while it happens.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use foster::prelude::*;
use foster::transcript::{Direction, Filters};
use foster::{ErrorKind, Result, Transcript};

use crate::scene::Process;

fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).label("shell").spawn().unwrap()
}

/// Reads a secret, and says it in two pieces when it is told to, with a word on standard error in between.
const ECHOES: &str = "read pw; a=${pw%????}; printf %s \"got $a\"; read go; echo noise >&2; read go; \
                      echo ${pw#\"$a\"}; read go; exit 3";

/// Has it say the secret, which is `hunter2`.
fn have_it_echoed(fx: &Fixture) -> Result {
    fx.send_secret("hunter2")?;
    fx.expect_prompt(|tail: &str| tail.len() == 7)?;
    fx.send_line("go")?;
    fx.stderr().expect_line("noise")?;
    fx.send_line("on")?;
    fx.expect(|line: &str| line == "ter2")?;
    Ok(())
}

/// Nothing that tells anything about `hunter2` is in it.
#[track_caller]
fn assert_hidden(text: &str) {
    for part in ["hun", "unt", "nte", "ter2"] {
        assert!(!text.contains(part), "`{part}` is in:\n{text}");
    }
}

#[test]
fn every_line_says_who_when_and_from_where() -> Result {
    let fx = sh("printf 'name? '; read name; echo hello $name; echo careful >&2; read never");
    fx.expect_prompt("name? ")?;
    fx.send_line("Bob")?;
    fx.expect_line("hello Bob")?;
    fx.stderr().expect_line("careful")?;
    let line = line!();
    let transcript = fx.transcript();
    let all: Vec<_> = transcript.entries().collect();
    let said: Vec<(Direction, String, bool)> =
        all.iter().map(|e| (e.direction(), e.text(), e.is_complete())).filter(|(d, ..)| *d != Direction::Met).collect();
    let wanted = [
        (Direction::Out, "name? ".to_owned(), false),
        (Direction::In, "Bob".to_owned(), true),
        (Direction::Out, "hello Bob".to_owned(), true),
        (Direction::Err, "careful".to_owned(), true),
    ];
    assert_eq!(said, wanted);
    let placed: Vec<(String, u32)> = all.iter().filter_map(|e| Some((e.text(), line - e.location()?.line()))).collect();
    let wanted = [
        ("expect prompt `name? `".to_owned(), 4),
        ("Bob".to_owned(), 3),
        ("expect line `hello Bob`".to_owned(), 2),
        ("expect line `careful`".to_owned(), 1),
    ];
    assert_eq!(placed, wanted);
    assert!(all.iter().all(|e| e.location().is_none_or(|at| at.file() == file!())));
    assert!(all.windows(2).all(|pair| pair[0].elapsed() <= pair[1].elapsed()), "{transcript}");
    Ok(())
}

#[test]
fn what_a_terminal_would_act_on_is_visible() -> Result {
    let fx = sh("printf '\\033[2J\\a\\tx\\377\\r\\n'");
    fx.expect_eof()?;
    assert_eq!(fx.transcript().entries().next().unwrap().text(), "\\u{1b}[2J\\u{7}\\tx\\xff\\r");
    assert!(!fx.transcript().to_string().contains('\u{1b}'));
    Ok(())
}

#[test]
fn a_flood_is_bounded_and_the_gap_is_counted() -> Result {
    let fx = sh("echo first; head -c 3000000 /dev/zero | tr '\\0' '\\n'; echo last");
    fx.expect("last")?;
    let transcript = fx.transcript();
    let kept = transcript.stdout();
    assert!(kept.starts_with("first\n") && kept.ends_with("last\n"));
    assert!(kept.len() <= 80 << 10, "{}", kept.len());
    // Notes count as well, and one was added.
    let total = transcript.omitted() as usize + kept.len();
    assert!((3_000_011..3_000_100).contains(&total), "{total}");
    assert!(transcript.to_string().contains(&format!("... {} bytes not kept ...", transcript.omitted())));
    Ok(())
}

#[test]
fn several_are_merged_in_the_order_of_time() -> Result {
    let one = Fixture::command("cat").spawn()?;
    let two = Fixture::command("cat").spawn()?;
    let other = Fixture::command("cat").label("a longer label").spawn()?;
    for n in 0..20 {
        [&two, &other, &one][n % 3].ask(&n.to_string(), &*n.to_string())?;
    }
    let merged = foster::merged([&one, &two, &other]);
    let heard: Vec<(&str, String)> =
        merged.entries().filter(|(_, e)| e.direction() == Direction::Out).map(|(l, e)| (l, e.text())).collect();
    let label = |n: usize| ["cat#2", "a longer label", "cat#1"][n % 3];
    assert_eq!(heard, (0..20).map(|n| (label(n), n.to_string())).collect::<Vec<_>>());
    assert!(merged.entries().zip(merged.entries().skip(1)).all(|((_, a), (_, b))| a.elapsed() <= b.elapsed()));
    let text = merged.to_string();
    assert!(text.contains("s cat#2          in  | 0    <- "), "{text}");
    // The control: one after the other is another order.
    let apart: Vec<String> =
        [&one, &two, &other].iter().flat_map(|fx| fx.transcript().entries().map(|e| e.text())).collect();
    assert_ne!(apart, merged.entries().map(|(_, e)| e.text()).collect::<Vec<_>>());
    Ok(())
}

/// A conversation full of what differs from run to run.
fn changing(fx: &Fixture) -> Result<Transcript> {
    fx.expect_line("up")?;
    fx.ask("", "done")?;
    Ok(fx.transcript())
}

fn changing_helper() -> Result<Fixture> {
    let script = "echo up; read x; echo \"pid $$, [$$] on 127.0.0.1:4$$ in $(pwd)/x at $(date +%H:%M:%S)\"; \
                  echo $(mktemp -u); echo done; read never";
    Fixture::command("sh").args(["-c", script]).in_own_dir().spawn()
}

#[test]
fn what_differs_from_run_to_run_can_be_left_out() -> Result {
    let (one, two) = (changing_helper()?, changing_helper()?);
    let (first, second) = (changing(&one)?, changing(&two)?);
    let normal = first.normalized().to_string();
    let wanted = "[TIME] out | up
[TIME] ok  | expect line `up`
[TIME] in  | \n[TIME] out | pid [PID], [[PID]] on 127.0.0.1:[PORT] in [DIR]/x at [TIME]
[TIME] out | [TMP]
[TIME] out | done
[TIME] ok  | expect `done`
";
    assert_eq!(normal, wanted);
    assert_eq!(first.normalized(), second.normalized());
    assert_ne!(first.to_string(), second.to_string(), "the control: they differ");
    let kept = first.filtered(&Filters::new().keep_pids().keep_locations()).to_string();
    assert!(kept.contains(&format!("pid {}, [{0}] on", one.id())), "{kept}");
    assert!(kept.contains("expect line `up`    <- tests/it/transcript.rs:"), "{kept}");
    Ok(())
}

#[cfg(feature = "serde")]
#[test]
fn insta_takes_a_snapshot_of_it() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    fx.send("pid 7\nhalf")?;
    fx.expect("pid 7")?;
    fx.expect_prompt("half")?;
    let transcript = fx.transcript();
    insta::assert_json_snapshot!(transcript.normalized(), @r###"
    [
      {
        "time": "[TIME]",
        "direction": "in",
        "text": "pid [PID]"
      },
      {
        "time": "[TIME]",
        "direction": "in",
        "text": "half",
        "complete": false
      },
      {
        "time": "[TIME]",
        "direction": "out",
        "text": "pid [PID]"
      },
      {
        "time": "[TIME]",
        "direction": "out",
        "text": "half",
        "complete": false
      },
      {
        "time": "[TIME]",
        "direction": "ok",
        "text": "expect `pid [PID]`"
      },
      {
        "time": "[TIME]",
        "direction": "ok",
        "text": "expect prompt `half`"
      }
    ]
    "###);
    Ok(())
}

#[cfg(feature = "serde")]
#[test]
fn as_data_it_has_times_places_labels_and_gaps() -> Result {
    let fx = sh("echo first; head -c 200000 /dev/zero | tr '\\0' '\\n'; echo last");
    fx.expect("last")?;
    let line = line!() - 1;
    let data = serde_json::to_value(fx.transcript()).unwrap();
    let all = data.as_array().unwrap();
    assert!(all[0]["time"].as_f64().is_some_and(|t| t > 0.0), "{}", all[0]);
    assert_eq!((&all[0]["direction"], &all[0]["text"]), (&"out".into(), &"first".into()));
    assert!(all[0].get("location").is_none() && all[0].get("complete").is_none(), "{}", all[0]);
    let met = all.last().unwrap();
    assert_eq!(met["location"], format!("tests/it/transcript.rs:{line}"));
    let gap = all.iter().find_map(|l| l.get("omitted")).unwrap();
    assert_eq!(gap.as_u64(), Some(fx.transcript().omitted()));
    let merged = serde_json::to_value(foster::merged([&fx])).unwrap();
    assert!(merged.as_array().unwrap().iter().all(|l| l["label"] == "shell"), "{merged}");
    let normalized = serde_json::to_value(foster::merged([&fx]).normalized()).unwrap();
    let line = |l: &serde_json::Value| l["time"] == "[TIME]" || l["omitted"] == true;
    assert!(normalized.as_array().unwrap().iter().all(line));
    Ok(())
}

#[test]
fn a_secret_in_pieces_is_hidden_wherever_it_is_shown() -> Result {
    let fx = sh(ECHOES);
    let before = fx.transcript();
    have_it_echoed(&fx)?;
    let transcript = fx.transcript();
    assert_eq!(transcript.stdout(), "got [secret]\n");
    assert_hidden(&transcript.stdout());
    for text in [
        transcript.to_string(),
        format!("{transcript:?}"),
        format!("{transcript:#?}"),
        transcript.normalized().to_string(),
        format!("{:?}", transcript.normalized()),
        foster::merged([&fx]).to_string(),
        format!("{:?}", foster::merged([&fx])),
        transcript.since(before.mark()).to_string(),
        format!("{:?}", transcript.entries().collect::<Vec<_>>()),
        format!("{fx:?} {:?} {:?}", fx.input(), fx.output()),
    ] {
        assert_hidden(&text);
    }
    assert!(transcript.to_string().matches("[secret]").count() >= 2, "{transcript}");
    // The control: who does not send it as a secret has it shown.
    let fx = sh(ECHOES);
    fx.send_line("hunter2")?;
    fx.expect_prompt("got hun")?;
    assert!(fx.transcript().to_string().contains("in  | hunter2"));
    Ok(())
}

#[test]
fn half_of_a_secret_is_one_when_the_rest_has_not_come() -> Result {
    let fx = sh(ECHOES);
    fx.send_secret("hunter2")?;
    fx.expect_prompt(|tail: &str| tail.len() == 7)?;
    assert_hidden(&fx.transcript().to_string());
    let error = fx.within(Duration::from_millis(10)).expect("never").unwrap_err();
    assert_hidden(&format!("{error:#}"));
    Ok(())
}

#[test]
fn a_secret_is_in_no_report() -> Result {
    // It stays unread, so the report shows it there as well, and as the closest line.
    let fx = sh("read pw; echo ${pw}x; echo $pw >&2; read never");
    fx.send_secret("hunter2")?;
    fx.stderr().expect(like("{all}"))?;
    let waits = fx.within(Duration::from_millis(10));
    let report = |error: foster::Error| format!("{error} {error:#} {error:?} {error:#?}");
    for error in [
        waits.expect("hunter2!").unwrap_err(),
        waits.expect_line("hunter2").unwrap_err(),
        waits.expect_line("hunter").unwrap_err(),
        waits.expect(like("hunter2 {x}")).unwrap_err(),
        waits.expect_any(["hunter2!", "never"]).unwrap_err(),
        waits.expect_unordered(["hunter2", "hunter2!"]).unwrap_err(),
        waits.expect_none("hunter2").unwrap_err(),
        waits.select("hunter2!").unwrap_err(),
        waits.expect_silence_for(Duration::from_millis(1)),
        waits.expect_exit().unwrap_err(),
    ] {
        let text = report(error);
        assert!(text.contains("[secret]"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let found = fx.expect(like("{pw}x"))?;
    let text = report(found.get::<u64>("pw").unwrap_err()) + &report(found.get::<u64>("none").unwrap_err());
    assert_hidden(&text);
    assert_hidden(&format!("{found:?}"));
    assert_eq!(found.get::<String>("pw")?, "hunter2", "a test that asks for it gets it");
    Ok(())
}

trait Silence {
    fn expect_silence_for(&self, limit: Duration) -> foster::Error;
}

impl Silence for foster::Within<'_> {
    fn expect_silence_for(&self, limit: Duration) -> foster::Error {
        self.stdout().expect_silence(limit).unwrap_err()
    }
}

#[test]
fn a_secret_in_a_line_that_must_not_come_is_in_no_report() -> Result {
    let fx = Fixture::command("sh")
        .args(["-c", "read pw; echo panicked over $pw >&2; read never"])
        .fail_on(like("panicked over {what}"))
        .spawn()?;
    fx.send_secret("hunter2")?;
    let error = fx.expect("never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    let report = format!("{error} {error:#}");
    assert!(report.contains("got        \"panicked over [secret]\""), "{report}");
    assert_hidden(&report);
    Ok(())
}

#[test]
fn a_secret_that_cannot_be_sent_is_in_no_report() -> Result {
    // A whole pipe of it, and more: only a part is taken.
    let fx = Fixture::command("sleep").arg("20").spawn()?;
    let long = "hunter2-".repeat(40_000);
    let error = fx.within(Duration::from_millis(20)).input().send_secret(&long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_hidden(&format!("{error} {error:#}"));
    assert_hidden(&fx.transcript().to_string());
    // What is sent after the half of it does not make it readable.
    fx.within(Duration::from_millis(20)).send("next").unwrap_err();
    assert_hidden(&fx.transcript().to_string());

    let fx = sh("exec < /dev/null; echo closed; exec sleep 20");
    fx.expect_line("closed")?;
    let error = fx.send_secret("hunter2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputClosed);
    assert_hidden(&format!("{error} {error:#}"));
    Ok(())
}

#[test]
fn of_two_secrets_one_may_contain_or_overlap_the_other() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for secret in ["nter", "hunter2", "er2-more"] {
        fx.send_secret(secret)?;
    }
    fx.ask("a hunter2-more b hunter2 c nter d", " d")?;
    let last = fx.transcript().stdout().lines().last().unwrap().to_owned();
    assert_eq!(last, "a [secret] b [secret] c [secret] d");
    Ok(())
}

#[test]
fn a_secret_is_not_in_what_is_finished() -> Result {
    let fx = sh("read pw; echo out $pw; echo err $pw >&2; exit 3");
    fx.send_secret("hunter2")?;
    let finished = fx.finish()?;
    assert_eq!(finished.stdout(), b"out hunter2\n", "a test that asks for it gets it");
    assert_eq!(finished.transcript().stdout(), "out [secret]\n");
    assert_hidden(&format!("{finished:?}"));
    let failed = finished.assert().try_success().unwrap_err().to_string();
    assert!(failed.contains("out [secret]") && failed.contains("err [secret]"), "{failed}");
    assert_hidden(&failed);
    Ok(())
}

#[test]
fn a_secret_stays_one_when_the_helper_is_started_again() -> Result {
    let mut fx = Fixture::command("sh")
        .args(["-c", "test -e kept && cat kept; read pw; echo $pw > kept; echo stored; read never"])
        .in_own_dir()
        .spawn()?;
    fx.send_secret("hunter2")?;
    fx.expect_line("stored")?;
    fx.restart()?;
    fx.expect_line("hunter2")?;
    assert_eq!(fx.transcript().stdout(), "[secret]\n");
    assert_hidden(&fx.transcript().to_string());
    Ok(())
}

/// A test process that writes its conversations down.
fn speaks(mode: &str, log: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("speaks"));
    command
        .arg(mode)
        .env("FOSTER_LOG", log)
        .env_remove("NEXTEST_TEST_NAME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn files(dir: &Path) -> Vec<(String, String)> {
    let all = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, text)| text.lines().nth(1).map(|l| l[10..].to_owned()));
    all
}

#[test]
fn a_log_has_everything_when_the_test_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("not/there/yet");
    let mut child = speaks("waits", &log).spawn().unwrap();
    let process = Process::open(child.id() as i32);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "armed\n");
    process.put_down();
    child.wait().unwrap();
    let files = files(&log);
    let [(name, text)] = files.as_slice() else { panic!("{files:?}") };
    assert!(name.starts_with("the_talker-") && name.ends_with(".log"), "{name}");
    let mut lines = text.lines();
    let heading = lines.next().unwrap();
    assert!(heading.starts_with("`the talker`: `sh -c "), "{heading}");
    assert!(heading.contains(", spawned at fixtures/speaks.rs:"), "{heading}");
    let lines: Vec<&str> = lines.map(|line| &line[10..]).map(|l| l.split("    <- ").next().unwrap()).collect();
    let wanted = [
        "out | up",
        "ok  | expect line `up`",
        "in  | [secret]",
        "out | got  (no newline)",
        "ok  | expect prompt `got [secret]`",
        "in  | go",
        "err | noise",
        "ok  | expect line `noise`",
        "in  | on",
        "out | [secret]",
        "out | part  (no newline)",
        "ok  | expect `[secret]`",
        "ok  | expect prompt `part `",
    ];
    // A note may come before the next word of the helper or after it.
    let sorted = |lines: &[&str]| {
        let mut all: Vec<String> = lines.iter().map(ToString::to_string).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&lines), sorted(&wanted), "{text}");
    assert_eq!(lines[..10], wanted[..10], "{text}");
    assert_hidden(&lines.join("\n"));
}

#[test]
fn each_fixture_has_a_log_of_its_own_and_one_that_says_nothing_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let output = speaks("thrice", dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = files(dir.path());
    assert_eq!(files.len(), 3, "{files:?}");
    for (n, (name, text)) in files.iter().enumerate() {
        assert!(name.starts_with("cat-"), "{name}");
        assert!(text.contains(&format!("out | number {n}\n")), "{text}");
    }
    // The control: who does not ask for logs gets none.
    let dir = tempfile::tempdir().unwrap();
    let output = speaks("thrice", dir.path()).env_remove("FOSTER_LOG").current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_report_says_where_the_log_is() {
    let dir = tempfile::tempdir().unwrap();
    let output = speaks("fails", dir.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let files = files(dir.path());
    let [(name, _)] = files.as_slice() else { panic!("{files:?}") };
    assert!(errors.contains(&format!("\n  log        {}\n", dir.path().join(name).display())), "{errors}");
    let output = speaks("fails", dir.path()).env_remove("FOSTER_LOG").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("\n  log "), "the control: no log");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_said_once_and_is_no_failure() {
    let output = speaks("thrice", Path::new("/dev/null/log")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("foster: FOSTER_LOG: cannot write `/dev/null/log/").count(), 1, "{errors}");
    assert_eq!(errors.matches("FOSTER_LOG").count(), 1, "{errors}");
}
