//! The test process's side of the guardian: started at the first spawn, asked for keepers, thanked at the end.

use std::io;
use std::os::fd::OwnedFd;
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
use crate::sys::reexec::{self, MARKER, Marker};
use crate::sys::tree::Survivor;
use crate::sys::{AsFd, process, procfs, socket};

/// How long the guardian may take to answer at its start. It takes about a millisecond.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How much longer than the slowest fixture the guardian may take to confirm that everything is gone.
const GOODBYE_SLACK: Duration = Duration::from_secs(10);

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

/// The guardian, started if this is the first call. `Err` says why there is none; the level is lower then.
///
/// However many threads come at once, one guardian is started and all of them wait for it.
pub(crate) fn guardian() -> Result<&'static Guardian, &'static str> {
    let result = GUARDIAN.get_or_init(|| {
        let started = if settings::disabled("guardian") { Err("FOSTER_DISABLE=guardian".to_owned()) } else { start() };
        match &started {
            Ok(_) => level::reached(Level::L2, None),
            Err(reason) => level::reached(Level::L1, Some(reason)),
        }
        started
    });
    result.as_ref().map_err(String::as_str)
}

/// The guardian, if one was started by this very process.
fn running() -> Option<&'static Guardian> {
    let guardian = GUARDIAN.get()?.as_ref().ok()?;
    (guardian.owner == process::own_pid()).then_some(guardian)
}

/// The directory under which fixtures make theirs, if there is a guardian to remove it.
pub(crate) fn root() -> Option<PathBuf> {
    guardian().ok().map(|g| g.root.clone()).filter(|r| !r.as_os_str().is_empty())
}

fn start() -> Result<Guardian, String> {
    if !reexec::constructor_ran() {
        return Err("the constructor of foster was not linked into this program".to_owned());
    }
    if std::env::var_os(MARKER).is_some() {
        // A program that was not diverted although it should have been must not start itself without end.
        return Err(format!("{MARKER} is set, so this process was itself started as a guardian"));
    }
    let deadline = Instant::now() + START_LIMIT;
    let mut failures = Vec::new();
    for program in reexec::programs() {
        match start_from(&program, deadline) {
            Ok(guardian) => return Ok(guardian),
            Err(reason) => failures.push(format!("{}: {reason}", program.display())),
        }
    }
    Err(format!("the guardian process did not start ({})", failures.join("; ")))
}

fn start_from(program: &std::path::Path, deadline: Instant) -> Result<Guardian, String> {
    let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    let (ours, theirs) = socket::pair().map_err(failed("socketpair"))?;
    let (goodbye, goodbye_theirs) = socket::pair().map_err(failed("socketpair"))?;
    let marker = Marker { test_process: process::own_pid(), nonce: reexec::nonce() };
    let hello = Frame::Hello {
        version: VERSION,
        nonce: marker.nonce,
        runner: runner().unwrap_or(0),
        temp_dir: std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| std::env::temp_dir()),
    };
    send(&ours, &hello, &[goodbye_theirs.as_fd()], deadline).map_err(failed("sending the greeting"))?;
    drop(goodbye_theirs);
    let mut child = reexec::start(program, &marker, theirs).map_err(failed("executing it again"))?;
    let mut control = Link::new(ours);
    match control.wait_next(deadline) {
        Ok(Frame::Welcome { pid, root }) => {
            registry::record_own(pid, registry::Role::Guardian);
            Ok(Guardian {
                control: Mutex::new(Control { link: control, pending: false }),
                goodbye: Mutex::new(Some(Link::new(goodbye))),
                child: Mutex::new(child),
                pid,
                owner: process::own_pid(),
                root,
            })
        }
        answer => {
            // Whatever it is, it is our own unreaped child.
            let _ = child.kill();
            let _ = child.wait();
            Err(match answer {
                Ok(Frame::Unable { reason }) => reason,
                Ok(_) => "it gave an answer that makes no sense".to_owned(),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => "it did not answer in time".to_owned(),
                Err(_) => "it ended without an answer, as a program does that was not diverted before main".to_owned(),
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
    /// A keeper's control socket and pid. The next keeper is asked for at once, so that it is ready when it is needed.
    pub(super) fn keeper(&self, deadline: Instant) -> io::Result<(OwnedFd, i32)> {
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
        registry::record_own(pid, registry::Role::Keeper);
        Ok((socket, pid))
    }

    /// Asks for the end of everything, waits until it is confirmed, and reaps the guardian.
    fn goodbye(&self) -> Result<Vec<Survivor>, io::Error> {
        let Some(mut link) = lock(&self.goodbye).take() else { return Ok(Vec::new()) };
        let slowest = slowest();
        let deadline = Instant::now() + slowest + GOODBYE_SLACK;
        link.send(&Frame::Goodbye { slowest }, &[], deadline)?;
        let answer = link.wait_next(deadline);
        if answer.is_ok() {
            // It ends right after its last word; its zombie would be a process that we left behind.
            process::reap_child(&mut lock(&self.child), deadline);
            registry::forget(self.pid);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
