//! What the suite is: `cargo test`, `cargo nextest run` or something else, and what it tells about its tests.

use std::process::Command;

use super::run_dir::RunDir;
use super::{Options, Report};

/// A suite that is understood, as far as it can be.
#[derive(Debug)]
pub(super) struct Suite {}

impl Suite {
    pub(super) fn understand(_options: &Options) -> Suite {
        Suite {}
    }

    /// The command that runs it, with what makes it tell more.
    pub(super) fn command(&self, options: &Options, _run_dir: &RunDir) -> Command {
        options.suite()
    }

    /// Fills in which tests ran, when, and how they went.
    pub(super) fn read_tests(&self, _report: &mut Report, _run_dir: &RunDir) {}
}
