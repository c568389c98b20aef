//! For tests of the engine: each runs in a process of its own, because a check reaps every child of its process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys::{process, procfs};

/// Says to the copy of the test binary which test it is there for.
const NAME: &str = "FOSTER_TEST_OF_THE_ENGINE";

/// How long something that takes milliseconds may take before the test fails.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Runs the body in a copy of this test binary that runs this test only.
pub(super) fn alone(body: impl FnOnce()) {
    // libtest gives the thread the test's name.
    let name = std::thread::current().name().expect("libtest names its threads").to_owned();
    if std::env::var(NAME).is_ok_and(|wanted| wanted == name) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--nocapture"]).env(NAME, &name).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

/// Asks until it is so.
#[track_caller]
pub(super) fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never so: {what}");
        std::thread::yield_now();
    }
}

/// Waits until this thread, which runs a check, has looked at the tree as it is now: each look ends with a sleep. The first
/// of them may belong to a look that has begun before, and some may be those of a page that was not in memory.
pub(super) fn has_looked(thread: i32) {
    let sleeps = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    };
    let before = sleeps();
    becomes("the check looks again and again", || sleeps() >= before + 6);
}

/// While a check runs on this thread: when the suite has made the file `ready`, so many `sleep` run below us, and the check
/// has looked, makes the file `go`, for which the suite waits.
pub(super) fn let_go_after_a_look(dir: &Path, sleepers: usize) -> std::thread::JoinHandle<()> {
    let checker = rustix::thread::gettid().as_raw_nonzero().get();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        becomes("the suite is ready", || dir.join("ready").exists());
        let sleeping = || procfs::descendants(process::own_pid()).iter().filter(|s| s.comm == "sleep").count();
        becomes("the leaks are what they are to be", || sleeping() >= sleepers);
        has_looked(checker);
        std::fs::write(dir.join("go"), "").unwrap();
    })
}

/// For a script: waits for a file, without a process of its own, and gives up after some seconds.
pub(super) fn awaiting(file: &str) -> String {
    format!("n=0; while [ ! -e {file} ] && [ $n -lt 9000000 ]; do n=$((n+1)); done")
}
