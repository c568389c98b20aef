//! `like("listening on {addr}")`: text with holes, for lines of which a part is not known.

use std::fmt;
use std::ops::Range;

use memchr::memmem::{Finder, find};

use super::escape;
use super::search::{Captures, Found, Stretch};

/// A line, or a part of one, of which not everything is known; made by [`like`].
#[derive(Debug, Clone)]
pub struct Template {
    pub(crate) source: String,
    parts: Vec<Part>,
    problem: Option<String>,
    /// Finds the longest text in it.
    finder: Option<Box<Finder<'static>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    /// `[..]`
    Anything,
    /// `{name}`
    Capture(String),
}

/// A template for a line, or for a part of one.
///
/// | in the template | stands for |
/// |---|---|
/// | `{name}` | one or more characters, kept under this name: [`Match::get`](crate::Match::get) |
/// | `[..]` | any characters, or none |
/// | everything else | itself |
///
/// A name consists of ASCII letters, digits and `_` and begins with no digit, so `{"port": 80}` is just text.
/// What is doubled is text as well: `{{name}}` stands for `{name}`, `[[..]]` for `[..]`.
/// Placeholders stand for as little as possible and never for a line ending.
///
/// [`expect`](crate::Fixture::expect) finds a template anywhere in a line: as soon as it is there if it ends with text, and
/// when the line is complete if it ends with a placeholder, so half a number is never taken for the number.
/// [`expect_line`](crate::Fixture::expect_line) compares the whole line.
///
/// # Errors
///
/// A template that makes no sense (two placeholders without text between them, a name twice, a line ending) is refused
/// with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where it is used.
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
///
/// # fn main() -> foster::Result {
/// let fx = Fixture::command("sh").args(["-c", "echo 'listening on 127.0.0.1:8080 (pid 12)'"]).spawn()?;
/// let found = fx.expect_line(like("listening on {addr} (pid [..])"))?;
/// let addr: std::net::SocketAddr = found.get("addr")?;
/// assert_eq!(addr.port(), 8080);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn like(template: impl AsRef<str>) -> Template {
    Template::new(template.as_ref())
}

const ANYTHING: &str = "[..]";
const ANYTHING_DOUBLED: &str = "[[..]]";

/// A placeholder at the beginning of this text and how long it is, or text that only looks like one.
fn placeholder(text: &str) -> Option<(Part, usize)> {
    if text.starts_with(ANYTHING_DOUBLED) {
        return Some((Part::Text(ANYTHING.into()), ANYTHING_DOUBLED.len()));
    }
    if text.starts_with(ANYTHING) {
        return Some((Part::Anything, ANYTHING.len()));
    }
    let inside = |text: &str| {
        let name = text.split('}').next().filter(|name| text.len() > name.len())?;
        is_name(name).then(|| name.to_owned())
    };
    if let Some(name) = text.strip_prefix("{{").and_then(inside) {
        if text[2 + name.len()..].starts_with("}}") {
            return Some((Part::Text(format!("{{{name}}}").into_bytes()), name.len() + 4));
        }
    }
    let name = text.strip_prefix('{').and_then(inside)?;
    let length = name.len() + 2;
    Some((Part::Capture(name), length))
}

/// May this be the name of a capture or of a variable?
pub(crate) fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// As text in a template: what would be a placeholder is doubled.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match placeholder(rest) {
            Some((_, length)) => {
                out.push_str(&rest[..1]);
                out.push_str(&rest[..length]);
                out.push_str(&rest[length - 1..length]);
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// The parts of a template.
fn parse(source: &str, escapes: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let byte = || escape::escape(rest).filter(|_| escapes).map(|(bytes, length)| (Part::Text(bytes), length));
        let itself = || (Part::Text(rest[..c.len_utf8()].into()), c.len_utf8());
        let (part, length) = placeholder(rest).or_else(byte).unwrap_or_else(itself);
        add(&mut parts, part);
        rest = &rest[length..];
    }
    parts
}

/// Texts that follow each other are one.
fn add(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(before)), Part::Text(more)) => before.extend(more),
        (Some(Part::Anything), Part::Anything) => {}
        (_, part) => parts.push(part),
    }
}

impl Template {
    pub(crate) fn new(source: &str) -> Template {
        Template::assemble(source.to_owned(), parse(source, false))
    }

    /// The same, where `\xHH` stands for a byte.
    pub(crate) fn with_bytes(source: &str) -> Template {
        Template::assemble(source.to_owned(), parse(source, true))
    }

    fn assemble(source: String, parts: Vec<Part>) -> Template {
        let texts = || parts.iter().filter_map(Part::as_text);
        let finder = texts().max_by_key(|t| t.len()).map(|text| Box::new(Finder::new(text).into_owned()));
        let problem = problem(&source, &parts);
        Template { source, parts, problem, finder }
    }

    /// Why it makes no sense, if it does not.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The names in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The same with the value of a name in its place.
    pub(crate) fn with(&self, value_of: impl Fn(&str) -> Option<String>) -> Template {
        let mut source = String::new();
        let mut parts = Vec::new();
        for part in &self.parts {
            let part = match part {
                Part::Capture(name) => value_of(name).map_or(part.clone(), |value| Part::Text(value.into_bytes())),
                other => other.clone(),
            };
            match &part {
                Part::Text(text) => source.push_str(&escape::escaped(text)),
                Part::Anything => source.push_str(ANYTHING),
                Part::Capture(name) => source.push_str(&format!("{{{name}}}")),
            }
            add(&mut parts, part);
        }
        Template::assemble(source, parts)
    }

    /// The text that it is with this for each placeholder, of which `[..]` has no name. The first that has no value is the
    /// error.
    pub(crate) fn filled(&self, value_of: impl Fn(Option<&str>) -> Option<String>) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(bytes) => text.extend_from_slice(bytes),
                Part::Anything => text.extend(value_of(None).ok_or_else(|| ANYTHING.to_owned())?.into_bytes()),
                Part::Capture(name) => {
                    text.extend(value_of(Some(name)).ok_or_else(|| format!("{{{name}}}"))?.into_bytes());
                }
            }
        }
        Ok(text)
    }

    /// Is this text, without a placeholder?
    pub(crate) fn as_text(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The first later place in a line where it fits. `searched` is the beginning of the first line that was not looked
    /// at, or not to its end.
    pub(crate) fn seek(&self, stretch: Stretch<'_>, searched: &mut u64) -> Option<Found> {
        let mut begin = stretch.index(*searched);
        loop {
            let hit = match &self.finder {
                Some(finder) => finder.find(&stretch.bytes[begin..]).map(|at| begin + at),
                None => (begin < stretch.bytes.len()).then_some(begin),
            };
            let Some(hit) = hit else {
                begin = stretch.line_begin(begin, stretch.bytes.len());
                break;
            };
            begin = stretch.line_begin(begin, hit);
            let line = stretch.line(begin, hit);
            let (text, end, partial) = match &line {
                Some(line) => (line.text.clone(), line.end, line.partial),
                None if matches!(self.parts.last(), Some(Part::Text(_))) => {
                    (begin..stretch.bytes.len(), stretch.bytes.len(), false)
                }
                None => break,
            };
            if let Some((place, captures)) = self.fit(stretch.text(&text), false, false) {
                let place = begin + place.start..begin + place.end;
                return Some(Found { end: place.end, text: place, captures, partial, mid_line: true });
            }
            if line.is_none() {
                break;
            }
            begin = end;
        }
        *searched = stretch.position(begin);
        None
    }

    /// Does it fit the whole line?
    pub(crate) fn on_line(&self, line: &[u8]) -> Option<Captures> {
        self.fit(line, true, true).map(|(_, captures)| captures)
    }

    /// Does the line end with it?
    pub(crate) fn at_end(&self, line: &[u8]) -> Option<(Range<usize>, Captures)> {
        self.fit(line, false, true)
    }

    /// Where it fits in a line. One pass from left to right: if a text is not found behind the first place of the one before
    /// it, it is not found behind a later place either.
    fn fit(&self, line: &[u8], from_begin: bool, to_end: bool) -> Option<(Range<usize>, Captures)> {
        let mut captures = Captures::new();
        let mut begin = None;
        let mut at = 0;
        // The placeholder before the next text, and where it begins.
        let mut open: Option<(&Part, usize)> = None;
        for (number, part) in self.parts.iter().enumerate() {
            let Part::Text(text) = part else {
                begin.get_or_insert(at);
                open = Some((part, at));
                continue;
            };
            let earliest = at + open.map_or(0, |(part, _)| part.least());
            let rest = line.get(earliest..)?;
            let offset = if to_end && number + 1 == self.parts.len() {
                rest.ends_with(text).then(|| rest.len() - text.len())?
            } else if open.is_none() && from_begin {
                rest.starts_with(text).then_some(0)?
            } else {
                find(rest, text)?
            };
            let found = earliest + offset;
            if open.is_none() && from_begin && found > 0 {
                return None;
            }
            if let Some((Part::Capture(name), from)) = open.take() {
                captures.push((name.clone(), String::from_utf8_lossy(&line[from..found]).into_owned()));
            }
            begin.get_or_insert(found);
            at = found + text.len();
        }
        if let Some((part, from)) = open {
            if line.len() < from + part.least() {
                return None;
            }
            if let Part::Capture(name) = part {
                captures.push((name.clone(), String::from_utf8_lossy(&line[from..]).into_owned()));
            }
            at = line.len();
        }
        Some((begin.unwrap_or(0)..at, captures))
    }
}

impl Part {
    fn as_text(&self) -> Option<&Vec<u8>> {
        match self {
            Part::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How many bytes it stands for at the least.
    fn least(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Anything => 0,
            Part::Capture(_) => 1,
        }
    }
}

fn problem(source: &str, parts: &[Part]) -> Option<String> {
    if parts.is_empty() {
        return Some("an empty template is found everywhere, so expecting it checks nothing".to_owned());
    }
    if source.contains(['\n', '\r']) || parts.iter().filter_map(Part::as_text).any(|t| t.contains(&b'\n')) {
        return Some("a template is for one line, and this one has a line ending in it".to_owned());
    }
    if parts.windows(2).any(|two| two.iter().all(|part| part.as_text().is_none())) {
        return Some("two placeholders touch, and nothing says where one ends and the other begins".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for part in parts {
        if let Part::Capture(name) = part {
            if names.contains(&name.as_str()) {
                return Some(format!("`{{{name}}}` is in it twice"));
            }
            names.push(name);
        }
    }
    None
}

impl From<&str> for Template {
    fn from(template: &str) -> Template {
        Template::new(template)
    }
}

impl From<String> for Template {
    fn from(template: String) -> Template {
        Template::new(&template)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(template: &str, line: &str) -> Option<Vec<String>> {
        let captures = Template::new(template).on_line(line.as_bytes())?;
        Some(captures.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[track_caller]
    fn assert_on(template: &str, line: &str, captures: &[&str]) {
        assert_eq!(
            on(template, line).as_deref(),
            Some(captures.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()).as_deref()
        );
    }

    #[test]
    fn a_whole_line_and_its_captures() {
        assert_on("port {port} open", "port 80 open", &["port=80"]);
        assert_on("{a}-{b}", "1-2-3", &["a=1", "b=2-3"]);
        assert_on("{x}b", "1b2b", &["x=1b2"]);
        assert_on("took [..]ms", "took ms", &[]);
        assert_on("[..]end", "the end", &[]);
        assert_on("{\"port\": {port}}", "{\"port\": 80}", &["port=80"]);
        assert_on("{{name}} is {name}", "{name} is Bob", &["name=Bob"]);
        assert_on("[[..]] [..]", "[..] x", &[]);
        for (template, line) in
            [("port {port}", "port "), ("a{x}b", "ab"), ("{x}b", "b"), ("a", "ba"), ("a", "ab"), ("a{x}a", "aa")]
        {
            assert_eq!(on(template, line), None, "{template} on {line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (template, why) in
            [("{a}{b}", "touch"), ("[..]{b}", "touch"), ("{a} {a}", "twice"), ("a\nb", "line ending"), ("", "empty")]
        {
            let template = Template::new(template);
            assert!(template.problem().is_some_and(|p| p.contains(why)), "{template}: {:?}", template.problem());
        }
        assert_eq!(Template::new("[..][..]x").problem(), None);
    }

    #[test]
    fn any_text_can_be_escaped() {
        for text in [
            "",
            "x",
            "{a}",
            "{{a}}",
            "{{{a}}}",
            "{{a}",
            "{a}}",
            "[..]",
            "[[..]]",
            "[[[..]]]",
            "{a}{b}[..]",
            "{\"a\":{b}}",
            "{}",
            "{1}",
        ] {
            assert_eq!(Template::new(&escaped(text)).as_text(), Some(text.as_bytes()), "{text} as {}", escaped(text));
        }
    }

    /// Against the plain definition: some split of the line fits, and the first place is the leftmost.
    #[test]
    fn one_pass_finds_what_trying_everything_finds() {
        fn fits(parts: &[Part], line: &[u8]) -> bool {
            match parts {
                [] => line.is_empty(),
                [Part::Text(text), rest @ ..] => line.strip_prefix(text.as_slice()).is_some_and(|l| fits(rest, l)),
                [part, rest @ ..] => (part.least()..=line.len()).any(|n| fits(rest, &line[n..])),
            }
        }
        let templates = ["a", "a{x}", "{x}a", "a{x}b", "a[..]b{x}a", "[..]ab[..]", "{x}", "ab{x}ba", "a{x}a{y}a"];
        let lines: Vec<Vec<u8>> =
            (0..=8).flat_map(|n| (0..1 << n).map(move |bits| (0..n).map(|i| b"ab"[bits >> i & 1]).collect())).collect();
        let mut fitting = 0;
        for source in templates {
            let template = Template::new(source);
            for line in &lines {
                let whole = fits(&template.parts, line);
                assert_eq!(template.on_line(line).is_some(), whole, "{source} on {line:?}");
                let any = (0..=line.len()).find(|b| (*b..=line.len()).any(|e| fits(&template.parts, &line[*b..e])));
                assert_eq!(template.fit(line, false, false).map(|(place, _)| place.start), any, "{source} in {line:?}");
                let end = (0..=line.len()).any(|b| fits(&template.parts, &line[b..]));
                assert_eq!(template.at_end(line).is_some(), end, "{source} at the end of {line:?}");
                fitting += usize::from(whole);
            }
        }
        assert!(fitting > 100, "{fitting}");
    }
}
