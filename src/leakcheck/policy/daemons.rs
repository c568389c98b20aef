//! Daemons that well-known tools start by themselves and keep for their next run, and how to stop them at the source.
//!
//! Such a daemon is nobody's bug in the suite, so it is a finding of its own kind, which warns unless chosen to fail.
//! Each is recognized by its name *and* the shape of its arguments: a test's own server of the same name, or the same
//! tool in the foreground, is a leak like any other. ccache is not here: it has no daemon.

use std::path::Path;

use crate::leakcheck::Leak;

/// A daemon, and what its documentation says about not having one.
struct Daemon {
    name: &'static str,
    /// The words of its command line, without the first.
    is: fn(&[String]) -> bool,
    fix: &'static str,
}

const GPG: &str = "give the suite a GNUPGHOME of its own, and end with `gpgconf --kill all` there";

const DAEMONS: [Daemon; 17] = [
    Daemon {
        name: "git",
        is: |words| subcommand(words) == Some("fsmonitor--daemon"),
        fix: "`git config core.fsmonitor false` in the repositories of the tests, or GIT_CONFIG_COUNT=1 \
              GIT_CONFIG_KEY_0=core.fsmonitor GIT_CONFIG_VALUE_0=false for the whole suite; `git fsmonitor--daemon stop` \
              ends one that runs",
    },
    Daemon {
        name: "git",
        is: |words| subcommand(words) == Some("maintenance") && has(words, "run"),
        fix: "`git config maintenance.auto false` in the repositories of the tests, or `maintenance.autoDetach false` to \
              have it wait (older: `gc.auto 0`, `gc.autoDetach false`)",
    },
    Daemon {
        name: "git",
        is: |words| subcommand(words) == Some("gc") && has(words, "--auto"),
        fix: "`git config gc.auto 0` in the repositories of the tests, or `gc.autoDetach false` to have it wait",
    },
    Daemon {
        name: "sccache",
        // Its server is started by SCCACHE_START_SERVER in the environment, without arguments; compilers have some.
        is: |words| words.is_empty() || words == ["--start-server"],
        fix: "start it before the check (`sccache --start-server`), so that it is not the suite's, or end the suite with \
              `sccache --stop-server`; RUSTC_WRAPPER= does without it",
    },
    Daemon { name: "gpg-agent", is: |words| has(words, "--daemon"), fix: GPG },
    Daemon { name: "keyboxd", is: |words| has(words, "--daemon"), fix: GPG },
    Daemon { name: "dirmngr", is: |words| has(words, "--daemon"), fix: GPG },
    Daemon { name: "scdaemon", is: |words| has(words, "--multi-server") || has(words, "--daemon"), fix: GPG },
    Daemon { name: "tpm2daemon", is: |words| has(words, "--multi-server") || has(words, "--daemon"), fix: GPG },
    Daemon {
        name: "ssh-agent",
        // In the foreground (`-D`, `-d`), or with a command of its own, somebody has it in hand.
        is: |words| !has(words, "-D") && !has(words, "-d") && is_bare_ssh_agent(words),
        fix: "`ssh-agent -k` at the end, with the SSH_AGENT_PID that it printed, or `ssh-agent COMMAND`, which ends with \
              the command",
    },
    Daemon {
        name: "adb",
        is: |words| has(words, "fork-server") && has(words, "server"),
        fix: "start it before the check (`adb start-server`), so that it is not the suite's, or end the suite with \
              `adb kill-server`",
    },
    Daemon {
        name: "java",
        is: |words| has(words, "org.gradle.launcher.daemon.bootstrap.GradleDaemon"),
        fix: "`gradle --no-daemon` or org.gradle.daemon=false in gradle.properties, or end the suite with `gradle --stop`",
    },
    Daemon {
        name: "java",
        is: |words| has(words, "org.jetbrains.kotlin.daemon.KotlinCompileDaemon"),
        fix: "kotlin.compiler.execution.strategy=in-process in gradle.properties",
    },
    Daemon {
        name: "watchman",
        is: |words| words.iter().any(|w| w == "--statefile" || w.starts_with("--statefile=")),
        fix: "start it before the check, so that it is not the suite's, or end the suite with `watchman shutdown-server`",
    },
    Daemon {
        name: "bazel(*)",
        is: |words| words.iter().any(|w| w.starts_with("--max_idle_secs")),
        fix: "end the suite with `bazel shutdown`",
    },
    Daemon {
        name: "dbus-daemon",
        is: |words| has(words, "--fork") && has(words, "--session"),
        fix: "`dbus-run-session -- COMMAND`, whose bus ends with the command",
    },
    Daemon {
        name: "dbus-launch",
        is: |words| words.iter().any(|w| w == "--autolaunch" || w.starts_with("--autolaunch=")),
        fix: "`dbus-run-session -- COMMAND`, whose bus ends with the command",
    },
];

/// How to stop it at the source, if it is one of them.
pub(super) fn fix(leak: &Leak) -> Option<&'static str> {
    let words = words(leak);
    let (first, rest) = words.split_first()?;
    let name = Path::new(first).file_name()?.to_str()?;
    let known = DAEMONS.iter().find(|daemon| is_called(name, daemon.name) && (daemon.is)(rest))?;
    Some(known.fix)
}

/// Its command line; the words of what is shown where that is all that is known.
pub(super) fn words(leak: &Leak) -> Vec<String> {
    if leak.args.is_empty() { leak.command.split(' ').map(str::to_owned).collect() } else { leak.args.clone() }
}

/// bazel calls its server `bazel(workspace)`.
fn is_called(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix("*)") {
        Some(start) => name.starts_with(start) && name.ends_with(')'),
        None => name == pattern,
    }
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|w| w == word)
}

/// git's, behind its own options: `git -c a=b -C dir gc`.
fn subcommand(words: &[String]) -> Option<&str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-c" | "-C" => drop(words.next()),
            option if option.starts_with('-') => {}
            command => return Some(command),
        }
    }
    None
}

fn is_bare_ssh_agent(words: &[String]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-a" | "-E" | "-O" | "-P" | "-t" => drop(words.next()),
            option if option.starts_with('-') => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::sample;

    fn known(command: &str) -> Option<&'static str> {
        let args: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let by_args = fix(&Leak { command: "cut".into(), args, ..sample(1) });
        let by_command = fix(&Leak { command: command.into(), args: Vec::new(), ..sample(1) });
        assert_eq!(by_args, by_command, "{command}");
        by_args
    }

    #[test]
    fn daemons_are_known_as_their_tools_start_them() {
        for (command, word) in [
            ("/usr/lib/git-core/git fsmonitor--daemon run --detach --ipc-threads=8", "core.fsmonitor false"),
            ("git maintenance run --auto --quiet --detach", "maintenance.auto false"),
            ("git -c gc.auto=1 gc --auto --quiet", "gc.auto 0"),
            ("/home/me/.cargo/bin/sccache", "sccache --stop-server"),
            ("gpg-agent --homedir /tmp/x --use-standard-socket --daemon", "gpgconf --kill all"),
            ("keyboxd --homedir /tmp/x --daemon", "gpgconf --kill all"),
            ("dirmngr --daemon --homedir /tmp/x", "gpgconf --kill all"),
            ("scdaemon --multi-server --homedir /tmp/x", "gpgconf --kill all"),
            ("ssh-agent -s", "ssh-agent -k"),
            ("ssh-agent -a /tmp/agent.sock", "ssh-agent -k"),
            ("adb -L tcp:5037 fork-server server --reply-fd 4", "adb kill-server"),
            (
                "/usr/lib/jvm/bin/java -Xmx512m -cp gradle-launcher.jar \
                 org.gradle.launcher.daemon.bootstrap.GradleDaemon 8.5",
                "--no-daemon",
            ),
            ("java -cp x org.jetbrains.kotlin.daemon.KotlinCompileDaemon --daemon-x", "in-process"),
            ("watchman --foreground --logfile=/x --statefile=/y", "watchman shutdown-server"),
            ("bazel(shop) -Xverify:none -jar A-server.jar --max_idle_secs=10800", "bazel shutdown"),
            ("/usr/bin/dbus-daemon --syslog-only --fork --print-pid 5 --print-address 7 --session", "dbus-run-session"),
            ("dbus-launch --autolaunch=abc --binary-syntax --close-stderr", "dbus-run-session"),
        ] {
            let fix = known(command).unwrap_or_else(|| panic!("{command} is not known"));
            assert!(fix.contains(word), "{command}: {fix}");
        }
    }

    /// The controls: a name alone is not enough, and neither are the arguments.
    #[test]
    fn what_a_test_starts_itself_is_no_daemon() {
        for command in [
            "git daemon --export-all",
            "git gc",
            "git maintenance register",
            "git fetch --auto",
            "git log maintenance run",
            "sccache gcc -c a.c",
            "sccache --show-stats",
            "gpg-agent --server",
            "gpg-agent --supervised",
            "dirmngr --server",
            "ssh-agent -D",
            "ssh-agent bash",
            "ssh-agent -t 10 make check",
            "adb logcat",
            "adb nodaemon server",
            "java -jar server.jar",
            "watchman watch /x",
            "bazel build //...",
            "dbus-daemon --session --nofork",
            "dbus-launch myprogram",
            "fork-server server",
            "my-sccache",
            "server",
        ] {
            assert_eq!(known(command), None, "{command}");
        }
    }
}
