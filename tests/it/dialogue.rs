//! Talking to a helper: what matches, what is consumed, when it gives up, and that nothing is lost or blocks.

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
fn two_lines_in_one_chunk_are_two_lines() -> Result {
    let fx = sh("printf 'one\\ntwo\\n'");
    fx.expect_line("one")?;
    fx.expect_line("two")?;
    assert_eq!(fx.expect_eof()?, "");
    Ok(())
}

#[test]
fn expect_passes_over_what_comes_before_and_says_what_it_was() -> Result {
    let fx = sh("printf 'noise\\nready on port=80\\nlast\\n'");
    let found = fx.expect("port=80")?;
    assert_eq!((found.text(), found.skipped()), ("port=80", "noise\nready on "));
    fx.expect_line("last")?;
    Ok(())
}

#[test]
fn a_literal_may_span_lines_and_chunks() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for piece in ["x on", "e\ntw", "o y"] {
        fx.send(piece)?;
    }
    fx.expect("one\ntwo")?;
    fx.expect(" y")?;
    Ok(())
}

#[test]
fn every_cut_of_a_multi_byte_text_is_found() -> Result {
    let text = "grün→µs✓";
    let bytes = text.as_bytes();
    let fx = Fixture::command("cat").spawn()?;
    for cut in 0..=bytes.len() {
        fx.send(&bytes[..cut])?;
        if cut < bytes.len() {
            assert!(fx.within(Duration::ZERO).expect(text).is_err(), "found before it was whole, at {cut}");
        }
        fx.send(&bytes[cut..])?;
        fx.expect(text)?;
    }
    Ok(())
}

#[test]
fn after_a_match_inside_a_line_the_rest_of_it_is_the_next_line() -> Result {
    let fx = sh("printf 'name? hello Bob\\nready\\nnext\\n'");
    fx.expect("name? ")?;
    fx.expect_line("hello Bob")?;
    // A match that reaches the end of its line takes the line ending with it.
    fx.expect("ready")?;
    fx.expect_line("next")?;
    Ok(())
}

#[test]
fn empty_lines_and_other_line_endings_are_lines() -> Result {
    let fx = sh("printf '\\n\\r\\na\\rb\\0\\r\\n\\nend'");
    for line in ["", "", "a\rb\0", ""] {
        fx.expect_line(line)?;
    }
    let last = fx.expect_line("end")?;
    assert!(last.is_partial());
    Ok(())
}

#[test]
fn a_final_partial_line_can_be_matched_and_is_flagged() -> Result {
    let fx = sh("printf 'whole\\npart'");
    assert!(!fx.expect(predicate::str::contains("whole"))?.is_partial());
    assert!(fx.expect(predicate::str::contains("part"))?.is_partial());
    Ok(())
}

#[test]
fn a_predicate_sees_only_whole_lines() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    fx.send("port=80")?;
    let early = fx.within(ms(50)).expect(predicate::str::starts_with("port="));
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Timeout);
    fx.send("80\n")?;
    assert_eq!(fx.expect(predicate::str::starts_with("port="))?.text(), "port=8080");
    Ok(())
}

#[test]
fn closures_are_matchers_and_may_keep_what_they_have_seen() -> Result {
    let fx = sh("seq 1 10");
    let mut sum = 0;
    fx.expect(|line: &str| {
        sum += line.parse::<u32>().unwrap();
        sum > 20
    })?;
    assert_eq!(sum, 21);
    fx.expect_line("7")?;
    Ok(())
}

#[test]
fn a_mismatch_consumes_nothing_and_says_both() -> Result {
    let fx = sh("echo got");
    let error = fx.expect_line("wanted").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let report = format!("{error:?}");
    assert!(report.contains("expected   wanted") && report.contains("got        got"), "{report}");
    fx.expect_line("got")?;
    Ok(())
}

#[test]
fn a_timeout_consumes_nothing_and_comes_on_time() -> Result {
    let fx = sh("echo here; cat");
    let began = Instant::now();
    let error = fx.within(ms(150)).expect("never").unwrap_err();
    let took = began.elapsed();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(took >= ms(150) && took < ms(2000), "{took:?}");
    fx.expect_line("here")?;
    Ok(())
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
fn a_timeout_of_zero_looks_at_what_is_there_and_huge_ones_do_not_overflow() -> Result {
    let fx = Fixture::command("cat").timeout(Duration::MAX).spawn()?;
    assert!(fx.within(Duration::ZERO).expect("x").unwrap_err().is_timeout());
    fx.send_line("x")?;
    fx.expect_line("x")?;
    fx.send("y")?;
    fx.expect("y")?;
    assert!(fx.within(Duration::ZERO).expect_exit().unwrap_err().is_timeout());
    let zero = Fixture::command("cat").timeout(Duration::ZERO).spawn()?;
    zero.send_line("fits into the pipe at once")?;
    assert!(zero.expect("fits").is_err() || zero.id() > 0);
    Ok(())
}

#[test]
fn an_exit_ends_the_wait_at_once_with_status_and_last_words() {
    for (script, status) in [("echo dying >&2; exit 3", "status 3"), ("exit 0", "status 0"), ("kill -9 $$", "SIGKILL")]
    {
        let fx = sh(script);
        let began = Instant::now();
        let error = fx.expect("never").unwrap_err();
        assert!(began.elapsed() < ms(5000));
        assert_eq!(error.kind(), ErrorKind::Exited, "{error:?}");
        assert!(error.to_string().contains(status), "{error}");
        assert!(!script.contains("dying") || format!("{error:?}").contains("err | dying"), "{error:?}");
    }
}

#[test]
fn an_exit_ends_the_wait_although_a_grandchild_holds_the_output() {
    let fx = sh("sleep 50 & exit 4");
    let began = Instant::now();
    let error = fx.expect_line("never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(format!("{error:?}").contains("it left behind: pid"), "{error:?}");
    assert!(began.elapsed() < ms(5000));
    assert_eq!(fx.expect_exit().unwrap().code(), Some(4));
    let stopped = fx.stop().unwrap();
    assert!(began.elapsed() < ms(5000), "the stop is bounded");
    assert_eq!(stopped.escapees().len(), 1);
    assert_eq!(stopped.escapees()[0].command(), "sleep 50");
}

#[test]
fn the_end_of_one_stream_is_not_an_exit() {
    let fx = sh("exec >&-; exec cat >&2");
    let error = fx.expect("never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Eof, "{error:?}");
    assert!(error.to_string().contains("has closed its stdout"), "{error}");
    assert_eq!(fx.expect_eof().unwrap(), "");
}

#[test]
fn the_last_words_are_never_lost() -> Result {
    for round in 0..200 {
        let fx = sh("echo last; exit 7");
        fx.expect_line("last")?;
        assert_eq!(fx.expect_exit()?.code(), Some(7), "round {round}");
    }
    Ok(())
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
fn invalid_utf8_ends_no_conversation_and_is_shown() -> Result {
    let fx = sh("printf 'a\\377b\\n\\303\\n'; echo fine");
    fx.expect_line("a\u{fffd}b").expect_err("a literal is compared byte by byte with what came");
    fx.expect_line(predicate::eq("a\u{fffd}b"))?;
    fx.expect("fine")?;
    assert!(fx.transcript().to_string().contains("a\\xffb"), "{}", fx.transcript());
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
fn a_helper_that_closes_its_input_is_a_typed_error() {
    let fx = sh("exec <&-; echo closed; sleep 50");
    fx.expect_line("closed").unwrap();
    let error = fx.send_line("anybody?").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputClosed, "{error:?}");
    let fx = Fixture::command("cat").spawn().unwrap();
    fx.send_eof().unwrap();
    assert_eq!(fx.send("x").unwrap_err().kind(), ErrorKind::InputClosed);
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
fn channel_handles_become_std_channels() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let (sender, receiver) = (fx.input().into_sender(), fx.output().into_receiver());
    sender.send(b"one\ntwo\n".to_vec()).unwrap();
    assert_eq!(receiver.recv().unwrap(), "one");
    assert_eq!(receiver.recv().unwrap(), "two");
    fx.send_eof()?;
    assert!(receiver.recv().is_err(), "the channel ends with the stream");
    Ok(())
}

#[test]
fn try_recv_never_waits_and_lines_end_with_the_stream() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    assert_eq!(fx.output().try_recv(), None);
    fx.send("a\nb\nhalf")?;
    fx.send_eof()?;
    let lines: Vec<String> = fx.output().lines().collect::<Result<_>>()?;
    assert_eq!(lines, ["a", "b", "half"]);
    assert_eq!(fx.output().recv().unwrap_err().kind(), ErrorKind::Exited);
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
    assert_eq!(report.lines().count(), 4, "{report}");
}

#[test]
fn a_matcher_that_uses_its_own_fixture_is_told_so() {
    let fx = sh("echo x; cat");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = fx.expect(|_: &str| fx.output().try_recv().is_some());
    }));
    let message = *result.unwrap_err().downcast::<&str>().unwrap();
    assert!(message.contains("must not use the fixture"), "{message}");
    // And a matcher that panics leaves the fixture usable.
    fx.expect_line("x").unwrap();
}

#[test]
fn expecting_nothing_or_a_line_with_a_line_ending_is_refused() {
    let fx = sh("echo x; cat");
    assert_eq!(fx.expect("").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fx.expect_line("x\n").unwrap_err().kind(), ErrorKind::InvalidInput);
    fx.expect_line("x").unwrap();
}
