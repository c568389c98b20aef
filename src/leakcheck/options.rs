//! What to run and how long to wait: the options of a leak check.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::facts::Shard;

/// How long what is alive after the suite's end may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Variables that foster, cargo and nextest set for one process of theirs; in a leak they tell where it came from.
pub(super) const HINTS: [&str; 7] = [
    "FOSTER_FIXTURE",
    "NEXTEST_TEST_NAME",
    "NEXTEST_BINARY_ID",
    "NEXTEST_ATTEMPT",
    "NEXTEST_RUN_ID",
    "CARGO_PKG_NAME",
    "CARGO_MANIFEST_DIR",
];

/// What a leak check runs, how patient it is, and where its files go.
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
    pub(super) program: OsString,
    /// What a report calls it: where cargo is installed is of no interest there.
    pub(super) name: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) grace: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) shard: Option<Shard>,
    pub(super) files: Files,
    pub(super) policy: Option<PathBuf>,
    pub(super) baseline: Option<PathBuf>,
    pub(super) rerun: Option<Duration>,
    /// Was that said? Then the policy has no say in it.
    pub(super) rerun_given: bool,
    pub(super) is_cargo: bool,
    /// The suite gets a temporary directory of its own.
    pub(super) own_temp_dir: bool,
}

/// Where the report's files go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Files {
    /// `target/leakcheck`, if cargo is what is run; nowhere otherwise.
    #[default]
    Default,
    /// Here.
    In(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// How long tests may be run again, in all, to find out which of them leaked.
pub(super) const RERUN: Duration = Duration::from_secs(120);

impl Options {
    /// Cargo with these arguments: the one that runs this process (`CARGO`), or else the first one in the `PATH`.
    #[must_use]
    pub fn cargo<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Options {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Options { name: "cargo".into(), is_cargo: true, ..Options::command(program, args) }
    }

    /// Any program.
    #[must_use]
    pub fn command<S: Into<OsString>>(program: impl Into<OsString>, args: impl IntoIterator<Item = S>) -> Options {
        let program = program.into();
        let args = args.into_iter().map(Into::into).collect();
        Options {
            name: program.clone(),
            program,
            args,
            grace: None,
            timeout: None,
            shard: None,
            files: Files::Default,
            policy: None,
            baseline: None,
            rerun: Some(RERUN),
            rerun_given: false,
            is_cargo: false,
            own_temp_dir: true,
        }
    }

    /// How long what is alive after the suite's end may take to end by itself; what the policy file says unless this is
    /// called, and half a second where that is silent, too.
    ///
    /// It is paid only when something is alive. Zero looks once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Options {
        self.grace = Some(grace);
        self
    }

    /// How long the suite may take in all; zero is no limit. Then what hangs is printed and ended, and the status is 124.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = Some(timeout);
        self
    }

    /// Which part of a suite this is that is spread over several machines: a partition of nextest's says it itself.
    #[must_use]
    pub fn shard(mut self, index: u32, count: u32) -> Options {
        self.shard = Some(Shard { index, count });
        self
    }

    /// Where JSON, JUnit, SARIF, Markdown and HTML are written: `target/leakcheck` unless said otherwise.
    #[must_use]
    pub fn report_dir(mut self, dir: impl Into<PathBuf>) -> Options {
        self.files = Files::In(dir.into());
        self
    }

    /// No files.
    #[must_use]
    pub fn no_report(mut self) -> Options {
        self.files = Files::Nowhere;
        self
    }

    /// The policy file; `.config/foster.toml` of the workspace unless said otherwise, if it is there.
    #[must_use]
    pub fn policy(mut self, file: impl Into<PathBuf>) -> Options {
        self.policy = Some(file.into());
        self
    }

    /// Writes an allowance for each finding into this policy file, for a suite that is not clean yet.
    #[must_use]
    pub fn write_baseline(mut self, file: impl Into<PathBuf>) -> Options {
        self.baseline = Some(file.into());
        self
    }

    /// How long tests may be run again, one by one, to find out which of them leaked; two minutes unless said otherwise.
    ///
    /// Needed only under `cargo test`, and only for what nothing else explains. `None`: never.
    #[must_use]
    pub fn rerun(mut self, limit: Option<Duration>) -> Options {
        self.rerun = limit;
        self.rerun_given = true;
        self
    }

    /// Whether the suite gets a temporary directory of its own (`TMPDIR`), which is looked through and removed at the end;
    /// it does unless said otherwise.
    ///
    /// Without it, files and sockets that are left there are not found.
    #[must_use]
    pub fn own_temp_dir(mut self, own: bool) -> Options {
        self.own_temp_dir = own;
        self
    }

    pub(super) fn patience(&self) -> Duration {
        self.grace.unwrap_or(GRACE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_does_not_inherit_what_cargo_has_said_about_us() {
        let removed: Vec<_> =
            Options::default().suite().get_envs().filter(|(_, v)| v.is_none()).map(|(k, _)| k.to_owned()).collect();
        assert_eq!(removed.len(), HINTS.len());
    }
}
