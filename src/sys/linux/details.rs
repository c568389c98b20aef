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
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok().filter(|b| !b.is_empty())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

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
