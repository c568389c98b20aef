//! What a run gets of its own: a temporary directory, and one in which foster notes what its fixtures do.

use std::io;
use std::process::Command;

use super::Report;

/// Both directories; dropping it removes them.
#[derive(Debug)]
pub(super) struct RunDir {}

impl RunDir {
    pub(super) fn new() -> io::Result<RunDir> {
        Ok(RunDir {})
    }

    /// Tells the suite about them.
    pub(super) fn apply(&self, _suite: &mut Command) {}

    /// What foster's fixtures have noted: helpers, and the fixtures of leaks.
    pub(super) fn read_journals(&self, _report: &mut Report) {}

    /// What is left in the temporary directory.
    pub(super) fn read_leftovers(&self, _report: &mut Report) {}
}
