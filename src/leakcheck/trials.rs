//! The engine as a whole, on small suites that leak: who is blamed, what is done, and who is left alone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::alone::{alone, awaiting, becomes, has_looked, let_go_after_a_look};
use super::check::supervise;
use super::facts::{Blame, Escape};
use super::line::looks_like_a_test;
use super::{Leak, Options, Report};
use crate::sys::{details, process, procfs};

fn check(options: &Options, dir: &Path, spares: &dyn Fn(&Leak) -> bool) -> Report {
    supervise(options, options.suite().current_dir(dir), spares).unwrap()
}

/// A shell as the suite; no leak of these takes long.
fn shell(script: &str) -> Options {
    Options::command("sh", ["-c", script]).grace(Duration::ZERO)
}

fn of<'a>(report: &'a Report, command: &str) -> &'a Leak {
    let found = report.leaks.iter().find(|leak| leak.command.ends_with(command));
    found.unwrap_or_else(|| panic!("no `{command}` in {:#?}", report.leaks))
}

fn is_alive(leak: &Leak) -> bool {
    procfs::stat(leak.pid as i32).is_some_and(|s| leak.is(s.pid, s.start) && !s.is_zombie())
}

/// Run by the tests below: starts a leak, and ends when the check has seen it.
#[test]
#[ignore = "run by other tests"]
fn planted() {
    let Ok(checker) = std::env::var("PLANTED_FOR") else { panic!("other tests run this one") };
    let mut command = Command::new("sh");
    command.args(["-c", "setsid sleep 20 & wait"]);
    if std::env::var_os("PLANTED_HANGS").is_some() {
        drop(command.status());
        return;
    }
    let mut child = command.spawn().unwrap();
    // The check's thread is in another process, which is our parent.
    let dir = std::env::current_dir().unwrap();
    std::fs::write(dir.join("ready"), checker).unwrap();
    becomes("the check has looked", || dir.join("go").exists());
    drop(child.try_wait());
}

/// E1, under `cargo test`: a leak's thread in the test process has the test's name.
#[test]
fn e1_the_thread_of_a_test_is_the_one_that_started_the_topmost_ancestor() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let options = Options::command(&own, ["--exact", "leakcheck::trials::planted", "--ignored"]);
        let guide = let_go_after_a_look(dir.path(), 1);
        let mut command = options.suite();
        command.current_dir(dir.path()).env("PLANTED_FOR", "this").env_remove("NEXTEST_TEST_NAME");
        let report = supervise(&options.clone().grace(Duration::ZERO), &mut command, &|_| false).unwrap();
        guide.join().unwrap();
        let leak = of(&report, "sleep 20");
        let origin = leak.origin(looks_like_a_test).unwrap();
        assert_eq!(origin.executable, own.canonicalize().unwrap());
        assert_eq!(origin.thread.as_deref(), Some("leakcheck::tria"), "{leak:#?}");
        assert!(leak.ancestors_complete, "{leak:#?}");
        assert!(leak.ancestors.iter().any(|a| a.ends_with(", thread leakcheck::tria)")), "{leak:#?}");
        let (born, now) = (origin.started_unix_ms.unwrap(), report.started_unix_ms);
        assert!((now - 1000..now + 30_000).contains(&born), "{born} {now}");
        assert_eq!((&leak.test, leak.blame), (&None, Blame::Nobody), "the name is cut: it is for others to find");
        assert!(report.confirmed && !is_alive(leak));
    });
}

/// E1, under nextest: a child that was started without its environment has the test of its parent.
#[test]
fn e1_a_child_with_another_environment_has_the_test_of_its_parent() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let inner = format!(
            "env -i setsid sleep 21 & setsid sleep 22 & NEXTEST_TEST_NAME=inner setsid sleep 23 & : > ready; {}",
            awaiting("go")
        );
        let test = "NEXTEST_TEST_NAME=a::b NEXTEST_BINARY_ID=shop::it NEXTEST_ATTEMPT=2 CARGO_PKG_NAME=shop";
        // An exec hides what the test process was told.
        let script = format!("env {test} sh -c '{inner}; exec env -i sleep 24' & {}", awaiting("go"));
        let guide = let_go_after_a_look(dir.path(), 3);
        let report = check(&shell(&script), dir.path(), &|_| false);
        guide.join().unwrap();
        for (command, own_environment) in [("sleep 21", false), ("sleep 22", true), ("sleep 23", false)] {
            let leak = of(&report, command);
            let test = leak.test.as_ref().unwrap_or_else(|| panic!("{leak:#?}"));
            assert_eq!(test.to_string(), "a::b in shop::it, attempt 2", "{command}");
            assert_eq!((leak.blame, leak.package.as_deref()), (Blame::Environment, Some("shop")), "{command}");
            assert_eq!(!leak.escapes.contains(&Escape::Environment), own_environment, "{leak:#?}");
        }
        // It may or may not have come to its exec by now.
        let execed = report.leaks.iter().find(|leak| leak.command.starts_with("sleep 24"));
        assert!(execed.is_none_or(|leak| leak.test.as_ref().is_some_and(|test| test.name == "a::b")), "{execed:#?}");
    });
}

/// Polite, then by force; and a handler that goes on is told from one that ends.
#[test]
fn a_leak_is_asked_and_then_made_to_end() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let leaks = [
            ("polite", "trap 'echo bye > bye; exit 0' TERM; sleep 20 & : > polite; wait"),
            ("catches", "trap : TERM; sleep 20 & : > catches; while :; do wait; done"),
            ("ignores", "trap '' TERM HUP; sleep 20 & : > ignores; wait"),
            ("stopped", "trap 'echo bye > woken; exit 0' TERM; : > stopped; kill -STOP $$; sleep 20"),
        ];
        let start =
            |(name, script): &(&str, &str)| format!("setsid sh -c \"{script} # {name}\" & {}; ", awaiting(name));
        let script: String = leaks.iter().map(start).collect();
        // `$$` is that of the one who stops itself.
        let report = check(&shell(&script.replace("$$", "\\$\\$")), dir.path(), &|_| false);
        let deed = |command: &str| (of(&report, command).deed.terminated, of(&report, command).deed.killed);
        assert_eq!(deed("# polite"), (true, false), "{report:#?}");
        assert_eq!(deed("# stopped"), (true, false), "{report:#?}");
        assert!(dir.path().join("bye").exists() && dir.path().join("woken").exists());
        assert_eq!(deed("# catches"), (true, true));
        assert_eq!(deed("# ignores"), (true, true));
        let escapes = |command: &str, escape: &Escape| of(&report, command).escapes.contains(escape);
        let catches = Escape::Catches(vec!["SIGTERM".to_owned()]);
        assert!(escapes("# catches", &catches) && !escapes("# polite", &catches));
        // What a shell starts with `&` ignores SIGINT.
        let ignores = Escape::Ignores(["SIGTERM", "SIGHUP", "SIGINT"].map(str::to_owned).into());
        assert!(escapes("# ignores", &ignores) && !escapes("# polite", &ignores));
        for leak in &report.leaks {
            let took = leak.deed.took_ms.unwrap();
            assert!(!leak.deed.killed || took >= 300, "{leak:#?}");
            assert!(!is_alive(leak), "{leak:#?}");
        }
        assert_eq!((report.confirmed, report.latecomers), (true, 0), "{report:#?}");
    });
}

/// What is spared lives on with what is below it, even below a leak, in whose group it is; the leak does not.
#[test]
fn what_is_spared_is_left_alone_wherever_it_is() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        // `sleep 21` ignores requests, so that it has to be killed, which is where groups are signalled.
        let daemon = "sh -c 'sleep 24 & : > placed; wait # daemon'";
        let script = format!("setsid sh -c \"trap '' TERM; {daemon} & exec sleep 21\" & {}", awaiting("placed"));
        for spare in [true, false] {
            drop(std::fs::remove_file(dir.path().join("placed")));
            let report =
                check(&shell(&script), dir.path(), &|leak| spare && leak.command.starts_with("sh -c sleep 24"));
            assert_eq!((report.leaks.len(), report.confirmed, report.latecomers), (3, true, 0), "{report:#?}");
            let leak = of(&report, "sleep 21");
            assert!(leak.deed.killed && !leak.deed.spared && !is_alive(leak), "{leak:#?}");
            // It may be about to become `sleep`.
            let daemon = of(&report, "# daemon");
            let worker = report.leaks.iter().find(|l| l.pid != leak.pid && l.pid != daemon.pid).unwrap();
            for leak in [daemon, worker] {
                assert_eq!((leak.deed.spared, is_alive(leak)), (spare, spare), "{leak:#?}");
                assert_eq!(leak.deed.terminated || leak.deed.killed, !spare, "{leak:#?}");
            }
            if spare {
                // They are ours to end: this process is a subreaper, and nobody else waits for them.
                for leak in [daemon, worker] {
                    process::signal_child(leak.pid as i32, 9).unwrap();
                    becomes("it is reaped", || matches!(process::reap_any(), process::Reaped::One(..)));
                }
            }
            assert!(matches!(process::reap_any(), process::Reaped::NoChild));
        }
    });
}

/// When the time is up, what hangs is listed with what it waits for, and ended.
#[test]
fn a_suite_that_hangs_is_described_and_ended() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let words = ["--exact", "leakcheck::trials::planted", "--ignored"];
        let options = Options::command(&own, words).timeout(Duration::from_secs(1));
        let mut command = options.suite();
        command.current_dir(dir.path()).env("PLANTED_FOR", "this").env("PLANTED_HANGS", "");
        let report = supervise(&options, &mut command, &|_| false).unwrap();
        assert_eq!((report.timed_out_ms, report.exit_code()), (Some(1000), 124));
        let lines = report.hanging.join("\n");
        for part in [
            " leakcheck::trials::planted --ignored` (pid ",
            "\n  its thread leakcheck::tria...: waiting for its child `sh",
            "\n  `sh -c setsid sleep 20 & wait` (pid ",
            ", of the thread leakcheck::tria: waiting for ",
            "\n    `sleep 20` (pid ",
            ": sleeping",
        ] {
            assert!(lines.contains(part), "{part:?} is not in:\n{lines}");
        }
        assert!(report.confirmed && report.ending.is_some_and(|ending| !ending.success()), "{report:#?}");
        assert!(report.took_ms >= 1000 && report.took_ms < 10_000, "{report:#?}");
        // The control: with time enough, nothing is listed.
        let report = check(&shell(":").timeout(Duration::from_secs(60)), dir.path(), &|_| false);
        assert_eq!((report.timed_out_ms, report.hanging.len(), report.exit_code()), (None, 0, 0));
    });
}

/// A daemon that the policy leaves alone is left alone by an end before the time as well, also when it becomes an orphan
/// only by that.
#[test]
fn an_end_before_the_time_leaves_alone_what_is_spared() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "(setsid sleep 20 &); (setsid sleep 21 &); setsid sleep 23 & : > ready; {}; exec sleep 22",
            awaiting("go")
        );
        let guide = let_go_after_a_look(dir.path(), 3);
        let options = shell(&script).timeout(Duration::from_secs(2));
        let report = check(&options, dir.path(), &|leak| leak.command == "sleep 20" || leak.command == "sleep 23");
        guide.join().unwrap();
        let leak = of(&report, "sleep 21");
        assert!(!leak.deed.spared && leak.deed.terminated && !is_alive(leak), "{report:#?}");
        assert_eq!((report.confirmed, report.leaks.len()), (true, 3), "{report:#?}");
        for spared in ["sleep 20", "sleep 23"].map(|command| of(&report, command)) {
            assert!(spared.deed.spared && !spared.deed.terminated && is_alive(spared), "{report:#?}");
            process::signal_child(spared.pid as i32, 9).unwrap();
        }
    });
}

/// The control for the helper that all this relies on: a thread that does not look is not said to have looked.
#[test]
fn only_a_thread_that_sleeps_again_and_again_has_looked() {
    let (send, receive) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        send.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        for _ in 0..200 {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    has_looked(receive.recv().unwrap());
    assert!(!sleeper.is_finished());
    sleeper.join().unwrap();
    assert!(details::age(0).is_some());
}
