//! A helper that has ended, with its status and its output.

use std::fmt;
use std::path::Path;
use std::process::{ExitStatus, Output as ProcessOutput};

use assert_cmd::assert::Assert;
use once_cell::sync::OnceCell;

use crate::own_dir::{self, OwnDir};
use crate::stop::Escapee;
use crate::transcript::{Cut, Transcript, Visible};

/// A helper that has ended, with its status and its output; see [`Fixture::finish`](crate::Fixture::finish).
pub struct Finished {
    pub(crate) output: ProcessOutput,
    pub(crate) escapees: Vec<Escapee>,
    pub(crate) dropped: u64,
    pub(crate) command: String,
    pub(crate) transcript: Transcript,
    pub(crate) dir: OnceCell<OwnDir>,
}

impl fmt::Debug for Finished {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = &self.transcript.secrets;
        let shown = |bytes: &[u8]| Visible(&secrets.redacted(bytes, Cut::BOTH)).to_string();
        f.debug_struct("Finished")
            .field("command", &secrets.redacted_text(&self.command))
            .field("status", &self.output.status)
            .field("stdout", &shown(&self.output.stdout))
            .field("stderr", &shown(&self.output.stderr))
            .finish_non_exhaustive()
    }
}

impl Finished {
    /// For `assert_cmd`'s checks: `.assert().success().stdout("…")`.
    ///
    /// The output is what no expectation has consumed; what was sent as a secret appears in it as `[secret]`, because it is
    /// printed when a check fails. The helper's [directory](Finished::dir) is gone afterwards.
    #[must_use]
    pub fn assert(self) -> Assert {
        let transcript = format!("\n{}", self.transcript.last_lines(20).0);
        let secrets = &self.transcript.secrets;
        let mut output = self.output;
        output.stdout = secrets.redacted(&output.stdout, Cut::BOTH).into_owned();
        output.stderr = secrets.redacted(&output.stderr, Cut::BOTH).into_owned();
        let command = secrets.redacted_text(&self.command);
        let assert = Assert::new(output).append_context("command", command);
        let assert = assert.append_context("transcript", transcript);
        match self.dropped {
            0 => assert,
            n => assert.append_context(
                "output",
                format!("{n} bytes were dropped before anybody asked; keep more with `.buffer(…)`"),
            ),
        }
    }

    /// The fixture's own directory with what the helper has left in it; it goes with this value.
    ///
    /// # Panics
    ///
    /// When it was never used and cannot be made now.
    #[track_caller]
    pub fn dir(&self) -> &Path {
        own_dir::of(&self.dir).path()
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

    /// What was said, from the beginning to the end.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Processes that it had left behind; see [`Stopped::escapees`](crate::Stopped::escapees).
    #[must_use]
    pub fn escapees(&self) -> &[Escapee] {
        &self.escapees
    }
}
