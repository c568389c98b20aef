//! A command line as words: quotes and backslashes as a shell has them, and nothing else of a shell.

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// `KEY=value` before the program.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

/// Where it is wrong, as an index into the text, and how.
pub(crate) type Wrong = (usize, String);

/// What only a shell could do something with.
const SHELL: &str = "|&;<>`$";

pub(crate) fn command(text: &str) -> Result<Command, Wrong> {
    let mut words = split(text)?.into_iter().peekable();
    let mut env = Vec::new();
    while let Some(word) = words.next_if(|w| w.variable.is_some()) {
        let at = word.variable.unwrap_or_default();
        env.push((word.text[..at].to_owned(), word.text[at + 1..].to_owned()));
    }
    let Some(program) = words.next() else {
        return Err((text.len(), "expected a program".to_owned()));
    };
    Ok(Command { env, program: program.text, args: words.map(|w| w.text).collect() })
}

#[derive(Debug, Default)]
struct Word {
    text: String,
    /// Where the `=` is, if it could give a variable its value.
    variable: Option<usize>,
}

fn split(text: &str) -> Result<Vec<Word>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    // Quoted characters make no variable's name.
    let mut plain = true;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            plain = true;
            continue;
        }
        if SHELL.contains(c) {
            let why =
                format!("expected a program and its arguments, without a shell: quote `{c}`, or write `sh -c '...'`");
            return Err((at, why));
        }
        let word = word.get_or_insert_default();
        let unclosed = || (at, format!("expected a second `{c}` that closes this one"));
        match c {
            '\'' => {
                plain &= word.variable.is_some();
                loop {
                    match chars.next().ok_or_else(unclosed)?.1 {
                        '\'' => break,
                        c => word.text.push(c),
                    }
                }
            }
            '"' => {
                plain &= word.variable.is_some();
                loop {
                    match chars.next().ok_or_else(unclosed)?.1 {
                        '"' => break,
                        '\\' => match chars.next().ok_or_else(unclosed)?.1 {
                            c @ ('"' | '\\' | '$' | '`') => word.text.push(c),
                            c => word.text.extend(['\\', c]),
                        },
                        c => word.text.push(c),
                    }
                }
            }
            '\\' => {
                let (_, c) = chars.next().ok_or_else(|| (at, "expected a character after `\\`".to_owned()))?;
                plain &= word.variable.is_some();
                word.text.push(c);
            }
            '=' if plain && word.variable.is_none() && is_variable(&word.text) => {
                word.variable = Some(word.text.len());
                word.text.push('=');
            }
            c => word.text.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && crate::dialogue::template::is_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let all = |text: &str| {
            let Command { env, program, args } = command(text).unwrap();
            let env = env.into_iter().map(|(k, v)| format!("{k}={v}"));
            env.chain([format!("[{program}]")]).chain(args).collect::<Vec<_>>()
        };
        assert_eq!(all("a b  c "), ["[a]", "b", "c"]);
        assert_eq!(all("A=1 B='x y' tool C=2"), ["A=1", "B=x y", "[tool]", "C=2"]);
        assert_eq!(all("'A'=1 x"), ["[A=1]", "x"]);
        assert_eq!(all("1A=1"), ["[1A=1]"]);
        assert_eq!(all("sh -c 'a | b > \"c\"' \"\" ''"), ["[sh]", "-c", "a | b > \"c\"", "", ""]);
        assert_eq!(all(r#"x "a\"b\n\\" c\ d \' e"f"'g'"#), ["[x]", "a\"b\\n\\", "c d", "'", "efg"]);
        assert_eq!(all("x a=b=c {\"k\":1}"), ["[x]", "a=b=c", "{k:1}"]);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, at, why) in [
            ("", 0, "a program"),
            ("A=1", 3, "a program"),
            ("a 'b", 2, "second `'`"),
            ("a \"b\\\"", 2, "second `\"`"),
            ("a \\", 2, "after `\\`"),
            ("a | b", 2, "sh -c"),
            ("a $HOME", 2, "quote `$`"),
        ] {
            let (place, said) = command(text).unwrap_err();
            assert!(place == at && said.contains(why), "{text}: {place}: {said}");
        }
    }
}
