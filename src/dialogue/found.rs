//! What an expectation has found.

use std::fmt;
use std::panic::Location;
use std::str::FromStr;

use once_cell::sync::OnceCell;

use super::search::Captures;
use crate::error::{Error, ErrorKind, Result};
use crate::transcript::{Cut, Secrets, Visible};

/// Bytes that are text only for whoever looks at them: most do not, and there may be a mebibyte of them.
#[derive(Clone, Default)]
pub(crate) struct Lossy {
    bytes: Vec<u8>,
    text: OnceCell<String>,
}

impl Lossy {
    pub(crate) fn new(bytes: &[u8]) -> Lossy {
        Lossy { bytes: bytes.to_vec(), text: OnceCell::new() }
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| String::from_utf8_lossy(&self.bytes).into_owned())
    }
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

impl PartialEq for Lossy {
    fn eq(&self, other: &Lossy) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Lossy {}

/// What an expectation has found.
#[derive(Clone, PartialEq, Eq)]
pub struct Match {
    pub(crate) text: String,
    pub(crate) skipped: Lossy,
    pub(crate) partial: bool,
    pub(crate) truncated: bool,
    pub(crate) captures: Captures,
    pub(crate) secrets: Secrets,
}

impl fmt::Debug for Match {
    /// Without secrets: a test that fails prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| -> String {
            String::from_utf8_lossy(&self.secrets.redacted(text.as_bytes(), Cut::BOTH)).into_owned()
        };
        let captures: Vec<(&str, String)> = self.captures().map(|(name, value)| (name, shown(value))).collect();
        f.debug_struct("Match")
            .field("text", &shown(&self.text))
            .field("skipped", &shown(self.skipped()))
            .field("partial", &self.partial)
            .field("truncated", &self.truncated)
            .field("captures", &captures)
            .finish()
    }
}

impl Match {
    /// The text that was expected, or the line that satisfied the predicate; invalid UTF-8 appears as U+FFFD.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value under this name in a [`like`](crate::like) template, or under this name or number in a
    /// [`regex`](crate::regex()).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Capture`] when there is none of this name, or when it is no `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("echo").arg("took 17ms").spawn()?;
    /// let found = fx.expect(like("took {ms}ms"))?;
    /// assert_eq!(found.get::<u64>("ms")?, 17);
    /// assert_eq!(found.get::<bool>("ms").unwrap_err().kind(), foster::ErrorKind::Capture);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn get<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        parse(&self.captures, name, &self.text, &self.secrets)
    }

    /// All names and numbers with their values, in the order of the template.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.captures.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What was passed over on the way to it.
    pub fn skipped(&self) -> &str {
        self.skipped.text()
    }

    /// The beginning of this line is missing: more was unread than is kept (see [`buffer`](crate::FixtureBuilder::buffer)).
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The stream ended in the middle of this line: it has no line ending.
    pub fn is_partial(&self) -> bool {
        self.partial
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The value of this name as a `T`; `within` is what it was found in.
#[track_caller]
pub(crate) fn parse<T>(captures: &Captures, name: &str, within: &str, secrets: &Secrets) -> Result<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let at = Location::caller();
    let shown = |text: &str| Visible(&secrets.redacted(text.as_bytes(), Cut::BOTH)).to_string();
    let report = |names: &str| {
        let place = format!("{}:{}:{}", at.file(), at.line(), at.column());
        format!("  in         \"{}\"\n  captures   {names}\n  at         {place}\n", shown(within))
    };
    let names = || {
        let all: Vec<String> = captures.iter().map(|(n, v)| format!("{n}=\"{}\"", shown(v))).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let Some((_, value)) = captures.iter().find(|(n, _)| n == name) else {
        let message = format!("failed to read capture `{name}`: there is none of this name");
        return Err(Error::new(ErrorKind::Capture, message).with_report(report(&names())));
    };
    value.parse().map_err(|e: T::Err| {
        let kind = std::any::type_name::<T>();
        let message = format!("failed to read capture `{name}`: `{}` is no `{kind}`: {e}", shown(value));
        Error::new(ErrorKind::Capture, secrets.redacted_text(&message)).with_report(report(&names()))
    })
}
