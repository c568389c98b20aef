//! The threads of a process and the children of each (proc(5)), and how to look for them without it being felt.
//!
//! The kernel lists a child under the thread that has made it, for as long as that thread lives; then under another
//! thread of the process, and that is the main thread wherever it is still there (kernel/exit.c: find_new_reaper).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use super::procfs::{self, Stat};

/// A process below another one, with the thread that it is listed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) stat: Stat,
    pub(crate) thread: i32,
}

/// Every process below this one, parents before their children, except for those in `without` and what is below them.
///
/// Two small files per process are read, so this is the cheap way to look at a tree again and again.
pub(crate) fn below(root: &Stat, without: &dyn Fn(i32) -> bool) -> Vec<Below> {
    let mut found: Vec<Below> = Vec::new();
    let mut seen = BTreeSet::from([root.pid]);
    let mut next = vec![(root.pid, root.threads)];
    while let Some((parent, threads)) = next.pop() {
        let Some(children) = children(parent, threads) else { return without_lists(root.pid, without) };
        for (pid, thread) in children {
            if without(pid) || seen.contains(&pid) {
                continue;
            }
            // One that was reaped meanwhile may have left its number to a stranger, whose parent is none of ours; one whose
            // parent has ended meanwhile has got another one of ours.
            if let Some(stat) = procfs::stat(pid).filter(|s| seen.contains(&s.parent)) {
                seen.insert(pid);
                // A zombie has handed its children on.
                if !stat.is_zombie() {
                    next.push((pid, stat.threads));
                }
                let thread = if stat.parent == parent { thread } else { stat.parent };
                found.push(Below { stat, thread });
            }
        }
    }
    found
}

/// The children of a process and the thread that each is listed under; `None` where the kernel has no such lists.
fn children(pid: i32, threads: i32) -> Option<Vec<(i32, i32)>> {
    let mut found = Vec::new();
    let mut read = |thread: i32| match procfs::read(&format!("/proc/{pid}/task/{thread}/children")) {
        Ok(list) => {
            let list = String::from_utf8_lossy(&list);
            found.extend(list.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()).map(|p| (p, thread)));
            true
        }
        // Whether the thread is gone or the kernel has no such file is seen from the thread.
        Err(e) => e.kind() != ErrorKind::NotFound || procfs::stat(thread).is_none(),
    };
    let there = if threads <= 1 {
        read(pid)
    } else {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|t| t.file_name().to_str()?.parse().ok()).all(&mut read)
    };
    there.then_some(found)
}

/// The same from the parent of each process that there is; the main thread stands for all of them.
fn without_lists(root: i32, without: &dyn Fn(i32) -> bool) -> Vec<Below> {
    let mut left = procfs::all();
    let mut found: Vec<Below> = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        let (here, others): (Vec<Stat>, Vec<Stat>) = left.into_iter().partition(|s| s.parent == parent);
        left = others;
        for stat in here.into_iter().filter(|s| !without(s.pid)) {
            next.push(stat.pid);
            found.push(Below { stat, thread: parent });
        }
    }
    found
}

/// The name of a thread, which the kernel has cut to 15 bytes.
pub(crate) fn name(pid: i32, thread: i32) -> Option<String> {
    let bytes = procfs::read(&format!("/proc/{pid}/task/{thread}/comm")).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

/// Every thread of a process, the main one included.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found: Vec<i32> = tasks.filter_map(|t| t.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// The number that was given last, to a process or a thread: as long as it is the same, nobody has been born
/// (proc_loadavg(5), the last field).
pub(crate) fn last_born() -> Option<i32> {
    let bytes = procfs::read("/proc/loadavg").ok()?;
    String::from_utf8_lossy(&bytes).split_ascii_whitespace().nth(4)?.parse().ok()
}

/// The processor time that the calling thread has used.
pub(crate) fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    #[test]
    fn a_child_is_listed_under_its_thread_and_under_the_main_one_afterwards() {
        let own = procfs::stat(super::super::process::own_pid()).unwrap();
        let (send, receive) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let starter = std::thread::Builder::new().name("a-test-that-starts".to_owned()).spawn(move || {
            let born_before = last_born();
            let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            assert_ne!(last_born(), born_before);
            send.send(child).unwrap();
            wait.recv().unwrap();
        });
        let mut child = receive.recv().unwrap();
        let find = |pid: u32| {
            let own = procfs::stat(own.pid).unwrap();
            below(&own, &|_| false).into_iter().find(|b| b.stat.pid == pid as i32)
        };
        let found = find(child.id()).unwrap();
        assert_eq!(name(own.pid, found.thread).as_deref(), Some("a-test-that-sta"));
        assert!(threads(own.pid).contains(&found.thread));
        assert!(below(&procfs::stat(own.pid).unwrap(), &|pid| pid == child.id() as i32).iter().all(|b| b != &found));
        go.send(()).unwrap();
        starter.unwrap().join().unwrap();
        // `join` is woken a moment before the kernel has buried the thread.
        while threads(own.pid).contains(&found.thread) {
            std::thread::yield_now();
        }
        assert_eq!(find(child.id()).unwrap().thread, own.pid);
        assert!(without_lists(own.pid, &|_| false).iter().any(|b| b.stat.pid == child.id() as i32));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
