//! E7: a checker that is interrupted or killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;

use super::assert_reported;
use super::running::{Running, checked, checker, have};
use crate::scene::{LIMIT, Scene, hide, read_line};

/// The whole tree ends, what ignores the request is killed and reported, and the shell sees the signal.
#[test]
fn e7_an_interrupted_check_leaves_nothing() {
    for (how, signal, name) in
        [("daemon", Signal::TERM, "SIGTERM"), ("ignore-term", Signal::HUP, "SIGHUP"), ("setsid", Signal::INT, "SIGINT")]
    {
        let running = Running::start(checked(&[], "leaves_a_family"), how, "");
        let family = running.family();
        running.handle.signal(signal);
        assert!(running.handle.ends_within(LIMIT), "{how}: {}", running.stderr());
        let mut ended = running.end();
        ended.scene.assert_gone(&family, how);
        assert_eq!(ended.status.signal(), Some(signal.as_raw()), "{how}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("leakcheck: interrupted by {name}; ")), "{how}: {}", ended.stderr);
        if how != "setsid" {
            // A daemon was an orphan before; the others were not, and are reported if they had to be killed.
            let stubborn = if how == "daemon" { &family[1..] } else { &family[..] };
            assert_reported(&ended.stderr, stubborn, how);
        }
    }
}

/// Ctrl-C: the terminal has told the suite, which must not hear it twice, since twice means "at once" to many programs.
#[test]
fn e7_ctrl_c_is_not_repeated_to_those_who_heard_it() {
    if !have("script") {
        return;
    }
    // It ends when we let it, which is long before somebody who has been told is asked all the same; or after a minute.
    // Not with `read`: a signal just before it blocks would be heard only after the next line.
    let suite = "trap 'told=1; echo told' INT; trap 'echo asked' TERM; n=0; echo ready
        while [ $n -lt 600 ]; do
            sleep 0.1; n=$((n + 1))
            [ \"$told\" = 1 ] && [ -e \"$0.end\" ] && exit 3
        done; exit 99";
    let scene = Scene::new();
    std::fs::write(scene.path("suite"), suite).unwrap();
    let mut command = Command::new("script");
    let words = checker(&["exec", "--", "sh", scene.path("suite").to_str().unwrap()]);
    let words: Vec<_> = std::iter::once(words.get_program()).chain(words.get_args()).collect();
    let words = words.join("' '".as_ref());
    command.arg("-qec").arg(format!("'{}'", words.to_str().unwrap())).arg("/dev/null");
    let mut running = Running::start(command, "", "");
    let mut output = BufReader::new(File::from(running.stdout()));
    await_line(&mut output, "ready");
    running.type_in(b"\x03");
    await_line(&mut output, "told");
    std::fs::write(scene.path("suite.end"), "").unwrap();
    let ended = running.end();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(ended.status.code(), Some(128 + 2), "{text}");
    assert!(!text.contains("told") && !text.contains("asked"), "{text}");
    assert!(text.contains("interrupted by SIGINT; everything ended with the suite"), "{text}");
}

/// Reads on until this line has come. The terminal echoes what is typed, so it may not begin where a line does.
fn await_line(output: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.ends_with(&format!("{word}\r\n")) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "`{word}` does not come");
    }
}

/// A checker that is killed cannot look any more, but the suite is told.
#[test]
fn e7_a_killed_check_takes_the_suite_with_it() {
    let mut command = checker(&["exec", "--"]);
    let scene = Scene::new();
    command.arg(hide()).arg("alone").arg(scene.record()).arg(scene.fifo());
    let mut running = Running::start(command, "", "");
    assert_eq!(read_line(File::from(running.stdout())), "hidden");
    let family = scene.family();
    assert_eq!(family.len(), 1);
    running.handle.put_down();
    let gone = family[0].ends_within(LIMIT);
    family[0].put_down();
    assert!(gone, "the suite goes on");
    assert_eq!(running.end().status.signal(), Some(9));
}
