//! The thread on which a leak was started: libtest gives it the name of its test, and the kernel keeps 15 bytes of that.

use std::fs;
use std::path::Path;

use super::blame;
use crate::leakcheck::facts::Blame;
use crate::leakcheck::suite::{Executable, Listing};
use crate::leakcheck::{Leak, TestId};

/// What the kernel keeps of a name.
const KEPT: usize = 15;

/// More suspects than this help nobody.
pub(super) const SUSPECTS: usize = 20;

/// Where a leak comes from, as far as it was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Birth<'a> {
    /// Its test executable.
    pub(super) executable: &'a Executable,
    /// The name of the thread that started it, or the ancestor through which it comes; if it was not the main one.
    pub(super) thread: Option<String>,
}

/// The outermost ancestor that is a test executable of this run: what runs tests below a test belongs to that test.
pub(super) fn birth<'a>(leak: &Leak, listing: &'a Listing) -> Option<Birth<'a>> {
    let known = |exe: &Path| {
        // What the kernel shows has no symbolic links in it.
        let is = |e: &&Executable| e.path == exe || fs::canonicalize(&e.path).is_ok_and(|path| path == exe);
        listing.executables.iter().find(is)
    };
    let origin = leak.origin(|exe| known(exe).is_some())?;
    Some(Birth { executable: known(&origin.executable)?, thread: origin.thread })
}

/// The tests of an executable whose threads have this name.
pub(super) fn tests_on(thread: &str, executable: &Executable) -> Vec<TestId> {
    // Cut in the middle of a character, the rest of which cannot be read.
    let readable = thread.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let is_cut = thread.len() >= KEPT || readable.len() < thread.len();
    let is = |name: &&String| if is_cut { name.starts_with(readable) } else { *name == readable };
    let names = executable.tests.iter().flatten().filter(is);
    names.map(|name| TestId { binary: executable.id.clone(), name: name.clone(), attempt: 1 }).collect()
}

/// One test has that name: it is to blame. Several: they are suspected. None: the test has named a thread of its own.
pub(super) fn find(leaks: &mut [Leak], listing: &Listing) {
    for leak in leaks.iter_mut().filter(|l| l.test.is_none()) {
        let Some(birth) = birth(leak, listing) else { continue };
        leak.blame = Blame::Binary;
        let tests = birth.thread.map(|thread| tests_on(&thread, birth.executable)).unwrap_or_default();
        match <[TestId; 1]>::try_from(tests) {
            Ok([test]) => blame(leak, test, Blame::Thread),
            Err(several) => leak.suspects = several,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::stranger;
    use crate::leakcheck::line::{Born, Line};

    pub(in crate::leakcheck::blame) fn executable_of(file: &str, id: &str, tests: &[&str]) -> Executable {
        Executable {
            path: format!("/t/debug/deps/{file}").into(),
            id: id.to_owned(),
            package: "shop".to_owned(),
            target: Vec::new(),
            manifest_dir: "/home/me/shop".into(),
            tests: Some(tests.iter().map(|t| (*t).to_owned()).collect()),
        }
    }

    fn listing() -> Listing {
        let it = executable_of(
            "it-0123456789abcdef",
            "shop::it",
            &["orders::are_kept", "orders::are_lost", "orders::are_kept_long", "carts::full", "ünüsülü::äöü"],
        );
        let unit = executable_of("shop-fedcba9876543210", "shop", &["tests::full"]);
        Listing { executables: vec![it, unit], known: true, ..Listing::default() }
    }

    /// A process below others, the nearest first: what each executes, and the thread of it that started the one before.
    pub(in crate::leakcheck::blame) fn below(chain: &[(&str, Option<&str>)]) -> Leak {
        let started_by = chain.iter().map(|(_, thread)| *thread).chain([None]);
        let executables = [&[("server", None)], chain].concat();
        let born = executables.iter().zip(started_by).zip(1..).map(|(((file, _), thread), pid)| Born {
            pid,
            start: 1,
            comm: String::new(),
            executables: vec![format!("/t/debug/deps/{file}").into()],
            thread: thread.map(str::to_owned),
            marks: None,
            group: 1,
            outputs: Vec::new(),
        });
        Leak { line: Line { born: born.collect(), complete: true }, ..stranger(1) }
    }

    fn born(chain: &[(&str, Option<&str>)]) -> Leak {
        let mut leaks = [below(chain)];
        find(&mut leaks, &listing());
        let [leak] = leaks;
        leak
    }

    const IT: &str = "it-0123456789abcdef";
    const UNIT: &str = "shop-fedcba9876543210";

    fn names(leak: &Leak) -> Vec<String> {
        leak.suspects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_that_one_test_has_blames_it() {
        for (thread, test) in [("carts::full", "carts::full"), ("orders::are_los", "orders::are_lost")] {
            let leak = born(&[("sh", None), (IT, Some(thread)), ("cargo", None)]);
            assert_eq!(leak.test.unwrap().to_string(), format!("{test} in shop::it"));
            assert_eq!((leak.blame, leak.suspects.len()), (Blame::Thread, 0));
        }
    }

    #[test]
    fn a_name_that_several_have_makes_them_suspects() {
        let leak = born(&[(IT, Some("orders::are_kep"))]);
        assert_eq!(names(&leak), ["orders::are_kept in shop::it", "orders::are_kept_long in shop::it"]);
        assert_eq!((leak.test, leak.blame), (None, Blame::Binary));
    }

    #[test]
    fn a_name_that_no_test_has_blames_nobody() {
        // The second is shorter than what is kept, so it is a whole name.
        for thread in ["worker", "carts::ful", "tests::full"] {
            let leak = born(&[(IT, Some(thread))]);
            assert_eq!((leak.test, leak.blame, leak.suspects.len()), (None, Blame::Binary, 0), "{thread}");
        }
        let leak = born(&[("sh", Some("carts::full")), ("make", None)]);
        assert_eq!((leak.test, leak.blame), (None, Blame::Nobody));
    }

    #[test]
    fn a_name_may_be_cut_in_the_middle_of_a_character() {
        let leak = born(&[(IT, Some("ünüsülü::\u{fffd}"))]);
        assert_eq!(leak.test.unwrap().name, "ünüsülü::äöü");
    }

    #[test]
    fn the_outermost_test_process_counts() {
        let inner = (UNIT, Some("tests::full"));
        let leak = born(&[inner, ("cargo", None), (IT, Some("carts::full")), ("cargo", None)]);
        assert_eq!(leak.test.unwrap().to_string(), "carts::full in shop::it");
    }
}
