//! Signals for a program that supervises another one: ends of children and requests to end, both as descriptors.
//!
//! Descriptors and not handlers: nothing global is left behind, so a second run in the same process works like the first,
//! and the notice says whether the terminal sent it, to the whole foreground group, or somebody to this process alone.
//! The price is that the signals are blocked in the calling thread, which should therefore be the only one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;
use std::time::{Duration, Instant};

use super::fds::{Until, poll};
use super::signals::{self, Disposition};

/// The sender is the kernel itself (sigaction(2)): for the requests here, that is the terminal.
const SI_KERNEL: i32 = 0x80;

/// Somebody wants this process to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) signal: i32,
    /// Ctrl-C and its like: everybody in the foreground process group has got the same signal.
    pub(crate) from_terminal: bool,
}

/// Both descriptors. Dropping it unblocks the signals again.
pub(crate) struct Notices {
    child_ends: OwnedFd,
    requests: OwnedFd,
    /// What was blocked before.
    mask: libc::sigset_t,
}

impl Notices {
    /// Blocks SIGCHLD and those of the signals that would end this process now; one that is ignored, as under nohup(1),
    /// stays ignored, and one that has a handler stays with it.
    pub(crate) fn new(requests: &[i32]) -> io::Result<Notices> {
        // Were SIGCHLD ignored, as it may have been inherited, the kernel would reap the suite and keep its status.
        signals::set_plain(libc::SIGCHLD, false);
        // A blocked signal is queued even when it is ignored (kernel/signal.c: sig_ignored), hence the question.
        let requests: Vec<i32> =
            requests.iter().copied().filter(|s| signals::disposition(*s) == Disposition::Default).collect();
        let child_ends = descriptor(&[libc::SIGCHLD])?;
        let requests_fd = descriptor(&requests)?;
        let blocked = signals::set_of(&[&[libc::SIGCHLD], requests.as_slice()].concat());
        let mut mask = MaybeUninit::zeroed();
        // SAFETY: `blocked` is an initialized set, and `mask` is a live place for one, which the call fills.
        let mask = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, mask.as_mut_ptr());
            mask.assume_init()
        };
        Ok(Notices { child_ends, requests: requests_fd, mask })
    }

    /// For [`super::tree`].
    pub(crate) fn child_ends(&self) -> &OwnedFd {
        &self.child_ends
    }

    /// Readable when there is a request.
    pub(crate) fn requests(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }

    /// The next request that has arrived, if any.
    pub(crate) fn next_request(&self) -> Option<Request> {
        // signalfd(2): `struct signalfd_siginfo` is 128 bytes and begins with signo, errno and code.
        let mut info = [0; 128];
        match super::fds::read_some(&self.requests, &mut info) {
            Ok(Some(128)) => {
                let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
                Some(Request { signal: word(0), from_terminal: word(8) == SI_KERNEL })
            }
            _ => None,
        }
    }

    /// Starts a child that has the signal mask which the caller had before, and the caller's standard streams.
    ///
    /// Should this process be killed, the child is asked to end: a runner that is asked can end what it has started,
    /// one that is killed cannot. It is a last resort, because what the child has started is not told.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let (mask, parent) = (self.mask, super::process::own_pid());
        // SAFETY: `prepare` may run between fork and exec: it is async-signal-safe.
        unsafe { command.pre_exec(move || prepare(&mask, parent)) };
        command.spawn()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // SAFETY: `mask` was initialized by `new`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
    }
}

/// Writes to standard error, whatever the suite has made of it: it may have set the shared description to non-blocking.
///
/// A reader that takes nothing for five seconds does not get the rest, because our work does not wait for readers.
pub(crate) fn say_all(text: &str) {
    let stderr = rustix::stdio::stderr();
    // pipe(7): a pipe that is writable has room for PIPE_BUF bytes, so that writing them does not block.
    for mut chunk in text.as_bytes().chunks(4096) {
        while !chunk.is_empty() {
            let patience = Some(Instant::now() + Duration::from_secs(5));
            if !matches!(poll([Some((stderr, Until::Writable))], patience), Ok([true])) {
                return;
            }
            match signals::without_sigpipe(|| Ok(rustix::io::write(stderr, chunk)?)) {
                Ok(n) => chunk = &chunk[n..],
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }
}

/// How many columns the terminal has that standard error is; `None` if it is none, or one that cannot erase a line.
pub(crate) fn terminal_width() -> Option<usize> {
    let stderr = rustix::stdio::stderr();
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if dumb || !rustix::termios::isatty(stderr) {
        return None;
    }
    // Zero: whoever made the terminal has not said how wide it is.
    let width = rustix::termios::tcgetwinsize(stderr).map_or(0, |size| usize::from(size.ws_col));
    Some(if width == 0 { 80 } else { width })
}

/// In the child, before `exec`. An `io::Error` made from a number does not allocate. Async-signal-safe.
fn prepare(mask: &libc::sigset_t, parent: i32) -> io::Result<()> {
    // A kernel that refuses takes away no more than the last resort.
    // SAFETY: a plain system call that changes nothing but this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    // SAFETY: getppid(2) cannot fail.
    if unsafe { libc::getppid() } != parent {
        // It was killed before the line above took hold.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: `mask` is an initialized set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
    Ok(())
}

fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = signals::set_of(signals);
    // SAFETY: `set` is an initialized set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is blocked in the calling thread, as `/proc` says it.
    fn blocked() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|l| l.starts_with("SigBlk")).unwrap().to_owned()
    }

    #[test]
    fn a_request_is_read_once_and_the_mask_is_as_it_was() {
        let before = blocked();
        let notices = Notices::new(&[libc::SIGHUP]).unwrap();
        assert!(notices.next_request().is_none());
        // To this thread alone: libtest has others, which have not blocked it.
        // SAFETY: the calling thread exists.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGHUP) };
        let request = notices.next_request().unwrap();
        assert_eq!((request.signal, request.from_terminal), (libc::SIGHUP, false));
        assert!(notices.next_request().is_none());
        assert_ne!(blocked(), before);
        drop(notices);
        assert_eq!(blocked(), before);
    }

    #[test]
    fn a_child_does_not_inherit_what_is_blocked_here() {
        let before = blocked();
        let notices = Notices::new(&[libc::SIGTERM]).unwrap();
        let mut command = Command::new("grep");
        command.args(["SigBlk", "/proc/self/status"]).stdout(std::process::Stdio::piped());
        let output = notices.start(&mut command).unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), before);
    }
}
