//! The result of a leak check: what is printed, and the status that it ends with.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use super::leak::Leak;
use super::{LEAKED, Options};
use crate::Signal;
use crate::report::{seconds, status};
use crate::sys::ending_signal;

/// How many leaks are described in full. A loop that leaks can leave thousands, and they look alike.
const DESCRIBED: usize = 50;

/// What a suite did, and what it left behind.
///
/// `Display` is what the command line prints: one line when nothing was left, else a paragraph for each leak (of the
/// first fifty).
#[derive(Debug, Clone)]
pub struct Report {
    pub(super) suite: String,
    /// `None` only when it could not be ended.
    pub(super) status: Option<ExitStatus>,
    pub(super) interrupted: Option<Signal>,
    pub(super) leaks: Vec<Leak>,
    /// Leaks that were killed, but are not in the list: they began while the others were being ended.
    pub(super) latecomers: usize,
    /// Has the kernel confirmed that nothing is left?
    pub(super) confirmed: bool,
    /// Orphans that ended by themselves.
    pub(super) adopted: usize,
    pub(super) grace: Duration,
    pub(super) took: Duration,
    pub(super) checking: Duration,
}

impl Report {
    pub(super) fn new(options: &Options) -> Report {
        Report {
            suite: options.line(),
            status: None,
            interrupted: None,
            leaks: Vec::new(),
            latecomers: 0,
            confirmed: true,
            adopted: 0,
            grace: options.patience(),
            took: Duration::ZERO,
            checking: Duration::ZERO,
        }
    }

    /// What was alive after the suite had ended and the grace was over.
    ///
    /// After an [interruption](Report::interrupted): what did not end with the suite.
    #[must_use]
    pub fn leaks(&self) -> &[Leak] {
        &self.leaks
    }

    /// Was nothing left alive? Then the kernel has confirmed it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.leaks.is_empty() && self.latecomers == 0 && self.confirmed
    }

    /// How the suite itself ended; `None` if it was interrupted and could not be ended.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// How many processes lost their parent, were adopted by the check, and ended by themselves.
    #[must_use]
    pub fn adopted(&self) -> usize {
        self.adopted
    }

    /// The signal that ended the check and the suite, if one did.
    #[must_use]
    pub fn interrupted(&self) -> Option<Signal> {
        self.interrupted
    }

    /// The status for this process to exit with, as [the module](super) describes it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let by_signal = |signal: i32| u8::try_from(128 + signal).unwrap_or(u8::MAX);
        if let Some(signal) = self.interrupted {
            return by_signal(signal.as_raw());
        }
        let own = match self.status {
            Some(status) => match (status.code(), ending_signal(status)) {
                (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
                (None, Some(signal)) => by_signal(signal),
                (None, None) => u8::MAX,
            },
            None => u8::MAX,
        };
        if own == 0 && !self.is_clean() { LEAKED } else { own }
    }

    /// The first line of a report about leaks.
    fn heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = processes(self.leaks.len());
        if let Some(signal) = self.interrupted {
            return writeln!(f, "leakcheck: interrupted by {signal}; {what} did not end with `{}`", self.suite);
        }
        let verb = if self.leaks.len() > 1 { "are" } else { "is" };
        let how = self.status.map_or_else(|| "is still there".to_owned(), status);
        let after = seconds(self.grace);
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
        let (took, checking) = (seconds(self.took), seconds(self.checking));
        if let Some(signal) = self.interrupted {
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

fn processes(count: usize) -> String {
    match count {
        0 => "something".to_owned(),
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::leak::tests::sample;
    use super::*;

    /// The status of `sh -c SCRIPT`.
    fn ends(script: &str) -> ExitStatus {
        std::process::Command::new("sh").args(["-c", script]).status().unwrap()
    }

    fn report(script: &str) -> Report {
        let options = Options::command("cargo", ["test"]);
        let (took, checking) = (Duration::from_secs(12), Duration::from_micros(400));
        Report { status: Some(ends(script)), took, checking, ..Report::new(&options) }
    }

    #[test]
    fn a_leak_never_hides_a_failure_and_the_signal_wins() {
        for (script, clean, leaky) in [("exit 0", 0, 23), ("exit 101", 101, 101), ("kill -9 $$", 137, 137)] {
            let mut report = report(script);
            assert_eq!(report.exit_code(), clean, "{script}");
            report.leaks.push(sample(1, None));
            assert_eq!(report.exit_code(), leaky, "{script}");
            report.interrupted = Some(Signal::SIGTERM);
            assert_eq!(report.exit_code(), 143, "{script}");
        }
        assert_eq!(Report { confirmed: false, ..report("exit 0") }.exit_code(), 23);
        assert_eq!(Report { latecomers: 1, ..report("exit 0") }.exit_code(), 23);
    }

    #[test]
    fn success_is_one_line() {
        let mut report = report("exit 0");
        for (adopted, orphans) in [
            (0, "nothing had to be adopted"),
            (1, "1 orphan was adopted and ended by itself"),
            (3, "3 orphans were adopted and ended by themselves"),
        ] {
            report.adopted = adopted;
            let line =
                format!("leakcheck: nothing left behind ({orphans}; the suite took 12.00 s, the check 0.4 ms)\n");
            assert_eq!(report.to_string(), line);
        }
        report.interrupted = Some(Signal::SIGINT);
        let line = "leakcheck: interrupted by SIGINT; everything ended with the suite, after 12.00 s\n";
        assert_eq!(report.to_string(), line);
    }

    #[test]
    fn leaks_are_counted_printed_and_their_end_is_told() {
        let mut report = report("exit 0");
        report.leaks.push(sample(4711, Some(&[])));
        let text = format!(
            "leakcheck: 1 process is alive 500.0 ms after the end of `cargo test`, which exited with status 0

{}
leakcheck: all of it has been ended; the kernel confirms that nothing is left
  help: wait for it in its test, or start it as a `foster::Fixture`, which ends with the test
",
            report.leaks[0]
        );
        assert_eq!(report.to_string(), text);
        report.leaks.push(sample(4712, None));
        report.leaks[1].set_survived("it is stopped by a tracer (state t)".to_owned());
        report.latecomers = 1;
        let text = report.to_string();
        assert!(text.starts_with("leakcheck: 2 processes are alive"), "{text}");
        assert!(text.contains("\nleakcheck: 1 process more began while these were being ended\n"), "{text}");
        assert!(text.contains("\nleakcheck: 1 process could not be ended: see `survived` above\n"), "{text}");
        report.interrupted = Some(Signal::SIGTERM);
        let line = "leakcheck: interrupted by SIGTERM; 2 processes did not end with `cargo test`\n";
        assert!(report.to_string().starts_with(line), "{report}");
    }

    #[test]
    fn thousands_of_leaks_are_not_thousands_of_paragraphs() {
        let leaks = (1..=DESCRIBED + 2).map(|pid| sample(pid as i32, None)).collect();
        let text = Report { leaks, ..report("exit 0") }.to_string();
        assert_eq!(text.matches("    directory ").count(), DESCRIBED);
        assert!(text.contains("\n\n  and 2 more: pids 51, 52\n\nleakcheck: all of it"), "{text}");
    }

    #[test]
    fn what_proc_does_not_show_is_not_called_clean() {
        let text = Report { confirmed: false, ..report("exit 0") }.to_string();
        assert!(text.contains("the kernel says that something is alive which `/proc` does not show"), "{text}");
    }
}
