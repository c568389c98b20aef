//! Helpers on a terminal (D26): what the terminal does for them, and that they are contained as all others are.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use foster::prelude::*;
use foster::{ErrorKind, Result};
use rustix::process::Signal as Sig;

use crate::endings::EVERYTHING_OFF;
use crate::guardian::comm;
use crate::real_programs::{have, skipped};
use crate::scene::{Process, Scene, fresh, hide, read_line};

fn sh(script: &str) -> FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn terminal() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("terminal")
}

#[test]
fn all_three_streams_are_the_terminal_and_so_is_dev_tty() -> Result {
    let look = "for i in 0 1 2; do test -t $i && echo $i; done; tty; echo through >/dev/tty; echo complaint >&2";
    let fx = sh(look).pty().spawn()?;
    for stream in ["0", "1", "2"] {
        fx.expect_line(stream)?;
    }
    fx.expect_line(predicate::str::starts_with("/dev/"))?;
    fx.expect_line("through")?;
    // One output: nothing comes on the other stream, which is at its end.
    fx.expect_line("complaint")?;
    assert_eq!(fx.stderr().expect_eof()?, "");
    assert!(fx.expect_exit()?.success());
    // The control: on pipes it is all different.
    let done = sh(look).spawn()?.finish()?;
    assert!(done.stdout().starts_with(b"not a tty\n"), "{:?}", String::from_utf8_lossy(done.stdout()));
    Ok(())
}

/// The whole conversation of `terminal talk`, with and without a guardian.
#[test]
fn it_is_the_same_at_every_level() {
    for (off, level) in [("guardian", "L1"), ("cgroup", "L2")] {
        let mut command = Command::new(terminal());
        command.arg("talk").env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE");
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{level} true\n"), "{}", text(&output));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_window_has_a_size_and_a_resize_is_told() -> Result {
    let fx = Fixture::command(terminal()).arg("size").pty().spawn()?;
    fx.expect_line("80 x 24")?;
    fx.resize(132, 50)?;
    fx.expect_line("132 x 50")?;
    // The control: the same size again is no news, so the next line is about another one.
    fx.resize(132, 50)?;
    fx.resize(40, 10)?;
    fx.expect_line("40 x 10")?;
    let error = fx.resize(0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = sh("").pty_size(80, 0).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn what_needs_a_terminal_says_so_without_one() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for error in [fx.send_control('c').unwrap_err(), fx.resize(80, 24).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(format!("{error:?}").contains("help: give it one with `.pty()`"), "{error:?}");
    }
    // Nothing has been sent.
    fx.ask("still here", "still here")?;
    let on_terminal = Fixture::command("cat").pty().spawn()?;
    let error = on_terminal.send_control('ä').unwrap_err();
    assert!(error.to_string().contains("failed to send `Ctrl-Ä` to `cat`: there is no such key"), "{error}");
    Ok(())
}

#[test]
fn the_environment_is_that_of_the_terminal_and_not_of_the_tests() -> Result {
    let look = "echo ${TERM-none} ${LINES-none} ${COLUMNS-none}";
    sh(look).pty().spawn()?.expect_line("xterm-256color none none")?;
    sh(look).pty().env("TERM", "dumb").env("LINES", "7").spawn()?.expect_line("dumb 7 none")?;
    sh(look).pty().env_remove("TERM").spawn()?.expect_line("none none none")?;
    Ok(())
}

#[test]
fn ctrl_c_interrupts_and_ctrl_backslash_quits() -> Result {
    for (key, signal) in [('c', Sig::INT), ('C', Sig::INT), ('\\', Sig::QUIT)] {
        let fx = Fixture::command("sleep").arg("50").pty().spawn()?;
        fx.send_control(key)?;
        assert_eq!(fx.expect_exit()?.signal(), Some(signal.as_raw()), "Ctrl-{key}");
    }
    Ok(())
}

/// The control: who reads keys himself is sent a key.
#[test]
fn for_who_reads_keys_ctrl_c_is_a_key() -> Result {
    let fx = sh("stty raw; echo up; dd bs=1 count=2 2>/dev/null | od -An -tx1").pty().spawn()?;
    fx.expect("up")?;
    fx.send_control('c')?;
    fx.send("x")?;
    fx.expect("03 78")?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn the_end_of_the_input_is_a_key_and_ends_one_read() -> Result {
    let fx = sh("cat; echo between; cat; echo behind").pty().spawn()?;
    fx.ask("one", "one\r\n")?;
    fx.send_eof()?;
    fx.expect_line("between")?;
    fx.ask("two", "two\r\n")?;
    fx.send_eof()?;
    fx.expect_line("behind")?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn in_the_middle_of_a_line_the_end_is_sent_twice() -> Result {
    // The control: once gives the helper what has been typed, and nothing ends.
    let fx = Fixture::command("cat").pty().spawn()?;
    fx.send("ab")?;
    fx.send_control('d')?;
    fx.expect_prompt("ab")?;
    fx.send_line("cd")?;
    fx.expect("cd\r\n")?;
    fx.send("ef")?;
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    assert_eq!(fx.expect_eof()?, "ef");
    // A line that was thrown away is none.
    let fx = sh("trap 'echo interrupted' INT; cat; echo $?; cat").pty().spawn()?;
    fx.ask("up", "up\r\n")?;
    fx.send("half a line")?;
    fx.send_control('c')?;
    fx.expect_line("interrupted")?;
    fx.expect_line("130")?;
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

/// `stty eof` can make another key of it.
#[test]
fn the_key_that_ends_the_input_is_the_terminals() -> Result {
    let fx = sh("stty eof x; echo up; cat").pty().spawn()?;
    fx.expect_line("up")?;
    fx.send_control('d')?;
    fx.send_line("")?;
    fx.expect_line("\u{4}")?;
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn finish_and_stop_end_the_input_too() -> Result {
    let fx = Fixture::command("cat").pty().spawn()?;
    fx.send_line("hello")?;
    fx.finish()?.assert().success().stdout("hello\r\n").stderr("");
    let policy = Stop::eof(Duration::from_secs(20));
    let fx = Fixture::command("cat").pty().stop_policy(policy).spawn()?;
    fx.ask("up", "up")?;
    assert!(fx.stop()?.status().is_some_and(|s| s.success()));
    // The control: without that step it is asked by SIGTERM.
    let fx = Fixture::command("cat").pty().spawn()?;
    fx.ask("up", "up")?;
    assert_eq!(fx.stop()?.status().and_then(|s| s.signal()), Some(Sig::TERM.as_raw()));
    Ok(())
}

#[test]
fn what_is_sent_is_shown_only_on_request() -> Result {
    let said = |echo: bool| -> Result<String> {
        let fx = Fixture::command("cat").pty_echo(echo).spawn()?;
        fx.send_line("hello")?;
        fx.send_eof()?;
        fx.expect_eof()
    };
    assert_eq!(said(false)?, "hello\r\n");
    assert_eq!(said(true)?, "hello\r\nhello\r\n");
    Ok(())
}

#[test]
fn lines_end_as_on_a_terminal_and_verbs_about_lines_do_not_mind() -> Result {
    let print = || Fixture::command("printf").arg("one\\ntwo\\n\\nthree\\n");
    let fx = print().pty().spawn()?;
    fx.expect_line("one")?;
    fx.expect_line(predicate::str::ends_with("two"))?;
    fx.expect_line("")?;
    fx.expect("three\r\n")?;
    // The control.
    assert_eq!(print().spawn()?.finish()?.stdout(), b"one\ntwo\n\nthree\n");
    Ok(())
}

/// The last words before the terminal is closed may be on their way when the end is seen.
#[test]
fn eio_is_the_end_and_the_last_output_is_never_lost() -> Result {
    for _ in 0..200 {
        let fx = Fixture::command("printf").arg("last words").pty().spawn()?;
        assert_eq!(fx.expect_eof()?, "last words");
    }
    for _ in 0..20 {
        let fx = sh("seq 1 3000").pty().spawn()?;
        let said = fx.expect_eof()?;
        assert!(said.ends_with("2999\r\n3000\r\n"), "the end is missing: {:?}", &said[said.len().saturating_sub(80)..]);
        assert_eq!(said.lines().count(), 3000);
    }
    // And as the last words that a report of an exit is about.
    let fx = sh("printf 'bad luck'; exit 3").pty().spawn()?;
    fx.expect_exit()?;
    fx.expect("bad luck")?;
    Ok(())
}

/// D6: the helper's exit is no end of the terminal as long as somebody has it open.
#[test]
fn who_ignores_the_hangup_keeps_the_terminal_open() -> Result {
    let fx = sh("trap '' HUP; sleep 51 & echo done").pty().spawn()?;
    fx.expect_line("done")?;
    assert!(fx.expect_exit()?.success());
    let error = fx.within(ms(50)).stdout().expect_eof().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let stopped = fx.stop()?;
    assert_eq!(stopped.escapees().len(), 1, "{stopped:?}");
    assert_eq!(fx.expect_eof()?, "");
    // The control: who does not is told by the kernel when the terminal's leader ends.
    let fx = sh("sleep 51 & echo done").pty().spawn()?;
    assert_eq!(fx.expect_eof()?, "done\r\n");
    Ok(())
}

#[test]
fn who_has_hung_up_is_sent_nothing() -> Result {
    let fx = Fixture::command("true").pty().spawn()?;
    fx.expect_exit()?;
    let error = fx.send_line("anybody?").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputClosed);
    assert!(error.to_string().contains("the helper exited with status 0: 0 of 9 bytes were taken"), "{error}");
    assert_eq!(fx.send_eof().unwrap_err().kind(), ErrorKind::InputClosed);
    Ok(())
}

/// A terminal that collects lines loses what is too long, without a word.
#[test]
fn a_line_that_the_terminal_would_cut_is_refused() -> Result {
    let fx = Fixture::command("cat").pty().spawn()?;
    let longest = "x".repeat(4095);
    fx.send_line(&longest)?;
    assert_eq!(fx.output().recv()?.len(), 4095);
    let error = fx.send_line(&format!("{longest}y")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("the line is 4097 bytes long"), "{error}");
    // Many lines are no long line, though they do not fit at once.
    let many = "0123456789\n".repeat(5000);
    fx.send(&many)?;
    for _ in 0..5000 {
        fx.expect_line("0123456789")?;
    }
    // The control: who reads keys has no lines.
    let fx = sh("stty raw; echo up; head -c 10000 | wc -c").pty().spawn()?;
    fx.expect("up")?;
    fx.send("x".repeat(10_000))?;
    fx.expect("10000")?;
    Ok(())
}

#[test]
fn a_password_is_asked_for_and_is_nowhere_to_be_seen() -> Result {
    let ask =
        "stty -echo; printf 'password: '; read word; stty echo; echo; echo ${#word} letters; echo $word; read never";
    let fx = sh(ask).pty_echo(true).spawn()?;
    fx.expect_prompt("password: ")?;
    fx.send_secret("swordfish")?;
    fx.expect_line("9 letters")?;
    fx.expect_line("swordfish")?;
    // Now the terminal shows what is typed.
    fx.send_secret("swordfish")?;
    fx.expect("swordfish")?;
    let error = fx.within(ms(20)).expect("never").unwrap_err();
    let report = format!("{error:?}\n{}", fx.transcript());
    assert!(report.contains("[secret]") && !report.contains("swordfish"), "{report}");
    Ok(())
}

/// C programs collect what they print, unless a person watches.
#[test]
fn a_program_that_collects_its_output_shows_each_line_at_once() -> Result {
    let fx = Fixture::command("cut").args(["-c", "1-3"]).pty().spawn()?;
    for line in ["abcdef", "ghi"] {
        fx.send_line(line)?;
        fx.expect_line(&line[..3])?;
    }
    // The control: on a pipe nothing comes before the end.
    let fx = Fixture::command("cut").args(["-c", "1-3"]).spawn()?;
    fx.send_line("abcdef")?;
    assert!(fx.within(ms(100)).expect_line("abc").unwrap_err().is_timeout());
    fx.send_eof()?;
    fx.expect_line("abc")?;
    Ok(())
}

/// C6, C13, C15: what they hold.
#[test]
fn nobody_but_the_helper_holds_its_terminal() -> Result {
    let fx = Fixture::command("cat").pty().spawn()?;
    let other = Fixture::command("cat").spawn()?;
    fx.ask("up", "up")?;
    other.ask("up", "up")?;
    let held = |pid: u32| {
        let dir = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = dir.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.map(|link| link.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let of_helper = held(fx.id());
    assert_eq!(of_helper.len(), 3, "{of_helper:?}");
    assert!(of_helper.iter().all(|link| link.starts_with("/dev/pts/") && *link == of_helper[0]), "{of_helper:?}");
    let is_terminal = |link: &String| link.contains("pts/") || link.contains("ptmx");
    assert!(!held(other.id()).iter().any(is_terminal));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", fx.id())).unwrap();
    let keeper: u32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(comm(keeper as i32), "foster-keeper");
    assert!(!held(keeper).iter().any(is_terminal), "{:?}", held(keeper));
    // What the test process starts by itself inherits none; that we hold some is the control.
    assert!(held(std::process::id()).iter().any(is_terminal));
    let child = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
    assert!(!text(&child).contains("ptmx"), "{}", text(&child));
    Ok(())
}

/// Stopped and dropped: a family that ignores the hangup, with a member in a session of its own.
#[test]
fn a_helper_that_ignores_the_hangup_is_ended_all_the_same() -> Result {
    for hiding in ["ignore-hup", "ignore-term", "daemon", "stopped"] {
        for drop_it in [false, true] {
            let mut scene = Scene::new();
            let policy = Stop::terminate(ms(200));
            let helper = Fixture::command(hide()).arg(hiding).args([scene.record(), scene.fifo()]);
            let fx = helper.pty().stop_policy(policy).spawn()?;
            fx.expect_line("hidden")?;
            let family = scene.family();
            if drop_it {
                drop(fx);
            } else {
                fx.stop()?;
            }
            scene.assert_gone(&family, hiding);
        }
    }
    Ok(())
}

/// SIGKILL of the test process, and the control with every mechanism switched off.
#[test]
fn a_killed_test_process_leaves_nothing_on_a_terminal() {
    for (off, hidings) in [("cgroup", &["ignore-hup", "daemon", "ignore-term"][..]), (EVERYTHING_OFF, &["ignore-hup"])]
    {
        for hiding in hidings {
            let mut scene = Scene::new();
            let mut command = fresh(assert_cmd::cargo::cargo_bin!("victim"));
            command.arg("signal").arg(hide()).arg(hiding).args([scene.record(), scene.fifo()]);
            command.env("VICTIM_PTY", "1").env("FOSTER_DISABLE", off).env_remove("FOSTER_REQUIRE");
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let said = read_line(child.stdout.take().unwrap());
            let victim = Process::open(child.id() as i32);
            let family = scene.family();
            victim.put_down();
            child.wait().unwrap();
            assert_eq!(said, "armed");
            let what = format!("{hiding} on a terminal, without {off}");
            if off == EVERYTHING_OFF {
                scene.assert_survived(&family, &what);
            } else {
                scene.assert_gone(&family, &what);
            }
        }
    }
}

/// In a mount namespace whose `/dev/pts` is another one, or none at all.
#[test]
fn without_a_terminal_to_give_the_error_says_why() {
    if !have("unshare") {
        return;
    }
    let run = |mount: &str, count: &str| {
        let script = format!("{mount} && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh"]).arg(terminal()).args(["try", count]);
        text(&command.stdin(Stdio::null()).output().unwrap())
    };
    let fresh = "mount -t devpts -o newinstance,ptmxmode=0666,max=2 devpts /dev/pts";
    if run(fresh, "0") != "up again\n" {
        skipped("no devpts can be mounted here");
        return;
    }
    let none_left = "Io: failed to spawn `cat`: the system has no pseudo-terminals left (/proc/sys/kernel/pty/max)\n";
    // What was used is given back.
    assert_eq!(run(fresh, "3"), format!("up\nup\n{none_left}up again\n"));
    let missing = "Io: failed to spawn `cat`: there are no pseudo-terminals here: /dev/ptmx is missing, or /dev/pts is not \
                   mounted\n";
    assert_eq!(run("mount -t tmpfs none /dev/pts", "1"), missing.repeat(2));
}

#[test]
fn a_restart_gives_a_new_terminal_of_the_same_sort() -> Result {
    let script = "stty size; stty -a | grep -ow -e '-echo'; while read x; do echo got $x; done";
    let mut fx = sh(script).pty_size(70, 20).spawn()?;
    for _ in 0..2 {
        fx.expect_line("20 70")?;
        fx.expect_line("-echo")?;
        fx.ask("hello", "got hello")?;
        fx.restart()?;
    }
    Ok(())
}

#[test]
fn a_report_knows_that_there_is_one_output() -> Result {
    let fx = sh("echo oops >&2; read x").pty().spawn()?;
    let error = fx.within(ms(30)).stderr().expect("oops").unwrap_err();
    let report = format!("{error:?}");
    assert!(report.contains("stderr     on the terminal, with stdout"), "{report}");
    assert!(report.contains("help: the text is on stdout: expect it with `.stdout().expect(…)`"), "{report}");
    Ok(())
}
