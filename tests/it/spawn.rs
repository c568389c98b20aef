//! Starting a helper: what it inherits, and what a start that fails says.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use foster::prelude::*;
use foster::{ErrorKind, Result};

#[test]
fn stds_verbs_mean_what_they_mean_there() -> Result {
    let dir = tempfile::tempdir().unwrap();
    let fx = Fixture::command("sh")
        .arg("-c")
        .args(["echo $0 $1; echo $ONE $TWO ${HOME-none}; pwd", "zero", "a b"])
        .env("ONE", "1")
        .envs([("TWO", "2")])
        .env_remove("HOME")
        .current_dir(dir.path())
        .spawn()?;
    fx.expect_line("zero a b")?;
    fx.expect_line("1 2 none")?;
    fx.expect_line(dir.path().canonicalize().unwrap().to_str().unwrap())?;
    let fx = Fixture::command("/usr/bin/env").env("GONE", "x").env_clear().env("A", "B").spawn()?;
    fx.finish()?.assert().success().stdout("A=B\n");
    Ok(())
}

#[test]
fn a_program_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let error = Fixture::command("no-such-program").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    let text = format!("{error:?}");
    assert!(text.contains("failed to spawn `no-such-program`: no such program in PATH (/"), "{text}");
    assert!(text.contains("os error 2") && text.contains("tests/it/spawn.rs"), "{text}");
    let error = Fixture::command("./no-such-file").spawn().unwrap_err();
    assert!(error.to_string().ends_with("no such file"), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    for (path, words) in [
        (script("data", "x", 0o644), "not an executable file"),
        (script("lost", "#!/no/such/interpreter\n", 0o755), "interpreter or loader that it names is not"),
        (script("bare", "echo hi\n", 0o755), "a script with a `#!` line"),
        (dir.path().to_owned(), "not an executable file"),
    ] {
        let error = Fixture::command(&path).spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_bad_working_directory_is_named() {
    let error = Fixture::command("cat").current_dir("/no/such/dir").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    assert!(error.to_string().contains("cannot enter the working directory `/no/such/dir`"), "{error}");
}

#[test]
fn a_nul_byte_is_an_error_and_names_the_place() {
    for builder in [
        Fixture::command("cat").arg("a\0b"),
        Fixture::command("c\0at"),
        Fixture::command("cat").env("K", "v\0"),
        Fixture::command("cat").current_dir("d\0"),
    ] {
        let error = builder.spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("contains a NUL byte"), "{error}");
    }
}

#[test]
fn a_helper_that_dies_at_once_is_a_helper_that_has_exited() -> Result {
    let fx = Fixture::command("false").spawn()?;
    assert_eq!(fx.expect_exit()?.code(), Some(1));
    // Until its keeper has confirmed that nothing else is left, there may be somebody to ask.
    fx.stop()?;
    assert_eq!(fx.terminate().unwrap_err().kind(), ErrorKind::Exited);
    assert_eq!(fx.signal(Signal::SIGUSR1).unwrap_err().kind(), ErrorKind::Exited);
    fx.kill()?;
    fx.stop()?;
    Ok(())
}

#[test]
fn a_variable_set_after_the_first_spawn_is_seen_by_the_next_helper() {
    // In a process of its own: the environment and the working directory belong to the whole process.
    let program = assert_cmd::cargo::cargo_bin!("inherit");
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// C18: mask, dispositions, umask and limits are those of a plain child.
#[test]
fn a_helper_is_born_as_a_plain_child_would_be() -> Result {
    let look = "grep -E '^(Umask|SigBlk|SigIgn|SigCgt|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/self/limits";
    let fx = Fixture::command("sh").args(["-c", look]).spawn()?;
    let ours = fx.expect_eof()?;
    let mut plain = Command::new("sh");
    let plain = plain.args(["-c", look]).stdin(Stdio::piped()).output().unwrap();
    assert_eq!(ours, String::from_utf8_lossy(&plain.stdout));
    assert!(ours.contains("Umask"), "{ours}");
    Ok(())
}

/// C6, C15: a helper holds its own three pipe ends and nothing else; two helpers share none.
#[test]
fn helpers_hold_their_own_pipes_only() -> Result {
    let (one, two) = (Fixture::command("cat").spawn()?, Fixture::command("cat").spawn()?);
    for fx in [&one, &two] {
        // By then it has opened and closed what it needs to start.
        fx.send_line("up")?;
        fx.expect_line("up")?;
    }
    let pipes = |fx: &Fixture| {
        let dir = std::fs::read_dir(format!("/proc/{}/fd", fx.id())).unwrap();
        dir.map(|e| std::fs::read_link(e.unwrap().path()).unwrap()).collect::<BTreeSet<_>>()
    };
    let (a, b) = (pipes(&one), pipes(&two));
    assert_eq!((a.len(), b.len()), (3, 3), "{a:?} {b:?}");
    assert!(a.is_disjoint(&b), "{a:?} {b:?}");
    Ok(())
}

#[test]
fn a_helper_is_alone_in_its_session_and_has_no_terminal() -> Result {
    let fx = Fixture::command("sh").args(["-c", "cut -d' ' -f5-7 /proc/$$/stat; echo $$"]).spawn()?;
    let (stat, pid) = (fx.output().recv()?, fx.output().recv()?);
    assert_eq!(stat, format!("{pid} {pid} 0"), "process group, session, terminal");
    Ok(())
}

/// C14: as much as the kernel takes.
#[test]
fn a_megabyte_and_a_half_of_arguments_and_environment() -> Result {
    let chunk = "x".repeat(100_000);
    let mut builder = Fixture::command("sh").args(["-c", "echo $# ${#V7}", "sh"]);
    for n in 0..8 {
        builder = builder.arg(&chunk).env(format!("V{n}"), &chunk);
    }
    builder.spawn()?.expect_line("8 100000")?;
    let mut builder = Fixture::command("true");
    for _ in 0..40 {
        builder = builder.arg(&chunk);
    }
    // Too long as a whole, and too many though each is short.
    for builder in [builder, Fixture::command("true").args(vec![""; 1_100_000])] {
        let error = builder.spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn);
        assert!(error.to_string().contains("too long"), "{error}");
    }
    Ok(())
}

#[test]
fn each_fixture_has_a_directory_of_its_own_and_it_goes_with_it() -> Result {
    let fx = Fixture::command("sh").args(["-c", "pwd; echo x > left; cat"]).in_own_dir().spawn()?;
    let dir = fx.dir().to_owned();
    fx.expect_line(dir.canonicalize().unwrap().to_str().unwrap())?;
    let other = Fixture::command("cat").spawn()?;
    assert_ne!(other.dir(), dir);
    drop(fx);
    assert!(!dir.exists());
    Ok(())
}

/// C12: the thread that spawns may end; PR_SET_PDEATHSIG of a helper's parent must not fire then.
#[test]
fn a_helper_outlives_the_thread_that_spawned_it() -> Result {
    let fx = std::thread::spawn(|| Fixture::command("cat").spawn()).join().unwrap()?;
    fx.send_line("still here")?;
    fx.expect_line("still here")?;
    Ok(())
}

/// A9: a helper that is itself a program with foster in it is not taken for a guardian, and may have helpers.
#[test]
fn a_helper_may_use_foster_itself() -> Result {
    let scene = crate::scene::Scene::new();
    let fx = foster::cargo_bin!("victim")
        .arg("return")
        .args([crate::scene::hide().as_os_str(), "daemon".as_ref()])
        .args([scene.record(), scene.fifo()])
        .timeout(Duration::from_secs(20))
        .spawn()?;
    fx.expect_line("armed")?;
    let family = scene.family();
    fx.kill()?;
    for process in &family {
        assert!(!process.is_alive(), "what a nested guardian keeps is below our keeper, too");
    }
    Ok(())
}
