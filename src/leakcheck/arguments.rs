//! The command line of the leak check: what it understands, and what it says when it does not.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::Options;
use super::facts::Shard;

pub(super) const HELP: &str = "\
Runs a test suite and finds what it has left alive.

usage: leakcheck [OPTIONS] [-- CARGO-ARGUMENTS...]
       leakcheck [OPTIONS] exec -- COMMAND [ARGUMENTS...]
       leakcheck merge [--shards N] [--report-dir DIR] REPORT-OR-DIRECTORY...
       leakcheck init

  leakcheck                      runs `cargo test --workspace`
  leakcheck -- nextest run       runs `cargo nextest run`
  leakcheck exec -- make check   runs `make check`
  leakcheck merge reports/       one report of the shards of a suite
  leakcheck init                 makes `cargo xtask leakcheck` work in this package

options:
  --grace MS              how long what is alive after the suite's end may take to end by itself [default: 500];
                          it is paid only when something is alive
  --timeout SECONDS       how long the suite may take in all; then what hangs is printed and ended; 0: no limit
  --rerun SECONDS         how long tests may be run again to find out which one leaked; 0: never [default: 120]
  --shard I/N             this is part I of N; nextest's `--partition` says it, too
  --report-dir DIR        where JSON, JUnit, SARIF, Markdown and HTML go [default: target/leakcheck]
  --no-report             no files
  --policy FILE           what is allowed and what fails [default: .config/foster.toml, if it is there]
  --write-baseline [FILE] adds an allowance for each finding to the policy, for a suite that is not clean yet
  --no-tmpdir             the suite keeps the temporary directory that there is; what it leaves there is not found
  -h, --help              this text

status: 0 nothing is left; the suite's own when it failed (128 + N when signal N killed it);
        23 the suite succeeded and left something; 24 could not check; 4 no test ran; 124 the time was up;
        2 wrong arguments
";

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Run(Box<Options>),
    Merge(Merge),
    Init,
}

/// What is to be merged.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Merge {
    /// Reports, or directories that hold some.
    pub(super) from: Vec<PathBuf>,
    /// How many there must be; what the reports themselves say, unless given.
    pub(super) shards: Option<u32>,
    pub(super) report_dir: Option<PathBuf>,
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut args = args.into_iter().peekable();
    match args.peek().and_then(|word| word.to_str()) {
        Some("merge") => return merge(args.skip(1)),
        Some("init") => return init(args.skip(1)),
        _ => {}
    }
    let mut given = Given::default();
    let options = loop {
        let Some(word) = args.next() else { break Options::default() };
        let text = word.to_string_lossy();
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
            _ => (text.as_ref(), None),
        };
        match name {
            "-h" | "--help" => return Ok(Asked::Help),
            "--" => {
                let words: Vec<OsString> = args.collect();
                break if words.is_empty() { Options::default() } else { Options::cargo(words) };
            }
            "exec" => {
                if args.next().is_none_or(|next| next != "--") {
                    return Err("`exec` needs `--` and a command".to_owned());
                }
                let program = args.next().ok_or("there is no command after `exec --`")?;
                break Options::command(program, args);
            }
            "--no-tmpdir" if inline.is_none() => given.no_temp_dir = true,
            "--no-report" if inline.is_none() => given.no_report = true,
            "--write-baseline" => {
                // The file may be left out, and then the next word is another option.
                let next = || args.next_if(|w| !w.to_string_lossy().starts_with('-') && w != "exec");
                given.baseline = Some(inline.or_else(next).map_or_else(|| super::POLICY.into(), PathBuf::from));
            }
            "--grace" | "--timeout" | "--rerun" | "--shard" | "--report-dir" | "--policy" => {
                let value = inline.or_else(|| args.next());
                given.set(name, value.as_deref())?;
            }
            _ => return Err(format!("unknown argument `{text}`; what is to be run stands after `--`")),
        }
    };
    Ok(Asked::Run(Box::new(given.apply(options))))
}

/// Options that have been read, before it is known what they are for.
#[derive(Default)]
struct Given {
    grace: Option<Duration>,
    timeout: Option<Duration>,
    rerun: Option<Duration>,
    shard: Option<Shard>,
    report_dir: Option<PathBuf>,
    no_report: bool,
    no_temp_dir: bool,
    policy: Option<PathBuf>,
    baseline: Option<PathBuf>,
}

impl Given {
    fn set(&mut self, name: &str, value: Option<&OsStr>) -> Result<(), String> {
        match name {
            "--grace" => self.grace = Some(Duration::from_millis(number(name, "milliseconds", value)?)),
            "--timeout" => self.timeout = Some(Duration::from_secs(number(name, "seconds", value)?)),
            "--rerun" => self.rerun = Some(Duration::from_secs(number(name, "seconds", value)?)),
            "--shard" => self.shard = Some(shard(value)?),
            "--report-dir" => self.report_dir = Some(path(name, value)?),
            _ => self.policy = Some(path(name, value)?),
        }
        Ok(())
    }

    fn apply(self, mut options: Options) -> Options {
        options.grace = self.grace;
        options.timeout = self.timeout;
        options.shard = self.shard;
        options.policy = self.policy;
        options.baseline = self.baseline;
        options.own_temp_dir = !self.no_temp_dir;
        if let Some(limit) = self.rerun {
            options = options.rerun((!limit.is_zero()).then_some(limit));
        }
        if let Some(dir) = self.report_dir {
            options = options.report_dir(dir);
        }
        if self.no_report { options.no_report() } else { options }
    }
}

fn merge(args: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut merge = Merge::default();
    let mut args = args;
    while let Some(word) = args.next() {
        match word.to_str() {
            Some("-h" | "--help") => return Ok(Asked::Help),
            Some("--shards") => {
                let count = number("--shards", "shards", args.next().as_deref())?;
                merge.shards = Some(u32::try_from(count).unwrap_or(u32::MAX));
            }
            Some("--report-dir") => merge.report_dir = Some(path("--report-dir", args.next().as_deref())?),
            Some(option) if option.starts_with("--") => return Err(format!("`merge` knows no `{option}`")),
            _ => merge.from.push(word.into()),
        }
    }
    if merge.from.is_empty() {
        return Err("`merge` needs the reports, or a directory that holds them".to_owned());
    }
    Ok(Asked::Merge(merge))
}

fn init(mut args: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    match args.next() {
        None => Ok(Asked::Init),
        Some(word) if word == "-h" || word == "--help" => Ok(Asked::Help),
        Some(word) => Err(format!("`init` takes no `{}`", word.to_string_lossy())),
    }
}

fn number(option: &str, unit: &str, value: Option<&OsStr>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("`{option}` needs a number of {unit}"))?.to_string_lossy();
    // As much as a thread can sensibly be told to wait; it also keeps every deadline within what an `Instant` can hold.
    match value.parse::<u32>() {
        Ok(n) => Ok(n.into()),
        Err(_) => Err(format!("`{option}` needs a number of {unit}, and `{value}` is none")),
    }
}

fn shard(value: Option<&OsStr>) -> Result<Shard, String> {
    let text = value.ok_or("`--shard` needs a part, as in `1/4`")?.to_string_lossy();
    let parsed = text.split_once('/').and_then(|(i, n)| Some(Shard { index: i.parse().ok()?, count: n.parse().ok()? }));
    match parsed {
        Some(shard) if (1..=shard.count).contains(&shard.index) => Ok(shard),
        _ => Err(format!("`--shard` needs a part, as in `1/4`, and `{text}` is none")),
    }
}

fn path(option: &str, value: Option<&OsStr>) -> Result<PathBuf, String> {
    value.filter(|v| !v.is_empty()).map(PathBuf::from).ok_or_else(|| format!("`{option}` needs a path"))
}

#[cfg(test)]
mod tests {
    use super::super::options::Files;
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        parse(words.iter().map(OsString::from))
    }

    fn runs(words: &[&str]) -> Options {
        match asked(words) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_says_what_is_run() {
        let cargo = |words: &[&str]| Options::cargo(words.iter().copied());
        assert_eq!(runs(&[]), cargo(&["test", "--workspace"]));
        assert_eq!(runs(&["--"]), cargo(&["test", "--workspace"]));
        assert_eq!(runs(&["--", "nextest", "run", "--", "-x"]), cargo(&["nextest", "run", "--", "-x"]));
        assert_eq!(runs(&["exec", "--", "make", "--", "a"]), Options::command("make", ["--", "a"]));
        let patient = Duration::from_millis(70);
        assert_eq!(runs(&["--grace", "70", "--", "bench"]), cargo(&["bench"]).grace(patient));
        assert_eq!(runs(&["--grace=70", "exec", "--", "a b"]), Options::command("a b", [""; 0]).grace(patient));
        assert_eq!(asked(&["--grace", "1", "-h"]), Ok(Asked::Help));
        assert_eq!(asked(&["--help"]), Ok(Asked::Help));
        assert_eq!(runs(&["exec", "--", "make", "--help"]), Options::command("make", ["--help"]));
    }

    #[test]
    fn the_options_say_how() {
        let options = runs(&["--timeout=9", "--rerun", "0", "--shard", "2/3", "--report-dir=r", "--policy", "p.toml"]);
        assert_eq!((options.timeout, options.rerun), (Some(Duration::from_secs(9)), None));
        assert_eq!(options.shard, Some(Shard { index: 2, count: 3 }));
        assert_eq!((options.files, options.policy), (Files::In("r".into()), Some("p.toml".into())));
        assert_eq!(runs(&["--no-report"]).files, Files::Nowhere);
        assert!(runs(&[]).own_temp_dir && !runs(&["--no-tmpdir"]).own_temp_dir);
        assert_eq!(runs(&["--write-baseline", "--no-report"]).baseline, Some(".config/foster.toml".into()));
        assert_eq!(runs(&["--write-baseline", "exec", "--", "x"]).baseline, Some(".config/foster.toml".into()));
        assert_eq!(runs(&["--write-baseline", "b.toml", "--", "test"]).baseline, Some("b.toml".into()));
        assert_eq!(asked(&["init"]), Ok(Asked::Init));
        let merge = Merge { from: vec!["a".into(), "b".into()], shards: Some(2), report_dir: Some("r".into()) };
        assert_eq!(asked(&["merge", "a", "--shards", "2", "--report-dir", "r", "b"]), Ok(Asked::Merge(merge)));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (words, complaint) in [
            (&["--wait"][..], "unknown argument `--wait`; what is to be run stands after `--`"),
            (&["--no-report=x"], "unknown argument `--no-report=x`; what is to be run stands after `--`"),
            (&["test"], "unknown argument `test`; what is to be run stands after `--`"),
            (&["--grace"], "`--grace` needs a number of milliseconds"),
            (&["--grace", "soon"], "`--grace` needs a number of milliseconds, and `soon` is none"),
            (&["--grace=-1"], "`--grace` needs a number of milliseconds, and `-1` is none"),
            (&["--timeout", "-1"], "`--timeout` needs a number of seconds, and `-1` is none"),
            (&["--shard", "4/3"], "`--shard` needs a part, as in `1/4`, and `4/3` is none"),
            (&["--shard=0/3"], "`--shard` needs a part, as in `1/4`, and `0/3` is none"),
            (&["--policy="], "`--policy` needs a path"),
            (&["exec"], "`exec` needs `--` and a command"),
            (&["exec", "make"], "`exec` needs `--` and a command"),
            (&["exec", "--"], "there is no command after `exec --`"),
            (&["merge"], "`merge` needs the reports, or a directory that holds them"),
            (&["merge", "--all"], "`merge` knows no `--all`"),
            (&["init", "x"], "`init` takes no `x`"),
        ] {
            assert_eq!(asked(words), Err(complaint.to_owned()), "{words:?}");
        }
    }
}
