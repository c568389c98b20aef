//! The report as JUnit XML: the same suites, classes and test names as nextest's file, so that a leak is found at its test.
//!
//! As nextest has it, a test suite is a test binary, and a test case has the binary as its class. A test that failed by
//! itself is a failure here as well, so that whoever reads only this file is not misled. What belongs to no test is in the
//! suite `leakcheck`, which also has one case for the check as a whole: readers reject a file without any.

use std::collections::BTreeMap;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::finding::{Finding, Standing, all};
use super::words::{self, one_line};
use crate::leakcheck::{Outcome, Report, TestId};

/// The suite of what belongs to no test.
const OWN: &str = "leakcheck";

#[derive(Debug, Default)]
struct Case {
    started_unix_ms: Option<u64>,
    took_ms: u64,
    /// Type, message, text.
    failures: Vec<(&'static str, String, String)>,
    /// What does not fail the test.
    remarks: Vec<String>,
}

pub(super) fn text(report: &Report) -> String {
    let mut suites: BTreeMap<&str, BTreeMap<String, Case>> = BTreeMap::new();
    let mut last: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for TestId { binary, name, attempt } in report.tests.iter().map(|t| &t.id) {
        let last = last.entry((binary, name)).or_default();
        *last = (*last).max(*attempt);
    }
    for run in &report.tests {
        let case = suites.entry(&run.id.binary).or_default().entry(run.id.name.clone()).or_default();
        case.started_unix_ms = case.started_unix_ms.or(run.started_unix_ms);
        case.took_ms += run.took_ms.unwrap_or_default();
        // A retry that succeeded makes up for it.
        let is_last = last.get(&(run.id.binary.as_str(), run.id.name.as_str())) == Some(&run.id.attempt);
        if run.outcome == Outcome::Failed && is_last {
            let message = format!("{} failed", one_line(&run.id.to_string()));
            case.failures.push(("test failure", message, "the test itself failed; its runner says why".to_owned()));
        }
    }
    let own = suites.entry(OWN).or_default();
    own.insert("nothing_left_behind".to_owned(), check_itself(report));
    for finding in all(report) {
        let (suite, name) = match finding.test() {
            Some(test) => (test.binary.as_str(), test.name.clone()),
            // Without a pid: whoever follows a case from run to run knows it by its name.
            None => (OWN, format!("{} {}", finding.kind().name(), finding.name())),
        };
        let case = suites.entry(suite).or_default().entry(name).or_default();
        let paragraph = paragraph(finding);
        match finding.standing(report) {
            Standing::Fails => case.failures.push(("leak", finding.sentence(), paragraph)),
            Standing::Warns => case.remarks.push(format!("warning: {}\n{paragraph}", finding.sentence())),
            Standing::Allowed => case.remarks.push(format!("allowed: {}\n{paragraph}", finding.sentence())),
        }
    }
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Into memory: it cannot fail.
    let _ = write(report, &suites, &mut writer);
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// What concerns no single finding.
fn check_itself(report: &Report) -> Case {
    let mut failures = Vec::new();
    if let Some(limit) = report.timed_out_ms {
        let message = format!("the suite did not end within {}", words::in_words(limit));
        failures.push(("timeout", message, report.hanging.iter().map(|l| forbidden(l)).collect::<Vec<_>>().join("\n")));
    }
    if report.latecomers > 0 {
        let message = words::count(report.latecomers, "process", "processes") + " began while others were being ended";
        failures.push(("leak", message, "they have been ended, and nothing else is known about them".to_owned()));
    }
    if !report.confirmed {
        let message = "the kernel does not confirm that nothing is left".to_owned();
        failures.push(("leak", message, "something is alive that could not be ended, or is not shown".to_owned()));
    }
    Case { started_unix_ms: Some(report.started_unix_ms), took_ms: report.checking_ms, failures, remarks: Vec::new() }
}

fn paragraph(finding: Finding<'_>) -> String {
    let mut lines = vec![finding.title()];
    lines.extend(finding.rows().into_iter().map(|(name, text)| format!("  {name:<11}{text}")));
    lines.extend(finding.transcript().iter().map(|line| format!("  | {}", one_line(line))));
    lines.join("\n")
}

fn write(
    report: &Report,
    suites: &BTreeMap<&str, BTreeMap<String, Case>>,
    writer: &mut Writer<Vec<u8>>,
) -> std::io::Result<()> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let cases = || suites.values().flat_map(BTreeMap::values);
    let took = seconds(report.took_ms);
    let mut root = counted("testsuites", "leakcheck", cases());
    root.push_attribute(("timestamp", words::timestamp(report.started_unix_ms).unwrap_or_default().as_str()));
    root.push_attribute(("time", took.as_str()));
    writer.write_event(Event::Start(root))?;
    for (name, cases) in suites {
        let mut suite = counted("testsuite", name, cases.values());
        suite.push_attribute(("disabled", "0"));
        suite.push_attribute(("time", seconds(cases.values().map(|c| c.took_ms).sum()).as_str()));
        writer.write_event(Event::Start(suite))?;
        for (test, case) in cases {
            write_case(name, test, case, writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuites")))
}

fn counted<'a>(element: &'a str, name: &str, cases: impl Iterator<Item = &'a Case>) -> BytesStart<'a> {
    let (mut tests, mut failed) = (0_usize, 0_usize);
    for case in cases {
        tests += 1;
        failed += usize::from(!case.failures.is_empty());
    }
    let mut start = BytesStart::new(element);
    start.push_attribute(("name", one_line(name).as_str()));
    start.push_attribute(("tests", tests.to_string().as_str()));
    start.push_attribute(("failures", failed.to_string().as_str()));
    start.push_attribute(("errors", "0"));
    start
}

fn write_case(suite: &str, test: &str, case: &Case, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
    let mut start = BytesStart::new("testcase");
    start.push_attribute(("name", one_line(test).as_str()));
    start.push_attribute(("classname", one_line(suite).as_str()));
    if let Some(at) = case.started_unix_ms.and_then(words::timestamp) {
        start.push_attribute(("timestamp", at.as_str()));
    }
    start.push_attribute(("time", seconds(case.took_ms).as_str()));
    if case.failures.is_empty() && case.remarks.is_empty() {
        return writer.write_event(Event::Empty(start));
    }
    writer.write_event(Event::Start(start))?;
    for (kind, message, text) in &case.failures {
        let mut failure = BytesStart::new("failure");
        failure.push_attribute(("type", *kind));
        failure.push_attribute(("message", one_line(message).as_str()));
        element(failure, text, writer)?;
    }
    if !case.remarks.is_empty() {
        element(BytesStart::new("system-out"), &case.remarks.join("\n\n"), writer)?;
    }
    writer.write_event(Event::End(BytesEnd::new("testcase")))
}

fn element(start: BytesStart<'_>, text: &str, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
    let end = start.to_end().into_owned();
    writer.write_event(Event::Start(start))?;
    writer.write_event(Event::Text(BytesText::new(&forbidden(text))))?;
    writer.write_event(Event::End(end))
}

/// The text without the characters that XML 1.0 does not allow at all (production 2, Char), and without carriage returns,
/// which every reader turns into line feeds: they are shown escaped, as everywhere.
fn forbidden(text: &str) -> String {
    let bad =
        |c: char| (c < ' ' && c != '\n' && c != '\t') || matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if bad(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests;
