//! Reads a policy file, and says of everything that is wrong with it where it stands and what was expected.
//!
//! It walks the parsed document itself instead of deriving a deserializer: that stops at the first mistake, and knows
//! neither a key that was probably meant nor which keys go together.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use glob::Pattern;
use jiff::SignedDuration;
use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Rules;
use super::allowance::Allowance;
use crate::leakcheck::facts::{Kind, Place};

/// More than this is a mistake, and deadlines stay within what an `Instant` can hold.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const KEYS: [&str; 6] = ["grace", "timeout", "rerun", "tmpdir", "fail", "allow"];

const ALLOWANCE_KEYS: [&str; 9] = ["kind", "name", "command", "exe", "test", "path", "reason", "expires", "end"];

/// The text of a file as rules. The error has a line for each mistake: file, line, column, and what was expected.
pub(super) fn read(text: &str, file: &Path) -> Result<Rules, String> {
    let mut reader = Reader { text, file, mistakes: Vec::new() };
    let rules = match DeTable::parse(text) {
        Ok(document) => reader.document(document.get_ref()),
        Err(e) => {
            let what = e.message().trim_end().replace('\n', "; ");
            reader.mistake(&e.span().unwrap_or(0..0), format!("this is no TOML: {what}"));
            Rules::default()
        }
    };
    if reader.mistakes.is_empty() { Ok(rules) } else { Err(reader.mistakes.join("\n")) }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
    mistakes: Vec<String>,
}

type Key<'t, 'i> = (&'t str, Range<usize>, &'t Spanned<DeValue<'i>>);

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) -> Rules {
        let mut rules = Rules::default();
        for (name, span, value) in keys(document) {
            match (name, value.get_ref()) {
                ("leakcheck", DeValue::Table(table)) => rules = self.leakcheck(table),
                ("leakcheck", _) => self.mistake(&value.span(), "`leakcheck` is a table: `[leakcheck]`".to_owned()),
                _ => self.unknown("key", name, &span, &["leakcheck"]),
            }
        }
        rules
    }

    fn leakcheck(&mut self, table: &DeTable<'_>) -> Rules {
        let mut rules = Rules::default();
        for (name, span, value) in keys(table) {
            match name {
                "grace" => rules.grace = self.duration(name, value),
                "timeout" => rules.timeout = self.duration(name, value),
                "rerun" => rules.rerun = self.duration(name, value),
                "tmpdir" => rules.tmpdir = self.boolean(name, value),
                "fail" => rules.fail = self.kinds(value),
                "allow" => rules.allowances = self.allowances(value),
                _ => self.unknown("key", name, &span, &KEYS),
            }
        }
        rules
    }

    fn kinds(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Kind> {
        let DeValue::Array(array) = value.get_ref() else {
            self.mistake(&value.span(), "`fail` is a list of kinds: `[\"process\", \"late\"]`".to_owned());
            return Vec::new();
        };
        let mut kinds: Vec<Kind> = array.iter().filter_map(|item| self.kind(item)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn kind(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Kind> {
        let name = self.string("a kind", value)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        if kind.is_none() {
            self.unknown("kind", &name, &value.span(), &Kind::ALL.map(Kind::name));
        }
        kind
    }

    fn allowances(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Allowance> {
        let hint = "`allow` is a list of tables: each one begins with `[[leakcheck.allow]]`";
        let DeValue::Array(array) = value.get_ref() else {
            self.mistake(&value.span(), hint.to_owned());
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => found.extend(self.allowance(&item.span(), table)),
                _ => self.mistake(&item.span(), hint.to_owned()),
            }
        }
        found
    }

    fn allowance(&mut self, span: &Range<usize>, table: &DeTable<'_>) -> Option<Allowance> {
        let before = self.mistakes.len();
        let place = Place { file: self.file.to_owned(), line: self.position(span.start).0 };
        let mut allowance = Allowance::new(place);
        let mut has_reason = false;
        for (name, at, value) in keys(table) {
            match name {
                "kind" => allowance.kind = self.kind(value),
                "name" => allowance.name = self.pattern(name, value),
                "command" => allowance.command = self.pattern(name, value),
                "exe" => allowance.exe = self.pattern(name, value),
                "test" => allowance.test = self.pattern(name, value),
                "path" => allowance.path = self.pattern(name, value),
                "expires" => allowance.expires = self.date(value),
                "end" => allowance.end = self.boolean(name, value),
                "reason" => {
                    has_reason = true;
                    allowance.reason = self.string("`reason`", value).unwrap_or_default().trim().to_owned();
                    if allowance.reason.is_empty() {
                        self.mistake(&value.span(), "`reason` says why this is allowed; it is empty".to_owned());
                    }
                }
                _ => self.unknown("key", name, &at, &ALLOWANCE_KEYS),
            }
        }
        if self.mistakes.len() > before {
            return None;
        }
        if !has_reason {
            self.mistake(span, "an allowance needs a `reason`: why is this not to be repaired?".to_owned());
        }
        if !allowance.is_selective() {
            let what = "an allowance says what it is for: with `name`, `command`, `exe`, `test` or `path`";
            self.mistake(span, what.to_owned());
        }
        if let Some(why) = allowance.contradiction() {
            self.mistake(span, why.to_owned());
        }
        (self.mistakes.len() == before).then_some(allowance)
    }

    fn duration(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let hint = format!("`{name}` is a duration: \"500ms\", \"2s\" or \"10m\"");
        let duration = match value.get_ref() {
            DeValue::String(text) => text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok()),
            _ => None,
        };
        match duration {
            Some(duration) if duration <= LONGEST => return Some(duration),
            Some(_) => self.mistake(&value.span(), format!("{hint}; this is more than a year")),
            None => {
                let found = self.source(&value.span());
                self.mistake(&value.span(), format!("{hint}; `{found}` is none"));
            }
        }
        None
    }

    fn date(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Date> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // TOML has dates of its own: `expires = 2027-01-31`.
            DeValue::Datetime(date) if date.time.is_none() && date.offset.is_none() => date.to_string(),
            _ => String::new(),
        };
        let date = text.parse::<Date>().ok();
        if date.is_none() {
            let found = self.source(&value.span());
            let what = format!("`expires` is the last day on which this is allowed: \"2027-01-31\"; `{found}` is none");
            self.mistake(&value.span(), what);
        }
        date
    }

    fn pattern(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        let text = self.string(&format!("`{name}`"), value)?;
        if text.is_empty() {
            self.mistake(&value.span(), format!("`{name}` is empty, which matches nothing; leave it out"));
            return None;
        }
        match Pattern::new(&text) {
            Ok(pattern) => Some(pattern),
            Err(e) => {
                let what = format!("`{name}` is a pattern with `*`, `?` and `[…]`; in `{text}`: {}", e.msg);
                self.mistake(&value.span(), what);
                None
            }
        }
    }

    fn boolean(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> bool {
        match value.get_ref() {
            DeValue::Boolean(yes) => *yes,
            other => {
                let what = format!("`{name}` is true or false, and this is {}", article(other.type_str()));
                self.mistake(&value.span(), what);
                true
            }
        }
    }

    fn string(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => {
                let what = format!("{what} is a string, and this is {}", article(other.type_str()));
                self.mistake(&value.span(), what);
                None
            }
        }
    }

    fn unknown(&mut self, what: &str, name: &str, span: &Range<usize>, known: &[&str]) {
        let distance = |candidate: &&&str| strsim::damerau_levenshtein(name, candidate);
        let meant = known.iter().min_by_key(distance).filter(|c| distance(c) <= (name.chars().count() / 3).max(1));
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let expected = match &names[..] {
            [one] => one.clone(),
            names => format!("one of {}", names.join(", ")),
        };
        self.mistake(span, format!("unknown {what} `{name}`; expected {expected}{meant}"));
    }

    fn mistake(&mut self, span: &Range<usize>, what: String) {
        let (line, column) = self.position(span.start);
        self.mistakes.push(format!("{}:{line}:{column}: {what}", self.file.display()));
    }

    /// Line and column, both from 1; columns are characters, as editors count.
    fn position(&self, offset: usize) -> (u32, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (u32::try_from(line).unwrap_or(u32::MAX), before[start..].chars().count() + 1)
    }

    fn source(&self, span: &Range<usize>) -> String {
        self.text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    }
}

/// In the order of the file, so that mistakes are, too.
fn keys<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Key<'t, 'i>> {
    let mut keys: Vec<Key<'t, 'i>> =
        table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
    keys.sort_by_key(|(_, span, _)| span.start);
    keys
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        read(text, Path::new("p.toml")).map(|_| ()).expect_err(text)
    }

    #[test]
    fn everything_that_can_be_said_is_understood() {
        let text = r#"
[leakcheck]
grace = "500ms"
timeout = "1h 30m"
rerun = "0s"
tmpdir = false
fail = ["late", "process", "late"]

[[leakcheck.allow]]
kind = "daemon"
name = "sccache"
reason = "the build's cache"
end = false

[[leakcheck.allow]]
path = "logs/**"
reason = "kept on purpose"
expires = 2027-01-31
"#;
        let rules = read(text, Path::new("p.toml")).unwrap();
        assert_eq!(rules.grace, Some(Duration::from_millis(500)));
        assert_eq!(rules.timeout, Some(Duration::from_secs(5400)));
        assert_eq!((rules.rerun, rules.tmpdir), (Some(Duration::ZERO), false));
        assert_eq!(rules.fail, [Kind::Process, Kind::Late]);
        let [daemon, logs] = &rules.allowances[..] else { panic!("{:?}", rules.allowances) };
        assert_eq!((daemon.kind, daemon.end, daemon.place.line), (Some(Kind::Daemon), false, 9));
        assert_eq!((logs.end, logs.place.line), (true, 15));
        assert_eq!(logs.expires, Some(Date::constant(2027, 1, 31)));
    }

    #[test]
    fn an_empty_file_has_the_defaults() {
        assert_eq!(read("", Path::new("p")).unwrap().fail, [Kind::Process]);
        assert_eq!(read("[leakcheck]\n", Path::new("p")).unwrap().fail, [Kind::Process]);
        assert!(read("[leakcheck]\nfail = []\n", Path::new("p")).unwrap().fail.is_empty());
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_was_expected() {
        let keys = "expected one of `grace`, `timeout`, `rerun`, `tmpdir`, `fail`, `allow`";
        for (text, expected) in [
            ("[leakchek]\n", "p.toml:1:2: unknown key `leakchek`; expected `leakcheck`; did you mean `leakcheck`?"),
            ("leakcheck = 1\n", "p.toml:1:13: `leakcheck` is a table: `[leakcheck]`"),
            (
                "\n[leakcheck]\ngrase = \"1s\"\n",
                &format!("p.toml:3:1: unknown key `grase`; {keys}; did you mean `grace`?"),
            ),
            ("[leakcheck]\ncolor = 1\n", &format!("p.toml:2:1: unknown key `color`; {keys}")),
            (
                "[leakcheck]\ngrace = 5\n",
                "p.toml:2:9: `grace` is a duration: \"500ms\", \"2s\" or \"10m\"; `5` is none",
            ),
            (
                "[leakcheck]\ngrace = \"-1s\"\n",
                "p.toml:2:9: `grace` is a duration: \"500ms\", \"2s\" or \"10m\"; `\"-1s\"` is none",
            ),
            (
                "[leakcheck]\ntimeout = \"9000h\"\n",
                "p.toml:2:11: `timeout` is a duration: \"500ms\", \"2s\" or \"10m\"; this is more than a year",
            ),
            ("[leakcheck]\nfail = \"late\"\n", "p.toml:2:8: `fail` is a list of kinds: `[\"process\", \"late\"]`"),
            (
                "[leakcheck]\nfail = [\"lat\"]\n",
                "p.toml:2:9: unknown kind `lat`; expected one of `process`, `daemon`, `late`, `file`, `socket`; \
                 did you mean `late`?",
            ),
            ("[leakcheck]\nfail = [1]\n", "p.toml:2:9: a kind is a string, and this is an integer"),
            (
                "[leakcheck.allow]\nname = \"x\"\n",
                "p.toml:1:1: `allow` is a list of tables: each one begins with `[[leakcheck.allow]]`",
            ),
        ] {
            assert_eq!(mistakes(text), expected, "{text}");
        }
        assert!(mistakes("[leakcheck\n").starts_with("p.toml:1:11: this is no TOML: "), "{}", mistakes("[leakcheck\n"));
    }

    #[test]
    fn a_mistake_in_an_allowance_is_told_as_well() {
        let allowance = |text: &str| mistakes(&format!("[[leakcheck.allow]]\n{text}\n"));
        for (text, expected) in [
            ("name = \"x\"", "p.toml:1:1: an allowance needs a `reason`: why is this not to be repaired?"),
            ("name = \"x\"\nreason = \" \"", "p.toml:3:10: `reason` says why this is allowed; it is empty"),
            (
                "reason = \"r\"",
                "p.toml:1:1: an allowance says what it is for: with `name`, `command`, `exe`, `test` or `path`",
            ),
            ("name = \"\"\nreason = \"r\"", "p.toml:2:8: `name` is empty, which matches nothing; leave it out"),
            ("name = 3\nreason = \"r\"", "p.toml:2:8: `name` is a string, and this is an integer"),
            ("name = \"x\"\nend = 0\nreason = \"r\"", "p.toml:3:7: `end` is true or false, and this is an integer"),
            (
                "name = \"x\"\nexpires = \"soon\"\nreason = \"r\"",
                "p.toml:3:11: `expires` is the last day on which this is allowed: \"2027-01-31\"; `\"soon\"` is none",
            ),
            ("name = \"x\"\nexpires = 2027-02-30\nreason = \"r\"", "p.toml:3:11: this is no TOML: "),
            (
                "exe = \"a/***\"\nreason = \"r\"",
                "p.toml:2:7: `exe` is a pattern with `*`, `?` and `[…]`; in `a/***`: wildcards are either regular `*` or \
                 recursive `**`",
            ),
            (
                "kind = \"file\"\nexe = \"x\"\nreason = \"r\"",
                "p.toml:1:1: `command` and `exe` are for processes, and this allowance is for files",
            ),
        ] {
            let found = allowance(text);
            assert!(found.starts_with(expected), "{text}: {found}");
        }
        // All of them at once, in the order of the file.
        let found = allowance("nmae = \"x\"\nraeson = \"r\"");
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines.len(), 2, "{found}");
        assert!(lines[0].ends_with("did you mean `name`?") && lines[1].ends_with("did you mean `reason`?"), "{found}");
    }
}
