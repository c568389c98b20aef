//! What to run and how long to wait: the options of a leak check, and the command line that says them.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::Duration;

/// How long what is alive after the suite's end may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Variables that cargo and nextest set for one process of theirs; in a leak they tell where it came from.
pub(super) const HINTS: [&str; 4] = ["NEXTEST_TEST_NAME", "NEXTEST_BINARY_ID", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"];

pub(super) const HELP: &str = "\
Runs a test suite and finds what it has left alive.

usage: leakcheck [--grace MS] [-- CARGO-ARGUMENTS...]
       leakcheck [--grace MS] exec -- COMMAND [ARGUMENTS...]

  leakcheck                      runs `cargo test --workspace`
  leakcheck -- nextest run       runs `cargo nextest run`
  leakcheck exec -- make check   runs `make check`

options:
  --grace MS   how long what is alive after the suite's end may take to end by itself [default: 500];
               it is paid only when something is alive
  -h, --help   this text

status: 0 nothing is left; the suite's own when it failed (128 + N when signal N killed it);
        23 the suite succeeded and left something alive; 24 could not check; 2 wrong arguments
";

/// What a leak check runs, and how patient it is.
///
/// # Examples
///
/// ```no_run
/// use foster::leakcheck::{self, Options};
///
/// # fn main() -> std::io::Result<()> {
/// let report = leakcheck::run(&Options::cargo(["nextest", "run"]))?;
/// for leak in report.leaks() {
///     eprintln!("{} {}", leak.pid(), leak.command());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    program: OsString,
    /// What a report calls it: where cargo is installed is of no interest there.
    name: OsString,
    args: Vec<OsString>,
    grace: Duration,
}

impl Options {
    /// Cargo with these arguments: the one that runs this process (`CARGO`), or else the first one in the `PATH`.
    #[must_use]
    pub fn cargo<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Options {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Options { name: "cargo".into(), ..Options::command(program, args) }
    }

    /// Any program.
    #[must_use]
    pub fn command<S: Into<OsString>>(program: impl Into<OsString>, args: impl IntoIterator<Item = S>) -> Options {
        let program = program.into();
        let args = args.into_iter().map(Into::into).collect();
        Options { name: program.clone(), program, args, grace: GRACE }
    }

    /// How long what is alive after the suite's end may take to end by itself; half a second unless said otherwise.
    ///
    /// It is paid only when something is alive. Zero looks once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Options {
        self.grace = grace;
        self
    }

    pub(super) fn patience(&self) -> Duration {
        self.grace
    }

    /// The suite, ready to be started.
    pub(super) fn suite(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        // `cargo run` has set them for this process. What a leak says about itself must come from the suite.
        for name in HINTS {
            command.env_remove(name);
        }
        command
    }

    /// As a person would type it.
    pub(super) fn line(&self) -> String {
        let words = std::iter::once(&self.name).chain(&self.args);
        words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }
}

impl Default for Options {
    /// `cargo test --workspace`
    fn default() -> Options {
        Options::cargo(["test", "--workspace"])
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Run(Options),
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut args = args.into_iter();
    let mut grace = GRACE;
    let options = loop {
        let Some(word) = args.next() else { break Options::default() };
        let text = word.to_string_lossy();
        match text.as_ref() {
            "-h" | "--help" => return Ok(Asked::Help),
            "--grace" => grace = milliseconds(args.next().as_deref())?,
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
            other => match other.strip_prefix("--grace=") {
                Some(value) => grace = milliseconds(Some(value.as_ref()))?,
                None => return Err(format!("unknown argument `{other}`; what is to be run stands after `--`")),
            },
        }
    };
    Ok(Asked::Run(options.grace(grace)))
}

fn milliseconds(value: Option<&OsStr>) -> Result<Duration, String> {
    let value = value.ok_or("`--grace` needs a number of milliseconds")?.to_string_lossy();
    // As much as a thread can sensibly be told to wait; it also keeps every deadline within what an `Instant` can hold.
    match value.parse::<u32>() {
        Ok(ms) => Ok(Duration::from_millis(ms.into())),
        Err(_) => Err(format!("`--grace` needs a number of milliseconds, and `{value}` is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        parse(words.iter().map(OsString::from))
    }

    fn runs(words: &[&str]) -> Options {
        match asked(words) {
            Ok(Asked::Run(options)) => options,
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
    fn what_makes_no_sense_is_said() {
        for (words, complaint) in [
            (&["--wait"][..], "unknown argument `--wait`; what is to be run stands after `--`"),
            (&["test"], "unknown argument `test`; what is to be run stands after `--`"),
            (&["--grace"], "`--grace` needs a number of milliseconds"),
            (&["--grace", "soon"], "`--grace` needs a number of milliseconds, and `soon` is none"),
            (&["--grace=-1"], "`--grace` needs a number of milliseconds, and `-1` is none"),
            (&["exec"], "`exec` needs `--` and a command"),
            (&["exec", "make"], "`exec` needs `--` and a command"),
            (&["exec", "--"], "there is no command after `exec --`"),
        ] {
            assert_eq!(asked(words), Err(complaint.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn a_suite_does_not_inherit_what_cargo_has_said_about_us() {
        let removed: Vec<_> =
            Options::default().suite().get_envs().filter(|(_, v)| v.is_none()).map(|(k, _)| k.to_owned()).collect();
        assert_eq!(removed.len(), HINTS.len());
    }
}
