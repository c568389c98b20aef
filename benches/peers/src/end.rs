//! SIGKILL of a test process with a hundred helpers, each of which has a daemon: until nothing lives, and who lives on.
//!
//! This process is a subreaper meanwhile, so whoever is left becomes its child and is counted, and ended.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::limit::command;
use crate::sample::{Match, Options, Result, Samples, note};
use crate::stop::{fixtures, raise_limit};

const HELPERS: usize = 100;

/// How long a survivor has to end by itself before it counts as one.
const GRACE: Duration = Duration::from_millis(500);

/// How long the end of everything may take.
const LIMIT: Duration = Duration::from_secs(20);

pub fn measure(options: &Options) -> Result {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let rounds = options.rounds(100, 3);
    note("survivors", &format!("{rounds} runs of foster with {HELPERS} helpers and {HELPERS} daemons"));
    let mut entered = Match::new("end").settle(Duration::from_millis(20));
    entered.enter("kill and reap", |samples| {
        let helpers = families()?;
        let mut all: Vec<i32> = helpers.iter().flat_map(|c| children(c.id() as i32)).collect();
        all.extend(helpers.iter().map(|c| c.id() as i32));
        let began = Instant::now();
        for pid in all {
            kill(pid);
        }
        reap_until_empty(began + LIMIT)?;
        samples.time(began.elapsed());
        Ok(())
    });
    entered.enter("foster", |samples| sudden_end("foster", samples));
    let few = if options.quick { 1 } else { 3 };
    entered.enter_for(few, "std", |samples| sudden_end("std", samples));
    entered.enter_for(few, "PDEATHSIG", |samples| sudden_end("pdeathsig", samples));
    #[cfg(feature = "peers")]
    if options.peers {
        entered.enter_for(few, "process-wrap", |samples| sudden_end("process-wrap", samples));
        entered.enter_for(few, "rexpect", |samples| sudden_end("rexpect", samples));
    }
    entered.play(rounds);
    Ok(())
}

fn families() -> Result<Vec<Child>> {
    let mut all = Vec::new();
    for _ in 0..HELPERS {
        all.push(up(command(&["family"]).spawn()?)?);
    }
    Ok(all)
}

fn up(mut child: Child) -> Result<Child> {
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().ok_or("no output")?, &mut word)?;
    Ok(child)
}

/// The life of the process that is killed.
pub fn victim(who: &str, count: usize) -> Result {
    raise_limit()?;
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    match who {
        "foster" => kept.push(Box::new(fixtures("family", count)?)),
        "std" => kept.push(Box::new(families()?)),
        "pdeathsig" => {
            for _ in 0..count {
                use std::os::unix::process::CommandExt;
                let mut command = command(&["family"]);
                let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
                // SAFETY: one system call.
                unsafe { command.pre_exec(ask) };
                kept.push(Box::new(up(command.spawn()?)?));
            }
        }
        #[cfg(feature = "peers")]
        "process-wrap" => {
            for _ in 0..count {
                kept.push(Box::new(crate::peers::grouped(&["family"])?));
            }
        }
        #[cfg(feature = "peers")]
        "rexpect" => {
            for _ in 0..count {
                kept.push(Box::new(crate::peers::Rexpect::start(&["family"])?));
            }
        }
        other => return Err(format!("`{other}` takes no part").into()),
    }
    println!("up");
    loop {
        std::thread::park();
    }
}

fn sudden_end(who: &str, samples: &mut Samples) -> Result {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--victim", who, &HELPERS.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut victim = command.spawn()?;
    let mut line = String::new();
    BufReader::new(victim.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
    if line != "up\n" {
        victim.kill()?;
        reap_until_empty(Instant::now() + LIMIT)?;
        return Err("it could not start its helpers".into());
    }
    let began = Instant::now();
    kill(victim.id() as i32);
    if who == "foster" && reap_until_empty(began + LIMIT).is_ok() {
        samples.time(began.elapsed());
        samples.add_to("survivors", 0.0);
        return Ok(());
    }
    // What is asked to end shall have had the time to.
    std::thread::sleep(GRACE);
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    let left = descendants();
    samples.add_to("survivors", left.len() as f64);
    for pid in left {
        kill(pid);
    }
    reap_until_empty(Instant::now() + LIMIT)
}

/// A number of a process below this one, which nobody but us reaps.
fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Until the kernel says that there is no child left, which for a subreaper means: nobody below it.
fn reap_until_empty(deadline: Instant) -> Result {
    loop {
        let options = if Instant::now() < deadline { WaitOptions::empty() } else { WaitOptions::NOHANG };
        match wait(options) {
            Ok(Some(_)) => {}
            Ok(None) => return Err("somebody does not end".into()),
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    found
}

fn descendants() -> Vec<i32> {
    let mut all = Vec::new();
    let mut next = children(std::process::id() as i32);
    while let Some(pid) = next.pop() {
        next.extend(children(pid));
        all.push(pid);
    }
    all
}
