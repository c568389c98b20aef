//! `measure NAME [--quick] [--no-peers] [--rounds N]`: one measure, its contestants in turns, every sample on standard output.
//!
//! A line is `sample TAB row TAB contestant TAB value`, with times in nanoseconds and memory in bytes, or
//! `note TAB row TAB text`. `cargo xtask bench` builds this program, runs it, and makes a table of what it says.
//! Whatever begins with `--` in place of NAME is a part that the measures start themselves.

mod end;
mod first;
mod flood;
mod heap;
mod leak;
mod limit;
mod line;
mod live;
#[cfg(feature = "peers")]
mod peers;
mod pty;
#[cfg(feature = "peers")]
mod python;
mod regex;
mod sample;
mod silence;
mod spawn;
mod stop;

use std::process::ExitCode;

use sample::{Options, Result};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("measure: {e:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["--nothing"] => first::say_that_it_runs()?,
        ["--first", who, heap] => first::in_a_fresh_process(who, heap.parse()?)?,
        ["--leaver", count] => stop::leave(count.parse()?)?,
        ["--victim", who, count] => end::victim(who, count.parse()?)?,
        ["--leakcheck", command @ ..] => {
            let args = ["exec", "--"].iter().chain(command).map(Into::into);
            return Ok(foster::leakcheck::main_from(args));
        }
        [name, options @ ..] => {
            let options = Options::parse(options)?;
            match *name {
                "line" => line::measure(&options)?,
                "pty" => pty::measure(&options)?,
                "flood" => flood::measure(&options)?,
                "regex" => regex::measure(&options)?,
                "spawn" => spawn::measure(&options)?,
                "heap" => heap::measure(&options)?,
                "first" => first::measure(&options)?,
                "stop" => stop::measure(&options)?,
                "end" => end::measure(&options)?,
                "silence" => silence::measure(&options)?,
                "live" => live::measure(&options)?,
                "leakcheck" => leak::measure(&options)?,
                other => return Err(format!("there is no measure `{other}`").into()),
            }
        }
        [] => return Err("usage: measure NAME [--quick] [--no-peers] [--rounds N]".into()),
    }
    Ok(ExitCode::SUCCESS)
}
