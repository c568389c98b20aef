//! Endurance: floods, full pipes, many threads on one helper, and what waiting costs.

use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};

/// A shell that runs this script.
fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).spawn().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn the_deadline_is_total_however_much_is_said_meanwhile() {
    let fx = sh("yes chatter");
    let began = Instant::now();
    let error = fx.within(ms(200)).expect("never").unwrap_err();
    assert!(error.is_timeout());
    assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
    // One byte at a time, and never a line.
    let fx = Fixture::command("cat").spawn().unwrap();
    let input = fx.input();
    std::thread::scope(|scope| {
        let feeder = scope.spawn(move || while input.send("x").is_ok() {});
        let error = fx.within(ms(200)).expect_line("never").unwrap_err();
        assert!(error.is_timeout());
        fx.kill().unwrap();
        feeder.join().unwrap();
    });
}

#[test]
fn a_slow_matcher_in_a_flood_is_bounded_and_lets_others_pass() {
    let fx = sh("yes chatter");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let began = Instant::now();
            let error = fx.within(ms(500)).expect(|line: &str| line.starts_with("never")).unwrap_err();
            (error.is_timeout(), began.elapsed())
        });
        let began = Instant::now();
        while fx.transcript().is_empty() {}
        assert!(began.elapsed() < ms(4000), "{:?}", began.elapsed());
        let (timeout, took) = waiter.join().unwrap();
        assert!(timeout && took < ms(4000), "{took:?}");
    });
    let began = Instant::now();
    fx.kill().unwrap();
    assert!(began.elapsed() < ms(4000), "{:?}", began.elapsed());
}

/// A leader whose matcher panics leaves nobody behind who waits for its news.
#[test]
fn a_matcher_that_panics_does_not_strand_the_others() -> Result {
    let fx = Fixture::command("cat").timeout(Duration::from_secs(20)).spawn()?;
    std::thread::scope(|scope| {
        let began = Instant::now();
        let leader = scope.spawn(|| drop(fx.expect(|line: &str| line.is_empty() || panic!("as planned"))));
        let followers: Vec<_> = (0..3).map(|_| scope.spawn(|| fx.stderr().expect_eof().map(drop))).collect();
        // All of them wait by now, or will find the same state a moment later.
        assert!(fx.within(ms(100)).expect_exit().unwrap_err().is_timeout());
        fx.send_line("boo").unwrap();
        assert!(leader.join().is_err());
        fx.send_eof().unwrap();
        for follower in followers {
            follower.join().unwrap().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
    Ok(())
}

#[test]
fn all_senders_learn_that_the_helper_has_gone() {
    let fx = Fixture::command("sleep").arg("50").timeout(Duration::from_secs(20)).spawn().unwrap();
    std::thread::scope(|scope| {
        let began = Instant::now();
        // The first of them fills the pipe, the others wait for their turn.
        let send = || fx.input().send(vec![b'x'; 300_000]).unwrap_err().kind();
        let senders: Vec<_> = (0..5).map(|_| scope.spawn(send)).collect();
        assert!(fx.within(ms(200)).expect_exit().unwrap_err().is_timeout());
        fx.kill().unwrap();
        for sender in senders {
            assert_eq!(sender.join().unwrap(), ErrorKind::InputClosed);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_long_list_of_what_was_left_does_not_break_the_news() {
    // Four hundred escapees with long command lines, told while nobody reads.
    let script = "i=0; while [ $i -lt 400 ]; do sh -c 'exec sleep 50' \"$0\" & i=$((i+1)); done; exit 7";
    let fx = Fixture::command("sh").args(["-c", script, &"x".repeat(900)]).spawn().unwrap();
    assert_eq!(fx.expect_exit().unwrap().code(), Some(7));
    let stopped = fx.stop().unwrap();
    assert!(stopped.escapees().len() > 100, "{}", stopped.escapees().len());
}

#[test]
fn a_megabyte_on_stderr_does_not_keep_stdout_waiting() -> Result {
    let fx = sh("head -c 1000000 /dev/zero | tr '\\0' e >&2; echo ok; cat");
    fx.expect_line("ok")?;
    Ok(())
}

#[test]
fn a_helper_whose_output_nobody_reads_never_blocks() -> Result {
    // It ends by itself only if all of its ten megabytes are taken while the test does something else.
    let fx = sh("head -c 10000000 /dev/zero | tr '\\0' x; echo; echo done >&2");
    fx.stderr().expect_line("done")?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn a_helper_is_read_while_the_test_waits_for_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("fifo");
    let _keeps_it_open = crate::scene::make_fifo(&done);
    let script = format!("head -c 5000000 /dev/zero; echo finished > {}", done.display());
    let fx = sh(&script);
    // Reading the FIFO is the only thing that this thread does: the attendant has to take the five megabytes.
    assert_eq!(std::fs::read_to_string(&done).unwrap(), "finished\n");
    drop(fx);
}

#[test]
fn what_is_dropped_for_want_of_room_is_counted_and_said() {
    let fx = Fixture::command("sh")
        .args(["-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2; cat"])
        .buffer(100_000)
        .spawn()
        .unwrap();
    fx.stderr().expect_line("end").unwrap();
    let error = fx.within(ms(100)).expect("never").unwrap_err();
    assert!(format!("{error:?}").contains("older bytes dropped unread"), "{error:?}");
}

#[test]
fn a_needle_after_64_megabytes_is_found_in_bounded_memory() -> Result {
    let before = resident_kib();
    let fx = sh("head -c 67108864 /dev/zero | tr '\\0' '\\n'; echo needle; cat");
    fx.within(Duration::from_secs(60)).expect("needle")?;
    let growth = resident_kib().saturating_sub(before);
    assert!(growth < 16 * 1024, "{growth} KiB more than before");
    Ok(())
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_megabyte_line_is_a_line() -> Result {
    let fx = sh("head -c 1000000 /dev/zero | tr '\\0' l; echo; echo short");
    let line = fx.expect_line(predicate::str::starts_with("llll"))?;
    assert_eq!(line.text().len(), 1_000_000);
    fx.expect_line("short")?;
    Ok(())
}

#[test]
fn a_helper_that_never_reads_is_an_error_that_says_how_much_it_took() {
    let fx = Fixture::command("sleep").arg("50").timeout(ms(200)).spawn().unwrap();
    let error = fx.send(vec![b'x'; 1_000_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("of 1000000 bytes were taken"), "{error}");
}

#[test]
fn a_megabyte_there_and_back_does_not_block_either_side() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let line = "z".repeat(500_000);
    for _ in 0..2 {
        fx.send_line(&line)?;
    }
    fx.expect_line(&line)?;
    fx.expect_line(&line)?;
    Ok(())
}

#[test]
fn the_exit_is_seen_at_once_by_whoever_waits_for_it() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    assert_eq!(fx.try_wait()?, None);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| fx.expect_exit().unwrap())).collect();
        fx.send_eof().unwrap();
        for waiter in waiters {
            assert!(waiter.join().unwrap().success());
        }
    });
    assert!(fx.try_wait()?.unwrap().success());
    assert!(fx.wait()?.success());
    Ok(())
}

#[test]
fn threads_that_wait_for_different_things_of_one_helper_all_get_theirs() -> Result {
    let fx = Fixture::command("sh").args(["-c", "while read -r l; do echo out $l; echo err $l >&2; done"]).spawn()?;
    const ROUNDS: usize = 300;
    std::thread::scope(|scope| {
        let (input, out, err) = (fx.input(), fx.stdout(), fx.stderr());
        scope.spawn(move || (0..ROUNDS).for_each(|i| input.send_line(&i.to_string()).unwrap()));
        scope.spawn(move || (0..ROUNDS).for_each(|i| drop(out.expect_line(format!("out {i}")).unwrap())));
        scope.spawn(move || (0..ROUNDS).for_each(|i| drop(err.expect_line(format!("err {i}")).unwrap())));
    });
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn lines_sent_by_many_threads_never_mix() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    // Longer than a pipe takes atomically, so only turns keep them whole.
    let long = "m".repeat(9000);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (input, long) = (fx.input(), &long);
            scope.spawn(move || {
                for n in 0..20 {
                    input.send_line(&format!("{thread} {n} {long}")).unwrap();
                }
            });
        }
        let mut seen = [0; 8];
        for _ in 0..160 {
            let line = fx.output().recv().unwrap();
            let mut words = line.split(' ');
            let (thread, n) = (words.next().unwrap(), words.next().unwrap());
            assert_eq!(words.next().unwrap(), long);
            let slot = &mut seen[thread.parse::<usize>().unwrap()];
            assert_eq!(n.parse::<i32>().unwrap(), *slot, "the lines of one thread stay in order");
            *slot += 1;
        }
    });
    Ok(())
}

#[test]
fn waiting_costs_no_cpu_neither_in_silence_nor_after_the_end_of_the_streams() {
    // In a process of its own: other tests burn CPU in this one.
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("idle")).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    for line in report.lines() {
        let (what, used) = line.rsplit_once(' ').unwrap();
        let used: u64 = used.parse().unwrap();
        assert!(used < 20_000, "{what}: {used} µs of CPU in a second of waiting");
    }
    assert_eq!(report.lines().count(), 5, "{report}");
}
