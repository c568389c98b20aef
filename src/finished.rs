//! A helper that has ended, with its status and its output.

use std::process::{ExitStatus, Output as ProcessOutput};

use assert_cmd::assert::Assert;

use crate::stop::Escapee;

/// A helper that has ended, with its status and its output; see [`Fixture::finish`](crate::Fixture::finish).
#[derive(Debug, Clone)]
pub struct Finished {
    pub(crate) output: ProcessOutput,
    pub(crate) escapees: Vec<Escapee>,
    pub(crate) dropped: u64,
    pub(crate) command: String,
}

impl Finished {
    /// For `assert_cmd`'s checks: `.assert().success().stdout("…")`.
    ///
    /// The output is what no expectation has consumed.
    #[must_use]
    pub fn assert(self) -> Assert {
        let assert = Assert::new(self.output).append_context("command", self.command);
        match self.dropped {
            0 => assert,
            n => assert.append_context(
                "output",
                format!("{n} bytes were dropped before anybody asked; keep more with `.buffer(…)`"),
            ),
        }
    }

    /// How it ended.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        self.output.status
    }

    /// What it printed and no expectation has consumed.
    #[must_use]
    pub fn stdout(&self) -> &[u8] {
        &self.output.stdout
    }

    /// What it printed on standard error and no expectation has consumed.
    #[must_use]
    pub fn stderr(&self) -> &[u8] {
        &self.output.stderr
    }

    /// Processes that it had left behind; see [`Stopped::escapees`](crate::Stopped::escapees).
    #[must_use]
    pub fn escapees(&self) -> &[Escapee] {
        &self.escapees
    }
}
