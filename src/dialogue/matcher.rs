//! What can be expected of a helper's output.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem::Finder;
use predicates_core::Predicate;

#[cfg(feature = "regex")]
use super::pattern::Pattern;
use super::search::{Captures, Found, Stretch};
use super::template::Template;
use crate::transcript::Visible;

/// Something to expect, made by [`IntoMatcher`].
pub struct Matcher<'m> {
    pub(crate) kind: Kind<'m>,
}

pub(crate) enum Kind<'m> {
    /// These bytes, literally.
    Literal(Literal),
    /// Text with holes.
    Template(Box<Template>),
    #[cfg(feature = "regex")]
    Regex(Box<Pattern>),
    /// A line of which this is true.
    Line { test: Box<dyn FnMut(&str) -> bool + Send + 'm>, description: String },
}

/// Text, and how to find it; that is made only for who searches.
pub(crate) struct Literal {
    text: Vec<u8>,
    finder: Option<Box<Finder<'static>>>,
}

impl<'m> Matcher<'m> {
    pub(crate) fn text(bytes: &[u8]) -> Matcher<'m> {
        Matcher { kind: Kind::Literal(Literal { text: bytes.to_vec(), finder: None }) }
    }

    /// A line, whatever it is.
    pub(crate) fn any_line() -> Matcher<'m> {
        Matcher { kind: Kind::Line { test: Box::new(|_| true), description: "a line".to_owned() } }
    }

    /// One that is used up, of one that several use; what a closure remembers, they share.
    pub(crate) fn shared(this: &Arc<Mutex<Matcher<'static>>>) -> Matcher<'static> {
        let kind = match &this.lock().unwrap_or_else(PoisonError::into_inner).kind {
            Kind::Literal(literal) => return Matcher::text(&literal.text),
            Kind::Template(template) => Kind::Template(template.clone()),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => Kind::Regex(pattern.clone()),
            Kind::Line { description, .. } => {
                let (this, description) = (Arc::clone(this), description.clone());
                let test = move |line: &str| {
                    let mut matcher = this.lock().unwrap_or_else(PoisonError::into_inner);
                    matcher.on_line(line.as_bytes()).is_some()
                };
                Kind::Line { test: Box::new(test), description }
            }
        };
        Matcher { kind }
    }

    /// The names of what it captures.
    pub(crate) fn names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Template(template) => template.names().map(str::to_owned).collect(),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => pattern.names(),
            Kind::Literal(_) | Kind::Line { .. } => Vec::new(),
        }
    }

    /// The literal's bytes, if it is one.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Literal(literal) => Some(&literal.text),
            Kind::Template(template) => template.as_text(),
            _ => None,
        }
    }

    /// Why it can never be found, or always, if that is so.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.kind {
            Kind::Literal(literal) if literal.text.is_empty() => {
                Some("an empty text is found everywhere, so expecting it checks nothing".to_owned())
            }
            Kind::Literal(_) | Kind::Line { .. } => None,
            Kind::Template(template) => template.problem().map(str::to_owned),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => pattern.problem().map(str::to_owned),
        }
    }

    /// The same for one that has to be a whole line.
    pub(crate) fn problem_as_line(&self) -> Option<String> {
        match &self.kind {
            Kind::Literal(literal) => {
                let at = memchr::memchr(b'\n', &literal.text)?;
                Some(format!("the text has a line ending at byte {at}, and no line has one"))
            }
            _ => self.problem(),
        }
    }

    /// Does it have to wait for the end of a line?
    pub(crate) fn is_about_lines(&self) -> bool {
        !matches!(self.kind, Kind::Literal(_))
    }

    /// The first place. Nothing before `searched` has to be looked at again; it grows.
    pub(crate) fn seek(&mut self, stretch: Stretch<'_>, searched: &mut u64) -> Option<Found> {
        match &mut self.kind {
            Kind::Literal(literal) => literal.seek(stretch, searched),
            Kind::Template(template) => template.seek(stretch, searched),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => pattern.seek(stretch, searched),
            Kind::Line { test, .. } => {
                let mut begin = stretch.index(*searched);
                while let Some(line) = stretch.line(begin, begin) {
                    if test(&String::from_utf8_lossy(stretch.text(&line.text))) {
                        return Some(line.found(Captures::new()));
                    }
                    begin = line.end;
                    *searched = stretch.position(begin);
                }
                None
            }
        }
    }

    /// Is this whole line what is expected? A text is compared byte by byte with what really came.
    pub(crate) fn on_line(&mut self, line: &[u8]) -> Option<Captures> {
        match &mut self.kind {
            Kind::Literal(literal) => (literal.text == line).then(Captures::new),
            Kind::Template(template) => template.on_line(line),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => pattern.on_line(line),
            Kind::Line { test, .. } => test(&String::from_utf8_lossy(line)).then(Captures::new),
        }
    }

    /// Is this in the line?
    pub(crate) fn in_line(&mut self, line: &[u8]) -> bool {
        match &mut self.kind {
            Kind::Line { .. } => self.on_line(line).is_some(),
            _ => self.seek(Stretch { bytes: line, offset: 0, last: true }, &mut 0).is_some(),
        }
    }

    /// Does what has arrived end with this, in the middle of a line?
    pub(crate) fn at_end(&mut self, stretch: Stretch<'_>) -> Option<Found> {
        let tail = stretch.tail();
        if tail.is_empty() {
            return None;
        }
        let line = stretch.text(&tail);
        let (place, captures) = match &mut self.kind {
            Kind::Literal(literal) => {
                let rest = stretch.bytes.strip_suffix(literal.text.as_slice())?;
                return Some(Found {
                    text: rest.len()..stretch.bytes.len(),
                    end: stretch.bytes.len(),
                    captures: Captures::new(),
                    partial: true,
                    mid_line: true,
                });
            }
            Kind::Template(template) => template.at_end(line)?,
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => pattern.at_end(line)?,
            Kind::Line { test, .. } => {
                test(&String::from_utf8_lossy(line)).then_some((0..line.len(), Captures::new()))?
            }
        };
        let text = tail.start + place.start..tail.start + place.end;
        Some(Found { text, end: stretch.bytes.len(), captures, partial: true, mid_line: true })
    }
}

impl Literal {
    fn seek(&mut self, stretch: Stretch<'_>, searched: &mut u64) -> Option<Found> {
        let finder = self.finder.get_or_insert_with(|| Box::new(Finder::new(&self.text).into_owned()));
        let from = stretch.index(*searched);
        let Some(at) = finder.find(&stretch.bytes[from..]) else {
            // A match may have begun in what was searched.
            let overlap = self.text.len().saturating_sub(1);
            *searched = (*searched).max(stretch.position(stretch.bytes.len().saturating_sub(overlap)));
            return None;
        };
        let text = from + at..from + at + self.text.len();
        let mid_line = self.text.last() != Some(&b'\n');
        Some(Found { end: text.end, text, captures: Captures::new(), partial: false, mid_line })
    }
}

impl fmt::Display for Matcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Literal(literal) => write!(f, "{}", Visible(&literal.text)),
            Kind::Template(template) => write!(f, "{}", Visible(template.source.as_bytes())),
            #[cfg(feature = "regex")]
            Kind::Regex(pattern) => write!(f, "{}", Visible(pattern.to_string().as_bytes())),
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
/// | `&str`, `String`, `&[u8]` | this text, anywhere, also across lines | the whole line is this text |
/// | [`like("…{name}…")`](crate::like) | text with holes, in one line | the whole line is like it |
/// | [`regex("…")`](crate::regex()) | a place in a complete line | it matches somewhere in the line |
/// | any [`predicates::Predicate<str>`](predicates_core::Predicate) | a line that satisfies it | the next line satisfies it |
/// | a closure `\|line: &str\| -> bool` | a line for which it says `true` | it says `true` of the next line |
///
/// A line is passed without its line ending (`\n` or `\r\n`); bytes that are no UTF-8 appear as U+FFFD.
/// The type of a closure's argument has to be written out. Predicates and closures have to be `Send`: whoever waits, looks.
/// A matcher must not use the fixture that it is being matched against: that is a panic.
///
/// `Via` only tells the three apart for the compiler; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be expected",
    note = "expect a text, `like(\"...\")`, `regex(\"...\")`, a predicate by value, or a closure with its argument's type: `|line: &str| ...`; predicates and closures have to be `Send`"
)]
pub trait IntoMatcher<Via> {
    /// Turns it into a matcher.
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm;
}

/// Several things to expect: a tuple of up to eight, an array, or a vector.
///
/// In a tuple they may be of different kinds: `("yes", like("no: {why}"), predicate::str::is_empty())`.
pub trait IntoMatchers<Via> {
    /// Turns them into matchers, in their order.
    fn into_matchers<'m>(self) -> Vec<Matcher<'m>>
    where
        Self: 'm;
}

/// How a list of one kind becomes matchers.
#[derive(Debug)]
pub struct ViaList<Via>(std::marker::PhantomData<Via>);

impl<Via, M: IntoMatcher<Via>, const N: usize> IntoMatchers<ViaList<Via>> for [M; N] {
    fn into_matchers<'m>(self) -> Vec<Matcher<'m>>
    where
        Self: 'm,
    {
        let into = |m: M| m.into_matcher();
        self.into_iter().map(into).collect()
    }
}

impl<Via, M: IntoMatcher<Via>> IntoMatchers<ViaList<Via>> for Vec<M> {
    fn into_matchers<'m>(self) -> Vec<Matcher<'m>>
    where
        Self: 'm,
    {
        let into = |m: M| m.into_matcher();
        self.into_iter().map(into).collect()
    }
}

macro_rules! tuples {
    ($(($($m:ident $via:ident),+))*) => {$(
        impl<$($via, $m: IntoMatcher<$via>),+> IntoMatchers<($($via,)+)> for ($($m,)+) {
            fn into_matchers<'m>(self) -> Vec<Matcher<'m>>
            where
                Self: 'm,
            {
                #[expect(non_snake_case, reason = "a type parameter's name serves as its value's")]
                let ($($m,)+) = self;
                vec![$($m.into_matcher()),+]
            }
        }
    )*};
}

tuples! {
    (A Va)
    (A Va, B Vb)
    (A Va, B Vb, C Vc)
    (A Va, B Vb, C Vc, D Vd)
    (A Va, B Vb, C Vc, D Vd, E Ve)
    (A Va, B Vb, C Vc, D Vd, E Ve, F Vf)
    (A Va, B Vb, C Vc, D Vd, E Ve, F Vf, G Vg)
    (A Va, B Vb, C Vc, D Vd, E Ve, F Vf, G Vg, H Vh)
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
        Matcher::text(self.as_bytes())
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
        Matcher::text(self.as_bytes())
    }
}

impl IntoMatcher<ViaText> for &[u8] {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher::text(self)
    }
}

impl<const N: usize> IntoMatcher<ViaText> for &[u8; N] {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher::text(self)
    }
}

impl IntoMatcher<ViaText> for Template {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher { kind: Kind::Template(Box::new(self)) }
    }
}

#[cfg(feature = "regex")]
impl IntoMatcher<ViaText> for Pattern {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        Matcher { kind: Kind::Regex(Box::new(self)) }
    }
}

impl<'a> IntoMatcher<ViaText> for Matcher<'a> {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        self
    }
}

impl<P: Predicate<str> + Send> IntoMatcher<ViaPredicate> for P {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        // Most predicates call what they look at `var`.
        let description = format!("a line with {}", self.to_string().replacen("var", "text", 1));
        Matcher { kind: Kind::Line { test: Box::new(move |line| self.eval(line)), description } }
    }
}

impl<F: FnMut(&str) -> bool + Send> IntoMatcher<ViaClosure> for F {
    fn into_matcher<'m>(self) -> Matcher<'m>
    where
        Self: 'm,
    {
        let description = "a line for which the closure says true".to_owned();
        Matcher { kind: Kind::Line { test: Box::new(self), description } }
    }
}
