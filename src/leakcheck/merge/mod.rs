//! `leakcheck merge`: one report of the shards of a suite, and a failure where a shard is missing or has shown nothing.
//!
//! A shard that never ran, or ran no test, looks like a clean one to whoever only looks at what is there.

mod combine;
mod find;

use std::process::ExitCode;

use super::arguments::Merge;
use super::facts::Shard;
use super::options::Files;
use super::{COULD_NOT_CHECK, Options, Report, output};
use crate::sys::supervise::say_all;

/// Where the merged report goes unless said otherwise.
const REPORT_DIR: &str = "target/leakcheck";

pub(super) fn run(what: &Merge) -> ExitCode {
    let files = Files::In(what.report_dir.clone().unwrap_or_else(|| REPORT_DIR.into()));
    let merged = find::reports(&what.from).and_then(|found| merge(found, what.shards));
    let report = match merged {
        Ok(report) => report,
        Err(complaints) => {
            say_all(&format!("leakcheck: could not merge: {complaints}\n"));
            return COULD_NOT_CHECK.into();
        }
    };
    say_all(&output::for_console(&report));
    for problem in &report.problems {
        say_all(&format!("leakcheck: not complete: {problem}\n"));
    }
    let empty = empty_shards(&report);
    if !empty.is_empty() {
        say_all(&format!("leakcheck: {empty}\n"));
    }
    let options = Options { files, ..Options::command("leakcheck", ["merge"]) };
    match output::write(&report, &options) {
        Ok(written) => say_all(&output::whereabouts(&report, &written)),
        Err(e) => {
            say_all(&format!("leakcheck: {e}\n"));
            if report.exit_code() == 0 {
                return COULD_NOT_CHECK.into();
            }
        }
    }
    report.exit_code().into()
}

/// What to say about shards that ran no test; nothing if there are none.
fn empty_shards(report: &Report) -> String {
    let empty: Vec<String> = report.empty_shards.iter().map(Shard::to_string).collect();
    match &empty[..] {
        [] => String::new(),
        [one] => format!("shard {one} ran no test, so it has shown nothing; use fewer shards, or look at its filter"),
        more => format!(
            "shards {} ran no test, so they have shown nothing; use fewer shards, or look at their filters",
            more.join(", ")
        ),
    }
}

/// One report. The error is what makes them no shards of one suite, in one line or several.
///
/// That some are missing is a problem of the merged report, which shows what the others have found.
fn merge(mut found: Vec<find::Found>, expected: Option<u32>) -> Result<Report, String> {
    found.sort_by(|a, b| (a.report.shard, &a.path).cmp(&(b.report.shard, &b.path)));
    let shards = shards(&found)?;
    let first = &found[0];
    for other in &found[1..] {
        if other.report.foster != first.report.foster {
            return Err(format!(
                "version mismatch: foster {} has written {}, and foster {} has written {}; run all shards with one",
                first.report.foster,
                first.path.display(),
                other.report.foster,
                other.path.display()
            ));
        }
    }
    let suite = one_suite(&found, &shards)?;
    let problems = missing(&shards, expected)?;
    let reports = found.into_iter().map(|one| one.report).collect();
    Ok(combine::all(reports, shards, suite, problems))
}

/// The shards, sorted like the reports; each is there once, and they agree on how many there are.
fn shards(found: &[find::Found]) -> Result<Vec<Shard>, String> {
    let mut shards: Vec<Shard> = Vec::new();
    for (at, one) in found.iter().enumerate() {
        let Some(shard) = one.report.shard else {
            return Err(format!(
                "{} does not say which shard it is; run the shards with nextest's `--partition hash:1/{n}`, or say \
                 `leakcheck --shard 1/{n}`",
                one.path.display(),
                n = found.len()
            ));
        };
        let before = at.checked_sub(1).map(|at| (shards[at], &found[at].path));
        match before {
            Some((same, path)) if same == shard => {
                return Err(format!("shard {shard} is there twice: {} and {}", path.display(), one.path.display()));
            }
            Some((other, path)) if other.count != shard.count => {
                return Err(format!(
                    "{} is shard {other}, and {} is shard {shard}: the suite was not divided once",
                    path.display(),
                    one.path.display()
                ));
            }
            _ => shards.push(shard),
        }
    }
    Ok(shards)
}

fn one_suite(found: &[find::Found], shards: &[Shard]) -> Result<String, String> {
    let first = &found[0];
    let mut name = first.report.suite.clone();
    for (other, shard) in found.iter().zip(shards).skip(1) {
        let common = super::shards::common((&first.report.suite, shards[0]), (&other.report.suite, *shard));
        name = common.ok_or_else(|| {
            format!(
                "different suites: {} is of `{}`, and {} is of `{}`",
                first.path.display(),
                first.report.suite,
                other.path.display(),
                other.report.suite
            )
        })?;
    }
    Ok(name)
}

fn missing(shards: &[Shard], expected: Option<u32>) -> Result<Vec<String>, String> {
    let count = shards[0].count;
    if let Some(expected) = expected.filter(|n| *n != count) {
        return Err(format!("`--shards {expected}` is said, and the reports are of {count} shards"));
    }
    // Another list than 1 to `count` would be as long as somebody's typing error is large.
    let given = u32::try_from(shards.len()).unwrap_or(u32::MAX);
    let missing = (1..=count).filter(|index| !shards.iter().any(|s| s.index == *index));
    let named: Vec<String> = missing.take(10).map(|index| format!("{index}/{count}")).collect();
    let more = if count - given > 10 { ", …" } else { "" };
    Ok(match &named[..] {
        [] => Vec::new(),
        [one] => vec![format!("shard {one} is missing: it did not run, or its report was not kept")],
        all => vec![format!(
            "shards {}{more} are missing: they did not run, or their reports were not kept",
            all.join(", ")
        )],
    })
}

#[cfg(test)]
mod tests;
