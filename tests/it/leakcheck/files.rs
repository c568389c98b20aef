//! The files of a report, colors, and what GitHub Actions is told: through the command line, as a user runs it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::running::{Ended, Running, checked, checker, run};

const FILES: [&str; 5] = ["junit.xml", "leakcheck.html", "leakcheck.json", "leakcheck.sarif", "summary.md"];

/// A suite that leaves a family behind, checked.
fn leaky(args: &[&str], change: impl FnOnce(&mut Command)) -> (Ended, String) {
    let mut command = checked(&[&["--grace", "50"], args].concat(), "leaves_a_family");
    change(&mut command);
    let mut running = Running::start(command, "setsid", "");
    let family = running.family();
    let stdout = running.stdout();
    let mut ended = running.end();
    ended.scene.assert_gone(&family, "a leaky suite");
    let stdout = std::io::read_to_string(fs::File::from(stdout)).unwrap();
    (ended, stdout)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_file_is_written_where_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let reports = dir.path().join("a/b");
    let (ended, stdout) = leaky(&["--report-dir", reports.to_str().unwrap()], |_| {});
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    assert_eq!(names(&reports), FILES);
    let line = format!("leakcheck: the report is in {}: leakcheck.html, leakcheck.json, ", reports.display());
    assert!(ended.stderr.contains(&line), "{}", ended.stderr);
    assert!(!stdout.contains("::error"), "nobody here is GitHub: {stdout}");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(reports.join("leakcheck.json")).unwrap()).unwrap();
    assert!(!json["leaks"].as_array().unwrap().is_empty(), "{json}");
    let page = fs::read_to_string(reports.join("leakcheck.html")).unwrap();
    let pid = json["leaks"][0]["pid"].to_string();
    assert!(page.contains(&format!("(pid {pid})")) && ended.stderr.contains(&pid), "{}", ended.stderr);
}

#[test]
fn a_shard_has_a_file_of_its_own_and_a_clean_run_has_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let ended = run(checker(&["--report-dir", dir, "--shard", "2/4", "exec", "--", "true"]));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(names(Path::new(dir)).contains(&"leakcheck-2-of-4.json".to_owned()));
}

#[test]
fn a_report_that_was_asked_for_and_cannot_be_written_is_an_error_but_never_hides_another() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let below_a_file = dir.path().join("file/reports");
    let args = ["--report-dir", below_a_file.to_str().unwrap(), "exec", "--"];
    for (script, status) in [("exit 0", 24), ("exit 7", 7)] {
        let ended = run(checker(&[&args[..], &["sh", "-c", script]].concat()));
        assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
        let line = format!("leakcheck: failed to make the directory `{}`: ", below_a_file.display());
        assert!(ended.stderr.contains(&line), "{}", ended.stderr);
    }
    let (ended, _) = leaky(&args[..2], |_| {});
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
}

#[test]
fn github_actions_gets_annotations_and_a_job_summary() {
    let dir = tempfile::tempdir().unwrap();
    let summary = dir.path().join("summary");
    fs::write(&summary, "of another command\n").unwrap();
    let (ended, stdout) = leaky(&["--no-report"], |command| {
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    });
    assert_eq!(ended.status.code(), Some(23), "{}", ended.stderr);
    let annotations: Vec<&str> = stdout.lines().filter(|line| line.starts_with("::")).collect();
    assert!(!annotations.is_empty() && annotations.iter().all(|a| a.starts_with("::error ")), "{stdout}");
    assert!(annotations[0].contains("was left running.%0Afix: "), "{stdout}");
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("of another command\n## Leak check: "), "{text}");
    assert_eq!(names(dir.path()), ["summary"], "--no-report writes no other file");
}

#[test]
fn color_is_for_those_who_want_it() {
    let printed = |name: &str| {
        let (ended, _) = leaky(&[], |command| {
            command.env(name, "1");
        });
        ended.stderr
    };
    assert!(!printed("NO_COLOR").contains('\u{1b}'));
    assert!(!printed("CLICOLOR").contains('\u{1b}'), "standard error is a file");
    assert!(printed("CLICOLOR_FORCE").contains("\u{1b}["));
}
