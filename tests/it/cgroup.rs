//! Level L3: one cgroup per fixture. What it adds to guardian and keepers, that it is gone afterwards, and what happens
//! where there can be none. Each case is run without the cgroup as well, where it has to fail.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use once_cell::sync::Lazy;
use rustix::process::Signal;

use crate::guardian::{Stage, children};
use crate::hostile::{is_root, program};
use crate::scene::{LIMIT, Process, Scene, hide, read_line};
use crate::unkillable::{Place, as_nobody};

/// The cgroup of this process, if somebody may make others below it: found in another way than foster does.
static PLACE: Lazy<Option<PathBuf>> = Lazy::new(|| {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::/"))?.to_owned();
    let place = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].iter().map(|root| Path::new(root).join(&own));
    place.into_iter().find(|dir| {
        let probe = dir.join(format!("probe-{}", std::process::id()));
        let made = std::fs::create_dir(&probe).is_ok() && probe.join("cgroup.kill").exists();
        std::fs::remove_dir(&probe).is_ok() && made
    })
});

/// May cgroups be made here? Says so visibly if not; no program that could be installed would change it.
pub(crate) fn possible() -> bool {
    use std::io::Write;
    if PLACE.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no cgroup v2 can be made here");
    }
    PLACE.is_some()
}

/// The cgroups that are left of the guardian of this test process.
pub(crate) fn left_by(test_process: i32) -> Vec<PathBuf> {
    let place = PLACE.as_ref().expect("asked only where it is possible");
    let prefix = format!("foster-{test_process}-");
    let all = std::fs::read_dir(place).unwrap().flatten();
    all.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect()
}

/// Bounded by the programs' own deadlines.
fn level(command: &mut Command, off: &str) -> (String, String) {
    let output: Output = command.env("FOSTER_DISABLE", off).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn it_is_reached_where_cgroups_can_be_made() {
    if !possible() {
        return;
    }
    let attacked = || {
        let mut command = Command::new(program("attacked"));
        command.arg("level").env_remove("FOSTER_REQUIRE");
        command
    };
    assert_eq!(level(&mut attacked(), ""), ("L3\n".to_owned(), String::new()));
    assert_eq!(level(attacked().env("FOSTER_REQUIRE", "L3"), "").0, "L3\n");
    // Less is usual and nothing to talk about, unless more is required.
    assert_eq!(level(&mut attacked(), "cgroup"), ("L2\n".to_owned(), String::new()));
    let (out, errors) = level(attacked().env("FOSTER_REQUIRE", "L3"), "cgroup");
    assert_eq!(out, "", "a level that is required and not there must be an error");
    let reason = "FOSTER_REQUIRE=L3, but only level L2 can be reached here: FOSTER_DISABLE=cgroup";
    assert!(errors.contains(reason), "{errors}");
}

#[test]
fn c10_without_clone3_the_level_is_l2() {
    let deny = || {
        let mut command = Command::new(program("deny"));
        command.args(["clone3", "ENOSYS"]).arg(program("attacked")).arg("level");
        command
    };
    assert_eq!(level(deny().env_remove("FOSTER_REQUIRE"), ""), ("L2\n".to_owned(), String::new()));
    let (out, errors) = level(deny().env("FOSTER_REQUIRE", "L3"), "");
    assert!(out.is_empty() && errors.contains("only level L2 can be reached here: "), "{errors}");
}

#[test]
fn c21_where_none_may_be_made_the_level_is_l2() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let attacked = place.copy(&program("attacked"), "attacked", 0o755);
    let mut command = as_nobody();
    let (out, errors) = level(command.arg(attacked).arg("level").current_dir("/").env("FOSTER_REQUIRE", "L3"), "");
    assert_eq!(out, "");
    assert!(errors.contains("FOSTER_REQUIRE=L3, but only level L2 can be reached here: "), "{errors}");
}

/// The helper, all of its tree, and nobody else is in the cgroup, which goes when they go.
#[test]
fn each_fixture_has_one_and_it_goes_with_the_fixture() {
    if !possible() {
        return;
    }
    let cgroup = |pid: i32| {
        let all = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        all.lines().find_map(|l| l.strip_prefix("0::")).unwrap().to_owned()
    };
    let mut stage = Stage::set_without("", "return", "daemon");
    let [top] = left_by(stage.victim.pid).try_into().expect("one directory for the whole test process");
    let own = cgroup(std::process::id() as i32);
    for member in &stage.family {
        let expected = format!("{}/{}", top.file_name().unwrap().to_string_lossy(), stage.keeper.pid);
        assert!(cgroup(member.pid).ends_with(&expected), "{} is in {}", member.pid, cgroup(member.pid));
    }
    for outside in [&stage.victim, &stage.guardian, &stage.keeper] {
        assert_eq!(cgroup(outside.pid), own);
    }
    assert!(top.join(stage.keeper.pid.to_string()).exists());
    stage.say_go();
    let (victim, keeper) = (stage.victim.pid, stage.keeper.pid);
    assert!(stage.keeper.ends_within(LIMIT));
    assert!(!top.join(keeper.to_string()).exists(), "the fixture is gone, its cgroup is not");
    assert_eq!(stage.reap().code(), Some(0));
    assert_eq!(left_by(victim), Vec::<PathBuf>::new());
}

/// A keeper serves one fixture after the other in the same cgroup, unless something is left in it.
#[test]
fn the_next_fixture_has_the_same_one_unless_the_last_has_made_others_in_it() -> foster::Result {
    if !possible() {
        return Ok(());
    }
    let inode = |path: &PathBuf| std::fs::metadata(path).map(|m| std::os::unix::fs::MetadataExt::ino(&m)).ok();
    let below = |script: &str| -> foster::Result<(PathBuf, Option<u64>)> {
        let script = format!("echo $(grep ^0:: /proc/self/cgroup); {script}; read go");
        let fx = foster::Fixture::command("sh").args(["-c", &script]).spawn()?;
        let name = fx.output().recv()?.rsplit('/').next().unwrap().to_owned();
        if !script.contains("none") {
            fx.expect_line("made")?;
        }
        let [all] = left_by(std::process::id() as i32).try_into().expect("one directory for the whole test process");
        let path = all.join(name);
        let while_it_ran = inode(&path);
        fx.stop()?;
        Ok((path, while_it_ran))
    };
    let (first, while_it_ran) = below(": none")?;
    assert!(while_it_ran.is_some() && inode(&first) == while_it_ran, "it is kept for the next fixture");
    let (made, _) =
        below("mkdir $(find /sys/fs/cgroup -name $(sed -n s@^0::.*/@@p /proc/self/cgroup))/own && echo made")?;
    assert!(!made.join("own").exists(), "what a helper has made is not left to the next one");
    Ok(())
}

/// A helper that has left its cgroup and frozen it stops nobody who comes after it.
#[test]
fn a_frozen_one_is_not_for_the_next_fixture() -> foster::Result {
    if !possible() {
        return Ok(());
    }
    let script = "own=$(find /sys/fs/cgroup -name $(sed -n s@^0::.*/@@p /proc/self/cgroup))
        echo $$ > \"${own%/foster-*}/cgroup.procs\" && echo 1 > \"$own/cgroup.freeze\" && echo \"$own\"; read go";
    let fx = foster::Fixture::command("sh").args(["-c", script]).spawn()?;
    let own = PathBuf::from(fx.output().recv()?);
    let frozen = std::fs::read_to_string(own.join("cgroup.freeze")).unwrap();
    assert_eq!(frozen, "1\n", "it proves nothing");
    fx.stop()?;
    let left = std::fs::read_to_string(own.join("cgroup.freeze")).unwrap_or_default();
    assert_ne!(left, "1\n", "whoever is started in it stands still");
    Ok(())
}

/// Guardian and keeper are killed in the same instant: the spare keeper is enough to end what they kept.
#[test]
fn c1_guardian_and_keeper_killed_leave_nobody() {
    if !possible() {
        return;
    }
    for (off, contained) in [("", true), ("cgroup", false)] {
        let mut stage = Stage::set_without(off, "return", "daemon");
        let victim = stage.victim.pid;
        // Stopped first, so that it cannot see the other die.
        stage.guardian.signal(Signal::STOP);
        stage.keeper.signal(Signal::KILL);
        assert!(stage.keeper.ends_within(LIMIT));
        stage.guardian.signal(Signal::KILL);
        let what = format!("guardian and keeper killed, without {off:?}");
        if contained {
            stage.scene.assert_gone(&stage.family, &what);
        } else {
            stage.scene.assert_survived(&stage.family, &what);
        }
        stage.say_go();
        stage.reap();
        assert_eq!(left_by(victim), Vec::<PathBuf>::new(), "{what}");
    }
}

/// Guardian and all keepers are killed: the test process itself ends what is left, when it ends.
#[test]
fn c1_everybody_killed_and_the_test_process_ends_the_rest() {
    if !possible() {
        return;
    }
    for (off, contained) in [("", true), ("cgroup", false)] {
        let mut stage = Stage::set_without(off, "return", "daemon");
        let victim = stage.victim.pid;
        let keepers: Vec<_> = children(stage.guardian.pid).into_iter().map(Process::open).collect();
        assert!(keepers.len() >= 2, "there is no spare one");
        stage.guardian.signal(Signal::STOP);
        for keeper in &keepers {
            keeper.signal(Signal::KILL);
        }
        assert!(keepers.iter().all(|keeper| keeper.ends_within(LIMIT)));
        stage.guardian.signal(Signal::KILL);
        assert!(stage.guardian.ends_within(LIMIT));
        // The daemon, of which nobody knows any more.
        assert!(stage.family.last().unwrap().is_alive(), "somebody has ended it already: this proves nothing");
        stage.say_go();
        let what = format!("guardian and keepers killed, without {off:?}");
        assert!(stage.victim.ends_within(LIMIT));
        if contained {
            stage.scene.assert_gone(&stage.family, &what);
        } else {
            stage.scene.assert_survived(&stage.family, &what);
        }
        stage.reap();
        assert_eq!(left_by(victim), Vec::<PathBuf>::new(), "{what}");
    }
}

/// A process that enters another pid namespace falls to the init there when its parent ends, and not to the keeper.
#[test]
fn a10_moved_into_a_namespace_that_was_there_before() {
    if !possible() || !is_root() {
        return;
    }
    for (off, contained) in [("", true), ("cgroup", false)] {
        let mut scene = Scene::new();
        let mut host = Command::new("unshare");
        host.args(["--pid", "--fork", "--kill-child", "sh", "-c", "echo there; exec sleep 60"]);
        // Its complaint about its own signal mask (util-linux before 2.39) is of no interest.
        let mut host = host.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(read_line(host.stdout.take().unwrap()), "there");
        let init = children(host.id() as i32)[0];
        let mut command = Command::new(program("victim"));
        command.args(["return", "nsenter", "--target"]).arg(init.to_string()).args(["--pid", "--"]);
        command.arg(hide()).arg("daemon").arg(scene.record()).arg(scene.fifo());
        let mut child = start(command.env("FOSTER_DISABLE", off));
        let family = scene.family();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let what = format!("moved to another namespace, without {off:?}");
        if contained {
            scene.assert_gone(&family, &what);
        } else {
            scene.assert_survived(&family, &what);
        }
        let init = Process::open(init);
        assert!(init.is_alive(), "the namespace is none of foster's business");
        init.put_down();
        host.wait().unwrap();
    }
}

fn start(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(read_line(child.stdout.take().unwrap()), "armed");
    child
}

/// A15: a helper that has become root below an unprivileged test, in a cgroup that was delegated to its user.
#[test]
fn a15_another_users_process_can_be_ended() {
    if !possible() || !is_root() {
        return;
    }
    let delegated = PLACE.as_ref().unwrap().join(format!("delegated-{}", std::process::id()));
    std::fs::create_dir(&delegated).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(delegated.join(file), Some(65534), Some(65534)).unwrap();
    }
    let place = Place::new();
    let attacked = place.copy(&program("attacked"), "attacked", 0o755);
    let hide = place.copy(hide(), "hide", 0o4755);
    let (fifo, _reader) = place.fifo("fifo");
    let record = place.path("record");
    // The shell moves itself there as root and then becomes nobody.
    let nobody = as_nobody();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(delegated.join("cgroup.procs"));
    command.arg(nobody.get_program()).args(nobody.get_args());
    command.arg(attacked).arg("unkillable").arg(hide).arg(&record).arg(&fifo).current_dir("/");
    let (out, errors) = level(command.env_remove("FOSTER_REQUIRE"), "");
    let survivor = std::fs::read_to_string(&record).unwrap_or_default();
    let gone = !Path::new("/proc").join(survivor.trim()).exists();
    if !gone {
        Process::open(survivor.trim().parse().unwrap()).put_down();
    }
    let left: Vec<_> = std::fs::read_dir(&delegated).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
    std::fs::remove_dir(&delegated).unwrap();
    assert_eq!((out.as_str(), gone), ("ended at L3\n", true), "{errors}");
    assert!(left.is_empty(), "{left:?}");
}

/// A nested test process that is killed together with its whole tree still has its directories removed, by its own
/// guardian, which is given a moment for that.
#[test]
fn a9_directories_of_a_nested_test_process() {
    for off in ["cgroup", ""] {
        let mut command = Command::new(program("victim"));
        let dir = tempfile::tempdir().unwrap();
        command.args([
            "stop",
            "sh",
            "-c",
            "\"$0\" dir-wait / | { read d; echo $d >$TMPDIR/name; echo hidden; exec sleep 50; }",
        ]);
        command.arg(program("attacked")).env("FOSTER_DISABLE", off).env("TMPDIR", dir.path());
        let mut child = start(&mut command);
        let made = dir.path().join("name");
        let made = std::fs::read_to_string(made).unwrap();
        assert!(Path::new(made.trim()).is_dir(), "nothing was made: this proves nothing");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let left = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("foster-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
