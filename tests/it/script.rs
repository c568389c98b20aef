//! Scripts: played on a program and on a fake, and what they say when a step fails.

use std::process::Command;
use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Mirror, Result, Script};

fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).spawn().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Every kind of step.
fn everything() -> Script {
    Script::new()
        .with("user", "Bob")
        .prompt("name? ")
        .send_line("{user}")
        .optional("you have mail")
        .line("hello {user}, you are number {n}")
        .expect("ready")
        .any(["green", "red {why}"])
        .unordered(["one", "two", "three {n}"])
        .stderr_line("log of {user}")
        .send_secret("s3cret of {user}")
        .line("thanks")
        .send("no newline")
        .send_eof()
        .line("last")
        .eof()
        .exit(3)
}

const PROGRAM: &str = "printf 'name? '; read name; echo hello $name, you are number 7; echo 'noise, but ready'; \
                       echo red alert; echo three 7; echo noise; echo two; echo one; echo log of $name >&2; read secret; \
                       [ \"$secret\" = 's3cret of Bob' ] && echo thanks; rest=$(cat); [ \"$rest\" = 'no newline' ] && echo last; \
                       echo more; exit 3";

#[test]
fn a_script_is_played_on_a_program() -> Result {
    let fx = sh(PROGRAM);
    let played = everything().play(&fx)?;
    assert_eq!(played.get::<u32>("n")?, 7);
    assert_eq!(played.get::<String>("why")?, "alert");
    let all: Vec<_> = played.captures().collect();
    assert_eq!(all, [("user", "Bob"), ("n", "7"), ("why", "alert")]);
    assert_eq!(played.get::<u32>("why").unwrap_err().kind(), ErrorKind::Capture);
    assert!(!format!("{}", fx.transcript()).contains("s3cret"));
    Ok(())
}

/// The control for the program and the script above: another program is found out at the step where it differs.
#[test]
fn each_step_finds_out_a_program_that_differs() {
    for (from, to, step) in [
        ("'name? '", "'Name! '", 1),
        ("hello $name", "bye $name", 4),
        ("number 7", "number", 4),
        ("but ready", "but not", 5),
        ("red alert", "yellow alert", 6),
        ("three 7", "three 8", 7),
        ("echo two; ", "", 7),
        ("log of $name", "log", 8),
        ("'s3cret of Bob'", "'another'", 10),
        ("'no newline'", "'newline'", 13),
        ("exit 3", "exit 4", 15),
    ] {
        assert!(PROGRAM.contains(from), "{from}");
        let program = PROGRAM.replacen(from, to, 1);
        let fx = Fixture::command("sh").args(["-c", &program]).timeout(ms(1000)).spawn().unwrap();
        let error = everything().play(&fx).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(&format!("failed to play step {step} of 15: failed to ")), "{from} -> {to}: {said}");
    }
}

#[test]
fn an_error_names_the_step_its_line_and_where_it_was_played() {
    let script = Script::new().line("one").with("x", 2).line("two {x}");
    let line = line!() - 1;
    let fx = sh("echo one; echo three");
    let error = script.play(&fx).unwrap_err();
    let played = line!() - 1;
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let report = format!("{error:?}");
    let file = file!();
    for part in [
        "failed to play step 2 of 2: failed to expect line `two 2` from `sh`: the next line is another one".to_owned(),
        format!("  step       2 of 2, `line \"two {{x}}\"`, at {file}:{line}:"),
        format!("  played     {file}:{played}:"),
        "  expected   \"two 2\"\n  got        \"three\"".to_owned(),
        format!("  at         {file}:{line}:"),
        "transcript".to_owned(),
    ] {
        assert!(report.contains(&part), "no `{part}` in:\n{report}");
    }
}

#[test]
fn an_optional_line_is_taken_or_left() -> Result {
    let followers = [
        (Script::new().line("next"), "echo next"),
        (Script::new().expect("ext"), "echo noise; echo next"),
        (Script::new().any(["none", "xt"]), "printf next"),
        (Script::new().prompt("next"), "printf next; read x"),
        (Script::new().eof(), ":"),
        (Script::new().exit(0), ":"),
        (Script::new().optional("maybe").optional("never").prompt("> "), "printf '> '; read x"),
    ];
    for (follower, program) in followers {
        for extra in ["", "echo extra {};"] {
            let fx = sh(&format!("{} {program}", extra.replace("{}", "12")));
            let played = Script::new().optional("extra {n}").then(follower.clone()).play(&fx)?;
            assert_eq!(played.get::<u32>("n").ok(), (!extra.is_empty()).then_some(12), "{program}");
        }
    }
    Ok(())
}

#[test]
fn an_optional_line_waits_until_it_is_decided() {
    // Half a line decides nothing.
    let fx = Fixture::command("sh").args(["-c", "printf may; read x"]).timeout(ms(100)).spawn().unwrap();
    let error = Script::new().optional("maybe").line("next").play(&fx).unwrap_err();
    assert!(error.is_timeout() && error.to_string().starts_with("failed to play step 1 of 2"), "{error}");
    // Something that can never be decided is refused.
    let fx = sh("read x");
    for script in [Script::new().optional("maybe"), Script::new().optional("maybe").send_line("x").line("y")] {
        let error = script.play(&fx).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("nothing decides"), "{error}");
    }
}

#[test]
fn what_has_no_value_cannot_be_sent() {
    let fx = sh("read x");
    let error = Script::new().send_line("{never}").play(&fx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`{never}` has no value yet"), "{error}");
    assert!(fx.transcript().is_empty());
}

#[test]
fn braces_that_are_doubled_are_text() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    Script::new().with("a", "{b}").send_line("{{a}} {a}").line("{{a}} {{b}}").send_line("").line("").play(&fx)?;
    Ok(())
}

#[test]
fn a_script_moves_to_other_threads_and_is_played_by_many() {
    let script = Script::new().send_line("{n}").line("{n}");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let script = script.clone().with("n", n);
            scope.spawn(move || script.play(&Fixture::command("cat").spawn().unwrap()).unwrap());
        }
    });
}

fn fake(mirror: Mirror) -> Fixture {
    Fixture::fake(mirror).spawn().unwrap()
}

#[test]
fn a_script_is_played_on_its_own_mirror() -> Result {
    let script = everything();
    let fx = fake(script.mirror().with("n", 41));
    assert_eq!(script.play(&fx)?.get::<u32>("n")?, 41);
    // Without a value the name is printed; other branches can be asked for.
    assert_eq!(script.play(&fake(script.mirror()))?.get::<String>("n")?, "n");
    let other = fake(script.mirror().without_optional().alternative(1).with("why", "late"));
    assert_eq!(script.play(&other)?.get::<String>("why")?, "late");
    // Before anything has been said, there is the optional line; without it, there is not.
    assert!(fx.transcript().to_string().contains("you have mail"));
    assert!(!other.transcript().to_string().contains("you have mail"));
    Ok(())
}

/// The controls: a script that is not the mirror's own fails, on either side.
#[test]
fn a_fake_finds_out_a_script_that_says_something_else() {
    let script = Script::new().prompt("> ").send_line("yes").line("ok").send_eof().exit(0);
    let fx = fake(script.mirror());
    let error = Script::new().prompt("> ").send_line("no").line("ok").play(&fx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    let report = format!("{error:?}");
    assert!(error.to_string().ends_with("the helper exited with status 101"), "{error}");
    assert!(
        report.contains("the fake expected \"yes\\n\" (step 2, `send_line \"yes\"`, at tests/it/script.rs:"),
        "{report}"
    );
    assert!(report.contains("and got \"no\\n\""), "{report}");
    // The end of the input instead of a line, and a line instead of the end of the input.
    let fx = fake(script.mirror());
    let error = Script::new().prompt("> ").send_eof().line("ok").play(&fx).unwrap_err();
    assert!(format!("{error:?}").contains("and got the end of its input"), "{error:?}");
    let fx = fake(script.mirror());
    let error = Script::new().prompt("> ").send_line("yes").line("ok").send_line("more").exit(0).play(&fx).unwrap_err();
    assert!(format!("{error:?}").contains("expected the end of its input"), "{error:?}");
    let fx = fake(Script::new().line("x").mirror());
    let error = Script::new().line("x").send_line("more").exit(0).play(&fx).unwrap_err();
    assert!(format!("{error:?}").contains("has nothing to expect any more and got \"more\\n\""), "{error:?}");
    // And a secret stays one.
    let fx = fake(Script::new().send_secret("hunter2").line("in").mirror());
    let error = Script::new().send_line("hunter3").line("in").play(&fx).unwrap_err();
    assert!(
        format!("{error:?}").contains("expected a secret") && !format!("{error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[test]
fn a_fake_that_cannot_be_played_is_no_fixture() {
    let error = Fixture::fake(Script::new().prompt("a ").line("b").mirror()).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("step 1, `prompt \"a \"`"), "{error}");
}

#[test]
fn a_fake_ends_as_the_script_says_and_can_be_waited_for() -> Result {
    let fx = fake(Script::new().line("x").exit(7).mirror());
    assert_eq!(fx.expect_exit()?.code(), Some(7));
    fx.expect_line("x")?;
    assert_eq!(fx.try_wait()?.and_then(|s| s.code()), Some(7));
    assert_eq!(fx.stop()?.status().and_then(|s| s.code()), Some(7));
    assert_eq!(fx.terminate().unwrap_err().kind(), ErrorKind::Exited);
    fake(Script::new().line("x").stderr_line("y").mirror()).finish()?.assert().success().stdout("x\n").stderr("y\n");
    // Without `exit` it ends with its input, and not before.
    let fx = fake(Script::new().line("x").mirror());
    fx.expect_line("x")?;
    assert!(fx.within(ms(30)).expect_exit().unwrap_err().is_timeout());
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

/// The threads of this process that are fakes.
fn fakes() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "foster-fake").count()
}

/// In a process of its own (`cargo test` has one for all tests), so that the fakes are this test's.
#[test]
fn no_fake_outlives_its_fixture() -> Result {
    if std::env::var_os("SCRIPT_FAKES").is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "script::no_fake_outlives_its_fixture", "--nocapture"]).env("SCRIPT_FAKES", "1");
        let output = alone.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return Ok(());
    }
    // It waits for something that never comes, prints more than a pipe takes, or is at its end.
    let big = "x".repeat(200_000);
    let scripts = [
        Script::new().send_line("never"),
        Script::new().line("a").send_eof().exit(0),
        (0..5).fold(Script::new(), |script, _| script.line(big.clone())),
        Script::new().exit(1),
    ];
    let all: Vec<Fixture> = (0..20).map(|i| fake(scripts[i % 4].mirror())).collect();
    assert!(fakes() > 0, "the check below would prove nothing");
    let began = Instant::now();
    let (dropped, stopped): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(i, _)| i % 8 < 4);
    drop(dropped);
    for (i, fx) in stopped {
        let status = fx.stop()?.status().unwrap();
        use std::os::unix::process::ExitStatusExt;
        let expected = if i % 4 == 3 { (Some(1), None) } else { (None, Some(15)) };
        assert_eq!((status.code(), status.signal()), expected, "fake {i}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The last thing that a fake does is to say so; that its thread is gone follows at once, but not in the same instant.
    let deadline = Instant::now() + Duration::from_secs(10);
    while fakes() > 0 {
        assert!(Instant::now() < deadline, "{} fakes are left", fakes());
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_fake_is_stopped_killed_and_restarted_like_a_helper() -> Result {
    use std::os::unix::process::ExitStatusExt;
    let script = Script::new().line("ready").send_line("go").line("gone").exit(0);
    let mut fx = fake(script.mirror());
    fx.expect_line("ready")?;
    fx.restart()?;
    script.play(&fx)?;
    fx.restart()?;
    fx.kill()?;
    assert_eq!(fx.expect_exit()?.signal(), Some(9));
    fx.restart()?;
    fx.expect_line("ready")?;
    assert_eq!(fx.signal(Signal::SIGTERM).unwrap_err().kind(), ErrorKind::Io);
    fx.terminate()?;
    assert_eq!(fx.expect_exit()?.signal(), Some(15));
    // With a time for its input to end, it uses it.
    let polite = Fixture::fake(Script::new().send_eof().exit(5).mirror()).stop_policy(foster::Stop::eof(ms(5000)));
    assert_eq!(polite.spawn()?.stop()?.status().and_then(|s| s.code()), Some(5));
    Ok(())
}

#[test]
fn a_fake_has_the_builders_other_verbs() -> Result {
    let script = Script::new().line("listening on {port}").stderr_line("panicked at [..]");
    let fx = Fixture::fake(script.mirror().with("port", 80))
        .label("my fake")
        .ready(Ready::line(like("listening on {port}")))
        .spawn()?;
    assert_eq!((fx.label(), fx.capture::<u16>("port")?), ("my fake", 80));
    let error = Fixture::fake(script.mirror()).fail_on("panicked").spawn()?.expect("never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    Ok(())
}

/// More than a pipe takes, in both directions, with nobody reading.
#[test]
fn a_fake_is_sent_and_says_more_than_a_pipe_takes() -> Result {
    let long = "y".repeat(400_000);
    let script = Script::new().send_line(long.clone()).line(long).send_line("x").line("end").exit(0);
    script.play(&fake(script.mirror()))?;
    Ok(())
}
