//! `cargo xtask torture`: random trees of helpers, random ends at random moments, and a proof each time that nothing is left.
//!
//! Every round is one process `tortured` (see `fixtures/`), whose deeds follow from the round's seed, and at most one deed of
//! ours: a signal to it at a random moment, or SIGKILL or SIGSTOP to its guardian or to one of its keepers.
//! A worker is a child subreaper, so whatever a round leaves becomes the worker's child: the round has passed when
//! the worker has no child but the canary, and the canary, a process that is none of foster's business, lives.

mod round;
mod worker;

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use self::worker::{Line, Tally};

/// How many rounds without `--rounds`: enough to be worth something, and bounded for CI.
const ROUNDS: u64 = 1_000;

/// What the user has asked for.
#[derive(Debug, Clone, Copy)]
struct Options {
    rounds: u64,
    seed: u64,
    jobs: u64,
}

const USAGE: &str = "usage: cargo xtask torture [--rounds N] [--seed S] [--jobs J]

  --rounds N   how many rounds (1000)
  --seed S     the seed of the first round; round k has seed S + k (a random one)
  --jobs J     how many workers at once (one for each core)

A failing round prints its seed: `cargo xtask torture --rounds 1 --seed THAT` runs it again.";

/// The task's entry. Exit code 1 on the first survivor or dead canary, with the evidence.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if let [first, rest @ ..] = args {
        if first == "--worker" {
            return worker::main(rest);
        }
    }
    let options = match parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = writeln!(std::io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            let _ = writeln!(std::io::stderr(), "torture: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match build().and_then(|programs| run(options, &programs)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "torture: {e}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: &[String]) -> Result<Option<Options>, String> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { rounds: ROUNDS, seed: now.as_micros() as u64 % 1_000_000_000, jobs: cores };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let slot = match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--rounds" => &mut options.rounds,
            "--seed" => &mut options.seed,
            "--jobs" => &mut options.jobs,
            other => return Err(format!("`{other}` is no option")),
        };
        let value = args.next().ok_or_else(|| format!("`{arg}` needs a number"))?;
        *slot = value.parse().map_err(|_| format!("`{arg}` needs a number, not `{value}`"))?;
    }
    options.jobs = options.jobs.clamp(1, options.rounds.max(1));
    Ok(Some(options))
}

/// Builds the programs that the rounds need; the folder that they are in.
fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "foster", "--bins"]).current_dir(root);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo build: {status}")),
        Err(e) => return Err(format!("cargo build: {e}")),
    }
    let own = std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    let dir = own.parent().ok_or("where this program is: it has no folder")?;
    Ok(dir.to_owned())
}

/// Runs the workers and adds up what they report; false when a round has failed.
fn run(options: Options, programs: &std::path::Path) -> Result<bool, String> {
    let _ = writeln!(
        std::io::stderr(),
        "torture: {} rounds, seeds from {}, {} at a time",
        options.rounds,
        options.seed,
        options.jobs
    );
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let (sender, lines) = std::sync::mpsc::channel();
    let mut workers = Vec::new();
    for job in 0..options.jobs {
        let mut command = Command::new(&own);
        command.args(["torture", "--worker", &options.seed.to_string(), &options.rounds.to_string()]);
        command.args([&job.to_string(), &options.jobs.to_string()]).arg(programs);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let output = BufReader::new(child.stdout.take().ok_or("a worker without output")?);
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        workers.push(child);
    }
    drop(sender);
    let mut tally = Tally::default();
    let mut failed = false;
    let began = Instant::now();
    let mut shown = Instant::now();
    for line in lines {
        match Line::parse(&line) {
            Some(Line::Passed(round)) => tally.add(&round),
            Some(Line::Failed(evidence)) => {
                failed = true;
                let _ = writeln!(std::io::stderr(), "\n{}", evidence.replace('\t', "\n"));
                // The others read end of file and stop after their round.
                for worker in &mut workers {
                    drop(worker.stdin.take());
                }
            }
            None => return Err(format!("a worker says what makes no sense: {line}")),
        }
        if shown.elapsed() > Duration::from_millis(200) {
            shown = Instant::now();
            progress(tally.rounds, options.rounds, began.elapsed());
        }
    }
    for mut worker in workers {
        let status = worker.wait().map_err(|e| e.to_string())?;
        if !status.success() && !failed {
            return Err(format!("a worker ended with {status}"));
        }
    }
    progress(tally.rounds, options.rounds, began.elapsed());
    let _ = writeln!(std::io::stderr());
    let _ = write!(std::io::stdout(), "{}", tally.table(began.elapsed()));
    Ok(!failed && tally.rounds == options.rounds)
}

/// A bar on a terminal; nothing anywhere else.
fn progress(done: u64, of: u64, since: Duration) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let filled = usize::try_from(done * 40 / of.max(1)).unwrap_or(40).min(40);
        let (full, empty) = ("#".repeat(filled), " ".repeat(40 - filled));
        let _ = write!(out, "\r[{full}{empty}] {done}/{of} in {:.0} s", since.as_secs_f64());
        let _ = out.flush();
    }
}
