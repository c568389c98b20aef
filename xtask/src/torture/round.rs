//! One round: a tortured process, one deed of ours, and the wait until nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

/// How long a round may take to be empty after the tortured process has ended.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);

/// How long the tortured process may take to end by itself, before it is ended: some of them wait for that.
const PATIENCE: Duration = Duration::from_millis(300);

/// What we do to a round, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Nothing,
    /// A signal to the tortured process.
    Signal(Signal),
    /// SIGSTOP to it, and then SIGKILL.
    StopThenKill,
    /// A signal to its guardian.
    Guardian(Signal),
    /// A signal to one of its keepers.
    Keeper(Signal),
}

impl Deed {
    pub(super) fn of(random: &mut impl FnMut() -> u64) -> Deed {
        match random() % 16 {
            0..=2 => Deed::Nothing,
            3..=6 => Deed::Signal(Signal::KILL),
            7 => Deed::Signal(Signal::TERM),
            8 => Deed::Signal(Signal::INT),
            9 => Deed::Signal(Signal::HUP),
            10 => Deed::Signal(Signal::QUIT),
            11 => Deed::StopThenKill,
            12 => Deed::Guardian(Signal::KILL),
            13 => Deed::Guardian(Signal::STOP),
            14 => Deed::Keeper(Signal::KILL),
            _ => Deed::Keeper(Signal::STOP),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Deed::Nothing => "none".to_owned(),
            Deed::Signal(signal) => name(signal).to_owned(),
            Deed::StopThenKill => "SIGSTOP, SIGKILL".to_owned(),
            Deed::Guardian(signal) => format!("guardian {}", name(signal)),
            Deed::Keeper(signal) => format!("keeper {}", name(signal)),
        }
    }
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::KILL => "SIGKILL",
        Signal::TERM => "SIGTERM",
        Signal::INT => "SIGINT",
        Signal::HUP => "SIGHUP",
        Signal::QUIT => "SIGQUIT",
        Signal::STOP => "SIGSTOP",
        _ => "another signal",
    }
}

/// A process by a handle.
struct Process {
    pid: i32,
    handle: OwnedFd,
}

impl Process {
    fn open(pid: i32) -> Option<Process> {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Process { pid, handle })
    }

    fn signal(&self, signal: Signal) {
        // ESRCH: it was quicker.
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

/// True when one of these has ended before the deadline.
fn any_ends(processes: &[Process], deadline: Instant) -> bool {
    let mut fds: Vec<PollFd<'_>> = processes.iter().map(|p| PollFd::new(&p.handle, PollFlags::IN)).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

pub(super) fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect()
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Plays one round to its end. How long it took to be empty, or the evidence.
pub(super) fn play(seed: u64, deed: Deed, moment: Duration, programs: &Path, canary: i32) -> Result<Duration, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).map_err(|e| e.to_string())?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let reader = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty()).map_err(|e| e.to_string())?;
    let temp = dir.path().join("tmp");
    fs::create_dir(&temp).map_err(|e| e.to_string())?;

    let mut command = Command::new(programs.join("tortured"));
    command.arg(seed.to_string()).arg(programs.join("hide")).arg(dir.path()).env("TMPDIR", &temp);
    for name in ["FOSTER_DISABLE", "FOSTER_REQUIRE", "FOSTER_TIMEOUT_SCALE"] {
        command.env_remove(name);
    }
    // Every other round without a cgroup, as on most machines.
    if seed % 2 == 1 {
        command.env("FOSTER_DISABLE", "cgroup");
    }
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its status is none of our business, and it is reaped with everybody else.
    let victim = quiet.spawn().map_err(|e| e.to_string())?.id() as i32;
    let victim = [Process::open(victim).ok_or("the tortured process was gone at once")?];
    let ended = any_ends(&victim, Instant::now() + moment);
    if !ended {
        act(deed, &victim[0]);
    }
    if !any_ends(&victim, Instant::now() + PATIENCE) {
        victim[0].signal(Signal::KILL);
    }
    let began = Instant::now();
    let result = wait_until_empty(canary, began + EMPTY_LIMIT);
    let took = began.elapsed();
    result.map_err(|left| format!("still alive after {took:.1?}:\t{left}"))?;
    if !is_alive(canary) {
        return Err("the canary is dead: a signal went to a stranger".to_owned());
    }
    if !matches!(rustix::io::read(&reader, &mut [0; 1]), Ok(0)) {
        return Err("somebody holds the FIFO, although no child is left".to_owned());
    }
    let left: Vec<PathBuf> = fs::read_dir(&temp).map_err(|e| e.to_string())?.flatten().map(|e| e.path()).collect();
    // Only the guardian, or a keeper in its place, removes what they have made; both may have been killed.
    if !left.is_empty() && !matches!(deed, Deed::Guardian(Signal::KILL) | Deed::Keeper(_)) {
        return Err(format!("temporary directories are left: {left:?}"));
    }
    let left = cgroups_of(victim[0].pid);
    if !left.is_empty() && !matches!(deed, Deed::Guardian(Signal::KILL)) {
        return Err(format!("cgroups are left: {left:?}"));
    }
    // If it was killed just behind its test process and its keepers, nobody is left to remove them. They are empty, or the
    // above would have failed.
    for cgroup in left {
        // Those of the fixtures, if a keeper was on its way.
        for below in fs::read_dir(&cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            let _ = fs::remove_dir(below.path());
        }
        fs::remove_dir(&cgroup).map_err(|e| format!("a cgroup is left and not empty: {}: {e}", cgroup.display()))?;
    }
    Ok(took)
}

/// The cgroups that were made for this test process, wherever version 2 is mounted.
fn cgroups_of(victim: i32) -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let prefix = format!("foster-{victim}-");
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| Path::new(root).join(own));
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect()
}

fn act(deed: Deed, victim: &Process) {
    let guardian = || children(victim.pid).into_iter().find(|p| comm(*p) == "foster-guardian");
    match deed {
        Deed::Nothing => {}
        Deed::Signal(signal) => victim.signal(signal),
        Deed::StopThenKill => {
            victim.signal(Signal::STOP);
            victim.signal(Signal::KILL);
        }
        Deed::Guardian(signal) => {
            if let Some(guardian) = guardian().and_then(Process::open) {
                signal_unless_ended(&guardian, signal, victim);
            }
        }
        Deed::Keeper(signal) => {
            let keepers = guardian().map(children).unwrap_or_default();
            if let Some(keeper) = keepers.first().copied().and_then(Process::open) {
                signal_unless_ended(&keeper, signal, victim);
            }
        }
    }
}

/// Whoever is stopped *after* the end of its parent has nobody who could let it go on: that is not a case.
fn signal_unless_ended(process: &Process, signal: Signal, victim: &Process) {
    process.signal(signal);
    if signal == Signal::STOP && any_ends(std::slice::from_ref(victim), Instant::now()) {
        process.signal(Signal::CONT);
    }
}

/// Reaps children until only the canary is left; `Err` names who is.
fn wait_until_empty(canary: i32, deadline: Instant) -> Result<(), String> {
    let own = std::process::id() as i32;
    loop {
        let left: BTreeSet<i32> = children(own).into_iter().filter(|p| *p != canary).collect();
        if left.is_empty() {
            return Ok(());
        }
        // A child that only we can reap keeps its number until then.
        let mut processes = Vec::new();
        for pid in &left {
            let reaped = rustix::process::waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG);
            if !matches!(reaped, Ok(Some(_))) {
                processes.extend(Process::open(*pid));
            }
        }
        if processes.len() == left.len() && !any_ends(&processes, deadline) {
            let names = describe(&left);
            for process in &processes {
                process.signal(Signal::KILL);
            }
            return Err(names);
        }
    }
}

fn describe(pids: &BTreeSet<i32>) -> String {
    let mut lines = Vec::new();
    let mut next: Vec<i32> = pids.iter().copied().collect();
    while let Some(pid) = next.pop() {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map_or("?", |(_, tail)| tail.trim()).chars().take(20).collect::<String>();
        lines.push(format!("pid {pid} ({}) {state}: {line}", comm(pid)));
        next.extend(children(pid));
    }
    lines.join("\t")
}

pub(super) fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
