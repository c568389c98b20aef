//! One dialogue of a file, played against its program.

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::DialogueFile;
use super::syntax::{Entry, Line, Status, Want};
use super::words::Command;
use crate::dialogue::conversation::Channel;
use crate::dialogue::escape::escaped;
use crate::dialogue::expect::Wait;
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;
use crate::dialogue::verbs::piece::{Next, Other, Piece, fits};
use crate::error::{Error, ErrorKind, Result};
use crate::fixture::Fixture;
use crate::report::{self, Attempt};
use crate::transcript::Visible;

/// How many lines before the one that differs a report shows.
const CONTEXT: usize = 3;

/// A dialogue and what it is played with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) file: &'a DialogueFile,
    /// All lines of the file.
    pub(super) lines: &'a [Line],
    /// Which of them are this dialogue.
    pub(super) begin: usize,
    pub(super) end: usize,
    pub(super) at: &'static Location<'static>,
}

/// With the values of the names that have one.
pub(super) fn resolved(template: &Template, values: &Captures) -> Template {
    template.with(|name| values.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
}

/// The first value of a name stays.
pub(super) fn remember(values: &mut Captures, new: Captures) {
    for (name, value) in new {
        if !values.iter().any(|(n, _)| *n == name) {
            values.push((name, value));
        }
    }
}

impl<'a> Block<'a> {
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = (usize, &'a Entry)> + use<'a> {
        let lines = self.lines;
        (self.begin..self.end).map(move |i| (i, &lines[i].entry))
    }

    /// After which line its input ends.
    pub(super) fn input_end(&self) -> usize {
        let explicit = self.entries().find(|(_, e)| matches!(e, Entry::SendEof));
        let sent = || self.entries().rev().find(|(_, e)| matches!(e, Entry::Send(..)));
        explicit.or_else(sent).map_or(self.begin, |(i, _)| i)
    }

    /// `tests/dialogue/greet.dlg:3`.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}:{}", self.file.path.display(), line + 1)
    }

    /// Plays it; what it captures is added to the values.
    ///
    /// # Errors
    ///
    /// The first difference, with its line in the file.
    pub(super) fn check(&self, values: &mut Captures) -> Result {
        let fx = self.spawn(values)?;
        let mut skip = [false; 2];
        let input_end = self.input_end();
        let mut status = (self.end - 1, Status::Code(0));
        for (i, entry) in self.entries() {
            match entry {
                Entry::Nothing | Entry::Command(_) => {}
                Entry::Send(text, ending) => self.send(&fx, i, text, ending, values)?,
                Entry::SendEof => {}
                Entry::Out(want) => self.expect(&fx, i, Channel::Stdout, want, &mut skip[0], values)?,
                Entry::Err(want) => self.expect(&fx, i, Channel::Stderr, want, &mut skip[1], values)?,
                Entry::Status(wanted) => status = (i, wanted.clone()),
            }
            if i == input_end {
                fx.conversation.close_stdin();
            }
        }
        let last = self.last_line();
        for (channel, skip) in [(Channel::Stdout, skip[0]), (Channel::Stderr, skip[1])] {
            let end = self.wait(&fx, channel).run(Next { piece: Piece::End, skip });
            if let Err(other) = end.map_err(|e| self.located(e, last, None))? {
                return Err(self.differs(&fx, channel, None, last, &other));
            }
        }
        let ended = fx.usual().expect_exit_at(self.at).map_err(|e| self.located(e, last, None))?;
        if status_of(ended) != status.1 {
            let why = format!("the program {}", report::status(ended));
            let object = format!("exit with status {}", status.1);
            let instead = format!("? {}", status_of(ended));
            let (line, instead) = match &self.lines[status.0].entry {
                Entry::Status(_) => (status.0, Instead::Of(instead)),
                _ => (last, Instead::After(instead)),
            };
            return Err(self.located(self.failure(&fx, "expect", object, &why, vec![]), line, Some(instead)));
        }
        Ok(())
    }

    /// The last line that says something.
    pub(super) fn last_line(&self) -> usize {
        self.entries().rev().find(|(_, e)| !matches!(e, Entry::Nothing)).map_or(self.begin, |(i, _)| i)
    }

    pub(super) fn spawn(&self, values: &Captures) -> Result<Fixture> {
        let Entry::Command(Command { env, program, args }) = &self.lines[self.begin].entry else {
            unreachable!("a dialogue begins with its command");
        };
        let filled = |word: &String| {
            values.iter().fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
        };
        let file = self.file;
        let builder = Fixture::command(file.find(&filled(program)))
            .args(args.iter().map(filled))
            .envs(file.env.iter().map(|(k, v)| (k, v)))
            .envs(env.iter().map(|(k, v)| (k, filled(v))))
            .label(program)
            .timeout(file.limit)
            .in_own_dir();
        builder.spawn_from(self.at).map_err(|e| self.located(e, self.begin, None))
    }

    pub(super) fn send(&self, fx: &Fixture, line: usize, text: &Template, ending: &str, values: &Captures) -> Result {
        let value_of =
            |name: Option<&str>| values.iter().find(|(n, _)| Some(n.as_str()) == name).map(|(_, v)| v.clone());
        let mut bytes = text.filled(value_of).map_err(|name| {
            let message = format!("failed to send `{}`: {name} has no value", text.source);
            self.located(Error::new(ErrorKind::InvalidInput, message), line, None)
        })?;
        bytes.extend_from_slice(ending.as_bytes());
        fx.input().send_from(&bytes, self.at).map_err(|e| self.located(e, line, None))
    }

    fn expect(
        &self,
        fx: &Fixture,
        line: usize,
        channel: Channel,
        want: &Want,
        skip: &mut bool,
        values: &mut Captures,
    ) -> Result {
        let piece = match want {
            Want::Rest => {
                *skip = true;
                return Ok(());
            }
            Want::Line(template) => Piece::Line(resolved(template, values)),
            Want::Tail(template) => Piece::Tail(resolved(template, values)),
        };
        let next = Next { piece: piece.clone(), skip: std::mem::take(skip) };
        match self.wait(fx, channel).run(next).map_err(|e| self.located(e, line, None))? {
            Ok(captures) => {
                remember(values, captures);
                Ok(())
            }
            Err(other) => Err(self.differs(fx, channel, Some(piece), line, &other)),
        }
    }

    fn wait<'f>(&self, fx: &'f Fixture, channel: Channel) -> Wait<'f> {
        Wait { conversation: &fx.conversation, channel, limit: fx.limit(), at: self.at }
    }

    /// Something else came than what this line says.
    fn differs(&self, fx: &Fixture, channel: Channel, piece: Option<Piece>, line: usize, other: &Other) -> Error {
        let got = written(channel, &other.text, other.ended);
        let got = if piece.is_some() { Instead::Of(got) } else { Instead::After(got) };
        let expected = match &piece {
            Some(Piece::Line(template) | Piece::Tail(template)) => format!("`{}`", shortened(&template.source)),
            _ => format!("the end of {}", channel.name()),
        };
        let same = match &piece {
            Some(Piece::Line(t) | Piece::Tail(t)) => fits(t, &other.text).is_some(),
            _ => false,
        };
        let (verb, why) = match piece {
            None => ("expect", "there is more"),
            Some(Piece::Line(_)) if same => ("expect line", "it came without a line ending"),
            Some(Piece::Tail(_)) if same => ("expect prompt", "it came with a line ending"),
            Some(Piece::Tail(_)) => ("expect prompt", "something else came"),
            Some(_) => ("expect line", "the next line is another one"),
        };
        let object = expected.trim_matches('`').to_owned();
        let details = vec![("expected", expected), ("got", format!("`{}`", shortened(&escaped(&other.text))))];
        self.located(self.failure(fx, verb, object, why, details), line, Some(got))
    }

    fn failure(
        &self,
        fx: &Fixture,
        verb: &str,
        object: String,
        why: &str,
        details: Vec<(&'static str, String)>,
    ) -> Error {
        let mut state = fx.conversation.lock();
        state.reported = true;
        let attempt = Attempt { verb, object, at: self.at };
        report::failure(ErrorKind::Mismatch, &fx.conversation.subject, &state, &attempt, why, &details, None)
    }

    /// The same with the place in the file, and the lines there.
    pub(super) fn located(&self, error: Error, line: usize, instead: Option<Instead>) -> Error {
        let width = (line + 1).to_string().len();
        let mut rows = format!("  {:<11}{}\n", "dialogue", self.place(line));
        for i in self.begin.max(line.saturating_sub(CONTEXT))..=line {
            let sign = if i == line && matches!(instead, Some(Instead::Of(_))) { '-' } else { ' ' };
            let text = shortened(&Visible(self.lines[i].text.as_bytes()).to_string());
            rows.push_str(&format!("    {sign} {:>width$} | {text}\n", i + 1));
        }
        if let Some(Instead::Of(text) | Instead::After(text)) = instead {
            rows.push_str(&format!("    + {:>width$} | {}\n", "", shortened(&text)));
        }
        let blessable = is_difference(error.kind());
        let error = error.within(&format!("failed dialogue `{}`", self.place(line)), &rows);
        let help = "FOSTER_BLESS=1 writes what the program says into the file";
        if blessable { error.with_help(help) } else { error }
    }
}

/// A line as a report shows it: of a very long one, both ends.
fn shortened(text: &str) -> String {
    const END: usize = 200;
    let count = text.chars().count();
    if count <= 3 * END {
        return text.to_owned();
    }
    let head: String = text.chars().take(END).collect();
    let tail: String = text.chars().skip(count - END).collect();
    format!("{head} ...({} characters)... {tail}", count - 2 * END)
}

/// What would have to stand in a file.
#[derive(Debug)]
pub(super) enum Instead {
    /// In the place of the line that differs.
    Of(String),
    /// After the last line.
    After(String),
}

/// Does the program say something else than the file, rather than that it cannot be played at all?
pub(super) fn is_difference(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Mismatch | ErrorKind::Timeout | ErrorKind::Exited | ErrorKind::Eof)
}

/// As a dialogue file says it.
pub(super) fn written(channel: Channel, text: &[u8], ended: bool) -> String {
    let marker = match (channel, ended) {
        (Channel::Stdout, true) => "<",
        (Channel::Stdout, false) => "<~",
        (Channel::Stderr, true) => "!",
        (Channel::Stderr, false) => "!~",
    };
    if text.is_empty() { marker.to_owned() } else { format!("{marker} {}", escaped(text)) }
}

pub(super) fn status_of(ended: ExitStatus) -> Status {
    match (ended.code(), crate::sys::ending_signal(ended)) {
        (None, Some(signal)) => Status::Signal(report::signal_name(signal)),
        (code, _) => Status::Code(code.unwrap_or_default()),
    }
}

/// A program of the package under test, or whatever the helper's PATH has.
pub(super) fn program(word: &str) -> PathBuf {
    if word.contains('/') {
        // The dialogue runs in a directory of its own; what its writer means is seen from the package.
        return std::path::absolute(word).unwrap_or_else(|_| word.into());
    }
    let said = ["CARGO_BIN_EXE_", "NEXTEST_BIN_EXE_"].iter().find_map(|v| std::env::var_os(format!("{v}{word}")));
    if let Some(path) = said {
        return path.into();
    }
    let built = std::env::current_exe().ok().and_then(|test| {
        let dir = test.parent()?;
        // Tests are in `target/debug/deps`, examples in `target/debug/examples`, and programs one above.
        let dir = if dir.ends_with("deps") || dir.ends_with("examples") { dir.parent()? } else { dir };
        let path = dir.join(format!("{word}{}", std::env::consts::EXE_SUFFIX));
        path.is_file().then_some(path)
    });
    built.unwrap_or_else(|| Path::new(word).to_owned())
}
