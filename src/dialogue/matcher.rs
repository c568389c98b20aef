//! What can be expected of a helper's output.

use std::fmt;

use once_cell::sync::OnceCell;
use predicates_core::Predicate;

use crate::transcript::Visible;

/// Something to expect, made by [`IntoMatcher`].
pub struct Matcher<'m> {
    pub(crate) kind: Kind<'m>,
}

pub(crate) enum Kind<'m> {
    /// These bytes, literally.
    Literal(Vec<u8>),
    /// A line of which this is true.
    Line { test: Box<dyn FnMut(&str) -> bool + 'm>, description: String },
}

impl Matcher<'_> {
    /// The literal's bytes, if it is one.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Literal(text) => Some(text),
            Kind::Line { .. } => None,
        }
    }

    /// Does this whole line match? A literal is compared byte by byte with what really came.
    pub(crate) fn matches_line(&mut self, raw: &[u8], line: &str) -> bool {
        match &mut self.kind {
            Kind::Literal(text) => text == raw,
            Kind::Line { test, .. } => test(line),
        }
    }
}

impl fmt::Display for Matcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Literal(text) => write!(f, "{}", Visible(text)),
            Kind::Line { description, .. } => f.write_str(description),
        }
    }
}

impl fmt::Debug for Matcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matcher({self})")
    }
}

/// What the `expect` family accepts.
///
/// | argument | [`expect`](crate::Fixture::expect) | [`expect_line`](crate::Fixture::expect_line) |
/// |---|---|---|
/// | `&str`, `String` | this text, anywhere, also across lines | the whole line is this text |
/// | any [`predicates::Predicate<str>`](predicates_core::Predicate) | a line that satisfies it | the next line satisfies it |
/// | a closure `\|line: &str\| -> bool` | a line for which it says `true` | it says `true` of the next line |
///
/// A line is passed without its line ending (`\n` or `\r\n`); bytes that are no UTF-8 appear as U+FFFD.
/// The type of a closure's argument has to be written out.
/// A matcher must not use the fixture that it is being matched against: that is a panic.
///
/// `Via` only tells the three apart for the compiler; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be expected",
    note = "expect a text, a predicate by value, or a closure with its argument's type: `|line: &str| ...`"
)]
pub trait IntoMatcher<Via> {
    /// Turns it into a matcher.
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm;
}

/// How text becomes a matcher.
#[derive(Debug)]
pub enum ViaText {}

/// How a predicate becomes a matcher.
#[derive(Debug)]
pub enum ViaPredicate {}

/// How a closure becomes a matcher.
#[derive(Debug)]
pub enum ViaClosure {}

impl IntoMatcher<ViaText> for &str {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher { kind: Kind::Literal(self.as_bytes().to_vec()) }
    }
}

impl IntoMatcher<ViaText> for &String {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        self.as_str().into_matcher()
    }
}

impl IntoMatcher<ViaText> for String {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher { kind: Kind::Literal(self.into_bytes()) }
    }
}

impl<P: Predicate<str>> IntoMatcher<ViaPredicate> for P {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        // Most predicates call what they look at `var`.
        let description = format!("a line with {}", self.to_string().replacen("var", "text", 1));
        Matcher { kind: Kind::Line { test: Box::new(move |line| self.eval(line)), description } }
    }
}

impl<F: FnMut(&str) -> bool> IntoMatcher<ViaClosure> for F {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        let description = "a line for which the closure says true".to_owned();
        Matcher { kind: Kind::Line { test: Box::new(self), description } }
    }
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub(crate) text: String,
    pub(crate) skipped: Lossy,
    pub(crate) partial: bool,
    pub(crate) truncated: bool,
}

impl Match {
    /// The text that was expected, or the line that satisfied the predicate; invalid UTF-8 appears as U+FFFD.
    pub fn text(&self) -> &str {
        &self.text
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
