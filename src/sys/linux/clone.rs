//! Starts a helper from a keeper: the child half between `clone` and `exec`.
//!
//! `clone(CLONE_VM | CLONE_VFORK)` on a stack of its own is what glibc's `posix_spawn` does (clone(2)):
//! no page table is copied, the parent stands still until the child has called `exec`,
//! and an error comes back through the memory that they share for that moment.
//! `posix_spawn` itself cannot set a umask, limits or a parent-death signal, so this is written out.
//!
//! Into a cgroup only `clone3` can start a process; see [`super::clone3`].

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use super::inherit::{Inherited, LIMITS};

/// Everything that the child needs, ready to use without allocating.
pub(crate) struct Program {
    /// Places where the program may be, in the order in which they are tried.
    pub(crate) candidates: Vec<CString>,
    /// `argv`, with the name first.
    pub(crate) args: Vec<CString>,
    /// `KEY=value` strings.
    pub(crate) env: Vec<CString>,
    /// The test process's working directory.
    pub(crate) cwd: OwnedFd,
    /// Where to go from there, if anywhere.
    pub(crate) dir: Option<CString>,
    /// Standard input, output and error.
    pub(crate) stdio: [OwnedFd; 3],
    /// Standard input is a terminal, which becomes that of the new session.
    pub(crate) terminal: bool,
    /// umask, ignored signals, limits.
    pub(crate) inherited: Inherited,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making the process itself.
    Clone,
    /// A session of its own, the parent-death signal, limits, standard streams.
    Prepare,
    /// Entering the working directory.
    Chdir,
    /// `exec`.
    Exec,
}

impl Stage {
    /// As it travels.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// Back from the wire.
    pub(crate) fn from_code(code: u8) -> Option<Stage> {
        [Stage::Clone, Stage::Prepare, Stage::Chdir, Stage::Exec].into_iter().find(|s| s.code() == code)
    }
}

/// What the child could not do, and the errno.
type Failed = Option<(Stage, i32)>;

/// What parent and child share while the parent stands still.
struct Shared<'a> {
    program: &'a Program,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    parent: i32,
    changed_limits: [bool; LIMITS],
    own_ignored: u64,
    /// Where the child leaves what failed.
    failed: *mut Failed,
}

/// What a child would have from the caller itself; read once, ahead of need, because the caller does not change it.
#[derive(Debug)]
pub(crate) struct Own {
    limits: [(u64, u64); LIMITS],
    /// Bit `n - 1` is set when signal `n` is ignored.
    ignored: u64,
}

impl Own {
    pub(crate) fn read() -> Own {
        Own { limits: super::inherit::limits(), ignored: super::inherit::ignored() }
    }
}

/// Starts the program as a child of the caller, in this cgroup; its pid, or where and why it failed.
///
/// The caller must be single-threaded and without signal handlers, as keepers are: the child shares its memory.
pub(crate) fn start(program: &Program, own: &Own, cgroup: Option<BorrowedFd<'_>>) -> Result<i32, (Stage, io::Error)> {
    let mut changed_limits = [false; LIMITS];
    for (slot, (ours, theirs)) in changed_limits.iter_mut().zip(own.limits.iter().zip(&program.inherited.limits)) {
        *slot = ours != theirs;
    }
    let mut failed: Failed = None;
    let mut shared = Shared {
        program,
        argv: pointers(&program.args),
        envp: pointers(&program.env),
        parent: super::process::own_pid(),
        changed_limits,
        own_ignored: own.ignored,
        failed: &raw mut failed,
    };
    const STACK: usize = 64 * 1024;
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / 16);
    let argument = (&raw mut shared).cast();
    // CLONE_VFORK suspends this (only) thread until the child has called exec or _exit, so `shared` and the stack outlive
    // every access of the child's, and nothing else touches them meanwhile. `child` never returns.
    let pid = match cgroup {
        None => {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            // SAFETY: as said above; the stack begins one past the end of the allocation, because it grows down.
            let pid = unsafe { libc::clone(child, stack.as_mut_ptr().add(stack.capacity()).cast(), flags, argument) };
            if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
        }
        // SAFETY: as said above.
        Some(cgroup) => unsafe {
            super::clone3::vfork_into_cgroup(child, stack.spare_capacity_mut(), argument, cgroup)
        },
    };
    let pid = pid.map_err(|e| (Stage::Clone, e))?;
    // SAFETY: a volatile read of a live local: the compiler cannot know that the child wrote it.
    match unsafe { ptr::read_volatile(&raw const failed) } {
        None => Ok(pid),
        Some((stage, errno)) => {
            // SAFETY: the child has called _exit; this reaps it, so that the failure leaves no zombie behind.
            unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
            Err((stage, io::Error::from_raw_os_error(errno)))
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// The child: prepares itself and becomes the program, or says why not.
///
/// Does not allocate, lock, log or panic. Async-signal-safe.
extern "C" fn child(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes a pointer to its own local and stands still until this process is gone from its memory.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    let failed = prepare(shared).unwrap_or_else(|| (Stage::Exec, exec(shared)));
    // SAFETY: `start` has put it there for this; volatile, because the reader is another process.
    unsafe { ptr::write_volatile(shared.failed, Some(failed)) };
    super::exit::exit_now(127)
}

/// `None` when everything is ready for `exec`. Async-signal-safe.
fn prepare(shared: &Shared<'_>) -> Option<(Stage, i32)> {
    let program = shared.program;
    // A session of its own: no controlling terminal, and a process group that no other fixture can be in.
    // SAFETY: here and below, plain system calls on values that outlive them; none of them allocates.
    if unsafe { libc::setsid() } < 0 {
        return Some((Stage::Prepare, errno()));
    }
    // The last resort for the case that guardian and keeper are killed in the same instant.
    // SAFETY: see above.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
        return Some((Stage::Prepare, errno()));
    }
    // SAFETY: see above.
    if unsafe { libc::getppid() } != shared.parent {
        // The keeper was killed before the line above took hold.
        super::exit::exit_now(127);
    }
    for signal in 1..=super::signals::LAST_SIGNAL {
        let bit = 1 << (signal - 1);
        // std::process resets SIGPIPE for its children, because its runtime has ignored it; so do we.
        let ignored = program.inherited.ignored & bit != 0 && signal != libc::SIGPIPE;
        // What is not ignored is reset by execve(2), if there is anything to be reset.
        if ignored != (shared.own_ignored & bit != 0) {
            super::signals::set_plain(signal, ignored);
        }
    }
    if let Some(umask) = program.inherited.umask {
        // SAFETY: see above.
        unsafe { libc::umask(umask) };
    }
    for (target, fd) in (0..).zip(&program.stdio) {
        if let Some(errno) = move_to(fd.as_raw_fd(), target) {
            return Some((Stage::Prepare, errno));
        }
    }
    if program.terminal {
        if let Some(errno) = super::pty::take_terminal() {
            return Some((Stage::Prepare, errno));
        }
    }
    // SAFETY: see above.
    if unsafe { libc::fchdir(program.cwd.as_raw_fd()) } < 0 {
        return Some((Stage::Chdir, errno()));
    }
    if let Some(dir) = &program.dir {
        // SAFETY: see above.
        if unsafe { libc::chdir(dir.as_ptr()) } < 0 {
            return Some((Stage::Chdir, errno()));
        }
    }
    // Belt and braces: everything here is close-on-exec already.
    // SAFETY: see above; an old kernel refuses, which is no loss.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // Limits come last: a small RLIMIT_NOFILE must not stop the steps above.
    for (resource, changed) in (0u32..).zip(&shared.changed_limits) {
        let (soft, hard) = program.inherited.limits[resource as usize];
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: see above.
        if *changed && unsafe { libc::setrlimit(resource, &raw const limit) } < 0 {
            return Some((Stage::Prepare, errno()));
        }
    }
    super::signals::unblock_all();
    None
}

fn move_to(from: RawFd, to: RawFd) -> Option<i32> {
    // SAFETY: dup2 on two numbers; the keeper's own 0, 1 and 2 are /dev/null, so `from` is never among the targets,
    // and the copy loses close-on-exec.
    (unsafe { libc::dup2(from, to) } < 0).then(errno)
}

/// Tries the candidates as execvp(3) does; the errno that says most. Async-signal-safe.
fn exec(shared: &Shared<'_>) -> i32 {
    let mut worst = libc::ENOENT;
    for path in &shared.program.candidates {
        let path: &CStr = path;
        // SAFETY: all three are null-terminated arrays or strings that live in `shared`.
        unsafe { libc::execve(path.as_ptr(), shared.argv.as_ptr(), shared.envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ETIMEDOUT | libc::ESTALE => {}
            libc::EACCES => worst = libc::EACCES,
            other => return other,
        }
    }
    worst
}

pub(super) fn errno() -> i32 {
    // SAFETY: the location is valid for the life of the thread; the child shares its parent's while that stands still.
    unsafe { *libc::__errno_location() }
}
