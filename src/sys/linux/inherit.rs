//! What a child would have inherited from the test process at this moment, to be shipped to the keeper that forks instead.
//!
//! The guardian was started at the first spawn; a umask, a limit or an ignored signal that changed since then
//! must reach the next helper all the same.

use std::fs;
use std::io::Read;

/// Number of resources that `getrlimit` knows (asm-generic/resource.h: RLIM_NLIMITS).
pub(crate) const LIMITS: usize = 16;

/// The inheritable state of a process that is neither environment, working directory nor descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// The file mode creation mask; `None` if it could not be read without changing it.
    pub(crate) umask: Option<u32>,
    /// Bit `n - 1` is set when signal `n` is ignored.
    pub(crate) ignored: u64,
    /// Soft and hard limit of every resource, by number.
    pub(crate) limits: [(u64, u64); LIMITS],
}

impl Inherited {
    /// Reads the state of the calling process.
    ///
    /// The umask comes from `/proc/thread-self/status` (the main thread may have ended): umask(2) can only be read by changing it,
    /// which in a threaded process races with every file that another thread makes.
    pub(crate) fn now() -> Inherited {
        // All of it is about 1.5 KB, and what we want stands in the first 4: one read.
        let mut buf = [0; 4096];
        let n = fs::File::open("/proc/thread-self/status").and_then(|mut file| file.read(&mut buf)).unwrap_or(0);
        let status = String::from_utf8_lossy(&buf[..n]);
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim())
        };
        let umask = field("Umask").and_then(|v| u32::from_str_radix(v, 8).ok());
        let ignored_signals = field("SigIgn").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or_else(ignored);
        Inherited { umask, ignored: ignored_signals, limits: limits() }
    }
}

/// The signals that the calling process ignores, one bit each.
pub(crate) fn ignored() -> u64 {
    use super::signals::{Disposition, LAST_SIGNAL, disposition};
    (1..=LAST_SIGNAL)
        .filter(|s| disposition(*s) == Disposition::Ignore)
        .fold(0, |mask, signal| mask | 1 << (signal - 1))
}

/// All limits of the calling process, by number.
pub(crate) fn limits() -> [(u64, u64); LIMITS] {
    let mut limits = [(0, 0); LIMITS];
    for (resource, slot) in (0u32..).zip(&mut limits) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a live rlimit; an unknown resource answers EINVAL and leaves it alone.
        unsafe { libc::getrlimit(resource, &raw mut limit) };
        *slot = (limit.rlim_cur, limit.rlim_max);
    }
    limits
}
