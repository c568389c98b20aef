//! What to change so that a leak does not come again: the most particular advice that the facts allow.

use std::path::Path;

use crate::leakcheck::facts::{Escape, Holding};
use crate::leakcheck::{Blame, Leak};

/// Servers that go into the background by themselves: by the name of the program, and how to keep each in front.
const SERVERS: [(&[&str], &str); 12] = [
    (&["redis-server", "valkey-server"], "start it with `--daemonize no`"),
    (
        &["postgres", "pg_ctl"],
        "start `postgres -D DIR` itself instead of `pg_ctl start`, which leaves it in the background",
    ),
    (&["nginx"], "start it with `-g 'daemon off;'`"),
    (&["sshd"], "start it with `-D`"),
    (&["httpd", "apache2"], "start it with `-DFOREGROUND`"),
    (&["mysqld", "mariadbd"], "start it without `--daemonize`, and not through `mysqld_safe`"),
    (&["mongod"], "start it without `--fork`"),
    (&["memcached"], "start it without `-d`"),
    (&["dockerd", "containerd"], "start it without a service manager or `&`, and wait for it"),
    (&["Xvfb", "Xorg"], "start it itself instead of through `xvfb-run` or a shell"),
    (&["dbus-daemon"], "start it with `--nofork`"),
    (&["haproxy"], "start it with `-db`"),
];

/// In a sentence or two.
pub(super) fn of(leak: &Leak) -> String {
    let program = program(leak);
    let mut advice = vec![how_to_end(leak, &program)];
    advice.extend(about_signals(leak));
    advice.extend(leak.holds.iter().find_map(about_holding));
    advice.join("; ")
}

/// The name that it was started by.
fn program(leak: &Leak) -> String {
    let word = leak.args.first().map(String::as_str).or_else(|| leak.command.split(' ').next()).unwrap_or_default();
    // `postgres: checkpointer`, `nginx: worker process`, `sshd: /usr/sbin/sshd -D`; `[server]` has no arguments.
    let by_title = word.trim_start_matches('[').trim_end_matches([']', ':']);
    let by_file = leak.exe.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let by_title = Path::new(by_title).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // An interpreter says nothing about what it runs, but its file is what there is.
    if by_title.is_empty() { by_file.unwrap_or_default() } else { by_title }
}

fn how_to_end(leak: &Leak, program: &str) -> String {
    if let Some(fixture) = &leak.fixture {
        let (label, place) = (&fixture.label, &fixture.place);
        return format!(
            "the fixture `{label}` of {place} was forgotten, not dropped: keep it in a variable until the end of the test, \
             and do without `mem::forget`, `Box::leak` and statics (`foster::shared!` is for those)"
        );
    }
    if let Some((_, foreground)) = SERVERS.iter().find(|(names, _)| names.contains(&program)) {
        return format!(
            "{foreground}: it then stays a child, which the test can end; or start it as \
             `foster::Fixture::command(\"{program}\")`, which ends whatever comes of it"
        );
    }
    let name = if program.is_empty() { "PROGRAM" } else { program };
    let as_fixture = format!("`foster::Fixture::command(\"{name}\").spawn()?`, which ends with its scope");
    if is_daemon(leak) {
        return format!(
            "it has put itself into the background, where no `child.kill()` reaches it: keep it in the foreground, or start \
             it as {as_fixture}, with all that it has started"
        );
    }
    if leak.blame == Blame::Nobody && leak.ancestors.is_empty() {
        return format!("end it where it is started, or start it as {as_fixture}");
    }
    format!(
        "a `Child` that is dropped goes on: keep it (`let mut child = ...`) and end it in the test with `child.kill()?; \
         child.wait()?`, also when the test fails; or start it as {as_fixture}"
    )
}

/// Has it lost its parent and left the session?
fn is_daemon(leak: &Leak) -> bool {
    leak.escapes.contains(&Escape::Orphaned) && leak.escapes.contains(&Escape::Session)
}

fn about_signals(leak: &Leak) -> Option<String> {
    let has = |names: &[String]| names.iter().any(|name| name == "SIGTERM");
    leak.escapes.iter().find_map(|escape| match escape {
        Escape::Ignores(names) if has(names) => {
            Some("it ignores SIGTERM: only SIGKILL ends it, which is what `Child::kill` sends".to_owned())
        }
        Escape::Catches(names) if has(names) && leak.deed.killed => Some(
            "it catches SIGTERM and went on: what it does then, or how it is asked to end, has to be looked at"
                .to_owned(),
        ),
        Escape::Stopped => Some("it is stopped, and acts on no request before SIGCONT".to_owned()),
        _ => None,
    })
}

fn about_holding(holding: &Holding) -> Option<String> {
    match holding {
        Holding::BuildLock(dir) => Some(format!(
            "it holds the lock of `{}`, and every `cargo` there waits for it: run cargo below a test with a `--target-dir` \
             of its own",
            dir.display()
        )),
        Holding::Output(stream) => Some(format!(
            "it holds the {stream} of the suite, and whoever reads that waits for it: give it `Stdio::null()` or a pipe"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::facts::{FixtureRef, Place};
    use crate::leakcheck::leak::tests::{sample, stranger};

    fn leak(command: &str, escapes: Vec<Escape>) -> Leak {
        let args = command.split(' ').map(str::to_owned).collect();
        Leak { command: command.to_owned(), args, escapes, holds: Vec::new(), fixture: None, ..sample(1) }
    }

    fn assert_says(leak: &Leak, words: &[&str]) {
        let fix = of(leak);
        for word in words {
            assert!(fix.contains(word), "`{word}` is missing: {fix}");
        }
    }

    #[test]
    fn a_plain_child_is_to_be_waited_for() {
        let words = ["child.kill()?; child.wait()?", "foster::Fixture::command(\"server\").spawn()?"];
        assert_says(&leak("/usr/bin/server --port 0", Vec::new()), &words);
        let unknown = Leak { command: "[server]".to_owned(), ..stranger(1) };
        assert_says(&unknown, &["end it where it is started", "command(\"server\")"]);
    }

    #[test]
    fn a_daemon_is_to_stay_in_the_foreground() {
        let daemon = vec![Escape::Session, Escape::Orphaned];
        assert_says(&leak("/opt/own", daemon.clone()), &["background", "command(\"own\")"]);
        for (command, word) in [
            ("redis-server *:6379", "--daemonize no"),
            ("postgres: checkpointer", "pg_ctl"),
            ("/usr/sbin/nginx", "daemon off;"),
            ("nginx: worker process", "daemon off;"),
            ("/usr/sbin/sshd", "`-D`"),
        ] {
            assert_says(&leak(command, daemon.clone()), &[word]);
        }
    }

    #[test]
    fn what_makes_it_hard_to_end_is_said() {
        let term = vec!["SIGTERM".to_owned()];
        assert_says(&leak("x", vec![Escape::Ignores(term.clone())]), &["ignores SIGTERM", "Child::kill"]);
        assert_says(&leak("x", vec![Escape::Catches(term)]), &["catches SIGTERM"]);
        assert_says(&leak("x", vec![Escape::Stopped]), &["SIGCONT"]);
        let hup = leak("x", vec![Escape::Ignores(vec!["SIGHUP".to_owned()])]);
        assert!(!of(&hup).contains("SIGTERM"));
    }

    #[test]
    fn what_it_holds_is_said() {
        let mut leak = leak("x", Vec::new());
        leak.holds = vec![Holding::BuildLock("/t/debug".into())];
        assert_says(&leak, &["lock of `/t/debug`", "--target-dir"]);
        leak.holds = vec![Holding::Listener("tcp 127.0.0.1:1".into()), Holding::Output("stdout".into())];
        assert_says(&leak, &["holds the stdout of the suite"]);
    }

    #[test]
    fn a_fixture_that_was_forgotten_is_named() {
        let place = Place { file: "tests/it.rs".into(), line: 12 };
        let fixture = Some(FixtureRef { label: "db".to_owned(), place });
        assert_says(&Leak { fixture, ..leak("x", Vec::new()) }, &["`db` of tests/it.rs:12", "mem::forget"]);
    }
}
