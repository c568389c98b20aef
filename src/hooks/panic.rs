//! The panic hook: under `panic = "abort"` nothing unwinds, so no fixture is dropped, and this is the last moment to be
//! polite.
//!
//! Under unwinding there is nothing to do here: the panicking test's own fixtures are dropped, and those of the other
//! tests, which go on in other threads, are none of its business. So then no hook is installed at all.

use crate::journal::By;

/// Chained in front of the hook that is there, which goes on to print the panic.
pub(super) fn install() {
    if !cfg!(panic = "abort") {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // First the message: should the clean-up take its time, the reader knows why.
        before(info);
        super::end_all(By::Panic);
    }));
}
