//! One leak, with all that the operating system knows about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::options::HINTS;
use crate::report::seconds;
use crate::sys::{details, procfs};

/// A command line that is longer is cut: it is there to be recognized.
const COMMAND_CHARS: usize = 400;

/// A process that was alive after the suite had ended and the grace was over. It has been ended since, if that was possible.
///
/// `Display` is a paragraph for people, the same as in the [`Report`](super::Report).
///
/// # Limits
///
/// The test and the package come from the environment that the process was started with. A program that has cleared or
/// overwritten it hides them, and one that has changed it lies. Everything else comes from the kernel.
#[derive(Debug, Clone)]
pub struct Leak {
    pid: i32,
    start: u64,
    command: String,
    state: char,
    age: Option<Duration>,
    dir: Option<PathBuf>,
    exe: Option<PathBuf>,
    group: i32,
    session: i32,
    started_by: Option<String>,
    /// `None` if there was nothing to be read.
    hints: Option<BTreeMap<String, String>>,
    survived: Option<String>,
}

impl Leak {
    /// Reads everything, now: `/proc` forgets it with the process.
    pub(super) fn read(stat: &procfs::Stat, started_by: Option<String>) -> Leak {
        let procfs::Stat { pid, start, state, group, session, .. } = *stat;
        Leak {
            pid,
            start,
            command: cut(procfs::command_line(pid, Instant::now() + procfs::EXEC_LIMIT)),
            state,
            age: details::age(start),
            dir: details::working_dir(pid),
            exe: details::executable(pid),
            group,
            session,
            started_by,
            hints: details::variables(pid, &HINTS),
            survived: None,
        }
    }

    pub(super) fn is(&self, pid: i32, start: u64) -> bool {
        (self.pid, self.start) == (pid, start)
    }

    pub(super) fn set_survived(&mut self, reason: String) {
        self.survived = Some(reason);
    }

    /// Its number. It may belong to another process by now.
    #[must_use]
    pub fn pid(&self) -> u32 {
        // The kernel's are positive.
        self.pid.unsigned_abs()
    }

    /// The command line, in one line; the name in brackets if there was none.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The working directory, unless it could not be read.
    #[must_use]
    pub fn working_dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The file that it was executing, unless it could not be read.
    #[must_use]
    pub fn executable(&self) -> Option<&Path> {
        self.exe.as_deref()
    }

    /// How long it had been running.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The test that started it, if nextest runs the suite: only nextest tells a test its name.
    #[must_use]
    pub fn test(&self) -> Option<&str> {
        self.hint("NEXTEST_TEST_NAME")
    }

    /// The package whose tests started it, if cargo or nextest runs the suite.
    #[must_use]
    pub fn package(&self) -> Option<&str> {
        self.hint("CARGO_PKG_NAME")
    }

    /// Why it could not be ended; `None` if it has been.
    #[must_use]
    pub fn survived(&self) -> Option<&str> {
        self.survived.as_deref()
    }

    fn hint(&self, name: &str) -> Option<&str> {
        self.hints.as_ref()?.get(name).map(String::as_str)
    }

    /// Test and package, as far as the environment says.
    fn origin(&self) -> Vec<(&'static str, String)> {
        if self.hints.is_none() {
            return vec![("test", "unknown: there is no environment to be read".to_owned())];
        }
        let beside = |text: &str, more: Option<&str>, how: &str| match more {
            Some(more) => format!("{}{how}{}", one_line(text), one_line(more)),
            None => one_line(text),
        };
        let mut rows = Vec::new();
        if let Some(test) = self.test() {
            rows.push(("test", beside(test, self.hint("NEXTEST_BINARY_ID"), " in ")));
        }
        if let Some(package) = self.package() {
            rows.push(("package", beside(package, self.hint("CARGO_MANIFEST_DIR"), " in ")));
        }
        if rows.is_empty() {
            rows.push(("test", "unknown: its environment names none".to_owned()));
        }
        rows
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  `{}` (pid {})", self.command, self.pid)?;
        let mut row = |name: &str, value: &str| writeln!(f, "    {name:<11}{value}");
        let path = |path: &Option<PathBuf>| match path {
            Some(path) => one_line(&path.to_string_lossy()),
            None => "unknown: the kernel does not let us read it".to_owned(),
        };
        row("directory", &path(&self.dir))?;
        row("executable", &path(&self.exe))?;
        row("age", &self.age.map_or_else(|| "unknown".to_owned(), seconds))?;
        row("state", &state_in_words(self.state))?;
        row("group", &format!("{}, session {}", self.group, self.session))?;
        row("started by", self.started_by.as_deref().unwrap_or("unknown: its parent ended before it could be seen"))?;
        for (name, value) in self.origin() {
            row(name, &value)?;
        }
        match &self.survived {
            Some(reason) => row("survived", reason),
            None => Ok(()),
        }
    }
}

fn state_in_words(state: char) -> String {
    // proc_pid_stat(5).
    let words = match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in uninterruptible sleep",
        'T' => "stopped by a signal",
        't' => "stopped by a tracer",
        'Z' => "its main thread has ended, others have not",
        'I' => "idle",
        _ => return state.to_string(),
    };
    format!("{state} ({words})")
}

/// Other people's text must not look like ours.
fn one_line(text: &str) -> String {
    text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

fn cut(command: String) -> String {
    match command.char_indices().nth(COMMAND_CHARS) {
        Some((at, _)) => format!("{}...", &command[..at]),
        None => command,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn sample(pid: i32, hints: Option<&[(&str, &str)]>) -> Leak {
        Leak {
            pid,
            start: 1,
            command: "server --port 0".to_owned(),
            state: 'S',
            age: Some(Duration::from_millis(1500)),
            dir: Some("/home/me/shop".into()),
            exe: Some("/usr/bin/server".into()),
            group: 10,
            session: 9,
            started_by: None,
            hints: hints.map(|h| h.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            survived: None,
        }
    }

    #[test]
    fn everything_that_is_known_is_printed() {
        let mut leak = sample(
            4711,
            Some(&[
                ("NEXTEST_TEST_NAME", "orders::are_kept"),
                ("NEXTEST_BINARY_ID", "shop::it"),
                ("CARGO_PKG_NAME", "shop"),
                ("CARGO_MANIFEST_DIR", "/home/me/shop"),
            ]),
        );
        leak.started_by = Some("it-77aa (pid 40) < cargo (pid 39)".to_owned());
        leak.set_survived("it is in uninterruptible sleep (state D)".to_owned());
        let text = "  `server --port 0` (pid 4711)
    directory  /home/me/shop
    executable /usr/bin/server
    age        1.50 s
    state      S (sleeping)
    group      10, session 9
    started by it-77aa (pid 40) < cargo (pid 39)
    test       orders::are_kept in shop::it
    package    shop in /home/me/shop
    survived   it is in uninterruptible sleep (state D)
";
        assert_eq!(leak.to_string(), text);
        assert_eq!((leak.test(), leak.package()), (Some("orders::are_kept"), Some("shop")));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mut leak = sample(4711, None);
        (leak.dir, leak.exe, leak.age, leak.state) = (None, None, None, 'Z');
        let text = "  `server --port 0` (pid 4711)
    directory  unknown: the kernel does not let us read it
    executable unknown: the kernel does not let us read it
    age        unknown
    state      Z (its main thread has ended, others have not)
    group      10, session 9
    started by unknown: its parent ended before it could be seen
    test       unknown: there is no environment to be read
";
        assert_eq!(leak.to_string(), text);
        assert!(sample(1, Some(&[])).to_string().contains("test       unknown: its environment names none\n"));
    }

    #[test]
    fn other_peoples_text_stays_on_its_line_and_is_cut() {
        assert_eq!(one_line("it's\n\"x\" \u{1b}[0m"), "it's\\n\"x\" \\u{1b}[0m");
        assert_eq!(cut("é".repeat(COMMAND_CHARS + 1)), format!("{}...", "é".repeat(COMMAND_CHARS)));
        assert_eq!(cut("é".repeat(COMMAND_CHARS)), "é".repeat(COMMAND_CHARS));
    }
}
