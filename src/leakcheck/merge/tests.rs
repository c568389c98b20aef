//! Reports that belong together, and reports that do not.

use std::fs;
use std::path::Path;

use super::*;
use crate::leakcheck::facts::{AllowanceUse, Ending, Kind, Place};
use crate::leakcheck::leak::tests::{sample, stranger};
use crate::leakcheck::report::tests::{clean, full};

/// A shard that succeeded.
fn shard(index: u32, count: u32) -> Report {
    Report {
        suite: format!("cargo nextest run --partition hash:{index}/{count}"),
        shard: Some(Shard { index, count }),
        tests_run: Some(2),
        ..clean()
    }
}

fn write(dir: &Path, name: &str, report: &Report) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serde_json::to_string(report).unwrap()).unwrap();
}

fn merged_of(reports: &[Report], expected: Option<u32>) -> Result<Report, String> {
    let dir = tempfile::tempdir().unwrap();
    for (number, report) in reports.iter().enumerate() {
        write(dir.path(), &format!("artifact-{number}/leakcheck.json"), report);
    }
    let found = find::reports(&[dir.path().to_owned()]);
    let merged = found.and_then(|found| merge(found, expected));
    merged.map_err(|e| e.replace(&dir.path().display().to_string(), "DIR"))
}

#[test]
fn shards_make_one_report_in_any_order() {
    let mut second = Report { shard: Some(Shard { index: 2, count: 2 }), suite: shard(2, 2).suite, ..full() };
    second.notes.clear();
    let first = Report { leaks: vec![sample(9)], adopted: 4, started_unix_ms: 1_790_000_005_000, ..shard(1, 2) };
    let one = merged_of(&[first.clone(), second.clone()], None).unwrap();
    assert_eq!(merged_of(&[second, first], Some(2)).unwrap(), one);
    assert_eq!(one.suite, "cargo nextest run --partition hash:*/2");
    assert_eq!((one.shard, one.shards.len()), (None, 2));
    assert_eq!((one.tests_run, one.tests.len(), one.leaks.len(), one.adopted), (Some(5), 3, 4, 7));
    assert_eq!((one.helpers.len(), one.leftovers.len()), (3, 2));
    assert_eq!((one.started_unix_ms, one.took_ms), (1_790_000_000_000, 17_000));
    assert_eq!(one.exit_code(), 23);
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), one);
}

#[test]
fn the_status_is_the_worst() {
    let failed = |code| Report { ending: Some(Ending { code: Some(code), signal: None }), ..shard(2, 3) };
    let code = |second: Report| merged_of(&[shard(1, 3), second, shard(3, 3)], None).unwrap().exit_code();
    assert_eq!(code(shard(2, 3)), 0);
    assert_eq!(code(failed(101)), 101);
    assert_eq!(code(Report { leaks: vec![stranger(1)], ..shard(2, 3) }), 23);
    assert_eq!(code(Report { leaks: vec![stranger(1)], ..failed(101) }), 101, "a leak does not hide the failure");
    assert_eq!(code(Report { ending: Some(Ending { code: None, signal: Some(9) }), ..shard(2, 3) }), 137);
    assert_eq!(code(Report { ending: None, ..shard(2, 3) }), 255);
    assert_eq!(code(Report { timed_out_ms: Some(1), ..failed(137) }), 124);
    assert_eq!(code(Report { interrupted: Some(15), ..shard(2, 3) }), 143);
    assert_eq!(code(Report { confirmed: false, ..shard(2, 3) }), 23);
    assert_eq!(code(Report { fails: vec![Kind::Late], leaks: vec![stranger(1)], ..shard(2, 3) }), 23);
}

#[test]
fn a_missing_shard_fails_the_merge_and_the_others_are_shown() {
    let one = merged_of(&[Report { leaks: vec![sample(9)], ..shard(1, 4) }, shard(3, 4)], None).unwrap();
    assert_eq!(one.problems, ["shards 2/4, 4/4 are missing: they did not run, or their reports were not kept"]);
    assert_eq!((one.leaks.len(), one.exit_code()), (1, 24));
    let last = merged_of(&[shard(1, 2)], None).unwrap();
    assert_eq!(last.problems, ["shard 2/2 is missing: it did not run, or its report was not kept"]);
    let far = merged_of(&[shard(1, 4_000_000_000)], None).unwrap();
    assert!(far.problems[0].contains("11/4000000000, … are missing"), "{:?}", far.problems);
    // The control.
    let all = merged_of(&[shard(1, 2), shard(2, 2)], None).unwrap();
    assert_eq!((all.problems.len(), all.exit_code()), (0, 0));
}

#[test]
fn an_empty_shard_fails_the_merge_unless_something_is_worse() {
    let empty = |index| Report { tests_run: Some(0), ..shard(index, 3) };
    let one = merged_of(&[shard(1, 3), empty(2), shard(3, 3)], None).unwrap();
    assert_eq!(one.exit_code(), 4);
    assert!(empty_shards(&one).starts_with("shard 2/3 ran no test, "), "{}", empty_shards(&one));
    let two = merged_of(&[shard(1, 3), empty(2), empty(3)], None).unwrap();
    assert!(empty_shards(&two).starts_with("shards 2/3, 3/3 ran no test, "), "{}", empty_shards(&two));
    let leaky = Report { leaks: vec![stranger(1)], ..shard(1, 3) };
    assert_eq!(merged_of(&[leaky, empty(2), shard(3, 3)], None).unwrap().exit_code(), 23);
    // How many ran is not known everywhere, and then nothing can be said about it.
    let unknown = merged_of(&[Report { tests_run: None, ..shard(1, 2) }, shard(2, 2)], None).unwrap();
    assert_eq!((unknown.tests_run, unknown.exit_code()), (None, 0));
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let other = |suite: &str| Report { suite: suite.into(), ..shard(2, 2) };
    for (second, complaint) in [
        (shard(1, 2), "shard 1/2 is there twice: DIR/artifact-0/leakcheck.json and DIR/artifact-1/leakcheck.json"),
        (
            shard(2, 3),
            "DIR/artifact-0/leakcheck.json is shard 1/2, and DIR/artifact-1/leakcheck.json is shard 2/3: the suite was not \
             divided once",
        ),
        (
            Report { foster: "0.0.9".into(), ..shard(2, 2) },
            concat!(
                "version mismatch: foster ",
                env!("CARGO_PKG_VERSION"),
                " has written DIR/artifact-0/leakcheck.json, and foster 0.0.9 has written DIR/artifact-1/leakcheck.json; \
                 run all shards with one"
            ),
        ),
        (
            other("cargo nextest run -p x --partition hash:2/2"),
            "different suites: DIR/artifact-0/leakcheck.json is of `cargo nextest run --partition hash:1/2`, and \
             DIR/artifact-1/leakcheck.json is of `cargo nextest run -p x --partition hash:2/2`",
        ),
        (
            Report { shard: None, ..shard(2, 2) },
            "DIR/artifact-1/leakcheck.json does not say which shard it is; run the shards with nextest's \
             `--partition hash:1/2`, or say `leakcheck --shard 1/2`",
        ),
    ] {
        assert_eq!(merged_of(&[shard(1, 2), second], None).unwrap_err(), complaint);
    }
    let wrong = merged_of(&[shard(1, 2), shard(2, 2)], Some(3)).unwrap_err();
    assert_eq!(wrong, "`--shards 3` is said, and the reports are of 2 shards");
}

#[test]
fn what_is_no_report_is_said_where_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let found = |from: &[&str]| {
        let from: Vec<_> = from.iter().map(|name| at(name)).collect();
        let found = find::reports(&from).map(|found| found.len());
        found.map_err(|e| e.replace(&format!("{}/", dir.path().display()), ""))
    };
    fs::create_dir(at("d")).unwrap();
    assert_eq!(found(&["d"]), Err("there is no report in d".into()));
    write(&at("d"), "a.json", &shard(1, 2));
    fs::write(at("d/other.json"), "{\"some\": \"thing\"}").unwrap();
    fs::write(at("d/junit.xml"), "<x").unwrap();
    write(&at("d"), "merged.json", &Report { shards: vec![Shard { index: 1, count: 2 }], ..clean() });
    assert_eq!(found(&["d"]), Ok(1), "other files, and an earlier merge, are nobody's mistake");
    assert_eq!(found(&["d", "d/a.json"]), Ok(1), "named twice");
    std::os::unix::fs::symlink("/dev/null", at("d/device.json")).unwrap();
    assert_eq!(found(&["d"]), Ok(1), "what may have no end is not read");
    let other = found(&["d/other.json"]).unwrap_err();
    assert!(other.starts_with("`d/other.json` is no report of foster's leak check: "), "{other}");
    assert_eq!(found(&["d/merged.json"]), Err("`d/merged.json` is the result of a merge itself; leave it out".into()));
    let missing = found(&["none.json"]).unwrap_err();
    assert!(missing.starts_with("failed to read `none.json`: No such file"), "{missing}");
    let text = serde_json::to_string(&shard(2, 2)).unwrap();
    fs::write(at("d/b.json"), &text[..text.len() / 2]).unwrap();
    let cut = found(&["d"]).unwrap_err();
    assert!(cut.contains("it is no JSON, or not all of it: EOF"), "a report that is cut is never left out: {cut}");
    fs::write(at("d/b.json"), text.replace("\"schema\":1", "\"schema\":2").replace("\"leaks\"", "\"findings\""))
        .unwrap();
    let newer = found(&["d"]).unwrap_err();
    assert!(newer.starts_with("`d/b.json` has version 2 of the format"), "{newer}");
}

#[test]
fn an_allowance_that_no_shard_needed_is_noted() {
    let uses = |counts: [u32; 2]| {
        let of = |(line, matched)| AllowanceUse {
            place: Place { file: "p.toml".into(), line },
            what: format!("name `{line}`"),
            matched,
        };
        [(1, counts[0]), (2, counts[1])].map(of).to_vec()
    };
    let with = |index, counts| Report { allowances: uses(counts), ..shard(index, 2) };
    let one = merged_of(&[with(1, [0, 0]), with(2, [3, 0])], None).unwrap();
    let [note] = &one.notes[..] else { panic!("{:?}", one.notes) };
    assert_eq!((note.place.line, note.what.contains("matched nothing")), (2, true), "{note:?}");
    // Where one shard cannot say, or is missing, nobody can.
    assert_eq!(merged_of(&[with(1, [0, 0]), shard(2, 2)], None).unwrap().notes, []);
    assert_eq!(merged_of(&[with(1, [0, 0])], None).unwrap().notes, []);
}
