//! Playing a script on a fixture, step by step.

use std::panic::Location;

use super::{Played, Script, Step, What, get, set};
use crate::dialogue::channel::Input;
use crate::dialogue::conversation::Channel;
use crate::dialogue::expect::Wait;
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, Matcher};
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;
use crate::dialogue::verbs::optional::{Follower, Optional};
use crate::dialogue::verbs::several::{Any, Unordered};
use crate::dialogue::verbs::single::{Eof, NextLine, Place, Prompt};
use crate::error::{Error, ErrorKind, Result};
use crate::fixture::Fixture;
use crate::report::status;

impl Script {
    /// Plays it, and gives back what it has captured.
    ///
    /// # Errors
    ///
    /// Those of the steps' verbs; the message says which step it was, and the report begins with its line in the source.
    /// [`ErrorKind::Mismatch`] for another exit status.
    /// [`ErrorKind::InvalidInput`] for a step that makes no sense: a template that [`like`](crate::like()) refuses, something
    /// to send with a name that has no value, an [`optional`](Script::optional) line after which nothing is expected.
    #[track_caller]
    pub fn play(&self, fx: &Fixture) -> Result<Played> {
        let played_at = Location::caller();
        let mut values = self.values.clone();
        for (i, step) in self.steps.iter().enumerate() {
            let player = Player { fx, step, rest: &self.steps[i + 1..] };
            player.play(&mut values).map_err(|e| {
                let (number, count) = (i + 1, self.steps.len());
                let place = |at: &Location<'_>| format!("{}:{}:{}", at.file(), at.line(), at.column());
                let rows = format!(
                    "  {:<11}{number} of {count}, `{step}`, at {}\n  {:<11}{}\n",
                    "step",
                    place(step.at),
                    "played",
                    place(played_at)
                );
                e.within(&format!("failed to play step {number} of {count}"), &rows)
            })?;
        }
        Ok(Played { captures: values, secrets: fx.conversation.secrets.clone() })
    }
}

struct Player<'a> {
    fx: &'a Fixture,
    step: &'a Step,
    /// The steps after it.
    rest: &'a [Step],
}

/// With the values that its names have; a text without placeholders is one, so that an empty line can be expected.
fn matcher(template: &Template, values: &Captures) -> Matcher<'static> {
    let template = template.with(|name| get(values, name));
    match (template.problem(), template.as_text()) {
        (None, Some(text)) => Matcher::text(text),
        (Some(_), Some([])) => Matcher::text(b""),
        _ => template.into_matcher(),
    }
}

fn matchers(templates: &[Template], values: &Captures) -> Vec<Matcher<'static>> {
    templates.iter().map(|t| matcher(t, values)).collect()
}

impl Player<'_> {
    fn wait(&self, channel: Channel) -> Wait<'_> {
        Wait { conversation: &self.fx.conversation, channel, limit: self.fx.limit(), at: self.step.at }
    }

    fn play(&self, values: &mut Captures) -> Result {
        let out = self.wait(Channel::Stdout);
        let found: Vec<Match> = match &self.step.what {
            What::Send(text) => return self.send(text, b"", values),
            What::SendLine(text) => return self.send(text, b"\n", values),
            What::SendSecret(text) => {
                let secret = self.filled(text, values)?;
                self.fx.conversation.lock().transcript.secrets.add(&secret);
                return self.input().send_from(&[&secret[..], b"\n"].concat(), self.step.at);
            }
            What::SendEof => {
                self.fx.conversation.close_stdin();
                return Ok(());
            }
            What::Expect(text) => vec![out.run(Place::new(matcher(text, values)))?],
            What::Line(text) => vec![out.run(NextLine::new(matcher(text, values)))?],
            What::Prompt(text) => vec![out.run(Prompt(matcher(text, values)))?],
            What::StderrLine(text) => {
                vec![self.wait(Channel::Stderr).run(NextLine::new(matcher(text, values)))?]
            }
            What::Any(texts) => vec![out.run(Any::new(matchers(texts, values)))?.1],
            What::Unordered(texts) => out.run(Unordered::new(matchers(texts, values)))?,
            What::Optional(text) => {
                let optional = Optional { matcher: matcher(text, values), follower: self.follower(values)? };
                out.run(optional)?.into_iter().collect()
            }
            What::Eof => return out.run(Eof).map(drop),
            What::Exit(status) => return self.exit(*status),
        };
        for (name, value) in found.into_iter().flat_map(|m| m.captures) {
            set(values, name, value);
        }
        Ok(())
    }

    fn input(&self) -> Input {
        self.fx.input()
    }

    fn send(&self, text: &Template, ending: &[u8], values: &Captures) -> Result {
        let bytes = self.filled(text, values)?;
        self.input().send_from(&[&bytes, ending].concat(), self.step.at)
    }

    fn filled(&self, text: &Template, values: &Captures) -> Result<Vec<u8>> {
        let value_of = |name: Option<&str>| name.and_then(|name| get(values, name));
        text.filled(value_of).map_err(|name| self.refuse(&no_value(&name)))
    }

    fn refuse(&self, why: &str) -> Error {
        let state = self.fx.conversation.lock();
        self.fx.fail(&state, ErrorKind::InvalidInput, "talk", String::new(), self.step.at, why)
    }

    fn follower(&self, values: &Captures) -> Result<Follower<'static>> {
        let next = self.rest.iter().map(|s| &s.what).find(|w| !matches!(w, What::Optional(_) | What::StderrLine(_)));
        Ok(match next {
            Some(What::Line(_) | What::Eof | What::Exit(_)) => Follower::Line,
            Some(What::Expect(text)) => Follower::Places(vec![matcher(text, values)]),
            Some(What::Any(texts) | What::Unordered(texts)) => Follower::Places(matchers(texts, values)),
            Some(What::Prompt(text)) => Follower::Prompt(matcher(text, values)),
            _ => {
                let why = "nothing is expected on stdout after it, so nothing decides whether an optional line comes";
                return Err(self.refuse(why));
            }
        })
    }

    fn exit(&self, wanted: i32) -> Result {
        let got = self.fx.usual().expect_exit_at(self.step.at)?;
        if got.code() == Some(wanted) {
            return Ok(());
        }
        let mut state = self.fx.conversation.lock();
        state.reported = true;
        let (object, why) = (format!("exit with status {wanted}"), format!("the helper {}", status(got)));
        Err(self.fx.fail(&state, ErrorKind::Mismatch, "expect", object, self.step.at, &why))
    }
}

pub(super) fn no_value(name: &str) -> String {
    match name {
        "[..]" => "`[..]` stands for anything, so it cannot be sent; `[[..]]` is the text".to_owned(),
        name => format!("`{name}` has no value yet, and `{{{name}}}` would be the text"),
    }
}
