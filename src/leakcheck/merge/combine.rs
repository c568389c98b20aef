//! Makes one report of many, as if the shards had been one run.

use std::collections::BTreeMap;

use crate::leakcheck::Report;
use crate::leakcheck::facts::{AllowanceUse, Ending, Shard};
use crate::leakcheck::policy::unused;

/// One of all: everything that they found, sorted, so that the same shards always make the same report.
pub(super) fn all(mut reports: Vec<Report>, shards: Vec<Shard>, suite: String, problems: Vec<String>) -> Report {
    let began = reports.iter().map(|r| r.started_unix_ms).min().unwrap_or_default();
    let ended = reports.iter().map(|r| r.started_unix_ms.saturating_add(r.took_ms)).max().unwrap_or_default();
    let complete = problems.is_empty();
    let allowances = allowances(&reports);
    let empty_shards = reports.iter().filter(|r| r.tests_run == Some(0)).filter_map(|r| r.shard).collect();
    let mut merged = Report {
        suite,
        shard: None,
        shards,
        started_unix_ms: began,
        took_ms: ended - began,
        checking_ms: reports.iter().map(|r| r.checking_ms).max().unwrap_or_default(),
        grace_ms: reports.iter().map(|r| r.grace_ms).max().unwrap_or_default(),
        ending: worst(reports.iter().map(|r| r.ending)),
        interrupted: reports.iter().find_map(|r| r.interrupted),
        timed_out_ms: reports.iter().filter_map(|r| r.timed_out_ms).max(),
        // Known only where all of them know it.
        tests_run: reports.iter().map(|r| r.tests_run).sum(),
        latecomers: reports.iter().map(|r| r.latecomers).sum(),
        confirmed: reports.iter().all(|r| r.confirmed),
        adopted: reports.iter().map(|r| r.adopted).sum(),
        allowances: Vec::new(),
        problems,
        empty_shards,
        ..reports[0].clone()
    };
    let rest = reports.split_off(1);
    for report in rest {
        merged.hanging.extend(report.hanging);
        merged.tests.extend(report.tests);
        merged.leaks.extend(report.leaks);
        merged.helpers.extend(report.helpers);
        merged.leftovers.extend(report.leftovers);
        merged.notes.extend(report.notes);
        merged.fails.extend(report.fails);
    }
    // What no shard has needed. One of which not every test ran says nothing about that.
    if complete {
        merged.notes.extend(allowances.iter().flat_map(|uses| unused(uses)));
    }
    merged.allowances = allowances.filter(|_| complete).unwrap_or_default();
    merged.tests.sort_by(|a, b| (&a.id, a.started_unix_ms).cmp(&(&b.id, b.started_unix_ms)));
    merged.leaks.sort_by(|a, b| (&a.test, &a.command, a.pid).cmp(&(&b.test, &b.command, b.pid)));
    merged.helpers.sort_by_key(|a| (a.started_unix_ms, a.pid));
    merged.leftovers.sort_by(|a, b| (&a.path, &a.tests).cmp(&(&b.path, &b.tests)));
    merged.notes.sort_by(|a, b| (&a.place, &a.what).cmp(&(&b.place, &b.what)));
    merged.notes.dedup();
    merged.fails.sort_unstable();
    merged.fails.dedup();
    merged
}

/// The ending of a suite that failed, if one did; of those the highest status. One that could not be ended is the worst.
fn worst(endings: impl Iterator<Item = Option<Ending>>) -> Option<Ending> {
    endings.max_by_key(|ending| ending.map_or(u8::MAX, Ending::shell_status)).flatten()
}

/// How often each allowance was needed in all of them; `None` if one of them cannot say.
fn allowances(reports: &[Report]) -> Option<Vec<AllowanceUse>> {
    if reports.iter().any(|r| r.allowances.is_empty()) {
        return None;
    }
    let mut uses: BTreeMap<_, AllowanceUse> = BTreeMap::new();
    for one in reports.iter().flat_map(|r| &r.allowances) {
        let key = (one.place.clone(), one.what.clone());
        let sum = uses.entry(key).or_insert_with(|| AllowanceUse { matched: 0, ..one.clone() });
        sum.matched = sum.matched.saturating_add(one.matched);
    }
    Some(uses.into_values().collect())
}
