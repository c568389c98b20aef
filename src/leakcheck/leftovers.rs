//! What a suite has left in its temporary directory: files, directories and unix sockets, by the tests that ran when they
//! were made.
//!
//! A file does not say who made it. The file system says when (statx(2)), and the runner says which tests ran at that time:
//! with one test at a time, as under `nextest run -j1`, that is an answer; otherwise it is a list of suspects.

use std::collections::BTreeSet;
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::facts::{Kind, Leftover, TestId, unix_ms};
use super::journal::{Journal, Noted};
use super::{Report, late};
use crate::sys::details;

/// More than this is not looked at: a suite that leaves more has a problem that shows in less.
const ENOUGH: usize = 100_000;

/// More sockets than this of one directory are not told.
const SOCKETS: usize = 20;

/// What lies in the directory, sorted by its name.
pub(super) fn read(tmp: &Path, journal: &Journal, report: &Report) -> Vec<Leftover> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(tmp).into_iter().flatten().flatten().map(|entry| entry.path()).take(ENOUGH).collect();
    entries.sort();
    // A process that may stay has its sockets in use.
    let spared = report.leaks.iter().any(|leak| leak.deed.spared);
    let search = Search { tmp, journal, report, in_use: if spared { details::sockets() } else { BTreeSet::new() } };
    let mut left = ENOUGH;
    entries.iter().flat_map(|path| search.leftovers(path, &mut left)).collect()
}

/// Has somebody asked foster to keep the directory of a fixture?
pub(super) fn holds_kept_dirs(tmp: &Path) -> bool {
    fs::read_dir(tmp).into_iter().flatten().flatten().any(|entry| keeps(&entry.path()))
}

/// Is this foster's directory of a test process, with one in it that is kept? `src/own_dir.rs` makes the mark.
fn keeps(path: &Path) -> bool {
    let is_mark = |name: &std::ffi::OsStr| Path::new(name).extension().is_some_and(|e| e == "keep");
    let own = path.file_name().is_some_and(|name| fosters_own(Path::new(name)).is_some());
    own && fs::read_dir(path).into_iter().flatten().flatten().any(|entry| is_mark(&entry.file_name()))
}

struct Search<'a> {
    tmp: &'a Path,
    journal: &'a Journal,
    report: &'a Report,
    in_use: BTreeSet<PathBuf>,
}

/// What is in a directory.
#[derive(Default)]
struct Content {
    bytes: u64,
    files: u64,
    sockets: Vec<(PathBuf, Metadata)>,
    in_use: bool,
}

impl Search<'_> {
    /// What one entry of the temporary directory is: itself, and the sockets in it.
    fn leftovers(&self, path: &Path, left: &mut usize) -> Vec<Leftover> {
        // Gone meanwhile, or not to be seen: then there is nothing to say about it.
        let Ok(metadata) = fs::symlink_metadata(path) else { return Vec::new() };
        if metadata.is_dir() {
            if keeps(path) {
                return Vec::new();
            }
            let content = self.walk(path, left);
            let sockets = content.sockets.iter().take(SOCKETS);
            let mut found: Vec<Leftover> =
                sockets.map(|(path, metadata)| self.leftover(Kind::Socket, path, metadata, 0, None)).collect();
            // A directory that holds nothing but sockets is no finding of its own.
            let only_sockets = content.files == 0 && (!found.is_empty() || content.in_use);
            if !only_sockets {
                let files = Some(content.files);
                found.insert(0, self.leftover(Kind::File, path, &metadata, content.bytes, files));
            }
            return found;
        }
        if !metadata.file_type().is_socket() {
            let bytes = if metadata.is_file() { metadata.len() } else { 0 };
            return vec![self.leftover(Kind::File, path, &metadata, bytes, None)];
        }
        if self.in_use.contains(path) {
            return Vec::new();
        }
        vec![self.leftover(Kind::Socket, path, &metadata, 0, None)]
    }

    /// Never follows a link, and gives up at some point.
    fn walk(&self, root: &Path, left: &mut usize) -> Content {
        let mut content = Content::default();
        let mut next = vec![root.to_owned()];
        while let Some(dir) = next.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if *left == 0 {
                    return content;
                }
                *left -= 1;
                // Of the entry itself, not of what a link leads to.
                let Ok(metadata) = entry.metadata() else { continue };
                let kind: FileType = metadata.file_type();
                if kind.is_dir() {
                    next.push(entry.path());
                } else if kind.is_socket() {
                    if self.in_use.contains(&entry.path()) {
                        content.in_use = true;
                    } else {
                        content.sockets.push((entry.path(), metadata));
                    }
                } else {
                    content.files += 1;
                    content.bytes += if kind.is_file() { metadata.len() } else { 0 };
                }
            }
        }
        content.sockets.sort_by(|a, b| a.0.cmp(&b.0));
        content
    }

    fn leftover(&self, kind: Kind, path: &Path, metadata: &Metadata, bytes: u64, files: Option<u64>) -> Leftover {
        let created_unix_ms = metadata.created().ok().map(unix_ms);
        let owners = self.owners(path);
        let mut tests: Vec<TestId> =
            owners.iter().filter_map(|noted| late::test_of(&noted.started, self.report)).collect();
        tests.sort();
        tests.dedup();
        if tests.is_empty() {
            tests = created_unix_ms.map(|at| self.running(at)).unwrap_or_default();
        }
        let own = fosters_own(path.strip_prefix(self.tmp).unwrap_or(path));
        Leftover {
            kind,
            path: path.strip_prefix(self.tmp).unwrap_or(path).to_owned(),
            bytes,
            files,
            created_unix_ms,
            tests,
            fixture: owners.first().filter(|_| owners.len() == 1).map(|noted| late::fixture(noted, self.report)),
            note: own.map(|process| {
                format!(
                    "the directories of foster's fixtures in the test process {process}: it was killed, and so was its \
                     guardian, which would have removed them"
                )
            }),
            allowed: None,
        }
    }

    /// The fixtures whose own directory this is, or is in it, or is around it.
    fn owners(&self, path: &Path) -> Vec<&Noted> {
        let of = |noted: &&Noted| noted.dir.as_ref().is_some_and(|dir| dir.starts_with(path) || path.starts_with(dir));
        self.journal.fixtures.iter().filter(of).collect()
    }

    /// The tests that ran when something was made.
    ///
    /// The file system's clock ticks, so that its time may be as much as a tick before the true one.
    fn running(&self, created: u64) -> Vec<TestId> {
        let latest = created + u64::try_from(details::tick().as_millis()).unwrap_or(0) + 1;
        let ran = |run: &&super::TestRun| match (run.started_unix_ms, run.ended_unix_ms()) {
            (Some(started), Some(ended)) => started <= latest && created <= ended,
            _ => false,
        };
        self.report.tests.iter().filter(ran).map(|run| run.id.clone()).collect()
    }
}

/// The test process in the name of the directory that a guardian removes, `foster-PID-NONCE`.
fn fosters_own(path: &Path) -> Option<u32> {
    let name = path.components().next()?.as_os_str().to_str()?.strip_prefix("foster-")?;
    let (process, nonce) = name.split_once('-')?;
    let hex = nonce.len() == 16 && nonce.bytes().all(|b| b.is_ascii_hexdigit());
    process.parse().ok().filter(|_| hex)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::facts::{Outcome, TestRun};
    use super::super::journal::tests::sample;
    use super::super::leak::tests::stranger;
    use super::super::report::tests::clean;
    use super::*;

    fn look(tmp: &Path, journal: &Journal, report: &Report) -> Vec<Leftover> {
        read(tmp, journal, report)
    }

    #[test]
    fn what_lies_there_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        fs::write(at("out.log"), "12345").unwrap();
        fs::create_dir_all(at("cache/deep/er")).unwrap();
        fs::write(at("cache/one"), "123").unwrap();
        fs::write(at("cache/deep/er/two"), "4567").unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir(at("run")).unwrap();
        drop(UnixListener::bind(at("run/b.sock")).unwrap());
        drop(UnixListener::bind(at("a.sock")).unwrap());
        drop(UnixListener::bind(at("cache/c.sock")).unwrap());
        // Where it leads is nobody's business.
        std::os::unix::fs::symlink("/", at("link")).unwrap();
        std::os::unix::fs::symlink("/usr", at("cache/link")).unwrap();
        let found = look(tmp.path(), &Journal::default(), &clean());
        let shown: Vec<_> =
            found.iter().map(|l| (l.kind, l.path.to_str().unwrap().to_owned(), l.bytes, l.files)).collect();
        let file = |name: &str, bytes, files| (Kind::File, name.to_owned(), bytes, files);
        let socket = |name: &str| (Kind::Socket, name.to_owned(), 0, None);
        assert_eq!(
            shown,
            [
                socket("a.sock"),
                file("cache", 7, Some(3)),
                socket("cache/c.sock"),
                file("empty", 0, Some(0)),
                file("link", 0, None),
                file("out.log", 5, None),
                socket("run/b.sock"),
            ]
        );
        assert!(found.iter().all(|l| l.tests.is_empty() && l.note.is_none() && l.fixture.is_none()));
        assert_eq!(look(&at("none"), &Journal::default(), &clean()), []);
    }

    #[test]
    fn a_socket_of_a_process_that_may_stay_is_not_left() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("d")).unwrap();
        let _open = ["a", "d/b"].map(|name| UnixListener::bind(tmp.path().join(name)).unwrap());
        let mut report = clean();
        assert_eq!(look(tmp.path(), &Journal::default(), &report).len(), 2);
        report.leaks.push(stranger(1));
        report.leaks[0].deed.spared = true;
        assert_eq!(look(tmp.path(), &Journal::default(), &report), []);
    }

    #[test]
    fn whoever_ran_at_that_time_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("file"), "").unwrap();
        let Ok(created) = fs::metadata(tmp.path().join("file")).unwrap().created() else {
            // The file system of this machine does not know.
            return;
        };
        let created = unix_ms(created);
        let tick = u64::try_from(details::tick().as_millis()).unwrap();
        let run = |name: &str, started: u64, took: u64| TestRun {
            id: TestId { binary: "shop::it".into(), name: name.into(), attempt: 1 },
            outcome: Outcome::Passed,
            started_unix_ms: Some(started),
            took_ms: Some(took),
        };
        let before = run("before", created - 100, 99);
        let during = run("during", created - 50, 100);
        let just_begun = run("just_begun", created + tick, 100);
        let after = run("after", created + tick + 2, 100);
        let untimed = TestRun { started_unix_ms: None, ..run("untimed", 0, 0) };
        let named = |tests: &[&TestRun]| {
            let report = Report { tests: tests.iter().map(|t| (*t).clone()).collect(), ..clean() };
            let found = look(tmp.path(), &Journal::default(), &report).remove(0);
            assert_eq!(found.created_unix_ms, Some(created));
            found.tests.into_iter().map(|t| t.name).collect::<Vec<_>>()
        };
        assert_eq!(named(&[&before, &during, &after, &untimed]), ["during"]);
        assert_eq!(named(&[&during, &just_begun]), ["during", "just_begun"]);
        assert_eq!(named(&[&before, &after]), Vec::<String>::new());
    }

    #[test]
    fn a_fixtures_directory_is_the_fixtures() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("foster-40-0123456789abcdef");
        fs::create_dir_all(root.join("fixture-abc")).unwrap();
        fs::create_dir_all(tmp.path().join("foster-xyz")).unwrap();
        let mut one = sample(true);
        one.dir = Some(root.join("fixture-abc"));
        let journal = Journal { fixtures: vec![one.clone()], skipped: 0 };
        let found = look(tmp.path(), &journal, &clean());
        assert_eq!(found[0].fixture.as_ref().unwrap().label, "server");
        assert_eq!(found[0].tests[0].name, "orders::are_kept");
        assert!(found[0].note.as_ref().unwrap().contains("the test process 40: it was killed"), "{found:?}");
        assert_eq!((&found[1].fixture, &found[1].note), (&None, &None));
        // Two of one process: its test, but not one of them.
        let mut two = one.clone();
        two.dir = Some(root.join("fixture-def"));
        let found = look(tmp.path(), &Journal { fixtures: vec![one, two], skipped: 0 }, &clean());
        assert_eq!((found[0].fixture.is_none(), found[0].tests.len()), (true, 1));
    }

    #[test]
    fn a_walk_is_bounded() {
        let tmp = tempfile::tempdir().unwrap();
        for n in 0..10 {
            fs::write(tmp.path().join(n.to_string()), "x").unwrap();
        }
        let (journal, report) = (Journal::default(), clean());
        let search = Search { tmp: Path::new("/"), journal: &journal, report: &report, in_use: BTreeSet::new() };
        let mut left = 4;
        assert_eq!((search.walk(tmp.path(), &mut left).files, left), (4, 0));
    }
}
