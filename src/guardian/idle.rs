//! Keepers that have served a fixture to its end and wait for another order, so that not every spawn costs a fork.
//!
//! A keeper says that nothing is left only when the kernel has told it so (`ECHILD`), and then it is as it was when it was
//! born. One that had to kill ends instead.

use std::sync::{Mutex, PoisonError};

use super::link::Link;
use crate::sys::process;

/// More are not kept: each of them is a process.
const MOST: usize = 16;

#[derive(Debug)]
struct Idle {
    link: Link,
    keeper: i32,
    /// The process that it serves; a copy made by `fork` must not use it.
    owner: i32,
}

static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

/// The control socket and the pid of the one that served last, whose memory is still warm.
pub(super) fn take() -> Option<(Link, i32)> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = idle.last()?.owner == process::own_pid();
    idle.pop().filter(|_| own).map(|last| (last.link, last.keeper))
}

/// Keeps it, if there is room; else its socket is closed, and it ends.
///
/// A copy of the test process, made by `fork`, may hear the end of its parent's helper; the keeper is not its own.
pub(super) fn put(link: Link, keeper: i32) {
    if super::start::running().is_none() {
        return;
    }
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < MOST && link.is_clear() {
        idle.push(Idle { link, keeper, owner: process::own_pid() });
    }
}
