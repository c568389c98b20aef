//! The oracle for "gone", which never trusts foster's own bookkeeping, and the scene in which a victim ends.
//!
//! Every process of the family has written its pid into a file and holds a FIFO open for writing.
//! They are gone when the kernel says so twice: each pidfd, opened while they lived, is readable, and the FIFO is at its
//! end. A canary, a process of the same program that is none of foster's business, has to be alive all the same.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

/// How long the end of everything may take before a test fails. It takes milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How long a family that nobody ends is watched before it counts as alive.
pub(crate) const CONTROL: Duration = Duration::from_millis(100);

/// A process that a test knows by a handle, not by a number.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    handle: OwnedFd,
}

impl Process {
    /// # Panics
    ///
    /// When it has been reaped already.
    pub(crate) fn open(pid: i32) -> Process {
        let handle = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty());
        Process { pid, handle: handle.unwrap_or_else(|e| panic!("process {pid} is gone already: {e}")) }
    }

    /// Waits for its end; true if it came in time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("poll: {e}"),
            }
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).unwrap_or_else(|e| panic!("signal to {}: {e}", self.pid));
    }

    /// Ends it for good, whatever it is doing.
    pub(crate) fn put_down(&self) {
        // ESRCH: it has ended.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        assert!(self.ends_within(LIMIT), "process {} survives SIGKILL", self.pid);
    }
}

/// A directory with the record and the FIFO of one family.
pub(crate) struct Scene {
    dir: TempDir,
    fifo: OwnedFd,
    armed: OwnedFd,
    canary: Child,
    canary_handle: Process,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let fifo = make_fifo(&dir.path().join("fifo"));
        let armed = make_fifo(&dir.path().join("armed"));
        let canary_fifo = make_fifo(&dir.path().join("canary.fifo"));
        let mut canary = Command::new(hide());
        canary.args(["alone".as_ref(), dir.path().join("canary").as_path(), &dir.path().join("canary.fifo")]);
        let mut canary = canary.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(read_line(canary.stdout.take().unwrap()), "hidden");
        drop(canary_fifo);
        let canary_handle = Process::open(canary.id() as i32);
        Scene { dir, fifo, armed, canary, canary_handle }
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.dir.path().join("fifo")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until somebody has written into the FIFO `armed`; false if `by`, who should bring that about, ends first.
    pub(crate) fn is_armed(&self, by: &Process) -> bool {
        let mut fds = [PollFd::new(&self.armed, PollFlags::IN), PollFd::new(&by.handle, PollFlags::IN)];
        // A first run of cargo may have to build.
        let limit = Timespec { tv_sec: 120, tv_nsec: 0 };
        while poll(&mut fds, Some(&limit)) == Err(rustix::io::Errno::INTR) {}
        fds[0].revents().contains(PollFlags::IN)
    }

    /// Waits until this has been said through the FIFO `armed`.
    pub(crate) fn hears(&self, word: &str) -> bool {
        let deadline = Instant::now() + LIMIT;
        let mut said = Vec::new();
        while !said.windows(word.len()).any(|w| w == word.as_bytes()) {
            let mut chunk = [0; 64];
            match rustix::io::read(&self.armed, &mut chunk) {
                Ok(0) => return false,
                Ok(n) => said.extend_from_slice(&chunk[..n]),
                Err(_) if Instant::now() >= deadline => return false,
                Err(_) => {
                    is_readable(&self.armed, deadline.saturating_duration_since(Instant::now()));
                }
            }
        }
        true
    }

    /// Waits until nobody has the FIFO `armed` open for writing any more.
    pub(crate) fn armed_ends(&self) -> bool {
        let deadline = Instant::now() + LIMIT;
        loop {
            match rustix::io::read(&self.armed, &mut [0; 16]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) if Instant::now() >= deadline => return false,
                Err(_) => {
                    is_readable(&self.armed, deadline.saturating_duration_since(Instant::now()));
                }
            }
        }
    }

    /// Everyone who has signed the record. To be called while they live.
    pub(crate) fn family(&self) -> Vec<Process> {
        let record = fs::read_to_string(self.record()).unwrap_or_default();
        record.lines().map(|pid| Process::open(pid.parse().unwrap())).collect()
    }

    /// # Panics
    ///
    /// When somebody of the family is alive after the limit, or the canary is not.
    pub(crate) fn assert_gone(&mut self, family: &[Process], what: &str) {
        // A bomb does not sign: all of it holds the FIFO.
        let enough = family.len() >= 2 || what.contains("bomb");
        assert!(enough, "{what}: only {} processes have signed the record", family.len());
        let began = Instant::now();
        for process in family {
            let left = LIMIT.saturating_sub(began.elapsed());
            if !process.ends_within(left) {
                let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
                for process in family {
                    process.put_down();
                }
                panic!("{what}: process {} has survived\n{status}", process.pid);
            }
        }
        if !self.fifo_is_closed() {
            self.put_down_holders();
            panic!("{what}: somebody who did not sign the record holds the FIFO");
        }
        assert!(self.canary_handle.is_alive(), "{what}: the canary is dead");
    }

    /// The negative control: without the mechanism somebody has to be alive, or the check proves nothing.
    pub(crate) fn assert_survived(&mut self, family: &[Process], what: &str) {
        self.assert_survived_until(Instant::now() + CONTROL, family, what);
    }

    /// As [`assert_survived`](Scene::assert_survived), for many families that are watched at once.
    pub(crate) fn assert_survived_until(&mut self, until: Instant, family: &[Process], what: &str) {
        let left = || until.saturating_duration_since(Instant::now());
        let all_gone = if what.contains("bomb") {
            self.fifo_is_closed_within(left())
        } else {
            family.iter().all(|p| p.ends_within(left()))
        };
        // A hopper leaves when it is told so.
        fs::write(self.path("stop"), "").unwrap();
        for process in family {
            process.put_down();
        }
        // Some families have a member that could not sign the record.
        self.put_down_holders();
        assert!(!all_gone, "{what}: everybody is gone although nothing was there to end them");
    }

    /// Ends whoever holds the FIFO, for as long as somebody does: what a test has to do behind a bomb without a keeper.
    pub(crate) fn put_down_holders(&self) {
        let fifo = self.fifo();
        let deadline = Instant::now() + LIMIT;
        while !self.fifo_is_closed_within(Duration::ZERO) {
            assert!(Instant::now() < deadline, "the holders of the FIFO cannot be ended");
            let mut holders = Vec::new();
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
                let Ok(handle) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { continue };
                let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
                // Writers only: a child of this very process holds our reading end for the moment before its exec.
                let writes = |fd: &std::ffi::OsStr| {
                    let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(fd);
                    let info = fs::read_to_string(info).unwrap_or_default();
                    let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap_or("0").trim();
                    u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & 3 == 1)
                };
                let mut fds = fds.flatten();
                let holds =
                    fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == fifo) && writes(&fd.file_name()));
                if holds && pid != std::process::id() as i32 {
                    let _ = pidfd_send_signal(&handle, Signal::STOP);
                    holders.push(handle);
                }
            }
            for handle in holders {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
        }
    }

    /// Whoever has signed is gone, and the FIFO is closed: for a family that was cut off in the middle of its beginning, so
    /// that somebody may sign only now.
    pub(crate) fn is_closed_for_good(&self) -> bool {
        let began = Instant::now();
        loop {
            let record = fs::read_to_string(self.record()).unwrap_or_default();
            let alive = |pid: &str| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.contains("(hide)") && !stat.contains(") Z ")
            };
            let left: Vec<&str> = record.lines().filter(|pid| alive(pid)).collect();
            if left.is_empty() {
                return self.fifo_is_closed();
            }
            for pid in left {
                let handle = pidfd_open(Pid::from_raw(pid.parse().unwrap()).unwrap(), PidfdFlags::empty());
                if let Ok(handle) = handle {
                    let process = Process { pid: pid.parse().unwrap(), handle };
                    if !process.ends_within(LIMIT.saturating_sub(began.elapsed())) {
                        process.put_down();
                        return false;
                    }
                }
            }
        }
    }

    /// No process has the FIFO open for writing any more.
    fn fifo_is_closed(&self) -> bool {
        self.fifo_is_closed_within(LIMIT)
    }

    pub(crate) fn fifo_is_closed_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match rustix::io::read(&self.fifo, &mut [0; 16]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
                    if poll(&mut [PollFd::new(&self.fifo, PollFlags::IN)], Some(&timeout)) == Ok(0) {
                        return false;
                    }
                }
                Err(e) => panic!("read: {e}"),
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.canary.kill();
        let _ = self.canary.wait();
    }
}

pub(crate) fn make_fifo(path: &Path) -> OwnedFd {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// The first line that a program prints; empty if it ends without one. Every fixture program ends in time.
pub(crate) fn read_line(from: impl std::io::Read) -> String {
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Waits until there is something to read.
pub(crate) fn is_readable(fd: &OwnedFd, limit: Duration) -> bool {
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    while poll(&mut fds, Some(&timeout)) == Err(rustix::io::Errno::INTR) {}
    fds[0].revents().contains(PollFlags::IN)
}

/// A program, started with every signal at its default, whatever whoever runs the tests ignores.
pub(crate) fn fresh(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fresh"));
    command.arg(program);
    // Under the leak check: what these programs do not end is the point of a test, and no news about this suite.
    command.env_remove("FOSTER_LEAKCHECK").env_remove("FOSTER_FIXTURE");
    command
}

/// The program that hides.
pub(crate) fn hide() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("hide")
}
