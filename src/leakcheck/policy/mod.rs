//! What a repository allows and what fails it: `.config/foster.toml`.

use std::time::Duration;

use super::{Leak, Options, Report};

/// The policy that applies to a run; the defaults where there is no file.
#[derive(Debug, Default)]
pub(super) struct Policy {}

impl Policy {
    /// Reads the file that the options name, or the workspace's, if it is there.
    ///
    /// The error is for people: file, line, what was expected.
    pub(super) fn load(_options: &Options) -> Result<Policy, String> {
        Ok(Policy {})
    }

    /// How long what is alive may take to end, if the file says so.
    pub(super) fn grace(&self) -> Option<Duration> {
        None
    }

    /// Is this process to be left running? Asked before anything is ended.
    pub(super) fn spares(&self, _leak: &Leak) -> bool {
        false
    }

    /// Says of each finding whether it is allowed, and what is the matter with the policy itself.
    pub(super) fn judge(&self, _report: &mut Report) {}
}
