//! `clone3` (clone(2)), which alone can start a process in a cgroup (Linux 5.7).
//!
//! The C library has no function for it, and with a stack of its own the child cannot return from the system call as a C
//! function does, so the call is written out for the architectures that are named here; others have no level L3.
//! The ways around it are slow: a copied memory (no `CLONE_VM`) made a spawn half as slow again, and moving a process that
//! runs already stops every fork of the machine for a moment.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct clone_args`, up to the last field that Linux 5.7 knows.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// From linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Runs on the new stack and never returns.
type Entry = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// May we do this here? Not on an old kernel, in some sandboxes, or on an architecture that is not named below.
pub(crate) fn is_there() -> bool {
    // No descriptor has this number, so nothing is started: EBADF says that the flag is known.
    let args = CloneArgs { flags: CLONE_INTO_CGROUP, cgroup: i32::MAX as u64, ..CloneArgs::default() };
    // SAFETY: the argument lives until the call returns, and the call cannot succeed.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let named = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    named && answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

/// As `clone(CLONE_VM | CLONE_VFORK | SIGCHLD)`, into a cgroup: the child's pid, once it has called `exec` or ended.
///
/// # Safety
///
/// `entry` never returns. The child shares the caller's memory until it calls `exec` or ends, so the caller has one thread
/// and no signal handlers.
pub(crate) unsafe fn vfork_into_cgroup(
    entry: Entry,
    stack: &mut [MaybeUninit<u128>],
    argument: *mut libc::c_void,
    cgroup: BorrowedFd<'_>,
) -> io::Result<i32> {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP | (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: as promised by the caller; the stack, aligned as both calling conventions want it, outlives the child's use
    // of it because CLONE_VFORK suspends this thread until then.
    let answer = unsafe { call(&args, entry, argument) };
    if answer < 0 {
        // The system call itself returns the negated errno.
        return Err(io::Error::from_raw_os_error((-answer) as i32));
    }
    Ok(answer as i32)
}

/// The system call; in the child, `entry(argument)` on the new stack.
///
/// # Safety
///
/// As for [`vfork_into_cgroup`].
#[cfg(target_arch = "x86_64")]
unsafe fn call(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> isize {
    let answer: isize;
    // SAFETY: the kernel preserves every register but rax, rcx and r11 (syscall(2)). The child never comes back: it has
    // nothing on its stack to return to, and `ud2` stands behind the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer
}

/// The system call; in the child, `entry(argument)` on the new stack.
///
/// # Safety
///
/// As for [`vfork_into_cgroup`].
#[cfg(target_arch = "aarch64")]
unsafe fn call(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> isize {
    let answer: isize;
    // SAFETY: the kernel preserves every register but x0 (syscall(2)). The child never comes back: it has nothing on its
    // stack to return to, and `brk` stands behind the call.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_ref(args) => answer,
            in("x1") size_of::<CloneArgs>(),
            in("x20") argument,
            in("x21") entry,
        );
    }
    answer
}

/// There is no such call on this architecture.
///
/// # Safety
///
/// None: nothing happens.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn call(_: &CloneArgs, _: Entry, _: *mut libc::c_void) -> isize {
    -(libc::ENOSYS as isize)
}
