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
    let report = format!("{error:#}");
    assert!(report.contains("expected   \"wanted\"") && report.contains("got        \"got\""), "{report}");
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

/// A check that is slower than the flood must neither outlast its deadline nor keep everybody else out.
#[test]
fn a_line_whose_beginning_was_dropped_is_flagged() -> Result {
    let fx = Fixture::command("sh").args(["-c", "head -c 500000 /dev/zero | tr '\\0' x; echo; echo next"]);
    let fx = fx.buffer(10_000).spawn()?;
    fx.expect_exit()?;
    assert!(fx.expect_line(predicate::str::ends_with("x"))?.is_truncated());
    assert!(!fx.expect_line("next")?.is_truncated());
    let all = Fixture::command("echo").arg("hello").buffer(usize::MAX).spawn()?;
    assert!(!all.expect_line("hello")?.is_truncated());
    Ok(())
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
    for (script, status) in
        [("echo dying >&2; exit 3", "status 3"), ("exit 0", "status 0"), ("kill -9 $$", "was killed by SIGKILL")]
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
    // It leaves when the other one has its arguments, by which it is named below.
    let fx = sh("sleep 50 & until grep -q 50 /proc/$!/cmdline; do :; done; exit 4");
    let began = Instant::now();
    let error = fx.expect_line("never").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(format!("{error:?}").contains("it left behind: pid"), "{error:?}");
    assert!(began.elapsed() < ms(5000));
    assert_eq!(fx.expect_exit().unwrap().code(), Some(4));
    let stopped = fx.stop().unwrap();
    assert!(began.elapsed() < ms(5000), "the stop is bounded");
    assert_eq!(stopped.escapees().len(), 1);
    assert!(stopped.escapees()[0].command().contains("sleep 50"), "{stopped:?}");
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
fn invalid_utf8_ends_no_conversation_and_is_shown() -> Result {
    let fx = sh("printf 'a\\377b\\n\\303\\n'; echo fine");
    fx.expect_line("a\u{fffd}b").expect_err("a literal is compared byte by byte with what came");
    fx.expect_line(predicate::eq("a\u{fffd}b"))?;
    fx.expect("fine")?;
    assert!(fx.transcript().to_string().contains("a\\xffb"), "{}", fx.transcript());
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

/// Nothing is left of the helper, but a copy of its output's end is: as in what the test process starts by itself, between
/// fork and exec.
#[test]
fn the_end_of_a_stream_may_come_a_moment_after_that_of_the_helper() -> Result {
    let hold = |fx: &Fixture| std::fs::File::options().write(true).open(format!("/proc/{}/fd/1", fx.id())).unwrap();
    let fx = Fixture::command("cat").spawn()?;
    let held = hold(&fx);
    fx.stop()?;
    let waiter = std::fs::read_link("/proc/thread-self").unwrap();
    let said = std::thread::scope(|scope| {
        scope.spawn(move || {
            let stat = std::path::Path::new("/proc").join(waiter).join("stat");
            while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
                std::thread::yield_now();
            }
            drop(held);
        });
        fx.expect_eof()
    });
    assert_eq!(said?, "");
    // The control: it is not waited for without end.
    let fx = Fixture::command("cat").spawn()?;
    let held = hold(&fx);
    fx.stop()?;
    let began = Instant::now();
    assert_eq!(fx.expect_eof().unwrap_err().kind(), ErrorKind::Exited);
    assert!(began.elapsed() < ms(5000), "{:?}", began.elapsed());
    drop(held);
    Ok(())
}
