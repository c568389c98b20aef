//! A helper that has become root below an unprivileged test (A15), against every way to end: nobody can end it, so what
//! ends in bounded time are the test process, its keeper and its guardian, and whoever can still speak says what is left.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::endings::VICTIM_THAT_ABORTS;
use crate::guardian::{children, comm};
use crate::hostile::{is_root, program, run, text};
use crate::scene::{Process, fresh, make_fifo, read_line};

/// The keeper gives up after five seconds, and then the guardian after five more.
const BOUND: Duration = Duration::from_secs(25);

/// One way to end.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// What the victim is told to do.
    word: &'static str,
    /// What the harness sends, one after the other.
    signals: &'static [Signal],
    /// To the victim's group, not to itself only.
    group: bool,
    /// Is there a moment at which foster can still speak?
    speaks: bool,
}

const fn own(word: &'static str, speaks: bool) -> Ending {
    Ending { word, signals: &[], group: false, speaks }
}

const fn sent(signals: &'static [Signal], group: bool, speaks: bool) -> Ending {
    Ending { word: "signal", signals, group, speaks }
}

/// All the endings of `endings.rs`.
const ENDINGS: [Ending; 25] = [
    own("return", true),
    own("panic", true),
    // Of the victim that is built with `panic = "abort"`.
    own("panic-abort", true),
    own("abort", false),
    own("exit", true),
    own("_exit", false),
    own("segv", false),
    own("overflow", false),
    sent(&[Signal::INT], false, true),
    sent(&[Signal::INT], true, true),
    sent(&[Signal::TERM], false, true),
    sent(&[Signal::TERM], true, true),
    sent(&[Signal::HUP], false, true),
    sent(&[Signal::HUP], true, true),
    sent(&[Signal::QUIT], false, true),
    sent(&[Signal::QUIT], true, true),
    sent(&[Signal::KILL], false, false),
    sent(&[Signal::KILL], true, false),
    sent(&[Signal::STOP, Signal::KILL], false, false),
    own("exec", false),
    Ending { word: "fork", signals: &[Signal::KILL], group: false, speaks: false },
    own("main-exits", true),
    own("double-panic", false),
    own("forget", true),
    own("cycle", true),
];

/// A place where another user may execute our programs and write.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        Place(dir)
    }

    /// A copy with the given mode.
    pub(crate) fn copy(&self, original: &Path, name: &str, mode: u32) -> PathBuf {
        let copy = self.0.path().join(name);
        // By another process: see `guardian::c9_a_deleted_program_still_has_a_guardian`.
        assert!(Command::new("cp").arg(original).arg(&copy).status().unwrap().success());
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        copy
    }

    /// In the folder where everybody may write.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("open").join(name)
    }

    /// A FIFO that everybody may write into, and its reading end.
    pub(crate) fn fifo(&self, name: &str) -> (PathBuf, std::os::fd::OwnedFd) {
        let path = self.path(name);
        let reader = make_fifo(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        (path, reader)
    }
}

/// The arguments of [`fresh`] that make a program another user's.
pub(crate) fn as_nobody() -> Command {
    let mut command = fresh("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}

/// A victim whose helper is there.
struct Victim {
    ending: Ending,
    child: Child,
    handle: Process,
    guardian: Process,
    keeper: Process,
    helper: Process,
    /// The copy that the ending `fork` makes.
    copy: PathBuf,
    stderr: PathBuf,
    _fifo: std::os::fd::OwnedFd,
}

impl Victim {
    fn start(place: &Place, programs: &[PathBuf; 3], how: &str, number: usize, ending: Ending) -> Victim {
        let [victim, that_aborts, hide] = programs;
        let name = |what: &str| format!("{what}-{how}-{number}");
        let (fifo, reader) = place.fifo(&name("fifo"));
        let (record, copy, stderr) = (place.path(&name("record")), place.path(&name("copy")), place.path(&name("err")));
        let mut command = as_nobody();
        match ending.word {
            "panic-abort" => command.arg(that_aborts).arg("panic"),
            word => command.arg(victim).arg(word),
        };
        command.arg(hide).arg(how).arg(&record).arg(fifo).current_dir("/").process_group(0);
        command.env("VICTIM_COPY", &copy).env("FOSTER_DISABLE", "cgroup").env_remove("FOSTER_REQUIRE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(&stderr).unwrap());
        let mut child = command.spawn().unwrap();
        let said = read_line(child.stdout.take().unwrap());
        assert_eq!(said, "armed", "{ending:?}: {}", fs::read_to_string(&stderr).unwrap_or_default());
        let handle = Process::open(child.id() as i32);
        let helper = Process::open(fs::read_to_string(&record).unwrap().trim().parse().expect("it has signed"));
        let guardian = children(handle.pid).into_iter().find(|p| comm(*p) == "foster-guardian").unwrap();
        let keeper = children(guardian).into_iter().find(|k| children(*k).contains(&helper.pid)).unwrap();
        let (guardian, keeper) = (Process::open(guardian), Process::open(keeper));
        Victim { ending, child, handle, guardian, keeper, helper, copy, stderr, _fifo: reader }
    }

    /// Makes it end, and waits for nothing.
    fn end(&mut self) {
        if self.ending.signals.is_empty() {
            self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
        for signal in self.ending.signals {
            if self.ending.group {
                // The victim is not reaped, so the group is its own.
                kill_process_group(Pid::from_raw(self.handle.pid).unwrap(), *signal).unwrap();
            } else {
                self.handle.signal(*signal);
            }
        }
    }

    /// Waits until everybody has ended who has to, puts the rest down, and says what is not as it should be.
    fn judge(mut self, killable: bool, until: Instant) -> Vec<String> {
        let mut wrong = Vec::new();
        let left = || until.saturating_duration_since(Instant::now());
        for (who, process) in [("keeper", &self.keeper), ("guardian", &self.guardian), ("victim", &self.handle)] {
            // One that has become another program ends when the harness says so.
            let stays = who == "victim" && self.ending.word == "exec";
            if process.ends_within(if stays { Duration::ZERO } else { left() }) == stays {
                wrong.push(format!("the {who} {}", if stays { "is gone" } else { "does not end" }));
            }
        }
        // They are gone, so whatever they could do to it has been done.
        if self.helper.is_alive() == killable {
            wrong.push(format!("the helper is {}", if killable { "alive" } else { "dead: this proves nothing" }));
        }
        self.helper.put_down();
        if self.ending.word == "fork" {
            let copy = Process::open(fs::read_to_string(&self.copy).unwrap().parse().unwrap());
            copy.put_down();
        }
        for process in [&self.keeper, &self.guardian, &self.handle] {
            process.put_down();
        }
        self.child.wait().unwrap();
        let errors = fs::read_to_string(&self.stderr).unwrap();
        let tombstone = errors.contains(&format!("could not end pid {} `", self.helper.pid))
            && errors.contains("the kernel refuses to signal it");
        if tombstone != (self.ending.speaks && !killable) {
            wrong.push(format!("the tombstone is {}: {errors}", if tombstone { "there" } else { "missing" }));
        }
        wrong.iter().map(|what| format!("{:?}: {what}", self.ending)).collect()
    }
}

/// All victims end at once, so that their bounded waits are one wait.
fn check(how: &str, killable: bool) {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let programs = [
        place.copy(&program("victim"), "victim", 0o755),
        place.copy(&VICTIM_THAT_ABORTS, "victim-that-aborts", 0o755),
        // Set-user-id: whoever executes it may become root.
        place.copy(&program("hide"), "hide", 0o4755),
    ];
    let start = |(number, ending)| Victim::start(&place, &programs, how, number, ending);
    let mut victims: Vec<Victim> = ENDINGS.into_iter().enumerate().map(start).collect();
    let began = Instant::now();
    for victim in &mut victims {
        victim.end();
    }
    let wrong: Vec<String> = victims.into_iter().flat_map(|victim| victim.judge(killable, began + BOUND)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a15_every_ending_is_bounded_and_who_can_speak_says_what_is_left() {
    check("root", false);
}

/// The control: a helper of the same user is ended, and nobody says anything else.
#[test]
fn a15_what_can_be_killed_has_no_tombstone() {
    check("alone", true);
}

/// `stop` gives up in bounded time, too, and its error names who is left and why; without a guardian as well.
#[test]
fn a15_stop_names_what_it_could_not_end() {
    if !is_root() {
        return;
    }
    // Both at once, so that their waits are one wait.
    std::thread::scope(|scope| {
        for off in ["", "guardian"] {
            scope.spawn(move || stop_names_what_it_could_not_end(off));
        }
    });
}

fn stop_names_what_it_could_not_end(off: &str) {
    let place = Place::new();
    let attacked = place.copy(&program("attacked"), "attacked", 0o755);
    let hide = place.copy(&program("hide"), "hide", 0o4755);
    let (fifo, _reader) = place.fifo("fifo");
    let record = place.path("record");
    let began = Instant::now();
    let mut command = as_nobody();
    command.arg(attacked).arg("unkillable").arg(hide).arg(&record).arg(fifo).current_dir("/");
    command.env("FOSTER_DISABLE", off);
    // Its deadline, a minute, bounds this call.
    let output = run(&mut command);
    let took = began.elapsed();
    let (out, errors) = text(&output);
    let helper = fs::read_to_string(&record).unwrap_or_default();
    let helper = Process::open(helper.trim().parse().expect("it has signed"));
    let alive = helper.is_alive();
    helper.put_down();
    assert!(alive, "it could be killed after all: this proves nothing");
    assert!(output.status.success(), "{out}{errors}");
    assert!(out.contains("Survivor") && out.contains("could not end pid"), "{out}");
    assert!(out.contains("the kernel refuses to signal it") && out.contains("another user"), "{out}");
    assert!(errors.contains("could not end pid"), "the end of the process says it, too: {errors}");
    assert!(took < BOUND, "{took:?}");
}
