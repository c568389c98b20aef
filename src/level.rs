//! How far the promise reaches on this machine: probed at the first spawn, said once when it is less than usual,
//! and an error where the user requires more.

use std::fmt;

use once_cell::sync::OnceCell;

use crate::settings;

/// A level of containment: what survives which end of a test run.
///
/// # Platforms
///
/// On Linux the level is at least [`Level::L2`] unless `/proc`, subreapers, pidfds or the re-execution of the test binary
/// are missing, or `FOSTER_DISABLE=guardian` is set.
/// It is [`Level::L3`] where the test process may make cgroups (version 2, Linux 5.14) below its own, as root usually may
/// and as everybody may in a cgroup that was delegated to them, and unless `FOSTER_DISABLE=cgroup` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Dropping a fixture ends its helper; nothing else does.
    L0,
    /// The registry and the hooks end all helpers when the process ends by `exit`, a return, or a signal that can be
    /// caught. SIGKILL, `abort` and daemons that leave their process group escape.
    L1,
    /// A guardian process and one keeper per fixture: nothing escapes, however the process ends.
    L2,
    /// In addition one cgroup per fixture: what runs as another user, has moved to another pid namespace, or multiplies
    /// faster than it can be killed, is ended in one step, and so is everything if the guardian and keepers are killed but one.
    L3,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

static REACHED: OnceCell<Level> = OnceCell::new();

/// The level that this process has reached; `None` before its first spawn.
pub fn level() -> Option<Level> {
    REACHED.get().copied()
}

/// Notes the level, once, and says so when it is lower than it should be.
pub(crate) fn reached(level: Level, because: Option<&str>) {
    if REACHED.set(level).is_ok() {
        if let Some(reason) = because {
            crate::report::say(&format!(
                "containment level {level} only: {reason}; daemons, and all helpers after SIGKILL or abort, may stay"
            ));
        }
    }
}

/// `Err` with the user's requirement when it is not met, or makes no sense.
pub(crate) fn check_required(reached: Level, why_not_more: Option<&str>) -> Result<(), String> {
    let Some(required) = settings::required_level() else { return Ok(()) };
    let wanted = match required {
        "L0" => Level::L0,
        "L1" => Level::L1,
        "L2" => Level::L2,
        "L3" => Level::L3,
        other => return Err(format!("FOSTER_REQUIRE={other} names no level that this version knows (L0, L1, L2, L3)")),
    };
    if reached >= wanted {
        return Ok(());
    }
    let why = why_not_more.map(|why| format!(": {why}")).unwrap_or_default();
    Err(format!("FOSTER_REQUIRE={required}, but only level {reached} can be reached here{why}"))
}
