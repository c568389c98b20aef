//! A line there and back: to `helper echo` and from it, alone, on a busy machine, and for many at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use foster::Fixture;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::limit::{Burners, Raw, Talker, Threaded, helper};
use crate::sample::{Match, Options, Result, Samples, note};

/// How often a contestant asks in one turn.
const BATCH: usize = 100;

pub struct Foster(Fixture);

impl Foster {
    pub fn start(args: &[&str]) -> Result<Foster> {
        let fx = Fixture::command(helper()).args(args).spawn()?;
        fx.expect_line("up")?;
        Ok(Foster(fx))
    }
}

impl Talker for Foster {
    fn ask(&mut self) -> Result {
        self.0.send_line("ping")?;
        self.0.expect_line("ping")?;
        Ok(())
    }
}

pub fn measure(options: &Options) -> Result {
    one("line-idle", options, &["echo"])?;
    pinned(options)?;
    {
        let _busy = Burners::start()?;
        one("line-busy", options, &["echo"])?;
    }
    for count in [8, 32] {
        many(count, options)?;
    }
    Ok(())
}

/// The kernel may put both sides on one core or on two, and for a raw pipe that makes a difference of up to ten times.
/// So both are measured: on cores that stay.
fn pinned(options: &Options) -> Result {
    let before = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|n| before.is_set(*n));
    let own = cores.next().ok_or("there is no core")?;
    let mut set = CpuSet::new();
    set.set(own);
    // The threads that the contestants start get it from this one.
    sched_setaffinity(None, &set)?;
    let done = match cores.next() {
        Some(other) => one("line-apart", options, &["echo-on", &other.to_string()]),
        None => {
            note("line-apart", "there is only one core");
            Ok(())
        }
    };
    let done = done.and_then(|()| one("line-together", options, &["echo-on", &own.to_string()]));
    sched_setaffinity(None, &before)?;
    done
}

fn one(row: &str, options: &Options, args: &[&str]) -> Result {
    let rounds = options.rounds(60, 15);
    let mut entered = Match::new(row);
    if row == "line-idle" || row == "line-apart" {
        entered = entered.alone();
    }
    let mut enter = |name: &str, limit: usize, batch: usize, mut talker: Box<dyn Talker>| {
        entered.enter_for(limit, name, move |samples| {
            // The first one finds cold caches and a helper that sleeps deeply.
            talker.ask()?;
            for _ in 0..batch {
                let began = Instant::now();
                talker.ask()?;
                samples.time(began.elapsed());
            }
            Ok(())
        });
    };
    enter("raw pipe", usize::MAX, BATCH, Box::new(Raw::start(args)?));
    enter("foster", usize::MAX, BATCH, Box::new(Foster::start(args)?));
    enter("reader thread", usize::MAX, BATCH, Box::new(Threaded::start(args)?));
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::peers;
        // A hundred milliseconds are a hundred milliseconds, wherever they pass.
        let slow = args == ["echo"];
        let few = if options.quick { 1 } else { 10 };
        enter("tokio", usize::MAX, BATCH, Box::new(peers::Tokio::start_with(1, args)?));
        enter("expectrl", usize::MAX, BATCH / 4, Box::new(peers::Expectrl::start(args)?));
        if slow {
            enter("rexpect", few, 3, Box::new(peers::Rexpect::start(args)?));
        }
        match crate::python::Pexpect::start(args) {
            _ if !slow => {}
            Ok(mut pexpect) => entered.enter_for(few, "pexpect", move |samples| pexpect.ask(5, samples)),
            Err(why) => note(row, &format!("no pexpect: {why}")),
        }
    }
    let _ = options;
    entered.play(rounds);
    Ok(())
}

/// So many at once, each with a helper of its own; a sample is the time per line of all together.
fn many(count: usize, options: &Options) -> Result {
    let args = &["echo"];
    let mut entered = Match::new(format!("line-{count}")).settle(Duration::from_millis(2));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Raw::start(args)?));
    }
    entered.enter("raw pipe", move |samples| crowd(&mut all, samples));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Foster::start(args)?));
    }
    entered.enter("foster", move |samples| crowd(&mut all, samples));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Threaded::start(args)?));
    }
    entered.enter("reader thread", move |samples| crowd(&mut all, samples));
    #[cfg(feature = "peers")]
    if options.peers {
        let mut tokio = crate::peers::Tokio::start_with(count, args)?;
        entered.enter("tokio", move |samples| {
            tokio.all_ask(1)?;
            let began = Instant::now();
            tokio.all_ask(BATCH)?;
            samples.add(began.elapsed().as_nanos() as f64 / (count * BATCH) as f64);
            Ok(())
        });
    }
    entered.play(options.rounds(40, 8));
    Ok(())
}

/// Each of them in a thread of its own, as tests are.
fn crowd(talkers: &mut [Box<dyn Talker>], samples: &mut Samples) -> Result {
    let count = talkers.len();
    let barrier = Barrier::new(count + 1);
    let took = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for talker in talkers {
            let barrier = &barrier;
            threads.push(scope.spawn(move || {
                let mut failed = talker.ask().err().map(|e| e.to_string());
                barrier.wait();
                for _ in 0..BATCH {
                    if let Err(e) = talker.ask() {
                        failed = Some(e.to_string());
                    }
                }
                (Instant::now(), failed)
            }));
        }
        barrier.wait();
        let began = Instant::now();
        let mut last = began;
        for thread in threads {
            let (end, failed) = thread.join().map_err(|_| "a thread has panicked".to_owned())?;
            last = last.max(end);
            if let Some(e) = failed {
                return Err(e);
            }
        }
        Ok(last - began)
    })?;
    samples.add(took.as_nanos() as f64 / (count * BATCH) as f64);
    Ok(())
}
