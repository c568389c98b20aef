//! E10: a suite that is spread over machines is one report, and a shard that is missing or has shown nothing fails it.
//!
//! The shards are real: one archive of nextest's, and two runs of it in directories that know nothing of each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::running::{Ended, XTASK, checker, have, run};
use crate::cargo;
use crate::scene::fresh;

const MANIFEST: &str = "[package]\nname = \"shop\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";

/// Slices deal the tests out in turns, so the leak is in the second shard.
const TESTS: &str = "\
#[test]
fn a_cart_is_empty() {}

#[test]
fn b_server_is_forgotten() {
    use std::process::{Command, Stdio};
    let mut sleeper = Command::new(\"sleep\");
    sleeper.arg(\"50\").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sleeper.spawn().unwrap();
}

#[test]
fn c_order_is_kept() {}
";

/// The suite, archived; it has never heard of foster. Built where it stays, so that the next run finds it built.
fn archive() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shards");
    sources(&home);
    let archive = home.join("shop.tar.zst");
    let mut command = cargo::command();
    command.args(["nextest", "archive", "--archive-file"]).arg(&archive).current_dir(&home);
    command.env("CARGO_TARGET_DIR", home.join("target"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    archive
}

fn sources(dir: &Path) {
    fs::create_dir_all(dir.join("tests")).unwrap();
    fs::create_dir_all(dir.join("src")).unwrap();
    for (name, text) in [("Cargo.toml", MANIFEST), ("src/lib.rs", ""), ("tests/it.rs", TESTS)] {
        // What has not changed is not written, or cargo would build it again.
        if fs::read_to_string(dir.join(name)).ok().as_deref() != Some(text) {
            fs::write(dir.join(name), text).unwrap();
        }
    }
}

/// One shard, on a machine of its own: another checkout, and only the archive in common.
fn shard(archive: &Path, machine: &Path, index: u32, reports: &Path) -> Ended {
    sources(machine);
    let partition = format!("slice:{index}/2");
    let mut command = checker(&["--grace", "100", "--report-dir"]);
    command
        .arg(reports.join(format!("artifact-{index}")))
        .args(["--", "nextest", "run", "--archive-file"])
        .arg(archive);
    command.arg("--workspace-remap").arg(machine).args(["--partition", &partition]).current_dir(machine);
    run(command)
}

/// Where there is no cargo.
fn merge(args: &[&str], dir: &Path) -> Ended {
    let mut command = fresh(&*XTASK);
    command.args(["leakcheck", "merge"]).args(args).current_dir(dir).env_remove("CARGO").env("PATH", "");
    run(command)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[track_caller]
fn assert_fails(ended: &Ended, status: i32, complaint: &str) {
    assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
    assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
}

#[test]
fn e10_two_shards_of_an_archive_are_one_report() {
    if !have("cargo-nextest") {
        return;
    }
    let archive = archive();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let clean = shard(&archive, &at("one"), 1, &at("reports"));
    assert_eq!(clean.status.code(), Some(0), "{}", clean.stderr);
    let leaky = shard(&archive, &at("two"), 2, &at("reports"));
    assert_eq!(leaky.status.code(), Some(23), "{}", leaky.stderr);
    let second = at("reports/artifact-2/leakcheck-2-of-2.json");
    assert!(at("reports/artifact-1/leakcheck-1-of-2.json").is_file() && second.is_file(), "each has a name of its own");

    let merged = merge(&["reports", "--shards", "2", "--report-dir", "merged"], place.path());
    assert_fails(&merged, 23, "b_server_is_forgotten in shop::it");
    let report = read(&at("merged/leakcheck.json"));
    assert_eq!(report["leaks"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["leaks"][0]["test"]["name"], "b_server_is_forgotten");
    assert_eq!(report["shards"].as_array().unwrap().len(), 2);
    assert!(report["suite"].as_str().unwrap().contains("--partition slice:*/2"), "{}", report["suite"]);
    for name in ["junit.xml", "leakcheck.sarif", "leakcheck.html", "summary.md"] {
        assert!(at("merged").join(name).is_file(), "{name}");
    }

    // A shard that is missing, and one that is counted on.
    let alone = merge(&["reports/artifact-1", "--report-dir", "x"], place.path());
    assert_fails(&alone, 24, "leakcheck: not complete: shard 2/2 is missing");
    let more = merge(&["reports", "--shards", "3", "--report-dir", "x"], place.path());
    assert_fails(&more, 24, "`--shards 3` is said, and the reports are of 2 shards");
    // The same one twice.
    fs::copy(&second, at("reports/again.json")).unwrap();
    assert_fails(&merge(&["reports", "--report-dir", "x"], place.path()), 24, "shard 2/2 is there twice");
    fs::remove_file(at("reports/again.json")).unwrap();

    let change = |key: &str, value: Value| {
        let mut report = read(&second);
        report[key] = value;
        fs::write(&second, report.to_string()).unwrap();
    };
    // One that has shown nothing: no test, and so no leak.
    let original = read(&second);
    change("tests_run", 0.into());
    change("leaks", Value::Array(Vec::new()));
    let empty = merge(&["reports", "--report-dir", "x"], place.path());
    assert_fails(&empty, 4, "leakcheck: shard 2/2 ran no test");
    fs::write(&second, original.to_string()).unwrap();
    change("foster", "0.0.9".into());
    assert_fails(
        &merge(&["reports", "--report-dir", "x"], place.path()),
        24,
        "version mismatch: foster 0.1.0 has written",
    );
    fs::write(&second, original.to_string()).unwrap();
    change("schema", 99.into());
    assert_fails(&merge(&["reports", "--report-dir", "x"], place.path()), 24, "has version 99 of the format");
    fs::write(&second, original.to_string()).unwrap();
    change("suite", "cargo nextest run -p other --partition slice:2/2".into());
    assert_fails(&merge(&["reports", "--report-dir", "x"], place.path()), 24, "different suites: ");
    // The control: as it was, it is merged as before.
    fs::write(&second, original.to_string()).unwrap();
    assert_fails(&merge(&["reports", "--report-dir", "x"], place.path()), 23, "b_server_is_forgotten in shop::it");
}

/// Bazel says in the environment which shard it is, from 0.
#[test]
fn e10_bazel_says_which_shard_it_is() {
    let place = tempfile::tempdir().unwrap();
    for index in 0..2 {
        let mut command = checker(&["--report-dir"]);
        command.arg(place.path().join("reports")).args(["exec", "--", "true"]).current_dir(place.path());
        let ended = run(command_with(command, index));
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    let merged = merge(&["reports", "--report-dir", "merged"], place.path());
    assert_eq!(merged.status.code(), Some(0), "{}", merged.stderr);
    assert_eq!(read(&place.path().join("merged/leakcheck.json"))["shards"].as_array().unwrap().len(), 2);
}

fn command_with(mut command: Command, index: u32) -> Command {
    command.env("TEST_SHARD_INDEX", index.to_string()).env("TEST_TOTAL_SHARDS", "2");
    command
}

#[test]
fn e10_what_cannot_be_merged_is_said() {
    let place = tempfile::tempdir().unwrap();
    assert_fails(&merge(&[], place.path()), 2, "`merge` needs the reports, or a directory that holds them");
    assert_fails(&merge(&["."], place.path()), 24, "leakcheck: could not merge: there is no report in .");
    assert_fails(&merge(&["none.json"], place.path()), 24, "failed to read `none.json`");
}
