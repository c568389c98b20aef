//! What nextest's JUnit file tells: every test that ran, every attempt, when, how long and how it went.
//!
//! The main element of a test is its *last* attempt if it was flaky (`flakyFailure` holds those before), and its *first*
//! one if it failed in the end (`rerunFailure` holds those after).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::leakcheck::{Outcome, TestId, TestRun};

/// What is in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Junit {
    /// When the run began, by the file itself.
    pub(super) started_unix_ms: Option<u64>,
    /// How many tests ran; a test that ran again is one.
    pub(super) count: u64,
    /// Every attempt.
    pub(super) runs: Vec<TestRun>,
}

/// One test while its element is open.
struct Case {
    name: String,
    main: Times,
    before: Vec<Times>,
    after: Vec<Times>,
    failed: bool,
    skipped: bool,
}

#[derive(Clone, Copy)]
struct Times {
    started_unix_ms: Option<u64>,
    took_ms: Option<u64>,
}

/// The error is for people.
pub(super) fn read(text: &str) -> Result<Junit, String> {
    let mut reader = Reader::from_str(text);
    let mut junit = Junit::default();
    let mut binary = String::new();
    let mut open: Option<Case> = None;
    loop {
        let event = reader.read_event().map_err(|e| e.to_string())?;
        let (element, is_empty) = match &event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(element) => {
                if element.name().as_ref() == b"testcase" {
                    junit.close(open.take(), &binary);
                }
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        match (element.name().as_ref(), &mut open) {
            (b"testsuites", _) => junit.started_unix_ms = times(element).started_unix_ms,
            (b"testsuite", _) => binary = attribute(element, "name").unwrap_or_default(),
            (b"testcase", _) => {
                let name = attribute(element, "name").unwrap_or_default();
                let (before, after) = (Vec::new(), Vec::new());
                open = Some(Case { name, main: times(element), before, after, failed: false, skipped: false });
                if is_empty {
                    junit.close(open.take(), &binary);
                }
            }
            (b"failure" | b"error", Some(case)) => case.failed = true,
            (b"skipped", Some(case)) => case.skipped = true,
            (b"flakyFailure" | b"flakyError", Some(case)) => case.before.push(times(element)),
            (b"rerunFailure" | b"rerunError", Some(case)) => case.after.push(times(element)),
            _ => {}
        }
    }
    Ok(junit)
}

impl Junit {
    fn close(&mut self, case: Option<Case>, binary: &str) {
        // A setup script is no test, although it stands among them.
        let Some(case) = case.filter(|case| !case.skipped && !binary.starts_with("@setup-script")) else { return };
        self.count += 1;
        let own = if case.failed && case.before.is_empty() { Outcome::Failed } else { Outcome::Passed };
        let mut attempt = 0;
        let mut add = |times: &Times, outcome| {
            attempt += 1;
            let id = TestId { binary: binary.to_owned(), name: case.name.clone(), attempt };
            let Times { started_unix_ms, took_ms } = *times;
            self.runs.push(TestRun { id, outcome, started_unix_ms, took_ms });
        };
        case.before.iter().for_each(|times| add(times, Outcome::Failed));
        add(&case.main, own);
        case.after.iter().for_each(|times| add(times, Outcome::Failed));
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.try_get_attribute(name).ok().flatten()?;
    Some(found.unescape_value().ok()?.into_owned())
}

fn times(element: &BytesStart<'_>) -> Times {
    let started = attribute(element, "timestamp").and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let took = attribute(element, "time").and_then(|text| text.parse::<f64>().ok());
    let took = took.filter(|seconds| (0.0..1e9).contains(seconds));
    Times {
        started_unix_ms: started.and_then(|at| u64::try_from(at.as_millisecond()).ok()),
        took_ms: took.map(|seconds| (seconds * 1000.0).round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nextest 0.9.143 has written it, without the outputs.
    const FILE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" skipped="0" failures="1" errors="0" uuid="8c3a9dc9" timestamp="2026-11-24T18:29:06.852+00:00" time="0.020">
  <testsuite name="@setup-script:db"><testcase name="db" classname="@setup-script:db" time="0.1"/></testsuite>
  <testsuite name="shop" tests="1" skipped="0" errors="0" failures="0">
    <testcase name="tests::unit" classname="shop" timestamp="2026-11-24T18:29:06.854+00:00" time="0.008"/>
  </testsuite>
  <testsuite name="shop::it" tests="2" skipped="0" errors="0" failures="1">
    <testcase name="a&lt;b" classname="shop::it" timestamp="2026-11-24T19:29:06.852+01:00" time="0.010">
      <failure message="thread &apos;fails&apos;" type="test failure with exit code 101">&lt;testcase name="no"/></failure>
      <rerunFailure timestamp="2026-11-24T18:29:06.864+00:00" time="0.008" type="x">text<system-out><![CDATA[</testcase>]]></system-out></rerunFailure>
      <system-out>out</system-out>
    </testcase>
    <testcase name="flaky" classname="shop::it" timestamp="2026-11-24T18:29:07.000+00:00" time="0.001">
      <flakyFailure timestamp="2026-11-24T18:29:06.900+00:00" time="0.050" type="x"/>
    </testcase>
    <testcase name="not run"><skipped/></testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn every_attempt_is_told_in_its_order() {
        let junit = read(FILE).unwrap();
        let base = 1_795_544_946_000;
        assert_eq!((junit.started_unix_ms, junit.count), (Some(base + 852), 3));
        let told: Vec<_> = junit
            .runs
            .iter()
            .map(|r| (r.id.to_string(), r.outcome, r.started_unix_ms.unwrap() - base, r.took_ms.unwrap()))
            .collect();
        let expected = [
            ("tests::unit in shop", Outcome::Passed, 854, 8),
            ("a<b in shop::it", Outcome::Failed, 852, 10),
            ("a<b in shop::it, attempt 2", Outcome::Failed, 864, 8),
            ("flaky in shop::it", Outcome::Failed, 900, 50),
            ("flaky in shop::it, attempt 2", Outcome::Passed, 1000, 1),
        ];
        assert_eq!(told, expected.map(|(name, outcome, at, took)| (name.to_owned(), outcome, at, took)));
    }

    #[test]
    fn a_run_without_tests_is_told_and_garbage_is_an_error() {
        let junit = read(r#"<testsuites name="nextest-run" timestamp="2026-11-24T18:29:06.852Z"/>"#).unwrap();
        assert_eq!((junit.count, junit.runs.len()), (0, 0));
        assert!(junit.started_unix_ms.is_some());
        read("<testsuites><testcase></x>").unwrap_err();
    }
}
