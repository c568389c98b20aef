//! Where in a stretch of output something is: without waiting, and without consuming anything.

use std::ops::Range;

/// What has arrived and nobody has consumed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) bytes: &'a [u8],
    /// The position of its first byte in the stream.
    pub(crate) offset: u64,
    /// Nothing will follow, so a line without an ending is a line.
    pub(crate) last: bool,
}

/// Named parts of what was found.
pub(crate) type Captures = Vec<(String, String)>;

/// A place, as indices into the stretch.
#[derive(Debug)]
pub(crate) struct Found {
    /// What was expected, or the line that passed the test.
    pub(crate) text: Range<usize>,
    /// Where the rest begins.
    pub(crate) end: usize,
    pub(crate) captures: Captures,
    /// A line without its ending.
    pub(crate) partial: bool,
    /// The rest begins inside a line.
    pub(crate) mid_line: bool,
}

impl<'a> Stretch<'a> {
    /// The index of this position in the stream, as far as it lies in the stretch.
    pub(crate) fn index(&self, position: u64) -> usize {
        usize::try_from(position.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// The position in the stream of this index.
    pub(crate) fn position(&self, index: usize) -> u64 {
        self.offset + index as u64
    }

    /// The line that begins at `begin`; `from` is where no line ending was found so far.
    pub(crate) fn line(&self, begin: usize, from: usize) -> Option<Line> {
        let from = from.clamp(begin, self.bytes.len());
        match memchr::memchr(b'\n', &self.bytes[from..]) {
            Some(at) => {
                let text = &self.bytes[begin..from + at];
                let length = text.strip_suffix(b"\r").unwrap_or(text).len();
                Some(Line { text: begin..begin + length, end: from + at + 1, partial: false })
            }
            None if self.last && begin < self.bytes.len() => {
                Some(Line { text: begin..self.bytes.len(), end: self.bytes.len(), partial: true })
            }
            None => None,
        }
    }

    /// Where the line begins in which this index lies; not before `from`.
    pub(crate) fn line_begin(&self, from: usize, index: usize) -> usize {
        memchr::memrchr(b'\n', &self.bytes[from..index]).map_or(from, |at| from + at + 1)
    }

    /// What comes after the last line ending.
    pub(crate) fn tail(&self) -> Range<usize> {
        self.line_begin(0, self.bytes.len())..self.bytes.len()
    }

    pub(crate) fn text(&self, range: &Range<usize>) -> &'a [u8] {
        &self.bytes[range.clone()]
    }
}

/// A line in a stretch.
#[derive(Debug)]
pub(crate) struct Line {
    /// Without its ending.
    pub(crate) text: Range<usize>,
    /// Where the next one begins.
    pub(crate) end: usize,
    /// It has no ending.
    pub(crate) partial: bool,
}

impl Line {
    /// The whole line is what was expected.
    pub(crate) fn found(self, captures: Captures) -> Found {
        Found { text: self.text, end: self.end, captures, partial: self.partial, mid_line: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::matcher::{IntoMatcher, Matcher};
    use crate::dialogue::template::like;

    /// What is found, when the text comes in these pieces.
    fn seek(matcher: &mut Matcher<'_>, text: &[u8], ends: &[usize]) -> Option<(Range<usize>, Captures, usize)> {
        let mut searched = 0;
        for (i, end) in ends.iter().enumerate() {
            let last = i + 1 == ends.len();
            let stretch = Stretch { bytes: &text[..*end], offset: 0, last };
            if let Some(found) = matcher.seek(stretch, &mut searched) {
                return Some((found.text, found.captures, *end));
            }
        }
        None
    }

    /// However the output is cut into pieces, the same is found: the text at once, the rest when its line is complete.
    #[test]
    fn where_the_stream_is_cut_makes_no_difference() {
        let text = "böot\r\nport=80\nport=8080 → ready\nnaïve: x=1 y=2\n> ".as_bytes();
        let mut matchers: Vec<Matcher<'_>> = vec![
            "ready".into_matcher(),
            "→ ready\nna".into_matcher(),
            "> ".into_matcher(),
            like("port={port} → ready").into_matcher(),
            like("port={port}").into_matcher(),
            like("x={x} y={y}").into_matcher(),
            like("x={x} y=").into_matcher(),
            like("[..]ve: {rest}").into_matcher(),
            predicates::str::contains("naïve").into_matcher(),
            (|line: &str| line.starts_with("böot")).into_matcher(),
        ];
        #[cfg(feature = "regex")]
        matchers
            .extend([crate::regex(r"port=(\d+) .*y$").into_matcher(), crate::regex(r"(?<v>\w)=\d+ \w").into_matcher()]);
        for matcher in &mut matchers {
            let (place, captures, _) = seek(matcher, text, &[text.len()]).unwrap_or_else(|| panic!("no {matcher}"));
            for cut in 0..=text.len() {
                for second in [cut, (cut + 1).min(text.len()), (cut + 7).min(text.len())] {
                    let found = seek(matcher, text, &[cut, second, text.len()]);
                    let (same_place, same_captures, _) = found.unwrap_or_else(|| panic!("no {matcher}, cut at {cut}"));
                    assert_eq!(
                        (&same_place, &same_captures),
                        (&place, &captures),
                        "{matcher} cut at {cut} and {second}"
                    );
                }
            }
            let one_by_one: Vec<usize> = (0..=text.len()).collect();
            let found = seek(matcher, text, &one_by_one).unwrap_or_else(|| panic!("no {matcher}, byte by byte"));
            assert_eq!((&found.0, &found.1), (&place, &captures), "{matcher} byte by byte");
        }
    }

    #[test]
    fn a_template_that_ends_with_text_does_not_wait_for_the_line() {
        let text = b"took 17ms and more";
        let ends: Vec<usize> = (0..=text.len()).collect();
        let found = seek(&mut like("took {ms}ms").into_matcher(), text, &ends).expect("it is there");
        assert_eq!((found.1[0].1.as_str(), found.2), ("17", 9));
        let found = seek(&mut like("took {ms}").into_matcher(), text, &ends).expect("it is there");
        assert_eq!((found.1[0].1.as_str(), found.2), ("17ms and more", text.len()));
    }
}
