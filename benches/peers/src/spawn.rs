//! From spawn to exit status, with three pipes: one at a time, and sixteen in flight.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foster::Fixture;

use crate::sample::{Match, Options, Result, Samples, timed};

pub const PROGRAM: &str = "/bin/true";

/// How long after each spawn the machine gets to finish what it has left to do.
const SETTLE: Duration = Duration::from_millis(2);

/// How many threads spawn at the same time, and how often each in one turn.
const IN_FLIGHT: usize = 16;
const EACH: usize = 8;

pub fn std() -> Result {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()?.wait()?;
    Ok(())
}

/// What every crate does that has to run code between `fork` and `exec`.
pub fn pre_exec() -> Result {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: it does nothing.
    unsafe { command.pre_exec(|| Ok(())) };
    command.spawn()?.wait()?;
    Ok(())
}

/// Without the time that the end of the fixture takes.
pub fn foster(samples: &mut Samples) -> Result {
    let began = Instant::now();
    let fx = Fixture::command(PROGRAM).spawn()?;
    fx.expect_exit()?;
    samples.time(began.elapsed());
    Ok(())
}

pub fn measure(options: &Options) -> Result {
    one_at_a_time(options)?;
    in_a_row(options);
    in_flight(options);
    Ok(())
}

fn one_at_a_time(options: &Options) -> Result {
    // The first spawn is another measure.
    Fixture::command(PROGRAM).spawn()?.expect_exit()?;
    let mut entered = Match::new("spawn").settle(SETTLE);
    let simple = |run: fn() -> Result| move |samples: &mut Samples| samples.timed(run);
    entered.enter("std", simple(std));
    entered.enter("foster", foster);
    entered.enter("foster, until it is gone", |samples| {
        samples.timed(|| {
            drop(Fixture::command(PROGRAM).spawn()?);
            Ok(())
        })
    });
    entered.enter("std with pre_exec", simple(pre_exec));
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::peers::{Tokio, spawns};
        entered.enter("process-wrap, group", simple(spawns::process_group));
        entered.enter("process-wrap, session", simple(spawns::process_session));
        entered.enter("assert_cmd", simple(spawns::assert_cmd));
        entered.enter("duct", simple(spawns::duct));
        let runtime = Tokio::runtime()?;
        entered.enter("tokio", move |samples| samples.timed(|| spawns::tokio(&runtime)));
        entered.enter("rexpect", simple(spawns::rexpect));
        entered.enter("expectrl", simple(spawns::expectrl));
    }
    entered.play(options.rounds(400, 80));
    Ok(())
}

/// One after the other without a pause, each until nothing of it is left.
fn in_a_row(options: &Options) {
    const ROW: usize = 20;
    let mut entered = Match::new("spawn-in-a-row").settle(SETTLE);
    let mut enter = |name: &str, run: fn() -> Result| {
        entered.enter(name, move |samples| {
            let took = timed(|| (0..ROW).try_for_each(|_| run()))?;
            samples.add(took.as_nanos() as f64 / ROW as f64);
            Ok(())
        });
    };
    enter("std", std);
    enter("foster", || {
        Fixture::command(PROGRAM).spawn()?.expect_exit()?;
        Ok(())
    });
    entered.play(options.rounds(40, 10));
}

fn in_flight(options: &Options) {
    let mut entered = Match::new("spawn-16").settle(SETTLE);
    let mut enter = |name: &str, run: fn() -> Result| {
        entered.enter(name, move |samples| {
            let took = timed(|| {
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..IN_FLIGHT)
                        .map(|_| scope.spawn(move || (0..EACH).try_for_each(|_| run()).map_err(|e| e.to_string())))
                        .collect();
                    for thread in threads {
                        thread.join().map_err(|_| "a thread has panicked")??;
                    }
                    Ok(())
                })
            })?;
            samples.add(took.as_nanos() as f64 / (IN_FLIGHT * EACH) as f64);
            Ok(())
        });
    };
    enter("std", std);
    enter("foster", || {
        Fixture::command(PROGRAM).spawn()?.expect_exit()?;
        Ok(())
    });
    entered.play(options.rounds(30, 8));
}
