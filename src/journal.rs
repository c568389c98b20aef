//! What fixtures tell the leak check: one line of JSON for each start and each end, where `FOSTER_LEAKCHECK` names a
//! directory.
//!
//! The leak check asks the operating system whether something is left, never this journal. The journal says *whose* it is:
//! the test, the fixture, its line, and what was said. And it shows which fixtures their tests did not end: an end that is
//! missing was the guardian's.
//!
//! Each process appends to a file of its own, a line at a time and with one `write`, so that a process which is killed leaves
//! whole lines, but for one that the kernel cuts at the end of a page at that very moment. The file is opened for each line: a test may close every descriptor that it finds, and its number would then
//! be another file's. What cannot be written, for want of descriptors say, is written with the next line.

use std::fmt::Write as _;
use std::panic::Location;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dialogue::life::Life;
use crate::registry;
use crate::report::{self, Subject};
use crate::settings;
use crate::sys::{fds, process, procfs};
use crate::transcript::{Secrets, Transcript};

/// The variable by which a process that has lost everything else can be given back to its fixture.
pub(crate) const MARKER: &str = "FOSTER_FIXTURE";

/// How many lines of a transcript are noted, and how much of each.
const LINES: usize = 20;
const LINE_CHARS: usize = 300;

/// How much is kept that could not be written.
const OWED: usize = 256 * 1024;

/// Who began to end a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum By {
    /// The test; also the helper itself, which nobody had to end.
    Test = 1,
    /// The end of its scope.
    Drop,
    Exit,
    Signal,
    Panic,
    /// The guardian, because the keeper was killed.
    Guardian,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Test => "test",
            By::Drop => "drop",
            By::Exit => "exit",
            By::Signal => "signal",
            By::Panic => "panic",
            By::Guardian => "guardian",
        }
    }
}

/// A fixture whose end has to be noted.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    /// A static that `shared!` has made: its scope ends with the process.
    shared: bool,
    /// Who was the first to begin its end.
    by: Option<By>,
}

/// The hook that ends everything that still lives; 0 for none.
static HOOK: AtomicU8 = AtomicU8::new(0);

/// Does anybody want to know?
pub(crate) fn is_on() -> bool {
    settings::journal_dir().is_some()
}

/// For a fixture that is about to start, if anybody wants to know.
pub(crate) fn ticket(shared: bool) -> Option<Ticket> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    is_on().then(|| Ticket { number: NUMBERS.fetch_add(1, Ordering::Relaxed), shared, by: None })
}

/// This hook ends everything that still lives.
pub(crate) fn process_ends(by: By) {
    let _ = HOOK.compare_exchange(0, by as u8, Ordering::AcqRel, Ordering::Acquire);
}

impl Ticket {
    /// What [`MARKER`] says in the helper's environment.
    pub(crate) fn marker(&self) -> String {
        format!("{}-{}", process::own_pid(), self.number)
    }

    /// Begins its end, unless somebody has already.
    pub(crate) fn claim(&mut self, by: By) {
        self.by.get_or_insert(by);
    }

    /// The helper runs.
    pub(crate) fn started(&self, subject: &Subject, secrets: &Secrets, dir: Option<&Path>) {
        let var = |name: &str| std::env::var(name).ok();
        let at = subject.spawned_at;
        let mut line = self.line("started");
        line.text("label", &secrets.redacted_text(&subject.label));
        line.number("pid", u64::from(subject.pid.unsigned_abs()));
        line.number_if("start", procfs::stat(subject.pid).map(|stat| stat.start));
        line.text("command", &secrets.redacted_text(&subject.command));
        line.text_if("test", registry::current_test());
        line.text_if("binary", var("NEXTEST_BINARY_ID"));
        line.number_if("attempt", var("NEXTEST_ATTEMPT").and_then(|n| n.parse().ok()));
        line.text_if("exe", std::env::current_exe().ok().map(|exe| exe.to_string_lossy().into_owned()));
        line.text_if("package", var("CARGO_PKG_NAME"));
        line.text_if("manifest_dir", var("CARGO_MANIFEST_DIR"));
        line.text_if("dir", dir.map(|dir| dir.to_string_lossy().into_owned()));
        line.place(at);
        append(line);
    }

    /// Its own directory was made only now.
    pub(crate) fn has_dir(&self, dir: &Path) {
        let mut line = self.line("directory");
        line.text("dir", &dir.to_string_lossy());
        append(line);
    }

    /// Nothing is left of it, or nobody will hear of it any more.
    pub(crate) fn ended(self, life: &Life, transcript: &Transcript) {
        let hook = match HOOK.load(Ordering::Acquire) {
            n if n == By::Exit as u8 && self.shared => Some(By::Drop),
            n => [By::Exit, By::Signal, By::Panic].into_iter().find(|by| *by as u8 == n),
        };
        let own = if life.lost.is_some() { By::Guardian } else { By::Test };
        let mut line = self.line("ended");
        line.text("by", self.by.or(hook).unwrap_or(own).name());
        if let Some(exit) = &life.exited {
            line.text("ending", &report::status(exit.status));
            line.number("after_ms", millis(exit.after));
        } else {
            line.text_if("ending", life.lost.clone());
        }
        if let Some(gone) = &life.gone {
            line.number("escapees", gone.escapees.len() as u64);
            line.number("survivors", gone.survivors.len() as u64);
        }
        let (last, _) = transcript.last_lines(LINES);
        line.texts("transcript", last.lines());
        append(line);
    }

    fn line(&self, event: &str) -> Line {
        let own = process::own_pid();
        let mut line = Line("{".to_owned());
        line.text("event", event);
        line.number("process", u64::from(own.unsigned_abs()));
        // With its number, that names this process for ever.
        line.number("process_start", procfs::stat(own).map_or(0, |stat| stat.start));
        line.number("fixture", self.number);
        line.number("at", millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
        line
    }
}

/// Writes what could not be written before, at the last opportunity.
pub(crate) fn flush() {
    let mut owed = OWED_LINES.lock().unwrap_or_else(PoisonError::into_inner);
    pay(&mut owed);
    if !owed.is_empty() {
        report::say("FOSTER_LEAKCHECK: what fixtures did could not be noted: the leak check may call them late");
    }
}

static OWED_LINES: Mutex<String> = Mutex::new(String::new());

fn append(line: Line) {
    let mut owed = OWED_LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if owed.len() < OWED {
        owed.push_str(&line.0);
        owed.push_str("}\n");
    }
    pay(&mut owed);
}

fn pay(owed: &mut String) {
    let Some(dir) = settings::journal_dir().filter(|_| !owed.is_empty()) else { return };
    // By its user, too: one that becomes another one may not open what it has made before.
    let name = format!("{}-{}.jsonl", process::own_pid(), process::user());
    if fds::append(&dir.join(name), owed.as_bytes()).is_ok() {
        owed.clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One JSON object, still open.
struct Line(String);

impl Line {
    fn name(&mut self, name: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{comma}\"{name}\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.0, "{value}");
    }

    fn number_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn text_if(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.text(name, &value);
        }
    }

    fn texts<'t>(&mut self, name: &str, values: impl Iterator<Item = &'t str>) {
        self.name(name);
        self.0.push('[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            match value.char_indices().nth(LINE_CHARS) {
                Some((end, _)) => self.quoted(&format!("{}...", &value[..end])),
                None => self.quoted(value),
            }
        }
        self.0.push(']');
    }

    fn place(&mut self, at: &'static Location<'static>) {
        self.text("file", at.file());
        self.number("line", u64::from(at.line()));
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                // A line of the file is one line, whatever a label says; and some readers end lines at these, too.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_is_in_it() {
        let mut line = Line("{".to_owned());
        let nasty = "a\"b\\c\nd\te\u{0}f\u{7f}g\u{85}h\u{2028}i ä 日本 \u{1f980}";
        line.text(nasty.get(..1).unwrap(), nasty);
        line.number("n", u64::MAX);
        line.number_if("none", None);
        line.texts("t", ["", nasty, &"é".repeat(LINE_CHARS + 1)].into_iter());
        let text = line.0 + "}";
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["a"], nasty);
        assert_eq!(json["n"], u64::MAX);
        assert_eq!(json["t"], serde_json::json!(["", nasty, format!("{}...", "é".repeat(LINE_CHARS))]));
        assert_eq!(json.as_object().unwrap().len(), 3);
    }

    #[test]
    fn whoever_comes_first_has_ended_it() {
        let mut ticket = Ticket { number: 1, shared: false, by: None };
        ticket.claim(By::Test);
        ticket.claim(By::Drop);
        assert_eq!(ticket.by, Some(By::Test));
    }
}
