//! What a leak gives away about itself while it lives: how it got away from its test, and what it holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Leak;
use super::facts::{Escape, Holding};
use super::line::{Line, Marks};
use super::lineage::is_pipe;
use super::options::HINTS;
use crate::report::signal_name;
use crate::sys::{details, process, procfs, signals, sockets};

/// The requests to end that matter: what a runner, a terminal or a person sends.
const REQUESTS: [i32; 3] = [signals::SIGTERM, signals::SIGHUP, signals::SIGINT];

/// How many leaks are asked what they hold: a loop that leaks can leave thousands, and they look alike.
const THOROUGH: usize = 300;

/// How many descriptors of one leak are looked at.
const DESCRIPTORS: usize = 4096;

/// How many things of one kind are listed for one leak.
const LISTED: usize = 20;

/// How many bytes of arguments are kept for one leak.
const ARGUMENTS: usize = 16 << 10;

/// How long all of them together may keep us waiting because they are in the middle of their `exec`.
const PATIENCE: Duration = Duration::from_millis(50);

/// How old a process may be whose environment reads empty because it has just been made.
const NEWBORN: Duration = Duration::from_secs(1);

/// What leaks are compared with: the check's own process.
#[derive(Debug)]
pub(super) struct Ground {
    session: i32,
    manners: Option<details::Manners>,
    /// The suite's standard streams, as far as somebody may wait for their end.
    outputs: Vec<(&'static str, String)>,
    temporary: Option<PathBuf>,
    /// By network namespace.
    sockets: HashMap<Option<PathBuf>, HashMap<u64, String>>,
    patience: Instant,
    thorough: usize,
}

impl Ground {
    /// `suite` is what was started: it may have been given a temporary directory of its own.
    pub(super) fn new(suite: &Command) -> Ground {
        let own = process::own_pid();
        let stream = |(fd, name)| Some((name, details::descriptor(own, fd).filter(|link| is_pipe(link))?));
        let temporary = suite.get_envs().find(|(name, _)| *name == "TMPDIR").and_then(|(_, value)| value);
        Ground {
            session: procfs::stat(own).map_or(0, |s| s.session),
            manners: details::manners(own),
            outputs: [(1, "stdout"), (2, "stderr")].into_iter().filter_map(stream).collect(),
            temporary: temporary.map(PathBuf::from),
            sockets: HashMap::new(),
            patience: Instant::now() + PATIENCE,
            thorough: THOROUGH,
        }
    }

    /// Time has passed: sockets are asked for again.
    pub(super) fn refresh(&mut self) {
        self.sockets.clear();
        self.patience = Instant::now() + PATIENCE;
    }

    /// The environment of a process, asked again for a moment if it reads empty: right after its birth it does.
    pub(super) fn marks(&self, stat: &procfs::Stat) -> Option<Marks> {
        loop {
            let marks = details::variables(stat.pid, &HINTS);
            let newborn = || details::age(stat.start).is_some_and(|age| age < NEWBORN);
            let alive = || procfs::stat(stat.pid).is_some_and(|s| !s.is_zombie());
            if marks.is_some() || Instant::now() >= self.patience || !newborn() || !alive() {
                return marks;
            }
            std::thread::yield_now();
        }
    }

    /// What is known of a leak besides who it is; `marks` is what its environment says now.
    pub(super) fn gather(&mut self, leak: &mut Leak, stat: &procfs::Stat, line: &Line, marks: Option<&Marks>) {
        leak.args = details::arguments(stat.pid, ARGUMENTS);
        leak.escapes = self.escapes(stat, line, marks);
        if self.thorough == 0 {
            return;
        }
        self.thorough -= 1;
        let descriptors = details::descriptors(stat.pid, DESCRIPTORS);
        let mut outputs =
            self.outputs.iter().map(|(name, link)| ((*name).to_owned(), link.clone())).collect::<Vec<_>>();
        // The test's own may be the runner's pipes: that is the outermost process that runs tests.
        let test = line.born.iter().skip(1).rev().find(|born| born.runs_tests());
        for link in test.into_iter().flat_map(|test| &test.outputs) {
            if outputs.iter().all(|(_, known)| known != link) {
                outputs.push(("output, as its test had it".to_owned(), link.clone()));
            }
        }
        let held = |standard: bool| -> Vec<String> {
            let has = |link: &String| descriptors.iter().any(|(fd, to)| (*fd <= 2) == standard && to == link);
            outputs.iter().filter(|(_, link)| has(link)).map(|(name, _)| name.clone()).collect()
        };
        let streams = held(true);
        if !streams.is_empty() {
            leak.escapes.push(Escape::Stdio(streams));
        }
        leak.holds.extend(held(false).into_iter().map(Holding::Output));
        leak.holds.extend(self.holds(stat.pid, &descriptors));
    }

    fn escapes(&self, stat: &procfs::Stat, line: &Line, marks: Option<&Marks>) -> Vec<Escape> {
        let mut found = Vec::new();
        let parent = line.born.get(1);
        if stat.session != self.session {
            found.push(Escape::Session);
        } else if stat.group == stat.pid || parent.is_some_and(|p| p.group != stat.group) {
            found.push(Escape::Group);
        }
        if stat.parent == process::own_pid() {
            found.push(Escape::Orphaned);
        }
        if let Some(manners) = details::manners(stat.pid) {
            // What is ignored here already, as under nohup(1), says nothing about the leak.
            let ours = |signal| self.manners.is_some_and(|own| own.ignores(signal));
            let ignored = REQUESTS.into_iter().filter(|s| manners.ignores(*s) && !ours(*s));
            let ignored: Vec<String> = ignored.map(signal_name).collect();
            if !ignored.is_empty() {
                found.push(Escape::Ignores(ignored));
            }
            if self.manners.is_some_and(|own| own.user != manners.user) {
                found.push(Escape::User);
            }
        }
        if matches!(stat.state, 'T') {
            found.push(Escape::Stopped);
        }
        // One that has inherited its environment has inherited what cargo and nextest have put into it.
        let lost =
            |marks: &Marks| HINTS.iter().any(|name| marks.get(*name) != line.marks(name).and_then(|m| m.get(*name)));
        if marks.is_none_or(lost) {
            found.push(Escape::Environment);
        }
        found
    }

    fn holds(&mut self, pid: i32, descriptors: &[(i32, String)]) -> Vec<Holding> {
        let Ground { sockets, temporary, .. } = self;
        let is_temporary = |link: &str| temporary.as_ref().is_some_and(|dir| Path::new(link).starts_with(dir));
        let sockets = sockets.entry(sockets::namespace(pid)).or_insert_with(|| sockets::waiting(pid));
        let (mut listeners, mut locks, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (number, link) in descriptors {
            if let Some(socket) = sockets::inode(link).and_then(|inode| sockets.get(&inode)) {
                listeners.push(Holding::Listener(socket.clone()));
            } else if is_file(link) && locks.len() < LISTED && details::holds_lock(pid, *number) {
                locks.push(lock(Path::new(link)));
            } else if is_file(link) && (link.ends_with(" (deleted)") || is_temporary(link)) {
                files.push(Holding::File(link.into()));
            }
        }
        let mut all = Vec::new();
        for mut some in [listeners, locks, files] {
            let mut known = Vec::new();
            some.retain(|holding| {
                !known.contains(holding) && known.len() < LISTED && {
                    known.push(holding.clone());
                    true
                }
            });
            all.append(&mut some);
        }
        all
    }
}

/// Not a device, and not memory that has the form of a deleted file.
fn is_file(link: &str) -> bool {
    let memory = ["/dev/", "/memfd:", "/proc/", "/SYSV", "/[aio]"];
    link.starts_with('/') && !memory.iter().any(|start| link.starts_with(start))
}

fn lock(path: &Path) -> Holding {
    match (path.file_name().and_then(|name| name.to_str()), path.parent()) {
        (Some(".cargo-lock"), Some(dir)) => Holding::BuildLock(dir.to_owned()),
        _ => Holding::Lock(path.to_owned()),
    }
}

/// The requests that a process has a handler for; asked of one that has been asked to end and lives on.
pub(super) fn caught(pid: i32) -> Option<Escape> {
    let manners = details::manners(pid)?;
    let caught: Vec<String> = REQUESTS.into_iter().filter(|s| manners.catches(*s)).map(signal_name).collect();
    manners.catches(signals::SIGTERM).then_some(Escape::Catches(caught))
}

#[cfg(test)]
mod tests {
    use super::super::alone::{alone, becomes};
    use super::super::lineage::Lineage;
    use super::*;
    use crate::sys::tasks;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Stdio};

    /// A child that does nothing, as the check would describe it; it has ended when this returns.
    fn described(command: &mut Command, ground: &mut Ground) -> Leak {
        let mut child = command.spawn().unwrap();
        let leak = describe(&child, ground);
        child.kill().unwrap();
        child.wait().unwrap();
        leak
    }

    fn describe(child: &Child, ground: &mut Ground) -> Leak {
        let pid = child.id() as i32;
        // What `exec` has not replaced yet is ours, and it gives the name first and the environment last.
        let replaced = |stat: procfs::Stat| stat.comm == "sleep" && details::variables(pid, &[]).is_some();
        becomes("it is `sleep`", || procfs::stat(pid).is_some_and(replaced));
        let stat = procfs::stat(pid).unwrap();
        let mut lineage = Lineage::default();
        lineage.note(&[tasks::Below { stat: stat.clone(), thread: 0 }], &mut super::super::lineage::Proc);
        Leak::read(&stat, lineage.line(&stat, 0), ground)
    }

    fn ground() -> Ground {
        Ground::new(&Command::new("the suite"))
    }

    /// Holds this, and nothing else, as its standard input.
    fn sleeper(stdin: impl Into<Stdio>) -> Command {
        let mut command = Command::new("sleep");
        command.arg("20").stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn holds(stdin: impl Into<OwnedFd>, ground: &mut Ground) -> Vec<Holding> {
        described(&mut sleeper(stdin.into()), ground).holds
    }

    #[test]
    fn who_listens_is_told_from_who_is_connected() {
        let dir = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let path = dir.path().join("x.sock");
        let unix = UnixListener::bind(&path).unwrap();
        assert_eq!(holds(tcp.try_clone().unwrap(), &mut ground()), [Holding::Listener(format!("tcp {address}"))]);
        assert_eq!(holds(connected, &mut ground()), []);
        assert_eq!(holds(unix, &mut ground()), [Holding::Listener(format!("unix {}", path.display()))]);
    }

    #[test]
    fn locks_are_told_from_open_files_and_a_build_lock_from_others() {
        use rustix::fs::{FlockOperation, flock};
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let build = dir.join("target/debug");
        std::fs::create_dir_all(&build).unwrap();
        let file = |path: &Path| File::create(path).unwrap();
        let (cargo, other, open) = (file(&build.join(".cargo-lock")), file(&dir.join("lock")), file(&dir.join("open")));
        flock(&cargo, FlockOperation::LockExclusive).unwrap();
        flock(&other, FlockOperation::LockShared).unwrap();
        assert_eq!(holds(cargo, &mut ground()), [Holding::BuildLock(build)]);
        assert_eq!(holds(other, &mut ground()), [Holding::Lock(dir.join("lock"))]);
        assert_eq!(holds(open, &mut ground()), []);
        // The file is the same, but this is another open one, through which nobody has locked it.
        let holder = File::open(dir.join("lock")).unwrap();
        flock(&holder, FlockOperation::LockShared).unwrap();
        assert_eq!(holds(file(&dir.join("lock")), &mut ground()), []);
    }

    #[test]
    fn deleted_files_and_those_of_the_run_are_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let file = |name: &str| File::create(dir.join(name)).unwrap();
        let deleted = file("deleted");
        std::fs::remove_file(dir.join("deleted")).unwrap();
        let gone = format!("{} (deleted)", dir.join("deleted").display());
        assert_eq!(holds(deleted, &mut ground()), [Holding::File(gone.into())]);
        let mut with_dir = Ground::new(Command::new("the suite").env("TMPDIR", &dir));
        assert_eq!(holds(file("a"), &mut with_dir), [Holding::File(dir.join("a"))]);
        assert_eq!(holds(file("a"), &mut ground()), []);
    }

    /// In a process of its own, whose streams are pipes.
    #[test]
    fn whoever_keeps_the_readers_of_the_suite_waiting_is_told() {
        alone(|| {
            let streams = |leak: &Leak| leak.escapes.iter().any(|e| matches!(e, Escape::Stdio(_)));
            let leak =
                described(Command::new("sleep").arg("20").stdin(Stdio::null()).stdout(Stdio::null()), &mut ground());
            assert!(leak.escapes.contains(&Escape::Stdio(vec!["stderr".to_owned()])), "{leak:#?}");
            let leak = described(&mut sleeper(Stdio::null()), &mut ground());
            assert!(!streams(&leak) && leak.holds.is_empty(), "{leak:#?}");
            let leak = described(sleeper(Stdio::null()).stdout(Stdio::piped()), &mut ground());
            assert!(!streams(&leak), "a pipe of its parent's: {leak:#?}");
            let script = "exec 7>&1 >/dev/null; exec sleep 20";
            let leak = described(
                Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()),
                &mut ground(),
            );
            assert_eq!(leak.holds, [Holding::Output("stdout".to_owned())], "{leak:#?}");
        });
    }

    /// The escapes of a script that becomes `sleep`; of a leak that does not hide, there are none but that it is ours.
    fn escapes(script: &str) -> Vec<Escape> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        described(&mut command, &mut ground()).escapes
    }

    #[test]
    fn each_way_to_get_away_is_told() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(escapes("exec sleep 20"), [Escape::Orphaned]);
        assert_eq!(escapes("exec setsid sleep 20"), [Escape::Session, Escape::Orphaned]);
        let ignores = |signals: &[&str]| vec![Escape::Orphaned, Escape::Ignores(names(signals))];
        assert_eq!(escapes("trap '' TERM; exec sleep 20"), ignores(&["SIGTERM"]));
        assert_eq!(escapes("trap '' INT HUP USR1; exec sleep 20"), ignores(&["SIGHUP", "SIGINT"]));
        let mut group = sleeper(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut group, 0);
        assert_eq!(described(&mut group, &mut ground()).escapes, [Escape::Group, Escape::Orphaned]);
    }

    #[test]
    fn whoever_is_stopped_or_has_become_somebody_else_is_told() {
        let mut child = sleeper(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        becomes("it is `sleep`", || procfs::stat(pid).is_some_and(|stat| stat.comm == "sleep"));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::STOP).unwrap();
        becomes("it is stopped", || procfs::stat(pid).is_some_and(|stat| stat.state == 'T'));
        assert_eq!(describe(&child, &mut ground()).escapes, [Escape::Orphaned, Escape::Stopped]);
        child.kill().unwrap();
        child.wait().unwrap();
        if rustix::process::geteuid().is_root() {
            let mut command = sleeper(Stdio::null());
            std::os::unix::process::CommandExt::uid(&mut command, 65_001);
            assert!(described(&mut command, &mut ground()).escapes.contains(&Escape::User));
        }
    }

    #[test]
    fn a_handler_that_goes_on_is_told_from_the_default() {
        let mut child = Command::new("sh").args(["-c", "trap : TERM INT; sleep 20 & wait"]).spawn().unwrap();
        let pid = child.id() as i32;
        let caught = || caught(pid);
        let is_sleep = |pid: &i32| procfs::stat(*pid).is_some_and(|stat| stat.comm == "sleep");
        becomes("the traps are set", || procfs::children(pid).iter().any(is_sleep));
        assert_eq!(caught(), Some(Escape::Catches(vec!["SIGTERM".to_owned(), "SIGINT".to_owned()])));
        for pid in procfs::children(pid) {
            assert_eq!(super::caught(pid), None);
            process::signal_child(pid, signals::SIGKILL).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn arguments_are_listed_one_by_one() {
        let mut command = sleeper(Stdio::null());
        assert_eq!(described(command.arg("0"), &mut ground()).args, ["sleep", "20", "0"]);
    }
}
