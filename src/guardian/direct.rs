//! Without a guardian (level L1): the test process starts the helper itself, and a thread stands in for the keeper.
//!
//! It speaks the keeper's protocol, so the rest of the crate does not know the difference. It knows only the helper's
//! process group: a daemon that leaves the group escapes, and so does everything when the test process is killed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::{Link, Next};
use super::protocol::{Frame, Ladder, Order};
use crate::sys::fds::{Until, is_ready, poll};
use crate::sys::tree::Survivor;
use crate::sys::{AsFd, OwnedFd, process, procfs, pty, signals, socket};

/// How long a group may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A helper that this process started and has not reaped yet.
#[derive(Debug)]
struct Group {
    /// The leader's number, which is the group's; `None` once it is reaped and the number may be a stranger's.
    leader: Mutex<Option<i32>>,
    ended: OwnedFd,
    ladder: Ladder,
}

static GROUPS: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());

impl Group {
    /// Signals the group while its number is pinned by the unreaped leader.
    ///
    /// # Errors
    ///
    /// `EPERM` when none of the group may be signalled.
    fn signal(&self, signal: i32) -> io::Result<()> {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that reaps children which are not its own (`waitpid(-1)`) has freed the number.
        *leader = leader.filter(|pid| process::is_unreaped(*pid));
        match *leader {
            // ESRCH: nobody is left in it.
            Some(group) => process::signal_group(group, signal),
            None => Ok(()),
        }
    }

    fn ask_to_leave(&self) {
        // Whether they hear it or not, what follows is the same.
        let _ = self.signal(signals::SIGTERM);
        let _ = self.signal(signals::SIGCONT);
    }

    fn wait(&self, deadline: Instant) {
        let _ = poll([Some((self.ended.as_fd(), Until::Readable))], Some(deadline));
    }

    /// The helper, if it has not ended although it was killed.
    fn survivor(&self, killed: io::Result<()>) -> Option<Survivor> {
        let leader = *self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = leader.filter(|_| !is_ready(&self.ended, Until::Readable))?;
        let reason = match killed {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                format!("the kernel refuses to signal it ({e}): it runs as another user")
            }
            _ => "it has not reacted to SIGKILL yet".to_owned(),
        };
        let start = procfs::stat(pid).map_or(0, |stat| stat.start);
        Some(Survivor { pid, start, command: procfs::command_line(pid, Instant::now()), reason })
    }

    /// Kills whoever has come to the group meanwhile, and reaps the leader, which has ended.
    fn finish(&self, child: &Mutex<Child>) {
        let _ = self.signal(signals::SIGKILL);
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if leader.take().is_some() {
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        }
    }
}

/// Starts the helper; its pid and the socket on which a keeper would answer.
///
/// # Errors
///
/// What std's `Command` says: the errno of the step that failed.
pub(super) fn spawn(order: &Order, stdio: [OwnedFd; 3]) -> io::Result<(i32, OwnedFd)> {
    let text = |s: &std::ffi::CString| OsStr::from_bytes(s.as_bytes()).to_owned();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let (ours, theirs) = socket::pair()?;
    for program in &order.candidates {
        let mut command = Command::new(text(program));
        if let [name, args @ ..] = order.args.as_slice() {
            command.arg0(text(name)).args(args.iter().map(text));
        }
        command.env_clear();
        for entry in &order.env {
            let bytes = entry.as_bytes();
            // A name may begin with '=', as on the wire of some shells; the separator is the next one.
            let equals = bytes.iter().skip(1).position(|b| *b == b'=').map_or(bytes.len(), |at| at + 1);
            let (key, value) = bytes.split_at(equals);
            command.env(OsStr::from_bytes(key), OsStr::from_bytes(value.strip_prefix(b"=").unwrap_or(value)));
        }
        if let Some(dir) = &order.dir {
            command.current_dir(text(dir));
        }
        let [stdin, stdout, stderr] = &stdio;
        command.stdin(Stdio::from(stdin.try_clone()?));
        command.stdout(Stdio::from(stdout.try_clone()?));
        command.stderr(Stdio::from(stderr.try_clone()?));
        if order.terminal {
            // Its group is that of the session, which has the terminal.
            pty::lead_session(&mut command);
        } else {
            command.process_group(0);
        }
        match command.spawn() {
            Ok(child) => {
                let pid = child.id() as i32;
                let ladder = order.ladder;
                let child = Arc::new(Mutex::new(child));
                let own = Arc::clone(&child);
                let started = process::watch_child(pid).and_then(|ended| {
                    let group = Arc::new(Group { leader: Mutex::new(Some(pid)), ended, ladder });
                    let stand_in = Arc::clone(&group);
                    let serve = move || serve(&stand_in, &own, Link::new(theirs));
                    let thread = std::thread::Builder::new().name("foster-direct".to_owned());
                    signals::with_all_blocked(|| thread.spawn(serve))?;
                    GROUPS.lock().unwrap_or_else(PoisonError::into_inner).push(group);
                    Ok(())
                });
                if let Err(e) = started {
                    // No half-wired helper, and no zombie. It is an unreaped child of ours, and the leader of its group.
                    let _ = process::signal_group(pid, signals::SIGKILL);
                    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
                    process::reap_child(&mut child, Instant::now() + KILL_LIMIT);
                    return Err(e);
                }
                return Ok((pid, ours));
            }
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

/// The stand-in's whole life: it ends when the fixture lets go of its socket, or when the group is gone.
fn serve(group: &Arc<Group>, child: &Mutex<Child>, mut link: Link) {
    let started = Instant::now();
    let mut told = false;
    let mut stop_at: Option<(Instant, Ladder)> = None;
    let tell = |link: &Link, frame: &Frame| {
        // If nobody hears it, the fixture is gone, which the next turn sees.
        let _ = link.send(frame, &[], Instant::now() + Duration::from_secs(1));
    };
    loop {
        let ended = (!told).then_some((group.ended.as_fd(), Until::Readable));
        let ready = poll([Some((link.as_fd(), Until::Readable)), ended], stop_at.map(|(t, _)| t));
        let Ok([asked, ended]) = ready else { break };
        if ended {
            told = true;
            let leader = *group.leader.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = leader.and_then(process::peek_status) {
                tell(&link, &exited(status, started));
            }
            if stop_at.is_some() {
                break;
            }
        }
        if asked {
            match link.next() {
                Ok(Next::NotYet) => {}
                Ok(Next::Frame(Frame::Terminate)) => group.ask_to_leave(),
                Ok(Next::Frame(Frame::Stop(ladder))) if !told && stop_at.is_none() => {
                    let eof = ladder.eof.unwrap_or_default();
                    stop_at = Some((Instant::now() + eof, Ladder { eof: None, ..ladder }));
                }
                Ok(Next::Frame(Frame::Stop(_))) if !told => {}
                _ => break,
            }
        }
        match stop_at {
            Some((at, ladder)) if Instant::now() >= at => match ladder.term {
                Some(grace) => {
                    group.ask_to_leave();
                    stop_at = Some((Instant::now() + grace, Ladder { eof: None, term: None }));
                }
                None => break,
            },
            _ => {}
        }
    }
    let leader = *group.leader.lock().unwrap_or_else(PoisonError::into_inner);
    let killed = group.signal(signals::SIGKILL);
    group.wait(Instant::now() + KILL_LIMIT);
    if let Some(survivor) = group.survivor(killed) {
        // It stays in the list: at the end of the process it is tried again.
        tell(&link, &Frame::Gone { escapees: Vec::new(), survivors: vec![survivor], stays: false });
        return;
    }
    if !told {
        if let Some(status) = leader.and_then(process::peek_status) {
            tell(&link, &exited(status, started));
        }
    }
    group.finish(child);
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|g| !Arc::ptr_eq(g, group));
    tell(&link, &Frame::Gone { escapees: Vec::new(), survivors: Vec::new(), stays: false });
}

fn exited(status: ExitStatus, started: Instant) -> Frame {
    Frame::Exited { status, after: started.elapsed(), left: Vec::new(), note: String::new() }
}

/// Ends every group of this process: all are asked at once, and one grace is paid; what could not be ended.
pub(crate) fn stop_all() -> Vec<Survivor> {
    let groups: Vec<_> = GROUPS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for group in &groups {
        group.ask_to_leave();
    }
    let began = Instant::now();
    for group in &groups {
        group.wait(began + group.ladder.total());
    }
    let killed: Vec<_> = groups.iter().map(|group| group.signal(signals::SIGKILL)).collect();
    let began = Instant::now();
    for group in &groups {
        group.wait(began + KILL_LIMIT);
    }
    groups.iter().zip(killed).filter_map(|(group, killed)| group.survivor(killed)).collect()
}
