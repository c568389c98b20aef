//! What a failing test prints: written for somebody who reads it in a CI log and did not write the test.

use std::fmt::Write as _;
use std::panic::Location;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::dialogue::conversation::{Channel, State};
use crate::error::{Error, ErrorKind};
use crate::registry;
use crate::sys::activity::{self, Activity};
use crate::transcript::Visible;

/// How many lines of the transcript a report shows.
const TRANSCRIPT_LINES: usize = 20;

/// How many other fixtures of the same test are named.
const OTHERS: usize = 8;

/// How much of what is unread a report shows.
const UNREAD_BYTES: usize = 200;

/// The helper that a report is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) label: String,
    pub(crate) command: String,
    pub(crate) pid: i32,
    pub(crate) started: Instant,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// What was attempted.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    /// `expect`, `send`, …
    pub(crate) verb: &'a str,
    /// As it stands in the first line, between backticks; empty when the verb says it all.
    pub(crate) object: String,
    pub(crate) at: &'static Location<'static>,
}

/// Writes the whole failure.
pub(crate) fn failure(
    kind: ErrorKind,
    subject: &Subject,
    state: &State,
    attempt: &Attempt<'_>,
    why: &str,
    details: &[(&str, String)],
    help: Option<&str>,
) -> Error {
    let preposition = if attempt.verb.starts_with("expect") { "from" } else { "to" };
    let Attempt { verb, object, .. } = attempt;
    let message = match object.as_str() {
        "" => format!("failed to {verb} `{}`: {why}", subject.label),
        object => format!("failed to {verb} `{object}` {preposition} `{}`: {why}", subject.label),
    };
    let mut text = String::new();
    for (name, value) in details {
        let _ = writeln!(text, "  {name:<11}{value}");
    }
    let _ = writeln!(text, "  {:<11}{}", "at", place(attempt.at));
    let activity = doing(subject, state);
    text.push_str(&portrait(subject, state, activity.as_ref()));
    let listens = attempt.verb.starts_with("expect") || attempt.verb == "select";
    let waits = kind == ErrorKind::Timeout && listens && activity.is_some_and(|a| a.wants_input);
    let for_its_end = object == "exit" || object.starts_with("end of");
    let input = match for_its_end {
        true => {
            "the helper waits for input: it may be the end of it that it waits for, which `send_eof` and `wait` give"
        }
        false => "the helper waits for input: is a line still to be sent, or only its line ending?",
    };
    if let Some(help) = help.or(waits.then_some(input)) {
        let _ = writeln!(text, "\n  help: {help}");
    }
    // Once more, for what the test itself has put into words.
    let clean = |text: &str| state.transcript.secrets.redacted_text(text);
    Error::new(kind, clean(&message)).with_report(clean(&text))
}

/// What a test that panics prints about each of its helpers: the panic itself says nothing about them.
pub(crate) fn of_panic(subject: &Subject, state: &State) -> String {
    let portrait = portrait(subject, state, doing(subject, state).as_ref());
    let text = format!("foster: the test panicked; this is its helper `{}`:\n{portrait}", subject.label);
    state.transcript.secrets.redacted_text(&text)
}

/// What the helper is doing, while it lives.
fn doing(subject: &Subject, state: &State) -> Option<Activity> {
    let lives = state.life.exited.is_none() && !state.life.is_over();
    lives.then(|| activity::of(subject.pid)).flatten()
}

/// Who the helper is, how it is doing, what is unread and what was said.
fn portrait(subject: &Subject, state: &State, activity: Option<&Activity>) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    row("helper", &format!("`{}` (pid {}), spawned at {}", subject.command, subject.pid, place(subject.spawned_at)));
    row("state", &condition(subject, state, activity));
    for channel in [Channel::Stdout, Channel::Stderr] {
        row(channel.name(), &describe_stream(state, channel));
    }
    if let Some(others) = others(subject) {
        row("others", &others);
    }
    if let Some(path) = state.transcript.log_path() {
        row("log", &path.display().to_string());
    }
    #[cfg(feature = "screen")]
    if let Some(picture) = state.emulator.as_ref().and_then(|e| e.picture(&state.transcript.secrets)) {
        let _ = writeln!(text, "\n  screen");
        for line in picture.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let (last, lines) = state.transcript.last_lines(TRANSCRIPT_LINES);
    if state.transcript.is_empty() {
        let _ = writeln!(text, "\n  transcript: nothing has been said");
    } else {
        let shown = lines.min(TRANSCRIPT_LINES);
        let _ = writeln!(text, "\n  transcript (last {shown} of {lines} lines)");
        for line in last.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// The other helpers of the same test, in a few words each.
fn others(subject: &Subject) -> Option<String> {
    let all = registry::siblings(subject.pid);
    let state = |pid: u32| activity::of(pid as i32).map_or_else(|| "no more".to_owned(), |a| a.what);
    let words = |e: &registry::Entry| format!("`{}` (pid {}) is {}", e.label(), e.pid(), state(e.pid()));
    let mut named: Vec<String> = all.iter().take(OTHERS).map(words).collect();
    if all.len() > OTHERS {
        named.push(format!("and {} more", all.len() - OTHERS));
    }
    (!named.is_empty()).then(|| named.join("; "))
}

fn place(location: &Location<'_>) -> String {
    format!("{}:{}:{}", location.file(), location.line(), location.column())
}

/// Running, ended how and when, or nobody knows.
fn condition(subject: &Subject, state: &State, activity: Option<&Activity>) -> String {
    let mut text = match (&state.life.exited, &state.life.lost) {
        (Some(exit), _) if !exit.note.is_empty() => {
            format!("{} after {}, by its keeper, because {}", status(exit.status), seconds(exit.after), exit.note)
        }
        (Some(exit), _) => format!("{} after {}", status(exit.status), seconds(exit.after)),
        (None, Some(lost)) => format!("unknown: {lost}"),
        (None, None) => {
            let since = subject.started.elapsed();
            let silent = match state.transcript.silence() {
                Some(silent) => format!("silent for {}", seconds(silent)),
                None => "it has not said anything".to_owned(),
            };
            let doing = activity.map(|a| format!("; it is {}", a.what)).unwrap_or_default();
            format!("running for {}, {silent}{doing}", seconds(since))
        }
    };
    if let Some(exit) = &state.life.exited {
        if !exit.left.is_empty() && state.life.gone.is_none() {
            let left: Vec<String> = exit.left.iter().map(ToString::to_string).collect();
            let _ = write!(text, "; it left behind: {}", left.join(", "));
        }
    }
    text
}

fn describe_stream(state: &State, channel: Channel) -> String {
    let stream = state.stream_ref(channel);
    if stream.joined {
        return "on the terminal, with stdout".to_owned();
    }
    let unread = stream.window.unread();
    let mut text = if unread.is_empty() {
        "nothing unread".to_owned()
    } else {
        let (length, unread) = (unread.len(), state.redacted(unread));
        // Of what was to be expected, the next is of interest; of complaints, the last.
        let shown = match channel {
            Channel::Stdout => &unread[..unread.len().min(UNREAD_BYTES)],
            Channel::Stderr => &unread[unread.len().saturating_sub(UNREAD_BYTES)..],
        };
        let dots = if shown.len() < unread.len() { "..." } else { "" };
        let (before, after) = if channel == Channel::Stdout { ("", dots) } else { (dots, "") };
        let bytes = if length == 1 { "byte" } else { "bytes" };
        format!("{length} {bytes} unread: \"{before}{}{after}\"", Visible(shown))
    };
    if stream.window.dropped() > 0 {
        let _ = write!(text, ", {} older bytes dropped unread", stream.window.dropped());
    }
    if let Some(kind) = stream.broken {
        let _ = write!(text, ", reading it failed: {kind}");
    } else if stream.is_eof() {
        text.push_str(", at its end");
    }
    text
}

/// An exit status in words.
pub(crate) fn status(status: ExitStatus) -> String {
    match (status.code(), crate::sys::ending_signal(status)) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => format!("ended with {status}"),
    }
}

/// `SIGTERM` for 15.
pub(crate) fn signal_name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// A duration as a reader wants it.
pub(crate) fn seconds(d: Duration) -> String {
    if d < Duration::from_secs(1) {
        format!("{:.1} ms", d.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", d.as_secs_f64())
    }
}

/// One line on standard error, for what no return value can carry.
///
/// Straight to the descriptor: inside an exit hook std's handle may be gone, and libtest must not swallow it.
pub(crate) fn say(line: &str) {
    crate::sys::say(&format!("foster: {line}\n"));
}
