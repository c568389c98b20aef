//! What the command line prints: one line when nothing was left, else a paragraph for each finding.

use std::fmt;
use std::path::Path;

use crate::leakcheck::{Leak, Report};
use crate::report::{seconds, signal_name};
use std::time::Duration;

/// How many findings are described in full. A loop that leaks can leave thousands, and they look alike.
const DESCRIBED: usize = 20;

impl Report {
    /// The first line of a report about leaks.
    fn heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = processes(self.leaks.len());
        if let Some(signal) = self.interrupted {
            let signal = signal_name(signal);
            return writeln!(f, "leakcheck: interrupted by {signal}; {what} did not end with `{}`", self.suite);
        }
        let verb = if self.leaks.len() > 1 { "are" } else { "is" };
        let how = self.ending.map_or_else(|| "is still there".to_owned(), |e| e.to_string());
        let after = in_words(self.grace_ms);
        writeln!(f, "leakcheck: {what} {verb} alive {after} after the end of `{}`, which {how}", self.suite)
    }

    /// What became of them.
    fn outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survivors = self.leaks.iter().filter(|l| l.survived().is_some()).count();
        if self.latecomers > 0 {
            writeln!(f, "leakcheck: {} more began while these were being ended", processes(self.latecomers))?;
        }
        if survivors > 0 {
            writeln!(f, "leakcheck: {} could not be ended: see `survived` above", processes(survivors))?;
        } else if self.confirmed {
            writeln!(f, "leakcheck: all of it has been ended; the kernel confirms that nothing is left")?;
        } else {
            writeln!(f, "leakcheck: the kernel says that something is alive which `/proc` does not show")?;
        }
        match self.interrupted {
            Some(_) => Ok(()),
            None => writeln!(
                f,
                "  help: wait for it in its test, or start it as a `foster::Fixture`, which ends with the test"
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_clean() {
            self.heading(f)?;
            let (described, more) = self.leaks.split_at(self.leaks.len().min(DESCRIBED));
            for leak in described {
                write!(f, "\n{leak}")?;
            }
            if !more.is_empty() {
                let pids: Vec<String> = more.iter().map(|l| l.pid().to_string()).collect();
                write!(f, "\n  and {} more: pids {}\n", more.len(), pids.join(", "))?;
            }
            writeln!(f)?;
            return self.outcome(f);
        }
        let (took, checking) = (in_words(self.took_ms), in_words(self.checking_ms));
        if let Some(signal) = self.interrupted {
            let signal = signal_name(signal);
            return writeln!(f, "leakcheck: interrupted by {signal}; everything ended with the suite, after {took}");
        }
        let orphans = match self.adopted {
            0 => "nothing had to be adopted".to_owned(),
            1 => "1 orphan was adopted and ended by itself".to_owned(),
            n => format!("{n} orphans were adopted and ended by themselves"),
        };
        writeln!(f, "leakcheck: nothing left behind ({orphans}; the suite took {took}, the check {checking})")
    }
}

fn in_words(ms: u64) -> String {
    seconds(Duration::from_millis(ms))
}

fn processes(count: usize) -> String {
    match count {
        0 => "something".to_owned(),
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  `{}` (pid {})", self.command, self.pid)?;
        let mut row = |name: &str, value: &str| writeln!(f, "    {name:<11}{value}");
        let path = |path: Option<&Path>| match path {
            Some(path) => one_line(&path.to_string_lossy()),
            None => "unknown: the kernel does not let us read it".to_owned(),
        };
        row("directory", &path(self.working_dir()))?;
        row("executable", &path(self.executable()))?;
        row("age", &self.age().map_or_else(|| "unknown".to_owned(), seconds))?;
        row("state", &state_in_words(self.state))?;
        row("group", &format!("{}, session {}", self.group, self.session))?;
        let mut chain = self.ancestors.join(" < ");
        if chain.is_empty() {
            chain = "unknown: its parent ended before it could be seen".to_owned();
        } else if !self.ancestors_complete {
            chain += " < ?";
        }
        row("started by", &chain)?;
        match &self.test {
            Some(test) => row("test", &one_line(&test.to_string()))?,
            None => row("test", "unknown: its environment names none")?,
        }
        if let Some(package) = self.package() {
            let dir = self.manifest_dir.as_ref().map(|d| format!(" in {}", one_line(&d.to_string_lossy())));
            row("package", &format!("{}{}", one_line(package), dir.unwrap_or_default()))?;
        }
        match self.survived() {
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
