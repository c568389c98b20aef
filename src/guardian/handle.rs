//! One helper as the test process sees it: who to ask, and how to hear what became of it.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::{Link, Next, send};
use super::protocol::{Frame, Ladder, Order};
use super::{direct, idle, start};
use crate::dialogue::life::{Exit, Heard, News};
use crate::level::{self, Level};
use crate::registry;
use crate::stop::{Escapee, Survivor};
use crate::sys::clone::Stage;
use crate::sys::inherit::Inherited;
use crate::sys::{AsFd, OwnedFd, fds, process};

/// How long a request may wait for room in the socket: it is tiny and the keeper always reads.
const REQUEST_LIMIT: Duration = Duration::from_secs(1);

/// What to run, in the test's words.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: Option<OsString>,
    pub(crate) ladder: Ladder,
}

/// Why there is no helper.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What is asked for makes no sense.
    Nonsense(String),
    /// A NUL byte where the kernel cannot take one; what it is in.
    Nul(String),
    /// A step failed for this reason.
    Step(Stage, io::Error),
    /// There are no descriptors or no memory left to wire it up with.
    Wiring(io::Error),
    /// The guardian or the keeper did not answer.
    Guardian(io::Error),
    /// The user requires more containment than there is.
    Level(String),
}

/// A helper that runs.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: i32,
    keeper: Option<i32>,
    pidfd: Option<OwnedFd>,
    socket: Arc<OwnedFd>,
    tenure: Arc<Mutex<Tenure>>,
}

/// What a fixture has of its keeper: locked for each request, or frames would be mixed.
#[derive(Debug, Default)]
struct Tenure {
    /// Nothing is left of the helper: the keeper may be another fixture's by now.
    over: bool,
    /// The guardian has been asked to end the keeper.
    condemned: bool,
}

/// What the keeper reports.
#[derive(Debug)]
pub(crate) struct Reports {
    /// `None` when the last word has been heard.
    link: Option<Link>,
    socket: Arc<OwnedFd>,
    pid: i32,
    keeper: Option<i32>,
    tenure: Arc<Mutex<Tenure>>,
}

/// Starts a helper with these as its standard streams.
pub(crate) fn spawn(request: &Request, stdio: [OwnedFd; 3], deadline: Instant) -> Result<(Handle, Reports), Failure> {
    let order = order(request)?;
    let guardian = start::guardian().map_err(guardian_failure)?;
    let (reached, why_not_more) = match guardian {
        Ok(guardian) => (guardian.level(), guardian.why_no_cgroup()),
        Err(reason) => (Level::L1, Some(reason)),
    };
    level::check_required(reached, why_not_more).map_err(Failure::Level)?;
    start::note_ladder(request.ladder.total());
    let Ok(guardian) = guardian else {
        let failed = |e| wiring_or(e, |e| Failure::Step(guess_stage(request), e));
        let (pid, socket) = direct::spawn(&order, stdio).map_err(failed)?;
        let link = Link::new(socket);
        return Ok(assemble(pid, None, process::pidfd(pid).ok(), link));
    };
    let cwd = open_cwd(request).map_err(|e| wiring_or(e, |e| Failure::Step(Stage::Chdir, e)))?;
    let [stdin, stdout, stderr] = &stdio;
    let travel = [cwd.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let frame = Frame::Spawn(Box::new(order));
    let mut spoilt = 0;
    let (mut link, keeper) = loop {
        let idle = idle::take();
        let fresh = idle.is_none();
        let (link, keeper) = match idle {
            Some(idle) => idle,
            None => guardian.keeper(deadline).map_err(guardian_failure)?,
        };
        match link.send(&frame, &travel, deadline) {
            Ok(()) => break (link, keeper),
            // It was killed while it waited for its order: the next one, please.
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) && spoilt < 3 => {
                spoilt += u32::from(fresh);
            }
            Err(e) => return Err(guardian_failure(e)),
        }
    };
    registry::record_own(keeper, registry::Role::Keeper);
    drop(frame);
    // Our copies go now: the helper's end of each pipe must be the only one, or nobody ever reads an end of file.
    drop(stdio);
    let failure = match link.wait_next(deadline) {
        Ok(Frame::Spawned { pid, in_cgroup }) => {
            if !in_cgroup {
                // Where that is required, the helper ends with the link that is dropped here.
                let why = Some("the helper could not be started in its cgroup");
                if let Err(unmet) = level::check_required(Level::L2, why) {
                    registry::forget(keeper);
                    return Err(Failure::Level(unmet));
                }
            }
            let pidfd = link.take_fd();
            return Ok(assemble(pid, Some(keeper), pidfd, link));
        }
        Ok(Frame::Refused { stage, errno }) => {
            wiring_or(io::Error::from_raw_os_error(errno), |e| Failure::Step(stage, e))
        }
        // It was taking everything down already, because the guardian is gone.
        Ok(Frame::Exited { .. } | Frame::Gone { .. }) => Failure::Guardian(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Failure::Guardian(io::Error::other("the keeper gave an answer that makes no sense")),
        Err(e) => guardian_failure(e),
    };
    registry::forget(keeper);
    Err(failure)
}

/// Where the helper's working directory begins: that of the test process, unless the request leaves it for an absolute one.
fn open_cwd(request: &Request) -> io::Result<OwnedFd> {
    let absolute = request.dir.as_ref().is_some_and(|dir| std::path::Path::new(dir).is_absolute());
    match fds::open_dir(".".as_ref()) {
        // The test process may stand where it may not search any more.
        Err(e) if absolute && e.kind() == io::ErrorKind::PermissionDenied => fds::open_dir("/".as_ref()),
        other => other,
    }
}

/// What a fixture has of whoever answers on this link.
pub(crate) fn assemble(pid: i32, keeper: Option<i32>, pidfd: Option<OwnedFd>, link: Link) -> (Handle, Reports) {
    let (socket, tenure) = (link.socket(), Arc::default());
    let handle = Handle { pid, keeper, pidfd, socket: Arc::clone(&socket), tenure: Arc::clone(&tenure) };
    (handle, Reports { link: Some(link), socket, pid, keeper, tenure })
}

/// Out of descriptors or memory is one thing, wherever it shows; what else it can be depends on the place.
fn wiring_or(e: io::Error, otherwise: impl FnOnce(io::Error) -> Failure) -> Failure {
    match e.raw_os_error() {
        Some(code) if crate::sys::is_exhaustion(code) => Failure::Wiring(e),
        _ => otherwise(e),
    }
}

fn guardian_failure(e: io::Error) -> Failure {
    wiring_or(e, |e| match e.raw_os_error() {
        Some(crate::sys::E2BIG) => Failure::Step(Stage::Exec, e),
        _ => Failure::Guardian(e),
    })
}

/// std's `Command` does not say which step failed.
fn guess_stage(request: &Request) -> Stage {
    match &request.dir {
        Some(dir) if !std::path::Path::new(dir).is_dir() => Stage::Chdir,
        _ => Stage::Exec,
    }
}

fn order(request: &Request) -> Result<Order, Failure> {
    let c_string = |what: &str, s: &OsStr| {
        CString::new(s.as_bytes()).map_err(|_| Failure::Nul(format!("{what} {}", s.as_bytes().escape_ascii())))
    };
    let program = c_string("the program", &request.program)?;
    let mut args = vec![program];
    for arg in &request.args {
        args.push(c_string("the argument", arg)?);
    }
    let mut env = Vec::with_capacity(request.env.len());
    for (key, value) in &request.env {
        let mut entry = key.clone();
        entry.push("=");
        entry.push(value);
        env.push(c_string("the environment entry", &entry)?);
    }
    let dir = request.dir.as_deref().map(|d| c_string("the working directory", d)).transpose()?;
    let path = request.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let mut candidates = Vec::new();
    for candidate in candidate_paths(&request.program, path) {
        candidates.push(c_string("the program", &candidate)?);
    }
    Ok(Order { candidates, args, env, dir, inherited: Inherited::now(), ladder: request.ladder })
}

/// Where execvp(3) would look, with the helper's own PATH, as std's `Command` does.
fn candidate_paths(program: &OsStr, path: Option<&OsStr>) -> Vec<OsString> {
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    let join = |dir: &[u8]| {
        let mut candidate = OsStr::from_bytes(if dir.is_empty() { b"." } else { dir }).to_owned();
        candidate.push("/");
        candidate.push(program);
        candidate
    };
    path.as_bytes().split(|b| *b == b':').map(join).collect()
}

impl Handle {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Signals the helper itself, and surely nobody else.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.pidfd {
            Some(fd) => process::signal_pidfd(fd.as_fd(), signal),
            None if self.pid == process::own_pid() => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "a fake has no process that could be signaled"))
            }
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has no pidfds (Linux 5.3)")),
        }
    }

    /// SIGTERM, then SIGCONT, to the helper's process groups.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.ask(&Frame::Terminate)
    }

    /// Asks for the whole ladder.
    pub(crate) fn stop(&self, ladder: Ladder) -> io::Result<()> {
        self.ask(&Frame::Stop(ladder))
    }

    /// Asks for the end at once.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.ask(&Frame::Kill)
    }

    /// Below this process is everything that belongs to the helper.
    pub(crate) fn root(&self) -> i32 {
        self.keeper.unwrap_or(self.pid)
    }

    /// The last resort against a keeper that does not answer: the guardian ends it, and then what it has left.
    pub(crate) fn give_up_on_keeper(&self) -> bool {
        let mut tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        if tenure.over {
            return false;
        }
        tenure.condemned = true;
        self.keeper.is_some_and(start::kill_keeper)
    }

    fn ask(&self, frame: &Frame) -> io::Result<()> {
        let tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        if tenure.over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        send(&self.socket, frame, &[], Instant::now() + REQUEST_LIMIT)
    }
}

impl Reports {
    /// Nothing is left, says the kernel: the keeper can serve another fixture.
    fn release_keeper(&mut self) {
        // Whoever is sending a request at this moment has sent it when the lock is ours, and nobody begins afterwards. The
        // keeper reads it before the next order, and knows that it comes too late.
        let mut tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        tenure.over = true;
        match (self.link.take(), self.keeper) {
            (Some(link), Some(keeper)) if !tenure.condemned => idle::put(link, keeper),
            _ => {}
        }
    }
}

impl News for Reports {
    fn source(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    fn hear(&mut self) -> Option<Heard> {
        let escapees = |found: Vec<super::protocol::Found>| {
            found.into_iter().map(|f| Escapee::new(f.pid, f.command)).collect::<Vec<_>>()
        };
        let next = self.link.as_mut().map_or(Ok(Next::Closed), Link::next);
        match &next {
            Ok(Next::NotYet) => {}
            Ok(Next::Frame(Frame::Exited { .. })) => registry::forget(self.pid),
            // The keeper's last word, or none any more.
            _ => {
                registry::forget(self.pid);
                if let Some(keeper) = self.keeper {
                    registry::forget(keeper);
                }
            }
        }
        match next {
            Ok(Next::NotYet) => None,
            Ok(Next::Frame(Frame::Exited { status, after, left, note })) => {
                Some(Heard::Exited(Exit { status, after, left: escapees(left), note }))
            }
            Ok(Next::Frame(Frame::Gone { escapees: found, survivors, stays })) => {
                if stays {
                    self.release_keeper();
                }
                let survivors = survivors.into_iter().map(|s| Survivor::new(s.pid, s.command, s.reason)).collect();
                Some(Heard::Gone { escapees: escapees(found), survivors })
            }
            Ok(Next::Frame(_)) => Some(Heard::Lost("the keeper gave an answer that makes no sense".to_owned())),
            Ok(Next::Closed) => Some(Heard::Lost("the keeper process has died".to_owned())),
            Err(e) => Some(Heard::Lost(format!("the keeper cannot be heard any more: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_program_is_execvps() {
        let paths = |program: &str, path: Option<&str>| {
            let found = candidate_paths(program.as_ref(), path.map(OsStr::new));
            found.into_iter().map(|p| p.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(paths("a", Some("/x:/y/z")), ["/x/a", "/y/z/a"]);
        assert_eq!(paths("a", Some(":/x")), ["./a", "/x/a"]);
        assert_eq!(paths("./a", Some("/x")), ["./a"]);
        assert_eq!(paths("a", None), ["/bin/a", "/usr/bin/a"]);
        assert_eq!(paths("", Some("/x")), [""]);
    }
}
