//! `Script`: a conversation as a value, to be played on a fixture, or mirrored and played by a fake.

pub(crate) mod fake;
pub(crate) mod mirror;
mod play;

use std::fmt;
use std::panic::Location;
use std::str::FromStr;

use crate::dialogue::found;
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;
use crate::error::Result;
use crate::transcript::{Secrets, Visible};

pub use mirror::Mirror;

/// A conversation as a value: made once, played on any [`Fixture`](crate::Fixture), [mirrored](Script::mirror) for a fake.
///
/// Texts are templates, as with [`like`](crate::like()): `{name}` captures, and `[..]` stands for anything.
/// A name that has a value already, because an earlier step captured it or because of [`with`](Script::with), stands for
/// that value, in what is sent as well as in what is expected.
/// `{{name}}` is the text `{name}`.
///
/// Each step has the fixture's usual time limit.
/// A step that fails is named in the error, with its number and its line in the source; the steps before it stay done.
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
/// use foster::Script;
///
/// # fn main() -> foster::Result {
/// let login = Script::new()
///     .prompt("name? ")
///     .send_line("{user}")
///     .optional("last seen [..]")
///     .line("hello {user}, you are number {number}")
///     .send_eof()
///     .exit(0);
///
/// let program = "printf 'name? '; read name; echo hello $name, you are number 7; read more; exit 0";
/// let fx = Fixture::command("sh").args(["-c", program]).spawn()?;
/// let played = login.clone().with("user", "Bob").play(&fx)?;
/// assert_eq!(played.get::<u32>("number")?, 7);
///
/// // The same without a program: a fake says what the script expects.
/// let login = login.with("user", "Ann");
/// let fake = Fixture::fake(login.mirror().with("number", "42")).spawn()?;
/// assert_eq!(login.play(&fake)?.get::<u32>("number")?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "nothing happens before it is played"]
pub struct Script {
    steps: Vec<Step>,
    values: Captures,
}

/// One step, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    what: What,
    at: &'static Location<'static>,
}

#[derive(Debug, Clone)]
enum What {
    Send(Template),
    SendLine(Template),
    SendSecret(Template),
    SendEof,
    Expect(Template),
    Line(Template),
    Prompt(Template),
    StderrLine(Template),
    Any(Vec<Template>),
    Unordered(Vec<Template>),
    Optional(Template),
    Eof,
    Exit(i32),
}

impl Script {
    /// An empty script.
    pub fn new() -> Script {
        Script::default()
    }

    /// Gives a name a value from the beginning.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Script {
        set(&mut self.values, name.into(), value.to_string());
        self
    }

    #[track_caller]
    fn step(mut self, what: What) -> Script {
        self.steps.push(Step { what, at: Location::caller() });
        self
    }

    /// All steps of another script, after those of this one.
    pub fn then(mut self, other: Script) -> Script {
        self.steps.extend(other.steps);
        for (name, value) in other.values {
            set(&mut self.values, name, value);
        }
        self
    }

    /// Sends this text, without a line ending.
    #[track_caller]
    pub fn send(self, text: impl Into<Template>) -> Script {
        self.step(What::Send(text.into()))
    }

    /// Sends this text and a line ending.
    #[track_caller]
    pub fn send_line(self, line: impl Into<Template>) -> Script {
        self.step(What::SendLine(line.into()))
    }

    /// Sends a line that no transcript and no report ever shows, as [`Fixture::send_secret`](crate::Fixture::send_secret)
    /// does.
    #[track_caller]
    pub fn send_secret(self, line: impl Into<Template>) -> Script {
        self.step(What::SendSecret(line.into()))
    }

    /// Gives the helper the end of its input.
    #[track_caller]
    pub fn send_eof(self) -> Script {
        self.step(What::SendEof)
    }

    /// Waits for the first later place, as [`Fixture::expect`](crate::Fixture::expect) does.
    #[track_caller]
    pub fn expect(self, text: impl Into<Template>) -> Script {
        self.step(What::Expect(text.into()))
    }

    /// Waits for the next line, which has to be this one, as [`Fixture::expect_line`](crate::Fixture::expect_line) does.
    #[track_caller]
    pub fn line(self, line: impl Into<Template>) -> Script {
        self.step(What::Line(line.into()))
    }

    /// The same on standard error.
    #[track_caller]
    pub fn stderr_line(self, line: impl Into<Template>) -> Script {
        self.step(What::StderrLine(line.into()))
    }

    /// Waits for a prompt, as [`Fixture::expect_prompt`](crate::Fixture::expect_prompt) does.
    #[track_caller]
    pub fn prompt(self, prompt: impl Into<Template>) -> Script {
        self.step(What::Prompt(prompt.into()))
    }

    /// Waits for one of several, as [`Fixture::expect_any`](crate::Fixture::expect_any) does.
    #[track_caller]
    pub fn any(self, texts: impl IntoIterator<Item = impl Into<Template>>) -> Script {
        self.step(What::Any(texts.into_iter().map(Into::into).collect()))
    }

    /// Waits for all of several in any order, as [`Fixture::expect_unordered`](crate::Fixture::expect_unordered) does.
    #[track_caller]
    pub fn unordered(self, texts: impl IntoIterator<Item = impl Into<Template>>) -> Script {
        self.step(What::Unordered(texts.into_iter().map(Into::into).collect()))
    }

    /// The next line may be this one; if it is another one, it is left for the step that follows.
    ///
    /// What comes instead has to decide, so the steps that follow have to expect something on standard output before
    /// something is sent.
    #[track_caller]
    pub fn optional(self, line: impl Into<Template>) -> Script {
        self.step(What::Optional(line.into()))
    }

    /// Waits for the end of standard output, and passes over what was left on it.
    #[track_caller]
    pub fn eof(self) -> Script {
        self.step(What::Eof)
    }

    /// Waits for the helper to end by itself, which has to be with this status.
    #[track_caller]
    pub fn exit(self, status: i32) -> Script {
        self.step(What::Exit(status))
    }

    /// The other side of this conversation, for [`Fixture::fake`](crate::Fixture::fake).
    pub fn mirror(&self) -> Mirror {
        Mirror::new(self.clone())
    }
}

/// What a script that was played has captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    captures: Captures,
    secrets: Secrets,
}

impl Played {
    /// The value under this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Capture`](crate::ErrorKind::Capture) when there is none of this name, or when it is no `T`.
    #[track_caller]
    pub fn get<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        found::parse(&self.captures, name, "a script that was played", &self.secrets)
    }

    /// All names with their values, in the order in which they got them; those of [`Script::with`] come first.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.captures.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn set(values: &mut Captures, name: String, value: String) {
    match values.iter_mut().find(|(n, _)| *n == name) {
        Some((_, old)) => *old = value,
        None => values.push((name, value)),
    }
}

fn get(values: &Captures, name: &str) -> Option<String> {
    values.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

/// What the step is, as one reads it in the source.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |texts: &[Template]| {
            let texts: Vec<String> = texts.iter().map(|t| format!("\"{}\"", Visible(t.source.as_bytes()))).collect();
            texts.join(", ")
        };
        let one = |text: &Template| all(std::slice::from_ref(text));
        match &self.what {
            What::Send(text) => write!(f, "send {}", one(text)),
            What::SendLine(text) => write!(f, "send_line {}", one(text)),
            What::SendSecret(_) => f.write_str("send_secret"),
            What::SendEof => f.write_str("send_eof"),
            What::Expect(text) => write!(f, "expect {}", one(text)),
            What::Line(text) => write!(f, "line {}", one(text)),
            What::Prompt(text) => write!(f, "prompt {}", one(text)),
            What::StderrLine(text) => write!(f, "stderr_line {}", one(text)),
            What::Any(texts) => write!(f, "any {}", all(texts)),
            What::Unordered(texts) => write!(f, "unordered {}", all(texts)),
            What::Optional(text) => write!(f, "optional {}", one(text)),
            What::Eof => f.write_str("eof"),
            What::Exit(status) => write!(f, "exit {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_can_be_sent_to_another_thread_and_shared() {
        fn is_shareable<T: Send + Sync + Clone>(_: &T) {}
        is_shareable(&Script::new().line("x"));
        is_shareable(&Script::new().mirror());
    }

    #[test]
    fn a_secret_is_not_in_the_name_of_its_step() {
        let script = Script::new().send_secret("hunter2").send_line("a\nb");
        let names: Vec<String> = script.steps.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["send_secret", "send_line \"a\\nb\""]);
    }
}
