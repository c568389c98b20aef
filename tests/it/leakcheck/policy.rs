//! E5, E6: what a policy allows, what fails, and the status that a caller sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::running::{CASES, Ended, checker, have, run};
use crate::scene::{LIMIT, Process};

/// A directory in which a suite runs, with a policy if it has one.
pub(super) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub(super) fn new() -> Project {
        let dir = tempfile::tempdir().unwrap();
        // The root: no policy above it counts.
        fs::write(dir.path().join("Cargo.lock"), "").unwrap();
        Project { dir }
    }

    fn with(policy: &str) -> Project {
        let project = Project::new();
        project.write(policy);
        project
    }

    fn policy(&self) -> PathBuf {
        self.path(".config/foster.toml")
    }

    fn write(&self, policy: &str) {
        fs::create_dir_all(self.path(".config")).unwrap();
        fs::write(self.policy(), policy).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn check(&self, args: &[&str]) -> Command {
        let mut command = checker(args);
        // Soon enough for whoever does not end, and late enough for a machine that is busy.
        command.current_dir(self.dir.path()).env("FIXTURE_DEADLINE", "50");
        command
    }

    /// Runs a script below the check.
    fn script(&self, options: &[&str], script: &str) -> Ended {
        let mut args = vec!["--grace", "50"];
        args.extend(options);
        args.extend(["exec", "--", "sh", "-c", script]);
        run(self.check(&args))
    }

    /// Runs a suite that starts something with this command line and leaves it; who that was.
    fn leave(&self, options: &[&str], line: &str) -> (Ended, i32) {
        let name = line.split(' ').next().unwrap();
        let link = self.path(name);
        if !link.exists() {
            std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin!("anything"), link).unwrap();
        }
        let ended = self.script(options, &format!("echo $(./{line} &) >pid"));
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_else(|_| panic!("{line}: {}", ended.stderr));
        (ended, pid.trim().parse().unwrap())
    }
}

fn lives(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
fn assert_status(ended: &Ended, expected: i32) {
    assert_eq!(ended.status.code(), Some(expected), "{}", ended.stderr);
}

const ADB: &str = "adb -L tcp:5037 fork-server server";

#[test]
fn e5_the_status_says_what_was_found() {
    let project = Project::new();
    assert_status(&project.script(&[], "true"), 0);
    assert_status(&project.script(&[], "exit 7"), 7);
    let (leaky, pid) = project.leave(&[], "server");
    assert_status(&leaky, 23);
    assert!(!lives(pid), "{}", leaky.stderr);
    // Neither hides the other.
    let both = project.script(&[], "echo $(./server &) >pid; exit 7");
    assert_status(&both, 7);
    assert!(both.stderr.contains("1 process is alive"), "{}", both.stderr);
    assert_status(&run(project.check(&["--policy", "none.toml", "exec", "--", "true"])), 24);
    assert_status(&run(project.check(&["--shard", "3/2", "exec", "--", "true"])), 2);
}

#[test]
fn e5_a_suite_that_hangs_is_ended_with_124() {
    let project = Project::with("[leakcheck]\ntimeout = \"200ms\"\n");
    let ended = project.script(&[], "exec sleep 50");
    assert_status(&ended, 124);
    assert!(ended.took < LIMIT, "{:?}", ended.took);
    // The control: the command line's limit wins, and this suite keeps it.
    assert_status(&project.script(&["--timeout", "50"], "true"), 0);
}

/// nextest says so itself; `cargo test` is content, and has shown nothing.
#[test]
fn e5_no_test_is_4() {
    // Built before, so that what is awaited is no build.
    assert!(CASES.is_file());
    let quiet = ["--no-report", "--", "test", "--quiet", "--test", "cases", "--"];
    let none = run(checker(&[&quiet[..], &["there_is_no_such_test"]].concat()));
    assert_status(&none, 4);
    // The control.
    assert_status(&run(checker(&[&quiet[..], &["--ignored", "--exact", "leaves_nothing"]].concat())), 0);
    if have("cargo-nextest") {
        let nextest = ["--no-report", "--", "nextest", "run", "--test", "cases", "--run-ignored", "all", "-E"];
        assert_status(&run(checker(&[&nextest[..], &["none()"]].concat())), 4);
        // Nextest can be told to be content as well, and then we are not.
        assert_status(&run(checker(&[&nextest[..], &["none()", "--no-tests", "pass"]].concat())), 4);
        assert_status(&run(checker(&[&nextest[..], &["test(=leaves_nothing)"]].concat())), 0);
    }
}

#[test]
fn e6_a_daemon_that_is_allowed_by_name_passes_and_is_ended() {
    let strict = "[leakcheck]\nfail = [\"process\", \"daemon\"]\n";
    let allow = "[[leakcheck.allow]]\nname = \"adb\"\nreason = \"every Android test wants it\"\n";
    let project = Project::with(&format!("{strict}{allow}"));
    let (ended, pid) = project.leave(&[], ADB);
    assert_status(&ended, 0);
    assert!(ended.stderr.contains("every Android test wants it"), "{}", ended.stderr);
    assert!(!lives(pid), "allowed or not, it does not outlive the run: {}", ended.stderr);
    // The controls: without the allowance, and with one of another name.
    project.write(strict);
    assert_status(&project.leave(&[], ADB).0, 23);
    project.write(&format!("{strict}{}", allow.replace("adb", "abd")));
    let (ended, _) = project.leave(&[], ADB);
    assert_status(&ended, 23);
    let note =
        ".config/foster.toml:3: this allowance (anything, name `abd`) matched nothing: correct it, or take it out";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
}

#[test]
fn e6_an_allowance_that_matched_nothing_is_reported() {
    let project = Project::with("[[leakcheck.allow]]\nkind = \"process\"\nname = \"server\"\nreason = \"r\"\n");
    let note = ".config/foster.toml:1: this allowance (process, name `server`) matched nothing";
    let ended = project.script(&[], "true");
    assert_status(&ended, 0);
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    // The controls: a suite that failed may have ended early, and one that needs it needs it.
    assert!(!project.script(&[], "false").stderr.contains("matched nothing"));
    let (needed, _) = project.leave(&[], "server");
    assert_status(&needed, 0);
    assert!(!needed.stderr.contains("matched nothing"), "{}", needed.stderr);
}

#[test]
fn e6_an_expired_allowance_allows_nothing() {
    let text = "[[leakcheck.allow]]\nname = \"server\"\nreason = \"r\"\nexpires = \"2999-12-31\"\n";
    let project = Project::with(text);
    assert_status(&project.leave(&[], "server").0, 0);
    project.write(&text.replace("2999", "1999"));
    let (ended, _) = project.leave(&[], "server");
    assert_status(&ended, 23);
    let note = ".config/foster.toml:1: this allowance (anything, name `server`) has expired, ";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
}

#[test]
fn what_is_to_stay_stays_and_nothing_else_does() {
    let project = Project::with("[[leakcheck.allow]]\nname = \"adb\"\nreason = \"shared\"\nend = false\n");
    let (ended, pid) = project.leave(&[], ADB);
    assert_status(&ended, 0);
    assert!(lives(pid), "{}", ended.stderr);
    let spared = Process::open(pid);
    spared.signal(Signal::KILL);
    assert!(spared.ends_within(LIMIT));
    let (ended, pid) = project.leave(&[], "server");
    assert_status(&ended, 23);
    assert!(!lives(pid), "{}", ended.stderr);
}

#[test]
fn a_well_known_daemon_warns_and_the_report_says_how_to_stop_it_at_the_source() {
    let project = Project::new();
    for (line, fix) in [
        (ADB, "`adb kill-server`"),
        ("git fsmonitor--daemon run --detach", "`git config core.fsmonitor false`"),
        ("sccache", "`sccache --stop-server`"),
        ("gpg-agent --daemon", "`gpgconf --kill all`"),
    ] {
        let (ended, pid) = project.leave(&[], line);
        assert_status(&ended, 0);
        assert!(ended.stderr.contains(fix), "{line}: {}", ended.stderr);
        assert!(!lives(pid), "{line}: {}", ended.stderr);
    }
    // The controls: the same name with other arguments, and the arguments with another name.
    for line in ["adb logcat", "git daemon", "server fork-server server"] {
        assert_status(&project.leave(&[], line).0, 23);
    }
}

/// As they really start, which no table of ours can know for certain.
#[test]
fn real_daemons_are_recognized() {
    let project = Project::new();
    for (program, script, fix) in [
        ("ssh-agent", "ssh-agent -s >/dev/null", "`ssh-agent -k`"),
        ("gpg-agent", "mkdir -m 700 gpg && gpg-agent --homedir $PWD/gpg --daemon >/dev/null", "`gpgconf --kill all`"),
    ] {
        if have(program) {
            let ended = project.script(&[], script);
            assert_status(&ended, 0);
            assert!(ended.stderr.contains(fix), "{program}: {}", ended.stderr);
        }
    }
    // The control: one that somebody has in hand, and has left all the same.
    if have("ssh-agent") {
        assert_status(&project.script(&[], "ssh-agent sleep 50 >/dev/null 2>&1 &"), 23);
    }
}

#[test]
fn a_mistake_in_the_policy_costs_no_run() {
    let project = Project::with("[leakcheck]\ngrase = \"1s\"\n\n[[leakcheck.allow]]\nname = \"x\"\n");
    let ended = project.script(&[], "touch ran");
    assert_status(&ended, 24);
    let expected = "leakcheck: could not check: .config/foster.toml:2:1: unknown key `grase`; expected one of `grace`, \
                    `timeout`, `rerun`, `tmpdir`, `fail`, `allow`; did you mean `grace`?\n\
                    .config/foster.toml:4:1: an allowance needs a `reason`: why is this not to be repaired?\n";
    assert_eq!(ended.stderr, expected);
    assert!(!project.path("ran").exists());
    // The control.
    project.write("[leakcheck]\ngrace = \"1s\"\n");
    assert_status(&project.script(&[], "touch ran"), 0);
    assert!(project.path("ran").exists());
}

#[test]
fn with_a_baseline_a_legacy_suite_is_green_and_gets_no_worse() {
    let project = Project::new();
    let (written, pid) = project.leave(&["--write-baseline"], "server --port 1");
    assert_status(&written, 0);
    assert!(!lives(pid) && written.stderr.contains("an allowance has been added"), "{}", written.stderr);
    let text = fs::read_to_string(project.policy()).unwrap();
    assert!(
        text.starts_with("[[leakcheck.allow]]\nkind = \"process\"\nname = \"server\"\nreason = \"baseline of 20"),
        "{text}"
    );
    // Other arguments are the same leak.
    assert_status(&project.leave(&[], "server --port 2").0, 0);
    assert_status(&project.leave(&["--write-baseline"], "server --port 3").0, 0);
    assert_eq!(fs::read_to_string(project.policy()).unwrap(), text, "twice adds nothing");
    // The control: another leak is none of it.
    assert_status(&project.leave(&[], "client").0, 23);
}
