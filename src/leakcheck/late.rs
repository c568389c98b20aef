//! Every fixture's helper, who ended it, and which leaks are a fixture's: from what foster has noted.
//!
//! A fixture that its test did not end is *late*: an exit hook, a signal hook, the panic hook under `panic = "abort"`, or
//! the guardian had to do it. Nothing of it is left, but under another runner, or at another level, it would have been.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::facts::{Blame, EndedBy, FixtureRef, Helper, Place, TestId};
use super::journal::{By, Journal, Noted, Started};
use super::lineage::Born;
use super::{Leak, Report};

/// Fills in the helpers, and the fixtures of leaks.
pub(super) fn tell(report: &mut Report, journal: &Journal) {
    let mut leaks = std::mem::take(&mut report.leaks);
    for leak in &mut leaks {
        if let Some(noted) = owner(leak, journal) {
            blame(leak, noted, report);
        }
    }
    let helpers = journal.fixtures.iter().map(|noted| helper(noted, report, &leaks)).collect();
    report.helpers = helpers;
    report.leaks = leaks;
    report.journal_skipped = journal.skipped;
}

fn helper(noted: &Noted, report: &Report, leaks: &[Leak]) -> Helper {
    let Started { pid, at, command, .. } = &noted.started;
    let ended = noted.ended.as_ref();
    let leaked = leaks.iter().any(|leak| is(leak, &noted.started));
    let mut ending = ended.and_then(|e| e.ending.clone());
    if let Some(escapees @ 1..) = ended.map(|e| e.escapees) {
        let what = if escapees == 1 { "1 process".to_owned() } else { format!("{escapees} processes") };
        ending = Some(format!("{}, and {what} that it had left had to be ended", ending.unwrap_or_default()));
    }
    Helper {
        test: test_of(&noted.started, report),
        fixture: fixture(noted, report),
        pid: *pid,
        command: command.clone(),
        started_unix_ms: *at,
        ended_unix_ms: ended.map(|e| e.after_ms.map_or(e.at, |after| at + after)),
        ended_by: match ended.map(|e| e.by) {
            Some(By::Test) => EndedBy::Test,
            Some(By::Drop) => EndedBy::Drop,
            Some(By::Exit) => EndedBy::Exit,
            Some(By::Signal) if ended.is_some_and(|e| cut_off(report, e.at)) => EndedBy::Check,
            Some(By::Signal) => EndedBy::Signal,
            Some(By::Panic) => EndedBy::Panic,
            // Of a run that was cut short, it cannot be told who was gone before.
            None if leaked || cut_short(report) => EndedBy::Check,
            Some(By::Guardian) | None => EndedBy::Guardian,
        },
        ending,
        transcript: ended.map(|e| e.transcript.clone()).unwrap_or_default(),
        allowed: None,
    }
}

fn cut_short(report: &Report) -> bool {
    report.interrupted.is_some() || report.timed_out_ms.is_some()
}

/// Was this end the check's doing, because it was itself interrupted, or because the time was up?
///
/// Ctrl-C reaches everybody at once, so some have ended before the check has noticed anything.
fn cut_off(report: &Report, at: u64) -> bool {
    cut_short(report) && at + CLOCKS >= report.started_unix_ms + report.took_ms
}

/// Is this leak the fixture's helper itself?
fn is(leak: &Leak, started: &Started) -> bool {
    (leak.pid, Some(leak.start_ticks)) == (started.pid, started.start)
}

/// The fixture that this leak belongs to: it is the helper, carries the mark of the fixture, or was born below the helper.
fn owner<'j>(leak: &Leak, journal: &'j Journal) -> Option<&'j Noted> {
    let helper = journal.fixtures.iter().find(|noted| is(leak, &noted.started));
    // A number may have been given twice; whoever had it last before this leak was born is meant.
    let before = |noted: &&Noted| leak.started_unix_ms.is_none_or(|born| noted.started.at <= born + CLOCKS);
    let marked = || {
        // The innermost: a fixture's helper may have fixtures of its own.
        let marker = leak.line.born.iter().find_map(|born| born.mark("FOSTER_FIXTURE"))?;
        let (process, number) = marker.split_once('-')?;
        let (process, number): (u32, u64) = (process.parse().ok()?, number.parse().ok()?);
        let has = |noted: &&Noted| (noted.started.key.process, noted.started.key.fixture) == (process, number);
        journal.fixtures.iter().filter(has).rfind(before)
    };
    let below = || {
        let is = |born: &Born, noted: &Noted| {
            (born.pid.unsigned_abs(), Some(born.start)) == (noted.started.pid, noted.started.start)
        };
        leak.line.born.iter().find_map(|born| journal.fixtures.iter().find(|noted| is(born, noted)))
    };
    helper.or_else(marked).or_else(below)
}

/// How much later than it was a start may be noted, or a birth seem to be: the kernel's clock ticks in hundredths.
const CLOCKS: u64 = 1000;

fn blame(leak: &mut Leak, noted: &Noted, report: &Report) {
    let fixture = fixture(noted, report);
    leak.place = Some(fixture.place.clone());
    leak.fixture = Some(fixture);
    leak.transcript = noted.ended.as_ref().map(|e| e.transcript.clone()).unwrap_or_default();
    if let Some(test) = test_of(&noted.started, report) {
        leak.test = Some(test);
        leak.blame = Blame::Fixture;
        leak.suspects.clear();
    }
    let Started { package, manifest_dir, .. } = &noted.started;
    leak.package = leak.package.take().or_else(|| package.clone());
    leak.manifest_dir = leak.manifest_dir.take().or_else(|| manifest_dir.clone());
}

/// The fixture, as reports name it.
pub(super) fn fixture(noted: &Noted, report: &Report) -> FixtureRef {
    let Started { label, file, line, manifest_dir, .. } = &noted.started;
    let place = Place { file: below(&report.dir, file, manifest_dir.as_deref(), &|path| path.exists()), line: *line };
    FixtureRef { label: label.clone(), place }
}

/// A file as rustc names it, relative to the directory that the check was started in, if it is below that.
///
/// rustc names it relative to the workspace, which may be around that directory, or somewhere else.
fn below(dir: &Path, file: &Path, package: Option<&Path>, exists: &dyn Fn(&Path) -> bool) -> PathBuf {
    let relative = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_owned();
    if file.is_absolute() {
        return relative(file);
    }
    let bases = package.into_iter().flat_map(Path::ancestors).filter(|base| base.is_absolute()).chain([dir]);
    // A member and its workspace may have files of the same name: the outermost is the workspace's, and cargo's choice.
    let found = bases.map(|base| base.join(file)).filter(|path| exists(path)).last();
    found.map_or_else(|| file.to_owned(), |path| relative(&path))
}

/// The test that started a fixture: as nextest has said, or by the name of the thread, which is libtest's word for it.
pub(super) fn test_of(started: &Started, report: &Report) -> Option<TestId> {
    let name = started.test.clone()?;
    if let Some(binary) = &started.binary {
        return Some(TestId { binary: binary.clone(), name, attempt: started.attempt.unwrap_or(1) });
    }
    let guess = binary(started.exe.as_deref(), started.package.as_deref())?;
    let mut of_binary: BTreeMap<&str, bool> = BTreeMap::new();
    for run in &report.tests {
        *of_binary.entry(&run.id.binary).or_default() |= run.id.name == name;
    }
    match of_binary.get(guess.as_str()) {
        Some(true) => return Some(TestId { binary: guess, name, attempt: 1 }),
        // Every test of it is known, and this is none: a thread that the test, or a runtime of its, has named.
        Some(false) => return None,
        None => {}
    }
    let mut knows = of_binary.into_iter().filter(|(_, knows)| *knows).map(|(binary, _)| binary);
    match (knows.next(), knows.next()) {
        (Some(only), None) => Some(TestId { binary: only.to_owned(), name, attempt: 1 }),
        _ => {
            let plain = |c: char| c.is_alphanumeric() || "_:".contains(c);
            name.chars().all(plain).then_some(TestId { binary: guess, name, attempt: 1 })
        }
    }
}

/// What nextest would call a test binary, as far as its file tells: `shop::it` for `it-0123456789abcdef` of `shop`.
fn binary(exe: Option<&Path>, package: Option<&str>) -> Option<String> {
    let file = exe?.file_name()?.to_str()?;
    let hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let stem = file.rsplit_once('-').filter(|(_, end)| hash(end)).map_or(file, |(stem, _)| stem);
    Some(match package {
        None => stem.to_owned(),
        // Of the package's own library.
        Some(package) if package.replace('-', "_") == stem => package.to_owned(),
        Some(package) => format!("{package}::{stem}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Outcome, TestRun};
    use super::super::journal::tests::sample;
    use super::super::leak::tests::stranger;
    use super::super::lineage::Line;
    use super::super::report::tests::clean;
    use super::*;

    fn journal(fixtures: Vec<Noted>) -> Journal {
        Journal { fixtures, skipped: 3 }
    }

    /// Pids, starts and marks.
    fn line(all: &[(i32, u64, &str)]) -> Line {
        let born = |(pid, start, mark): &(i32, u64, &str)| Born {
            pid: *pid,
            start: *start,
            comm: "sh".into(),
            executables: Vec::new(),
            thread: None,
            marks: (!mark.is_empty()).then(|| [("FOSTER_FIXTURE".to_owned(), (*mark).to_owned())].into()),
            group: 1,
            outputs: Vec::new(),
        };
        Line { born: all.iter().map(born).collect(), complete: true }
    }

    fn run(binary: &str, name: &str) -> TestRun {
        let id = TestId { binary: binary.into(), name: name.into(), attempt: 1 };
        TestRun { id, outcome: Outcome::Passed, started_unix_ms: None, took_ms: None }
    }

    #[test]
    fn helpers_are_told_with_their_ends() {
        let mut report = clean();
        tell(&mut report, &journal(vec![sample(true), sample(false)]));
        let [ended, lost] = &report.helpers[..] else { panic!("{:?}", report.helpers) };
        assert_eq!((ended.ended_by, ended.ended_unix_ms), (EndedBy::Exit, Some(1_790_000_001_250)));
        assert_eq!(ended.test.as_ref().unwrap().to_string(), "orders::are_kept in shop::it, attempt 2");
        assert_eq!(ended.fixture.place.to_string(), "tests/it/orders.rs:12");
        assert_eq!((ended.ending.as_deref(), ended.transcript.len()), (Some("was killed by SIGTERM"), 1));
        assert_eq!((lost.ended_by, lost.ended_unix_ms), (EndedBy::Guardian, None));
        assert_eq!((report.late().count(), report.journal_skipped), (2, 3));
    }

    #[test]
    fn each_way_to_end_is_late_or_not() {
        let cases = [
            (By::Test, EndedBy::Test, false),
            (By::Drop, EndedBy::Drop, false),
            (By::Exit, EndedBy::Exit, true),
            (By::Signal, EndedBy::Signal, true),
            (By::Panic, EndedBy::Panic, true),
            (By::Guardian, EndedBy::Guardian, true),
        ];
        for (by, ended_by, late) in cases {
            let mut noted = sample(true);
            let ended = noted.ended.as_mut().unwrap();
            (ended.by, ended.escapees) = (by, 2);
            let mut report = clean();
            tell(&mut report, &journal(vec![noted]));
            assert_eq!((report.helpers[0].ended_by, report.late().count()), (ended_by, usize::from(late)));
            let ending = "was killed by SIGTERM, and 2 processes that it had left had to be ended";
            assert_eq!(report.helpers[0].ending.as_deref(), Some(ending));
        }
    }

    /// Ctrl-C ends every test, and no test is to blame for that.
    #[test]
    fn what_was_cut_off_is_not_late() {
        let of = |by, at, interrupted: Option<i32>, timed_out_ms| {
            let mut noted = sample(true);
            let ended = noted.ended.as_mut().unwrap();
            (ended.by, ended.at) = (by, at);
            let mut report = Report { interrupted, timed_out_ms, ..clean() };
            tell(&mut report, &journal(vec![noted, sample(false)]));
            report.helpers.iter().map(|h| h.ended_by).collect::<Vec<_>>()
        };
        let end = clean().started_unix_ms + clean().took_ms;
        assert_eq!(of(By::Signal, end + 10, Some(2), None), [EndedBy::Check, EndedBy::Check]);
        assert_eq!(of(By::Signal, end - 10, None, Some(1)), [EndedBy::Check, EndedBy::Check]);
        assert_eq!(of(By::Signal, end - 5000, Some(2), None), [EndedBy::Signal, EndedBy::Check]);
        assert_eq!(of(By::Exit, end, Some(2), None), [EndedBy::Exit, EndedBy::Check]);
        assert_eq!(of(By::Signal, end, None, None), [EndedBy::Signal, EndedBy::Guardian]);
    }

    #[test]
    fn a_leak_is_given_to_its_fixture() {
        let born = Some(1_790_000_000_150);
        let helper = Leak { start_ticks: 900, started_unix_ms: born, ..stranger(77) };
        let marked = Leak { line: line(&[(80, 1, "40-1")]), started_unix_ms: born, ..stranger(80) };
        let below = Leak { line: line(&[(81, 1, ""), (78, 5, ""), (77, 900, ""), (50, 3, "")]), ..stranger(81) };
        let mut report = Report { leaks: vec![helper, marked, below], ..clean() };
        tell(&mut report, &journal(vec![sample(true)]));
        for leak in &report.leaks {
            let fixture = leak.fixture.as_ref().unwrap_or_else(|| panic!("{leak:?}"));
            assert_eq!((fixture.label.as_str(), leak.blame), ("server", Blame::Fixture));
            assert_eq!(leak.test.as_ref().unwrap().name, "orders::are_kept");
            assert_eq!((leak.transcript.len(), leak.place.as_ref()), (1, Some(&fixture.place)));
            assert_eq!(leak.package.as_deref(), Some("shop"));
        }
        // A helper that is alive at the end was ended by the check, and is a leak and not late as well.
        let helper = Leak { start_ticks: 900, ..stranger(77) };
        let mut report = Report { leaks: vec![helper], ..clean() };
        tell(&mut report, &journal(vec![sample(false)]));
        assert_eq!((report.helpers[0].ended_by, report.late().count()), (EndedBy::Check, 0));
    }

    /// The controls: a number that was another's, a mark that nobody knows, a leak that is older than the fixture.
    #[test]
    fn a_leak_of_somebody_else_is_not() {
        let old = Some(1_789_999_000_000);
        let strangers = [
            Leak { start_ticks: 901, ..stranger(77) },
            Leak { line: line(&[(80, 1, "40-2")]), ..stranger(80) },
            Leak { line: line(&[(80, 1, "41-1")]), ..stranger(80) },
            Leak { line: line(&[(80, 1, "x")]), ..stranger(80) },
            Leak { line: line(&[(80, 1, "40-1")]), started_unix_ms: old, ..stranger(80) },
            Leak { line: line(&[(81, 1, ""), (77, 901, "")]), ..stranger(81) },
            Leak { line: line(&[(81, 1, ""), (177, 900, "")]), ..stranger(81) },
        ];
        let mut report = Report { leaks: strangers.to_vec(), ..clean() };
        tell(&mut report, &journal(vec![sample(true)]));
        assert_eq!(report.leaks, strangers);
    }

    #[test]
    fn a_thread_is_a_test_if_there_is_such_a_test() {
        let mut started = sample(true).started;
        started.binary = None;
        let of = |started: &Started, tests: Vec<TestRun>| {
            test_of(started, &Report { tests, ..clean() }).map(|test| test.to_string())
        };
        assert_eq!(of(&started, vec![]).as_deref(), Some("orders::are_kept in shop::it"));
        let known = run("shop::it", "orders::are_kept");
        assert_eq!(of(&started, vec![known.clone()]).as_deref(), Some("orders::are_kept in shop::it"));
        assert_eq!(of(&started, vec![run("shop::it", "orders::other")]), None);
        // Unit tests of a program look the same as those of a test target.
        let program = run("shop::bin/it", "orders::are_kept");
        assert_eq!(of(&started, vec![program]).as_deref(), Some("orders::are_kept in shop::bin/it"));
        started.test = Some("tokio-runtime-worker".into());
        assert_eq!(of(&started, vec![known]), None);
        assert_eq!(of(&started, vec![]), None);
        started.test = None;
        assert_eq!(of(&started, vec![]), None);
    }

    #[test]
    fn a_binary_is_named_as_nextest_would() {
        let of = |exe: &str, package| binary(Some(Path::new(exe)), package).unwrap();
        assert_eq!(of("/t/debug/deps/it-0123456789abcdef", Some("my-shop")), "my-shop::it");
        assert_eq!(of("/t/debug/deps/my_shop-0123456789abcdef", Some("my-shop")), "my-shop");
        assert_eq!(of("/t/my-tool", None), "my-tool");
        assert_eq!(binary(None, Some("shop")), None);
    }

    #[test]
    fn a_place_is_told_from_where_the_check_was_started() {
        let of = |dir: &str, file: &str, package: Option<&str>, there: &str| {
            let there = PathBuf::from(there);
            below(Path::new(dir), Path::new(file), package.map(Path::new), &|path| path == there)
        };
        assert_eq!(of("/w", "tests/a.rs", Some("/w"), "/w/tests/a.rs"), Path::new("tests/a.rs"));
        assert_eq!(of("/w", "m/tests/a.rs", Some("/w/m"), "/w/m/tests/a.rs"), Path::new("m/tests/a.rs"));
        assert_eq!(of("/w/m", "m/tests/a.rs", Some("/w/m"), "/w/m/tests/a.rs"), Path::new("tests/a.rs"));
        assert_eq!(of("/w/n", "m/tests/a.rs", Some("/w/m"), "/w/m/tests/a.rs"), Path::new("/w/m/tests/a.rs"));
        assert_eq!(of("/w", "/w/x/b.rs", None, ""), Path::new("x/b.rs"));
        assert_eq!(of("/w", "gone.rs", None, ""), Path::new("gone.rs"));
    }
}
