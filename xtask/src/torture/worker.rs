//! A worker: plays its share of the rounds one after the other and prints a line for each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::round::{self, Deed};

/// What a round was and how long it took to be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    ending: String,
    hidings: Vec<String>,
    deed: String,
    took: Duration,
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Passed(Passed),
    /// The evidence, with tabs for line ends.
    Failed(String),
}

impl Line {
    pub(super) fn parse(line: &str) -> Option<Line> {
        if let Some(evidence) = line.strip_prefix("failed ") {
            return Some(Line::Failed(evidence.to_owned()));
        }
        let mut words = line.strip_prefix("passed ")?.split('|');
        Some(Line::Passed(Passed {
            took: Duration::from_micros(words.next()?.parse().ok()?),
            deed: words.next()?.to_owned(),
            ending: words.next()?.to_owned(),
            hidings: words.next()?.split(',').map(str::to_owned).collect(),
        }))
    }
}

/// `torture --worker SEED ROUNDS JOB JOBS PROGRAMS`.
pub(super) fn main(args: &[String]) -> ExitCode {
    let [seed, rounds, job, jobs, programs] = args else { return ExitCode::from(2) };
    let number = |text: &String| text.parse::<u64>().unwrap_or(0);
    let (seed, rounds, job, jobs) = (number(seed), number(rounds), number(job), number(jobs));
    let programs = PathBuf::from(programs);
    let own = rustix::process::getpid();
    if let Err(e) = rustix::process::set_child_subreaper(Some(own)) {
        return say(&format!("failed prctl(PR_SET_CHILD_SUBREAPER): {e}"));
    }
    let (mut canary, _dir) = match canary(&programs) {
        Ok(both) => both,
        Err(e) => return say(&format!("failed to start the canary: {e}")),
    };
    let mut code = ExitCode::SUCCESS;
    for round in (job..rounds).step_by(usize::try_from(jobs.max(1)).unwrap_or(1)) {
        if told_to_stop() {
            break;
        }
        // The canary has a deadline as every fixture program has: a fresh one for each stretch of rounds.
        if round / jobs.max(1) % 200 == 199 {
            put_down(&mut canary);
            match self::canary(&programs) {
                Ok((fresh, _)) => canary = fresh,
                Err(e) => return say(&format!("failed to start the canary: {e}")),
            }
        }
        let line = play(seed + round, &programs, canary.id() as i32);
        let failed = line.starts_with("failed");
        say(&line);
        if failed {
            code = ExitCode::from(1);
            break;
        }
    }
    put_down(&mut canary);
    code
}

fn play(seed: u64, programs: &Path, canary: i32) -> String {
    let plan = Command::new(programs.join("tortured")).args(["--plan", &seed.to_string()]).output();
    let plan = plan.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    let Some((ending, hidings)) = plan.split_once(' ') else { return format!("failed seed {seed}: no plan") };
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    random();
    let deed = Deed::of(&mut random);
    // From before the guardian's start to well after everything is in its place.
    let moment = Duration::from_micros(random() % [500, 3_000, 12_000, 40_000][(random() % 4) as usize]);
    match round::play(seed, deed, moment, programs, canary) {
        Ok(took) => format!("passed {}|{}|{ending}|{hidings}", took.as_micros(), deed.name()),
        Err(evidence) => format!(
            "failed seed {seed}: ending {ending}, helpers {hidings}, {} after {moment:?}\t{evidence}",
            deed.name()
        ),
    }
}

/// A process of the same program and user as the helpers, which nobody may touch.
fn canary(programs: &Path) -> std::io::Result<(Child, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let _reader = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty())?;
    let mut command = Command::new(programs.join("hide"));
    command.arg("alone").arg(dir.path().join("record")).arg(&fifo);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    Ok((child, dir))
}

fn put_down(canary: &mut Child) {
    // Our own unreaped child.
    let _ = canary.kill();
    let _ = canary.wait();
}

/// The master has closed our input.
fn told_to_stop() -> bool {
    let stdin = std::io::stdin();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&now)), Ok(1))
}

fn say(line: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{line}");
    ExitCode::from(1)
}

/// What was survived.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rounds: u64,
    helpers: u64,
    /// Rounds and longest time to empty, by what ended the process.
    endings: BTreeMap<String, (u64, Duration)>,
    hidings: BTreeMap<String, (u64, Duration)>,
    longest: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, round: &Passed) {
        self.rounds += 1;
        self.helpers += round.hidings.len() as u64;
        self.longest = self.longest.max(round.took);
        let ending = if round.deed == "none" { format!("own: {}", round.ending) } else { round.deed.clone() };
        let note = |map: &mut BTreeMap<String, (u64, Duration)>, key: &str| {
            let (count, longest) = map.entry(key.to_owned()).or_default();
            *count += 1;
            *longest = (*longest).max(round.took);
        };
        note(&mut self.endings, &ending);
        for hiding in &round.hidings {
            note(&mut self.hidings, hiding);
        }
    }

    pub(super) fn table(&self, took: Duration) -> String {
        let mut text = String::new();
        for (title, map) in [("ended by", &self.endings), ("hidden by", &self.hidings)] {
            let _ = writeln!(text, "{title:<24}{:>8}{:>20}", "times", "longest to empty");
            for (name, (count, longest)) in map {
                let _ = writeln!(text, "  {name:<22}{count:>8}{:>17.1} ms", longest.as_secs_f64() * 1e3);
            }
        }
        let _ = writeln!(
            text,
            "{} rounds with {} helpers in {:.0} s: 0 survivors, 0 strangers touched, longest to empty {:.1} ms",
            self.rounds,
            self.helpers,
            took.as_secs_f64(),
            self.longest.as_secs_f64() * 1e3
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood_as_it_was_meant() {
        let line = Line::parse("passed 1500|keeper kill|abort|setsid,daemon");
        let Some(Line::Passed(round)) = line else { panic!("{line:?}") };
        assert_eq!((round.took, round.hidings.len()), (Duration::from_micros(1500), 2));
        assert_eq!(Line::parse("failed seed 3: x\ty"), Some(Line::Failed("seed 3: x\ty".into())));
        assert_eq!(Line::parse("hello"), None);
    }
}
