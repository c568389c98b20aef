//! `--write-baseline`: an allowance for each finding, for a suite that is to stay as bad as it is and get no worse.
//!
//! What people wrote is never rewritten: allowances are appended, sorted, and the same for the same findings.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path};

use glob::Pattern;
use jiff::civil::Date;

use super::allowance::names;
use crate::leakcheck::facts::{Kind, TestId};
use crate::leakcheck::{Helper, Leak, Leftover, Report};

/// So many digits in a row are a process id, a port or a time, and another one in the next run.
const COUNTED: usize = 3;

/// One allowance as text, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    kind: Kind,
    key: &'static str,
    pattern: String,
    test: Option<String>,
}

/// Appends what allows every finding of the report that fails the check. How many allowances, and the line of the first.
pub(super) fn append(report: &Report, file: &Path, today: Date) -> io::Result<Option<(usize, u32)>> {
    let entries = entries(report);
    if entries.is_empty() {
        return Ok(None);
    }
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let addition = addition(&before, &entries, today);
    // The first line that is not empty.
    let skipped = addition.chars().take_while(|c| *c == '\n').count();
    let first = before.matches('\n').count() + skipped + 1;
    OpenOptions::new().append(true).create(true).open(file)?.write_all(addition.as_bytes())?;
    Ok(Some((entries.len(), u32::try_from(first).unwrap_or(u32::MAX))))
}

fn addition(before: &str, entries: &BTreeSet<Entry>, today: Date) -> String {
    let mut text = String::new();
    if !before.is_empty() {
        text += if before.ends_with('\n') { "\n" } else { "\n\n" };
    }
    let blocks: Vec<String> = entries.iter().map(|entry| entry.text(today)).collect();
    text + &blocks.join("\n")
}

fn entries(report: &Report) -> BTreeSet<Entry> {
    let fails = |kind: Kind| report.fails.contains(&kind);
    let leaks = report.leaks.iter().filter(|l| l.allowed.is_none() && fails(l.kind)).filter_map(Entry::leak);
    let late = report.late().filter(|h| h.allowed.is_none() && fails(Kind::Late)).map(Entry::late);
    let files = report.leftovers.iter().filter(|f| f.allowed.is_none() && fails(f.kind)).map(Entry::leftover);
    leaks.chain(late).chain(files).collect()
}

impl Entry {
    fn leak(leak: &Leak) -> Option<Entry> {
        // `ps` shows the arguments; what has written a sentence there is better known by its file.
        let names = names(leak);
        let name = names.iter().find(|name| !name.contains([' ', ':'])).or(names.first())?;
        Some(Entry { kind: leak.kind, key: "name", pattern: Pattern::escape(name), test: test(leak.test.as_ref()) })
    }

    fn late(helper: &Helper) -> Entry {
        let pattern = Pattern::escape(&helper.fixture.label);
        Entry { kind: Kind::Late, key: "name", pattern, test: test(helper.test.as_ref()) }
    }

    fn leftover(file: &Leftover) -> Entry {
        let parts = file.path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(stable(&name.to_string_lossy())),
            _ => None,
        });
        let pattern = parts.collect::<Vec<_>>().join("/");
        let test = if let [one] = &file.tests[..] { test(Some(one)) } else { None };
        Entry { kind: file.kind, key: "path", pattern, test }
    }

    fn text(&self, today: Date) -> String {
        let Entry { kind, key, pattern, test } = self;
        let mut text = format!("[[leakcheck.allow]]\nkind = \"{}\"\n{key} = {}\n", kind.name(), quoted(pattern));
        if let Some(test) = test {
            text += &format!("test = {}\n", quoted(test));
        }
        text + &format!("reason = \"baseline of {today}: not looked into yet\"\n")
    }
}

fn test(test: Option<&TestId>) -> Option<String> {
    test.map(|test| Pattern::escape(&format!("{} {}", test.binary, test.name)))
}

/// A pattern for a file name that is the same in the next run: what is drawn at random, or counted, is left open.
fn stable(name: &str) -> String {
    for (prefix, len) in [(".tmp", 6), ("tmp.", 10), ("tmp", 8)] {
        let random = name.strip_prefix(prefix);
        if random.is_some_and(|r| r.len() == len && r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
            return format!("{prefix}{}", "?".repeat(len));
        }
    }
    let mut pattern = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        // What is no word is taken one character at a time.
        let end = if end > 0 { end } else { rest.chars().next().map_or(0, char::len_utf8) };
        let (word, after) = rest.split_at(end);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        // Process ids, times, hashes, and names that somebody has drawn.
        let counted = digits == word.len() && digits >= COUNTED;
        let drawn = word.len() >= 8 && digits >= 2 && digits < word.len();
        if counted || drawn {
            pattern.push('*')
        } else {
            pattern += &Pattern::escape(word)
        }
        rest = after;
    }
    pattern
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};
    use crate::leakcheck::report::tests::full;

    const TODAY: Date = Date::constant(2026, 3, 1);

    #[test]
    fn the_same_findings_make_the_same_text() {
        let mut report = Report { fails: Kind::ALL.to_vec(), ..full() };
        let text = addition("", &entries(&report), TODAY);
        report.leaks.reverse();
        report.leaks.push(sample(99));
        report.leftovers.reverse();
        report.helpers.reverse();
        assert_eq!(addition("", &entries(&report), TODAY), text);
        let expected = r#"[[leakcheck.allow]]
kind = "process"
name = "server"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "process"
name = "server"
test = "shop::it orders::are_kept"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "daemon"
name = "sccache"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "late"
name = "server"
test = "shop::it carts::are_empty"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "late"
name = "server"
test = "shop::it orders::are_lost"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "file"
path = "out.log"
test = "shop::it orders::are_kept"
reason = "baseline of 2026-03-01: not looked into yet"

[[leakcheck.allow]]
kind = "socket"
path = "x.sock"
test = "shop::it orders::are_kept"
reason = "baseline of 2026-03-01: not looked into yet"
"#;
        assert_eq!(text, expected);
        assert_eq!(file::read(&text, Path::new("p")).unwrap().allowances.len(), 7);
    }

    #[test]
    fn what_only_warns_needs_no_allowance() {
        assert_eq!(addition("", &entries(&full()), TODAY).matches("[[leakcheck.allow]]").count(), 2);
        assert!(entries(&Report { fails: Vec::new(), ..full() }).is_empty());
    }

    #[test]
    fn strange_names_are_written_so_that_they_are_read_back() {
        let names = ["a[b]*?", "say \"hi\"", "back\\slash", "new\nline", "ümläut"];
        for name in names {
            let leak = Leak { args: vec![name.to_owned()], ..stranger(1) };
            let entry = Entry::leak(&leak).unwrap();
            let rules = file::read(&entry.text(TODAY), Path::new("p")).unwrap();
            assert!(
                rules.allowances[0].is_for(&super::super::allowance::Subject::leak(&leak, Kind::Process)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_drawn_at_random_is_left_open() {
        for (name, pattern) in [
            (".tmpAb3dEf", ".tmp??????"),
            ("tmp.0123456789", "tmp.??????????"),
            ("tmpab_d123x", "tmp????????"),
            ("out.log", "out.log"),
            ("out1.log", "out1.log"),
            ("server-48213.pid", "server-*.pid"),
            ("cache-9f8e7d6c5b4a", "cache-*"),
            ("a[1].txt", "a[[]1[]].txt"),
        ] {
            assert_eq!(stable(name), pattern, "{name}");
            assert!(Pattern::new(pattern).unwrap().matches(name), "{name}");
        }
    }
}
