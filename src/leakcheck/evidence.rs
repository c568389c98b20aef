//! What a leak gives away about itself while it lives: how it got away from its test, and what it holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Leak;
use super::facts::{Escape, Holding};
use super::lineage::{Line, Marks, is_pipe};
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
