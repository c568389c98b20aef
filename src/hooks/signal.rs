//! The signal hooks: INT, TERM, HUP and QUIT clean up and then end the process as the signal would have.
//!
//! The handler only notes the signal and wakes a thread; the thread may lock, allocate and wait, which a handler may not.
//! A second signal ends the process at once. A signal that is ignored, or that somebody handles already, is left alone;
//! a handler that is installed later over ours replaces it: the guardian cleans up all the same.

use crate::sys::signals::{self, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

const STACK: usize = 256 * 1024;

pub(super) fn install() {
    // Refused only without descriptors or memory; the guardian then sees the end of the process instead.
    let Ok(Some(news)) = signals::catch_endings(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT]) else { return };
    let wait = move || {
        if let Some(signal) = signals::next_ending(&news) {
            super::end_all();
            signals::die_by(signal);
        }
    };
    let thread = std::thread::Builder::new().name("foster-signals".to_owned()).stack_size(STACK);
    let started = signals::with_all_blocked(|| thread.spawn(wait));
    if started.is_err() {
        signals::release_endings();
    }
}
