//! Real programs on a terminal, as a person meets them.

use std::time::Duration;

use foster::prelude::*;
use foster::{Result, Stop};

use crate::real_programs::have;

/// On a terminal that is good for nothing but text, so that programs edit lines without moving the cursor about.
fn plain(program: &str) -> FixtureBuilder {
    Fixture::command(program).pty().env("TERM", "dumb").env_remove("INPUTRC").timeout(Duration::from_secs(30))
}

#[test]
fn bash_is_interactive_and_has_jobs() -> Result {
    if !have("bash") {
        return Ok(());
    }
    let bash = plain("bash").args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> ").env("HISTFILE", "");
    let fx = bash.stop_policy(Stop::eof(Duration::from_secs(20))).spawn()?;
    fx.expect_prompt("ready> ")?;
    fx.ask("echo $((6 * 7))", "42\r\n")?;
    fx.expect_prompt("ready> ")?;
    // Only when it says something has it the terminal.
    fx.send_line("sh -c 'trap \"echo continued\" CONT; echo up; while :; do read x; done'")?;
    fx.expect_line("up")?;
    fx.send_control('z')?;
    fx.expect(predicate::str::contains("Stopped"))?;
    fx.expect_prompt("ready> ")?;
    fx.ask("jobs", like("[1]+[..]Stopped[..]"))?;
    fx.expect_prompt("ready> ")?;
    fx.send_line("fg")?;
    fx.expect("\ncontinued\r\n")?;
    fx.send_control('c')?;
    fx.expect_prompt("ready> ")?;
    fx.ask("echo $?", "130\r\n")?;
    fx.expect_prompt("ready> ")?;
    // It ignores SIGTERM; the end of its input is how it is asked to leave.
    assert!(fx.stop()?.status().is_some_and(|s| s.code() == Some(0)));
    // With an echo, readline shows what it is sent.
    let fx = plain("bash").args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> ").env("HISTFILE", "");
    let fx = fx.pty_echo(true).stop_policy(Stop::eof(Duration::from_secs(20))).spawn()?;
    fx.expect_prompt("ready> ")?;
    fx.send_line("echo hello")?;
    fx.expect_line("echo hello")?;
    fx.expect_line("hello")?;
    // The control: on a pipe there is no job control, and it says so.
    let pipes = Fixture::command("bash").args(["--norc", "--noprofile", "-i"]).timeout(Duration::from_secs(30));
    pipes.spawn()?.stderr().expect("no job control in this shell")?;
    Ok(())
}

#[test]
fn python_is_interactive() -> Result {
    if !have("python3") {
        return Ok(());
    }
    // Its own line editor (3.13) wants more of a terminal.
    let fx = plain("python3").args(["-q", "-i"]).env("PYTHON_BASIC_REPL", "1").env_remove("PYTHONSTARTUP").spawn()?;
    fx.expect_prompt(">>> ")?;
    fx.ask("6 * 7", "42\r\n")?;
    fx.expect_prompt(">>> ")?;
    fx.send_line("for word in ('one', 'two'):")?;
    fx.expect_prompt("... ")?;
    fx.send_line("    print(word.upper())")?;
    fx.expect_prompt("... ")?;
    fx.send_line("")?;
    fx.expect("ONE\r\nTWO\r\n")?;
    fx.expect_prompt(">>> ")?;
    // No sleep: a signal that comes just before it is heard only afterwards.
    fx.send_line("exec(\"print('up')\\nwhile True: pass\")")?;
    fx.expect_line("up")?;
    fx.send_control('c')?;
    fx.expect(predicate::str::contains("KeyboardInterrupt"))?;
    fx.expect_prompt(">>> ")?;
    fx.send_eof()?;
    // How it ends after an interrupt differs from version to version.
    fx.expect_exit()?;
    // The control: on a pipe it does not prompt on its standard output.
    let fx = Fixture::command("python3").args(["-q"]).timeout(Duration::from_secs(30)).spawn()?;
    fx.send_line("print(6 * 7)")?;
    assert_eq!(fx.finish()?.stdout(), b"42\n");
    Ok(())
}

#[test]
fn sqlite3_prompts() -> Result {
    if !have("sqlite3") {
        return Ok(());
    }
    let fx = plain("sqlite3").in_own_dir().spawn()?;
    fx.expect_prompt("sqlite> ")?;
    fx.ask("select 6 * 7;", "42\r\n")?;
    fx.expect_prompt("sqlite> ")?;
    fx.send_line("select")?;
    fx.expect_prompt("...> ")?;
    fx.ask("'a' || 'b';", "ab\r\n")?;
    fx.expect_prompt("sqlite> ")?;
    fx.send_line("select nonsense;")?;
    fx.expect(predicate::str::contains("no such column"))?;
    fx.expect_prompt("sqlite> ")?;
    fx.send_eof()?;
    fx.expect_exit()?;
    // The control: on a pipe it does not prompt.
    let fx = Fixture::command("sqlite3").timeout(Duration::from_secs(30)).spawn()?;
    fx.send_line("select 6 * 7;")?;
    assert_eq!(fx.finish()?.stdout(), b"42\n");
    Ok(())
}

#[test]
fn gdb_prompts_and_is_interrupted() -> Result {
    if !have("gdb") {
        return Ok(());
    }
    let fx = plain("gdb").args(["-q", "-nx", "-iex", "set style enabled off"]).spawn()?;
    fx.expect_prompt("(gdb) ")?;
    fx.ask("print 6 * 7", "$1 = 42\r\n")?;
    fx.expect_prompt("(gdb) ")?;
    fx.send_line("shell echo up; exec sleep 50")?;
    fx.expect_line("up")?;
    fx.send_control('c')?;
    fx.expect_prompt("(gdb) ")?;
    fx.send_eof()?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn ed_edits() -> Result {
    if !have("ed") {
        return Ok(());
    }
    let fx = plain("ed").args(["-p", "ed> "]).in_own_dir().spawn()?;
    fx.expect_prompt("ed> ")?;
    for line in ["a", "one", "two", "."] {
        fx.send_line(line)?;
    }
    fx.expect_prompt("ed> ")?;
    fx.send_line("1,$p")?;
    fx.expect_line("one")?;
    fx.expect_line("two")?;
    fx.expect_prompt("ed> ")?;
    fx.ask("w notes", "8\r\n")?;
    fx.expect_prompt("ed> ")?;
    fx.send_line("q")?;
    assert!(fx.expect_exit()?.success());
    assert_eq!(std::fs::read_to_string(fx.dir().join("notes")).unwrap(), "one\ntwo\n");
    Ok(())
}
