//! What foster's fixtures have noted, read back: `src/journal.rs` writes it.
//!
//! The writer may have been killed at any moment, may be of another version, and others may have written into the directory.
//! What is not understood is skipped and counted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// More than this of one process is not read. A fixture takes a kilobyte or two.
const LARGEST: u64 = 64 << 20;

/// A fixture for ever: the process, when that was started, and the fixture's number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Key {
    pub(super) process: u32,
    pub(super) process_start: u64,
    pub(super) fixture: u64,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Started(Started),
    Directory {
        #[serde(flatten)]
        key: Key,
        dir: PathBuf,
    },
    Ended(Ended),
}

/// A fixture's start.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Started {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) at: u64,
    pub(super) label: String,
    pub(super) pid: u32,
    pub(super) start: Option<u64>,
    pub(super) command: String,
    pub(super) test: Option<String>,
    pub(super) binary: Option<String>,
    pub(super) attempt: Option<u32>,
    pub(super) exe: Option<PathBuf>,
    pub(super) package: Option<String>,
    pub(super) manifest_dir: Option<PathBuf>,
    pub(super) dir: Option<PathBuf>,
    pub(super) file: PathBuf,
    pub(super) line: u32,
}

/// A fixture's end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Ended {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) at: u64,
    pub(super) by: By,
    pub(super) ending: Option<String>,
    pub(super) after_ms: Option<u64>,
    #[serde(default)]
    pub(super) escapees: u64,
    #[serde(default)]
    pub(super) transcript: Vec<String>,
}

/// Who ended it, as the journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Test,
    Drop,
    Exit,
    Signal,
    Panic,
    Guardian,
}

/// One fixture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noted {
    pub(super) started: Started,
    /// Its own directory, if it has one.
    pub(super) dir: Option<PathBuf>,
    /// `None` if its process was gone before.
    pub(super) ended: Option<Ended>,
}

/// Everything that was noted.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// In the order of their starts.
    pub(super) fixtures: Vec<Noted>,
    /// Lines that made no sense.
    pub(super) skipped: usize,
}

impl Journal {
    /// Reads every journal in the directory.
    pub(super) fn read(dir: &Path) -> Journal {
        let mut reading = Reading::default();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            // Opening something else may hang, and a link may lead anywhere.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                reading.skipped += 1;
                continue;
            }
            let mut bytes = Vec::new();
            let read = File::open(entry.path()).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
            reading.skipped += usize::from(read.is_err());
            reading.take(&bytes);
        }
        reading.finish()
    }
}

#[derive(Default)]
struct Reading {
    fixtures: BTreeMap<Key, Noted>,
    /// A process that becomes another user goes on in another file, which may come first.
    ends: Vec<Ended>,
    dirs: Vec<(Key, PathBuf)>,
    skipped: usize,
}

impl Reading {
    fn take(&mut self, bytes: &[u8]) {
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Started(started)) if !self.fixtures.contains_key(&started.key) => {
                    let dir = started.dir.clone();
                    self.fixtures.insert(started.key, Noted { started, dir, ended: None });
                }
                Ok(Line::Directory { key, dir }) => self.dirs.push((key, dir)),
                Ok(Line::Ended(ended)) => self.ends.push(ended),
                Ok(Line::Started(_)) | Err(_) => self.skipped += 1,
            }
        }
    }

    fn finish(mut self) -> Journal {
        for (key, dir) in self.dirs {
            match self.fixtures.get_mut(&key) {
                Some(noted) => noted.dir = Some(dir),
                None => self.skipped += 1,
            }
        }
        for ended in self.ends {
            match self.fixtures.get_mut(&ended.key).filter(|noted| noted.ended.is_none()) {
                Some(noted) => noted.ended = Some(ended),
                None => self.skipped += 1,
            }
        }
        let mut fixtures: Vec<Noted> = self.fixtures.into_values().collect();
        // Stable: those of one millisecond stay in the order of their numbers.
        fixtures.sort_by_key(|noted| noted.started.at);
        Journal { fixtures, skipped: self.skipped }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STARTED: &str = r#"{"event":"started","process":40,"process_start":9,"fixture":1,"at":1790000000100,"label":"server","pid":77,"start":900,"command":"server --port 0","test":"orders::are_kept","binary":"shop::it","attempt":2,"exe":"/t/it-0123456789abcdef","package":"shop","manifest_dir":"/home/me/shop","file":"tests/it/orders.rs","line":12}"#;
    const DIRECTORY: &str = r#"{"event":"directory","process":40,"process_start":9,"fixture":1,"at":1790000000200,"dir":"/t/foster-40-0123456789abcdef/fixture-abc"}"#;
    const ENDED: &str = r#"{"event":"ended","process":40,"process_start":9,"fixture":1,"at":1790000001300,"by":"exit","ending":"was killed by SIGTERM","after_ms":1150,"escapees":0,"survivors":0,"transcript":["   0.001s out | up"]}"#;

    /// One fixture, from its start to the end that an exit hook has brought about; without an end if that is left out.
    pub(in super::super) fn sample(ended: bool) -> Noted {
        let lines = if ended { format!("{STARTED}\n{DIRECTORY}\n{ENDED}\n") } else { format!("{STARTED}\n") };
        let mut journal = read(lines.as_bytes());
        assert_eq!((journal.fixtures.len(), journal.skipped), (1, 0));
        journal.fixtures.remove(0)
    }

    fn read(bytes: &[u8]) -> Journal {
        let mut reading = Reading::default();
        reading.take(bytes);
        reading.finish()
    }

    #[test]
    fn what_was_noted_is_read_back() {
        let noted = sample(true);
        assert_eq!((noted.started.pid, noted.started.start, noted.started.attempt), (77, Some(900), Some(2)));
        assert_eq!(noted.dir.unwrap(), Path::new("/t/foster-40-0123456789abcdef/fixture-abc"));
        let ended = noted.ended.unwrap();
        assert_eq!((ended.by, ended.after_ms, ended.transcript.len()), (By::Exit, Some(1150), 1));
        assert_eq!(sample(false).ended, None);
    }

    /// Killed in the middle of a line, at every byte.
    #[test]
    fn a_torn_line_is_skipped_and_counted() {
        let text = format!("{STARTED}\n{ENDED}\n");
        for end in 0..=text.len() {
            let journal = read(&text.as_bytes()[..end]);
            // A line that lacks nothing but its end is whole.
            let (started, ended) = (end >= STARTED.len(), end > text.len() - 2);
            assert_eq!(journal.fixtures.len(), usize::from(started), "{end}");
            assert_eq!(journal.fixtures.first().is_some_and(|n| n.ended.is_some()), ended, "{end}");
            let torn = end != 0 && !(STARTED.len()..=STARTED.len() + 1).contains(&end) && !ended;
            assert_eq!(journal.skipped, usize::from(torn), "{end}");
        }
    }

    /// Whatever somebody has made of the lines: nothing fails, and every line is either used or counted.
    #[test]
    fn foreign_and_spoilt_lines_are_skipped_and_counted() {
        let mut seed = 7_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let mut skipped = 0;
        for _ in 0..3000 {
            let mut bytes = format!("{STARTED}\n{DIRECTORY}\n{ENDED}\n").into_bytes();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\"{}[],:0\n\xff"[random(10)]),
                    _ => bytes.truncate(at),
                }
                bytes.push(b'\n');
            }
            let journal = read(&bytes);
            skipped += journal.skipped;
            assert!(journal.fixtures.len() <= 1);
        }
        assert!(skipped > 1000, "{skipped}");
        let journal = read(b"{}\n[]\nnull\n\"x\"\n\n\xff\xfe\n{\"event\":\"later\"}\n");
        assert_eq!((journal.fixtures.len(), journal.skipped), (0, 6));
    }

    #[test]
    fn an_end_without_a_start_and_what_comes_twice_are_skipped() {
        assert_eq!(read(ENDED.as_bytes()).skipped, 1);
        let twice = read(format!("{STARTED}\n{STARTED}\n{ENDED}\n{ENDED}\n").as_bytes());
        assert_eq!((twice.fixtures.len(), twice.skipped), (1, 2));
        // In another file, which comes first.
        let journal = read(format!("{ENDED}\n{STARTED}\n").as_bytes());
        assert!(journal.fixtures[0].ended.is_some() && journal.skipped == 0);
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("40-0.jsonl"), format!("{STARTED}\n")).unwrap();
        fs::write(dir.path().join("40-7.jsonl"), format!("{ENDED}\n")).unwrap();
        fs::create_dir(dir.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let journal = Journal::read(dir.path());
        assert!(journal.fixtures.len() == 1 && journal.fixtures[0].ended.is_some());
        assert_eq!(journal.skipped, 3);
        assert_eq!(Journal::read(&dir.path().join("none")).fixtures, []);
    }
}
