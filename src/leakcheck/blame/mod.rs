//! Which test is to blame: what is known about a leak's birth, put together; and if that is not enough, the suspects are
//! run again, one by one.
//!
//! Blame goes by birth, never by the time of detection: what runs when a leak is found has nothing to do with it.
//! In this order, and each only where the ones before know nothing:
//!
//! 1. the fixture of foster's that started it has noted its test,
//! 2. the environment that it was started with names the test, as nextest sets it,
//! 3. the thread that started it was libtest's for one test, and has its name,
//! 4. the test leaves the same behind when it is run again alone.

mod alike;
mod fix;
mod kin;
mod place;
mod rerun;
mod retry;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::facts::{Blame, Ending, Outcome, TestId};
use super::run_dir::RunDir;
use super::suite::{Suite, is_cut_short};
use super::{Leak, Options, Report};

/// Fills in test, outcome, suspects, fix and the command that runs the test again.
pub(super) fn find(report: &mut Report, options: &Options, suite: &Suite, run_dir: &RunDir) {
    if report.leaks.is_empty() {
        return;
    }
    let mut leaks = std::mem::take(&mut report.leaks);
    if let Some((_, listing)) = suite.cargo_test() {
        thread::find(&mut leaks, listing);
    }
    kin::find(&mut leaks);
    let mut outcomes = BTreeMap::new();
    if suite.is_nextest() {
        suspect_by_time(&mut leaks, report);
    }
    // Whoever waits for our end, or has set a limit that was reached, does not want more of the same.
    if let (false, true, Some(limit)) = (is_cut_short(report), suite.runs_again(), options.rerun) {
        let found = rerun::find(&mut leaks, suite, options, run_dir, limit);
        report.interrupted = report.interrupted.or(found.interrupted);
        outcomes = found.outcomes;
    }
    let mut places = place::Places::new(report.dir.clone());
    // One that hides its environment has it from the others of its package.
    let known = leaks.iter().filter_map(|l| Some((l.package.clone()?, l.manifest_dir.clone()?)));
    let dirs: BTreeMap<String, PathBuf> = known.collect();
    for leak in &mut leaks {
        if let Some(test) = leak.test.clone() {
            leak.outcome = outcome(&test, report, &outcomes);
            leak.age_after_test_ms = age_after(&test, leak, report);
            leak.again = leak.again.take().or_else(|| retry::command(suite, &test));
        }
        let fixture = leak.fixture.as_ref().map(|f| f.place.clone());
        leak.place = fixture.or_else(|| leak.place.take()).or_else(|| place_of(leak, suite, &dirs, &mut places));
        if leak.fix.is_empty() {
            leak.fix = fix::of(leak);
        }
    }
    report.leaks = leaks;
}

/// What became of the test, as its runner says; else as its second run does.
fn outcome(test: &TestId, report: &Report, second: &BTreeMap<TestId, Outcome>) -> Outcome {
    let own = report.tests.iter().find(|run| run.id == *test).map(|run| run.outcome);
    // A fixture names its test, but not always the binary that it is in.
    let named = || {
        let mut same = report.tests.iter().filter(|run| (&run.id.name, run.id.attempt) == (&test.name, test.attempt));
        same.next().filter(|_| same.next().is_none()).map(|run| run.outcome)
    };
    let known = own.or_else(named).filter(|outcome| *outcome != Outcome::Unknown);
    let by_suite = || report.ending.is_some_and(Ending::success).then_some(Outcome::Passed);
    known.or_else(|| second.get(test).copied()).or_else(by_suite).unwrap_or_default()
}

/// How much of its age was after the end of its test, if the times are known; the clocks differ by some milliseconds.
fn age_after(test: &TestId, leak: &Leak, report: &Report) -> Option<u64> {
    let ended = report.tests.iter().find(|run| run.id == *test)?.ended_unix_ms()?;
    let found = leak.started_unix_ms? + leak.age_ms?;
    Some(found.saturating_sub(ended).min(leak.age_ms?))
}

fn place_of(
    leak: &Leak,
    suite: &Suite,
    dirs: &BTreeMap<String, PathBuf>,
    places: &mut place::Places,
) -> Option<super::Place> {
    let test = leak.test.as_ref()?;
    let listed = suite.cargo_test().and_then(|(_, listing)| {
        let found = listing.executables.iter().find(|e| e.id == test.binary);
        found.map(|e| e.manifest_dir.clone())
    });
    let package = test.binary.split("::").next()?;
    let dir = listed.or_else(|| leak.manifest_dir.clone()).or_else(|| dirs.get(package).cloned())?;
    places.of(&dir, test)
}

/// Without a name, the tests that ran when it was born are all that is known: nextest's have their times.
///
/// The first attempt stands for the others: which one it was, a second run does not show.
fn suspect_by_time(leaks: &mut [Leak], report: &Report) {
    // The kernel counts in hundredths of a second, and nextest's clock starts before the fork.
    const SLACK_MS: u64 = 20;
    for leak in leaks.iter_mut().filter(|l| l.test.is_none() && l.suspects.is_empty()) {
        let Some(born) = leak.started_unix_ms else { continue };
        let ran = |run: &&super::TestRun| {
            let (Some(began), Some(ended)) = (run.started_unix_ms, run.ended_unix_ms()) else { return false };
            began.saturating_sub(SLACK_MS) <= born && born <= ended + SLACK_MS
        };
        let ids: BTreeSet<_> =
            report.tests.iter().filter(ran).map(|run| TestId { attempt: 1, ..run.id.clone() }).collect();
        leak.suspects = ids.into_iter().collect();
    }
}

/// The test that is to blame.
fn blame(leak: &mut Leak, test: TestId, how: Blame) {
    leak.suspects.clear();
    leak.test = Some(test);
    leak.blame = how;
}

#[cfg(test)]
mod tests {
    use super::super::leak::tests::{sample, stranger};
    use super::super::report::tests::clean;
    use super::super::{TestRun, facts};
    use super::*;

    fn test(name: &str, attempt: u32) -> TestId {
        TestId { binary: "shop::it".into(), name: name.into(), attempt }
    }

    fn ran(name: &str, attempt: u32, outcome: Outcome, began: u64, took: u64) -> TestRun {
        TestRun { id: test(name, attempt), outcome, started_unix_ms: Some(began), took_ms: Some(took) }
    }

    #[test]
    fn the_outcome_is_that_of_the_attempt_that_leaked() {
        let tests = vec![ran("flaky", 1, Outcome::Failed, 1000, 10), ran("flaky", 2, Outcome::Passed, 1010, 10)];
        let report = Report { tests, ..clean() };
        let of = |attempt, second: &[Outcome]| {
            let second = second.iter().map(|outcome| (test("flaky", attempt), *outcome)).collect();
            outcome(&test("flaky", attempt), &report, &second)
        };
        assert_eq!(of(1, &[]), Outcome::Failed);
        assert_eq!(of(2, &[Outcome::Failed]), Outcome::Passed, "a second run does not change the first");
        assert_eq!(of(3, &[Outcome::Failed]), Outcome::Failed);
        assert_eq!(of(3, &[]), Outcome::Passed, "the suite has succeeded");
        let failed = Report { ending: Some(facts::Ending { code: Some(101), signal: None }), ..report.clone() };
        assert_eq!(outcome(&test("flaky", 3), &failed, &BTreeMap::new()), Outcome::Unknown);
    }

    #[test]
    fn the_age_counts_from_the_end_of_the_test() {
        let mut leak = sample(1);
        (leak.started_unix_ms, leak.age_ms) = (Some(1000), Some(900));
        let report = Report { tests: vec![ran("a", 1, Outcome::Passed, 900, 300)], ..clean() };
        assert_eq!(age_after(&test("a", 1), &leak, &report), Some(700));
        assert_eq!(age_after(&test("b", 1), &leak, &report), None);
    }

    #[test]
    fn who_ran_at_its_birth_is_suspected() {
        let tests = vec![ran("before", 1, Outcome::Passed, 100, 100), ran("then", 1, Outcome::Passed, 900, 300)];
        let report = Report { tests, ..clean() };
        let mut leaks = [Leak { started_unix_ms: Some(1000), ..stranger(1) }, sample(2)];
        let named = leaks[1].clone();
        suspect_by_time(&mut leaks, &report);
        assert_eq!(leaks[0].suspects, [test("then", 1)]);
        assert_eq!((&leaks[0].test, leaks[0].blame), (&None, Blame::Nobody), "a suspicion is no blame");
        assert_eq!(leaks[1], named);
    }
}
