//! When a helper counts as started, and what is said when it does not become so.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use foster::prelude::*;
use foster::{ErrorKind, Result};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> foster::FixtureBuilder {
    Fixture::command("sh").args(["-c", script])
}

/// A server that needs no program beyond the tests' own.
fn server(args: &[&str]) -> foster::FixtureBuilder {
    foster::cargo_bin!("server").args(args)
}

#[test]
fn what_makes_it_ready_is_consumed_and_its_captures_are_kept() -> Result {
    let script = "echo booting; echo 'log: up' >&2; echo listening on 127.0.0.1:80; echo next; read x";
    let ready = Ready::stderr_line("up").and(Ready::line(like("listening on {addr}")));
    let fx = sh(script).ready(ready).spawn()?;
    assert_eq!(fx.capture::<std::net::SocketAddr>("addr")?.port(), 80);
    fx.expect_line("next")?;
    let error = fx.capture::<String>("port").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capture);
    assert!(format!("{error:?}").contains("`listening on {addr}` on stdout"), "{error:?}");
    Ok(())
}

#[test]
fn a_helper_that_ends_before_it_is_ready_fails_at_once() {
    for (code, script) in [(0, "echo leaving; exit 0"), (3, "echo leaving; exit 3")] {
        let began = Instant::now();
        let error = sh(script).timeout(LONG).ready(Ready::line("ready")).spawn().unwrap_err();
        assert!(began.elapsed() < LONG / 2);
        assert_eq!(error.kind(), ErrorKind::Exited);
        let text = format!("{error:?}");
        assert!(text.contains(&format!("exited with status {code}")) && text.contains("out | leaving"), "{text}");
    }
    let error = server(&["--exit"]).timeout(LONG).ready(Ready::tcp("1")).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited, "{error:?}");
}

#[test]
fn a_helper_that_never_gets_ready_is_ended_with_the_failure() {
    let error =
        sh("echo $$; read x").timeout(Duration::from_millis(50)).ready(Ready::line("ready")).spawn().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let text = format!("{error:?}");
    let pid = text.split("(pid ").nth(1).and_then(|t| t.split(')').next()).expect("the report names it").to_owned();
    assert!(foster::registry::live().iter().all(|e| e.pid().to_string() != pid), "{text}");
}

#[test]
fn listening_is_seen_without_a_visit() -> Result {
    let ready = Ready::line(like("listening on {addr}")).and(Ready::tcp("{addr}"));
    // It listens a while after it has said so, and says how many have come.
    let fx = server(&["--late"]).timeout(LONG).ready(ready).spawn()?;
    let addr: std::net::SocketAddr = fx.capture("addr")?;
    assert!(!fx.transcript().stdout().contains("visitor"), "nobody has connected: {}", fx.transcript());
    std::net::TcpStream::connect(addr).expect("it listens");
    fx.expect_line("visitor 1")?;
    Ok(())
}

#[test]
fn a_daemon_that_listens_after_its_starter_has_ended_counts() -> Result {
    let ready = Ready::line(like("listening on {addr}")).and(Ready::tcp("{addr}"));
    let fx = server(&["--daemon", "--late"]).timeout(LONG).ready(ready).spawn()?;
    let addr: std::net::SocketAddr = fx.capture("addr")?;
    std::net::TcpStream::connect(addr).expect("it listens");
    assert!(fx.expect_exit()?.success());
    assert_eq!(fx.stop()?.escapees().len(), 1);
    Ok(())
}

#[test]
fn an_impostor_on_the_port_does_not_make_it_ready() {
    let impostor = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = impostor.local_addr().unwrap().port().to_string();
    let builder = sh("read x").timeout(Duration::from_millis(100));
    let error = builder.ready(Ready::tcp(&port)).spawn().unwrap_err();
    let text = error.to_string();
    assert!(error.is_timeout(), "{error}");
    assert!(text.contains("another process listens there") && text.contains(&std::process::id().to_string()), "{text}");
    drop(impostor);
    let error = sh("read x").timeout(Duration::from_millis(50)).ready(Ready::tcp(&port)).spawn().unwrap_err();
    assert!(error.to_string().contains("nobody listens there"), "{error}");
}

#[test]
fn a_line_that_must_not_come_ends_the_wait_for_readiness() {
    let began = Instant::now();
    let builder = sh("echo panicked at x >&2; read x").timeout(LONG).fail_on("panicked at");
    let error = builder.ready(Ready::line("ready")).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unwanted);
    let builder = sh("echo panicked at x >&2; read x").timeout(LONG).fail_on("panicked at");
    assert_eq!(builder.ready(Ready::tcp("1")).spawn().unwrap_err().kind(), ErrorKind::Unwanted);
    assert!(began.elapsed() < LONG / 2);
}
