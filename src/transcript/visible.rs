//! Bytes and lines as a person can read them.

use std::fmt::{self, Write as _};

/// Bytes as a person can read them: text stays text, everything that a terminal would act on is escaped.
pub(crate) struct Visible<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    '\n' => f.write_str("\\n")?,
                    c if c.is_control() => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A line as a person can read it: of a very long one, both ends.
pub(crate) struct Shortened<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const END: usize = 200;
        if self.0.len() <= 3 * END {
            return Visible(self.0).fmt(f);
        }
        let (head, rest) = self.0.split_at(END);
        let (middle, tail) = rest.split_at(rest.len() - END);
        write!(f, "{} ...({} bytes)... {}", Visible(head), middle.len(), Visible(tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_can_move_a_cursor_or_hide_a_byte() {
        let shown = Visible(b"a\x1b[2J\xff\0\r\tz\xc3\xa4").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\xff\\u{0}\\r\\tz\u{e4}");
    }

    #[test]
    fn a_very_long_line_is_shown_by_its_ends() {
        let text = Shortened(&[b'x'; 10_000]).to_string();
        assert!(text.len() < 600 && text.contains("...(9600 bytes)..."), "{text}");
    }
}
