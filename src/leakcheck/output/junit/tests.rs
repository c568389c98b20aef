//! The file is read back as nextest's and Jenkins' readers read theirs.

use std::collections::BTreeMap;

use quick_xml::Reader;

use super::*;
use crate::leakcheck::report::tests::{clean, full};
use crate::leakcheck::{Kind, TestRun};

/// A test case as a reader sees it.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Type and message.
    failures: Vec<(String, String)>,
    text: String,
}

/// Suite and test, and what is counted at each suite.
type Document = (BTreeMap<(String, String), Read>, BTreeMap<String, (usize, usize)>);

/// Checks what the schema of Jenkins' xUnit plugin requires as it goes.
fn read(text: &str) -> Document {
    let mut reader = Reader::from_str(text);
    let (mut cases, mut suites) = (BTreeMap::new(), BTreeMap::new());
    let mut path: Vec<String> = Vec::new();
    let mut at = (String::new(), String::new());
    loop {
        let event = reader.read_event().unwrap();
        let (Event::Start(start) | Event::Empty(start)) = &event else {
            match event {
                Event::Eof => break,
                Event::End(_) => drop(path.pop()),
                Event::Text(text) if matches!(path.last().map(String::as_str), Some("failure" | "system-out")) => {
                    let case: &mut Read = cases.get_mut(&at).unwrap();
                    case.text.push_str(&text.decode().unwrap());
                }
                Event::GeneralRef(name) => {
                    let case: &mut Read = cases.get_mut(&at).unwrap();
                    let name = name.decode().unwrap().into_owned();
                    case.text.push_str(quick_xml::escape::resolve_predefined_entity(&name).unwrap());
                }
                _ => {}
            }
            continue;
        };
        let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
        let attributes: BTreeMap<String, String> = start
            .attributes()
            .map(|a| a.unwrap())
            .map(|a| (String::from_utf8(a.key.as_ref().to_vec()).unwrap(), a.unescape_value().unwrap().into_owned()))
            .collect();
        let value = |key: &str| attributes.get(key).unwrap_or_else(|| panic!("{name} has no {key}")).clone();
        let number = |key: &str| value(key).parse::<usize>().unwrap();
        match (name.as_str(), path.last().map(String::as_str)) {
            ("testsuites", None) => drop((value("name"), number("tests"), number("errors"), number("failures"))),
            ("testsuite", Some("testsuites")) => {
                at.0 = value("name");
                value("time").parse::<f64>().unwrap();
                assert_eq!(suites.insert(value("name"), (number("tests"), number("failures"))), None, "a suite twice");
            }
            ("testcase", Some("testsuite")) => {
                at.1 = value("name");
                assert_eq!(value("classname"), at.0, "nextest's class is the test binary");
                value("time").parse::<f64>().unwrap();
                assert_eq!(cases.insert(at.clone(), Read::default()), None, "a case twice: {at:?}");
            }
            ("failure", Some("testcase")) => {
                cases.get_mut(&at).unwrap().failures.push((value("type"), value("message")))
            }
            ("system-out", Some("testcase")) => {}
            other => panic!("{other:?} is in no schema"),
        }
        if matches!(event, Event::Start(_)) {
            path.push(name);
        }
    }
    (cases, suites)
}

fn key(suite: &str, test: &str) -> (String, String) {
    (suite.to_owned(), test.to_owned())
}

#[test]
fn a_leak_is_a_failure_of_its_test() {
    let (cases, suites) = read(&text(&full()));
    assert_eq!(suites, BTreeMap::from([("shop::it".into(), (3, 2)), ("leakcheck".into(), (3, 1))]));
    let kept = &cases[&key("shop::it", "orders::are_kept")];
    let message = "orders::are_kept in shop::it, attempt 2 left `server --port 0` (pid 4711) running";
    assert_eq!(kept.failures, [("leak".to_owned(), message.to_owned())]);
    assert!(kept.text.contains("  started by it-77aa (pid 40) < cargo-nextest (pid 39)\n"), "{}", kept.text);
    assert!(kept.text.contains("warning: orders::are_kept in shop::it left the file `out.log`"), "{}", kept.text);
    let lost = &cases[&key("shop::it", "orders::are_lost")];
    assert_eq!(lost.failures[0].0, "test failure", "a leak check never hides a failure: {lost:?}");
    assert!(lost.text.contains("<script>alert(1)</script> & \"quotes\""), "{}", lost.text);
    assert_eq!(cases[&key("leakcheck", "process server")].failures[0].0, "leak");
    assert_eq!(cases[&key("leakcheck", "nothing_left_behind")], Read::default());
}

#[test]
fn a_report_about_nothing_has_a_case_and_one_that_timed_out_fails_it() {
    let (cases, suites) = read(&text(&clean()));
    assert_eq!((cases.len(), suites["leakcheck"]), (1, (1, 0)));
    let report = Report { timed_out_ms: Some(5000), hanging: vec!["a\u{1b}b".into()], confirmed: false, ..clean() };
    let (cases, _) = read(&text(&report));
    let check = &cases[&key("leakcheck", "nothing_left_behind")];
    let kinds: Vec<_> = check.failures.iter().map(|f| f.0.as_str()).collect();
    assert_eq!(kinds, ["timeout", "leak"]);
    assert!(check.text.starts_with("a\\u{1b}b"), "{}", check.text);
}

#[test]
fn a_test_that_succeeded_in_the_end_is_no_failure_and_is_listed_once() {
    let mut report = full();
    report.leaks.clear();
    let retry = TestRun {
        id: TestId { attempt: 2, ..report.tests[1].id.clone() },
        outcome: Outcome::Passed,
        ..report.tests[1].clone()
    };
    report.tests.push(retry);
    let (cases, suites) = read(&text(&report));
    assert_eq!(suites["shop::it"], (3, 0));
    assert!(cases[&key("shop::it", "orders::are_lost")].failures.is_empty());
}

#[test]
fn what_xml_forbids_is_shown_escaped() {
    let mut report = full();
    let hostile = "]]>\u{0}\u{1b}[31m\u{ffff}\u{85}\r\n<x a=\"'\">&amp;";
    report.leaks[0].command = hostile.into();
    report.leaks[0].test.as_mut().unwrap().name = hostile.into();
    report.leaks[0].transcript = vec![hostile.into()];
    report.fails = Kind::ALL.to_vec();
    let text = text(&report);
    let plain = |c: char| c == '\n' || (c >= ' ' && !('\u{7f}'..='\u{9f}').contains(&c) && c != '\u{ffff}');
    assert!(text.chars().all(plain), "{text:?}");
    let (cases, _) = read(&text);
    let name = "]]>\\0\\u{1b}[31m\\u{ffff}\\u{85}\\r\\n<x a=\"'\">&amp;";
    let case = cases.get(&key("shop::it", name)).unwrap_or_else(|| panic!("{:?}", cases.keys()));
    assert!(case.text.contains(&format!("  | {name}")), "{}", case.text);
    assert_eq!(forbidden("a\tb\nc\r\u{c}"), "a\tb\nc\\r\\u{c}");
}
