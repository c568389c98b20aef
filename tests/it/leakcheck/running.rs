//! A planted suite, alone or below the checker, from its start to its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cargo;
use crate::scene::{LIMIT, Process, Scene, fresh, hide};

pub(super) static XTASK: Lazy<PathBuf> = Lazy::new(|| cargo::build("xtask", &["--package", "xtask"]));

pub(super) static CASES: Lazy<PathBuf> = Lazy::new(|| cargo::build("cases", &["--test", "cases"]));

/// `xtask leakcheck ARGS`, as cargo would start it.
pub(super) fn checker(args: &[&str]) -> Command {
    let mut command = fresh(&*XTASK);
    command.arg("leakcheck").args(args).env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
    // What is planted here is no concern of the CI that runs these tests.
    command.env_remove("GITHUB_ACTIONS").env_remove("GITHUB_STEP_SUMMARY");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// The same with one planted test as the last words: `command` is a test binary, or ends with one.
pub(super) fn suite(mut command: Command, test: &str) -> Command {
    command.args(["--ignored", "--exact", test]);
    command
}

/// One planted test, executed by a checker.
pub(super) fn checked(args: &[&str], test: &str) -> Command {
    let mut command = checker(args);
    command.args(["exec", "--"]).arg(&*CASES);
    suite(command, test)
}

/// Something that has been started and will end.
pub(super) struct Running {
    pub(super) scene: Scene,
    child: Child,
    pub(super) handle: Process,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) scene: Scene,
    pub(super) status: ExitStatus,
    pub(super) stderr: String,
    pub(super) took: Duration,
}

impl Running {
    pub(super) fn start(mut command: Command, how: &str, then: &str) -> Running {
        let scene = Scene::new();
        command.env("CASES_HIDE", hide()).env("CASES_HOW", how).env("CASES_THEN", then);
        command.env("CASES_RECORD", scene.record()).env("CASES_FIFO", scene.fifo());
        command.env("CASES_ARMED", scene.path("armed"));
        command.env("LEAKY_RECORD", scene.record()).env("LEAKY_FIFO", scene.fifo());
        command.env("LEAKY_AGAIN", scene.path("armed"));
        if command.get_envs().all(|(name, _)| name != "TMPDIR") {
            // A check leaves the run's own directory where it was told to leave a process alone that may need it.
            std::fs::create_dir(scene.path("tmp")).unwrap();
            command.env("TMPDIR", scene.path("tmp"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(scene.path("stderr")).unwrap());
        let child = command.spawn().unwrap();
        let handle = Process::open(child.id() as i32);
        Running { scene, child, handle }
    }

    /// Everyone who has hidden, as soon as all of them have.
    pub(super) fn family(&self) -> Vec<Process> {
        assert!(self.scene.is_armed(&self.handle), "it ended first: {}", self.stderr());
        self.scene.family()
    }

    pub(super) fn stderr(&self) -> String {
        std::fs::read_to_string(self.scene.path("stderr")).unwrap()
    }

    /// Lets the planted test end, and waits for whoever we have started: for its exit, not for its output.
    pub(super) fn end(mut self) -> Ended {
        let began = Instant::now();
        // A suite that does not read may have ended already.
        let _ = self.child.stdin.take().unwrap().write_all(b"go\n");
        if !self.handle.ends_within(LIMIT) {
            self.handle.put_down();
            panic!("it does not end: {}", self.stderr());
        }
        let status = self.child.wait().unwrap();
        let stderr = self.stderr();
        Ended { scene: self.scene, status, stderr, took: began.elapsed() }
    }

    pub(super) fn type_in(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    pub(super) fn stdout(&mut self) -> OwnedFd {
        self.child.stdout.take().unwrap().into()
    }
}

/// For what plants nothing.
pub(super) fn run(command: Command) -> Ended {
    Running::start(command, "", "").end()
}

/// Is this program there? Says so visibly if not, and fails where all of them are required, as in CI.
pub(super) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        assert!(std::env::var_os("FOSTER_TEST_ALL_PROGRAMS").is_none(), "`{program}` is not installed");
        let _ = writeln!(std::io::stderr(), "SKIPPED: `{program}` is not installed");
    }
    found
}

/// Everything up to the end of the file; `None` if neither more of it nor its end comes for this long.
pub(super) fn read_to_end(fd: OwnedFd, patience: Duration) -> Option<String> {
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut file = File::from(fd);
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&timeout)) == Ok(1) {
        match file.read(&mut chunk).unwrap() {
            0 => return Some(String::from_utf8(text).unwrap()),
            n => text.extend_from_slice(&chunk[..n]),
        }
    }
    None
}
