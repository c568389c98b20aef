//! Changes to a TOML file that leave every byte of what is there.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is at the end of this path of keys.
pub(super) fn find<'t, 'i>(table: &'t DeTable<'i>, keys: &[&str]) -> Option<&'t Spanned<DeValue<'i>>> {
    let (first, rest) = keys.split_first()?;
    let value = table.iter().find(|(key, _)| key.get_ref() == first)?.1;
    if rest.is_empty() { Some(value) } else { find(value.get_ref().as_table()?, rest) }
}

/// A line at the end of a table; a table of this name at the end of the file, if there is none with a header.
pub(super) fn with_line(text: &str, document: &DeTable<'_>, name: &str, line: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let header = find(document, &[name]).filter(|value| is_header(text, &value.span(), name));
    let Some((table, header)) = header.and_then(|value| Some((value.get_ref().as_table()?, value.span()))) else {
        let gap = match text {
            "" => "",
            _ if text.ends_with('\n') => newline,
            _ => &newline.repeat(2),
        };
        return format!("{text}{gap}[{name}]{newline}{line}{newline}");
    };
    let end = table.iter().filter_map(|(_, value)| own_end(text, value)).max().unwrap_or(header.end);
    match text[end..].find('\n') {
        Some(rest) => {
            let (before, after) = text.split_at(end + rest + 1);
            format!("{before}{line}{newline}{after}")
        }
        None => format!("{text}{newline}{line}{newline}"),
    }
}

/// Text put in at an offset.
pub(super) fn with(text: &str, at: usize, new: &str) -> String {
    format!("{}{new}{}", &text[..at], &text[at..])
}

fn is_header(text: &str, span: &Range<usize>, name: &str) -> bool {
    let header = text.get(span.clone()).unwrap_or_default();
    let inner = header.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().trim_matches(['"', '\'']) == name)
}

/// Where an entry ends; `None` if it is a table with a header of its own, which is elsewhere.
fn own_end(text: &str, value: &Spanned<DeValue<'_>>) -> Option<usize> {
    let span = value.span();
    let source = text.get(span.clone()).unwrap_or_default();
    match value.get_ref() {
        DeValue::Table(_) if source.starts_with('[') => None,
        // With keys like `a.b = 1`, it is as long as the last of them.
        DeValue::Table(table) if !source.starts_with('{') => table.iter().filter_map(|(_, v)| own_end(text, v)).max(),
        DeValue::Array(array) if array.iter().any(|v| matches!(v.get_ref(), DeValue::Table(_))) => {
            source.starts_with('[').then_some(span.end).filter(|_| !source.starts_with("[["))
        }
        _ => Some(span.end),
    }
}
