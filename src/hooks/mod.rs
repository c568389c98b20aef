//! The polite ways out: whatever can be caught on the way to the end of the process is used to ask all helpers to leave,
//! at once and with one grace. What cannot be caught is the guardian's.

pub(crate) mod atexit;
pub(crate) mod panic;
pub(crate) mod signal;

use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::dialogue::attendant;
use crate::guardian::{direct, start};
use crate::journal::{self, By};
use crate::report;
use crate::settings;
use crate::sys::tree::Survivor;

/// How long whoever has ended a helper may take to say how, all of them together, if the leak check wants to know: without a
/// guardian they are threads, which may not have come so far.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Installs all hooks, at the first spawn of the process.
///
/// What cannot be installed for want of descriptors, memory or threads is tried again at the next one.
pub(crate) fn install() {
    static EXIT: OnceCell<()> = OnceCell::new();
    static SIGNAL: OnceCell<()> = OnceCell::new();
    static PANIC: OnceCell<()> = OnceCell::new();
    if settings::disabled("hooks") {
        return;
    }
    let _ = EXIT.get_or_try_init(atexit::install);
    let _ = SIGNAL.get_or_try_init(signal::install);
    PANIC.get_or_init(panic::install);
}

/// Ends every helper: all are asked at once, and the longest grace among them is paid once.
///
/// Takes no lock that a test may hold for long, because a test may be in the middle of anything.
fn end_all(by: By) {
    if journal::is_on() {
        attendant::everyone().iter().for_each(|conversation| conversation.hear_before_the_end());
        journal::process_ends(by);
    }
    // The end of its input is the first step of some ladders, and that end is ours to give.
    for conversation in attendant::everyone() {
        conversation.close_stdin();
    }
    let say = |survivors: Vec<Survivor>| {
        for survivor in survivors {
            report::say(&format!("could not end pid {} `{}`: {}", survivor.pid, survivor.command, survivor.reason));
        }
    };
    say(direct::stop_all());
    match start::goodbye() {
        Ok(survivors) => say(survivors),
        Err(e) => report::say(&format!("the guardian did not confirm the end of all helpers: {e}")),
    }
    if journal::is_on() {
        let deadline = Instant::now() + LAST_WORDS;
        attendant::everyone().iter().for_each(|conversation| conversation.note_end(deadline));
        journal::flush();
    }
}
