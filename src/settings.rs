//! The environment variables that users steer foster with, read in one place.
//!
//! | variable | effect |
//! |---|---|
//! | `FOSTER_TIMEOUT_SCALE` | every deadline is multiplied by it: `3` on a slow machine, `0.5` on a fast one |
//! | `FOSTER_REQUIRE` | `L1`, `L2` or `L3`: a spawn fails where this level of containment cannot be had |
//! | `FOSTER_LOG` | a directory: each fixture writes what it and its helper say into a file of its own, as it happens |
//! | `FOSTER_KEEP` | `1`: the directories of fixtures stay, and it is said where; processes never do |
//! | `FOSTER_LEAKCHECK` | a directory of the leak check's, which sets it: each fixture notes its start and its end there; and each helper finds in `FOSTER_FIXTURE` whose it is |
//! | `FOSTER_BLESS` | dialogue files get what the programs say; refused where `CI` is set |
//! | `FOSTER_DISABLE` | any of `guardian`, `cgroup`, `hooks`, `drop`, `runner`, separated by commas: switches a mechanism off, for tests of foster itself and for debugging |

use std::path::{Path, PathBuf};
use std::time::Duration;

use once_cell::sync::Lazy;

/// What can be switched off.
const MECHANISMS: [&str; 5] = ["guardian", "cgroup", "hooks", "drop", "runner"];

/// Is this mechanism switched off?
pub(crate) fn disabled(mechanism: &str) -> bool {
    static LIST: Lazy<String> = Lazy::new(|| {
        let list = std::env::var("FOSTER_DISABLE").unwrap_or_default();
        for word in list.split(',').map(str::trim).filter(|w| !w.is_empty() && !MECHANISMS.contains(w)) {
            crate::report::say(&format!("FOSTER_DISABLE knows {}, and not `{word}`", MECHANISMS.join(", ")));
        }
        list
    });
    LIST.split(',').any(|word| word.trim() == mechanism)
}

/// Shall dialogue files be rewritten?
pub(crate) fn bless() -> bool {
    is_on("FOSTER_BLESS")
}

/// Shall the directories of fixtures stay?
pub(crate) fn keep() -> bool {
    is_on("FOSTER_KEEP")
}

/// Does this run where nobody looks at what was rewritten?
pub(crate) fn ci() -> bool {
    is_on("CI")
}

fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
}

/// What the user insists on, if anything.
pub(crate) fn required_level() -> Option<&'static str> {
    static REQUIRED: Lazy<Option<String>> =
        Lazy::new(|| std::env::var("FOSTER_REQUIRE").ok().filter(|v| !v.is_empty()));
    REQUIRED.as_deref()
}

/// Where conversations are to be written, if anywhere; means the same wherever the process goes later.
pub(crate) fn log_dir() -> Option<&'static Path> {
    static DIR: Lazy<Option<PathBuf>> = Lazy::new(|| {
        let dir = std::env::var_os("FOSTER_LOG").filter(|dir| !dir.is_empty())?;
        std::path::absolute(dir).ok()
    });
    DIR.as_deref()
}

/// Where fixtures note what becomes of them, if the leak check wants to know; means the same wherever the process goes later.
pub(crate) fn journal_dir() -> Option<&'static Path> {
    static DIR: Lazy<Option<PathBuf>> = Lazy::new(|| {
        let dir = std::env::var_os("FOSTER_LEAKCHECK").filter(|dir| !dir.is_empty())?;
        std::path::absolute(dir).ok()
    });
    DIR.as_deref()
}

/// A time limit as the user of this machine wants it. Never overflows; a limit of zero stays zero.
pub(crate) fn scaled(limit: Duration) -> Duration {
    static SCALE: Lazy<f64> = Lazy::new(|| {
        let Ok(text) = std::env::var("FOSTER_TIMEOUT_SCALE") else { return 1.0 };
        parse_scale(&text).unwrap_or_else(|| {
            crate::report::say(&format!("FOSTER_TIMEOUT_SCALE=`{text}` is no positive number and is ignored"));
            1.0
        })
    });
    scale(limit, *SCALE)
}

fn parse_scale(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0)
}

fn scale(limit: Duration, by: f64) -> Duration {
    if by == 1.0 {
        return limit;
    }
    Duration::try_from_secs_f64(limit.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_never_overflows_and_leaves_zero_alone() {
        assert_eq!(scale(Duration::from_secs(2), 1.5), Duration::from_secs(3));
        assert_eq!(scale(Duration::ZERO, 1e9), Duration::ZERO);
        assert_eq!(scale(Duration::MAX, 2.0), Duration::MAX);
        assert_eq!(scale(Duration::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn a_scale_that_makes_no_sense_is_no_scale() {
        for text in ["", "x", "0", "-1", "nan", "inf"] {
            assert_eq!(parse_scale(text), None, "{text:?}");
        }
        assert_eq!(parse_scale(" 2 "), Some(2.0));
    }
}
