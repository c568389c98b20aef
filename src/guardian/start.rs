//! The test process's side of the guardian: started at the first spawn, asked for keepers, thanked at the end.

use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::link::{Link, send};
use super::protocol::{Frame, VERSION};
use crate::level::{self, Level};
use crate::registry;
use crate::settings;
use crate::sys::cgroup::Cgroup;
use crate::sys::reexec::{self, MARKER, Marker};
use crate::sys::tree::Survivor;
use crate::sys::{AsFd, process, procfs, signals, socket};

/// How long the guardian may take to answer at its start. It takes about a millisecond.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How much longer than the slowest fixture the guardian may take to confirm that everything is gone, or to name what is
/// left: a keeper tries for five seconds and is waited for three more, and then the guardian tries for five.
const GOODBYE_SLACK: Duration = Duration::from_secs(16);

/// The guardian of this process.
#[derive(Debug)]
pub(crate) struct Guardian {
    control: Mutex<Control>,
    goodbye: Mutex<Option<Link>>,
    child: Mutex<Child>,
    pid: i32,
    /// The process that started it; a copy made by `fork` must not use it.
    owner: i32,
    root: PathBuf,
    /// The cgroup that holds the fixtures' cgroups, or why there are none.
    cgroup: Result<PathBuf, String>,
}

#[derive(Debug)]
struct Control {
    link: Link,
    /// A keeper has been asked for and not been taken yet.
    pending: bool,
}

static GUARDIAN: OnceCell<Result<Guardian, String>> = OnceCell::new();

/// The longest way down of any fixture so far, in microseconds: what the end of the process may take.
static SLOWEST: AtomicU64 = AtomicU64::new(0);

/// Notes how long a fixture may take to leave.
pub(crate) fn note_ladder(total: Duration) {
    SLOWEST.fetch_max(u64::try_from(total.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The longest that a fixture may take to leave.
pub(crate) fn slowest() -> Duration {
    Duration::from_micros(SLOWEST.load(Ordering::Relaxed))
}

/// The guardian, started if this is the first call. The inner `Err` says why there can be none; the level is lower then.
///
/// However many threads come at once, one guardian is started and all of them wait for it.
///
/// # Errors
///
/// What may be different the next time is an error and is not remembered: no descriptors, no processes, no time.
pub(crate) fn guardian() -> io::Result<Result<&'static Guardian, &'static str>> {
    let result = GUARDIAN.get_or_try_init(|| {
        let started = if settings::disabled("guardian") {
            Err(Obstacle::Lasting("FOSTER_DISABLE=guardian".to_owned()))
        } else {
            start()
        };
        match started {
            Ok(guardian) => {
                level::reached(guardian.level(), None);
                Ok(Ok(guardian))
            }
            Err(Obstacle::Lasting(reason)) => {
                level::reached(Level::L1, Some(&reason));
                Ok(Err(reason))
            }
            Err(Obstacle::Passing(e)) => Err(e),
        }
    })?;
    Ok(result.as_ref().map_err(String::as_str))
}

/// Why there is no guardian.
enum Obstacle {
    /// There can be none in this process.
    Lasting(String),
    /// It may work the next time.
    Passing(io::Error),
}

impl Obstacle {
    fn new(what: &str, e: io::Error) -> Obstacle {
        match e.raw_os_error() {
            Some(code) if crate::sys::is_exhaustion(code) => Obstacle::Passing(e),
            _ if e.kind() == io::ErrorKind::TimedOut => Obstacle::Passing(e),
            _ => Obstacle::Lasting(format!("{what}: {e}")),
        }
    }
}

/// The guardian, if one was started by this very process.
pub(super) fn running() -> Option<&'static Guardian> {
    let guardian = GUARDIAN.get()?.as_ref().ok()?;
    (guardian.owner == process::own_pid()).then_some(guardian)
}

/// The directory under which fixtures make theirs, made if it is not there yet, if there is a guardian to remove it.
pub(crate) fn root() -> Option<PathBuf> {
    let root = guardian().ok()?.ok()?.root.clone();
    match crate::sys::fds::make_private_dir(&root) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => None,
        _ => Some(root),
    }
}

fn start() -> Result<Guardian, Obstacle> {
    if !reexec::constructor_ran() {
        return Err(Obstacle::Lasting("the constructor of foster was not linked into this program".to_owned()));
    }
    if std::env::var_os(MARKER).is_some() {
        // A program that was not diverted although it should have been must not start itself without end.
        return Err(Obstacle::Lasting(format!("{MARKER} is set, as if this process itself were a guardian")));
    }
    let deadline = Instant::now() + START_LIMIT;
    let mut failures = Vec::new();
    for program in reexec::programs() {
        match start_from(&program, deadline) {
            Ok(guardian) => return Ok(guardian),
            Err(Obstacle::Lasting(reason)) => failures.push(format!("{}: {reason}", program.display())),
            Err(passing) => return Err(passing),
        }
    }
    Err(Obstacle::Lasting(format!("the guardian process did not start ({})", failures.join("; "))))
}

fn start_from(program: &std::path::Path, deadline: Instant) -> Result<Guardian, Obstacle> {
    let failed = |what: &'static str| move |e: io::Error| Obstacle::new(what, e);
    let (ours, theirs) = socket::pair().map_err(failed("socketpair"))?;
    let (goodbye, goodbye_theirs) = socket::pair().map_err(failed("socketpair"))?;
    let marker = Marker { test_process: process::own_pid(), nonce: reexec::nonce() };
    let hello = Frame::Hello {
        version: VERSION,
        nonce: marker.nonce,
        runner: runner().unwrap_or(0),
        temp_dir: std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| std::env::temp_dir()),
        cgroups: !settings::disabled("cgroup"),
    };
    send(&ours, &hello, &[goodbye_theirs.as_fd()], deadline).map_err(failed("sending the greeting"))?;
    drop(goodbye_theirs);
    // In the same breath: the first spawn is waiting for it.
    let pending = send(&ours, &Frame::WantKeeper, &[], deadline).is_ok();
    let mut child = reexec::start(program, &marker, theirs).map_err(failed("executing it again"))?;
    let mut control = Link::new(ours);
    match control.wait_next(deadline) {
        Ok(Frame::Welcome { pid, root, cgroup }) => {
            registry::record_own(pid, registry::Role::Guardian);
            signals::note_guardian(pid);
            Ok(Guardian {
                control: Mutex::new(Control { link: control, pending }),
                goodbye: Mutex::new(Some(Link::new(goodbye))),
                child: Mutex::new(child),
                pid,
                owner: process::own_pid(),
                root,
                cgroup,
            })
        }
        answer => {
            // Whatever it is, it is our own unreaped child.
            let _ = child.kill();
            let _ = child.wait();
            Cgroup::forget(&super::root::name(&marker));
            Err(match answer {
                Ok(Frame::Unable { errno, reason }) if crate::sys::is_exhaustion(errno) => {
                    drop(reason);
                    Obstacle::Passing(io::Error::from_raw_os_error(errno))
                }
                Ok(Frame::Unable { reason, .. }) => Obstacle::Lasting(reason),
                Ok(_) => Obstacle::Lasting("it gave an answer that makes no sense".to_owned()),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => Obstacle::Passing(e),
                Err(_) => Obstacle::Lasting(
                    "it ended without an answer, as a program does that was not diverted before main".to_owned(),
                ),
            })
        }
    }
}

/// The process that runs this test binary, if it is cargo or nextest: when it dies, nobody waits for us any more.
///
/// Any other parent may well end before us: a shell that started us in the background, say.
fn runner() -> Option<i32> {
    if settings::disabled("runner") {
        return None;
    }
    let parent = process::parent_pid();
    let name = procfs::stat(parent)?.comm;
    (name == "cargo" || name.starts_with("cargo-nextest")).then_some(parent)
}

impl Guardian {
    /// What can be reached with it.
    pub(super) fn level(&self) -> Level {
        if self.cgroup.is_ok() { Level::L3 } else { Level::L2 }
    }

    /// Why it is not more.
    pub(super) fn why_no_cgroup(&self) -> Option<&str> {
        self.cgroup.as_ref().err().map(String::as_str)
    }

    /// A keeper's control socket and pid. The next keeper is asked for at once, so that it is ready when it is needed.
    pub(super) fn keeper(&self, deadline: Instant) -> io::Result<(Link, i32)> {
        if self.owner != process::own_pid() {
            return Err(io::Error::other("this process is a copy (fork) of the one that the guardian serves"));
        }
        let mut control = lock(&self.control);
        let mut old_news = control.pending;
        let pid = loop {
            if !control.pending {
                control.link.send(&Frame::WantKeeper, &[], deadline)?;
                control.pending = true;
            }
            let answer = control.link.wait_next(deadline);
            // One that came when there was no descriptor left for its socket (EMFILE) is used up, too.
            if !matches!(&answer, Err(e) if e.raw_os_error().is_none()) {
                control.pending = false;
            }
            match answer? {
                Frame::Keeper { pid } => break pid,
                // What was lacking when this one was asked for may be there by now.
                Frame::NoKeeper { .. } if old_news => old_news = false,
                Frame::NoKeeper { errno } => return Err(io::Error::from_raw_os_error(errno)),
                _ => return Err(io::Error::other("the guardian gave an answer that makes no sense")),
            }
        };
        let socket = control.link.take_fd().ok_or_else(|| io::Error::other("the keeper came without its socket"))?;
        // If this fails, the next spawn says so.
        control.pending = control.link.send(&Frame::WantKeeper, &[], deadline).is_ok();
        Ok((Link::new(socket), pid))
    }

    /// Has a keeper killed that does not answer any more. What it leaves falls to the guardian, which ends it.
    pub(super) fn kill_keeper(&self, pid: i32) -> io::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        lock(&self.control).link.send(&Frame::KillKeeper { pid }, &[], deadline)
    }

    /// Asks for the end of everything, waits until it is confirmed, and reaps the guardian.
    fn goodbye(&self) -> Result<Vec<Survivor>, io::Error> {
        let Some(mut link) = lock(&self.goodbye).take() else { return Ok(Vec::new()) };
        let slowest = slowest();
        let deadline = Instant::now() + slowest + GOODBYE_SLACK;
        let asked = link.send(&Frame::Goodbye { slowest }, &[], deadline);
        let answer = asked.and_then(|()| link.wait_next(deadline));
        if answer.is_ok() {
            // It ends right after its last word; its zombie would be a process that we left behind.
            process::reap_child(&mut lock(&self.child), deadline);
            registry::forget(self.pid);
        } else {
            // It was killed, and perhaps its keepers with it: then nobody else removes what it had made.
            crate::own_dir::remove_all(&self.root);
            if let Ok(path) = &self.cgroup {
                Cgroup::at(path.clone()).clear(Instant::now() + GOODBYE_SLACK);
            }
        }
        match answer? {
            Frame::Empty { survivors } => Ok(survivors),
            _ => Err(io::Error::other("the guardian gave an answer that makes no sense")),
        }
    }
}

/// Ends every helper of this process, politely and all at once; what could not be ended.
///
/// Without a guardian, or in a copy (fork) of the process that it serves, there is nothing to do here.
pub(crate) fn goodbye() -> Result<Vec<Survivor>, io::Error> {
    running().map_or_else(|| Ok(Vec::new()), Guardian::goodbye)
}

/// Has a keeper killed that does not answer any more; true if there was somebody to ask.
pub(crate) fn kill_keeper(pid: i32) -> bool {
    running().is_some_and(|guardian| guardian.kill_keeper(pid).is_ok())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
