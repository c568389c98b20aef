//! The Linux half of the contract: pidfds, subreapers, procfs, `SCM_RIGHTS`.
//!
//! Facts come from the man pages named at each function; where the kernel's source says more, the file is named.
#![allow(unsafe_code, reason = "the one place of the crate where it is allowed; every block says why it is sound")]

pub(crate) mod activity;
pub(crate) mod attendant;
pub(crate) mod cgroup;
pub(crate) mod clone;
mod clone3;
#[cfg(feature = "leakcheck")]
pub(crate) mod details;
pub(crate) mod exit;
pub(crate) mod fds;
pub(crate) mod inherit;
pub(crate) mod listening;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod pty;
pub(crate) mod reexec;
pub(crate) mod signals;
pub(crate) mod socket;
#[cfg(feature = "leakcheck")]
pub(crate) mod sockets;
#[cfg(feature = "leakcheck")]
pub(crate) mod supervise;
#[cfg(feature = "leakcheck")]
pub(crate) mod tasks;
pub(crate) mod tree;

pub(crate) use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// "Argument list too long", the answer to a request that the kernel would refuse anyway.
pub(crate) const E2BIG: i32 = libc::E2BIG;

/// "Input/output error", which a terminal says when its other end is gone.
pub(crate) const EIO: i32 = libc::EIO;

/// "Too many open files".
pub(crate) const EMFILE: i32 = libc::EMFILE;

/// "No such process".
pub(crate) const ESRCH: i32 = libc::ESRCH;

/// "Exec format error".
pub(crate) const ENOEXEC: i32 = libc::ENOEXEC;

/// Does this errno mean that something has run out: descriptors, memory, processes, references in flight?
pub(crate) fn is_exhaustion(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::ETOOMANYREFS)
}

/// The signal that ended a process, if one did.
pub(crate) fn ending_signal(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// How a process ends that exits with this status, of which the kernel keeps eight bits.
pub(crate) fn exit_status(status: i32) -> std::process::ExitStatus {
    std::os::unix::process::ExitStatusExt::from_raw((status & 0xff) << 8)
}

/// How a process ends that this signal kills.
pub(crate) fn killed_status(signal: i32) -> std::process::ExitStatus {
    std::os::unix::process::ExitStatusExt::from_raw(signal)
}

/// Writes to standard error without std's lock and buffer. What does not fit or cannot be written is lost.
pub(crate) fn say(text: &str) {
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

/// What has run out, for people.
pub(crate) fn name_shortage(e: &std::io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EMFILE) => "this process has no descriptors left (ulimit -n)",
        Some(libc::ENFILE) => "the system has no descriptors left",
        Some(libc::EAGAIN) => "its user may have no more processes (ulimit -u)",
        Some(libc::ENOMEM) => "the kernel has no memory for it, or no process can be made in this pid namespace",
        _ => "the kernel has no room for it",
    }
}
