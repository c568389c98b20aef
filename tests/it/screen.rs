//! What a person would see of a full-screen program (feature `screen`).

use std::time::Duration;

use foster::prelude::*;
use foster::{ErrorKind, Result, Screen};

use crate::real_programs::have;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn sh(script: &str) -> FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

#[test]
fn less_shows_pages_and_finds_words() -> Result {
    if !have("less") {
        return Ok(());
    }
    let builder = Fixture::command("less").pty_size(40, 10).timeout(Duration::from_secs(30));
    let notes = builder.dir().join("notes");
    let text: String = (1..=100).map(|n| format!("line {n}\n")).collect();
    std::fs::write(&notes, text).unwrap();
    let fx = builder.arg(&notes).env("LESSHISTFILE", "-").env_remove("LESS").env_remove("LESSOPEN").spawn()?;
    let screen = fx.expect_screen(|s: &Screen| s.row(8) == "line 9" && !s.row(9).is_empty())?;
    assert_eq!((screen.row(0), screen.size(), screen.is_full()), ("line 1", (40, 10), true));
    fx.send(" ")?;
    fx.expect_screen(|s: &Screen| s.row(0) == "line 10" && s.row(8) == "line 18")?;
    fx.send_line("/line 77")?;
    fx.expect_screen(|s: &Screen| s.row(0) == "line 77")?;
    fx.resize(40, 5)?;
    // A key, because less does not notice a SIGWINCH that comes just before it waits for one.
    fx.send("r")?;
    fx.expect_screen(|s: &Screen| s.size() == (40, 5) && s.row(3) == "line 80")?;
    fx.send("q")?;
    assert!(fx.expect_exit()?.success());
    // The page that it has left is as it was before.
    assert!(!fx.screen()?.is_full());
    Ok(())
}

#[test]
fn vi_writes_what_is_typed_into_it() -> Result {
    if !have("vi") {
        return Ok(());
    }
    let fx = Fixture::command("vi").args(["-u", "NONE", "-N", "letter"]).in_own_dir().pty_size(60, 12);
    let fx = fx.timeout(Duration::from_secs(30)).spawn()?;
    // Empty rows below the text.
    fx.expect_screen(|s: &Screen| s.row(1) == "~" && s.row(10) == "~")?;
    fx.send("iDear Bob,\rhow are you?")?;
    fx.expect_screen(|s: &Screen| s.row(0) == "Dear Bob," && s.row(1) == "how are you?" && s.cursor() == (1, 12))?;
    fx.send_control('[')?;
    fx.send_line(":wq")?;
    assert!(fx.expect_exit()?.success());
    assert_eq!(std::fs::read_to_string(fx.dir().join("letter")).unwrap(), "Dear Bob,\nhow are you?\n");
    Ok(())
}

#[test]
fn the_screen_sees_everything_whatever_is_consumed() -> Result {
    let fx = sh("printf 'one\\n\\033[31mtwo\\033[0m\\nthree'; read x").pty().spawn()?;
    fx.expect("three")?;
    // The control: for expectations it is gone.
    assert!(fx.within(ms(20)).expect("one").is_err());
    assert_eq!(fx.screen()?.text(), "one\ntwo\nthree\n");
    // And an expectation about the screen consumes nothing.
    let fx = sh("printf 'one\\ntwo'; read x").pty().spawn()?;
    fx.expect_screen("two")?;
    fx.expect_line("one")?;
    fx.expect_prompt("two")?;
    Ok(())
}

#[test]
fn an_overwritten_line_is_not_seen_any_more() -> Result {
    let fx = sh("for n in 10 50 100; do printf \"\\r\\033[K$n %%\"; read x; done").pty().spawn()?;
    fx.expect_screen("10 %")?;
    fx.send_line("")?;
    fx.expect_screen(predicate::str::contains("50 %"))?;
    fx.send_line("")?;
    assert_eq!(fx.expect_screen("100 %")?.text(), "100 %\n");
    // The transcript has it all.
    let said = fx.transcript().stdout();
    assert!(said.contains("10 %") && said.contains("50 %"), "{said:?}");
    Ok(())
}

/// Many programs ask where the cursor is, and wait for the answer.
#[test]
fn a_terminal_answers() -> Result {
    let ask = "stty raw; printf '\\033[5;7H\\033[6n'; dd bs=1 count=6 2>/dev/null | od -An -c; read x";
    let fx = sh(ask).pty().spawn()?;
    fx.expect_screen("033   [   5   ;   7   R")?;
    Ok(())
}

#[test]
fn a_failure_shows_the_screen_in_a_frame() -> Result {
    let fx = sh("printf '\\033[2J\\033[2;3Hhello swordfish\\033[?25l\\033]2;greeter\\007'; read x; read x");
    let fx = fx.pty_size(20, 3).label("greeter").spawn()?;
    fx.send_secret("swordfish")?;
    fx.expect_screen("hello")?;
    let error = fx.within(ms(30)).expect_screen("goodbye").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().starts_with("failed to expect screen `goodbye` from `greeter`: timed out after"),
        "{error}"
    );
    let report = format!("{error:?}");
    let picture = "
  screen
  +--------------------+
  |                    |
  |  hello *********   |
  |                    |
  +--------------------+
  cursor: row 1, column 17, hidden; title: greeter
";
    assert!(report.contains(picture), "{report}");
    assert!(!report.contains("swordfish"), "{report}");
    // At the end of the helper it fails at once.
    fx.send_line("")?;
    let error = fx.expect_screen("goodbye").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    Ok(())
}

#[test]
fn a_report_about_lines_has_no_frame() -> Result {
    let fx = sh("echo hello; read x").pty().spawn()?;
    fx.expect_line("hello")?;
    let report = format!("{:?}", fx.within(ms(20)).expect("never").unwrap_err());
    assert!(!report.contains("+----"), "{report}");
    Ok(())
}

#[test]
fn without_a_terminal_there_is_no_screen() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for error in [fx.screen().unwrap_err(), fx.expect_screen("x").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(format!("{error:?}").contains("the helper has no terminal"), "{error:?}");
    }
    Ok(())
}
