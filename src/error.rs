//! The one error type: what was attempted, what happened instead, and enough about the helper to fix it.

use std::error::Error as StdError;
use std::fmt;

use crate::color;

/// What foster's functions return; a test that returns it prints the whole report when it fails.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Something did not go as the test expected.
///
/// `Display` is one line. `Debug`, and `Display` with `{:#}`, is the report: what was expected and what was seen, the
/// helper's command, pid and state, and the end of the transcript. It is `Debug`, because that is what `?` in a test and
/// `unwrap` print. For them it is in color on a terminal: when both standard error and standard output are one, unless
/// `NO_COLOR` is set, or `CLICOLOR` is 0; and anywhere when `CLICOLOR_FORCE` is set. `{:#}` never is, and neither is `{:#?}`:
/// snapshot tests should use one of them. A test that has errors of other types as well returns `Result<(), Box<dyn std::error::Error>>`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    report: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The deadline passed.
    Timeout,
    /// The next line is another one than expected.
    Mismatch,
    /// Something came that was not to come.
    Unwanted,
    /// A capture is missing, or is not of the type that was asked for.
    Capture,
    /// The helper ended while something was expected of it.
    Exited,
    /// The stream ended while something was expected on it.
    Eof,
    /// The helper does not take input any more.
    InputClosed,
    /// The helper could not be started.
    Spawn,
    /// An argument that no program can be given, such as one with a NUL byte in it.
    InvalidInput,
    /// A [dialogue file](crate::docs::dialogue_files) that does not keep to the grammar.
    Syntax,
    /// The guardian or a keeper process does not answer.
    Guardian,
    /// The level of containment is lower than `FOSTER_REQUIRE` says.
    Level,
    /// A process could not be ended within the limit.
    Survivor,
    /// The operating system refused something else.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: String) -> Error {
        Error(Box::new(Inner { kind, message, report: String::new(), source: None }))
    }

    /// Adds the part that only `Debug` prints.
    pub(crate) fn with_report(mut self, report: String) -> Error {
        self.0.report = report;
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// The message, its causes, and the report.
    fn whole(&self) -> String {
        let mut text = self.0.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!("\n  caused by: {error}");
            cause = error.source();
        }
        if !self.0.report.is_empty() {
            text += "\n";
            text += self.0.report.trim_end();
        }
        text
    }

    /// The same, with what it happened in before the message, and these lines before the report.
    pub(crate) fn within(mut self, context: &str, rows: &str) -> Error {
        self.0.message = format!("{context}: {}", self.0.message);
        self.0.report.insert_str(0, rows);
        self
    }

    /// The same with this advice at the end of its report.
    pub(crate) fn with_help(mut self, help: &str) -> Error {
        self.0.report = format!("{}\n\n  help: {help}\n", self.0.report.trim_end());
        self
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Did the deadline pass?
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() { f.write_str(&self.whole()) } else { f.write_str(&self.0.message) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.whole();
        f.write_str(&if f.alternate() { report } else { color::for_printing(report) })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}
