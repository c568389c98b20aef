//! The report as SARIF 2.1.0, for services that show alerts at lines of source, GitHub's code scanning among them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::finding::{Finding, Standing, all, fingerprints};
use super::words::{self, below};
use crate::leakcheck::{Kind, Report};

/// What a path without a line is about: a service takes no result without a place.
const NOWHERE: &str = "Cargo.toml";

pub(super) fn text(report: &Report) -> String {
    let findings = all(report);
    let results: Vec<Value> =
        findings.iter().zip(fingerprints(&findings)).map(|(f, print)| result(*f, &print, report)).collect();
    let invocation = json!({
        "commandLine": report.suite,
        "executionSuccessful": report.ending.is_some() && report.confirmed,
        "exitCode": report.exit_code(),
        "startTimeUtc": words::timestamp(report.started_unix_ms),
        "endTimeUtc": words::timestamp(report.started_unix_ms + report.took_ms + report.checking_ms),
        "toolExecutionNotifications": notifications(report),
    });
    let root = uri(&report.dir);
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "foster leakcheck",
                "version": report.foster,
                "semanticVersion": report.foster,
                "rules": Kind::ALL.map(|kind| rule(kind, report)),
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "%SRCROOT%": { "uri": format!("file://{}/", root.trim_end_matches('/')) } },
            "invocations": [invocation],
            "results": results,
        }],
    });
    // Its keys are all strings: it cannot fail.
    serde_json::to_string_pretty(&log).unwrap_or_default() + "\n"
}

fn rule(kind: Kind, report: &Report) -> Value {
    let (name, what, help) = match kind {
        Kind::Process => (
            "LeakedProcess",
            "A process was alive after its test.",
            "Wait for it in its test, or start it as a foster::Fixture, which ends with the test.",
        ),
        Kind::Daemon => (
            "LeakedDaemon",
            "A well-known daemon was started by the suite and stays for the next run.",
            "Stop it at the end of the suite, start it before, or keep the tool from starting it.",
        ),
        Kind::Late => (
            "LateFixture",
            "A fixture was not stopped by its test, but by a hook or by foster's guardian.",
            "Call stop or finish, or let the fixture go out of scope at the end of the test.",
        ),
        Kind::File => (
            "LeftFile",
            "A file was left in the temporary directory.",
            "Remove it at the end of its test, or create it in a directory that removes itself.",
        ),
        Kind::Socket => (
            "LeftSocket",
            "A socket was left on disk.",
            "Remove it at the end of its test, or create it in a directory that removes itself.",
        ),
    };
    let level = if report.fails.contains(&kind) { "error" } else { "warning" };
    json!({
        "id": rule_id(kind),
        "name": name,
        "shortDescription": { "text": what },
        "fullDescription": { "text": what },
        "help": { "text": help },
        "defaultConfiguration": { "level": level },
    })
}

fn rule_id(kind: Kind) -> String {
    format!("leakcheck/{}", kind.name())
}

fn result(finding: Finding<'_>, fingerprint: &str, report: &Report) -> Value {
    let mut text = format!("{}.\n", finding.sentence());
    for (name, value) in finding.rows() {
        let _ = writeln!(text, "{name}: {value}");
    }
    let mut location = json!({ "physicalLocation": physical(finding, report) });
    if let Some(test) = finding.test() {
        let whole = format!("{}::{}", test.binary, test.name);
        location["logicalLocations"] = json!([{ "fullyQualifiedName": whole, "name": test.name, "kind": "function" }]);
    }
    let mut result = json!({
        "ruleId": rule_id(finding.kind()),
        "ruleIndex": Kind::ALL.iter().position(|k| *k == finding.kind()),
        "level": if finding.standing(report) == Standing::Fails { "error" } else { "warning" },
        "message": { "text": text },
        "locations": [location],
        "partialFingerprints": { "fosterLeak/v1": fingerprint },
    });
    if let Some(allowed) = finding.allowed() {
        result["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": allowed.reason }]);
    }
    result
}

fn physical(finding: Finding<'_>, report: &Report) -> Value {
    if let Some(place) = finding.place() {
        return json!({
            "artifactLocation": artifact(&place.file, report),
            // Lines count from 1.
            "region": { "startLine": place.line.max(1) },
        });
    }
    let manifest = match finding {
        Finding::Leak(leak) => leak.manifest_dir.as_ref().map(|dir| dir.join(NOWHERE)),
        _ => None,
    };
    json!({ "artifactLocation": artifact(manifest.as_deref().unwrap_or(Path::new(NOWHERE)), report) })
}

fn artifact(file: &Path, report: &Report) -> Value {
    match below(&report.dir, &report.dir, file) {
        Some(relative) => json!({ "uri": uri(&relative), "uriBaseId": "%SRCROOT%" }),
        None => json!({ "uri": format!("file://{}", uri(&report.dir.join(file))) }),
    }
}

/// The path with everything escaped that RFC 3986 does not allow in one.
fn uri(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// What is the matter with the run itself or with its policy.
fn notifications(report: &Report) -> Vec<Value> {
    let note = |level: &str, text: String| json!({ "level": level, "message": { "text": text } });
    let mut notes = Vec::new();
    if let Some(limit) = report.timed_out_ms {
        notes.push(note("error", format!("The suite did not end within {}.", words::in_words(limit))));
    }
    if report.latecomers > 0 || !report.confirmed {
        notes.push(note("error", "More was alive than the results show.".to_owned()));
    }
    notes.extend(report.notes.iter().map(|n| note("warning", format!("{}: {}", n.place, n.what))));
    notes
}

#[cfg(test)]
mod tests;
