//! The constructor that diverts a re-executed test binary before its `main`, and the command that re-executes it.
//!
//! `ctor` runs it in every process that links this crate, so on the ordinary path it does one look-up and returns:
//! with Rust 1.85, a constructor that used threads or standard I/O *and returned* aborts the program.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The marker: `<pid of the test process>:<nonce>`. It is set for the guardian only, never for a helper.
pub(crate) const MARKER: &str = "FOSTER_GUARDIAN";

/// The first argument after the harmless ones: a libtest `main` that was not diverted lists no test and ends.
const ARGS: [&str; 3] = ["--exact", "--list", "__foster_guardian__"];

/// The name under which it runs.
const NAME: &str = "foster-guardian";

static RAN: AtomicBool = AtomicBool::new(false);

ctor::declarative::ctor! {
    #[ctor(unsafe)]
    fn divert() {
        RAN.store(true, Ordering::Relaxed);
        // SAFETY: a name that ends in NUL; the environment is not changed before `main`.
        if unsafe { libc::getenv(c"FOSTER_GUARDIAN".as_ptr()) }.is_null() {
            return;
        }
        if let Some((socket, marker)) = invited() {
            crate::guardian::root::main(socket, &marker);
        }
        if is_named_guardian() {
            // Started as one, but the proof fails (another pid namespace, say): a second run of the program's `main` is
            // the last thing that anybody wants.
            super::exit::exit_now(3);
        }
    }
}

/// Did the linker keep the constructor? Reading it from the spawn path is also what makes the linker keep it.
pub(crate) fn constructor_ran() -> bool {
    RAN.load(Ordering::Relaxed)
}

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) test_process: i32,
    pub(crate) nonce: u64,
}

impl Marker {
    fn parse(text: &str) -> Option<Marker> {
        let (pid, nonce) = text.split_once(':')?;
        Some(Marker { test_process: pid.parse().ok()?, nonce: u64::from_str_radix(nonce, 16).ok()? })
    }

    fn print(&self) -> String {
        format!("{}:{:016x}", self.test_process, self.nonce)
    }
}

/// Is this process really the guardian that its parent has started?
///
/// A marker alone proves nothing, because a program may have inherited it; the socket, made by our parent, does.
/// Without the proof the program runs as if nothing had been said.
fn invited() -> Option<(OwnedFd, Marker)> {
    let marker = Marker::parse(std::env::var(MARKER).ok()?.as_str())?;
    let parent = super::process::parent_pid();
    let peer = super::socket::peer_pid(rustix::stdio::stdin())?;
    if parent != marker.test_process || peer != parent {
        return None;
    }
    Some((super::process::take_stdin().ok()?, marker))
}

/// Does this process run under the name that only [`start`] gives?
///
/// From `/proc`, because `args()` is empty in a constructor with musl, and without std's I/O, which must not be used in a
/// constructor that returns.
fn is_named_guardian() -> bool {
    use rustix::fs::{Mode, OFlags};
    let mut name = [0; NAME.len() + 1];
    let Ok(file) = rustix::fs::open("/proc/self/cmdline", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    matches!(rustix::io::read(&file, &mut name), Ok(n) if n == name.len())
        && name.strip_suffix(b"\0").is_some_and(|name| name == NAME.as_bytes())
}

/// Where the running program can be executed from, in the order in which to try.
///
/// `/proc/self/exe` also works when the file was deleted or rebuilt; under valgrind it is valgrind itself.
pub(crate) fn programs() -> Vec<PathBuf> {
    let mut programs = vec![PathBuf::from("/proc/self/exe")];
    programs.extend(std::env::current_exe());
    programs
}

/// Starts the program again with the socket as its standard input.
///
/// Not through `pre_exec`: std then takes `posix_spawn`, whose cost does not grow with the memory of the test process.
pub(crate) fn start(program: &Path, marker: &Marker, socket: OwnedFd) -> io::Result<Child> {
    Command::new(program)
        // Neither the test's name nor `target/debug` stands here, so that `pkill -f` for either misses it.
        .arg0(NAME)
        .args(ARGS)
        .env(MARKER, marker.print())
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// A number that nobody can guess (getrandom(2)).
pub(crate) fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The keys of std's hasher come from the system's random source.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Leaves only the named descriptors open and forgets where the process was started: what the guardian does first.
pub(crate) fn forget_origin(keep: &[&OwnedFd]) -> io::Result<()> {
    super::process::new_session().or_else(|e| {
        // Already a leader: somebody ran us that way, and then there is no terminal to leave.
        if e.raw_os_error() == Some(libc::EPERM) { Ok(()) } else { Err(e) }
    })?;
    super::process::detach_stdio()?;
    let keep: Vec<_> = keep.iter().map(|fd| fd.as_fd()).collect();
    debug_assert!(keep.iter().all(|fd| fd.as_raw_fd() > 2));
    super::process::close_all_but(&keep);
    std::env::set_current_dir("/")?;
    super::signals::ignore_requests_to_end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_survives_the_environment_and_nothing_else_passes_for_one() {
        let marker = Marker { test_process: 77, nonce: 0xdead_beef };
        assert_eq!(Marker::parse(&marker.print()), Some(marker));
        for text in ["", "1", ":", "1:", ":1", "x:1", "1:zz"] {
            assert_eq!(Marker::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_constructor_is_linked_into_this_very_binary() {
        assert!(constructor_ran());
    }
}
