//! What of a transcript differs from run to run, and what stands in its place.

use std::borrow::Cow;
use std::path::{Component, Path};
use std::time::Duration;

use super::Known;
use super::scan;

/// What [`Transcript::filtered`](super::Transcript::filtered) replaces in what was said.
///
/// | placeholder | for |
/// |---|---|
/// | `[TIME]` | the time of each line; dates with a time, in the way of ISO 8601; `15:04:05` with or without decimals; numbers with the unit ns, us, µs, ms, and s (`0.5s`, `12 ms`; whole seconds only without a space, `3s`) |
/// | `[PID]` | the number after the word `pid`; the numbers, of three digits or more, of the helper and of those of its descendants that lived when the transcript was taken, wherever they stand alone |
/// | `[PORT]` | the port behind `127.…`, `0.0.0.0`, `localhost`, `[::1]` and `[::]`; the number after the word `port` |
/// | `[DIR]` | the fixture's own [directory](crate::Fixture::dir), and any fixture's |
/// | `[TMP]` | the temporary directory of the system and `/tmp`, with the first name below it, which is usually a random one |
///
/// The line of the test that something was sent from, or expected at, is left out: it moves with every edit.
///
/// Between a word (`pid`, `port`) and its number there may be up to three of space, `=`, `:`, `#`, `(` and quotation marks.
/// The same text always becomes the same, and what was filtered once is not changed by being filtered again.
///
/// # Examples
///
/// ```
/// use foster::transcript::Filters;
///
/// # fn main() -> foster::Result {
/// let fx = foster::Fixture::command("echo").arg("job 7f3a on port 4711 took 12.5 ms").spawn()?;
/// fx.expect_eof()?;
/// let filters = Filters::new().keep_ports().replace("7f3a", "[JOB]");
/// let said = fx.transcript().filtered(&filters).to_string();
/// assert!(said.starts_with("[TIME] out | job [JOB] on port 4711 took [TIME]\n"), "{said}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Filters {
    times: bool,
    pids: bool,
    ports: bool,
    paths: bool,
    pub(super) locations: bool,
    words: Vec<(String, String)>,
    numbers: Vec<u32>,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters::new()
    }
}

impl Filters {
    /// All of them.
    pub fn new() -> Filters {
        Filters {
            times: true,
            pids: true,
            ports: true,
            paths: true,
            locations: false,
            words: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// Leaves times as they are.
    pub fn keep_times(mut self) -> Filters {
        self.times = false;
        self
    }

    /// Leaves pids as they are.
    pub fn keep_pids(mut self) -> Filters {
        self.pids = false;
        self
    }

    /// Leaves ports as they are.
    pub fn keep_ports(mut self) -> Filters {
        self.ports = false;
        self
    }

    /// Leaves directories as they are.
    pub fn keep_paths(mut self) -> Filters {
        self.paths = false;
        self
    }

    /// Shows which line of the test sent something, or found what it expected.
    pub fn keep_locations(mut self) -> Filters {
        self.locations = true;
        self
    }

    /// Replaces this text, wherever it stands, before all others. Without effect if it is empty.
    pub fn replace(mut self, text: impl Into<String>, placeholder: impl Into<String>) -> Filters {
        let text = text.into();
        if !text.is_empty() {
            self.words.push((text, placeholder.into()));
        }
        self
    }

    /// Another process whose number is to be replaced.
    pub fn pid(mut self, pid: u32) -> Filters {
        self.numbers.push(pid);
        self
    }

    /// With all that has to be looked up only once.
    pub(super) fn prepared<'f>(&'f self, known: &Known) -> Prepared<'f> {
        let pids = if self.pids { [&known.pids[..], &self.numbers].concat() } else { Vec::new() };
        let mut dirs: Vec<Dir> = Vec::new();
        if self.paths {
            dirs.extend(known.dirs.iter().flat_map(|dir| forms(dir)).map(|text| Dir { text, own: true }));
            let temporary = [std::env::temp_dir(), "/tmp".into()];
            dirs.extend(temporary.iter().flat_map(|dir| forms(dir)).map(|text| Dir { text, own: false }));
            // The longest first: one may lie in another.
            dirs.sort_by_key(|dir| std::cmp::Reverse(dir.text.len()));
        }
        Prepared { filters: self, pids, dirs }
    }
}

/// A directory that has a placeholder.
#[derive(Debug)]
struct Dir {
    text: String,
    /// A fixture's own.
    own: bool,
}

/// How a directory may be written; nothing if it is no place of its own.
fn forms(dir: &Path) -> Vec<String> {
    let usable = |path: &Path| path.is_absolute() && path.components().any(|c| matches!(c, Component::Normal(_)));
    let real = dir.canonicalize().ok();
    let mut all: Vec<String> = [Some(dir), real.as_deref()]
        .into_iter()
        .flatten()
        .filter(|path| usable(path))
        .filter_map(|path| Some(path.to_str()?.trim_end_matches('/').to_owned()))
        .collect();
    all.dedup();
    all
}

/// Filters and what they know.
#[derive(Debug)]
pub(super) struct Prepared<'f> {
    filters: &'f Filters,
    pids: Vec<u32>,
    dirs: Vec<Dir>,
}

impl Prepared<'_> {
    /// The time of a line.
    pub(super) fn time(&self, elapsed: Duration) -> String {
        if self.filters.times { "[TIME]".to_owned() } else { format!("{:.3}", elapsed.as_secs_f64()) }
    }

    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for (word, placeholder) in &self.filters.words {
            if text.contains(word) {
                text = Cow::Owned(text.replace(word, placeholder));
            }
        }
        for dir in &self.dirs {
            if text.contains(&dir.text) {
                text = Cow::Owned(without(&text, dir));
            }
        }
        let Filters { times, pids, ports, .. } = *self.filters;
        scan::numbers(&text, scan::What { times, pids, ports, known: &self.pids })
    }
}

/// Can this stand in a name?
fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '~' | '#' | '@')
}

/// The text without this directory.
fn without(text: &str, dir: &Dir) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&dir.text) {
        let (before, found) = rest.split_at(at);
        let after = &found[dir.text.len()..];
        out.push_str(before);
        // `/var/tmp` is not `/tmp`, and neither is `/tmpfs`.
        let begins = !out.ends_with(|c: char| in_name(c) || c == '/' || c == ']');
        if !begins || after.starts_with(in_name) {
            out.push_str(&dir.text);
            rest = after;
            continue;
        }
        let (name, below) = first_name(after);
        let (inner, deeper) = first_name(below);
        let (placeholder, then) = if dir.own {
            ("[DIR]", after)
        } else if name.starts_with("foster-") && inner.starts_with("fixture-") {
            ("[DIR]", deeper)
        } else {
            ("[TMP]", below)
        };
        out.push_str(placeholder);
        rest = then;
    }
    out + rest
}

/// The name behind a slash, and what comes after it.
fn first_name(path: &str) -> (&str, &str) {
    let Some(path_below) = path.strip_prefix('/') else { return ("", path) };
    let end = path_below.find(|c| !in_name(c)).unwrap_or(path_below.len());
    match end {
        0 => ("", path),
        end => path_below.split_at(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known { pids: vec![4711, 42], dirs: vec!["/tmp/foster-1-00ff/fixture-AbCd".into()] }
    }

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        let filters = Filters::new();
        let filter = filters.prepared(&known());
        assert_eq!(filter.apply(text), wanted);
        assert_eq!(filter.apply(wanted), wanted, "filtered again");
    }

    #[test]
    fn directories_have_names() {
        check("in /tmp/foster-1-00ff/fixture-AbCd/data", "in [DIR]/data");
        check("'/tmp/foster-9-1/fixture-zz'", "'[DIR]'");
        check("/tmp/.tmpAbC/x and /tmp/y, /tmp", "[TMP]/x and [TMP], [TMP]");
        check("--dir=/tmp/x.1/", "--dir=[TMP]/");
        for other in ["/var/tmp/x", "/tmpfs", "x/tmp/y", "/home/tmp"] {
            check(other, other);
        }
    }

    #[test]
    fn only_what_was_asked_for_is_replaced() {
        let text = "pid 99 at 15:04:05, port 1, /tmp/x";
        let all = Filters::new().keep_times().keep_pids().keep_ports().keep_paths();
        assert_eq!(all.prepared(&known()).apply(text), text);
        assert_eq!(Filters::new().keep_pids().prepared(&known()).apply("4711 port 1"), "4711 port [PORT]");
        assert_eq!(Filters::new().pid(777).prepared(&known()).apply("777 and 4711"), "[PID] and [PID]");
        assert_eq!(Filters::new().replace("", "x").prepared(&known()).apply("abc"), "abc");
    }

    /// Arbitrary text made of what matters: filtering is stable, and never panics.
    #[test]
    fn what_was_filtered_is_not_changed_by_being_filtered_again() {
        let words = [
            "pid",
            "PID",
            " ",
            "=",
            ":",
            "4711",
            "42",
            "7",
            "127.0.0.1",
            "localhost",
            "[::1]",
            "0.0.0.0",
            "port",
            "12",
            "15:04:05",
            "2026-11-24",
            "T",
            "Z",
            ".5",
            "ms",
            "s",
            "\u{b5}s",
            "/tmp",
            "/",
            "x",
            "fixture-A",
            "foster-1",
            "\u{e4}",
            "[",
            "]",
            "(",
            ")",
            ",",
            "-",
            "_",
            "\"",
            "[PID]",
            "[TMP]",
            "[TIME]",
        ];
        let mut seed = 7_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let filters = Filters::new();
        let filter = filters.prepared(&known());
        let mut changed = 0;
        for _ in 0..20_000 {
            let text: String = (0..=random(8)).map(|_| words[random(words.len())]).collect();
            let once = filter.apply(&text);
            assert_eq!(filter.apply(&once), once, "from `{text}`");
            assert_eq!(filter.apply(&text), once, "the same text becomes the same");
            changed += usize::from(once != text);
        }
        assert!(changed > 2_000, "{changed}: hardly anything was changed: the test proves nothing");
    }
}
