//! Which process is the same as one that was found before: what a test leaves when it runs again has another number, other
//! ports, and files in other places.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::blame;
use super::thread::SUSPECTS;
use crate::leakcheck::below::Trace;
use crate::leakcheck::{Blame, Leak, TestId};

/// What a test has left when it ran again.
pub(super) type Seen = (TestId, Trace);

/// The test binary that a leak comes from, if that was seen.
pub(super) type Home = Option<String>;

/// Is nobody to blame yet?
pub(super) fn is_open(leak: &Leak) -> bool {
    leak.test.is_none()
}

/// How much two processes are alike; 0: not at all.
fn likeness(leak: &Leak, trace: &Trace) -> u32 {
    let exe = |path: &Path| path.file_name().map(OsStr::to_owned);
    let same_exe = match (&leak.exe, &trace.exe) {
        (Some(a), Some(b)) => a == b || exe(a) == exe(b),
        // Who may not be looked at is known by its command.
        _ => false,
    };
    if leak.command == trace.command {
        return 3;
    }
    match same_exe {
        // Ports, process ids and temporary directories are others each time.
        true if general(&leak.command) == general(&trace.command) => 2,
        true => 1,
        false => 0,
    }
}

/// A command without what changes from run to run: numbers, and names that were made up.
fn general(command: &str) -> String {
    let made_up = |part: &str| part.starts_with(".tmp") || part.starts_with("tmp");
    let word = |word: &str| {
        let parts: Vec<&str> = word.split('/').map(|part| if made_up(part) { "tmp" } else { part }).collect();
        parts.join("/")
    };
    let words: Vec<String> = command.split(' ').map(word).collect();
    let mut general = String::new();
    for c in words.join(" ").chars() {
        // A number is as good as another, however long.
        match c.is_ascii_digit() {
            true if general.ends_with('0') => {}
            true => general.push('0'),
            false => general.push(c),
        }
    }
    general
}

/// Is there for each leak that is open one that is as like it as can be?
pub(super) fn explains(leaks: &[Leak], homes: &[Home], seen: &[Seen]) -> bool {
    pairs(leaks, homes, &unclaimed(leaks, seen), 2).len() == leaks.iter().filter(|l| is_open(l)).count()
}

/// Without those that are leaks of which the test is known already.
fn unclaimed(leaks: &[Leak], seen: &[Seen]) -> Vec<Seen> {
    let mut left = seen.to_vec();
    for (leak, test) in leaks.iter().filter_map(|l| Some((l, l.test.as_ref()?))) {
        let like = |(by, trace): &Seen| if by == test { likeness(leak, trace) } else { 0 };
        let most = (0..left.len()).max_by_key(|at| like(&left[*at])).filter(|at| like(&left[*at]) > 0);
        most.map(|at| left.remove(at));
    }
    left
}

/// Which leak is which trace; the most alike first, and each trace is used once.
fn pairs(leaks: &[Leak], homes: &[Home], seen: &[Seen], least: u32) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for level in (least..=3).rev() {
        for (at, leak) in leaks.iter().enumerate().filter(|(_, l)| is_open(l)) {
            if pairs.iter().any(|pair| pair.0 == at) {
                continue;
            }
            let free = |with: &usize| pairs.iter().all(|pair| pair.1 != *with);
            let like =
                |with: &usize| may_be(leak, &homes[at], &seen[*with].0) && likeness(leak, &seen[*with].1) >= level;
            if let Some(with) = (0..seen.len()).filter(free).find(like) {
                pairs.push((at, with));
            }
        }
    }
    pairs
}

/// Does what is known of its birth allow this test?
fn may_be(leak: &Leak, home: &Home, test: &TestId) -> bool {
    home.as_ref().is_none_or(|home| *home == test.binary) && (leak.suspects.is_empty() || leak.suspects.contains(test))
}

/// Blames those that have left the same. Who looks like what several have left, and was not the only one, is suspected to
/// be one of theirs.
pub(super) fn join(leaks: &mut [Leak], homes: &[Home], seen: &[Seen]) {
    let seen = &unclaimed(leaks, seen);
    let pairs = pairs(leaks, homes, seen, 1);
    let choose = |(at, with): &(usize, usize)| {
        let level = likeness(&leaks[*at], &seen[*with].1);
        let left = seen
            .iter()
            .filter(|(test, trace)| may_be(&leaks[*at], &homes[*at], test) && likeness(&leaks[*at], trace) >= level);
        let tests: Vec<TestId> = left.map(|(test, _)| test.clone()).collect();
        let alike = leaks.iter().filter(|l| is_open(l) && likeness(l, &seen[*with].1) >= level).count();
        // As many as have been left: each is somebody's, and it does not matter whose.
        let each_has_one = tests.len() <= alike;
        let different: BTreeSet<TestId> = tests.into_iter().collect();
        if each_has_one { (*at, vec![seen[*with].0.clone()]) } else { (*at, different.into_iter().collect()) }
    };
    let choices: Vec<(usize, Vec<TestId>)> = pairs.iter().map(choose).collect();
    for (at, tests) in choices {
        match <[TestId; 1]>::try_from(tests) {
            Ok([test]) => blame(&mut leaks[at], test, Blame::Rerun),
            Err(mut several) => {
                several.truncate(SUSPECTS);
                leaks[at].suspects = several;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};

    const NOWHERE: [Home; 2] = [None, None];

    fn test(name: &str) -> TestId {
        TestId { binary: "shop::it".into(), name: name.into(), attempt: 1 }
    }

    fn leak(pid: u32, command: &str) -> Leak {
        Leak { command: command.into(), exe: Some("/usr/bin/server".into()), ..stranger(pid) }
    }

    fn left(by: &str, command: &str) -> (TestId, Trace) {
        (test(by), Trace { exe: Some("/usr/bin/server".into()), command: command.into() })
    }

    fn joined(leaks: &[Leak], seen: &[(TestId, Trace)]) -> Vec<String> {
        let mut leaks = leaks.to_vec();
        let homes = vec![None; leaks.len()];
        join(&mut leaks, &homes, seen);
        let name =
            |l: &Leak| l.test.as_ref().map_or_else(|| format!("{} suspects", l.suspects.len()), |t| t.name.clone());
        leaks.iter().map(name).collect()
    }

    #[test]
    fn the_most_alike_is_the_same() {
        let seen = [left("b", "server --port 4711"), left("a", "server --dir /tmp/.tmpAbC/x")];
        let leaks = [leak(1, "server --dir /tmp/.tmpXyZ/x"), leak(2, "server --port 80")];
        assert_eq!(joined(&leaks, &seen), ["a", "b"]);
        assert!(explains(&leaks, &NOWHERE[..2], &seen));
        assert!(!explains(&leaks, &NOWHERE[..2], &seen[..1]), "one of them is open");
        let other = Leak { exe: Some("/bin/cat".into()), ..leak(3, "cat") };
        assert_eq!(joined(&[other], &seen), ["0 suspects"]);
    }

    #[test]
    fn what_several_leave_is_somebodys_or_they_are_suspected() {
        let seen = [left("a", "server"), left("b", "server")];
        assert_eq!(joined(&[leak(1, "server"), leak(2, "server")], &seen), ["a", "b"]);
        assert_eq!(joined(&[leak(1, "server")], &seen), ["2 suspects"]);
        // One of the two has been explained before; what its test has left is no other's.
        let explained = Leak { test: Some(test("a")), blame: Blame::Thread, ..leak(1, "server") };
        assert_eq!(joined(&[explained, leak(2, "server")], &seen), ["a", "b"]);
        // One test may leave many.
        let seen = [left("a", "server"), left("a", "server"), left("a", "server")];
        assert_eq!(joined(&[leak(1, "server")], &seen), ["a"]);
    }

    #[test]
    fn what_comes_from_another_binary_is_another() {
        let foreign = TestId { binary: "shop".into(), ..test("a") };
        let seen = [(foreign, left("a", "server").1), left("b", "server")];
        let homes = [Some("shop::it".to_owned()), None];
        let mut leaks = [leak(1, "server"), leak(2, "server")];
        join(&mut leaks, &homes, &seen);
        let binaries = leaks.map(|l| l.test.unwrap().binary);
        assert_eq!(binaries, ["shop::it", "shop"]);
    }

    #[test]
    fn who_is_known_already_stays_and_who_is_excluded_is_not_blamed() {
        let known = sample(1);
        let narrowed = Leak { suspects: vec![test("c"), test("d")], ..leak(2, "server --port 0") };
        let seen = [left("a", "server --port 0"), left("d", "server --port 0")];
        let mut leaks = [known.clone(), narrowed];
        join(&mut leaks, &NOWHERE[..2], &seen);
        assert_eq!(leaks[0], known);
        assert_eq!((&leaks[1].test, leaks[1].blame), (&Some(test("d")), Blame::Rerun));
    }
}
