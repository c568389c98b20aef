//! The places in which a helper can hide, shared by all tests that put endings against them.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use once_cell::sync::Lazy;

use crate::real_programs::{have, skipped};
use crate::scene::{Scene, hide};

/// Hiding places: A1 to A14 and A16 to A18 of the list of traps; `fixtures/hide.rs` and `fixtures/bomb.rs` describe them.
///
/// A15 is in `unkillable.rs`, since it needs an unprivileged test; A19 is in `hostile.rs`, since it is a moment; A20 is in
/// `stop.rs`.
const HIDINGS: [&str; 18] = [
    "setsid",
    "daemon",
    "env-i",
    "argv",
    "close-all",
    "ignore-hup",
    "ignore-term",
    "stopped",
    "subreaper",
    "namespace",
    "drop-uid",
    "traced",
    "vfork",
    "chatty",
    "nested",
    "bomb-group",
    "bomb-setsid",
    "bomb-hopper",
];

/// All of them that this machine can hide a process in. The bombs come last, so that they burn no time of the others'.
pub(crate) fn possible() -> impl Iterator<Item = &'static str> {
    HIDINGS.into_iter().filter(|hiding| match *hiding {
        "traced" => have("strace"),
        "namespace" => {
            static ALLOWED: Lazy<bool> = Lazy::new(|| {
                let mut unshare = Command::new("unshare");
                unshare.args(["--user", "--map-root-user", "--pid", "--fork", "true"]);
                unshare.stderr(Stdio::null()).status().is_ok_and(|s| s.success())
            });
            *ALLOWED || skipped("user namespaces are not allowed here")
        }
        _ => true,
    })
}

/// How many processes a bomb has at the most: few enough that a machine with two cores can go on with its work.
pub(crate) const BOMB: &str = "40";

/// The same, for a bomb that burns while others hide beside it.
pub(crate) const SMALL_BOMB: &str = "10";

/// The helper that hides like that, with its arguments. `victim` is what a nested test process is, and `bomb` how many
/// processes a bomb has.
///
/// A hopper leaves when the file that `BOMB_STOP` names is there: set it to the scene's `stop`.
pub(crate) fn helper(hiding: &str, bomb: &str, scene: &Scene, victim: &Path) -> Vec<OsString> {
    let (record, fifo) = (scene.record().into_os_string(), scene.fifo().into_os_string());
    match hiding.strip_prefix("bomb-") {
        Some(kind) => vec![hide().with_file_name("bomb").into(), kind.into(), bomb.into(), fifo],
        None if hiding == "nested" => {
            vec![victim.into(), "signed".into(), hide().into(), "daemon".into(), record, fifo]
        }
        None => vec![hide().into(), hiding.into(), record, fifo],
    }
}
