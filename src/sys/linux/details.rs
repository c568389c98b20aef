//! What `/proc` tells about one process to somebody who has to find out where it came from (proc(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The working directory.
pub(crate) fn working_dir(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The file that is being executed; `(deleted)` stands behind it when it is gone.
pub(crate) fn executable(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// How long ago the process was started.
pub(crate) fn age(start_ticks: u64) -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64((uptime - start_ticks as f64 / per_second).max(0.0)))
}

/// The named variables of the environment that the process was started with.
///
/// `None` when there is nothing to be read, which says nothing about the process: it may be another user's, just about to
/// call `exec` (then the file reads empty for some milliseconds), have been started through `env -i`,
/// or have written its title over its environment.
pub(crate) fn variables(pid: i32, names: &[&str]) -> Option<BTreeMap<String, String>> {
    let bytes = super::procfs::read(&format!("/proc/{pid}/environ")).ok().filter(|b| !b.is_empty())?;
    let entries = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
    let pairs = entries.filter_map(|entry| {
        let (name, value) = entry.split_once('=')?;
        names.contains(&name).then(|| (name.to_owned(), value.to_owned()))
    });
    Some(pairs.collect())
}

/// The paths of all unix sockets that some process has open (proc_pid_net(5)).
pub(crate) fn sockets() -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = |line: &str| Some(PathBuf::from(&line[line.find(" /")? + 1..]));
    table.lines().filter_map(path).collect()
}

/// How long the clock by which the file system dates its files stands still.
pub(crate) fn tick() -> Duration {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    // It is a fraction of a second, at most a hundredth.
    Duration::from_nanos(resolution.tv_nsec.unsigned_abs())
}

/// The arguments one by one, the name first; empty for a zombie and for one that has overwritten them.
///
/// What is more than `bytes` is cut.
pub(crate) fn arguments(pid: i32, bytes: usize) -> Vec<String> {
    let mut all = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if all.len() > bytes {
        all.truncate(bytes);
        all.extend_from_slice(b"...");
    }
    if all.last() == Some(&0) {
        all.pop();
    }
    let words = all.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    // Zeroes written over them are no arguments.
    if all.iter().all(|b| *b == 0) { Vec::new() } else { words.collect() }
}

/// What `/proc/PID/status` says about signals and the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manners {
    ignored: u64,
    caught: u64,
    /// The effective user.
    pub(crate) user: u32,
}

impl Manners {
    pub(crate) fn ignores(&self, signal: i32) -> bool {
        self.ignored >> (signal - 1) & 1 == 1
    }

    pub(crate) fn catches(&self, signal: i32) -> bool {
        self.caught >> (signal - 1) & 1 == 1
    }
}

pub(crate) fn manners(pid: i32) -> Option<Manners> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let set = |name: &str| u64::from_str_radix(field(name)?.trim(), 16).ok();
    let user = field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Manners { ignored: set("SigIgn")?, caught: set("SigCgt")?, user })
}

/// What a descriptor of a process is, as the kernel names it: `pipe:[7]`, `socket:[7]`, a path.
pub(crate) fn descriptor(pid: i32, number: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The descriptors of a process, each with what it is; at most so many.
pub(crate) fn descriptors(pid: i32, most: usize) -> Vec<(i32, String)> {
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.take(most).filter_map(|number| Some((number, descriptor(pid, number)?))).collect()
}

/// Is a lock on the file held through this descriptor (proc_pid_fdinfo(5))? Copies of it hold the same lock.
pub(crate) fn holds_lock(pid: i32, number: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    info.lines().any(|line| line.starts_with("lock:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn arguments_signals_and_descriptors_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap : HUP; trap '' TERM; exec 7>locked; flock 7 && echo; read line";
        let mut command = Command::new("sh");
        command.args(["-c", script, "", "two words"]).current_dir(dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let pid = child.id() as i32;
        assert_eq!(arguments(pid, 1000), ["sh", "-c", script, "", "two words"]);
        assert_eq!(arguments(pid, 8), ["sh", "-c", "tr..."]);
        let manners = manners(pid).unwrap();
        assert!(manners.ignores(15) && !manners.ignores(1) && !manners.ignores(2));
        assert!(manners.catches(1) && !manners.catches(15));
        assert_eq!(manners.user, rustix::process::geteuid().as_raw());
        let locked = dir.path().canonicalize().unwrap().join("locked").to_string_lossy().into_owned();
        assert!(descriptors(pid, 100).contains(&(7, locked)));
        assert_eq!(descriptors(pid, 1).len(), 1);
        assert!(holds_lock(pid, 7) && !holds_lock(pid, 0));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!((arguments(pid, 9), descriptors(pid, 9), self::manners(pid)), (vec![], vec![], None));
    }

    #[test]
    fn a_process_is_described_as_it_was_started() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // The echo proves that the program runs, so that its environment is there.
        command.args(["-c", "echo; read line"]).current_dir(dir.path()).env("MARK", "a=b").env("OTHER", "x");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let pid = child.id() as i32;
        assert_eq!(working_dir(pid).unwrap(), dir.path().canonicalize().unwrap());
        assert!(executable(pid).unwrap().is_absolute());
        assert!(age(super::super::procfs::stat(pid).unwrap().start).unwrap() < Duration::from_secs(60));
        let found = variables(pid, &["MARK", "ABSENT"]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("MARK".to_owned(), "a=b".to_owned())]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(variables(pid, &["MARK"]), None);
        assert_eq!(working_dir(pid), None);
    }
}
