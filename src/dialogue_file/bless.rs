//! Writing what the program says now into a dialogue file: only what differs, and all of it at once.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::align::{Pairs, Step, anew, steps};
use super::check::{Block, remember, resolved, written};
use super::replay::{Printed, Turn};
use super::syntax::{Entry, Source, Status, Want};
use crate::dialogue::conversation::Channel;
use crate::dialogue::search::Captures;
use crate::dialogue::verbs::piece::fits;
use crate::error::Result;

const CHANNELS: [Channel; 2] = [Channel::Stdout, Channel::Stderr];

/// What is to be changed in a file.
#[derive(Debug, Default)]
struct Edits {
    dropped: Vec<usize>,
    /// After which line, in the order in which they are to stand there.
    written: Vec<(usize, String)>,
}

/// One stream in one turn.
struct Stream<'a> {
    block: &'a Block<'a>,
    lines: &'a [usize],
    printed: &'a [Printed],
    values: &'a Captures,
    /// Nothing is sent after it.
    last: bool,
}

fn says(want: &Want, printed: &Printed, values: &Captures) -> Option<Captures> {
    match want {
        Want::Line(template) if printed.ended => fits(&resolved(template, values), &printed.text),
        Want::Tail(template) if !printed.ended => fits(&resolved(template, values), &printed.text),
        _ => None,
    }
}

impl Stream<'_> {
    fn want(&self, line: usize) -> &Want {
        self.block.want(self.lines[line]).unwrap_or(&Want::Rest)
    }

    /// Nothing comes after a prompt: a line for any number of lines that would stand there goes.
    fn end_with_prompt(&self, steps: &mut [Step]) {
        let mut prompted = false;
        for step in steps {
            match step {
                Step::Keep(line) if prompted => *step = Step::Drop(*line),
                Step::Keep(line) => prompted = matches!(self.want(*line), Want::Tail(_)),
                Step::Write(piece) => prompted = !self.printed[*piece].ended,
                Step::Drop(_) | Step::Cover(_) => {}
            }
        }
    }

    /// Do these steps make lines that are played as they were printed? What they capture, if so.
    fn play(&self, steps: &[Step]) -> Option<Captures> {
        let mut values = self.values.clone();
        let mut skip = false;
        let mut next = 0;
        for step in steps {
            let (want, literal) = match step {
                Step::Drop(_) | Step::Cover(_) => continue,
                Step::Keep(line) => (Some(self.want(*line)), None),
                Step::Write(piece) => (None, Some(&self.printed[*piece])),
            };
            if matches!(want, Some(Want::Rest)) {
                skip = true;
                continue;
            }
            loop {
                let printed = self.printed.get(next)?;
                next += 1;
                let captured = match (want, literal) {
                    (Some(want), _) => says(want, printed, &values),
                    (None, literal) => (literal == Some(printed)).then(Captures::new),
                };
                if let Some(captures) = captured {
                    remember(&mut values, captures);
                    break;
                }
                if !skip || !printed.ended {
                    return None;
                }
            }
            skip = false;
        }
        let covered = |piece: usize| skip && self.can_be_covered(piece);
        (next..self.printed.len()).all(covered).then_some(values)
    }
}

impl Pairs for Stream<'_> {
    fn counts(&self) -> (usize, usize) {
        (self.lines.len(), self.printed.len())
    }
    fn is_rest(&self, line: usize) -> bool {
        matches!(self.want(line), Want::Rest)
    }
    fn fits(&self, line: usize, piece: usize) -> bool {
        says(self.want(line), &self.printed[piece], self.values).is_some()
    }
    /// A prompt that nobody takes is the beginning of the line that follows what is sent next.
    fn can_be_covered(&self, piece: usize) -> bool {
        self.last || self.printed[piece].ended
    }
}

impl Edits {
    fn add_turn(&mut self, block: &Block<'_>, turn: &Turn, values: &mut Captures) {
        for channel in CHANNELS {
            let (lines, printed) = (&turn.wants[channel as usize], &turn.printed[channel as usize]);
            let stream = Stream { block, lines, printed, values, last: turn.last };
            let mut all = steps(&stream);
            stream.end_with_prompt(&mut all);
            // What is kept must mean the same when it is played, from the first line to the last.
            let captured = stream.play(&all).unwrap_or_else(|| {
                all = anew(lines.len(), printed.len());
                stream.values.clone()
            });
            // New lines stand in the place of the first that goes, or after the last that stays.
            let mut place = turn.head;
            let mut dropping = false;
            for step in all {
                match step {
                    Step::Keep(line) => (place, dropping) = (lines[line], false),
                    Step::Drop(line) => {
                        self.dropped.push(lines[line]);
                        if !dropping {
                            place = lines[line];
                            dropping = true;
                        }
                    }
                    Step::Write(piece) => {
                        let Printed { text, ended } = &printed[piece];
                        self.written.push((place, written(channel, text, *ended)));
                    }
                    Step::Cover(_) => {}
                }
            }
            *values = captured;
        }
    }

    fn add_status(&mut self, block: &Block<'_>, ended: &Status) {
        let said = block.entries().find_map(|(i, entry)| match entry {
            Entry::Status(status) => Some((i, status)),
            _ => None,
        });
        let line = format!("? {ended}");
        match said {
            Some((_, status)) if status == ended => {}
            Some((i, _)) => {
                self.dropped.push(i);
                self.written.push((i, line));
            }
            None if *ended == Status::Code(0) => {}
            None => self.written.push((block.last_line(), line)),
        }
    }

    fn apply(&self, source: &Source) -> String {
        let usual = source.lines.first().map_or("\n", |l| if l.ending.is_empty() { "\n" } else { l.ending });
        let mut text = String::new();
        for (i, line) in source.lines.iter().enumerate() {
            let new: Vec<&String> = self.written.iter().filter(|(at, _)| *at == i).map(|(_, new)| new).collect();
            if !self.dropped.contains(&i) {
                text.push_str(&line.text);
                text.push_str(if new.is_empty() { line.ending } else { usual });
            }
            for line in new {
                text.push_str(line);
                text.push_str(usual);
            }
        }
        text
    }
}

/// The file with one dialogue as the program speaks it now; how many lines are new, and how many are gone.
///
/// # Errors
///
/// When it cannot be played to its end.
pub(super) fn rewritten(block: &Block<'_>, source: &Source, values: &Captures) -> Result<(String, [usize; 2])> {
    let mut edits = Edits::default();
    let mut values = values.clone();
    let ended = block.replay(&mut values, |turn, values| edits.add_turn(block, turn, values))?;
    edits.add_status(block, &ended);
    Ok((edits.apply(source), [edits.written.len(), edits.dropped.len()]))
}

/// Writes a file so that everybody sees the old one or the new one; its permissions stay.
///
/// # Errors
///
/// Those of the file system; the old file is there then.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new().prefix(".foster-bless-").tempfile_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::metadata(&path)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::dialogue_file::DialogueFile;
    use crate::dialogue_file::syntax::tests::Random;

    const SAID: [&[u8]; 10] =
        [b"", b"a", b"b", b"a 1", b"a 2", b"{x}", b"[..]", b"\\x41 \xff\x1b ", b" ...", b"# no comment"];
    const WRITTEN: [&str; 12] =
        ["< a", "< b", "<", "< a {x}", "< {x}", "< [..]", "...", "# a comment", "", "< {{x}}", "! a", "!..."];

    /// The file after one turn with this output was blessed, how many lines changed, and whether it is what was said.
    fn bless(text: &str, printed: &[Vec<Printed>; 2], last: bool) -> (String, usize, bool) {
        let source = Source::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e:?}"));
        let file = DialogueFile::new("x");
        let block =
            Block { file: &file, lines: &source.lines, begin: 0, end: source.lines.len(), at: Location::caller() };
        let mut turn = Turn { head: 0, printed: printed.clone(), last, ..Turn::default() };
        for (i, entry) in block.entries() {
            match entry {
                Entry::Out(_) => turn.wants[0].push(i),
                Entry::Err(_) => turn.wants[1].push(i),
                _ => {}
            }
        }
        let plays = CHANNELS.iter().all(|channel| {
            let lines = &turn.wants[*channel as usize];
            let values = &Captures::new();
            let printed = &turn.printed[*channel as usize];
            let stream = Stream { block: &block, lines, printed, values, last };
            stream.play(&(0..lines.len()).map(Step::Keep).collect::<Vec<_>>()).is_some()
        });
        let mut edits = Edits::default();
        edits.add_turn(&block, &turn, &mut Captures::new());
        (edits.apply(&source), edits.written.len() + edits.dropped.len(), plays)
    }

    /// Whatever stood there and whatever was said: afterwards the file says so, keeps its comments, and stays as it is.
    #[test]
    fn what_was_blessed_is_what_was_said_and_stays() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let (mut passed, mut changed) = (0, 0);
        for _ in 0..10_000 {
            let count = random.below(7);
            let lines: Vec<&str> = (0..count).map(|_| WRITTEN[random.below(WRITTEN.len())]).collect();
            let text = format!("$ x\n{}\n", lines.join("\n"));
            let mut said = |most: usize| {
                let count = random.below(most);
                let mut said: Vec<Printed> = (0..count)
                    .map(|_| Printed { text: SAID[random.below(SAID.len())].to_vec(), ended: true })
                    .collect();
                if random.below(4) == 0 {
                    said.push(Printed { text: b"? ".to_vec(), ended: false });
                }
                said
            };
            let printed = [said(6), said(2)];
            let last = random.below(2) == 0;
            let (first, edits, passes) = bless(&text, &printed, last);
            assert_eq!(passes, edits == 0, "{text:?} {printed:?}: {first:?}");
            if passes {
                assert_eq!(first, text);
            }
            let (second, edits, passes) = bless(&first, &printed, last);
            assert!(passes && edits == 0, "{text:?} {printed:?}: {first:?}, then {second:?}");
            let comments = |text: &str| text.lines().filter(|l| l.is_empty() || l.starts_with('#')).count();
            assert_eq!(comments(&first), comments(&text));
            (passed, changed) = (passed + usize::from(first == text), changed + usize::from(first != text));
        }
        assert!(passed > 100 && changed > 5_000, "{passed} passed, {changed} changed: the check would prove little");
    }
}
