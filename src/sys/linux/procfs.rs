//! What `/proc` says about a process (proc(5)), read defensively: every line may be gone by the time it is read.

use std::fs;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// How many threads there are, an exited main thread included.
    pub(crate) threads: i32,
    /// Clock ticks after boot; with the pid it names one process for ever.
    pub(crate) start: u64,
    /// Where its environment lies in its memory: somewhere else after an `exec`. Zero if we may not know.
    pub(crate) image: u64,
}

impl Stat {
    /// A zombie has exited; only its status is left to be collected.
    ///
    /// A process whose main thread has ended before the others shows the same state, and is alive.
    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// Is `/proc` there, and does it show this process?
pub(crate) fn available() -> bool {
    // In a pid namespace of our own without a /proc of its own, the numbers there are those of strangers.
    let own = super::process::own_pid();
    let named = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse::<i32>().ok());
    named == Some(own) && stat(own).is_some_and(|s| s.parent == super::process::parent_pid())
}

/// `None` when there is no such process any more (or no `/proc`).
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let bytes = read(&format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// A whole file of `/proc`, in as few system calls as that takes: `fs::read` asks for its length, which is said to be zero,
/// and then reads 32 bytes.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        let read = file.read(&mut bytes[length..])?;
        length += read;
        // The kernel fills a page and hands out what does not end in the middle of an entry; after less than half of one,
        // nothing follows (fs/seq_file.c).
        if read < 2048 {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.resize(length + 4096, 0);
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may itself hold parentheses and spaces: the last one closes it.
    let (head, tail) = text.rsplit_once(')')?;
    let (pid, comm) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Stat {
        pid: pid.trim().parse().ok()?,
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        threads: number(17)?,
        start: fields.get(19)?.parse().ok()?,
        image: fields.get(47).and_then(|field| field.parse().ok()).unwrap_or(0),
    })
}

/// Has this process promised to stay without a second thread?
static ONE_THREAD: AtomicBool = AtomicBool::new(false);

/// A guardian or a keeper, which often asks for its own children, has one list of them, whose name is known.
pub(crate) fn promise_one_thread() {
    ONE_THREAD.store(true, Ordering::Relaxed);
}

/// The direct children, zombies included.
///
/// `/proc/PID/task/TID/children` may miss some while they come and go (proc(5)), so whoever needs certainty asks again.
/// Without that file (kernels without CONFIG_PROC_CHILDREN) every process is looked at.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    if ONE_THREAD.load(Ordering::Relaxed) && pid == super::process::own_pid() {
        if let Ok(list) = fs::read_to_string("/proc/thread-self/children") {
            return list.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()).collect();
        }
    }
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && task.path().exists() => {
                return scan_for_children(pid);
            }
            Err(_) => {}
        }
    }
    found
}

fn scan_for_children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|s| s.parent == parent).map(|s| s.pid).collect()
}

/// Every process that this one can see.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(stat).collect()
}

/// Every process below this one, parents before their children.
pub(crate) fn descendants(root: i32) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for pid in children(parent) {
            // A process that moved while we walked is listed once.
            if found.iter().all(|s| s.pid != pid) {
                if let Some(stat) = stat(pid) {
                    found.push(stat);
                    next.push(pid);
                }
            }
        }
    }
    found
}

/// How long a process may take from the point in its `exec` at which it has no arguments to the one at which it has some.
pub(crate) const EXEC_LIMIT: Duration = Duration::from_millis(10);

/// The command line, for people; the name in brackets when there is none (zombies, kernel threads, who is ending).
///
/// Empty in the middle of an exec as well, when the new program has its name already: until `patience` is over it is
/// asked again. One limit serves a whole report, which may name hundreds.
pub(crate) fn command_line(pid: i32, patience: Instant) -> String {
    let read = || fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut bytes = read();
    while bytes.is_empty() && Instant::now() < patience && stat(pid).is_some_and(|s| !s.is_zombie()) {
        std::thread::yield_now();
        bytes = read();
    }
    let words: Vec<String> = bytes
        .split(|b| *b == 0)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).escape_debug().to_string())
        .collect();
    if words.is_empty() { stat(pid).map_or_else(String::new, |s| format!("[{}]", s.comm)) } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, "a) b (c", 'S'));
        assert_eq!((stat.parent, stat.group, stat.session, stat.start), (7, 8, 9, 12345));
    }

    #[test]
    fn a_process_lives_on_when_only_its_main_thread_has_ended() {
        let line = |threads| format!("42 (a) Z 7 8 9 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 12345 0 0");
        assert!(parse_stat(&line(1)).unwrap().is_zombie());
        assert!(!parse_stat(&line(2)).unwrap().is_zombie());
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        // Of several pages, and of a few bytes. The table of symbols does not change.
        let there = |path: &&str| std::path::Path::new(path).exists();
        for path in ["/proc/kallsyms", "/proc/self/comm", "/proc/devices"].into_iter().filter(there) {
            assert_eq!(read(path).unwrap(), fs::read(path).unwrap(), "{path}");
        }
        let size = |text: &str| read(text).unwrap().len();
        assert!(size("/proc/devices") > 0 && read("/proc/nobody").is_err());
        let long = "x".repeat(10_000);
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x", &long])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let path = format!("/proc/{}/cmdline", child.id());
        while !read(&path).unwrap().ends_with(b"xx\0") {
            std::thread::yield_now();
        }
        assert_eq!(read(&path).unwrap(), fs::read(&path).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn garbage_is_none_and_no_panic() {
        for text in ["", "1", "1 (x", "1 (x)", "1 (x) S", "x (y) S 1 2 3", ")("] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_child_of_ours_is_found_by_both_ways_of_looking() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let own = super::super::process::own_pid();
        assert!(children(own).contains(&pid));
        assert!(scan_for_children(own).contains(&pid));
        assert!(descendants(own).iter().any(|s| s.pid == pid));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(stat(pid), None);
    }
}
