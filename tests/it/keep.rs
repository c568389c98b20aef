//! The directories of fixtures: removed however the test process ends, unless somebody wants to look at them.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use crate::scene::{LIMIT, Process, fresh, read_line};

/// Whoever keeps it: nobody, the environment, or the test.
const WAYS: [(&str, Option<&str>); 3] = [("dir", None), ("dir", Some("1")), ("keep", None)];

#[test]
fn what_is_kept_stays_however_the_test_process_ends_and_the_helper_never_does() {
    for (mode, variable) in WAYS {
        for (off, signal) in [("cgroup", Some(Signal::KILL)), ("cgroup", None), ("guardian", None)] {
            let tmp = tempfile::tempdir().unwrap();
            let mut command = fresh(assert_cmd::cargo::cargo_bin!("speaks"));
            command.arg(mode).env("TMPDIR", tmp.path()).env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE");
            match variable {
                Some(value) => command.env("FOSTER_KEEP", value),
                None => command.env_remove("FOSTER_KEEP"),
            };
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let handle = Process::open(child.id() as i32);
            let said = read_line(child.stdout.take().unwrap());
            let (pid, dir) = said.split_once(' ').unwrap();
            let (helper, dir) = (Process::open(pid.parse().unwrap()), PathBuf::from(dir));
            let guardian = crate::guardian::of(handle.pid);
            match signal {
                Some(signal) => handle.signal(signal),
                None => drop(child.stdin.take()),
            }
            let output = child.wait_with_output().unwrap();
            let context = format!("{mode} {variable:?} {signal:?} without {off}");
            assert!(helper.ends_within(LIMIT), "{context}: the helper lives");
            assert!(guardian.is_none_or(|guardian| guardian.ends_within(LIMIT)), "{context}: the guardian lives");
            let kept = mode == "keep" || variable.is_some();
            assert_eq!(dir.join("notes").exists(), kept, "{context}");
            if !kept {
                assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "{context}");
            }
            // Whoever has asked for it in the environment does not know where that is.
            let stderr = String::from_utf8_lossy(&output.stderr);
            let line = format!("FOSTER_KEEP: the directory {} of a fixture stays", dir.display());
            assert_eq!(stderr.contains(&line), variable.is_some(), "{context}: {stderr}");
        }
    }
}
