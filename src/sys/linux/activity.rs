//! What a process is doing at this moment, in words: what it waits for, if it waits (proc(5): `stat`, `syscall`, `wchan`).
//!
//! For people only: best effort, a moment's look, and bounded. Where the kernel does not tell, less is said.

use std::fs;
use std::time::Instant;

use super::procfs;

/// How far from a process to the child that it waits for, and to the child of that one.
const DEPTH: usize = 3;

/// How many threads are looked at.
const THREADS: usize = 16;

/// How much of a command line is shown.
const COMMAND: usize = 60;

/// What a process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activity {
    /// As in "the helper is …".
    pub(crate) what: String,
    /// It does nothing but wait for input from whoever has started it.
    pub(crate) wants_input: bool,
}

impl Activity {
    fn new(what: impl Into<String>) -> Activity {
        Activity { what: what.into(), wants_input: false }
    }
}

/// What this process is doing; `None` when there is no such process, or nothing is known.
pub(crate) fn of(pid: i32) -> Option<Activity> {
    below(pid, DEPTH)
}

/// What one thread of a process is doing.
#[cfg(feature = "leakcheck")]
pub(crate) fn of_one(pid: i32, thread: i32) -> Option<Activity> {
    of_thread(pid, thread, 1)
}

fn below(pid: i32, depth: usize) -> Option<Activity> {
    let stat = procfs::stat(pid)?;
    let mut activity = of_thread(pid, pid, depth)?;
    if stat.threads > 1 {
        activity.wants_input = false;
        if activity.what == FUTEX {
            if let Some(other) = telling_thread(pid) {
                activity.what = format!("waiting, in its main thread; another one is {}", other.what);
            }
        }
    }
    Some(activity)
}

const FUTEX: &str = "waiting for another thread";

/// A thread that does more than wait for others: rather one that is busy.
fn telling_thread(pid: i32) -> Option<Activity> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let numbers = tasks.flatten().filter_map(|t| t.file_name().to_str()?.parse::<i32>().ok());
    let others = numbers.filter(|tid| *tid != pid).take(THREADS);
    let all: Vec<Activity> = others.filter_map(|tid| of_thread(pid, tid, 0)).filter(|a| a.what != FUTEX).collect();
    all.iter().find(|a| a.what == BUSY).or(all.first()).cloned()
}

const BUSY: &str = "busy";

fn of_thread(pid: i32, tid: i32, depth: usize) -> Option<Activity> {
    let text = fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let state = text.rsplit_once(')')?.1.trim_start().chars().next()?;
    Some(match state {
        'R' => Activity::new(BUSY),
        'T' => Activity::new("stopped by a signal"),
        't' => Activity::new("stopped by a debugger"),
        'Z' | 'X' => Activity::new("no more: its status has not been collected yet"),
        'D' => match wait_channel(pid, tid) {
            Some(place) => Activity::new(format!("waiting for the kernel, in `{place}`")),
            None => Activity::new("waiting for the kernel"),
        },
        _ => {
            let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok();
            let place = || wait_channel(pid, tid).and_then(|place| in_place(&place));
            call.and_then(|call| in_call(&call, pid, depth)).or_else(place)?
        }
    })
}

/// The function of the kernel that it sleeps in.
fn wait_channel(pid: i32, tid: i32) -> Option<String> {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).ok()?;
    Some(place.trim().to_owned()).filter(|p| !p.is_empty() && p != "0")
}

/// What sleeping there means, as far as a name can tell.
fn in_place(place: &str) -> Option<Activity> {
    let known = [
        ("pipe_read", "reading from a pipe"),
        ("pipe_write", "writing to a full pipe"),
        ("tty_read", "reading from a terminal"),
        ("nanosleep", "sleeping"),
        ("do_wait", "waiting for a child"),
        ("futex", FUTEX),
        ("poll", "waiting for events"),
        ("select", "waiting for events"),
        ("ep_", "waiting for events"),
        ("sigsuspend", "waiting for a signal"),
        ("accept", "waiting for a connection"),
    ];
    known.iter().find(|(part, _)| place.contains(part)).map(|(_, what)| Activity::new(*what))
}

/// The numbers that only older architectures have.
#[cfg(target_arch = "x86_64")]
mod old {
    pub(super) const EVENTS: [i64; 3] = [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait];
    pub(super) const SELECT: i64 = libc::SYS_select;
    pub(super) const PAUSE: i64 = libc::SYS_pause;
    pub(super) const OPEN: i64 = libc::SYS_open;
}

#[cfg(not(target_arch = "x86_64"))]
mod old {
    pub(super) const EVENTS: [i64; 0] = [];
    pub(super) const SELECT: i64 = -1;
    pub(super) const PAUSE: i64 = -1;
    pub(super) const OPEN: i64 = -1;
}

/// What sleeping in this system call means: its number, its arguments, and more.
fn in_call(call: &str, pid: i32, depth: usize) -> Option<Activity> {
    let mut words = call.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let first = words.next().and_then(|w| u64::from_str_radix(w.strip_prefix("0x")?, 16).ok());
    let descriptor = || descriptor(pid, first?);
    let events = [libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait];
    Some(match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 => {
            let wants_input = first == Some(0) && is_stream(pid);
            Activity { what: format!("reading from {}", descriptor()?), wants_input }
        }
        // Only descriptor 0 can be in a set of one.
        n if (n == libc::SYS_pselect6 || n == old::SELECT) && first == Some(1) => {
            Activity { what: "waiting for its standard input".to_owned(), wants_input: is_stream(pid) }
        }
        libc::SYS_write | libc::SYS_writev => {
            Activity::new(format!("blocked writing to {}, which is full", descriptor()?))
        }
        libc::SYS_wait4 | libc::SYS_waitid => waiting_for_child(pid, depth),
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Activity::new("sleeping"),
        libc::SYS_futex => Activity::new(FUTEX),
        libc::SYS_accept | libc::SYS_accept4 => Activity::new("waiting for a connection"),
        libc::SYS_connect => Activity::new("connecting to somebody"),
        libc::SYS_recvfrom | libc::SYS_recvmsg => Activity::new(format!("waiting for {} to bring data", descriptor()?)),
        libc::SYS_flock => Activity::new(format!("waiting for a lock on {}", descriptor()?)),
        libc::SYS_rt_sigsuspend | libc::SYS_rt_sigtimedwait => Activity::new("waiting for a signal"),
        libc::SYS_openat => Activity::new("opening a file, such as a FIFO that nobody else has open"),
        n if n == old::OPEN => Activity::new("opening a file, such as a FIFO that nobody else has open"),
        n if n == old::PAUSE => Activity::new("waiting for a signal"),
        n if events.contains(&n) || old::EVENTS.contains(&n) => Activity::new("waiting for events"),
        _ => return None,
    })
}

fn descriptor(pid: i32, number: u64) -> Option<String> {
    Some(match number {
        0 => "its standard input".to_owned(),
        1 => "its standard output".to_owned(),
        2 => "its standard error".to_owned(),
        n => match fs::read_link(format!("/proc/{pid}/fd/{n}")).ok()?.to_str()? {
            link if link.starts_with("pipe:") => format!("a pipe (descriptor {n})"),
            link if link.starts_with("socket:") => format!("a socket (descriptor {n})"),
            link => format!("`{}`", shortened(link)),
        },
    })
}

/// Is its standard input something that somebody can send more to?
fn is_stream(pid: i32) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/fd/0")).unwrap_or_default();
    link.to_str().is_some_and(|l| l.starts_with("pipe:") || l.starts_with("/dev/pts/"))
}

fn waiting_for_child(pid: i32, depth: usize) -> Activity {
    let children: Vec<i32> = procfs::children(pid);
    let alive = children.iter().filter(|c| procfs::stat(**c).is_some_and(|s| !s.is_zombie()));
    let alive: Vec<i32> = alive.copied().take(2).collect();
    let [child, rest @ ..] = alive.as_slice() else { return Activity::new("waiting for a child") };
    if depth == 0 || !rest.is_empty() {
        return Activity::new(if rest.is_empty() { "waiting for a child" } else { "waiting for one of its children" });
    }
    let command = shortened(&procfs::command_line(*child, Instant::now()));
    let (doing, wants_input) = match below(*child, depth - 1) {
        Some(activity) => {
            // The child may have been given another input.
            let input = |pid: i32| fs::read_link(format!("/proc/{pid}/fd/0")).ok();
            let same = activity.wants_input && input(pid) == input(*child);
            (format!(", which is {}", activity.what), same)
        }
        None => (String::new(), false),
    };
    Activity { what: format!("waiting for its child `{command}` (pid {child}){doing}"), wants_input }
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(COMMAND).collect();
    if short.len() < text.len() { short + "..." } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// Asks until it is so: a process needs a moment to get there.
    #[track_caller]
    fn becomes(child: &mut Child, wanted: &str, wants_input: bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut seen = None;
        while Instant::now() < deadline {
            seen = of(child.id() as i32);
            if seen.as_ref().is_some_and(|a| a.what.contains(wanted)) {
                break;
            }
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = seen.expect("it lives");
        assert!(seen.what.contains(wanted), "{seen:?}");
        assert_eq!(seen.wants_input, wants_input, "{seen:?}");
        seen.what
    }

    fn start(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn who_reads_is_told_from_who_sleeps_writes_and_waits() {
        becomes(&mut start("read x"), "reading from its standard input", true);
        becomes(&mut start("exec sleep 20"), "sleeping", false);
        becomes(&mut start("exec yes"), "blocked writing to its standard output, which is full", false);
        becomes(&mut start("while :; do :; done"), "busy", false);
        becomes(&mut start("kill -STOP $$"), "stopped by a signal", false);
    }

    #[test]
    fn a_child_that_is_waited_for_is_asked_as_well() {
        // The end of its input ends the child with its parent.
        let what = becomes(&mut start("cat; :"), "), which is reading from its standard input", true);
        assert!(what.starts_with("waiting for its child `cat` (pid "), "{what}");
        // Of another input than ours, which ends with the shell as well.
        let other = "(exec head -c 1 < /proc/self/fd/1 1>&2); :";
        becomes(&mut start(other), "), which is reading from its standard input", false);
    }

    #[test]
    fn nothing_is_known_of_nobody_and_garbage_is_no_panic() {
        let mut child = start(":");
        child.wait().unwrap();
        assert_eq!(of(child.id() as i32), None);
        for call in ["", "running", "-1 0x0 0x0", "x", "0", "0 7", "0 0xzz", "99999 0x0"] {
            assert_eq!(in_call(call, 1, 0), None, "{call:?}");
        }
        assert_eq!(in_place("somewhere"), None);
    }
}
