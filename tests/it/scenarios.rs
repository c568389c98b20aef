//! The scenarios of the manuals of pexpect and rexpect, over pipes: what people do with them has to be as easy here.

use std::time::Duration;

use foster::prelude::*;
use foster::{ErrorKind, Match, Result};

use crate::real_programs::have;

const PASSWORD: &str = "open sesame";

fn login() -> foster::FixtureBuilder {
    foster::cargo_bin!("login")
}

fn logged_in() -> Result<Fixture> {
    let fx = login().spawn()?;
    fx.expect_prompt(regex(r"Name .*: "))?;
    fx.send_line("anonymous")?;
    fx.expect_prompt("Password: ")?;
    fx.send_secret(PASSWORD)?;
    fx.expect_line(like("230 User {user} logged in."))?;
    fx.expect_prompt("ftp> ")?;
    Ok(fx)
}

#[test]
fn a_session_with_a_file_server() -> Result {
    let fx = logged_in()?;
    let listing = fx.ask("ls", "226 Transfer complete.\n")?;
    assert_eq!(listing.skipped(), "pub\nREADME\n");
    fx.expect_prompt("ftp> ")?;
    let received = fx.ask("get README", like("226 {bytes} bytes received in {secs} secs."))?;
    assert_eq!((received.get::<u64>("bytes")?, received.get::<f64>("secs")?), (1024, 0.01));
    fx.expect_prompt("ftp> ")?;
    fx.send_line("bye")?;
    fx.expect_line("221 Goodbye.")?;
    fx.finish()?.assert().success();
    Ok(())
}

#[test]
fn which_of_several_answers_it_was() -> Result {
    for (password, wanted) in [(PASSWORD, 1), ("guess", 0)] {
        let fx = login().spawn()?;
        fx.expect_prompt(": ")?;
        fx.send_line("me")?;
        fx.expect_prompt("Password: ")?;
        fx.send_line(password)?;
        let (index, _) = fx.expect_any(("Login incorrect", like("User {name} logged in"), regex(r"^5\d\d unknown")))?;
        assert_eq!(index, wanted);
    }
    Ok(())
}

#[test]
fn the_end_and_the_time_limit_are_answers_with_a_kind_of_their_own() -> Result {
    let fx = login().spawn()?;
    for _ in 0..3 {
        fx.expect_prompt("): ")?;
        fx.send_line("me")?;
        fx.expect_prompt("Password: ")?;
        let late = fx.within(Duration::from_millis(10)).expect("230").unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        fx.send_line("guess")?;
    }
    let ended = fx.expect("230").unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Exited);
    assert!(ended.to_string().contains("exited with status 1"), "{ended}");
    assert_eq!(fx.wait()?.code(), Some(1));
    Ok(())
}

#[test]
fn changing_a_password() -> Result {
    let fx = logged_in()?;
    fx.send_line("passwd")?;
    for (question, answer) in
        [("Old password: ", PASSWORD), ("New password: ", "new"), ("Retype new password: ", "nwe")]
    {
        fx.expect_prompt(question)?;
        fx.send_secret(answer)?;
    }
    fx.expect_line("passwd: they do not match")?;
    fx.expect_prompt("ftp> ")?;
    fx.send_line("passwd")?;
    fx.expect_prompt("Old password: ")?;
    fx.send_secret("guess")?;
    let (index, _) = fx.expect_any(("password updated", "Authentication failure"))?;
    assert_eq!(index, 1);
    let said = fx.transcript().to_string();
    assert!(!said.contains("sesame") && said.contains("[secret]"), "{said}");
    Ok(())
}

#[test]
fn a_progress_bar_is_one_line_of_many_states() -> Result {
    let fx = logged_in()?;
    fx.send_line("get big")?;
    for percent in [0, 50, 100] {
        assert_eq!(fx.expect(like("big: {percent}%"))?.get::<u8>("percent")?, percent);
    }
    fx.expect("226 ")?;
    Ok(())
}

/// What pexpect calls `run` with `events`: answers whatever is asked, to the end.
#[test]
fn a_program_is_answered_until_it_ends() -> Result {
    let fx = login().spawn()?;
    let mut asked = Vec::new();
    loop {
        match fx.expect_any((like("Name ([..]): "), "Password: ", "ftp> ")) {
            Ok((0, _)) => fx.send_line("me")?,
            Ok((1, _)) => fx.send_secret(PASSWORD)?,
            Ok((number, _)) => {
                fx.send_line("bye")?;
                asked.push(number);
            }
            Err(e) if e.kind() == ErrorKind::Exited => break,
            Err(e) => return Err(e),
        }
    }
    assert_eq!(asked, [2]);
    fx.finish()?.assert().success().stdout("221 Goodbye.\n");
    Ok(())
}

#[test]
fn line_by_line_until_the_end() -> Result {
    let fx = Fixture::command("printf").arg("one\\r\\ntwo\\nlast").spawn()?;
    let lines: Vec<String> = fx.output().lines().collect::<Result<_>>()?;
    assert_eq!(lines, ["one", "two", "last"]);
    Ok(())
}

#[test]
fn what_came_before_and_what_was_found() -> Result {
    let fx = Fixture::command("uname").arg("-a").spawn()?;
    let found: Match = fx.expect("Linux")?;
    assert_eq!((found.skipped(), found.text()), ("", "Linux"));
    let rest = fx.expect_eof()?;
    assert!(rest.ends_with('\n') && rest.len() > 10, "{rest:?}");
    Ok(())
}

#[test]
fn a_calculator_is_asked() -> Result {
    if !have("bc") {
        return Ok(());
    }
    let fx = Fixture::command("bc").arg("-q").env_remove("BC_ENV_ARGS").spawn()?;
    for (question, answer) in [("6 * 7", "42"), ("2 ^ 10", "1024"), ("scale=3; 1/3", ".333")] {
        fx.send_line(question)?;
        fx.expect_line(answer)?;
    }
    fx.send_line("1/0")?;
    fx.stderr().expect(predicate::str::contains("ivide"))?;
    fx.ask("1 + 1", "2")?;
    fx.finish()?.assert().success();
    Ok(())
}

#[test]
fn an_editor_is_driven() -> Result {
    if !have("ed") {
        return Ok(());
    }
    let tool = Fixture::command("ed").args(["-p", "* "]).in_own_dir();
    let file = tool.dir().join("notes");
    let fx = tool.spawn()?;
    fx.expect_prompt("* ")?;
    fx.send("a\nremember the milk\nand the eggs\n.\n")?;
    fx.expect_prompt("* ")?;
    assert_eq!(fx.ask(",n", like("2\t{text}"))?.get::<String>("text")?, "and the eggs");
    fx.expect_prompt("* ")?;
    let written = fx.ask("w notes", like("{bytes}"))?;
    assert_eq!(written.get::<usize>("bytes")?, std::fs::read(&file).unwrap().len());
    fx.expect_prompt("* ")?;
    fx.send_line("q")?;
    fx.finish()?.assert().success();
    Ok(())
}

#[test]
fn a_debugger_is_driven() -> Result {
    if !have("gdb") {
        return Ok(());
    }
    let fx =
        Fixture::command("gdb").args(["-q", "-nx", "--interpreter=mi2"]).timeout(Duration::from_secs(60)).spawn()?;
    fx.expect("(gdb) \n")?;
    let done = fx.ask("1-data-evaluate-expression 6*7", like("1^done,value=\"{value}\""))?;
    assert_eq!(done.get::<u8>("value")?, 42);
    fx.send_line("2-gdb-exit")?;
    fx.expect_line("(gdb) ")?;
    fx.expect_line("2^exit")?;
    fx.finish()?.assert().success();
    Ok(())
}

#[test]
fn a_database_is_asked() -> Result {
    if !have("sqlite3") {
        return Ok(());
    }
    let fx = Fixture::command("sqlite3").args(["-batch", ":memory:"]).spawn()?;
    fx.send_line("create table t(a, b); insert into t values (1, 'one'), (2, 'two');")?;
    fx.send_line("select a, b from t order by a desc;")?;
    let rows = fx.expect_unordered((like("1|{one}"), like("2|{two}")))?;
    assert_eq!((rows[0].get::<String>("one")?, rows[1].get::<String>("two")?), ("one".into(), "two".into()));
    fx.send_line("select * from missing;")?;
    fx.stderr().expect(regex("(?i)no such table: (?<table>\\w+)"))?;
    Ok(())
}

#[test]
fn an_interpreter_is_asked() -> Result {
    if !have("python3") {
        return Ok(());
    }
    let fx = Fixture::command("python3").args(["-i", "-q", "-u"]).timeout(Duration::from_secs(60)).spawn()?;
    // The prompts are on standard error.
    fx.stderr().expect_prompt(">>> ")?;
    assert_eq!(fx.ask("[n * n for n in range(5)]", like("[{squares}]"))?.get::<String>("squares")?, "0, 1, 4, 9, 16");
    fx.stderr().expect_prompt(">>> ")?;
    fx.send_line("1 / 0")?;
    fx.stderr().expect(like("ZeroDivisionError: {why}"))?;
    fx.send_line("raise SystemExit(7)")?;
    fx.finish()?.assert().code(7);
    Ok(())
}
