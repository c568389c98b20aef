//! Messages that tasks send: they block no executor, never mix, and a future that is dropped leaves no half message.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(20);

/// More than fits into any pipe.
const LARGE: usize = 300_000;

fn sh(script: &str) -> FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn line_of(letter: char, length: usize) -> String {
    std::iter::repeat_n(letter, length).chain(['\n']).collect()
}

/// Is this line such a one, whole and unmixed?
fn whole(letter: char, length: usize) -> impl FnMut(&str) -> bool + Send {
    move |line| line.len() == length && line.chars().all(|c| c == letter)
}

/// A helper that reads nothing before a line comes through the FIFO `go`, and then repeats everything.
fn late_reader() -> Result<Fixture> {
    let fx = sh("mkfifo go; echo up; read x < go; exec cat").in_own_dir().buffer(64 << 20).spawn()?;
    fx.expect_line("up")?;
    Ok(fx)
}

fn go(fx: &Fixture) {
    std::fs::write(fx.dir().join("go"), "go\n").unwrap();
}

/// Polls once, with a waker that nobody hears.
fn begin<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_message_that_does_not_fit_does_not_block_the_executor() -> Result {
    one_thread().block_on(async {
        let (deaf, other) = (late_reader()?, Fixture::command("cat").spawn()?);
        let mut asked = None;
        let began = Instant::now();
        let limited = deaf.within(ms(1000)).futures().send(line_of('a', LARGE));
        let talk = async {
            for n in 0..10 {
                other.futures().ask(&n.to_string(), n.to_string().as_str()).await?;
            }
            asked = Some(began.elapsed());
            Ok::<_, foster::Error>(())
        };
        let (sent, talked) = tokio::join!(limited, talk);
        talked?;
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains(&format!("of {} bytes were taken", LARGE + 1)), "{error}");
        assert!(began.elapsed() >= ms(1000) && began.elapsed() < ms(5000));
        assert!(asked.unwrap() < ms(1000), "the executor was blocked: {asked:?}");
        Ok(())
    })
}

#[test]
fn a_message_is_sent_whole_as_the_helper_reads() -> Result {
    let fx = late_reader()?;
    one_thread().block_on(async {
        let message = line_of('a', 20 * LARGE);
        let mut send = pin!(fx.within(SOON).futures().send(&message));
        assert!(begin(send.as_mut()));
        go(&fx);
        send.await?;
        fx.within(SOON).futures().expect_line(whole('a', 20 * LARGE)).await?;
        Ok(())
    })
}

#[test]
fn both_sides_may_talk_at_the_same_time() -> Result {
    one_thread().block_on(async {
        let fx = Fixture::command("cat").buffer(64 << 20).spawn()?;
        let message = line_of('x', 20 * LARGE);
        fx.within(SOON).futures().send(&message).await?;
        let back = fx.within(SOON).futures().expect_line(whole('x', 20 * LARGE)).await?;
        assert!(!back.is_truncated());
        Ok(())
    })
}

#[test]
fn messages_of_tasks_and_threads_never_mix() -> Result {
    const EACH: usize = 20;
    let fx = Fixture::command("cat").buffer(64 << 20).spawn()?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let mut tasks = Vec::new();
    for letter in ['a', 'b', 'c'] {
        let input = fx.input().within(SOON).futures();
        tasks.push(runtime.spawn(async move {
            for _ in 0..EACH {
                input.send(line_of(letter, LARGE)).await?;
            }
            Ok::<_, foster::Error>(())
        }));
    }
    let input = fx.input().within(SOON);
    let thread = std::thread::spawn(move || (0..EACH).try_for_each(|_| input.send(line_of('d', LARGE))));
    for _ in 0..4 * EACH {
        fx.within(SOON).expect_line(|line: &str| line.chars().next().is_some_and(|c| whole(c, LARGE)(line)))?;
    }
    for task in tasks {
        runtime.block_on(task).unwrap()?;
    }
    thread.join().unwrap()?;
    Ok(())
}

#[test]
fn a_message_whose_future_is_dropped_half_way_is_sent_whole_and_before_all_others() -> Result {
    let fx = late_reader()?;
    {
        let mut half = pin!(fx.futures().send(line_of('a', LARGE)));
        assert!(begin(half.as_mut()), "it does not fit");
        // Its turn has not come: dropped, it is not sent.
        let mut waits = pin!(fx.futures().send(line_of('b', 10)));
        assert!(begin(waits.as_mut()));
    }
    let input = fx.input().within(SOON);
    let thread = std::thread::spawn(move || input.send(line_of('c', LARGE)));
    let mut task = pin!(fx.within(SOON).futures().send(line_of('d', LARGE)));
    assert!(begin(task.as_mut()));
    go(&fx);
    fx.within(SOON).expect_line(whole('a', LARGE))?;
    pollster::block_on(task)?;
    thread.join().unwrap()?;
    fx.send_eof()?;
    let rest = fx.expect_eof()?;
    let mut lines: Vec<&str> = rest.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    assert!(whole('c', LARGE)(lines[0]) && whole('d', LARGE)(lines[1]));
    Ok(())
}

#[test]
fn a_matcher_that_takes_its_time_holds_up_no_other_helper() -> Result {
    let script = "mkfifo go; echo up; echo judge me; read x < go; exec cat";
    let fx = sh(script).in_own_dir().buffer(64 << 20).spawn()?;
    fx.expect_line("up")?;
    assert!(begin(pin!(fx.futures().send(line_of('a', LARGE))).as_mut()));
    let (entered, is_entered) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let judge = move |_: &str| {
            entered.send(()).unwrap();
            // Until the sender is dropped.
            is_released.recv_timeout(3 * SOON).is_err()
        };
        let slow = scope.spawn(|| fx.within(4 * SOON).expect_line(judge).map(drop));
        is_entered.recv_timeout(SOON).expect("it is asked");
        // There is room now for more of the message, and nobody who could write it down.
        go(&fx);
        let (done, is_done) = mpsc::channel();
        let other = scope.spawn(move || {
            let talk = async {
                let other = Fixture::command("cat").spawn_async().await?;
                for n in 0..20 {
                    other.futures().ask(&n.to_string(), n.to_string().as_str()).await?;
                }
                Ok::<_, foster::Error>(())
            };
            let _ = done.send(pollster::block_on(talk));
        });
        let talked = is_done.recv_timeout(SOON);
        drop(release);
        slow.join().unwrap()?;
        other.join().unwrap();
        talked.expect("the other helper is served")
    })?;
    fx.within(SOON).expect_line(whole('a', LARGE)).map(drop)
}

#[test]
fn the_transcript_has_what_was_sent_and_by_whom() -> Result {
    let fx = sh("mkfifo go; echo up; read x < go; exec wc -c").in_own_dir().spawn()?;
    fx.expect_line("up")?;
    assert!(begin(pin!(fx.futures().send(line_of('a', LARGE))).as_mut()));
    let _ = begin(pin!(fx.futures().send("never sent")).as_mut());
    go(&fx);
    pollster::block_on(fx.futures().send_line("after it"))?;
    fx.send_eof()?;
    fx.expect_line((LARGE + 1 + "after it\n".len()).to_string().as_str())?;
    let said = fx.transcript().to_string();
    assert!(said.contains("in  | aaa") && said.contains("asynchronous_send.rs"), "{said}");
    assert!(said.contains("in  | after it") && !said.contains("never sent"), "{said}");
    Ok(())
}

/// The end of the input comes after a message that has begun, although its future and the handle are gone.
#[test]
fn the_end_of_the_input_waits_for_what_has_begun() -> Result {
    let fx = late_reader()?;
    assert!(begin(pin!(fx.futures().send(line_of('a', LARGE))).as_mut()));
    fx.send_eof()?;
    assert_eq!(fx.send_line("x").unwrap_err().kind(), ErrorKind::InputClosed);
    assert_eq!(pollster::block_on(fx.futures().send_line("x")).unwrap_err().kind(), ErrorKind::InputClosed);
    go(&fx);
    fx.within(SOON).expect_line(whole('a', LARGE))?;
    assert!(fx.within(SOON).expect_exit()?.success());
    Ok(())
}

#[test]
fn a_turn_that_does_not_come_in_time_is_a_timeout_and_the_next_one_comes() -> Result {
    let fx = late_reader()?;
    let mut first = pin!(fx.within(ms(200)).futures().send(line_of('a', LARGE)));
    assert!(begin(first.as_mut()));
    one_thread().block_on(async {
        let error = fx.within(ms(50)).futures().send("b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("0 of 1 bytes were taken"), "{error}");
        // Its time is up: it gives its turn away, and says how much was sent.
        let mut second = pin!(fx.within(SOON).futures().send(line_of('c', 10)));
        assert!(begin(second.as_mut()));
        assert!(first.await.unwrap_err().is_timeout());
        go(&fx);
        second.await?;
        fx.within(SOON).futures().expect(format!("a{}\n", "c".repeat(10))).await?;
        Ok(())
    })
}

#[test]
fn a_helper_that_closes_its_input_or_ends_is_an_error_of_its_own() -> Result {
    one_thread().block_on(async {
        let fx = sh("exec <&-; echo closed; sleep 50").spawn()?;
        fx.futures().expect_line("closed").await?;
        let error = fx.futures().send_line("x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InputClosed);
        assert!(error.to_string().contains("has closed its input"), "{error}");

        // In the middle of a message, and with another one that waits for its turn.
        let fx = sh("mkfifo go; echo up; read x < go; exit 3").in_own_dir().spawn()?;
        fx.futures().expect_line("up").await?;
        let mut first = pin!(fx.within(SOON).futures().send(line_of('a', LARGE)));
        let mut second = pin!(fx.within(SOON).futures().send("b"));
        assert!(begin(first.as_mut()) && begin(second.as_mut()));
        let began = Instant::now();
        go(&fx);
        let (first, second) = tokio::join!(first, second);
        for error in [first.unwrap_err(), second.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InputClosed);
            assert!(error.to_string().contains("exited with status 3"), "{error}");
        }
        assert!(began.elapsed() < ms(5000));
        Ok(())
    })
}
