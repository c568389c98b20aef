//! Which test is to blame: what is known about a leak's birth, put together; and if that is not enough, the suspects are
//! run again, one by one.

use super::run_dir::RunDir;
use super::suite::Suite;
use super::{Options, Report};

/// Fills in test, outcome, suspects, fix and the command that runs the test again.
pub(super) fn find(_report: &mut Report, _options: &Options, _suite: &Suite, _run_dir: &RunDir) {}
