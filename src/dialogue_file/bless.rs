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
        (next == self.printed.len() || skip).then_some(values)
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
}

impl Edits {
    fn add_turn(&mut self, block: &Block<'_>, turn: &Turn, values: &mut Captures) {
        for channel in CHANNELS {
            let (lines, printed) = (&turn.wants[channel as usize], &turn.printed[channel as usize]);
            let stream = Stream { block, lines, printed, values };
            let mut all = steps(&stream);
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
