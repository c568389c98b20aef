//! A conversation written into a file of its own, as it happens: what `FOSTER_LOG` asks for.
//!
//! Every word is handed to the kernel at once, so that nothing is lost when the test process is killed.
//! Only what may become a secret, or a character, is held back until that is known.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Direction;
use super::entry::Line;
use super::secrets::{Redactor, Secrets};
use super::visible::{Shortened, Visible};

/// How large a file may become. Then it is kept under another name, in the place of the one before.
const LARGEST: u64 = 16 << 20;

/// How much of what came at once is written.
const AT_ONCE: usize = 64 << 10;

/// One file. It is made when the first word is said.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// The first line.
    heading: String,
    secrets: Secrets,
    file: Option<File>,
    written: u64,
    /// Who is told that it does not work. Then nothing more is written.
    complain: Option<fn(&str)>,
    /// What is held back of what was sent, and of the two streams.
    held: [Held; 3],
    /// Whose line is unfinished at the end of the file.
    open: Option<Direction>,
    /// When something was said last.
    last: Duration,
}

#[derive(Debug, Default)]
struct Held {
    redactor: Redactor,
    /// The beginning of a character.
    character: Vec<u8>,
}

impl Log {
    pub(crate) fn new(path: PathBuf, heading: String, secrets: Secrets, complain: fn(&str)) -> Log {
        Log {
            path,
            heading,
            secrets,
            file: None,
            written: 0,
            complain: Some(complain),
            held: Default::default(),
            open: None,
            last: Duration::ZERO,
        }
    }

    /// Where it is; `None` while nothing has been written.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| &*self.path)
    }

    /// Somebody has said this.
    pub(super) fn bytes(
        &mut self,
        at: Duration,
        direction: Direction,
        bytes: &[u8],
        from: Option<&'static Location<'static>>,
    ) {
        let Some(held) = self.held.get_mut(direction as usize) else { return };
        self.last = at;
        let shown = held.redactor.feed(&self.secrets, bytes);
        let text = if held.character.is_empty() { shown } else { [&held.character[..], &shown].concat().into() };
        let whole = text.len() - unfinished_character(&text);
        held.character = text[whole..].to_vec();
        let mut out = Vec::new();
        self.print(&mut out, at, direction, &text[..whole], from);
        self.write(&out);
    }

    /// One whole line.
    pub(super) fn line(
        &mut self,
        at: Duration,
        direction: Direction,
        text: &[u8],
        from: Option<&'static Location<'static>>,
    ) {
        let mut out = Vec::new();
        self.interrupt(&mut out);
        begin(&mut out, at, direction, text);
        end(&mut out, from);
        self.write(&out);
    }

    fn print(
        &mut self,
        out: &mut Vec<u8>,
        at: Duration,
        direction: Direction,
        text: &[u8],
        from: Option<&'static Location<'static>>,
    ) {
        if text.len() > AT_ONCE {
            let (first, rest) = text.split_at(AT_ONCE / 2);
            let (left_out, last) = rest.split_at(rest.len() - AT_ONCE / 2);
            self.lines(out, at, direction, first, None);
            self.interrupt(out);
            out.extend_from_slice(format!("          ... {} bytes left out ...\n", left_out.len()).as_bytes());
            self.lines(out, at, direction, last, from);
        } else {
            self.lines(out, at, direction, text, from);
        }
    }

    fn lines(
        &mut self,
        out: &mut Vec<u8>,
        at: Duration,
        direction: Direction,
        text: &[u8],
        from: Option<&'static Location<'static>>,
    ) {
        let mut lines = text.split_inclusive(|b| *b == b'\n').peekable();
        while let Some(line) = lines.next() {
            let (text, ended) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
            if self.open == Some(direction) {
                out.extend_from_slice(Visible(text).to_string().as_bytes());
            } else {
                self.interrupt(out);
                begin(out, at, direction, text);
            }
            // What the test sends is whole, whether there is a line ending or not.
            if direction == Direction::In && !ended {
                out.extend_from_slice(b" (no newline)");
            }
            if ended || direction == Direction::In {
                self.open = None;
                end(out, from.filter(|_| lines.peek().is_none()));
            } else {
                self.open = Some(direction);
            }
        }
    }

    /// Somebody else begins to speak.
    fn interrupt(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            out.extend_from_slice(b" (no newline)\n");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(complain) = self.complain.filter(|_| !bytes.is_empty()) else { return };
        if let Err(e) = self.try_write(bytes) {
            complain(&format!("FOSTER_LOG: cannot write `{}`: {e}", self.path.display()));
            self.complain = None;
            self.file = None;
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > LARGEST {
            self.file = None;
            self.written = 0;
            fs::rename(&self.path, self.path.with_extension("old.log"))?;
        }
        if self.file.is_none() {
            if let Some(dir) = self.path.parent() {
                fs::create_dir_all(dir)?;
            }
            let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            file.write_all(self.heading.as_bytes())?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Log {
    /// What was held back is written: nothing more comes.
    fn drop(&mut self) {
        let mut out = Vec::new();
        for direction in [Direction::In, Direction::Out, Direction::Err] {
            let held = &mut self.held[direction as usize];
            let rest = held.redactor.finish(&self.secrets);
            let text = [std::mem::take(&mut held.character), rest].concat();
            if self.open != Some(direction) && !text.is_empty() {
                self.interrupt(&mut out);
                begin(&mut out, self.last, direction, &[]);
                self.open = Some(direction);
            }
            out.extend_from_slice(Visible(&text).to_string().as_bytes());
        }
        self.interrupt(&mut out);
        self.write(&out);
    }
}

fn begin(out: &mut Vec<u8>, at: Duration, direction: Direction, text: &[u8]) {
    // The whole line is written: the file is there for what a transcript does not keep.
    let line = Line { text: Shortened(&[]), direction, ended: true };
    out.extend_from_slice(format!("{:>8.3}s {line}{}", at.as_secs_f64(), Visible(text)).as_bytes());
}

fn end(out: &mut Vec<u8>, from: Option<&'static Location<'static>>) {
    if let Some(from) = from {
        out.extend_from_slice(format!("    <- {}:{}", from.file(), from.line()).as_bytes());
    }
    out.push(b'\n');
}

/// How many bytes at the end are the beginning of a character whose rest may still come.
fn unfinished_character(bytes: &[u8]) -> usize {
    let length = |lead: u8| match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    (1..=bytes.len().min(3)).find(|n| length(bytes[bytes.len() - n]) > *n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complain(why: &str) {
        panic!("{why}");
    }

    /// What is in the file after these words, one by one, and after the end.
    fn logged(secrets: &[&str], words: &[(Direction, &str)]) -> (Vec<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.log");
        let all = Secrets::default();
        secrets.iter().for_each(|s| all.add(s.as_bytes()));
        let mut log = Log::new(path.clone(), "heading\n".to_owned(), all, complain);
        assert!(!path.exists(), "nothing has been said");
        let mut states = Vec::new();
        for (direction, text) in words {
            log.bytes(Duration::from_millis(5), *direction, text.as_bytes(), None);
            states.push(fs::read_to_string(&path).unwrap_or_default());
        }
        drop(log);
        (states, fs::read_to_string(&path).unwrap_or_default())
    }

    #[test]
    fn a_line_in_pieces_is_one_line_and_one_that_is_interrupted_says_so() {
        use Direction::{Err, In, Out};
        let words = [(Out, "na"), (Out, "me? "), (Err, "careful\n"), (In, "Bob\n"), (Out, "hello"), (Out, " Bob\nx")];
        let (_, text) = logged(&[], &words);
        let wanted = "heading
   0.005s out | name?  (no newline)
   0.005s err | careful
   0.005s in  | Bob
   0.005s out | hello Bob
   0.005s out | x (no newline)
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn every_word_is_in_the_file_before_the_next_one_comes() {
        use Direction::Out;
        let (states, _) =
            logged(&["hunter2"], &[(Out, "pw: hun"), (Out, "t"), (Out, "er2\n"), (Out, "hum"), (Out, "hu")]);
        let seen: Vec<&str> = states.iter().map(|s| s.strip_prefix("heading\n   0.005s out | ").unwrap()).collect();
        let line = "pw: [secret]\n   0.005s out | hum";
        assert_eq!(seen, ["pw: ", "pw: ", "pw: [secret]\n", line, line]);
    }

    #[test]
    fn a_secret_in_pieces_with_something_in_between_is_hidden() {
        use Direction::{Err, Out};
        let words =
            [(Out, "pw hun"), (Err, "warn\n"), (Out, "ter"), (Err, "hunter2\n"), (Out, "2 ok\n"), (Out, "hunte")];
        let (states, text) = logged(&["hunter2", "hunter2 ok!"], &words);
        for state in states.iter().chain([&text]) {
            assert!(!state.contains("hun") && !state.contains("ter"), "{state}");
        }
        assert_eq!(text.matches("[secret]").count(), 3, "{text}");
        assert!(text.contains(" ok\n") && text.contains("err | warn\n"), "{text}");
    }

    #[test]
    fn a_character_in_pieces_is_one_character() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::new(path.clone(), String::new(), Secrets::default(), complain);
        for byte in "gr\u{fc}n \u{2192} \u{1f980}\n".as_bytes() {
            log.bytes(Duration::ZERO, Direction::Out, &[*byte], None);
        }
        log.bytes(Duration::ZERO, Direction::Out, b"\xff\xe2\x86", None);
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "   0.000s out | gr\u{fc}n \u{2192} \u{1f980}\n   0.000s out | \\xff\\xe2\\x86 (no newline)\n"
        );
    }

    #[test]
    fn a_flood_is_bounded_and_its_end_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::new(path.clone(), "heading\n".to_owned(), Secrets::default(), complain);
        let chunk = "x".repeat(1023) + "\n";
        let flood = chunk.repeat(256);
        for _ in 0..600 {
            log.bytes(Duration::ZERO, Direction::Out, flood.as_bytes(), None);
        }
        log.bytes(Duration::ZERO, Direction::Out, b"the end\n", None);
        drop(log);
        let sizes: Vec<u64> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2, "the file and the one before it");
        assert!(sizes.iter().all(|size| *size < LARGEST + 2 * AT_ONCE as u64), "{sizes:?}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("heading\n") && text.ends_with("out | the end\n"));
        assert!(text.contains(&format!("... {} bytes left out ...", flood.len() - AT_ONCE)));
    }

    #[test]
    fn what_cannot_be_written_is_said_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COMPLAINTS: AtomicUsize = AtomicUsize::new(0);
        fn count(why: &str) {
            assert!(why.starts_with("FOSTER_LOG: cannot write `"), "{why}");
            COMPLAINTS.fetch_add(1, Ordering::Relaxed);
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let mut log = Log::new(file.join("x.log"), String::new(), Secrets::default(), count);
        for _ in 0..3 {
            log.bytes(Duration::ZERO, Direction::Out, b"x\n", None);
        }
        drop(log);
        assert_eq!(COMPLAINTS.load(Ordering::Relaxed), 1);
    }
}
