//! The exit hook: a return from `main`, `std::process::exit`, a failing libtest run; fixtures in statics and forgotten ones.

use std::io;
use std::time::{Duration, Instant};

use crate::guardian::start;
use crate::journal::By;
use crate::sys::{exit, process, signals};

/// How much longer than the slowest fixture the exit hook waits for a signal's clean-up to end the process: a little longer
/// than that clean-up waits for the guardian.
const SLACK: Duration = Duration::from_secs(20);

static OWNER: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

/// Registered once, at the first spawn, with `atexit` and not as a `#[dtor]`: see [`exit::at_exit`].
pub(super) fn install() -> io::Result<()> {
    OWNER.store(process::own_pid(), std::sync::atomic::Ordering::Release);
    exit::at_exit(at_exit)
}

extern "C" fn at_exit() {
    if OWNER.load(std::sync::atomic::Ordering::Acquire) != process::own_pid() {
        // A copy of the test process, made by `fork`, has inherited this hook, but not the helpers.
        return;
    }
    if signals::arrived().is_some() {
        // The thread that cleans up on a signal is at it and will end the process with the right status.
        // Were we to return, `exit` would win that race and report success.
        let until = Instant::now() + start::slowest() + SLACK;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        return;
    }
    super::end_all(By::Exit);
}
