//! Signal dispositions, masks, `signalfd`, and the handler through which a test process hears that it is to end.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// The highest signal number of Linux on every architecture but MIPS, where a larger one is simply not asked about.
pub(crate) const LAST_SIGNAL: i32 = 64;

pub(crate) use libc::{SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM};

/// What a process does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The kernel's default action.
    Default,
    /// Ignored.
    Ignore,
    /// A function of somebody's.
    Handler,
}

/// Asks without changing anything (sigaction(2)).
pub(crate) fn disposition(signal: i32) -> Disposition {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only queries; `old` is a live sigaction, and all zeroes is a valid one (SIG_DFL).
    let old = unsafe {
        libc::sigaction(signal, ptr::null(), old.as_mut_ptr());
        old.assume_init()
    };
    match old.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignore,
        _ => Disposition::Handler,
    }
}

/// Sets one of the two dispositions that are no function. Async-signal-safe.
pub(crate) fn set_plain(signal: i32, ignore: bool) {
    // SAFETY: all zeroes is a valid sigaction (empty mask, no flags); SIG_DFL and SIG_IGN run no code of ours.
    // A refusal (SIGKILL, SIGSTOP, the two that glibc keeps) leaves what was there, which is what we want.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// What the guardian and the keepers ignore: they end when their work is done, not when somebody asks.
pub(crate) fn ignore_requests_to_end() {
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGXCPU,
        libc::SIGXFSZ,
    ] {
        set_plain(signal, true);
    }
}

/// A set of signals, as the system calls take it.
pub(super) fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: sigemptyset initializes the set; sigaddset changes a live, initialized one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks every signal in the calling thread for as long as `f` runs: a thread that `f` starts keeps them blocked,
/// so it is never the one that runs a handler of the user's.
pub(crate) fn with_all_blocked<T>(f: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::zeroed();
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both sets are live locals; `old` is written before it is used below.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
    }
    let result = f();
    // SAFETY: `old` was initialized by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut()) };
    result
}

/// Blocks no signal any more. Async-signal-safe.
pub(crate) fn unblock_all() {
    let none = set_of(&[]);
    // SAFETY: `none` is a live, initialized set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Ends of children as a descriptor to poll (signalfd(2)); SIGCHLD stays blocked in the caller from now on.
pub(crate) fn child_ends() -> io::Result<OwnedFd> {
    let set = set_of(&[libc::SIGCHLD]);
    // SIGCHLD must not be ignored: children would then be reaped by the kernel, unseen.
    set_plain(libc::SIGCHLD, false);
    // SAFETY: `set` is a live, initialized set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
    // SAFETY: as above; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the notices that wait in a descriptor of [`child_ends`]; call it before reaping, so that none is missed.
pub(crate) fn drain(child_ends: &OwnedFd) {
    let mut buf = [0; 128 * 4];
    while matches!(super::fds::read_some(child_ends, &mut buf), Ok(Some(n)) if n == buf.len()) {}
}

/// Runs a write that must not raise SIGPIPE, without touching the process's disposition.
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // Rust's runtime ignores SIGPIPE before `main`: the usual case costs one query.
    if disposition(libc::SIGPIPE) != Disposition::Default {
        return write();
    }
    let pipe = set_of(&[libc::SIGPIPE]);
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are live; `old` is initialized by the call.
    let old = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, old.as_mut_ptr());
        old.assume_init()
    };
    let result = write();
    if matches!(&result, Err(e) if e.raw_os_error() == Some(libc::EPIPE)) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // The signal is thread-directed (signal(7)), so it waits for this thread: take it back.
        // SAFETY: all three pointers are live or null where null is allowed.
        unsafe { libc::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const now) };
    }
    // SAFETY: `old` is an initialized set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut()) };
    result
}

/// Process that installed the handlers: a copy made by `fork` must not clean up on its parent's account.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// The signal that has arrived, 0 for none yet.
static ARRIVED: AtomicI32 = AtomicI32::new(0);

/// Marks in [`ARRIVED`] that it was the guardian's: only signals of others count as a first and a second one.
const FROM_GUARDIAN: i32 = 1 << 8;
/// Where the handler announces it.
static WAKE: OnceLock<OwnedFd> = OnceLock::new();
/// The guardian, which is our child and not reaped, so that the number is its own.
static GUARDIAN: AtomicI32 = AtomicI32::new(0);

/// Tells the handler who the guardian is: its SIGTERM, after the death of the runner, never counts as the second signal.
///
/// The Ctrl-C that ended the runner may have reached this process as well, and then it is cleaning up already; how long
/// that takes to show is up to the machine.
pub(crate) fn note_guardian(pid: i32) {
    GUARDIAN.store(pid, Ordering::Release);
}

/// The signal that the process has been asked to end by, if it has.
pub(crate) fn arrived() -> Option<i32> {
    Some(ARRIVED.load(Ordering::Acquire)).filter(|s| *s > 0).map(|s| s & !FROM_GUARDIAN)
}

/// Installs the handler for each of the signals that is at its default now.
///
/// With sigaction(2) and not through signal-hook's registry: there, whoever registers after us is called *beside* us and
/// has no means to keep us from ending the process, and we have none to see that he is there. This way he is installed
/// over us, which the handler can see; see [`on_ending`].
///
/// Returns the end of a pipe which delivers one byte when the first of them arrives, or `None` if all were taken.
pub(crate) fn catch_endings(signals: &[i32]) -> io::Result<Option<OwnedFd>> {
    let free: Vec<i32> = signals.iter().copied().filter(|s| disposition(*s) == Disposition::Default).collect();
    if free.is_empty() {
        return Ok(None);
    }
    let (read, write) = super::fds::pipe()?;
    super::fds::set_nonblocking(&write)?;
    if WAKE.set(write).is_err() {
        return Ok(None);
    }
    OWNER.store(super::process::own_pid(), Ordering::Release);
    for signal in free {
        // SAFETY: all zeroes is a valid sigaction. `on_ending` has the signature that SA_SIGINFO asks for and does only
        // what signal-safety(7) allows: atomics, getpid, sigaction, write, and signal-hook's emulation of the default
        // action, which is documented as safe in a handler.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = handler();
            // On the thread's own stack, and one at a time: two frames do not fit onto the small alternate stack that
            // std's threads have, and the kernel would answer the second with SIGSEGV (sigaltstack(2)).
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            action.sa_mask = set_of(signals);
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
    Ok(Some(read))
}

fn handler() -> libc::sighandler_t {
    on_ending as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as libc::sighandler_t
}

/// The handler. The first signal starts the clean-up on a thread that may take its time; a second one ends at once.
///
/// If somebody has installed a handler over this one and calls it as the one before his, as signal-hook and tokio do, then
/// it is his to say what the signal means, and nothing is done here.
///
/// Async-signal-safe.
extern "C" fn on_ending(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only queries; all zeroes is a valid sigaction.
    let now = unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    if now.sa_sigaction != handler() {
        return;
    }
    let ours = OWNER.load(Ordering::Acquire) == super::process::own_pid();
    // SAFETY: with SA_SIGINFO the kernel passes a live siginfo; `si_pid` is there for what kill and pidfd_send_signal
    // have sent (SI_USER, sigaction(2)).
    let sender = unsafe { if (*info).si_code == libc::SI_USER { (*info).si_pid() } else { 0 } };
    let from_guardian = ours && sender != 0 && sender == GUARDIAN.load(Ordering::Acquire);
    let arrive =
        |before: i32, now: i32| ARRIVED.compare_exchange(before, now, Ordering::AcqRel, Ordering::Acquire).is_ok();
    let first = ours && arrive(0, if from_guardian { signal | FROM_GUARDIAN } else { signal });
    if !first {
        // The first one of somebody else's takes the place of the guardian's; his second one ends it at once.
        if from_guardian || arrive(SIGTERM | FROM_GUARDIAN, signal) {
            return;
        }
        die_by(signal);
    }
    if let Some(fd) = WAKE.get() {
        // SAFETY: one byte from a constant to a descriptor that is never closed; it is the first, so there is room. The
        // location of errno is the thread's own; the code that was interrupted must find it unchanged.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(fd.as_raw_fd(), c"!".as_ptr().cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// Ends the process as this signal would have ended it without a handler, so that its parent sees the right status.
///
/// The first process of a pid namespace, as in a container, cannot be ended by a signal from inside (pid_namespaces(7)):
/// it exits with 128 plus the number, which is what a shell would say.
///
/// Async-signal-safe.
pub(crate) fn die_by(signal: i32) {
    if super::process::own_pid() == 1 {
        super::exit::exit_now(128 + signal);
    }
    // It returns only for signals whose default is to be ignored, which are never caught here.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// Nobody listens after all: the signals that were caught end the process at once again.
pub(crate) fn release_endings() {
    // Every arrival counts as the second one.
    ARRIVED.store(-1, Ordering::Release);
}

/// Blocks until [`catch_endings`] has news; the signal.
pub(crate) fn next_ending(news: &OwnedFd) -> Option<i32> {
    // The reading end is left blocking: this returns with the byte, or with an error, and then nothing can be awaited.
    matches!(super::fds::read_some(news, &mut [0]), Ok(Some(1))).then(arrived)?
}
