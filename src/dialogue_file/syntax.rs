//! The grammar of dialogue files: each line means something by itself, and its first characters say what.
//!
//! Every line is kept as it was written, so that a file that is rewritten in one place stays the same in all others.

use std::fmt;

use super::words::{self, Command};
use crate::dialogue::template::Template;

/// A file, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// As it was written, without its ending.
    pub(crate) text: String,
    /// `\n`, `\r\n`, or nothing at the end of the file.
    pub(crate) ending: &'static str,
    pub(crate) entry: Entry,
}

impl PartialEq for Line {
    fn eq(&self, other: &Line) -> bool {
        (&self.text, self.ending) == (&other.text, other.ending)
    }
}

impl Eq for Line {}

/// What a line means.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// An empty line, or a comment.
    Nothing,
    Command(Command),
    /// We send this, with this ending.
    Send(Template, &'static str),
    /// The end of its input.
    SendEof,
    Out(Want),
    Err(Want),
    Status(Status),
}

/// What has to come on a stream.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    Line(Template),
    /// A line, or its beginning, without its ending.
    Tail(Template),
    /// Any number of lines.
    Rest,
}

/// How it has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Code(i32),
    Signal(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Code(code) => write!(f, "{code}"),
            Status::Signal(name) => f.write_str(name),
        }
    }
}

/// Where a file does not keep to the grammar: line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// What was expected, or why it makes no sense.
    pub(crate) why: String,
    /// The line itself.
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Source, SyntaxError> {
        let mut source = Source { lines: Vec::new() };
        let mut context = Context::default();
        for (i, raw) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            let (raw, ending) = match raw {
                [text @ .., b'\r', b'\n'] => (text, "\r\n"),
                [text @ .., b'\n'] => (text, "\n"),
                text => (text, ""),
            };
            let wrong = |at: usize, why: String| {
                let text = String::from_utf8_lossy(raw).into_owned();
                let column = String::from_utf8_lossy(&raw[..at.min(raw.len())]).chars().count() + 1;
                SyntaxError { line: i + 1, column, why, text }
            };
            let text = std::str::from_utf8(raw).map_err(|e| {
                let why = "expected UTF-8; other bytes are written as `\\x` and two hexadecimal digits";
                wrong(e.valid_up_to(), why.to_owned())
            })?;
            let entry = entry(text).and_then(|entry| context.check(&entry).map(|()| entry));
            let entry = entry.map_err(|(at, why)| wrong(at, why))?;
            source.lines.push(Line { text: text.to_owned(), ending, entry });
        }
        Ok(source)
    }

    /// Where each dialogue begins, and where the next one does.
    pub(crate) fn blocks(&self) -> Vec<std::ops::Range<usize>> {
        let begins = self.lines.iter().enumerate().filter(|(_, l)| matches!(l.entry, Entry::Command(_)));
        let begins: Vec<usize> = begins.map(|(i, _)| i).collect();
        let ends = begins.iter().skip(1).copied().chain([self.lines.len()]);
        begins.iter().copied().zip(ends).map(|(begin, end)| begin..end).collect()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| write!(f, "{}{}", line.text, line.ending))
    }
}

/// What the lines before this one allow.
#[derive(Debug, Default)]
struct Context {
    begun: bool,
    /// The status was said.
    over: bool,
    input_ended: bool,
    /// Since the last prompt on stdout and stderr nothing was sent.
    prompted: [bool; 2],
    /// What has a value.
    names: Vec<String>,
}

impl Context {
    fn check(&mut self, entry: &Entry) -> Result<(), words::Wrong> {
        let said = |why: &str| Err((0, why.to_owned()));
        match entry {
            Entry::Nothing => return Ok(()),
            Entry::Command(_) => {
                *self = Context { begun: true, names: std::mem::take(&mut self.names), ..Context::default() };
                return Ok(());
            }
            _ if !self.begun => return said("expected `$` and a command before anything else"),
            _ if self.over => return said("expected `$` or the end of the file after the exit status"),
            Entry::Send(..) | Entry::SendEof if self.input_ended => {
                return said("expected nothing to be sent after the end of the input (`^D`)");
            }
            Entry::Send(text, _) => {
                self.prompted = [false; 2];
                if let Some(name) = text.names().find(|name| !self.names.iter().any(|n| n == name)) {
                    let why = format!("expected a name that a line before has captured; `{{{{{name}}}}}` is the text");
                    return Err((2, why));
                }
                if let Err(why) = text.filled(|name| name.map(str::to_owned)) {
                    return Err((
                        2,
                        format!("expected text to send, and `{why}` stands for anything; `[[..]]` is the text"),
                    ));
                }
            }
            Entry::SendEof => {
                self.prompted = [false; 2];
                self.input_ended = true;
            }
            Entry::Out(want) | Entry::Err(want) => {
                let prompted = &mut self.prompted[usize::from(matches!(entry, Entry::Err(_)))];
                if *prompted {
                    return said("expected `>` after a prompt: what is followed by more is none");
                }
                *prompted = matches!(want, Want::Tail(_));
                if let Want::Line(text) | Want::Tail(text) = want {
                    self.names.extend(text.names().map(str::to_owned));
                }
            }
            Entry::Status(_) => self.over = true,
        }
        Ok(())
    }
}

/// What stands at the beginning of a line; the longer ones first.
const MARKERS: &str = "`$`, `>`, `>~`, `^D`, `<`, `<~`, `!`, `!~`, `...`, `!...`, `?`, `#` or an empty line";

fn entry(line: &str) -> Result<Entry, words::Wrong> {
    let whole = line.trim_end();
    match whole {
        "" => return Ok(Entry::Nothing),
        "..." => return Ok(Entry::Out(Want::Rest)),
        "!..." => return Ok(Entry::Err(Want::Rest)),
        "^D" => return Ok(Entry::SendEof),
        _ if line.starts_with('#') => return Ok(Entry::Nothing),
        _ => {}
    }
    let length = match line.as_bytes() {
        [b'>' | b'<' | b'!', b'~', ..] => 2,
        [b'$' | b'>' | b'<' | b'!' | b'?', ..] => 1,
        _ => return Err((0, format!("expected {MARKERS}"))),
    };
    let (marker, rest) = line.split_at(length);
    let text = match rest.strip_prefix(' ') {
        Some(text) => text,
        None if rest.is_empty() => "",
        None => return Err((length, format!("expected a space after `{marker}`"))),
    };
    let begin = length + 1;
    let within = |(at, why): words::Wrong| (begin.min(line.len()) + at, why);
    let template = || {
        let template = Template::with_bytes(text);
        match template.problem() {
            Some(why) if !text.is_empty() => Err((begin, why.to_owned())),
            _ => Ok(template),
        }
    };
    let prompt = || match text {
        "" => Err((line.len(), "expected the text of a prompt".to_owned())),
        _ => Ok(Want::Tail(template()?)),
    };
    Ok(match marker {
        "$" => Entry::Command(words::command(text).map_err(within)?),
        // What is sent may have placeholders that touch each other, or one twice.
        ">" => Entry::Send(Template::with_bytes(text), "\n"),
        ">~" => Entry::Send(Template::with_bytes(text), ""),
        "<" => Entry::Out(Want::Line(template()?)),
        "<~" => Entry::Out(prompt()?),
        "!" => Entry::Err(Want::Line(template()?)),
        "!~" => Entry::Err(prompt()?),
        _ => Entry::Status(status(text.trim_end()).map_err(within)?),
    })
}

fn status(text: &str) -> Result<Status, words::Wrong> {
    let is_signal = |text: &str| {
        text.strip_prefix("SIG")
            .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
    };
    match text.parse() {
        Ok(code @ 0..=255) => Ok(Status::Code(code)),
        _ if is_signal(text) => Ok(Status::Signal(text.to_owned())),
        _ => Err((0, "expected an exit status from 0 to 255, or the name of a signal such as SIGTERM".to_owned())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn wrong(text: &[u8]) -> (usize, usize, String) {
        let error = Source::parse(text).unwrap_err();
        (error.line, error.column, error.why)
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        for (text, line, column, why) in [
            ("< x\n", 1, 1, "expected `$` and a command"),
            ("\n# c\n$ x\n y\n", 4, 1, "expected `$`, `>`"),
            ("$ x\n<y\n", 2, 2, "a space after `<`"),
            ("$ x\n<~\n", 2, 3, "the text of a prompt"),
            ("$ x\n<~y\n", 2, 3, "a space after `<~`"),
            ("$x\n", 1, 2, "a space after `$`"),
            ("$\n", 1, 2, "expected a program"),
            ("$ x 'y\n", 1, 5, "a second `'`"),
            ("$ x \u{fc} | y\n", 1, 7, "without a shell"),
            ("$ x\n? y\n", 2, 3, "an exit status"),
            ("$ x\n? 256\n", 2, 3, "an exit status"),
            ("$ x\n? SIGterm\n", 2, 3, "an exit status"),
            ("$ x\n? 0\n\n# c\n< x\n", 5, 1, "after the exit status"),
            ("$ x\n< {a}{b}\n", 2, 3, "touch"),
            ("$ x\n! {a} {a}\n", 2, 3, "twice"),
            ("$ x\n> {a}\n< {a}\n", 2, 3, "a name that a line before has captured"),
            ("$ x\n> [..]\n", 2, 3, "text to send"),
            ("$ x\n^D\n> a\n", 3, 1, "nothing to be sent"),
            ("$ x\n<~ a\n< b\n", 3, 1, "after a prompt"),
            ("$ x\n< a\\x0ab\n", 2, 3, "line ending"),
            ("$ x\n....\n", 2, 1, "expected `$`, `>`"),
        ] {
            let (at_line, at_column, said) = wrong(text.as_bytes());
            assert_eq!((at_line, at_column), (line, column), "{text:?}: {said}");
            assert!(said.contains(why), "{text:?}: {said}");
        }
        let (line, column, said) = wrong(b"$ x\n< a\xc3\xbc\xff\n");
        assert!((line, column) == (2, 5) && said.contains("UTF-8"), "{line}:{column}: {said}");
    }

    #[test]
    fn what_follows_the_marker_is_text_as_it_stands() {
        let source = Source::parse(b"$ x\n<   a \n<\n!  \n> \n<~ ? \n? 3").unwrap();
        let texts: Vec<String> = source
            .lines
            .iter()
            .map(|line| match &line.entry {
                Entry::Out(Want::Line(t)) => format!("line {:?}", t.source),
                Entry::Out(Want::Tail(t)) => format!("tail {:?}", t.source),
                Entry::Err(Want::Line(t)) => format!("err {:?}", t.source),
                Entry::Send(t, ending) => format!("send {:?} {ending:?}", t.source),
                Entry::Status(status) => format!("status {status}"),
                _ => String::new(),
            })
            .collect();
        let expected = ["", "line \"  a \"", "line \"\"", "err \" \"", "send \"\" \"\\n\"", "tail \"? \"", "status 3"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_prompt_on_one_stream_says_nothing_about_the_other() {
        Source::parse(b"$ x\n<~ a\n!~ b\n> c\n< d\n").unwrap();
        Source::parse(b"$ x\n<~ a\n^D\n< d\n").unwrap();
    }

    /// A generator without a library: everything follows from one number.
    pub(in super::super) struct Random(pub(in super::super) u64);

    impl Random {
        pub(in super::super) fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n as u64) as usize
        }
    }

    /// Whatever is a file comes back byte by byte, and whatever is none is refused without a panic, at a place in it.
    #[test]
    fn parsing_and_printing_again_changes_nothing() {
        const PIECES: [&[u8]; 26] = [
            b"$ x\n",
            b"$ x\n",
            b"< ",
            b"<~ ",
            b"> ",
            b">~ ",
            b"! ",
            b"!~ ",
            b"? ",
            b"0",
            b"SIGTERM",
            b"...",
            b"!...",
            b"^D",
            b"# ",
            b"text",
            b" ",
            b"{a}",
            b"[..]",
            b"\\x41",
            b"\r\n",
            b"\n",
            b"\n",
            b"\xff",
            b"'",
            "\u{fc}".as_bytes(),
        ];
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..200_000 {
            let length = random.below(12);
            let pieces = (0..length).map(|_| PIECES[random.below(PIECES.len())]);
            let text = pieces.collect::<Vec<_>>().concat();
            match Source::parse(&text) {
                Ok(source) => {
                    good += 1;
                    assert_eq!(source.to_string().as_bytes(), text);
                    assert_eq!(Source::parse(source.to_string().as_bytes()).unwrap(), source);
                }
                Err(e) => {
                    bad += 1;
                    let raw: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
                    let length = String::from_utf8_lossy(raw[e.line - 1]).chars().count();
                    assert!((1..=length + 1).contains(&e.column), "{e:?} in {:?}", text.escape_ascii().to_string());
                }
            }
        }
        assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad: the check would prove little");
    }
}
