//! Waiting on several helpers at once: who is first, what the others keep, and when all of them have failed.

use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result, expect_first, expect_first_async};

fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).spawn().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn the_first_to_say_it_wins_and_the_others_keep_what_they_said() -> Result {
    let [a, b, c] = ["a", "b", "c"].map(|name| sh(&format!("echo {name} is up; cat")));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| expect_first([(&a, "elected"), (&b, "elected"), (&c, "elected")]));
        b.send_line("elected: me")?;
        let (who, found) = waiter.join().unwrap()?;
        assert_eq!((who, found.skipped()), (1, "b is up\n"));
        b.expect_line(": me")?;
        a.expect_line("a is up")?;
        c.expect_line("c is up")?;
        Ok(())
    })
}

#[test]
fn matchers_and_streams_may_be_of_different_kinds() -> Result {
    let (server, client) = (sh("echo refused: too many >&2; read never"), sh("cat"));
    let errors = server.stderr();
    let candidates = (
        (&server, "listening"),
        (&client, predicate::str::contains("connected")),
        (&errors, like("refused: {why}")),
        (client.stderr(), |line: &str| line.len() > 100),
        (client.within(ms(9000)), regex("never (said)")),
    );
    let (who, found) = expect_first(candidates)?;
    assert_eq!((who, found.get::<String>("why")?.as_str()), (2, "too many"));
    Ok(())
}

#[test]
fn if_several_have_said_it_the_first_in_the_list_is_meant() -> Result {
    let fixtures = [sh("echo yes; read never"), sh("echo yes; read never")];
    for fx in &fixtures {
        // It has arrived.
        assert_eq!(fx.within(ms(9000)).expect_none("yes").unwrap_err().kind(), ErrorKind::Unwanted);
    }
    let pairs = || fixtures.iter().map(|fx| (fx, "yes")).collect::<Vec<_>>();
    assert_eq!(expect_first(pairs())?.0, 0);
    assert_eq!(expect_first(pairs())?.0, 1);
    Ok(())
}

#[test]
fn one_helper_may_be_asked_for_several_things() -> Result {
    let fx = sh("echo noise; echo failed >&2; read never");
    assert_eq!(expect_first([(fx.stdout(), "ready"), (fx.stderr(), "failed")])?.0, 1);
    fx.expect_line("noise")?;
    Ok(())
}

#[test]
fn time_is_up_for_all_at_once_and_each_is_reported() -> Result {
    let fixtures = [sh("echo one here; read never"), sh("while :; do echo two here; sleep 0.01; done"), sh("read x")];
    let began = Instant::now();
    let limits = [ms(9000), ms(150), ms(5000)];
    let pairs: Vec<_> = fixtures.iter().zip(limits).map(|(fx, limit)| (fx.within(limit), "never said")).collect();
    let error = expect_first(pairs).unwrap_err();
    let took = began.elapsed();
    assert!(took >= ms(150) && took < ms(3000), "{took:?}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let line = "failed to expect `never said` from `sh` or `never said` from `sh` or `never said` from `sh`: timed out \
                after 150.0 ms";
    assert_eq!(error.to_string(), line);
    let report = format!("{error:?}");
    for fx in &fixtures {
        assert!(report.contains(&format!("(pid {})", fx.id())), "{report}");
    }
    assert!(report.contains("one here") && report.contains("several.rs"), "{report}");
    fixtures[0].expect_line("one here")?;
    Ok(())
}

#[test]
fn when_all_have_ended_that_is_the_answer_at_once() {
    let fixtures = [sh("exit 3"), sh("echo last words; exit 4")];
    let began = Instant::now();
    let error = expect_first([(&fixtures[0], "x"), (&fixtures[1], "x")]).unwrap_err();
    assert!(began.elapsed() < ms(5000));
    assert_eq!(error.kind(), ErrorKind::Exited);
    let report = format!("{error:?}");
    let parts = ["none of them will say it any more", "exited with status 3", "exited with status 4", "last words"];
    for part in parts {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn one_that_has_ended_does_not_end_the_wait_for_the_others() -> Result {
    let (short, long) = (sh("exit 3"), sh("cat"));
    short.expect_exit()?;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| expect_first([(&short, "x"), (&long, "x")]));
        long.send_line("x")?;
        assert_eq!(waiter.join().unwrap()?.0, 1);
        Ok::<_, foster::Error>(())
    })?;
    // The last words of one that has ended count.
    let ended = sh("printf 'the end'");
    ended.expect_exit()?;
    assert_eq!(expect_first([(&long, "the end"), (&ended, "the end")])?.0, 1);
    Ok(())
}

#[test]
fn what_must_not_be_said_or_makes_no_sense_ends_it() -> Result {
    let good = sh("read never");
    let bad = Fixture::command("sh").args(["-c", "echo panicked; read never"]).fail_on("panicked").spawn()?;
    let began = Instant::now();
    let error = expect_first([(&good, "x"), (&bad, "x")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    assert!(format!("{error:?}").contains("panicked"), "{error:?}");
    assert_eq!(expect_first([(&good, "x"), (&good, "")]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(expect_first(Vec::<(&Fixture, &str)>::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(began.elapsed() < ms(5000));
    Ok(())
}

#[test]
fn a_task_that_gives_up_on_several_has_consumed_nothing() -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let fixtures = [sh("echo half; cat"), sh("echo other half; cat")];
        let pairs = || [(&fixtures[0], "half a"), (&fixtures[1], "half b")];
        assert!(tokio::time::timeout(ms(30), expect_first_async(pairs())).await.is_err());
        for fx in &fixtures {
            fx.send_line("half b")?;
        }
        let (who, found) = expect_first_async(pairs()).await?;
        assert_eq!((who, found.skipped()), (1, "other half\n"));
        fixtures[0].expect_line("half")?;
        fixtures[0].expect_line("half b")?;
        Ok(())
    })
}
