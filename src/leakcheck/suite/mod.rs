//! What the suite is: `cargo test`, `cargo nextest run` or something else, and what it tells about its tests.
//!
//! Whatever the user has written is passed through as it is. nextest writes down which tests ran; `cargo test` does not,
//! so that after it the test executables are asked for their lists: with the same filters, one time, some milliseconds
//! each.

mod junit;
mod libtest;
mod nextest;
mod words;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::below::Below;
use super::facts::{Ending, Outcome};
use super::options::HINTS;
use super::run_dir::RunDir;
use super::{Options, Report};

pub(super) use libtest::{CargoTest, Executable, Listing, documentation_filter};
use nextest::Nextest;
use words::Line;
pub(super) use words::quoted;

/// How long rustdoc may take to list documentation tests, where nothing else ran.
const DOCUMENTATION_LIMIT: Duration = Duration::from_secs(120);

/// A suite that is understood, as far as it can be.
#[derive(Debug)]
pub(super) struct Suite {
    kind: Kind,
    options: Options,
    listing: OnceCell<Listing>,
}

#[derive(Debug)]
enum Kind {
    Cargo(CargoTest),
    Nextest(Nextest),
    Other,
}

impl Suite {
    pub(super) fn understand(options: &Options) -> Suite {
        let kind = kind(options).unwrap_or(Kind::Other);
        Suite { kind, options: options.clone(), listing: OnceCell::new() }
    }

    /// The command that runs it, with what makes it tell more.
    pub(super) fn command(&self, options: &Options, run_dir: &RunDir) -> Command {
        match &self.kind {
            Kind::Nextest(nextest) => {
                let mut command = program(options);
                command.args(nextest.args(run_dir.path()));
                command
            }
            Kind::Cargo(_) | Kind::Other => options.suite(),
        }
    }

    /// Fills in which tests ran, when, and how they went.
    pub(super) fn read_tests(&self, report: &mut Report, run_dir: &RunDir) {
        match &self.kind {
            Kind::Nextest(nextest) => {
                if let Some(junit) = nextest.junit(run_dir.path(), report.started_unix_ms) {
                    report.tests_run = Some(junit.count);
                    report.tests = junit.runs;
                }
            }
            Kind::Cargo(cargo) if !is_cut_short(report) => {
                let succeeded = report.ending.is_some_and(Ending::success);
                if succeeded || !report.leaks.is_empty() {
                    self.read_listing(cargo, report, succeeded);
                }
            }
            Kind::Cargo(_) | Kind::Other => {}
        }
    }

    fn read_listing(&self, cargo: &CargoTest, report: &mut Report, succeeded: bool) {
        let Ok(mut below) = Below::new() else { return };
        let listing = self.listing.get_or_init(|| cargo.list(&self.options, &mut below));
        report.tests = listing.runs(if succeeded { Outcome::Passed } else { Outcome::Unknown });
        if succeeded {
            report.tests_run = listing.count();
            // The number of documentation tests would be expensive; that there are some matters if nothing else ran.
            if report.tests_run == Some(0) && cargo.documents() && listing.may_document() {
                let until = Instant::now() + DOCUMENTATION_LIMIT;
                let listed = cargo.list_documentation(&self.options, &mut below, until);
                report.tests_run = listed.map(|names| names.len() as u64);
            }
        }
        if let Some(request) = below.request() {
            report.interrupted = Some(request.signal);
        }
    }

    /// The run of `cargo test` and what is known of it, if it is one.
    pub(super) fn cargo_test(&self) -> Option<(&CargoTest, &Listing)> {
        match &self.kind {
            Kind::Cargo(cargo) => Some((cargo, self.listing.get()?)),
            Kind::Nextest(_) | Kind::Other => None,
        }
    }

    pub(super) fn is_nextest(&self) -> bool {
        matches!(self.kind, Kind::Nextest(_))
    }

    /// Can single tests be run again?
    pub(super) fn runs_again(&self) -> bool {
        self.is_nextest() || self.cargo_test().is_some()
    }

    /// The command by which nextest runs one test, one time.
    pub(super) fn nextest_again(&self, options: &Options, binary: &str, name: &str) -> Option<Command> {
        let Kind::Nextest(nextest) = &self.kind else { return None };
        let mut command = program(options);
        command.args(nextest.once(binary, name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(command)
    }

    /// The user's file about the run; a second run of some tests must not take its place.
    pub(super) fn users_file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Nextest(nextest) => nextest.users_file(),
            Kind::Cargo(_) | Kind::Other => None,
        }
    }

    /// The words behind `leakcheck --` that run one test again.
    pub(super) fn again(&self, binary: &str, name: &str) -> Option<Vec<OsString>> {
        match &self.kind {
            Kind::Nextest(nextest) => Some(nextest.again(binary, name)),
            Kind::Cargo(cargo) => Some(cargo.again(self.listing.get(), binary, name)),
            Kind::Other => None,
        }
    }
}

fn kind(options: &Options) -> Option<Kind> {
    let name = Path::new(&options.program).file_name()?.to_str()?;
    let (head, rest) = match name {
        // As in an archive's run on a machine without cargo: `cargo-nextest nextest run`.
        "cargo-nextest" => options.args.split_at_checked(1).filter(|(head, _)| head[0] == "nextest")?,
        _ if name == "cargo" || options.is_cargo => {
            let line = Line::cargo(&options.args)?;
            match line.subcommand.as_str() {
                "test" | "t" => return CargoTest::understand(line).map(Kind::Cargo),
                "nextest" => options.args.split_at(line.before.len() + 1),
                _ => return None,
            }
        }
        _ => return None,
    };
    Nextest::understand(head.to_vec(), rest).map(Kind::Nextest)
}

/// The suite's program, without what cargo has said about this process.
fn program(options: &Options) -> Command {
    let mut command = Command::new(&options.program);
    for name in HINTS {
        command.env_remove(name);
    }
    command
}

/// Somebody waits for the end already, or the suite has not come to its own.
pub(super) fn is_cut_short(report: &Report) -> bool {
    report.interrupted.is_some() || report.timed_out_ms.is_some() || report.ending.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(options: &Options) -> &'static str {
        match Suite::understand(options).kind {
            Kind::Cargo(_) => "cargo test",
            Kind::Nextest(_) => "nextest",
            Kind::Other => "other",
        }
    }

    #[test]
    fn a_suite_is_known_by_its_words() {
        for (words, expected) in [
            (&["test"][..], "cargo test"),
            (&["+nightly", "-Z", "x", "t", "orders", "--", "--exact"], "cargo test"),
            (&["--offline", "nextest", "run", "-p", "shop"], "nextest"),
            (&["nextest", "--color", "never", "r"], "nextest"),
            (&["nextest", "list"], "other"),
            (&["test", "--no-run"], "other"),
            (&["test", "--", "--list"], "other"),
            (&["run", "--", "test"], "other"),
            (&["nextest"], "other"),
            (&[], "other"),
        ] {
            assert_eq!(named(&Options::cargo(words.iter().copied())), expected, "{words:?}");
        }
        assert_eq!(named(&Options::command("/usr/bin/cargo-nextest", ["nextest", "run"])), "nextest");
        assert_eq!(named(&Options::command("cargo-nextest", ["run"])), "other");
        assert_eq!(named(&Options::command("/x/cargo", ["test"])), "cargo test");
        assert_eq!(named(&Options::command("make", ["test"])), "other");
    }

    #[test]
    fn what_is_not_nextest_is_started_as_it_is() {
        let run_dir = RunDir::new(&Options::default()).unwrap();
        for words in [&["test", "x", "--", "--exact"][..], &["+nightly", "nextest", "list"]] {
            let options = Options::cargo(words.iter().copied());
            let command = Suite::understand(&options).command(&options, &run_dir);
            assert_eq!(command.get_args().collect::<Vec<_>>(), words);
        }
    }
}
