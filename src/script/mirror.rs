//! The other side of a script: what a program would have to say and to hear.

use super::play::no_value;
use super::{Script, Step, What, get, set};
use crate::dialogue::conversation::Channel;
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;

/// The other side of a [`Script`], for [`Fixture::fake`](crate::Fixture::fake): it says what the script expects, and expects
/// what the script sends.
///
/// For a placeholder without a value it says the placeholder's name, or what [`with`](Mirror::with) gives it, and `...` for
/// `[..]`.
/// Of several texts that may come in any order, the last comes first.
/// After [`exit`](Script::exit) it ends with that status; without it, when its input ends.
/// When it is sent something else, it complains on standard error and ends with status 101.
#[derive(Debug, Clone)]
#[must_use = "`Fixture::fake` plays it"]
pub struct Mirror {
    script: Script,
    values: Captures,
    without_optional: bool,
    alternative: usize,
}

/// One thing that a fake does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Print(Channel, Vec<u8>),
    /// It has to be sent exactly this; in whose words a complaint speaks of it.
    Read {
        bytes: Vec<u8>,
        step: String,
        secret: bool,
    },
    ReadEof {
        step: String,
    },
    CloseStdout,
    Exit(i32),
}

impl Mirror {
    pub(super) fn new(script: Script) -> Mirror {
        Mirror { script, values: Captures::new(), without_optional: false, alternative: 0 }
    }

    /// What it says for this placeholder.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Mirror {
        set(&mut self.values, name.into(), value.to_string());
        self
    }

    /// It leaves out what is [optional](Script::optional).
    pub fn without_optional(mut self) -> Mirror {
        self.without_optional = true;
        self
    }

    /// Of [several possible answers](Script::any) it gives the one with this number, of which the first is 0.
    pub fn alternative(mut self, number: usize) -> Mirror {
        self.alternative = number;
        self
    }

    /// What a fake has to do.
    ///
    /// # Errors
    ///
    /// Why it cannot be played.
    pub(super) fn acts(&self) -> Result<Vec<Act>, String> {
        let mut values = self.script.values.clone();
        let mut acts = Vec::new();
        for (i, step) in self.script.steps.iter().enumerate() {
            let rest = &self.script.steps[i + 1..];
            self.act(i + 1, step, rest, &mut values, &mut acts)
                .map_err(|why| format!("{}: {why}", named(i + 1, step)))?;
        }
        Ok(acts)
    }

    /// As many steps as the script has.
    pub(crate) fn len(&self) -> usize {
        self.script.steps.len()
    }

    fn act(
        &self,
        number: usize,
        step: &Step,
        rest: &[Step],
        values: &mut Captures,
        acts: &mut Vec<Act>,
    ) -> Result<(), String> {
        let hear = |text: &Template, ending: &str, secret: bool, values: &Captures| {
            let mut bytes = text.filled(|name| get(values, name?)).map_err(|name| no_value(&name))?;
            bytes.extend_from_slice(ending.as_bytes());
            Ok::<_, String>(Act::Read { bytes, step: named(number, step), secret })
        };
        let mut say = |channel: Channel, text: &Template, ending: &str, acts: &mut Vec<Act>| {
            if let Some(why) = text.problem().filter(|_| text.as_text() != Some(b"")) {
                return Err(why.to_owned());
            }
            let mut bytes = self.said(text, values);
            bytes.extend_from_slice(ending.as_bytes());
            acts.push(Act::Print(channel, bytes));
            Ok(())
        };
        match &step.what {
            What::Send(text) => acts.push(hear(text, "", false, values)?),
            What::SendLine(text) => acts.push(hear(text, "\n", false, values)?),
            What::SendSecret(text) => acts.push(hear(text, "\n", true, values)?),
            What::SendEof => acts.push(Act::ReadEof { step: named(number, step) }),
            What::Expect(text) | What::Line(text) => say(Channel::Stdout, text, "\n", acts)?,
            What::StderrLine(text) => say(Channel::Stderr, text, "\n", acts)?,
            What::Prompt(text) => {
                let speaks = |w: &&What| !matches!(w, What::StderrLine(_));
                let next = rest.iter().map(|s| &s.what).find(speaks);
                let waits = matches!(
                    next,
                    None | Some(
                        What::Send(_)
                            | What::SendLine(_)
                            | What::SendSecret(_)
                            | What::SendEof
                            | What::Eof
                            | What::Exit(_)
                    )
                );
                if !waits {
                    return Err(
                        "a prompt is followed by more, and then it is none: something has to be sent first".into()
                    );
                }
                say(Channel::Stdout, text, "", acts)?;
            }
            What::Any(texts) => {
                let text = texts.get(self.alternative).or(texts.first()).ok_or("there is nothing to say")?;
                say(Channel::Stdout, text, "\n", acts)?;
            }
            What::Unordered(texts) => {
                for text in texts.iter().rev() {
                    say(Channel::Stdout, text, "\n", acts)?;
                }
            }
            What::Optional(_) if self.without_optional => {}
            What::Optional(text) => say(Channel::Stdout, text, "\n", acts)?,
            What::Eof => acts.push(Act::CloseStdout),
            What::Exit(status) => acts.push(Act::Exit(*status)),
        }
        Ok(())
    }

    /// The text with a value for each placeholder, which is its value from now on.
    fn said(&self, text: &Template, values: &mut Captures) -> Vec<u8> {
        for name in text.names() {
            if get(values, name).is_none() {
                let value = get(&self.values, name).unwrap_or_else(|| name.to_owned());
                set(values, name.to_owned(), value);
            }
        }
        let value_of = |name: Option<&str>| Some(name.map_or("...".to_owned(), |n| get(values, n).unwrap_or_default()));
        text.filled(value_of).unwrap_or_default()
    }
}

/// As a complaint speaks of it.
fn named(number: usize, step: &Step) -> String {
    format!("step {number}, `{step}`, at {}:{}", step.at.file(), step.at.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(mirror: &Mirror) -> String {
        let acts = mirror.acts().unwrap();
        let said = acts.iter().filter_map(|act| match act {
            Act::Print(_, bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        });
        said.collect()
    }

    #[test]
    fn it_says_what_is_expected_and_one_value_for_a_name() {
        let script = Script::new().with("a", 1).line("{a} {b} [..]").send_line("{b}").unordered(["x", "y"]).line("{b}");
        assert_eq!(printed(&script.mirror()), "1 b ...\ny\nx\nb\n");
        let mirror = script.mirror().with("b", 2);
        assert_eq!(printed(&mirror), "1 2 ...\ny\nx\n2\n");
        let heard = mirror.acts().unwrap().into_iter().find_map(|act| match act {
            Act::Read { bytes, .. } => Some(bytes),
            _ => None,
        });
        assert_eq!(heard.unwrap(), b"2\n");
    }

    #[test]
    fn what_is_optional_or_one_of_several_can_be_chosen() {
        let script = Script::new().optional("maybe").any(["a", "b"]);
        assert_eq!(printed(&script.mirror()), "maybe\na\n");
        assert_eq!(printed(&script.mirror().without_optional().alternative(1)), "b\n");
    }

    #[test]
    fn what_cannot_be_played_says_which_step() {
        for (script, why) in [
            (Script::new().line("x").send_line("{never}"), "step 2, `send_line \"{never}\"`"),
            (Script::new().send_line("[..]"), "`[..]` stands for anything"),
            (Script::new().prompt("a ").prompt("b "), "step 1, `prompt \"a \"`"),
            (Script::new().line("{a}{b}"), "two placeholders touch"),
            (Script::new().any(Vec::<&str>::new()), "nothing to say"),
        ] {
            let said = script.mirror().acts().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
