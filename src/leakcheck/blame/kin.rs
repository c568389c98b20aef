//! What is known of one process is known of its family: a server and its workers come from the same test.

use std::collections::BTreeMap;

use super::blame;
use crate::leakcheck::facts::Blame;
use crate::leakcheck::{Leak, TestId};

/// A worker that has written its title over its environment is its master's, whose environment names the test.
pub(super) fn find(leaks: &mut [Leak]) {
    let known: BTreeMap<u32, (TestId, Blame)> =
        leaks.iter().filter_map(|l| Some((l.pid, (l.test.clone()?, l.blame)))).collect();
    for leak in leaks.iter_mut().filter(|l| l.test.is_none()) {
        let ancestor = leak.ancestors.iter().filter_map(|name| pid(name)).find_map(|pid| known.get(&pid));
        if let Some((test, how)) = ancestor.cloned() {
            blame(leak, test, how);
        }
    }
}

/// `redis-server (pid 77)`, `it-77aa (pid 78, thread orders::are_kep)`
pub(super) fn pid(ancestor: &str) -> Option<u32> {
    let (_, rest) = ancestor.rsplit_once("(pid ")?;
    rest.split([')', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};

    #[test]
    fn a_worker_belongs_to_its_masters_test() {
        let worker = Leak { ancestors: vec!["sh (pid 8)".into(), "server (pid 7)".into()], ..stranger(9) };
        let other = Leak { ancestors: vec!["server (pid 6)".into()], ..stranger(10) };
        let mut leaks = [worker, sample(7), other.clone()];
        find(&mut leaks);
        assert_eq!((&leaks[0].test, leaks[0].blame), (&sample(7).test, sample(7).blame));
        assert_eq!(leaks[2], other, "pid 6 is nobody's");
    }

    #[test]
    fn a_name_may_hold_anything() {
        for (name, expected) in
            [("a (pid 1) (pid 12)", Some(12)), ("it (pid 5, thread a::b (c)", Some(5)), ("x", None), ("(pid x)", None)]
        {
            assert_eq!(pid(name), expected, "{name}");
        }
    }
}
