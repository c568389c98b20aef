//! Command lines of cargo, nextest and libtest, taken apart: which words are options, which are filters.
//!
//! Nothing is judged here: what a tool would refuse, it refuses itself. What matters is where a word may be added, and
//! which words choose the tests.

use std::ffi::{OsStr, OsString};

/// Options of cargo itself that take the next word.
const CARGO: &[&str] = &["--color", "--config", "-Z", "-C"];

/// Options of `cargo test` that take the next word.
pub(super) const TEST: &[&str] = &[
    "-p",
    "--package",
    "--exclude",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "-F",
    "--features",
    "-j",
    "--jobs",
    "--profile",
    "--target",
    "--target-dir",
    "--manifest-path",
    "--lockfile-path",
    "--message-format",
    "--color",
    "--config",
    "-Z",
];

/// Options of `cargo nextest` and `cargo nextest run` that take the next word.
pub(super) const NEXTEST: &[&str] = &[
    "-p",
    "--package",
    "--exclude",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "-F",
    "--features",
    "--build-jobs",
    "--cargo-profile",
    "--target",
    "--target-dir",
    "--manifest-path",
    "--cargo-message-format",
    "--config",
    "-Z",
    "-R",
    "--rerun",
    "--run-ignored",
    "--partition",
    "--platform-filter",
    "-E",
    "--filterset",
    "--filter-expr",
    "-j",
    "--jobs",
    "--test-threads",
    "--retries",
    "--flaky-result",
    "--max-fail",
    "--debugger",
    "--tracer",
    "--no-tests",
    "--stress-count",
    "--stress-duration",
    "--failure-output",
    "--success-output",
    "--status-level",
    "--final-status-level",
    "--show-progress",
    "--max-progress-running",
    "--message-format",
    "--message-format-version",
    "--archive-file",
    "--archive-format",
    "--extract-to",
    "--cargo-metadata",
    "--workspace-remap",
    "--binaries-metadata",
    "--target-dir-remap",
    "--build-dir-remap",
    "--config-file",
    "--user-config-file",
    "--tool-config-file",
    "--profile",
    "-P",
    "--color",
];

/// Options of libtest that take the next word.
const LIBTEST: &[&str] = &["--logfile", "--test-threads", "--skip", "--color", "--format", "--shuffle-seed", "-Z"];

/// One word, or an option and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it was given.
    pub(super) raw: Vec<OsString>,
    /// The option's name, `--features` or `-F`; `None` for what is no option.
    pub(super) name: Option<String>,
    /// The option's value, or the word itself.
    pub(super) value: Option<OsString>,
}

impl Word {
    pub(super) fn is(&self, names: &[&str]) -> bool {
        self.name.as_deref().is_some_and(|name| names.contains(&name))
    }
}

/// Splits into words; these options take the next word unless they have a value already.
pub(super) fn split(args: &[OsString], valued: &[&str]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let word = if let Some((name, value)) = text.split_once('=').filter(|_| text.starts_with("--")) {
            Word { raw: vec![arg.clone()], name: Some(name.to_owned()), value: Some(value.into()) }
        } else if valued.contains(&text.as_ref()) {
            let value = args.next().cloned();
            let raw = std::iter::once(arg.clone()).chain(value.clone()).collect();
            Word { raw, name: Some(text.into_owned()), value }
        } else if let Some(name) = short_with_value(&text, valued) {
            let value = text[2..].strip_prefix('=').unwrap_or(&text[2..]);
            Word { raw: vec![arg.clone()], name: Some(name.to_owned()), value: Some(value.into()) }
        } else if text.len() > 1 && text.starts_with('-') {
            Word { raw: vec![arg.clone()], name: Some(text.into_owned()), value: None }
        } else {
            Word { raw: vec![arg.clone()], name: None, value: Some(arg.clone()) }
        };
        words.push(word);
    }
    words
}

/// `-j1`
fn short_with_value<'a>(text: &'a str, valued: &[&str]) -> Option<&'a str> {
    let short = text.get(..2)?;
    (text.len() > 2 && valued.contains(&short) && !short.starts_with("--")).then_some(short)
}

/// The last value of an option.
pub(super) fn value<'a>(words: &'a [Word], names: &[&str]) -> Option<&'a OsStr> {
    words.iter().rev().find(|w| w.is(names))?.value.as_deref()
}

pub(super) fn has(words: &[Word], names: &[&str]) -> bool {
    words.iter().any(|w| w.is(names))
}

/// Everything but some words, as it was given.
pub(super) fn without(words: &[Word], dropped: impl Fn(&Word) -> bool) -> Vec<OsString> {
    words.iter().filter(|w| !dropped(w)).flat_map(|w| w.raw.clone()).collect()
}

/// A command line of cargo's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// What stands before the subcommand: `+nightly`, `--offline`.
    pub(super) before: Vec<OsString>,
    pub(super) subcommand: String,
    /// Its own words.
    pub(super) own: Vec<OsString>,
    /// What stands behind `--`, if that is there.
    pub(super) behind: Option<Vec<OsString>>,
}

impl Line {
    /// `valued` are the options before the subcommand that take the next word.
    fn split(args: &[OsString], valued: &[&str]) -> Option<Line> {
        let mut at = 0;
        loop {
            let text = args.get(at)?.to_string_lossy();
            if text == "--" {
                return None;
            }
            if !text.starts_with(['-', '+']) {
                break;
            }
            at += if valued.contains(&text.as_ref()) { 2 } else { 1 };
        }
        let rest = &args[at + 1..];
        let end = rest.iter().position(|w| w == "--");
        Some(Line {
            before: args[..at].to_vec(),
            subcommand: args[at].to_string_lossy().into_owned(),
            own: rest[..end.unwrap_or(rest.len())].to_vec(),
            behind: end.map(|end| rest[end + 1..].to_vec()),
        })
    }

    /// Cargo's arguments.
    pub(super) fn cargo(args: &[OsString]) -> Option<Line> {
        Line::split(args, CARGO)
    }

    /// What stands behind `cargo nextest`, or `cargo-nextest nextest`.
    pub(super) fn nextest(args: &[OsString]) -> Option<Line> {
        Line::split(args, NEXTEST)
    }
}

/// What chooses the tests of a libtest executable, and how: filters, `--exact`, `--skip`, and which ignored ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selection {
    /// As the executable understands them; without those about ignored tests.
    pub(super) words: Vec<OsString>,
    pub(super) ignored: Ignored,
    /// Nothing is run: `--list` or `--help`.
    pub(super) only_tells: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ignored {
    /// They are not run.
    #[default]
    No,
    /// Nothing else is run.
    Only,
    /// They are run like the others.
    Too,
}

impl Ignored {
    /// The word for libtest.
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Ignored::No => None,
            Ignored::Only => Some("--ignored"),
            Ignored::Too => Some("--include-ignored"),
        }
    }
}

/// `own` are the words of `cargo test`, which hands its filter on.
pub(super) fn selection(own: &[Word], behind: &[OsString]) -> Selection {
    let mut found = Selection::default();
    found.words.extend(own.iter().filter(|w| w.name.is_none()).flat_map(|w| w.raw.clone()));
    // What stands behind another `--` are filters only.
    let end = behind.iter().position(|w| w == "--").unwrap_or(behind.len());
    for word in split(&behind[..end], LIBTEST) {
        match word.name.as_deref() {
            None | Some("--exact" | "--skip" | "--test" | "--bench" | "--exclude-should-panic") => {
                found.words.extend(word.raw);
            }
            Some("--ignored") => found.ignored = Ignored::Only,
            Some("--include-ignored") => found.ignored = Ignored::Too,
            Some("--list" | "--help" | "-h") => found.only_tells = true,
            Some(_) => {}
        }
    }
    found.words.extend(behind.get(end..).unwrap_or_default().iter().cloned());
    found
}

/// As it is typed into a shell.
pub(in crate::leakcheck) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_line_is_taken_apart_and_nothing_is_lost() {
        let line =
            Line::cargo(&os(&["+nightly", "--config", "test", "-q", "t", "-p", "shop", "--", "--", "x"])).unwrap();
        assert_eq!(line.before, os(&["+nightly", "--config", "test", "-q"]));
        assert_eq!((line.subcommand.as_str(), line.own.clone()), ("t", os(&["-p", "shop"])));
        assert_eq!(line.behind, Some(os(&["--", "x"])));
        assert_eq!(Line::cargo(&os(&["test"])).unwrap().behind, None);
        for none in [&[][..], &["-V"], &["--", "test"], &["--config"]] {
            assert_eq!(Line::cargo(&os(none)), None, "{none:?}");
        }
    }

    #[test]
    fn an_option_and_its_value_are_one_word() {
        let words = split(&os(&["--test", "it", "--profile=ci", "-j1", "orders", "--quiet", "-P=x", "-F"]), NEXTEST);
        let got: Vec<(Option<&str>, Option<&str>)> =
            words.iter().map(|w| (w.name.as_deref(), w.value.as_ref().map(|v| v.to_str().unwrap()))).collect();
        let expected = [
            (Some("--test"), Some("it")),
            (Some("--profile"), Some("ci")),
            (Some("-j"), Some("1")),
            (None, Some("orders")),
            (Some("--quiet"), None),
            (Some("-P"), Some("x")),
            (Some("-F"), None),
        ];
        assert_eq!(got, expected);
        assert_eq!(value(&words, &["--profile", "-P"]), Some("x".as_ref()));
        assert!(has(&words, &["--quiet"]) && !has(&words, &["--doc"]));
        assert_eq!(without(&words, |w| w.name.is_some()), os(&["orders"]));
    }

    #[test]
    fn what_chooses_the_tests_is_kept_and_the_rest_is_not() {
        let own = split(&os(&["--test", "it", "orders"]), TEST);
        let behind =
            ["--test-threads", "1", "--skip", "slow", "--ignored", "--format=pretty", "--exact", "--", "--odd"];
        let found = selection(&own, &os(&behind));
        assert_eq!(found.words, os(&["orders", "--skip", "slow", "--exact", "--", "--odd"]));
        assert_eq!((found.ignored, found.only_tells), (Ignored::Only, false));
        assert!(selection(&own, &os(&["--list"])).only_tells);
        assert_eq!(selection(&[], &os(&["--include-ignored"])).ignored.word(), Some("--include-ignored"));
    }

    #[test]
    fn a_word_means_the_same_to_a_shell() {
        let words = ["plain", "", "a b", "it's", "$HOME `x` \"q\" \\", "binary_id(=shop::it) & test(=a::b)", "ü\n"];
        let line = words.map(quoted).join(" ");
        let output = std::process::Command::new("sh").args(["-c", &format!("printf '%s|' {line}")]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.map(|w| format!("{w}|")).concat());
        assert_eq!(quoted("orders::are_kept"), "orders::are_kept");
    }
}
