//! What is common to all measures: options, turns, and how samples are told.

use std::io::Write;
use std::time::{Duration, Instant};

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the caller wants.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub quick: bool,
    pub peers: bool,
    rounds: Option<usize>,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Options> {
        let mut options = Options { quick: false, peers: cfg!(feature = "peers"), rounds: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--quick" => options.quick = true,
                "--no-peers" => options.peers = false,
                "--rounds" => options.rounds = Some(args.next().ok_or("--rounds needs a number")?.parse()?),
                other => return Err(format!("`{other}` is no option").into()),
            }
        }
        Ok(options)
    }

    /// How many rounds, unless the caller says so.
    pub fn rounds(&self, full: usize, quick: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full })
    }
}

/// Where a contestant's turn puts its samples.
pub struct Samples {
    row: String,
    contestant: String,
    text: String,
}

impl Samples {
    /// For a measure that has no turns.
    pub fn of(row: &str) -> Samples {
        Samples { row: row.to_owned(), contestant: String::new(), text: String::new() }
    }

    /// Says them all.
    pub fn tell(&self) {
        tell(&self.text);
    }

    /// One value for the row and the contestant whose turn it is.
    pub fn add(&mut self, value: f64) {
        self.add_to(&self.row.clone(), value);
    }

    /// One value for another row.
    pub fn add_to(&mut self, row: &str, value: f64) {
        let contestant = self.contestant.clone();
        self.add_as(row, &contestant, value);
    }

    /// One value for any row and any contestant.
    pub fn add_as(&mut self, row: &str, contestant: &str, value: f64) {
        self.text.push_str(&format!("sample\t{row}\t{contestant}\t{value}\n"));
    }

    /// Runs something whose samples are those of another contestant.
    pub fn under(&mut self, contestant: &str, run: impl FnOnce(&mut Samples) -> Result) -> Result {
        let own = std::mem::replace(&mut self.contestant, contestant.to_owned());
        let result = run(self);
        self.contestant = own;
        result
    }

    pub fn time(&mut self, value: Duration) {
        self.add(value.as_nanos() as f64);
    }

    /// Runs it and adds how long it took.
    pub fn timed(&mut self, what: impl FnOnce() -> Result) -> Result {
        let took = timed(what)?;
        self.time(took);
        Ok(())
    }
}

/// One turn: it takes its own time and adds its samples.
type Turn<'a> = Box<dyn FnMut(&mut Samples) -> Result + 'a>;

/// The contestants of one row; each has its turn in every round, so that the machine's moods hit all alike.
pub struct Match<'a> {
    row: String,
    contestants: Vec<(String, usize, Turn<'a>)>,
    settle: Duration,
    alone: bool,
}

impl<'a> Match<'a> {
    pub fn new(row: impl Into<String>) -> Match<'a> {
        Match { row: row.into(), contestants: Vec::new(), settle: Duration::ZERO, alone: false }
    }

    /// After each turn, this long is waited, so that what one contestant leaves to do is not the next one's burden.
    pub fn settle(mut self, time: Duration) -> Match<'a> {
        self.settle = time;
        self
    }

    /// The row says something only about a machine that has nothing else to do: tell whether it had.
    pub fn alone(mut self) -> Match<'a> {
        self.alone = true;
        self
    }

    /// Another contestant.
    pub fn enter(&mut self, name: &str, turn: impl FnMut(&mut Samples) -> Result + 'a) {
        self.enter_for(usize::MAX, name, turn);
    }

    /// Another contestant, one so slow that it only takes part in the first rounds.
    pub fn enter_for(&mut self, rounds: usize, name: &str, turn: impl FnMut(&mut Samples) -> Result + 'a) {
        self.contestants.push((name.to_owned(), rounds, Box::new(turn)));
    }

    /// All rounds; each begins with another contestant. A contestant that fails is out, with a note.
    pub fn play(mut self, rounds: usize) {
        let mut samples = Samples::of(&self.row);
        let (began, waited) = (Instant::now(), waited());
        for round in 0..rounds {
            let count = self.contestants.len();
            for place in 0..count {
                let (name, limit, turn) = &mut self.contestants[(round + place) % count];
                if round >= *limit {
                    continue;
                }
                samples.contestant.clone_from(name);
                if let Err(e) = turn(&mut samples) {
                    note(&self.row, &format!("{name} has failed: {e}"));
                    *limit = 0;
                }
                if !self.settle.is_zero() {
                    std::thread::sleep(self.settle);
                }
            }
        }
        if self.alone {
            let share = (self::waited() - waited).as_secs_f64() / began.elapsed().as_secs_f64();
            note(&self.row, &format!("somebody waited for a processor {:.0} % of the time", share * 100.0));
        }
        // Not before: whoever reads this would take time from the contestants.
        samples.tell();
    }
}

/// Runs it and says how long it took.
pub fn timed(what: impl FnOnce() -> Result) -> Result<Duration> {
    let began = Instant::now();
    what()?;
    Ok(began.elapsed())
}

/// For how long anybody on this machine had to wait for a processor so far (PSI); nothing where the kernel does not say.
fn waited() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.lines().next().and_then(|l| l.rsplit_once("total=")).and_then(|(_, t)| t.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}

/// Something that the reader of the table should know.
pub fn note(row: &str, text: &str) {
    tell(&format!("note\t{row}\t{}\n", text.replace(['\n', '\t'], " ")));
}

fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: then the run is over anyway.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
