//! The verbs beyond `expect` and `expect_line`, and the matchers with holes: what each takes, what it leaves, when it gives up.

use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};

/// A shell that runs this script.
fn sh(script: &str) -> Fixture {
    Fixture::command("sh").args(["-c", script]).spawn().unwrap()
}

fn cat() -> Fixture {
    Fixture::command("cat").spawn().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Long enough for anything that comes, on any machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_capture_at_the_end_waits_for_the_end_of_its_line() -> Result {
    let fx = cat();
    fx.send("port=80")?;
    // It is there, and it is not the whole number.
    fx.within(LONG).expect("=80")?;
    fx.send("80\n")?;
    fx.expect("80")?;
    for matcher in ["port={port}", "[..]={port}"] {
        fx.send("port=80")?;
        let early = fx.within(ms(30)).expect(like(matcher)).unwrap_err();
        assert!(early.is_timeout(), "{early}");
        fx.send("80\n")?;
        assert_eq!(fx.expect(like(matcher))?.get::<u16>("port")?, 8080);
    }
    fx.send("port=80")?;
    assert!(fx.within(ms(30)).expect(regex(r"port=(\d+)")).unwrap_err().is_timeout());
    fx.send("80\n")?;
    assert_eq!(fx.expect(regex(r"port=(\d+)"))?.get::<u16>("1")?, 8080);
    Ok(())
}

#[test]
fn templates_and_patterns_take_their_place_and_leave_the_rest_of_the_line() -> Result {
    let fx = sh("printf 'a=1 b=2 c=3\\r\\nnext\\n'");
    assert_eq!(fx.expect(like("a={a} "))?.get::<u8>("a")?, 1);
    let b = fx.expect(regex(r"b=(?<b>\d)"))?;
    assert_eq!((b.get::<u8>("b")?, b.text(), b.skipped()), (2, "b=2", ""));
    assert_eq!(fx.expect(like("c={c}"))?.get::<String>("c")?, "3");
    fx.expect_line("next")?;
    Ok(())
}

#[test]
fn a_line_is_compared_as_a_whole_with_a_template() -> Result {
    let fx = sh("echo '{\"port\": 80}'; echo took 5 ms; read x");
    assert_eq!(fx.expect_line(like("{\"port\": {port}}"))?.get::<u16>("port")?, 80);
    let error = fx.expect_line(like("took {n}ms")).map(|m| m.text().to_owned());
    assert_eq!(error.unwrap(), "took 5 ms", "the capture is `5 `");
    Ok(())
}

#[test]
fn what_is_no_matcher_is_refused_where_it_is_used() {
    let fx = cat();
    for error in [
        fx.expect(like("{a}{b}")).unwrap_err(),
        fx.expect_line(like("one\ntwo")).unwrap_err(),
        fx.expect(regex("(")).unwrap_err(),
        fx.expect(regex("")).unwrap_err(),
        fx.expect_prompt("text\n").unwrap_err(),
        fx.expect_any(Vec::<&str>::new()).unwrap_err(),
        fx.expect_unordered(("fine", "")).unwrap_err(),
        fx.expect_none("").unwrap_err(),
        fx.select("a\nb").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let builder = Fixture::command("cat").fail_on(regex("["));
    assert_eq!(builder.spawn().unwrap_err().kind(), ErrorKind::InvalidInput);
    let builder = Fixture::command("cat").ready(Ready::tcp("{addr}"));
    let error = builder.spawn().unwrap_err();
    assert!(error.to_string().contains("nothing before it captures `addr`"), "{error}");
}

#[test]
fn a_capture_that_is_missing_or_of_another_type_says_so() -> Result {
    let fx = sh("echo took forever");
    let found = fx.expect_line(like("took {time}"))?;
    let error = found.get::<u64>("time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capture);
    let text = format!("{error:?}");
    assert!(text.contains("`forever` is no `u64`") && text.contains("vocabulary.rs"), "{text}");
    let text = format!("{:?}", found.get::<u64>("tiem").unwrap_err());
    assert!(text.contains("none of this name") && text.contains("time=\"forever\""), "{text}");
    assert_eq!(found.captures().collect::<Vec<_>>(), [("time", "forever")]);
    Ok(())
}

#[test]
fn bytes_that_are_no_text_can_be_expected() -> Result {
    let fx = sh("printf 'x\\377\\376 80\\n\\377\\n'");
    fx.expect(b"\xff\xfe")?;
    let found = fx.expect(like(" {port}"))?;
    assert_eq!(found.get::<u16>("port")?, 80);
    assert_eq!(fx.expect_line(like("{x}"))?.get::<String>("x")?, "\u{fffd}");
    Ok(())
}

#[test]
fn a_prompt_is_what_nothing_follows() -> Result {
    let fx = cat();
    fx.send("> one\nname> ")?;
    let found = fx.expect_prompt("> ")?;
    assert_eq!(found.skipped(), "> one\nname");
    // With something behind it, it is none; without anything before it, it is one.
    fx.send("> more")?;
    assert!(fx.within(ms(30)).expect_prompt("> ").unwrap_err().is_timeout());
    fx.send("\n> ")?;
    fx.expect_prompt("> ")?;
    fx.send("user@host:~$ ")?;
    assert_eq!(fx.expect_prompt(like("{user}@[..]$ "))?.get::<String>("user")?, "user");
    fx.send("In [12]: ")?;
    assert_eq!(fx.expect_prompt(regex(r"\[(\d+)\]: "))?.get::<u8>("1")?, 12);
    fx.send("\nsure? ")?;
    fx.expect_prompt(|line: &str| line == "sure? ")?;
    fx.send("a line\n")?;
    assert!(fx.within(ms(30)).expect_prompt(predicate::always()).unwrap_err().is_timeout());
    Ok(())
}

#[test]
fn of_several_the_first_to_begin_wins_and_the_rest_stays() -> Result {
    let fx = sh("printf 'zero one two\\nthree\\n'; read x");
    let (index, found) = fx.expect_any(["two", "one"])?;
    assert_eq!((index, found.text(), found.skipped()), (1, "one", "zero "));
    let (index, _) = fx.expect_any(("three", regex("t(w)o"), predicate::eq("never")))?;
    assert_eq!(index, 1);
    fx.expect_line("three")?;
    let error = fx.within(ms(20)).expect_any(("four", like("five {x}"))).unwrap_err();
    let text = format!("{error:?}");
    assert!(error.is_timeout() && text.contains("`four` or `five {x}`"), "{text}");
    Ok(())
}

#[test]
fn all_of_several_come_in_any_order_and_each_has_a_place_of_its_own() -> Result {
    let fx = sh("echo b 2; echo noise; echo a; echo a; echo rest; read x");
    let all = fx.expect_unordered(("a", "a", like("b {n}")))?;
    assert_eq!(all[2].get::<u8>("n")?, 2);
    fx.expect_line("rest")?;
    Ok(())
}

#[test]
fn what_is_missing_of_several_is_said_and_nothing_is_consumed() -> Result {
    let fx = sh("echo one; echo two; read x");
    let error = fx.within(ms(50)).expect_unordered(["two", "three", "one", "one"]).unwrap_err();
    let text = format!("{error:?}");
    assert!(
        error.is_timeout() && text.contains("missing    \"three\"") && text.contains("found      \"two\""),
        "{text}"
    );
    assert_eq!(text.matches("missing ").count(), 2, "one `one` is not two: {text}");
    fx.expect_line("one")?;
    fx.expect_line("two")?;
    Ok(())
}

#[test]
fn silence_is_broken_by_anything_and_ends_with_the_stream() -> Result {
    let fx = sh("echo ready; read x; echo surprise; read x");
    fx.expect("ready")?;
    // The line ending behind the match is no word.
    fx.expect_silence(ms(30))?;
    fx.send_line("")?;
    let began = Instant::now();
    let error = fx.expect_silence(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    assert!(format!("{error:?}").contains("got        \"surprise\""), "{error:?}");
    fx.expect_line("surprise")?;
    fx.send_eof()?;
    fx.expect_silence(LONG)?;
    assert!(began.elapsed() < LONG / 2, "the end of the stream is an answer");
    Ok(())
}

#[test]
fn silence_lasts_as_long_as_it_was_asked_for() -> Result {
    let fx = cat();
    let began = Instant::now();
    fx.expect_silence(ms(60))?;
    assert!(began.elapsed() >= ms(60), "{:?}", began.elapsed());
    let noted = fx.transcript().to_string();
    assert!(noted.contains("ok  | expect silence    <- tests/it/vocabulary.rs"), "{noted}");
    Ok(())
}

#[test]
fn none_looks_at_what_is_there_and_with_a_limit_at_what_comes() -> Result {
    let fx = sh("echo fine; echo 'WARN: old' >&2; printf partial; read x; echo WARN: late; read x");
    fx.expect("fine")?;
    fx.stderr().within(LONG).expect_line("WARN: old")?;
    fx.expect("partial")?;
    let began = Instant::now();
    fx.expect_none("WARN")?;
    fx.stderr().expect_none(predicate::str::contains("WARN"))?;
    assert!(began.elapsed() < LONG / 2, "without a limit it does not wait");
    fx.send_line("")?;
    let error = fx.within(LONG).expect_none(like("WARN: {what}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    // It was only looked at.
    fx.expect_line("WARN: late")?;
    fx.send_eof()?;
    fx.within(LONG).expect_none("WARN")?;
    assert!(began.elapsed() < LONG / 2, "the end of the stream is an answer");
    Ok(())
}

#[test]
fn what_stands_there_without_a_line_ending_counts() -> Result {
    let fx = sh("printf 'half a WARNING'; read x");
    fx.expect("half")?;
    let error = fx.within(ms(50)).expect_none(predicate::str::contains("WARNING")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    Ok(())
}

#[test]
fn an_answer_comes_after_its_question() -> Result {
    // The first `4` is no answer.
    let fx = sh("echo version 4; echo up >&2; while read a b; do echo $((a + b)); done");
    fx.stderr().expect_line("up")?;
    let found = fx.ask("2 2", "4")?;
    assert_eq!(found.skipped(), "version 4\n");
    Ok(())
}

#[test]
fn unsolicited_lines_between_question_and_answer_are_reported_or_kept() -> Result {
    let fx = sh("while read a; do echo event 1; echo answer $a; echo event 2; done");
    let found = fx.ask("x", like("answer {a}"))?;
    assert_eq!((found.get::<String>("a")?.as_str(), found.skipped()), ("x", "event 1\n"));
    fx.expect_line("event 2")?;
    fx.send_line("y")?;
    assert_eq!(fx.select(like("answer {a}"))?.get::<String>("a")?, "y");
    fx.expect_line("event 1")?;
    fx.expect_line("event 2")?;
    let error = fx.within(ms(20)).select("answer").unwrap_err();
    assert!(error.is_timeout(), "{error}");
    Ok(())
}

#[test]
fn selecting_takes_whole_lines_out_and_keeps_the_order_of_the_rest() -> Result {
    let fx = cat();
    let numbers: Vec<u32> = (0..500).map(|n| (n * 7919) % 500).collect();
    for n in &numbers {
        fx.send_line(&format!("line {n}"))?;
    }
    for n in (0..500).filter(|n| n % 3 == 0) {
        fx.select(format!("line {n}"))?;
    }
    for n in numbers.iter().filter(|n| *n % 3 != 0) {
        fx.expect_line(format!("line {n}"))?;
    }
    fx.expect_silence(ms(10))
}

#[test]
fn a_line_that_must_not_come_ends_every_wait() -> Result {
    let script = "echo ready; read x; echo \"thread 'main' panicked at src/x.rs\" >&2; echo more; read x";
    let spawn =
        || Fixture::command("sh").args(["-c", script]).fail_on("panicked at").fail_on(like("FATAL {x}")).spawn();
    let fx = spawn()?;
    fx.expect_line("ready")?;
    fx.expect_silence(ms(10))?;
    fx.send_line("")?;
    let began = Instant::now();
    let error = fx.within(LONG).expect("never said").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    assert!(began.elapsed() < LONG / 2);
    let text = format!("{error:?}");
    assert!(text.contains("on stderr what it must not say") && text.contains("panicked at src/x.rs"), "{text}");
    assert_eq!(fx.expect_line("more").unwrap_err().kind(), ErrorKind::Unwanted, "from then on nothing succeeds");
    assert_eq!(fx.expect_exit().unwrap_err().kind(), ErrorKind::Unwanted);
    assert_eq!(fx.finish().unwrap_err().kind(), ErrorKind::Unwanted);
    // Nothing of the kind is said, and nothing fails.
    let fx = spawn()?;
    fx.expect_line("ready")?;
    fx.expect_none("more")?;
    fx.stop()?;
    Ok(())
}

#[test]
fn a_line_that_must_not_come_is_seen_in_pieces_and_at_the_end() -> Result {
    let fx = Fixture::command("cat").fail_on("bad").spawn()?;
    for piece in ["not b", "a", "d"] {
        fx.send(piece)?;
        fx.expect(piece)?;
    }
    fx.send_eof()?;
    let error = fx.expect_exit().and_then(|_| fx.expect_eof().map(|_| ())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted, "{error:?}");
    Ok(())
}

#[test]
fn nobody_waits_and_the_line_that_must_not_come_is_seen() -> Result {
    let fx =
        Fixture::command("sh").args(["-c", "seq 1 100000; echo bad; seq 1 500000; read x"]).fail_on("bad").spawn()?;
    // Far more than is kept unread has passed by when somebody waits again.
    let error = fx.within(LONG).expect("\n500000\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    Ok(())
}

/// One panic is a test's failure; a second one, from the fixture that it drops, would end the whole binary.
#[test]
fn a_judge_that_panics_counts_as_a_line_that_must_not_come() {
    let spawn = || {
        let script = "while read x; do echo WARN; done; echo WARN; echo WARN";
        let judge = |line: &str| {
            assert!(!line.contains("WARN"), "{line}");
            false
        };
        Fixture::command("sh").args(["-c", script]).fail_on(judge).spawn().unwrap()
    };
    let fx = spawn();
    fx.send_line("").unwrap();
    let error = fx.within(LONG).expect("never said").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    assert!(format!("{error:#}").contains("which panicked"), "{error:#}");
    let unwound = std::panic::catch_unwind(|| {
        let fx = spawn();
        fx.send_line("").unwrap();
        let _ = fx.within(LONG).expect("never said");
        panic!("the test's own");
    });
    assert_eq!(unwound.unwrap_err().downcast_ref::<&str>(), Some(&"the test's own"));
}

/// More than one read brings.
#[test]
fn what_is_there_is_all_that_is_there() -> Result {
    for terminal in [false, true] {
        let tool = Fixture::command("sh").in_own_dir();
        let tool = tool.args(["-c", "mkfifo end; echo up; seq 1 3000; echo ERROR; echo through > end; read x"]);
        let fx = if terminal { tool.pty() } else { tool }.spawn()?;
        fx.expect("up")?;
        let reader = Fixture::command("cat").arg(fx.dir().join("end")).spawn()?;
        reader.within(LONG).expect_line("through")?;
        let error = fx.expect_none("ERROR").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unwanted, "on a terminal: {terminal}");
    }
    Ok(())
}

/// Whoever reads asks it, also the thread that reads for those on whom nobody waits; and that one goes on.
#[test]
fn a_judge_that_uses_its_own_fixture_stops_nobody_else() -> Result {
    let own = std::sync::Arc::new(std::sync::Mutex::new(None::<foster::Output>));
    let slot = std::sync::Arc::clone(&own);
    let uses_it = move |_: &str| slot.lock().unwrap().as_ref().is_some_and(|output| output.try_recv().is_some());
    let fx = Fixture::command("cat").fail_on(uses_it).spawn()?;
    *own.lock().unwrap() = Some(fx.output());
    fx.send_line("x")?;
    // It gets through only if somebody reads all of that while nobody waits for it.
    let flood =
        Fixture::command("sh").args(["-c", "mkfifo end; echo up; seq 1 1000000; echo through > end"]).in_own_dir();
    let flood = flood.spawn()?;
    flood.expect_line("up")?;
    let reader = Fixture::command("cat").arg(flood.dir().join("end")).spawn()?;
    reader.within(LONG).expect_line("through")?;
    Ok(())
}

#[test]
fn a_restart_begins_a_new_conversation_in_the_same_directory() -> Result {
    let script = "echo x >> log; echo ready $$; read x; exit 3";
    let mut fx =
        Fixture::command("sh").args(["-c", script]).in_own_dir().ready(Ready::line(like("ready {pid}"))).spawn()?;
    let first: u32 = fx.capture("pid")?;
    assert_eq!(first, fx.id());
    let (dir, output) = (fx.dir().to_owned(), fx.output());
    for _ in 0..3 {
        fx.restart()?;
        assert_eq!(fx.capture::<u32>("pid")?, fx.id(), "an old line is no news");
    }
    assert_ne!(fx.id(), first);
    assert_eq!(fx.dir(), dir);
    assert_eq!(std::fs::read_to_string(dir.join("log")).unwrap(), "x\nx\nx\nx\n");
    assert!(!fx.transcript().to_string().contains(&format!("ready {first}\n")));
    assert!(
        matches!(output.recv().unwrap_err().kind(), ErrorKind::Exited | ErrorKind::Eof),
        "a handle stays with its helper"
    );
    assert!(foster::registry::live().iter().all(|e| e.pid() != first), "the first one is gone");
    fx.send_line("")?;
    assert_eq!(fx.expect_exit()?.code(), Some(3));
    fx.restart()?;
    assert_eq!(fx.try_wait()?, None, "it can be restarted after it has ended");
    Ok(())
}

#[test]
fn marks_cut_the_transcript() -> Result {
    let fx = sh("while read a; do echo $a; echo err $a >&2; done");
    fx.ask("one", "one\n")?;
    fx.stderr().expect("err one\n")?;
    let mark = fx.mark();
    fx.ask("two", "two\n")?;
    fx.stderr().expect("err two\n")?;
    let part = fx.since(mark);
    assert_eq!((part.stdout().as_str(), part.stderr().as_str()), ("two\n", "err two\n"));
    assert!(!part.to_string().contains("one") && part.to_string().contains("in  | two"), "{part}");
    assert!(fx.since(fx.mark()).is_empty());
    Ok(())
}

foster::shared! {
    static SHARED = Fixture::command("sh").args(["-c", "echo started >> ${SHARED_LOG:-log}; echo $$; cat"]).in_own_dir();
}

#[test]
fn a_shared_helper_is_started_once() -> Result {
    let ids: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| SHARED.get().map(Fixture::id))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Result<_>>()
    })?;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let fx = SHARED.get()?;
    fx.expect_line(ids[0].to_string())?;
    let log = std::env::var_os("SHARED_LOG").map_or_else(|| fx.dir().join("log"), Into::into);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "started\n");
    Ok(())
}

/// Listing tests starts nothing; the control is the run that does.
#[test]
fn a_shared_helper_is_started_by_use_only() -> Result {
    let own = std::env::current_exe().unwrap();
    let test = "vocabulary::a_shared_helper_is_started_once";
    for (args, started) in [(["--list", test], false), (["--exact", test], true)] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let run = Fixture::command(&own).args(args).env("SHARED_LOG", &log).timeout(LONG);
        run.spawn()?.finish()?.assert().success();
        assert_eq!(log.exists(), started, "{args:?}");
    }
    Ok(())
}

foster::shared! {
    static MISSING = Fixture::command("/no/such/program");
}

#[test]
fn a_shared_helper_that_cannot_start_tells_everybody() {
    for _ in 0..2 {
        let error = MISSING.get().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn);
        assert!(format!("{error:?}").contains("vocabulary.rs"), "{error:?}");
    }
}
