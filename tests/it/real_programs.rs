//! Real programs, not only our own fixtures.
//!
//! A program that this machine lacks is skipped with a line that says so; where `FOSTER_TEST_ALL_PROGRAMS` is set, as in CI,
//! its absence is a failure.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use foster::prelude::*;
use foster::{Result, Stop};

/// Is it there? Says so visibly if not.
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    found || skipped(&format!("`{program}` is not installed"))
}

/// Says visibly that a case is left out, and why; where nothing may be left out, that is a failure. Always `false`.
pub(crate) fn skipped(why: &str) -> bool {
    assert!(std::env::var_os("FOSTER_TEST_ALL_PROGRAMS").is_none(), "{why}, and FOSTER_TEST_ALL_PROGRAMS is set");
    // Not through libtest's capture: a skipped case must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    false
}

#[test]
fn cat_says_what_it_is_told() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    for n in 0..100 {
        fx.send_line(&n.to_string())?;
        fx.expect_line(n.to_string())?;
    }
    fx.finish()?.assert().success().stdout("");
    Ok(())
}

#[test]
fn sh_runs_what_it_is_sent() -> Result {
    let fx = Fixture::command("sh").spawn()?;
    fx.send_line("x=$((6 * 7)); echo answer $x")?;
    fx.expect_line("answer 42")?;
    fx.send_line("echo complaint >&2; exit 3")?;
    fx.stderr().expect_line("complaint")?;
    assert_eq!(fx.expect_exit()?.code(), Some(3));
    Ok(())
}

#[test]
fn bc_calculates() -> Result {
    if !have("bc") {
        return Ok(());
    }
    let fx = Fixture::command("bc").arg("-q").spawn()?;
    for (question, answer) in [("6*7", "42"), ("2^64", "18446744073709551616"), ("scale=3; 1/8", ".125")] {
        fx.send_line(question)?;
        fx.expect_line(answer)?;
    }
    fx.send_line("1/0")?;
    let complaint = fx.stderr().expect(|line: &str| line.to_lowercase().contains("divide by"))?;
    assert!(!complaint.text().is_empty());
    fx.send_line("quit")?;
    assert!(fx.expect_exit()?.success());
    Ok(())
}

#[test]
fn dc_calculates() -> Result {
    if !have("dc") {
        return Ok(());
    }
    let fx = Fixture::command("dc").spawn()?;
    fx.send_line("2 3 + 4 * p")?;
    fx.expect_line("20")?;
    fx.finish()?.assert().success();
    Ok(())
}

#[test]
fn sqlite3_keeps_a_table_in_the_fixtures_directory() -> Result {
    if !have("sqlite3") {
        return Ok(());
    }
    let fx = Fixture::command("sqlite3").arg("t.db").in_own_dir().spawn()?;
    fx.send_line("create table t(n, s); insert into t values (1, 'one'), (2, 'two');")?;
    fx.send_line("select count(*), sum(n) from t;")?;
    fx.expect_line("2|3")?;
    assert!(fx.dir().join("t.db").exists());
    fx.send_line("select nonsense;")?;
    fx.stderr().expect(predicate::str::contains("no such column"))?;
    fx.send_line(".quit")?;
    fx.expect_exit()?;
    Ok(())
}

#[test]
fn python3_answers_and_its_traceback_is_in_the_report() -> Result {
    if !have("python3") {
        return Ok(());
    }
    let program = "import sys\nfor line in sys.stdin:\n  print(int(line) ** 2, flush=True)\n";
    let fx = Fixture::command("python3").args(["-c", program]).timeout(Duration::from_secs(30)).spawn()?;
    fx.send_line("12")?;
    fx.expect_line("144")?;
    fx.send_line("not a number")?;
    let error = fx.expect_line("never").unwrap_err();
    let report = format!("{error:?}");
    assert!(report.contains("exited with status 1") && report.contains("ValueError"), "{report}");
    Ok(())
}

/// A server whose port is asked of the helper itself: no fixed port, no race for one.
#[test]
fn redis_server_serves_on_a_port_that_it_chose() -> Result {
    if !have("redis-server") || !have("python3") {
        return Ok(());
    }
    let builder = Fixture::command("redis-server").in_own_dir().timeout(Duration::from_secs(30));
    // redis cannot choose a port itself (0 means none), so a free one is held by us up to the moment when it starts;
    // should somebody take it in between, redis says so and ends, and the next round takes another.
    let (redis, line) = loop {
        let holder = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let attempt = Fixture::command("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "."])
            .current_dir(builder.dir())
            .stop_policy(Stop::terminate(Duration::from_secs(5)))
            .timeout(Duration::from_secs(30));
        drop(holder);
        let redis = attempt.spawn()?;
        match redis.expect(predicate::str::contains("port=")) {
            Ok(line) => break (redis, line),
            Err(e) if format!("{e:?}").contains("Address already in use") => {}
            Err(e) => return Err(e),
        }
    };
    let port = line.text().split_once("port=").unwrap().1;
    let port: u16 = port.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    redis.expect("Ready to accept connections")?;
    let mut client = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    client.write_all(b"SET k v\r\nGET k\r\nINFO server\r\n").unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    let asked = format!("process_id:{}", redis.id());
    while !String::from_utf8_lossy(&answer).contains("executable:") {
        let n = client.read(&mut chunk).unwrap();
        assert!(n > 0, "redis closed the connection");
        answer.extend_from_slice(&chunk[..n]);
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("+OK\r\n$1\r\nv\r\n"), "{answer}");
    assert!(answer.contains(&asked), "it is our redis and no other: {answer}");
    assert!(answer.contains(&format!("tcp_port:{port}")), "{answer}");
    let stopped = redis.stop()?;
    assert!(stopped.status().is_some_and(|s| s.success()), "redis leaves politely: {stopped:?}");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "nobody listens any more");
    Ok(())
}

#[test]
fn the_readmes_greeter() -> Result {
    let fx = foster::cargo_bin!("greet").spawn()?;
    fx.expect("name? ")?;
    fx.send_line("Bob")?;
    fx.expect_line("hello Bob")?;
    fx.expect("name? ")?;
    fx.send_line("")?;
    fx.stderr().expect_line("greet: nobody is called that")?;
    assert_eq!(fx.expect_exit()?.code(), Some(2));
    Ok(())
}
