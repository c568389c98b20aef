//! A long-lived helper with two channels: several threads feed its input, and every answer is awaited, none is slept for.
//!
//! `cargo run --example long_lived` talks to `cat`. Press Ctrl-C, or kill it with SIGKILL from another terminal:
//! the helper is gone either way. Arguments, for the tests: a program to talk to, and how to end
//! (`success`, `panic`, `exit`, `abort`, `wait`).
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;

use foster::Fixture;

const PRODUCERS: usize = 4;
const LINES: usize = 100;

fn main() -> foster::Result {
    let mut args = std::env::args().skip(1);
    let program = args.next();
    let ending = args.next().unwrap_or_else(|| "wait".to_owned());
    let fx = match &program {
        Some(program) => Fixture::command(program).arg("--stay").spawn()?,
        None => Fixture::command("sh")
            .args(["-c", "while read -r l; do echo \"ack $l\"; echo \"got $l\" >&2; done"])
            .spawn()?,
    };
    println!("helper {}", fx.id());

    // Several producers, one input: each line arrives whole.
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let input = fx.input();
            thread::spawn(move || -> foster::Result {
                for n in 0..LINES {
                    input.send_line(&format!("{producer}/{n}"))?;
                }
                Ok(())
            })
        })
        .collect();

    // The log is read by a thread of its own, while this one reads the answers.
    let log = fx.stderr();
    let logged = thread::spawn(move || log.lines().take(PRODUCERS * LINES).filter(Result::is_ok).count());
    let mut answers = 0;
    for answer in fx.output().lines().take(PRODUCERS * LINES) {
        assert!(answer?.starts_with("ack "));
        answers += 1;
    }
    for producer in producers {
        producer.join().expect("it does not panic")?;
    }
    println!("{answers} answers, {} log lines", logged.join().expect("it does not panic"));

    match ending.as_str() {
        "success" => Ok(()),
        "panic" => panic!("as asked for"),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        _ => loop {
            thread::park();
        },
    }
}
