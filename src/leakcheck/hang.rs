//! What hangs when the time is up: everything that runs, as a tree, with what each waits for.

use std::collections::BTreeMap;
use std::time::Instant;

use super::check::Check;
use super::line::{Born, looks_like_a_test};
use crate::report::seconds;
use crate::sys::tasks::{self, Below};
use crate::sys::{activity, details, procfs, sockets};

/// How many lines there are at most: whoever hangs may have started thousands.
const LINES: usize = 200;

/// How many threads of one process are listed.
const THREADS: usize = 32;

/// How much of a command line is shown.
const COMMAND: usize = 160;

/// A line for each process, indented by its depth, and one below it for each test that it is running.
pub(super) fn describe(check: &mut Check<'_>) -> Vec<String> {
    let tree: Vec<Below> = check.look().into_iter().filter(|b| !b.stat.is_zombie()).collect();
    let mut below: BTreeMap<i32, Vec<&Below>> = BTreeMap::new();
    let pids: Vec<i32> = tree.iter().map(|b| b.stat.pid).collect();
    for each in &tree {
        // Whose parent is not in the list is a child of ours.
        let parent = if pids.contains(&each.stat.parent) { each.stat.parent } else { 0 };
        below.entry(parent).or_default().push(each);
    }
    let mut lines = Vec::new();
    let mut next: Vec<(usize, &Below)> = below.get(&0).into_iter().flatten().rev().map(|b| (0, *b)).collect();
    while let Some((depth, each)) = next.pop() {
        let indent = "  ".repeat(depth);
        lines.push(format!("{indent}{}", process(check, &each.stat)));
        lines.extend(tests(&each.stat).into_iter().map(|test| format!("{indent}  {test}")));
        next.extend(below.get(&each.stat.pid).into_iter().flatten().rev().map(|b| (depth + 1, *b)));
    }
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("and {more} lines more"));
    }
    lines
}

/// `server --port 0` (pid 12), for 8.80 s, started by the test a::b: waiting for events; listens on tcp 127.0.0.1:80
fn process(check: &Check<'_>, stat: &procfs::Stat) -> String {
    let line = check.lineage.line(stat, check.suite);
    let command: String = procfs::command_line(stat.pid, Instant::now()).chars().take(COMMAND).collect();
    let age = details::age(stat.start).map_or_else(String::new, |age| format!(", for {}", seconds(age)));
    let mark = |name: &str| Some(line.marks("NEXTEST_TEST_NAME")?.get(name)?.escape_debug().to_string());
    let thread = line.born.first().and_then(|born| born.thread.as_ref());
    let parent_tests = line.born.get(1).is_some_and(Born::runs_tests);
    let from = match (mark("NEXTEST_TEST_NAME"), mark("NEXTEST_BINARY_ID"), thread) {
        (Some(test), Some(binary), _) => format!(", of the test {test} in {binary}"),
        (Some(test), None, _) => format!(", of the test {test}"),
        (None, _, Some(thread)) if parent_tests => format!(", of the thread {}", thread.escape_debug()),
        _ => String::new(),
    };
    let doing = activity::of(stat.pid).map_or_else(|| format!("in state {}", stat.state), |activity| activity.what);
    let waiting = sockets::waiting(stat.pid);
    let listens: Vec<String> = details::descriptors(stat.pid, 1024)
        .iter()
        .filter_map(|(_, link)| Some(format!("; listens on {}", waiting.get(&sockets::inode(link)?)?)))
        .collect();
    format!("`{command}` (pid {}){age}{from}: {doing}{}", stat.pid, listens.concat())
}

/// The threads that have a name of their own: libtest gives each the name of the test that it runs.
fn tests(stat: &procfs::Stat) -> Vec<String> {
    let runs_tests = details::executable(stat.pid).is_some_and(|exe| looks_like_a_test(&exe));
    if stat.threads <= 1 || !runs_tests {
        return Vec::new();
    }
    let others = tasks::threads(stat.pid).into_iter().filter(|thread| *thread != stat.pid);
    let named = others.filter_map(|thread| Some((thread, tasks::name(stat.pid, thread)?)));
    named
        .filter(|(_, name)| *name != stat.comm)
        .take(THREADS)
        .map(|(thread, name)| {
            let doing = activity::of_one(stat.pid, thread).map_or_else(|| "alive".to_owned(), |activity| activity.what);
            // The kernel keeps no more of a name.
            let cut = if name.len() >= 15 { "..." } else { "" };
            format!("its thread {}{cut}: {doing}", name.escape_debug())
        })
        .collect()
}
