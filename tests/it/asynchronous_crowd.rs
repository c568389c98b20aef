//! Threads and tasks, and many of them, on one helper: nobody is left asleep, and each line goes to one of them.

use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
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

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

#[test]
fn dropping_and_asking_again_loses_no_line_and_repeats_none() -> Result {
    const LINES: usize = 2000;
    two_threads().block_on(async {
        let fx = Fixture::command("cat").spawn()?;
        for n in 0..LINES {
            let mut dropped = 0;
            let line = loop {
                // Sometimes after one poll, sometimes after several.
                let patience = async {
                    for _ in 0..n % 3 {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    biased;
                    line = fx.futures().stdout().recv() => break line?,
                    () = patience => dropped += 1,
                }
                // The line comes while one expectation after the other is dropped, at any moment of that.
                if dropped == 1 {
                    fx.send_line(&n.to_string())?;
                }
            };
            assert_eq!(line, n.to_string());
            assert!(dropped > 0, "none was dropped: this has proved nothing");
        }
        Ok(())
    })
}

#[test]
fn threads_and_tasks_share_a_stream_and_each_line_goes_to_one_of_them() -> Result {
    const LINES: usize = 3000;
    let runtime = two_threads();
    let fx = Fixture::command("cat").spawn()?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = |heard: &Mutex<Vec<usize>>, line: String| heard.lock().unwrap().push(line.parse().unwrap());
    let mut tasks = Vec::new();
    for impatient in [false, true].repeat(4) {
        let (lines, heard) = (fx.stdout(), Arc::clone(&heard));
        tasks.push(runtime.spawn(async move {
            loop {
                // Half of them give up at every turn, and begin anew.
                let line = tokio::select! {
                    biased;
                    line = lines.futures().recv() => line,
                    () = tokio::time::sleep(ms(1)), if impatient => continue,
                };
                match line {
                    Ok(line) => note(&heard, line),
                    Err(e) => break e.kind(),
                }
            }
        }));
    }
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (lines, heard) = (fx.stdout(), Arc::clone(&heard));
            std::thread::spawn(move || lines.lines().for_each(|line| note(&heard, line.unwrap())))
        })
        .collect();
    for n in 0..LINES {
        fx.send_line(&n.to_string())?;
        if n % 100 == 0 {
            // Now and then everybody waits, and somebody has to wake up.
            fx.stderr().expect_silence(ms(2))?;
        }
    }
    fx.send_eof()?;
    for task in tasks {
        let kind = runtime.block_on(task).unwrap();
        assert!(matches!(kind, ErrorKind::Eof | ErrorKind::Exited), "{kind:?}");
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    assert_eq!(heard, (0..LINES).collect::<Vec<_>>());
    Ok(())
}

/// A keeper serves one fixture after the other, and its socket tells the news of each: in the right name.
#[test]
fn the_news_of_each_helper_reach_its_own_task_and_no_other() -> Result {
    const ROUNDS: i32 = 40;
    let runtime = two_threads();
    let life = |task: i32| async move {
        for round in 0..ROUNDS {
            let code = (task * ROUNDS + round) % 251;
            // Something holds the streams open, so that nothing but the news tells of the exit.
            let fx = sh(&format!("sleep 50 & exit {code}")).stop_policy(Stop::kill()).spawn_async().await?;
            let exit = fx.within(SOON).futures().expect_exit().await?;
            assert_eq!(exit.code(), Some(code));
            // Half of them are stopped before they are dropped, by a task that lets others run meanwhile.
            if round % 2 == 0 {
                fx.futures().stop().await?;
            }
        }
        Ok::<_, foster::Error>(())
    };
    let tasks: Vec<_> = (0..6).map(|task| runtime.spawn(life(task))).collect();
    for task in tasks {
        runtime.block_on(task).unwrap()?;
    }
    Ok(())
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

/// What a future takes in that it does not want may be what another one waits for, and then nobody else will tell.
#[test]
fn a_future_that_takes_something_in_tells_the_others() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let mut busy = pin!(fx.within(5 * SOON).futures().select("never said"));
    for round in 0..300 {
        let line = format!("round {round}");
        let (waker, told) = herald();
        let mut asleep = pin!(fx.within(5 * SOON).futures().select(line.as_str()));
        assert!(asleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        fx.send_line(&line)?;
        let began = Instant::now();
        while told.try_recv().is_err() {
            assert!(began.elapsed() < SOON, "nobody told");
            assert!(busy.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::thread::yield_now();
        }
        pollster::block_on(asleep)?;
    }
    Ok(())
}

/// A thread waits for `last`, and does this with it. A future that is polled meanwhile is told what comes, and its end.
fn leader_leaves(judge: fn() -> bool) -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let (sender, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let matcher = move |line: &str| {
            sender.send(()).unwrap();
            line == "last" && judge()
        };
        let leader = scope.spawn(|| fx.within(SOON).select(matcher).map(drop));
        fx.send_line("first")?;
        asked.recv_timeout(SOON).expect("it leads");
        // It goes on leading, so what is polled now depends on it.
        let (waker, told) = herald();
        // Its own deadline would wake it as well.
        let mut future = pin!(fx.within(5 * SOON).futures().stderr().expect("never said"));
        let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
        assert!(poll());
        fx.send_line("second")?;
        told.recv_timeout(SOON).expect("what comes is told");
        assert!(poll());
        fx.send_line("last")?;
        // One that panics is no more than gone.
        leader.join().unwrap_or(Ok(()))?;
        told.recv_timeout(SOON).expect("that it leaves is told");
        Ok(())
    })
}

#[test]
fn a_leader_tells_futures_what_comes_and_that_it_leaves() -> Result {
    leader_leaves(|| true)
}

#[test]
fn a_leader_whose_matcher_panics_leaves_no_future_asleep() -> Result {
    leader_leaves(|| panic!("cannot judge the last line"))
}

/// A thread that has what it wanted leaves, and a future that was polled while it led must not be left alone.
#[test]
fn who_was_led_is_awake_when_the_leader_has_left() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for round in 0..300 {
        let (one, two) = (format!("one {round}\n"), format!("two {round}\n"));
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| fx.within(SOON).select(one.trim_end()));
            let future = fx.within(SOON).futures().expect(two.trim_end());
            let follower = scope.spawn(move || pollster::block_on(future));
            fx.send(&one)?;
            leader.join().unwrap()?;
            fx.send(&two)?;
            follower.join().unwrap()
        })?;
    }
    Ok(())
}

#[test]
fn a_matcher_that_panics_ends_its_own_task_and_no_other() -> Result {
    let runtime = two_threads();
    let fx = Fixture::command("cat").spawn()?;
    let other = runtime.spawn(fx.within(SOON).futures().expect("second"));
    let bad = runtime.spawn(fx.within(SOON).futures().expect(|line: &str| panic!("cannot judge {line}")));
    fx.send_line("first")?;
    assert!(runtime.block_on(bad).unwrap_err().is_panic());
    fx.send_line("second")?;
    runtime.block_on(other).unwrap()?;
    Ok(())
}

/// Who asks which helpers there are looks at those of other tests as well.
#[test]
fn a_judge_that_panics_fails_nobody_who_looks_at_all_helpers() -> Result {
    let (sender, judged) = mpsc::channel();
    for _ in 0..50 {
        let sender = sender.clone();
        let judge = move |line: &str| -> bool {
            let _ = sender.send(std::thread::current().id());
            panic!("cannot judge {line}");
        };
        let _bad = sh("echo what; cat").fail_on(judge).spawn()?;
        let began = Instant::now();
        let by = loop {
            let _ = foster::registry::live();
            match judged.try_recv() {
                Ok(thread) => break thread,
                Err(_) => assert!(began.elapsed() < SOON, "nobody looks at it"),
            }
        };
        if by == std::thread::current().id() {
            return Ok(());
        }
    }
    panic!("it was always somebody else who looked first: this has proved nothing");
}

/// What must not come is judged by the thread that reads for everybody, if nobody waits.
#[test]
fn a_judge_that_panics_does_not_end_the_reading_for_everybody() -> Result {
    let (sender, panicked) = mpsc::channel();
    let judge = move |line: &str| -> bool {
        let _ = sender.send(());
        panic!("cannot judge {line}");
    };
    let bad = sh("echo what; cat").fail_on(judge).spawn()?;
    panicked.recv_timeout(SOON).expect("the line is looked at");
    // In another thread, because a wait that nobody serves would not even end with its deadline.
    let fx = sh("yes | head -c 1000000 >&2; read go; echo fine; read never").spawn()?;
    let (done, result) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let fine = pollster::block_on(async {
            fx.futures().send_line("go").await?;
            fx.within(SOON).futures().expect_line("fine").await.map(drop)
        });
        let _ = done.send(fine);
    });
    result.recv_timeout(SOON + SOON).expect("it is served")?;
    waiter.join().unwrap();
    drop(bad);
    Ok(())
}

/// Nobody waits for the flood, so the attendant reads it, and it keeps the deadlines and the news of the other's future.
#[test]
fn a_flood_holds_up_neither_the_deadlines_nor_the_lines_of_others() -> Result {
    let flood = Fixture::command("yes").spawn()?;
    flood.expect_line("y")?;
    let other = Fixture::command("cat").spawn()?;
    two_threads().block_on(async {
        let began = Instant::now();
        let late = other.within(ms(50)).futures().expect_line("nothing").await.unwrap_err();
        assert!(late.is_timeout(), "{late:?}");
        for _ in 0..50 {
            other.send_line("line")?;
            other.futures().expect_line("line").await?;
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        Ok::<_, foster::Error>(())
    })?;
    // It was really read meanwhile: far more has come than a pipe and the window together can hold.
    flood.stop()?;
    let error = flood.within(Duration::ZERO).expect("never said").unwrap_err();
    assert!(format!("{error:?}").contains("dropped"), "nothing was let go: {error:?}");
    Ok(())
}
