//! The guardian: the test binary, executed again and diverted before `main`, that owns every keeper.
//!
//! It is small and has one thread, so forking from it costs the same however large the test process is; it has a session,
//! no terminal and no standard streams of its own; and it outlives the test process by exactly the time that cleaning up
//! takes. It serves until one of these happens: the test process says goodbye, its socket is closed (it ended or
//! executed something else), or its pidfd says that it ended (a copy that it forked may hold the socket open).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::keeper::{self, Birthright, EXIT_WITH_SURVIVORS, KILL_LIMIT};
use super::link::{Link, Next};
use super::protocol::{Frame, VERSION};
use crate::sys::cgroup::Cgroup;
use crate::sys::exit::exit_now;
use crate::sys::fds::{Until, pipe, poll, write_some};
use crate::sys::reexec::{Marker, forget_origin};
use crate::sys::tree::{self, Survivor};
use crate::sys::{AsFd, BorrowedFd, process, procfs, signals, socket};

/// How long the test process may take to introduce itself. It has already written the frame when we start.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// How long the test binary is left alone after its runner has gone: a Ctrl-C reaches both of them, and then it is saying
/// goodbye at this very moment. A signal of ours would be its second one, which ends it at once.
const RUNNER_DELAY: Duration = Duration::from_millis(500);

/// How long the test binary may take to end after it has been asked to, before it is killed.
const RUNNER_GRACE: Duration = Duration::from_secs(5);

/// How much longer than its own limit a keeper may take before the guardian does its work.
const KEEPER_SLACK: Duration = Duration::from_secs(3);

/// How long a reply may wait for room in the socket.
const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// What the directory and the cgroup are called that are made for this test process; both sides know it.
pub(super) fn name(marker: &Marker) -> String {
    format!("foster-{}-{:016x}", marker.test_process, marker.nonce)
}

/// The guardian's whole life. Never returns: what comes after it is the `main` of a test binary.
pub(crate) fn main(socket: OwnedFd, marker: &Marker) -> ! {
    let code = match Guardian::start(socket, marker) {
        Ok(mut guardian) => guardian.serve(),
        // The closed socket tells the test process.
        Err(_) => 3,
    };
    exit_now(code)
}

struct Guardian {
    control: Link,
    goodbye: Link,
    child_ends: OwnedFd,
    test_process: OwnedFd,
    runner: Option<OwnedFd>,
    /// This process, for the keepers to watch.
    own: OwnedFd,
    /// Keepers that live, by pid.
    keepers: BTreeSet<i32>,
    /// A keeper that nobody has asked for yet, so that the next request need not wait for a fork.
    spare: Option<(i32, OwnedFd)>,
    farewell: (OwnedFd, Option<OwnedFd>),
    root: PathBuf,
    /// The cgroup in which the fixtures' cgroups are made, or why there is none.
    cgroups: Result<Cgroup, String>,
    /// What to send to the test process that outlives its runner, and when.
    patience: Option<(Instant, i32)>,
}

/// Why the guardian stops serving.
enum End {
    Goodbye { slowest: Duration },
    TestProcessGone,
}

impl Guardian {
    fn start(socket: OwnedFd, marker: &Marker) -> io::Result<Guardian> {
        process::go_on_with_parents_end();
        procfs::promise_one_thread();
        forget_origin(&[&socket])?;
        process::set_name(c"foster-guardian");
        process::raise_limits();
        let mut control = Link::new(socket);
        let (runner, temp_dir, cgroups) = match control.wait_next(Instant::now() + HELLO_LIMIT)? {
            Frame::Hello { version: VERSION, nonce, runner, temp_dir, cgroups } if nonce == marker.nonce => {
                (runner, temp_dir, cgroups)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let goodbye = Link::new(control.take_fd().ok_or(io::ErrorKind::InvalidData)?);
        match Guardian::equip(control, goodbye, marker, runner, &temp_dir) {
            Ok(mut guardian) => {
                if cgroups {
                    guardian.cgroups = Cgroup::probe(&name(marker));
                }
                // If there is no room for it now, it is made when it is needed, or refused then.
                let _ = guardian.ensure_spare();
                let cgroup = guardian.cgroups.as_ref().map(|all| all.path().to_owned()).map_err(String::clone);
                let welcome = Frame::Welcome { pid: process::own_pid(), root: guardian.root.clone(), cgroup };
                // If the test process is gone already, serving is what cleans up behind it.
                let _ = guardian.control.send(&welcome, &[], Instant::now() + REPLY_LIMIT);
                Ok(guardian)
            }
            Err((control, errno, reason)) => {
                control.send(&Frame::Unable { errno, reason }, &[], Instant::now() + REPLY_LIMIT)?;
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    /// Acquires all that the promise rests on, or says what is missing.
    fn equip(
        control: Link,
        goodbye: Link,
        marker: &Marker,
        runner: i32,
        temp_dir: &Path,
    ) -> Result<Guardian, (Link, i32, String)> {
        let acquire = || -> Result<_, (i32, String)> {
            let missing =
                |what: &'static str| move |e: io::Error| (e.raw_os_error().unwrap_or(0), format!("{what}: {e}"));
            if !procfs::available() {
                return Err((0, "there is no /proc that shows this process".to_owned()));
            }
            process::become_subreaper().map_err(missing("prctl(PR_SET_CHILD_SUBREAPER)"))?;
            let child_ends = signals::child_ends().map_err(missing("signalfd"))?;
            let own = process::pidfd(process::own_pid()).map_err(missing("pidfd_open"))?;
            let test_process = process::pidfd(marker.test_process).map_err(missing("pidfd_open"))?;
            if process::parent_pid() != marker.test_process {
                return Err((0, "the test process has ended".to_owned()));
            }
            let farewell = pipe().map_err(missing("pipe"))?;
            Ok((child_ends, own, test_process, farewell))
        };
        let (child_ends, own, test_process, (hear, say)) = match acquire() {
            Ok(all) => all,
            Err((errno, reason)) => return Err((control, errno, reason)),
        };
        // The pidfd is opened first and the relation checked afterwards, so it is the runner's and nobody else's.
        let runner = process::pidfd(runner)
            .ok()
            .filter(|_| procfs::stat(marker.test_process).is_some_and(|s| s.parent == runner));
        // Only a name: the test process makes it when the first fixture wants a directory, and most never do.
        let root = temp_dir.join(name(marker));
        Ok(Guardian {
            control,
            goodbye,
            child_ends,
            test_process,
            runner,
            own,
            keepers: BTreeSet::new(),
            spare: None,
            farewell: (hear, Some(say)),
            root,
            cgroups: Err("FOSTER_DISABLE=cgroup".to_owned()),
            patience: None,
        })
    }

    fn serve(&mut self) -> i32 {
        // The first request came with the greeting, so it may have been read with it: no descriptor tells of that.
        let mut end = self.obey();
        let end = loop {
            match end {
                Some(end) => break end,
                None => end = self.turn(),
            }
        };
        let polite = match end {
            Goodbye { slowest } => slowest,
            TestProcessGone => Duration::ZERO,
        };
        let survivors = self.empty(Instant::now() + polite + KILL_LIMIT + KEEPER_SLACK);
        crate::own_dir::remove_all(&self.root);
        if let Ok(all) = &self.cgroups {
            all.clear(Instant::now() + KILL_LIMIT);
        }
        let _ = self.goodbye.send(&Frame::Empty { survivors }, &[], Instant::now() + REPLY_LIMIT);
        0
    }

    /// Waits for one event of any kind and deals with it.
    fn turn(&mut self) -> Option<End> {
        let ready = poll(
            [
                Some((self.test_process.as_fd(), Until::Readable)),
                Some((self.control.as_fd(), Until::Readable)),
                Some((self.goodbye.as_fd(), Until::Readable)),
                Some((self.child_ends.as_fd(), Until::Readable)),
                self.runner.as_ref().map(|r| (r.as_fd(), Until::Readable)),
            ],
            self.patience.map(|(at, _)| at),
        );
        let Ok([test_process, control, goodbye, child_ended, runner]) = ready else { return Some(TestProcessGone) };
        if goodbye {
            return Some(match self.goodbye.next() {
                Ok(Next::Frame(Frame::Goodbye { slowest })) => Goodbye { slowest },
                _ => TestProcessGone,
            });
        }
        if test_process {
            return Some(TestProcessGone);
        }
        if child_ended {
            self.reap();
        }
        if runner {
            self.runner = None;
            self.patience = Some((Instant::now() + RUNNER_DELAY, signals::SIGTERM));
        }
        if let Some((_, signal)) = self.patience.filter(|(at, _)| Instant::now() >= *at) {
            // Its hooks, if it has any, clean up politely; we follow when it is gone.
            let _ = process::signal_pidfd(self.test_process.as_fd(), signal);
            let polite = signal == signals::SIGTERM;
            self.patience = polite.then(|| (Instant::now() + RUNNER_GRACE, signals::SIGKILL));
        }
        if control { self.obey() } else { None }
    }

    fn obey(&mut self) -> Option<End> {
        loop {
            match self.control.next() {
                Ok(Next::NotYet) => return None,
                Ok(Next::Frame(Frame::WantKeeper)) => {
                    if let Err(e) = self.hand_over_keeper() {
                        // Out of processes or descriptors. That may pass, and the other fixtures have no part in it.
                        let no = Frame::NoKeeper { errno: e.raw_os_error().unwrap_or(0) };
                        if self.control.send(&no, &[], Instant::now() + REPLY_LIMIT).is_err() {
                            return Some(TestProcessGone);
                        }
                    }
                }
                Ok(Next::Frame(Frame::KillKeeper { pid })) => {
                    if self.keepers.contains(&pid) {
                        // It has not been reaped, or it would not be in the list: the number is its own.
                        let _ = process::signal_child(pid, signals::SIGKILL);
                    }
                }
                Ok(Next::Closed | Next::Frame(_)) | Err(_) => return Some(TestProcessGone),
            }
        }
    }

    fn hand_over_keeper(&mut self) -> io::Result<()> {
        self.ensure_spare()?;
        if let Some((pid, link)) = self.spare.take() {
            let deadline = Instant::now() + REPLY_LIMIT;
            // ETOOMANYREFS or the like: it stays the spare one.
            if let Err(e) = self.control.send(&Frame::Keeper { pid }, &[link.as_fd()], deadline) {
                self.spare = Some((pid, link));
                return Err(e);
            }
        }
        // The next one is made now, while the test process is busy with this one. If that fails, it is tried again
        // when it is needed.
        let _ = self.ensure_spare();
        Ok(())
    }

    fn ensure_spare(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(self.make_keeper()?);
        }
        Ok(())
    }

    fn make_keeper(&mut self) -> io::Result<(i32, OwnedFd)> {
        let (theirs, ours) = socket::pair()?;
        match process::fork()? {
            0 => {
                let born = Birthright {
                    link: theirs,
                    farewell: self.farewell.0.try_clone().unwrap_or_else(|_| exit_now(1)),
                    test_process: self.test_process.try_clone().unwrap_or_else(|_| exit_now(1)),
                    guardian: self.own.try_clone().unwrap_or_else(|_| exit_now(1)),
                    root: self.root.clone(),
                    cgroups: self.cgroups.as_ref().ok().cloned(),
                };
                // Everything else is the guardian's: were it kept here, the test process would never read end of file.
                let keep: [BorrowedFd<'_>; 4] =
                    [born.link.as_fd(), born.farewell.as_fd(), born.test_process.as_fd(), born.guardian.as_fd()];
                process::close_all_but(&keep);
                keeper::main(born)
            }
            pid => {
                self.keepers.insert(pid);
                Ok((pid, ours))
            }
        }
    }

    /// Collects keepers that have ended. One that ended badly has left its tree to us.
    fn reap(&mut self) {
        self.resume_keepers();
        let mut orphaned = Vec::new();
        let keepers = &mut self.keepers;
        tree::reap_all(&self.child_ends, &mut |pid, status| {
            // With survivors it has tried for long enough; they are tried again at the very end.
            if keepers.remove(&pid) && !matches!(status.code(), Some(0 | EXIT_WITH_SURVIVORS)) {
                orphaned.push(pid);
            }
        });
        if let Some((pid, _)) = &self.spare {
            if !self.keepers.contains(pid) {
                self.spare = None;
            }
        }
        if !orphaned.is_empty() {
            let cgroups: Vec<Cgroup> =
                self.cgroups.iter().flat_map(|all| orphaned.iter().map(|pid| all.of_keeper(*pid))).collect();
            let keepers = &mut self.keepers;
            let (spared, deadline) = (keepers.clone(), Instant::now() + KILL_LIMIT);
            tree::kill_all(&spared, &cgroups, &self.child_ends, deadline, &mut |pid, _| {
                keepers.remove(&pid);
            });
            for cgroup in &cgroups {
                cgroup.clear(deadline);
            }
        }
    }

    /// A keeper that somebody has stopped could not do its work: it goes on at once. The kernel tells of each stop.
    fn resume_keepers(&self) {
        while let Some(pid) = process::next_stopped() {
            if self.keepers.contains(&pid) {
                // It has not been reaped, so the number is its own.
                let _ = process::signal_child(pid, signals::SIGCONT);
            }
        }
    }

    /// Lets every keeper finish, then does the work of those that did not; what could not be ended.
    fn empty(&mut self, deadline: Instant) -> Vec<Survivor> {
        // Keepers see the word and leave it there for the others. Without it they would take us for dead.
        if let Some(say) = self.farewell.1.take() {
            let _ = write_some(&say, b"!");
        }
        self.spare = None;
        loop {
            self.resume_keepers();
            let keepers = &mut self.keepers;
            let no_child = tree::reap_all(&self.child_ends, &mut |pid, _| {
                keepers.remove(&pid);
            });
            if no_child {
                return Vec::new();
            }
            if self.keepers.is_empty() || Instant::now() >= deadline {
                break;
            }
            // A test process that dies while it waits for our answer turns a polite end into a quick one: keepers
            // see that themselves.
            let _ = poll([Some((self.child_ends.as_fd(), Until::Readable))], Some(deadline));
        }
        let cgroups: Vec<Cgroup> = self.cgroups.iter().cloned().collect();
        tree::kill_all(&BTreeSet::new(), &cgroups, &self.child_ends, Instant::now() + KILL_LIMIT, &mut |_, _| {})
    }
}

use End::{Goodbye, TestProcessGone};
