//! The signal hooks: INT, TERM, HUP and QUIT clean up and then end the process as the signal would have.
//!
//! The handler only notes the signal and wakes a thread; the thread may lock, allocate and wait, which a handler may not.
//! A second signal ends the process at once. A signal that is ignored, or that somebody handles already, is left alone;
//! and if somebody installs a handler over ours, it is his alone to say what the signal means.

use std::io;

use crate::journal::By;
use crate::sys::signals::{self, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

const STACK: usize = 256 * 1024;

pub(super) fn install() -> io::Result<()> {
    let Some(news) = signals::catch_endings(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT])? else { return Ok(()) };
    let wait = move || {
        if let Some(signal) = signals::next_ending(&news) {
            super::end_all(By::Signal);
            signals::die_by(signal);
        }
    };
    let thread = std::thread::Builder::new().name("foster-signals".to_owned()).stack_size(STACK);
    if signals::with_all_blocked(|| thread.spawn(wait)).is_err() {
        // The handlers are there, but nobody to do the work: let a signal end the process as if they were not, and the
        // guardian clean up.
        signals::release_endings();
    }
    Ok(())
}
