//! One process at a time: pidfds, reaping, forking, and what a process may set about itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// The calling process's number.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The parent's number; 0 when the parent lives in another pid namespace.
pub(crate) fn parent_pid() -> i32 {
    rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get())
}

/// The user that the calling process acts as.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A handle on a process that can never come to mean another one (pidfd_open(2), Linux 5.3).
///
/// Readable as soon as the process, with all its threads, has ended.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Signals exactly the process behind the handle; `ESRCH` once it has been reaped (pidfd_send_signal(2)).
pub(crate) fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // Not through rustix, whose type has no real-time signals.
    // SAFETY: a live descriptor and plain numbers; a null siginfo is what kill(2) would send.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals a child that the caller has not reaped yet, so its number cannot have passed to a stranger.
pub(crate) fn signal_child(pid: i32, signal: i32) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(pid, known(signal)?)?)
}

/// Signals a process group that the caller knows to hold an unreaped child of its own.
pub(crate) fn signal_group(group: i32, signal: i32) -> io::Result<()> {
    // Zero and one would mean "my own group" and "everybody" to kill(2).
    let group = Pid::from_raw(group).filter(|g| !g.is_init()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process_group(group, known(signal)?)?)
}

fn known(signal: i32) -> io::Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The session of a process, 0 for the caller's own.
///
/// The answer may be 0, too: the session began outside of this pid namespace, as it does for the first process of a container.
pub(crate) fn session(pid: i32) -> io::Result<i32> {
    // Not through rustix, which takes the 0 for impossible.
    // SAFETY: getsid(2) has no preconditions.
    match unsafe { libc::getsid(pid) } {
        -1 => Err(io::Error::last_os_error()),
        session => Ok(session),
    }
}

/// What [`reap_any`] found.
#[derive(Debug)]
pub(crate) enum Reaped {
    /// This child is gone for good now.
    One(i32, ExitStatus),
    /// There are children, all alive.
    NothingYet,
    /// The kernel says that there is no child at all (`ECHILD`): the proof of an empty tree in a subreaper.
    NoChild,
}

/// Reaps one ended child of the caller, whichever it is.
///
/// Only for processes that are foster's own: in a test process it would steal other people's children.
pub(crate) fn reap_any() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int through a pointer to a live local.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        match pid {
            0 => return Reaped::NothingYet,
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return Reaped::NoChild,
            pid => return Reaped::One(pid, ExitStatus::from_raw(status)),
        }
    }
}

/// A child of the caller that has been stopped since the last call; each stop is told once (waitid(2), WSTOPPED).
pub(crate) fn next_stopped() -> Option<i32> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a live siginfo, and all zeroes is a valid one; with WNOHANG it stays zero when there is nothing.
    let info = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WSTOPPED | libc::WNOHANG | libc::__WALL) != 0 {
            return None;
        }
        info.assume_init()
    };
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left them zero.
    Some(unsafe { info.si_pid() }).filter(|pid| *pid != 0)
}

/// The kernel sends the caller SIGCONT when its parent, or the thread of it that made it, ends (prctl(2)).
///
/// To one that runs it means nothing; one that somebody has stopped goes on, sees that it is alone, and cleans up.
pub(crate) fn go_on_with_parents_end() {
    // Refused nowhere; without it, one that is stopped when its parent ends would stay behind.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::CONT));
}

/// The status of a child of the caller that has ended, left to be reaped: until then its number is pinned.
pub(crate) fn peek_status(pid: i32) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = rustix::process::waitid(WaitId::Pid(Pid::from_raw(pid)?), options).ok()??;
    // wait(2): exit code in the second byte, or the signal in the lowest seven bits with the core flag above them.
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { 0x80 } else { 0 },
        (None, None) => return None,
    };
    Some(ExitStatus::from_raw(raw))
}

/// Is this still a child of the caller that nobody has reaped? Then its number is its own.
pub(crate) fn is_unreaped(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::waitid(WaitId::Pid(pid), options).is_ok())
}

/// A descriptor that is readable once this unreaped child of the caller has ended.
///
/// A pidfd where the kernel has them; before Linux 5.3, the end of a pipe that a waiting thread lets go.
pub(crate) fn watch_child(pid: i32) -> io::Result<OwnedFd> {
    if let Ok(fd) = pidfd(pid) {
        return Ok(fd);
    }
    let (read, write) = super::fds::pipe()?;
    let wait = move || {
        if let Some(pid) = Pid::from_raw(pid) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
        }
        drop(write);
    };
    super::signals::with_all_blocked(|| std::thread::Builder::new().name("foster-wait".to_owned()).spawn(wait))?;
    Ok(read)
}

/// Reaps a child that is about to end, if it does so before the deadline.
pub(crate) fn reap_child(child: &mut std::process::Child, deadline: std::time::Instant) {
    use super::fds::{Until, poll};
    if let Ok(fd) = pidfd(child.id() as i32) {
        let _ = poll([Some((fd.as_fd(), Until::Readable))], Some(deadline));
    }
    // Not `wait`: a child that somebody has stopped must not stop us.
    let _ = child.try_wait();
}

/// Every descendant that loses its parent becomes a child of the caller, instead of init's (prctl(2)).
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// The name that `ps` and `pkill` see; cut to 15 bytes by the kernel.
pub(crate) fn set_name(name: &std::ffi::CStr) {
    // Cosmetic: a kernel that refuses leaves the old name.
    let _ = rustix::thread::set_name(name);
}

/// Leaves the session, the process group and the controlling terminal of whoever started this process.
pub(crate) fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Raises the caller's own soft limits to its hard ones where they could stop it from doing its work.
///
/// The test process may have had low ones for a moment; helpers get the limits that their request brings.
pub(crate) fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for resource in [Resource::Nofile, Resource::Nproc, Resource::As, Resource::Data, Resource::Fsize] {
        let now = getrlimit(resource);
        // Best effort: with the old limit some requests are refused, and that is said.
        let _ = setrlimit(resource, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}

/// While it lives, the caller goes before everything that has no real-time priority (sched(7)), if it may.
///
/// Without it, a saturated tree leaves its killer no more time than each of its own hundreds of processes gets.
#[derive(Debug)]
pub(crate) struct GoFirst(());

impl GoFirst {
    pub(crate) fn new() -> GoFirst {
        set_scheduler(libc::SCHED_RR, 1);
        GoFirst(())
    }
}

impl Drop for GoFirst {
    fn drop(&mut self) {
        set_scheduler(libc::SCHED_OTHER, 0);
    }
}

fn set_scheduler(policy: i32, priority: i32) {
    // SAFETY: all zeroes is a valid sched_param on every libc.
    let mut param = unsafe { std::mem::zeroed::<libc::sched_param>() };
    param.sched_priority = priority;
    // Not everybody may: then it takes longer, that is all.
    // SAFETY: a plain system call on the calling thread with a live parameter.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
}

/// Copies the caller. `Ok(0)` in the copy.
///
/// Only called in the guardian, which has one thread: the copy may allocate, open files and lock.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the guardian is single-threaded, so no lock can be held by a thread that the copy does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Points descriptors 0, 1 and 2 at `/dev/null`, so that nobody waits for an end of file on our account.
pub(crate) fn detach_stdio() -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    if rustix::fd::AsRawFd::as_raw_fd(&null) <= 2 {
        // It *is* one of the three: closing it would undo the work.
        std::mem::forget(null);
    }
    Ok(())
}

/// A copy of standard input above the standard descriptors, close-on-exec.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}

/// Closes every descriptor above 2 that is not in `keep` (close_range(2), Linux 5.9; else one by one).
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) {
    use std::os::fd::AsRawFd;
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > from {
            let to = if fd == u32::MAX { fd } else { fd - 1 };
            close_range(from, to);
        }
        from = fd.saturating_add(1);
    }
}

fn close_range(from: u32, to: u32) {
    // SAFETY: nothing in this process owns these descriptors: they came through `exec` or `fork` from a process
    // whose Rust owners do not exist here, or their owners have been forgotten by the caller.
    let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    if done != 0 {
        let last = to.min(
            u32::try_from(rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024))
                .unwrap_or(1024),
        );
        for fd in from..=last {
            // SAFETY: as above. A number that is not open answers EBADF, which is what we want.
            unsafe { libc::close(fd as i32) };
        }
    }
}
