//! A line there and back: to `helper echo` and from it, alone, on a busy machine, and for many at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use foster::Fixture;

use crate::limit::{Burners, Raw, Talker, Threaded, helper};
use crate::sample::{Match, Options, Result, Samples};

/// How often a contestant asks in one turn.
const BATCH: usize = 100;

pub struct Foster(Fixture);

impl Foster {
    pub fn start() -> Result<Foster> {
        let fx = Fixture::command(helper()).arg("echo").spawn()?;
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
    one("line-idle", options, options.rounds(60, 15))?;
    {
        let _busy = Burners::start()?;
        // A turn must be longer than a scheduler's slice, or it would measure who had the processor before.
        one("line-busy", options, options.rounds(60, 15))?;
    }
    for count in [8, 32] {
        many(count, options)?;
    }
    Ok(())
}

fn one(row: &str, options: &Options, rounds: usize) -> Result {
    let mut entered = Match::new(row);
    if row == "line-idle" {
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
    enter("raw pipe", usize::MAX, BATCH, Box::new(Raw::start()?));
    enter("foster", usize::MAX, BATCH, Box::new(Foster::start()?));
    enter("reader thread", usize::MAX, BATCH, Box::new(Threaded::start(&["echo"])?));
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::peers;
        let few = if options.quick { 2 } else { 10 };
        enter("tokio", usize::MAX, BATCH, Box::new(peers::Tokio::start(1)?));
        enter("expectrl", usize::MAX, BATCH / 4, Box::new(peers::Expectrl::start(&["echo"])?));
        enter("rexpect", few, 3, Box::new(peers::Rexpect::start(&["echo"])?));
        match crate::python::Pexpect::start() {
            Ok(mut pexpect) => entered.enter_for(few, "pexpect", move |samples| pexpect.ask(5, samples)),
            Err(why) => crate::sample::note(row, &format!("no pexpect: {why}")),
        }
    }
    let _ = options;
    entered.play(rounds);
    Ok(())
}

/// So many at once, each with a helper of its own; a sample is the time per line of all together.
fn many(count: usize, options: &Options) -> Result {
    let mut entered = Match::new(format!("line-{count}")).settle(Duration::from_millis(2));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Raw::start()?));
    }
    entered.enter("raw pipe", move |samples| crowd(&mut all, samples));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Foster::start()?));
    }
    entered.enter("foster", move |samples| crowd(&mut all, samples));
    let mut all: Vec<Box<dyn Talker>> = Vec::new();
    for _ in 0..count {
        all.push(Box::new(Threaded::start(&["echo"])?));
    }
    entered.enter("reader thread", move |samples| crowd(&mut all, samples));
    #[cfg(feature = "peers")]
    if options.peers {
        let mut tokio = crate::peers::Tokio::start(count)?;
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
