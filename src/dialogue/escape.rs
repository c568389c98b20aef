//! Any bytes as one line of text, and back: `\x1b` is a byte, and everything else is itself.
//!
//! Dialogue files are text for people, and programs print what they like. Only what is no readable text is escaped, so that
//! `C:\new` stays as it is. What would be taken for an escape has one backslash more: `\\x1b` stands for the text `\x1b`.

use super::template;

/// An escape at the beginning of this text: the bytes that it stands for, and how long it is.
pub(crate) fn escape(text: &str) -> Option<(Vec<u8>, usize)> {
    let slashes = text.bytes().take_while(|b| *b == b'\\').count();
    let byte = hex_byte(&text.as_bytes()[slashes..])?;
    match slashes {
        0 => None,
        1 => Some((vec![byte], 4)),
        // One of them says that no byte is meant; what follows is plain text.
        _ => Some((vec![b'\\'; slashes - 1], slashes)),
    }
}

/// The byte that `xHH` at the beginning stands for.
fn hex_byte(text: &[u8]) -> Option<u8> {
    let [b'x', high, low, ..] = text else { return None };
    let digit = |b: &u8| char::from(*b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// These bytes as a template in a dialogue file that stands for nothing else.
///
/// White space at the end is escaped as well: many editors remove it.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    // Readable text that is not written yet.
    let mut plain = String::new();
    let end = bytes.len() - bytes.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    for chunk in bytes[..end].utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\t' {
                write_plain(&mut out, &mut plain, true);
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| write_byte(&mut out, b));
            } else {
                plain.push(c);
            }
        }
        for byte in chunk.invalid() {
            write_plain(&mut out, &mut plain, true);
            write_byte(&mut out, *byte);
        }
    }
    let Some((last, spaces)) = bytes[end..].split_last() else {
        write_plain(&mut out, &mut plain, false);
        return out;
    };
    plain.extend(spaces.iter().map(|b| char::from(*b)));
    write_plain(&mut out, &mut plain, true);
    write_byte(&mut out, *last);
    out
}

fn write_byte(out: &mut String, byte: u8) {
    out.push_str(&format!("\\x{byte:02x}"));
}

/// Text that means itself; before an escape, a backslash at its end would make that plain text.
fn write_plain(out: &mut String, plain: &mut String, escape_follows: bool) {
    let text = template::escaped(plain);
    plain.clear();
    let end = if escape_follows { text.trim_end_matches('\\').len() } else { text.len() };
    let mut rest = &text[..end];
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let slashes = rest[at..].bytes().take_while(|b| *b == b'\\').count();
        let (run, after) = rest[at..].split_at(slashes);
        out.push_str(run);
        if hex_byte(after.as_bytes()).is_some() {
            out.push('\\');
        }
        rest = after;
    }
    out.push_str(rest);
    text[end..].bytes().for_each(|b| write_byte(out, b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::template::Template;

    #[track_caller]
    fn assert_comes_back(bytes: &[u8]) {
        let text = escaped(bytes);
        let readable = text.chars().all(|c| !c.is_control() || c == '\t') && !text.ends_with([' ', '\t']);
        assert!(readable, "{text:?}");
        assert_eq!(Template::with_bytes(&text).as_text(), Some(bytes), "{bytes:?} as {text:?}");
    }

    #[test]
    fn what_is_readable_stays_as_it_is() {
        for text in ["", "C:\\new\\x", "a\tb", "  indented", "{\"a\": 1}", "gr\u{fc}n", "\\", "\\x4", "x41", "[.]"] {
            assert_eq!(escaped(text.as_bytes()), text);
        }
        assert_eq!(escaped(b"name? "), "name?\\x20");
        assert_eq!(escaped(b"\x1b[1m\xff"), "\\x1b[1m\\xff");
        assert_eq!(escaped(b"\\x1b"), "\\\\x1b");
        assert_eq!(escaped(b"{name}"), "{{name}}");
    }

    /// Every sequence of up to six of the pieces that can disturb each other.
    #[test]
    fn any_bytes_come_back() {
        let pieces: [&[u8]; 8] = [b"\\", b"x41", b"\x1b", b"\xff", b"{a}", b"[..]", b" ", "\u{fc}".as_bytes()];
        let mut all: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..5 {
            let longer = all.iter().flat_map(|one| pieces.iter().map(move |p| [one.as_slice(), p].concat()));
            let longer: Vec<_> = longer.collect();
            all.extend(longer);
            all.sort();
            all.dedup();
        }
        assert!(all.len() > 30_000);
        for bytes in &all {
            assert_comes_back(bytes);
        }
        for byte in (0..=u8::MAX).filter(|b| *b != b'\n') {
            assert_comes_back(&[byte]);
            assert_comes_back(&[b'\\', byte, b'x', b'4', b'1']);
        }
    }
}
