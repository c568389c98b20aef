//! `regex(r"port (\d+)")`: regular expressions, for one line at a time.

use std::fmt;
use std::ops::Range;

use once_cell::sync::OnceCell;
use regex::bytes::{Captures as Groups, Regex, RegexBuilder};

use super::search::{Captures, Found, Stretch};

/// A regular expression; made by [`regex()`].
#[derive(Clone)]
pub struct Pattern {
    source: String,
    compiled: Result<Regex, String>,
    /// The same where it has to end at the end of what there is.
    ended: OnceCell<Option<Regex>>,
    /// It asks about the ends of what it is given, so it has to be given one line.
    by_line: bool,
}

/// A regular expression in the syntax of the [`regex`](https://docs.rs/regex/latest/regex/#syntax) crate, for one line.
///
/// [`expect`](crate::Fixture::expect) finds the first place in a complete line that matches (so `\d+` never takes half a
/// number for the number), [`expect_line`](crate::Fixture::expect_line) asks whether it matches anywhere in the next line
/// (`^…$` for all of it), [`expect_prompt`](crate::Fixture::expect_prompt) whether it matches the end of the prompt.
/// Groups are kept under their names and under their numbers: [`Match::get`](crate::Match::get).
///
/// # Errors
///
/// What is no regular expression is refused with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where it is
/// used.
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
///
/// # fn main() -> foster::Result {
/// let fx = Fixture::command("sh").args(["-c", "echo 'served 17 requests in 3 ms'"]).spawn()?;
/// let found = fx.expect(regex(r"served (?<count>\d+) requests in (\d+) ms"))?;
/// assert_eq!(found.get::<u32>("count")?, 17);
/// assert_eq!(found.get::<u32>("2")?, 3);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn regex(pattern: impl AsRef<str>) -> Pattern {
    let source = pattern.as_ref().to_owned();
    let compiled = compile(&source).map_err(|e| format!("it is no regular expression: {e}"));
    let by_line = source.contains("\\A") || source.contains("\\z") || takes_flags_away(&source);
    Pattern { source, compiled, ended: OnceCell::new(), by_line }
}

/// With the anchors `^` and `$` at lines, so that one line and a line among others are the same to it.
fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).multi_line(true).crlf(true).build()
}

/// `(?-m)` and its like: then the ends of a line are not what [`compile`] makes of them.
fn takes_flags_away(source: &str) -> bool {
    let flag = |c: &char| c.is_ascii_alphabetic() || *c == '-';
    source.split("(?").skip(1).any(|group| group.chars().take_while(flag).any(|c| c == '-'))
}

impl Pattern {
    /// Why it cannot be used, if it cannot.
    pub(crate) fn problem(&self) -> Option<&str> {
        match &self.compiled {
            Ok(_) if self.source.is_empty() => {
                Some("an empty pattern is found everywhere, so expecting it checks nothing")
            }
            Ok(_) => None,
            Err(why) => Some(why),
        }
    }

    /// The names and numbers of its groups.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(compiled) = &self.compiled else { return Vec::new() };
        let groups = compiled.capture_names().enumerate().skip(1);
        groups.flat_map(|(number, name)| name.map(str::to_owned).into_iter().chain([number.to_string()])).collect()
    }

    /// The first place in a whole line. `searched` is the beginning of the first line that was not looked at.
    pub(crate) fn seek(&self, stretch: Stretch<'_>, searched: &mut u64) -> Option<Found> {
        let compiled = self.compiled.as_ref().ok()?;
        let mut begin = stretch.index(*searched);
        let end = if stretch.last { stretch.bytes.len() } else { stretch.line_begin(begin, stretch.bytes.len()) };
        let lines = Stretch { bytes: &stretch.bytes[..end], ..stretch };
        // A match that crosses lines may be sought again from each of them: once is enough, then line by line.
        let mut by_line = self.by_line;
        while begin < end {
            if !by_line {
                // All lines at once: what matches in one line alone begins a match here as well.
                let Some(hit) = compiled.find_at(lines.bytes, begin) else {
                    begin = end;
                    break;
                };
                begin = lines.line_begin(begin, hit.start());
            }
            let Some(line) = lines.line(begin, begin) else { break };
            if let Some(groups) = compiled.captures(lines.text(&line.text)) {
                let Range { start, end } = groups.get_match().range();
                let place = begin + start..begin + end;
                let captures = self.captures(compiled, &groups);
                return Some(Found { end: place.end, text: place, captures, partial: line.partial, mid_line: true });
            }
            by_line = true;
            begin = line.end;
        }
        *searched = stretch.position(begin.min(end));
        None
    }

    /// Does it match anywhere in this line?
    pub(crate) fn on_line(&self, line: &[u8]) -> Option<Captures> {
        let compiled = self.compiled.as_ref().ok()?;
        compiled.captures(line).map(|groups| self.captures(compiled, &groups))
    }

    /// Does the line end with a match?
    pub(crate) fn at_end(&self, line: &[u8]) -> Option<(Range<usize>, Captures)> {
        let ended = self.ended.get_or_init(|| compile(&format!("(?:{})\\z", self.source)).ok()).as_ref()?;
        let groups = ended.captures(line)?;
        Some((groups.get_match().range(), self.captures(ended, &groups)))
    }

    fn captures(&self, compiled: &Regex, groups: &Groups<'_>) -> Captures {
        let mut captures = Captures::new();
        for (number, name) in compiled.capture_names().enumerate().skip(1) {
            let Some(group) = groups.get(number) else { continue };
            let value = String::from_utf8_lossy(group.as_bytes()).into_owned();
            if let Some(name) = name {
                captures.push((name.to_owned(), value.clone()));
            }
            captures.push((number.to_string(), value));
        }
        captures
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seek(pattern: &Pattern, text: &str, last: bool) -> Option<(String, u64)> {
        let stretch = Stretch { bytes: text.as_bytes(), offset: 100, last };
        let mut searched = 0;
        let found = pattern.seek(stretch, &mut searched);
        found.map(|f| (text[f.text].to_owned(), f.end as u64))
    }

    #[test]
    fn all_lines_at_once_and_line_by_line_find_the_same() {
        let text = "one\r\ntwo 22\n\nthree\nport 80 81\n  x\r\nlast 9";
        let patterns = [
            r"\d+",
            r"^t.*$",
            r"\s+x",
            "",
            r"o\n",
            r"[^0-9]+",
            r"x$",
            r"^$",
            r"\d+$",
            r"e.*\d",
            r"(?s)o.*p",
            r"\bp",
            r"\Bo\b",
            r"9",
            r"$",
            r"(?i)PORT (\d+)",
            r"\w+ \w+ \w+",
        ];
        let mut hits = 0;
        for source in patterns {
            let fast = regex(source);
            let mut slow = fast.clone();
            assert!(!fast.by_line, "{source}");
            slow.by_line = true;
            for last in [false, true] {
                let found = seek(&fast, text, last);
                assert_eq!(found, seek(&slow, text, last), "{source}, last: {last}");
                hits += usize::from(found.is_some());
            }
        }
        assert!(hits > 20, "{hits}");
        assert!(regex(r"\Aone\z").by_line && regex("(?-m)x$").by_line && regex("(?i-m:x$)").by_line);
        assert!(!regex("(?<name>a-b)(?:c-d)").by_line);
    }

    #[test]
    fn half_a_number_is_not_the_number() {
        let port = regex(r"port=(\d+)");
        assert_eq!(seek(&port, "port=80", false), None);
        assert_eq!(seek(&port, "port=8080\n", false).map(|f| f.0).as_deref(), Some("port=8080"));
        assert_eq!(seek(&port, "port=80", true).map(|f| f.0).as_deref(), Some("port=80"));
    }

    /// From each of these lines on, there is a match that crosses lines: sought again from each of them, the last one would
    /// be found after some ten gigabytes.
    #[test]
    fn what_matches_across_lines_is_not_sought_from_every_line() {
        let text = "no comma here\n".repeat(75_000) + "well done\n";
        let began = std::time::Instant::now();
        let found = seek(&regex("[^,]*done"), &text, false);
        assert_eq!(found.map(|f| f.0).as_deref(), Some("well done"));
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
