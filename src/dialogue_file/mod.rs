//! Dialogue files: what is said to a program and what it says, as text that is a test.
//!
//! | file | its job |
//! |---|---|
//! | `syntax` | the grammar: what each line means |
//! | `words` | a command line as words |
//! | `check` | one dialogue, played against its program |
//! | `replay` | one dialogue, played for what the program says now |
//! | `align` | which lines stay when it says something else |
//! | `bless` | writing what it says into the file |
//! | `suite` | a test for each file |

mod align;
mod bless;
mod check;
mod replay;
#[cfg(feature = "dialogues")]
pub(crate) mod suite;
mod syntax;
mod words;

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::check::{Block, is_difference};
use self::syntax::{Source, SyntaxError};
use crate::dialogue::search::Captures;
use crate::error::{Error, ErrorKind, Result};
use crate::report;
use crate::settings;
use crate::transcript::Visible;

/// A [dialogue file](crate::docs::dialogue_files), to be checked in a test of your own.
///
/// For a whole directory of them there is [`dialogues!`](crate::dialogues), which makes a test of each.
///
/// # Examples
///
/// ```
/// use foster::DialogueFile;
///
/// # fn main() -> foster::Result {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("greeting.dlg");
/// # let text = r#"$ sh -c 'printf "name? "; read name; echo hello $name'
/// # <~ name?\x20
/// # > Bob
/// # < hello {name}
/// # "#;
/// # std::fs::write(&path, text).unwrap();
/// // $ sh -c 'printf "name? "; read name; echo hello $name'
/// // <~ name?\x20
/// // > Bob
/// // < hello {name}
/// DialogueFile::new(&path).check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `check`"]
pub struct DialogueFile {
    path: PathBuf,
    programs: Vec<(String, PathBuf)>,
    env: Vec<(String, String)>,
    limit: Duration,
}

impl DialogueFile {
    /// The file at this path; in a test, a relative one begins at the package.
    pub fn new(path: impl AsRef<Path>) -> DialogueFile {
        let limit = crate::builder::DEFAULT_TIMEOUT;
        DialogueFile { path: path.as_ref().to_owned(), programs: Vec::new(), env: Vec::new(), limit }
    }

    /// Where the program is that the file's commands call by this name.
    ///
    /// The programs of the package under test are found without it, unless cargo keeps them somewhere else than its target
    /// directory.
    pub fn program(mut self, name: impl Into<String>, path: impl AsRef<Path>) -> DialogueFile {
        self.programs.push((name.into(), path.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable for all programs of the file.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> DialogueFile {
        self.env.push((key.into(), value.into()));
        self
    }

    /// How long each line may take in all; ten seconds unless set, scaled by `FOSTER_TIMEOUT_SCALE`.
    pub fn timeout(mut self, limit: Duration) -> DialogueFile {
        self.limit = limit;
        self
    }

    /// Plays all dialogues of the file, one after the other.
    ///
    /// With `FOSTER_BLESS=1` in the environment, what differs is written into the file instead, and the line on standard
    /// error says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Syntax`] when the file does not keep to the grammar; [`ErrorKind::Io`] when it cannot be read or written.
    /// Those of [`expect_line`](crate::Fixture::expect_line) at the first line that differs, with its place in the file, and
    /// those of [`spawn`](crate::FixtureBuilder::spawn).
    /// [`ErrorKind::InvalidInput`] when `FOSTER_BLESS` and `CI` are both set: nobody would look at what was written.
    #[track_caller]
    pub fn check(&self) -> Result {
        self.check_at(Location::caller())
    }

    fn check_at(&self, at: &'static Location<'static>) -> Result {
        if settings::bless() {
            return self.bless(at);
        }
        let source = self.read()?;
        let mut values = Captures::new();
        source.blocks().into_iter().try_for_each(|range| self.block(&source, range, at).check(&mut values))
    }

    fn bless(&self, at: &'static Location<'static>) -> Result {
        if settings::ci() {
            let why = "CI is set as well, and nobody would look at what was written";
            return Err(Error::new(ErrorKind::InvalidInput, self.failed("bless", why)));
        }
        let original = self.read()?;
        let mut source = original.clone();
        let mut values = Captures::new();
        let (mut new, mut gone) = (0, 0);
        // The number of dialogues stays the same, whatever is written into them.
        for i in 0..original.blocks().len() {
            let before = values.clone();
            let block = self.block(&source, source.blocks()[i].clone(), at);
            match block.check(&mut values) {
                Ok(()) => continue,
                Err(e) if is_difference(e.kind()) => values = before,
                Err(e) => return Err(e),
            }
            let (text, [more, less]) = bless::rewritten(&block, &source, &values).map_err(|e| {
                e.within(&self.failed("bless", "it cannot be played to its end, and nothing was written"), "")
            })?;
            (new, gone) = (new + more, gone + less);
            source = self.parse(text.as_bytes()).map_err(|e| {
                e.within(&self.failed("bless", "a line that other lines need is gone, and nothing was written"), "")
            })?;
            self.block(&source, source.blocks()[i].clone(), at).check(&mut values).map_err(|e| {
                e.within(
                    &self.failed("bless", "the program said something else the second time, and nothing was written"),
                    "",
                )
            })?;
        }
        if source == original {
            return Ok(());
        }
        bless::replace(&self.path, &source.to_string()).map_err(|e| self.io("write", e))?;
        let lines = |n: usize| if n == 1 { "1 line".to_owned() } else { format!("{n} lines") };
        report::say(&format!("blessed `{}`: {} written, {} removed", self.path.display(), lines(new), lines(gone)));
        Ok(())
    }

    fn block<'a>(
        &'a self,
        source: &'a Source,
        range: std::ops::Range<usize>,
        at: &'static Location<'static>,
    ) -> Block<'a> {
        Block { file: self, lines: &source.lines, begin: range.start, end: range.end, at }
    }

    fn read(&self) -> Result<Source> {
        let bytes = std::fs::read(&self.path).map_err(|e| self.io("read", e))?;
        let source = self.parse(&bytes)?;
        if source.blocks().is_empty() {
            let line = source.lines.len() + 1;
            let why = "expected `$` and a command, and this is the end of the file".to_owned();
            return Err(self.syntax(&SyntaxError { line, column: 1, why, text: String::new() }));
        }
        Ok(source)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Source> {
        Source::parse(bytes).map_err(|e| self.syntax(&e))
    }

    fn syntax(&self, error: &SyntaxError) -> Error {
        let SyntaxError { line, column, why, text } = error;
        let message = format!("failed to read dialogue `{}:{line}:{column}`: {why}", self.path.display());
        let mark = " ".repeat(column.saturating_sub(1));
        let width = line.to_string().len();
        // The mark stands below its character: nothing before it may be shown as more than one.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let rows = format!(
            "    {line} | {text}\n    {:width$} | {mark}^\n\n  help: the grammar is in `foster::docs::dialogue_files`\n",
            ""
        );
        Error::new(ErrorKind::Syntax, message).with_report(rows)
    }

    fn failed(&self, verb: &str, why: &str) -> String {
        format!("failed to {verb} dialogue `{}`: {why}", Visible(self.path.to_string_lossy().as_bytes()))
    }

    fn io(&self, verb: &str, e: std::io::Error) -> Error {
        Error::new(ErrorKind::Io, self.failed(verb, "the file system refused")).with_source(e)
    }

    /// The program that a command calls by this word.
    fn find(&self, word: &str) -> PathBuf {
        let named = self.programs.iter().find(|(name, _)| name == word).map(|(_, path)| path.clone());
        named.unwrap_or_else(|| check::program(word))
    }
}
