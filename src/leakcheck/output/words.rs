//! Facts in words, the same in every file: why something escaped, what it held, what was done to it.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::leakcheck::{Blame, Deed, Escape, Holding, Kind, Leak, Outcome, Report};
use crate::report::seconds;

/// Other people's text must not look like ours: no line breaks, no control characters, nothing invisible.
///
/// Quotes and backslashes stay as they are: what is escaped already is not escaped twice.
pub(super) fn one_line(text: &str) -> String {
    text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\")
}

pub(super) fn path_in_words(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// A duration as a reader wants it.
pub(super) fn in_words(ms: u64) -> String {
    seconds(Duration::from_millis(ms))
}

pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// `2 processes`, `1 late fixture`.
pub(super) fn count_kind(n: usize, kind: Kind) -> String {
    let (one, many) = match kind {
        Kind::Process => ("process", "processes"),
        Kind::Daemon => ("well-known daemon", "well-known daemons"),
        Kind::Late => ("late fixture", "late fixtures"),
        Kind::File => ("file left", "files left"),
        Kind::Socket => ("socket left", "sockets left"),
    };
    count(n, one, many)
}

pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return if n == 1 { "1 byte".to_owned() } else { format!("{n} bytes") };
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A point in time as RFC 3339 has it, in UTC; nothing if it is none that a calendar has.
pub(super) fn timestamp(unix_ms: u64) -> Option<String> {
    let ms = i64::try_from(unix_ms).ok()?;
    let at = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(format!("{at:.3}"))
}

/// How the test was found.
pub(super) fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Fixture => "it was started by a fixture of this test",
        Blame::Environment => "the environment that it was started with names the test",
        Blame::Thread => "it descends from the thread that ran this test",
        Blame::Rerun => "the test left the same behind when it was run alone",
        Blame::Binary => "only the test binary is known",
        Blame::Nobody => "nothing that is known about its birth names a test",
    }
}

/// As in "…; *it passed*".
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "it passed",
        Outcome::Failed => "it failed",
        Outcome::Unknown => "how it ended is unknown",
    }
}

/// Why it got away.
pub(super) fn escape(escape: &Escape) -> String {
    match escape {
        Escape::Session => {
            "it is in a session of its own (setsid), which neither the terminal nor a signal to the test's group reaches"
                .to_owned()
        }
        Escape::Group => "it is in a process group of its own, so a signal to the test's group misses it".to_owned(),
        Escape::Orphaned => "its parent ended first: a double fork, or a parent that did not wait".to_owned(),
        Escape::Ignores(signals) => format!("it ignores {}", listed(signals)),
        Escape::Catches(signals) => format!("it catches {} and goes on", listed(signals)),
        Escape::Stopped => "it is stopped, and acts on no signal but SIGKILL and SIGCONT".to_owned(),
        Escape::Environment => "its environment cannot be read, or is another one than its test's".to_owned(),
        Escape::User => "it runs as another user".to_owned(),
        Escape::Stdio(streams) => format!("it holds the suite's {}, so whoever reads that waits for it", listed(streams)),
    }
}

/// What others may miss.
pub(super) fn holding(holding: &Holding) -> String {
    match holding {
        Holding::Listener(socket) => format!("listens on {}", one_line(socket)),
        Holding::BuildLock(dir) => {
            format!("the lock of the build directory {}: cargo waits for it", path_in_words(dir))
        }
        Holding::Lock(file) => format!("a lock on {}", path_in_words(file)),
        Holding::Output(stream) => format!("the suite's {}", one_line(stream)),
        Holding::File(file) => format!("the file {}", path_in_words(file)),
    }
}

/// What was done to it.
pub(super) fn deed(deed: &Deed) -> String {
    let took = deed.took_ms.map(in_words);
    let after = |verb: &str| took.as_ref().map_or_else(|| verb.to_owned(), |took| format!("{verb} after {took}"));
    match deed {
        Deed { survived: Some(why), .. } => {
            let tried = match (deed.terminated, deed.killed) {
                (true, true) => "SIGTERM and SIGKILL",
                (true, false) => "SIGTERM",
                _ => "SIGKILL",
            };
            format!("it lives on, in spite of {tried}: {}", one_line(why))
        }
        Deed { spared: true, .. } => "it was left running, as the policy says".to_owned(),
        Deed { terminated: true, killed: true, .. } => format!("SIGTERM did not end it; {}", after("SIGKILL did")),
        Deed { terminated: true, .. } => after("SIGTERM ended it"),
        Deed { killed: true, .. } => after("SIGKILL ended it"),
        _ => "nothing: it ended by itself, or was not asked to".to_owned(),
    }
}

/// proc_pid_stat(5).
pub(super) fn state(state: char) -> String {
    let words = match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in uninterruptible sleep",
        'T' => "stopped by a signal",
        't' => "stopped by a tracer",
        'Z' => "its main thread has ended, others have not",
        'I' => "idle",
        _ => return one_line(&state.to_string()),
    };
    format!("{state} ({words})")
}

/// Who started whom, when it was born.
pub(super) fn ancestors(leak: &Leak) -> String {
    if leak.ancestors.is_empty() {
        return "unknown: its parent ended before it could be seen".to_owned();
    }
    let chain = one_line(&leak.ancestors.join(" < "));
    if leak.ancestors_complete { chain } else { chain + " < ?" }
}

pub(super) fn listed(words: &[String]) -> String {
    one_line(&words.join(", "))
}

/// `file` relative to `root`, where it is below it; `None` for one that is elsewhere.
pub(super) fn below(root: &Path, dir: &Path, file: &Path) -> Option<PathBuf> {
    let whole = dir.join(file);
    let below = whole.strip_prefix(root).ok()?;
    let plain = below.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    plain.then(|| below.components().filter(|c| *c != Component::CurDir).collect())
}

/// How the suite ended.
pub(super) fn suite_ended(report: &Report) -> String {
    report.ending.map_or_else(|| "is still there".to_owned(), |e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_text_breaks_a_line_or_moves_the_cursor() {
        for (text, seen) in [
            ("plain 'text' \"here\"", "plain 'text' \"here\""),
            ("two\nlines\r", "two\\nlines\\r"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("back\\slash", "back\\slash"),
            ("\u{202e}backwards", "\\u{202e}backwards"),
            ("müde 日本", "müde 日本"),
            ("\u{9b}31m\0", "\\u{9b}31m\\0"),
        ] {
            assert_eq!(one_line(text), seen);
            assert_eq!(one_line(seen), seen, "what is escaped is not escaped again");
        }
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        let sizes = [0, 1, 1023, 1024, 1_500_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.4 MiB", "16777216.0 TiB"]);
        assert_eq!(timestamp(1_790_000_000_123).as_deref(), Some("2026-09-21T14:13:20.123Z"));
        assert_eq!(timestamp(u64::MAX), None);
    }

    #[test]
    fn a_file_is_below_a_directory_or_it_is_not() {
        let below = |root: &str, file: &str| below(Path::new(root), Path::new("/ws/crate"), Path::new(file));
        assert_eq!(below("/ws", "tests/a.rs"), Some("crate/tests/a.rs".into()));
        assert_eq!(below("/ws/crate", "./tests/a.rs"), Some("tests/a.rs".into()));
        assert_eq!(below("/ws", "/elsewhere/a.rs"), None);
        assert_eq!(below("/ws/crate", "../other/a.rs"), None);
    }

    #[test]
    fn what_was_done_is_said() {
        let deed = |terminated, killed, survived: Option<&str>, spared| {
            deed(&Deed { terminated, killed, took_ms: Some(200), survived: survived.map(Into::into), spared })
        };
        assert_eq!(deed(true, false, None, false), "SIGTERM ended it after 200.0 ms");
        assert_eq!(deed(true, true, None, false), "SIGTERM did not end it; SIGKILL did after 200.0 ms");
        assert_eq!(deed(false, true, None, false), "SIGKILL ended it after 200.0 ms");
        assert_eq!(deed(true, true, Some("EPERM"), false), "it lives on, in spite of SIGTERM and SIGKILL: EPERM");
        assert_eq!(deed(false, false, None, true), "it was left running, as the policy says");
    }
}
