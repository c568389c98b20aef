//! What SARIF 2.1.0 (the OASIS standard) requires of a log, written down as code, and what GitHub requires beyond it.

use std::collections::BTreeSet;

use super::*;
use crate::leakcheck::report::tests::{clean, full};
use crate::leakcheck::{Allowed, Place};

type Checked = Result<(), String>;

fn ensure(holds: bool, what: &str, at: &Value) -> Checked {
    if holds { Ok(()) } else { Err(format!("{what}: {at}")) }
}

fn string<'a>(object: &'a Value, key: &str) -> Result<&'a str, String> {
    object[key].as_str().filter(|s| !s.is_empty()).ok_or_else(|| format!("no `{key}`: {object}"))
}

/// §3.11: a message has text.
fn message(object: &Value) -> Checked {
    string(object, "text").map(drop)
}

/// §3.4: a relative reference has a base, an absolute one has none, and neither has a character that RFC 3986 forbids.
fn artifact_location(at: &Value, bases: &Value) -> Checked {
    let uri = string(at, "uri")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/%".contains(c);
    ensure(uri.chars().all(allowed), "§3.4.3 a character that is not allowed in a URI", at)?;
    match at["uriBaseId"].as_str() {
        Some(base) => {
            ensure(bases[base]["uri"].is_string(), "§3.4.4 a base that is not defined", at)?;
            ensure(!uri.starts_with('/') && !uri.contains("://"), "§3.4.4 an absolute URI with a base", at)?;
            ensure(!uri.split('/').any(|part| part == ".."), "§3.4.3 a relative URI with `..`", at)
        }
        None => ensure(uri.starts_with("file:///"), "§3.4.3 a relative URI without a base", at),
    }
}

fn result(at: &Value, rules: &[Value], bases: &Value) -> Checked {
    message(&at["message"])?;
    let id = string(at, "ruleId")?;
    let rule = at["ruleIndex"].as_u64().and_then(|i| rules.get(usize::try_from(i).ok()?));
    ensure(rule.is_some_and(|r| r["id"] == id), "§3.27.6 ruleIndex and ruleId disagree", at)?;
    ensure(["none", "note", "warning", "error"].contains(&string(at, "level")?), "§3.27.10 level", at)?;
    let locations = at["locations"].as_array().ok_or("no locations")?;
    ensure(!locations.is_empty(), "GitHub: at least one location", at)?;
    for location in locations {
        let physical = &location["physicalLocation"];
        artifact_location(&physical["artifactLocation"], bases)?;
        if let Some(region) = physical.get("region") {
            ensure(region["startLine"].as_u64().is_some_and(|n| n >= 1), "§3.30.5 startLine", region)?;
        }
        for logical in location["logicalLocations"].as_array().into_iter().flatten() {
            string(logical, "fullyQualifiedName")?;
        }
    }
    let prints = at["partialFingerprints"].as_object().ok_or("no partialFingerprints")?;
    ensure(prints.values().all(Value::is_string), "§3.27.17 fingerprints are strings", at)?;
    for suppression in at["suppressions"].as_array().into_iter().flatten() {
        ensure(["inSource", "external"].contains(&string(suppression, "kind")?), "§3.35.2 kind", suppression)?;
        let status = string(suppression, "status")?;
        ensure(["accepted", "underReview", "rejected"].contains(&status), "§3.35.3 status", suppression)?;
    }
    Ok(())
}

fn log(at: &Value) -> Checked {
    ensure(at["version"] == "2.1.0", "§3.13.2 version", at)?;
    ensure(string(at, "$schema")?.ends_with("sarif-2.1.0.json"), "§3.13.3 $schema", at)?;
    for run in at["runs"].as_array().ok_or("§3.13.4 no runs")? {
        let driver = &run["tool"]["driver"];
        string(driver, "name")?;
        let rules = driver["rules"].as_array().ok_or("no rules")?;
        let ids: BTreeSet<_> = rules.iter().map(|r| r["id"].as_str()).collect();
        ensure(ids.len() == rules.len(), "§3.19.23 a rule is listed twice", driver)?;
        for rule in rules {
            string(rule, "id")?;
            for text in ["shortDescription", "fullDescription", "help"] {
                message(&rule[text])?;
            }
        }
        let bases = &run["originalUriBaseIds"];
        for base in bases.as_object().ok_or("no bases")?.values() {
            ensure(string(base, "uri")?.ends_with('/'), "§3.14.14 a base ends with a slash", base)?;
        }
        for invocation in run["invocations"].as_array().ok_or("no invocations")? {
            ensure(invocation["executionSuccessful"].is_boolean(), "§3.20.14 executionSuccessful", invocation)?;
            for time in ["startTimeUtc", "endTimeUtc"] {
                let text = string(invocation, time)?;
                ensure(text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(), "§3.9 time", invocation)?;
            }
            for note in invocation["toolExecutionNotifications"].as_array().into_iter().flatten() {
                message(&note["message"])?;
            }
        }
        let results = run["results"].as_array().ok_or("§3.14.23 no results, although the tool ran")?;
        for each in results {
            result(each, rules, bases)?;
        }
        let prints: BTreeSet<_> = results.iter().map(|r| r["partialFingerprints"].to_string()).collect();
        ensure(prints.len() == results.len(), "two results have the same fingerprint", run)?;
    }
    Ok(())
}

fn parsed(report: &Report) -> Value {
    serde_json::from_str(&super::text(report)).unwrap()
}

fn hostile() -> Report {
    let mut report = full();
    report.dir = "/home/me/a b%c".into();
    let place = |file: &str, line| Some(Place { file: file.into(), line });
    report.leaks[0].place = place("tests/ü #?.rs", 0);
    report.leaks[1].place = place("/elsewhere/x.rs", 7);
    report.leaks[2].place = place("../x.rs", 7);
    report.leaks[2].allowed = Some(Allowed { reason: "it stays".into(), place: place("f", 1).unwrap() });
    report.timed_out_ms = Some(5);
    report
}

#[test]
fn a_log_is_what_the_standard_requires() {
    for report in [clean(), full(), hostile()] {
        log(&parsed(&report)).unwrap();
    }
    let results = parsed(&full())["runs"][0]["results"].clone();
    assert_eq!(results.as_array().map(Vec::len), Some(7));
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"], json!({ "uri": "tests/it/orders.rs", "uriBaseId": "%SRCROOT%" }));
    assert_eq!(place["region"]["startLine"], 42);
    assert_eq!(results[0]["level"], "error");
    assert_eq!(results[6]["level"], "warning");
    let uris: Vec<String> = parsed(&hostile())["runs"][0]["results"].as_array().unwrap()[..2]
        .iter()
        .map(|r| r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(uris, ["tests/%C3%BC%20%23%3F.rs", "file:///elsewhere/x.rs"]);
}

/// The control: the rules above notice what they are for.
#[test]
fn what_the_standard_forbids_is_noticed() {
    let broken = |pointer: &str, value: Value| {
        let mut broken = parsed(&full());
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        log(&broken).expect_err(pointer)
    };
    broken("/version", json!("2.0"));
    broken("/runs/0/tool/driver/name", json!(""));
    broken("/runs/0/results/0/ruleIndex", json!(3));
    broken("/runs/0/results/0/level", json!("fatal"));
    broken("/runs/0/results/0/message", json!({}));
    broken("/runs/0/results/0/locations", json!([]));
    broken("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0));
    broken("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", json!("a b"));
    broken("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uriBaseId", json!("%OTHER%"));
    broken(
        "/runs/0/results/0/partialFingerprints",
        parsed(&full())["runs"][0]["results"][1]["partialFingerprints"].clone(),
    );
    broken("/runs/0/originalUriBaseIds/%SRCROOT%/uri", json!("file:///x"));
}
