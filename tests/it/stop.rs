//! Asking helpers to leave, and what happens to those who do not.

use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};
use std::os::unix::process::ExitStatusExt;

use crate::scene::Process;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn sh(script: &str) -> foster::FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

#[test]
fn stop_asks_first_and_returns_the_status() -> Result {
    let fx = sh("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 1; done").spawn()?;
    fx.expect_line("up")?;
    let stopped = fx.stop()?;
    assert_eq!(stopped.status().unwrap().code(), Some(9));
    fx.expect_line("bye")?;
    assert_eq!(fx.stop()?, stopped, "a second stop changes nothing");
    Ok(())
}

#[test]
fn who_does_not_leave_in_time_is_killed() -> Result {
    let fx = sh("trap '' TERM; echo up; while :; do sleep 1; done").stop_policy(Stop::terminate(ms(150))).spawn()?;
    fx.expect_line("up")?;
    let began = Instant::now();
    let stopped = fx.stop()?;
    assert!(began.elapsed() >= ms(150) && began.elapsed() < ms(3000), "{:?}", began.elapsed());
    assert_eq!(stopped.status().unwrap().signal(), Some(9));
    Ok(())
}

#[test]
fn the_end_of_the_input_can_be_the_first_step() -> Result {
    let policy = Stop::eof(Duration::from_secs(20)).then_terminate(Duration::from_secs(20));
    let fx = sh("cat; exit 8").stop_policy(policy).spawn()?;
    let began = Instant::now();
    assert_eq!(fx.stop()?.status().unwrap().code(), Some(8));
    assert!(began.elapsed() < ms(5000), "a step ends as soon as nothing is left");
    Ok(())
}

#[test]
fn a_stopped_helper_can_act_on_the_request() -> Result {
    let fx = sh("trap 'exit 9' TERM; echo up; kill -STOP $$; sleep 50").spawn()?;
    fx.expect_line("up")?;
    assert_eq!(fx.stop()?.status().unwrap().code(), Some(9));
    Ok(())
}

/// What has a process group of its own loses its parent first, and is asked then.
#[test]
fn a_job_in_a_group_of_its_own_is_asked_too() -> Result {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "set -m; sh -c 'trap \"echo bye > {}; exit\" TERM; echo up; while :; do sleep 1; done' & wait",
        dir.path().join("bye").display()
    );
    let fx = sh(&script).stop_policy(Stop::terminate(Duration::from_secs(20))).spawn()?;
    fx.expect_line("up")?;
    let began = Instant::now();
    fx.stop()?;
    assert!(began.elapsed() < ms(5000), "{:?}", began.elapsed());
    assert_eq!(std::fs::read_to_string(dir.path().join("bye")).unwrap(), "bye\n");
    Ok(())
}

#[test]
fn a_real_time_signal_can_be_sent() -> Result {
    let fx = Fixture::command("sleep").arg("50").spawn()?;
    fx.signal(Signal::from_raw(40))?;
    assert_eq!(fx.expect_exit()?.signal(), Some(40));
    Ok(())
}

#[test]
fn kill_does_not_ask() -> Result {
    let fx = sh("trap 'echo asked' TERM; echo up; while :; do sleep 1; done").spawn()?;
    fx.expect_line("up")?;
    fx.kill()?;
    assert_eq!(fx.expect_exit()?.signal(), Some(9));
    assert_eq!(fx.expect_eof()?, "");
    Ok(())
}

#[test]
fn terminate_asks_and_does_not_wait() -> Result {
    let fx = sh("trap 'echo asked' TERM; echo up; while :; do sleep 1; done").stop_policy(Stop::kill()).spawn()?;
    fx.expect_line("up")?;
    fx.terminate()?;
    fx.expect_line("asked")?;
    assert_eq!(fx.try_wait()?, None);
    Ok(())
}

#[test]
fn a_signal_goes_to_the_helper_alone() -> Result {
    let fx = sh("trap 'echo usr1' USR1; echo up; while :; do sleep 0.01; done").spawn()?;
    fx.expect_line("up")?;
    fx.signal(Signal::SIGUSR1)?;
    fx.expect_line("usr1")?;
    Ok(())
}

/// Each kind of escapee is found below its own keeper, named, and ended.
#[test]
fn escapees_are_attributed_to_their_fixture() -> Result {
    // It is the escapees that say so: from then on their command lines are what they will be.
    let one = sh("setsid sh -c 'echo up; kill -STOP $$ # 51' & cat").spawn()?;
    let two = sh("(setsid sh -c 'echo up; kill -STOP $$ # 52' &); cat").spawn()?;
    one.expect_line("up")?;
    two.expect_line("up")?;
    one.send_eof()?;
    two.send_eof()?;
    one.expect_exit()?;
    two.expect_exit()?;
    let names = |stopped: foster::Stopped| {
        stopped.escapees().iter().map(|e| (e.pid(), e.command().to_owned())).collect::<Vec<_>>()
    };
    let (one, two) = (names(one.stop()?), names(two.stop()?));
    assert_eq!(one.len(), 1, "{one:?}");
    assert!(one[0].1.contains("# 51"), "{one:?}");
    assert_eq!(two.len(), 1, "{two:?}");
    assert!(two[0].1.contains("# 52"), "{two:?}");
    Ok(())
}

#[test]
fn finish_collects_what_nobody_has_consumed() -> Result {
    let fx = sh("echo one; echo two; echo err >&2; cat; exit 3").spawn()?;
    fx.expect_line("one")?;
    fx.send_line("three")?;
    let done = fx.finish()?;
    assert_eq!((done.stdout(), done.stderr()), (&b"two\nthree\n"[..], &b"err\n"[..]));
    done.assert().code(3).stdout(predicate::str::contains("three"));
    Ok(())
}

#[test]
fn what_a_finished_helper_has_left_can_be_looked_at() -> Result {
    let done = sh("echo order > order.txt").in_own_dir().spawn()?.finish()?;
    let file = done.dir().join("order.txt");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "order\n");
    drop(done);
    assert!(!file.exists());
    Ok(())
}

#[test]
fn finish_takes_more_than_is_kept_unread() -> Result {
    let done = sh("head -c 5000000 /dev/zero").spawn()?.finish()?;
    assert_eq!(done.stdout().len(), 5_000_000);
    Ok(())
}

#[test]
fn finish_waits_no_longer_than_it_may() {
    let fx = sh("sleep 50").timeout(ms(100)).spawn().unwrap();
    let helper = Process::open(fx.id() as i32);
    assert_eq!(fx.finish().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!helper.is_alive(), "the fixture is consumed, so the helper is ended");
}

#[test]
fn a_failing_assert_shows_command_and_output() {
    let done = sh("echo oops >&2; exit 1").spawn().unwrap().finish().unwrap();
    let error = done.assert().try_success().unwrap_err().to_string();
    assert!(error.contains("oops") && error.contains("sh -c"), "{error}");
}

/// C20: a hundred helpers that each need 100 ms.
#[test]
fn many_are_stopped_at_the_price_of_one() -> Result {
    let all: Vec<Fixture> = (0..100)
        // Each has more time than all of them need on a busy machine: what counts is that it is not the sum.
        .map(|_| {
            let fx = sh("trap 'sleep 0.1; exit 0' TERM; echo up; while :; do sleep 5; done");
            fx.stop_policy(Stop::terminate(ms(20_000))).spawn()
        })
        .collect::<Result<_>>()?;
    for fx in &all {
        fx.expect_line("up")?;
    }
    let began = Instant::now();
    let stopped = foster::stop_all(&all)?;
    let took = began.elapsed();
    assert_eq!(stopped.len(), 100);
    assert!(stopped.iter().all(|s| s.status().is_some_and(|s| s.success())), "each got its grace");
    // One after the other would take ten seconds.
    assert!(took >= ms(100) && took < ms(8000), "{took:?}");
    Ok(())
}

/// A12, A13 in small: what forks faster than it can be killed is frozen first.
#[test]
fn a_tree_that_forks_without_end_is_ended() -> Result {
    let bomb = "b() { while :; do setsid sh -c 'sleep 0.05' & sleep 0.01; done; }; for i in 1 2 3 4; do b & done; echo up; wait";
    let fx = sh(bomb).stop_policy(Stop::kill()).spawn()?;
    fx.expect_line("up")?;
    let began = Instant::now();
    fx.stop()?;
    assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
    Ok(())
}

/// How many short helpers are started: 300, or what `FOSTER_TEST_MANY` says, as one step of CI does.
fn many(count: &str, hoard: &[&str]) -> std::process::Output {
    // In a process of its own, because other tests come and go in this one.
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("many"));
    command.arg(count).args(hoard).env("FIXTURE_DEADLINE", "600").output().unwrap()
}

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A20: short helpers leave no zombies, no descriptors, no threads and no memory behind.
#[test]
fn short_helpers_leave_nothing_behind() {
    let count = std::env::var("FOSTER_TEST_MANY").unwrap_or_else(|_| "300".to_owned());
    let output = many(&count, &[]);
    assert!(output.status.success(), "{}", text(&output));
}

/// The control: what is kept of each helper is seen.
#[test]
fn what_short_helpers_leave_behind_is_seen() {
    for what in ["descriptors", "threads", "memory", "zombies", "keepers"] {
        let output = many("40", &[what]);
        assert!(!output.status.success() && text(&output).contains("panicked"), "{what}: {}", text(&output));
        let last = text(&output);
        // Descriptors are what a whole fixture costs first.
        let seen = if what == "keepers" { "descriptors" } else { what };
        assert!(last.lines().any(|line| line.trim_end().ends_with(seen)), "{what}: {last}");
    }
}
