//! The end of many helpers that are asked to leave: some go at once, some need 10 ms, some never do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foster::Fixture;
use rustix::process::{Pid, Signal, kill_process};

use crate::limit::{Owned, helper};
use crate::sample::{Match, Options, Result, note};

/// What foster gives a helper unless the test says otherwise.
const GRACE: Duration = Duration::from_secs(2);

pub fn measure(options: &Options) -> Result {
    let rounds: &[(usize, usize)] =
        if options.quick { &[(10, 4), (100, 2)] } else { &[(10, 20), (100, 15), (1000, 7)] };
    raise_limit()?;
    for &(count, rounds) in rounds {
        row("quick", count, options.rounds(rounds, rounds), options);
        row("slow", count, options.rounds(rounds, rounds), options);
    }
    if options.quick {
        note("stop-quick-1000", "left out by --quick");
        note("stop-slow-1000", "left out by --quick");
    }
    row("stubborn", 100, options.rounds(3, 1), options);
    Ok(())
}

/// Three pipes for each of a thousand.
pub fn raise_limit() -> Result {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

pub fn fixtures(what: &str, count: usize) -> Result<Vec<Fixture>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let fx = Fixture::command(helper()).arg(what).spawn()?;
        fx.expect_line("up")?;
        all.push(fx);
    }
    Ok(all)
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn row(what: &'static str, count: usize, rounds: usize, options: &Options) {
    let mut entered = Match::new(format!("stop-{what}-{count}")).settle(Duration::from_millis(20));
    let own = move || (0..count).map(|_| Owned::up(&[what])).collect::<Result<Vec<_>>>();
    entered.enter("kill loop, wait loop", move |samples| {
        let mut all = own()?;
        let began = Instant::now();
        for child in &all {
            kill_process(pid(&child.0), Signal::TERM)?;
        }
        if what == "stubborn" {
            std::thread::sleep(GRACE.saturating_sub(began.elapsed()));
            for child in &mut all {
                child.0.kill()?;
            }
        }
        for child in &mut all {
            child.0.wait()?;
        }
        samples.time(began.elapsed());
        Ok(())
    });
    entered.enter("foster", move |samples| {
        let all = fixtures(what, count)?;
        let began = Instant::now();
        foster::stop_all(&all)?;
        samples.time(began.elapsed());
        Ok(())
    });
    if count == 100 && !(options.quick && what == "stubborn") {
        entered.enter("foster, exit hook", move |samples| {
            let mut leaver = Leaver::start(what, count)?;
            let began = Instant::now();
            leaver.0.0.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
            leaver.0.0.wait()?;
            samples.time(began.elapsed());
            Ok(())
        });
        entered.enter("foster, signal hook", move |samples| {
            let mut leaver = Leaver::start(what, count)?;
            let began = Instant::now();
            kill_process(pid(&leaver.0.0), Signal::TERM)?;
            leaver.0.0.wait()?;
            samples.time(began.elapsed());
            Ok(())
        });
    }
    if count <= 100 && what != "stubborn" {
        entered.enter("one after the other", move |samples| {
            let mut all = own()?;
            let began = Instant::now();
            for child in &mut all {
                kill_process(pid(&child.0), Signal::TERM)?;
                child.0.wait()?;
            }
            samples.time(began.elapsed());
            Ok(())
        });
        #[cfg(feature = "peers")]
        if options.peers {
            entered.enter("process-wrap", move |samples| {
                let mut all = (0..count).map(|_| crate::peers::grouped(&[what])).collect::<Result<Vec<_>>>()?;
                let began = Instant::now();
                for child in &mut all {
                    child.signal(libc::SIGTERM)?;
                    child.wait()?;
                }
                samples.time(began.elapsed());
                Ok(())
            });
        }
    }
    #[cfg(feature = "peers")]
    if options.peers && count == 10 && what == "quick" {
        entered.enter_for(3, "rexpect", move |samples| {
            let all = (0..count).map(|_| crate::peers::Rexpect::start(&[what])).collect::<Result<Vec<_>>>()?;
            let began = Instant::now();
            drop(all);
            samples.time(began.elapsed());
            Ok(())
        });
        entered.enter_for(3, "expectrl", move |samples| {
            let all = (0..count).map(|_| crate::peers::Expectrl::start(&[what])).collect::<Result<Vec<_>>>()?;
            let began = Instant::now();
            drop(all);
            samples.time(began.elapsed());
            Ok(())
        });
    }
    let _ = options;
    entered.play(rounds);
}

/// A process that has many fixtures and drops none of them before it ends.
struct Leaver(Owned);

impl Leaver {
    fn start(what: &str, count: usize) -> Result<Leaver> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--leaver", &count.to_string()]).env("WHAT", what);
        let mut leaver = Leaver(Owned(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?));
        let stdout = leaver.0.0.stdout.as_mut().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line == "up\n" { Ok(leaver) } else { Err("it could not start its helpers".into()) }
    }
}

/// The life of such a process.
pub fn leave(count: usize) -> Result {
    raise_limit()?;
    let all = fixtures(&std::env::var("WHAT")?, count)?;
    println!("up");
    std::io::stdin().read_line(&mut String::new())?;
    std::mem::forget(all);
    std::process::exit(0);
}
