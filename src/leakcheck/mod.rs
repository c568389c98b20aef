//! The leak check: runs a test suite and asks the operating system, not foster, what it has left alive.
//!
//! A runner that says `ok` has looked at exit codes. A server that a test forgot to stop is not in them: it goes on, holds
//! its port and its memory, and the next run meets it.
//! The check makes the calling process a *child subreaper*, so whatever loses its parent below it becomes its child,
//! a daemon after `setsid` and a double fork included. When the suite has ended, "nothing is left" means that the kernel
//! has answered `ECHILD`. It works on any suite, whether foster is used in it or not.
//!
//! - A **zombie** is no leak: nothing of it runs.
//! - What is **just ending** is no leak: if something is alive, it gets a short grace, and only then is the grace paid.
//! - A **leak** is printed with all that is known about it, ended, and makes the check fail with status 23.
//! - A leak never hides a test failure, and a failure never hides a leak: the suite's own status wins, and the leak is
//!   printed all the same.
//!
//! # In your own xtask
//!
//! ```toml
//! [dependencies]
//! foster = { version = "0.1", features = ["leakcheck"] }
//! ```
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     foster::leakcheck::main()
//! }
//! ```
//!
//! `cargo xtask leakcheck` then runs `cargo test --workspace`, `cargo xtask leakcheck -- nextest run` anything else that
//! cargo can run, and `cargo xtask leakcheck exec -- make check` any command.
//!
//! # Exit status
//!
//! | status | meaning |
//! |---|---|
//! | 0 | the suite succeeded, and nothing was left |
//! | the suite's own, or 128 + N when signal N killed it | the suite failed, with or without leaks |
//! | 23 | the suite succeeded and left something alive |
//! | 24 | the check could not be made: no `/proc`, no subreaper, the suite could not be started |
//! | 2 | the arguments make no sense |
//!
//! # Limits
//!
//! What the suite asks *another* service to start (systemd, a container engine, a compiler cache that runs already) is
//! not below this process, so it is not seen. What is started by the suite to stay, such as a compiler cache's server,
//! is a leak.
//! If the check itself is killed with SIGKILL, the command that it runs is sent SIGTERM, but nobody looks any more.
//!
//! # Platforms
//!
//! Linux, with `/proc`.

mod adopt;
#[cfg(test)]
mod alone;
mod arguments;
mod below;
mod blame;
mod check;
mod deed;
mod evidence;
mod facts;
mod hang;
mod interrupt;
mod journal;
mod late;
mod leak;
mod leftovers;
mod line;
mod lineage;
mod merge;
mod options;
mod output;
mod pace;
mod policy;
mod progress;
mod report;
mod run_dir;
mod shards;
mod suite;
#[cfg(test)]
mod trials;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use arguments::Asked;
use policy::Policy;
use run_dir::RunDir;
use suite::Suite;

use crate::sys::signals;
use crate::sys::supervise::say_all;

pub use facts::{
    AllowanceUse, Allowed, Blame, Deed, EndedBy, Ending, Escape, FixtureRef, Helper, Holding, Kind, Leftover, Outcome,
    Place, PolicyNote, Shard, TestId, TestRun,
};
pub use leak::Leak;
pub use options::Options;
pub use report::Report;

/// The status of a suite that succeeded and left something alive.
pub const LEAKED: u8 = 23;

/// The status when the check could not be made.
pub const COULD_NOT_CHECK: u8 = 24;

/// The status when the suite succeeded and no test ran: nothing has been shown.
pub const NO_TESTS: u8 = 4;

/// The status when the time limit was reached, as timeout(1) has it.
pub const TIMED_OUT: u8 = 124;

/// The policy file, relative to the workspace.
const POLICY: &str = ".config/foster.toml";

/// The status when the arguments make no sense.
const USAGE: u8 = 2;

/// The whole leak check as a command line, with the arguments of this process: the `main` of an xtask, or one arm of it.
///
/// A first argument `leakcheck` is skipped, so that it may be the name of your xtask's subcommand.
/// [The module](self) describes what is run and what the status means; `--help` says it in the terminal.
///
/// Call it on the main thread, before others are started: see [`run`].
///
/// # Platforms
///
/// Linux.
#[must_use]
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    args.next_if(|word| word == "leakcheck");
    main_from(args)
}

/// Like [`main`], with arguments from somewhere else; the program's name is not among them.
///
/// # Platforms
///
/// Linux.
#[must_use]
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match arguments::parse(args) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            // Nobody reads it: then there is nobody to tell, either.
            let _ = io::stdout().write_all(arguments::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Merge(what)) => return merge::run(&what),
        Ok(Asked::Init) => return adopt::run(),
        Err(complaint) => {
            say_all(&format!("leakcheck: {complaint}\n  help: `leakcheck --help` lists what it understands\n"));
            return USAGE.into();
        }
    };
    match run(&options) {
        Ok(report) => {
            say_all(&output::for_console(&report));
            let mut status = report.exit_code();
            match output::write(&report, &options) {
                Ok(files) => say_all(&output::whereabouts(&report, &files)),
                Err(e) => {
                    say_all(&format!("leakcheck: {e}\n"));
                    if status == 0 && output::was_asked_for(&options) {
                        status = COULD_NOT_CHECK;
                    }
                }
            }
            if let Some(signal) = report.interrupted() {
                // So that whoever waits for us, a shell for instance, sees that we were interrupted.
                signals::die_by(signal.as_raw());
            }
            status.into()
        }
        Err(e) => {
            say_all(&format!("leakcheck: could not check: {e}\n"));
            COULD_NOT_CHECK.into()
        }
    }
}

/// Runs the suite, waits for its end, and finds and ends what it has left alive. Prints nothing but what the suite prints.
///
/// The suite gets this process's standard streams as they are. What is awaited is the end of the process that was started,
/// not the end of its output, so a leak that holds the output open does not hang the check.
///
/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, unless they are ignored or handled already, end the suite and everything below
/// it, politely and then by force; the report then says that it was [interrupted](Report::interrupted).
///
/// # The calling process
///
/// This is made for the main thread of a small program that does nothing else.
/// The process stays a child subreaper, and *every* child that ends during the run is reaped here, so the caller
/// must not wait for others. Children that it had before are never signalled, but what they leave behind counts as
/// the suite's. Signals are blocked in the calling thread for the duration; another thread would still be hit by them.
///
/// # Errors
///
/// When the check cannot be made (there is no `/proc`, or the kernel refuses to make this process a subreaper),
/// and when the suite cannot be started. Nothing has been started then.
///
/// # Platforms
///
/// Linux.
pub fn run(options: &Options) -> io::Result<Report> {
    let policy = Policy::load(options).map_err(io::Error::other)?;
    let mut options = options.clone();
    policy.complete(&mut options);
    options.shard = shards::of(&options).map_err(io::Error::other)?;
    let run_dir = RunDir::new(&options)?;
    let suite = Suite::understand(&options);
    let mut report = check::run(&options, &suite, &policy, &run_dir)?;
    suite.read_tests(&mut report, &run_dir);
    run_dir.read_journals(&mut report);
    run_dir.read_leftovers(&mut report);
    blame::find(&mut report, &options, &suite, &run_dir);
    policy.judge(&mut report);
    policy.write_baseline(&mut report)?;
    Ok(report)
}
