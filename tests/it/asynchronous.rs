//! The verbs as futures: on every executor, with total deadlines, and dropped at any moment without a loss.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

/// How long what should happen at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn sh(script: &str) -> FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Runs it on each executor, in a task of its own where there are tasks.
fn everywhere<F: Future<Output = Result> + Send + 'static>(test: impl Fn() -> F) -> Result {
    pollster::block_on(test())?;
    let executor = smol::Executor::new();
    smol::block_on(executor.run(executor.spawn(test())))?;
    one_thread().block_on(test())?;
    two_threads().block_on(async { tokio::spawn(test()).await.unwrap() })
}

/// A waker that tells a channel.
struct Herald(Mutex<mpsc::Sender<()>>);

impl Wake for Herald {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

fn herald() -> (Waker, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    (Waker::from(Arc::new(Herald(Mutex::new(sender)))), receiver)
}

fn poll_once<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Polls once, so that it has begun.
async fn begin<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

async fn every_verb() -> Result {
    let script = "echo one; echo two; echo three; printf 'name? '; read n; echo hello $n; echo warn >&2; read s; \
                  echo bye; exit 3";
    let fx = sh(script).spawn_async().await?;
    let on = fx.futures();
    on.expect_line("one").await?;
    assert_eq!(on.expect(like("t{rest}o")).await?.get::<String>("rest")?, "w");
    assert_eq!(on.expect_any(("four", like("thr{e}"))).await?.0, 1);
    on.expect_prompt("name? ").await?;
    on.send_line("Bob").await?;
    on.expect_line(predicate::str::ends_with("Bob")).await?;
    on.stderr().expect_line("warn").await?;
    on.expect_none("panicked").await?;
    on.send_secret("hush").await?;
    on.expect("bye").await?;
    assert_eq!(on.expect_eof().await?, "\n");
    assert_eq!(on.expect_exit().await?.code(), Some(3));
    assert_eq!(on.wait().await?.code(), Some(3));
    assert!(!fx.transcript().to_string().contains("hush"), "{}", fx.transcript());

    let mut fx = Fixture::command("cat").spawn_async().await?;
    fx.futures().send("4\n").await?;
    assert_eq!(fx.futures().ask("5", "5").await?.skipped(), "4\n");
    fx.futures().send_line("a\nb\nc\nd").await?;
    fx.futures().select("b").await?;
    fx.futures().expect_unordered(["c", "a"]).await?;
    assert_eq!(fx.futures().stdout().recv().await?, "d");
    fx.futures().expect_silence(ms(10)).await?;
    fx.restart_async().await?;
    fx.futures().input().send_line("again").await?;
    fx.futures().stdout().expect_line("again").await?;
    let before = Instant::now();
    assert_eq!(fx.within(ms(30)).futures().expect_exit().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(before.elapsed() >= ms(30));
    fx.futures().kill().await?;
    assert!(fx.futures().stop().await?.status().is_some());

    let fx = sh("cat; echo out; echo err >&2; exit 4").spawn_async().await?;
    fx.futures().send_line("in").await?;
    fx.finish_async().await?.assert().code(4).stdout("in\nout\n").stderr("err\n");
    Ok(())
}

#[test]
fn every_verb_is_awaitable_on_every_executor() -> Result {
    everywhere(every_verb)
}

#[test]
fn futures_of_streams_can_be_given_to_tasks_and_outlive_the_fixture() -> Result {
    let runtime = two_threads();
    let fx = sh("echo ready; read never").spawn()?;
    let (ready, never) = (fx.futures().expect("ready"), fx.futures().expect("never said"));
    let never = runtime.spawn(never);
    runtime.block_on(async { runtime.spawn(ready).await.unwrap() })?;
    drop(fx);
    let began = Instant::now();
    assert_eq!(runtime.block_on(never).unwrap().unwrap_err().kind(), ErrorKind::Exited);
    assert!(began.elapsed() < ms(5000));
    Ok(())
}

#[test]
fn nothing_happens_before_a_future_is_polled() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    drop(fx.futures().send_line("never"));
    drop(fx.futures().wait());
    drop(fx.futures().kill());
    // The limit as well begins with the first poll.
    let line = fx.within(SOON).futures().expect_line("sent");
    fx.send_line("sent")?;
    pollster::block_on(line)?;
    Ok(())
}

#[test]
fn an_expectation_that_is_dropped_has_consumed_nothing() -> Result {
    one_thread().block_on(async {
        let fx = Fixture::command("cat").spawn()?;
        fx.send("port=80")?;
        let there = fx.within(SOON).futures().expect_none("port=80").await;
        assert_eq!(there.unwrap_err().kind(), ErrorKind::Unwanted);
        // By a time limit of the runtime's, by `select!`, and by hand after any number of polls.
        let whole = || fx.futures().expect("port=8080");
        assert!(tokio::time::timeout(ms(20), whole()).await.is_err());
        tokio::select! {
            biased;
            found = whole() => panic!("{found:?}"),
            () = tokio::task::yield_now() => {}
        }
        for polls in 0..4 {
            let mut future = pin!(whole());
            for _ in 0..polls {
                assert!(begin(future.as_mut()).await.is_pending());
            }
        }
        fx.send("80\nnext\n")?;
        assert_eq!(whole().await?.skipped(), "");
        fx.futures().expect_line("next").await?;
        Ok(())
    })
}

/// The control: one that was ready has consumed, so its loss would have been seen above.
#[test]
fn an_expectation_that_was_ready_has_consumed() -> Result {
    let fx = sh("echo once; cat").spawn()?;
    pollster::block_on(fx.futures().expect("once"))?;
    let again = pollster::block_on(fx.within(ms(50)).futures().expect("once"));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Timeout);
    Ok(())
}

#[test]
fn deadlines_are_total_and_on_time() -> Result {
    everywhere(|| async {
        // Silence, one byte after the other, and a flood.
        for script in ["read never", "while :; do printf x; sleep 0.01; done", "yes"] {
            let fx = sh(script).spawn()?;
            let began = Instant::now();
            let error = fx.within(ms(150)).futures().expect("never said").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{script}");
            let took = began.elapsed();
            assert!(took >= ms(150) && took < ms(3000), "{script}: {took:?}");
        }
        // What is there already is found in no time, and what is not, is not waited for.
        let fx = sh("echo there; read never").spawn()?;
        fx.futures().expect("ther").await?;
        fx.within(Duration::ZERO).futures().expect("e").await?;
        assert!(fx.within(Duration::ZERO).futures().expect("more").await.unwrap_err().is_timeout());
        // A limit beyond what the clock knows is none.
        fx.within(Duration::MAX).futures().send_line("x").await?;
        fx.within(Duration::MAX).futures().expect_exit().await?;
        Ok(())
    })
}

#[test]
fn the_exit_ends_a_wait_at_once_with_status_and_last_words() -> Result {
    everywhere(|| async {
        for code in [0, 7] {
            let fx = sh(&format!("read go; echo last words >&2; exit {code}")).spawn()?;
            let began = Instant::now();
            let mut wait = pin!(fx.futures().expect("never said"));
            assert!(begin(wait.as_mut()).await.is_pending());
            fx.send_line("go")?;
            let error = wait.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exited);
            let report = format!("{error:?}");
            assert!(
                report.contains(&format!("exited with status {code}")) && report.contains("last words"),
                "{report}"
            );
            assert!(began.elapsed() < ms(5000));
        }
        Ok(())
    })
}

/// The end of no stream tells of it here.
#[test]
fn the_exit_ends_a_wait_also_when_something_holds_the_streams_open() -> Result {
    everywhere(|| async {
        let fx = sh("sleep 50 & read go; exit 3").spawn()?;
        let began = Instant::now();
        let (mut line, mut exit) = (pin!(fx.futures().expect("never said")), pin!(fx.futures().expect_exit()));
        assert!(begin(line.as_mut()).await.is_pending() && begin(exit.as_mut()).await.is_pending());
        fx.send_line("go")?;
        assert_eq!(line.await.unwrap_err().kind(), ErrorKind::Exited);
        assert_eq!(exit.await?.code(), Some(3));
        assert!(began.elapsed() < ms(5000));
        assert!(fx.within(ms(30)).futures().expect_eof().await.unwrap_err().is_timeout());
        Ok(())
    })
}

#[test]
fn the_last_line_wins_over_the_exit_and_the_end_of_a_stream_ends_its_waits() -> Result {
    everywhere(|| async {
        let fx = sh("read go; printf 'the end'").spawn()?;
        let mut wait = pin!(fx.futures().expect_line("the end"));
        assert!(begin(wait.as_mut()).await.is_pending());
        fx.send_line("go")?;
        assert!(wait.await?.is_partial());

        let fx = sh("exec >&-; read never").spawn()?;
        assert_eq!(fx.futures().expect("never said").await.unwrap_err().kind(), ErrorKind::Eof);
        assert_eq!(fx.within(ms(30)).futures().stderr().expect("x").await.unwrap_err().kind(), ErrorKind::Timeout);
        Ok(())
    })
}

#[test]
fn a_line_that_must_not_come_ends_every_wait() -> Result {
    everywhere(|| async {
        let fx = sh("read go; echo thread panicked at x >&2; read never").fail_on("panicked at").spawn()?;
        let (mut line, mut exit) = (pin!(fx.futures().expect("ready")), pin!(fx.futures().expect_exit()));
        assert!(begin(line.as_mut()).await.is_pending() && begin(exit.as_mut()).await.is_pending());
        fx.send_line("go")?;
        assert_eq!(line.await.unwrap_err().kind(), ErrorKind::Unwanted);
        assert_eq!(exit.await.unwrap_err().kind(), ErrorKind::Unwanted);
        Ok(())
    })
}

#[test]
fn a_flood_on_a_stream_that_nobody_awaits_blocks_nobody() -> Result {
    everywhere(|| async {
        let fx = sh("yes | head -c 20000000 >&2; echo done; read never").spawn()?;
        fx.futures().expect_line("done").await?;
        // And nobody awaits anything while the helper floods.
        let fx = sh("yes | head -c 20000000; echo; echo done; read never").spawn()?;
        fx.futures().expect("done").await?;
        Ok(())
    })
}

#[test]
fn a_hundred_helpers_are_awaited_by_one_thread() -> Result {
    let fixtures: Vec<Fixture> = (0..100).map(|_| sh("read x; echo got $x").spawn()).collect::<Result<_>>()?;
    one_thread().block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (n, fx) in fixtures.iter().enumerate() {
            let line = fx.futures().expect_line(|line: &str| line.starts_with("got "));
            tasks.spawn(async move { (n, line.await) });
        }
        tokio::task::yield_now().await;
        // The last first, so that not just the order of the calls is confirmed.
        for (n, fx) in fixtures.iter().enumerate().rev() {
            fx.futures().send_line(&n.to_string()).await?;
        }
        let mut seen = 0;
        while let Some(done) = tasks.join_next().await {
            let (n, line) = done.unwrap();
            assert_eq!(line?.text(), format!("got {n}"));
            seen += 1;
        }
        assert_eq!(seen, 100);
        Ok(())
    })
}

#[test]
fn the_waker_of_the_last_poll_is_woken_and_no_other() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let (before, told_before) = herald();
    let (after, told_after) = herald();
    let mut line = pin!(fx.futures().expect_line("hello"));
    assert!(poll_once(line.as_mut(), &before).is_pending());
    assert!(poll_once(line.as_mut(), &after).is_pending());
    fx.send_line("hello")?;
    told_after.recv_timeout(SOON).expect("it is woken");
    assert!(told_before.try_recv().is_err(), "the waker that was replaced is woken");
    // Woken because of the line, or of a part of it.
    loop {
        match poll_once(line.as_mut(), &after) {
            Poll::Ready(found) => break drop(found?),
            Poll::Pending => told_after.recv_timeout(SOON).expect("it is woken again"),
        }
    }
    Ok(())
}

#[test]
fn spurious_polls_do_no_harm_and_cost_no_wake_ups() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let (waker, told) = herald();
    let mut line = pin!(fx.futures().expect_line("hello"));
    for _ in 0..1000 {
        assert!(poll_once(line.as_mut(), &waker).is_pending());
    }
    // Silence wakes nobody, once those have looked who look at every helper of the process: reports of other tests.
    let silent = (0..30).any(|_| match told.recv_timeout(ms(100)) {
        Ok(()) => poll_once(line.as_mut(), &waker).is_ready(),
        Err(_) => true,
    });
    assert!(silent, "it is woken over and over");
    fx.send_line("hello")?;
    told.recv_timeout(SOON).expect("it is woken");
    pollster::block_on(line)?;
    assert!(fx.stdout().try_recv().is_none());
    Ok(())
}

#[test]
fn a_future_that_is_polled_after_it_was_ready_panics_as_those_of_std_do() -> Result {
    let fx = sh("echo ready; read never").spawn()?;
    let mut line = pin!(fx.futures().expect("ready"));
    pollster::block_on(line.as_mut())?;
    let again = catch_unwind(AssertUnwindSafe(|| poll_once(line.as_mut(), Waker::noop()).is_ready()));
    assert!(again.is_err());
    Ok(())
}

#[test]
fn dropping_a_fixture_in_a_task_is_bounded_and_needs_no_runtime() -> Result {
    let gone = |id: u32| !std::path::Path::new(&format!("/proc/{id}")).exists();
    let runtime = one_thread();
    let stubborn = || sh("trap '' TERM; echo up; while :; do sleep 1; done").stop_policy(Stop::terminate(ms(100)));
    let began = Instant::now();
    let id = runtime.block_on(async {
        let fx = stubborn().spawn_async().await?;
        fx.futures().expect("up").await?;
        Ok::<_, foster::Error>(fx.id())
    })?;
    assert!(gone(id));
    // In a task that is dropped with its runtime, in the middle of a wait.
    let (sender, started) = mpsc::channel();
    runtime.spawn(async move {
        let fx = stubborn().spawn_async().await?;
        fx.futures().expect("up").await?;
        sender.send(fx.id()).unwrap();
        fx.futures().expect("never said").await
    });
    let id = runtime.block_on(async {
        loop {
            match started.try_recv() {
                Ok(id) => break id,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert!(!gone(id));
    drop(runtime);
    assert!(gone(id));
    assert!(began.elapsed() < SOON);
    Ok(())
}

#[test]
fn a_start_whose_future_is_dropped_leaves_nothing() -> Result {
    let label = "dropped while it started";
    let ours = || foster::registry::live().into_iter().filter(|entry| entry.label() == label).map(|entry| entry.pid());
    let start = sh("read never").label(label).ready(Ready::line("never said")).spawn_async();
    let mut start = Box::pin(start);
    assert!(poll_once(start.as_mut(), Waker::noop()).is_pending());
    let id = ours().next().expect("it has been started");
    assert!(std::path::Path::new(&format!("/proc/{id}")).exists());
    drop(start);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    assert_eq!(ours().count(), 0);
    Ok(())
}

#[test]
fn a_helper_that_ends_before_it_is_ready_fails_the_start_at_once() {
    let began = Instant::now();
    let start = sh("echo no port left >&2; exit 5").ready(Ready::line("listening")).spawn_async();
    let error = pollster::block_on(start).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(format!("{error:?}").contains("no port left"), "{error:?}");
    assert!(began.elapsed() < ms(5000));
    // And one that never is, on time.
    let start = sh("read never").timeout(ms(100)).ready(Ready::line("listening")).spawn_async();
    assert!(pollster::block_on(start).unwrap_err().is_timeout());
}
