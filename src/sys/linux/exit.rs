//! The ways out of a process: at once, and with something left to do.

use std::io;

/// Ends the calling process at once: no destructors, no `atexit`, no flushing of buffers that a fork has doubled.
///
/// Async-signal-safe.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Runs `f` when the process ends by `exit(3)`: a return from `main`, `std::process::exit`, a failing libtest run.
///
/// `atexit` and not a `#[dtor]`: it is registered at the first spawn, so a test binary that starts nothing pays nothing,
/// and handlers registered during `main` run before the static destructors, while the crate's globals are still whole.
pub(crate) fn at_exit(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: `f` is a plain function that lives as long as the program and does not unwind.
    match unsafe { libc::atexit(f) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}
