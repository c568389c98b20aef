//! `cargo foster leakcheck`: the leak check for any repository, installed once, and for shards where there is no cargo.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
The leak check of the crate foster, for any repository.

usage: cargo foster leakcheck [OPTIONS] [-- CARGO-ARGUMENTS...]
       cargo foster leakcheck [OPTIONS] exec -- COMMAND [ARGUMENTS...]
       cargo foster leakcheck merge [OPTIONS] REPORT-OR-DIRECTORY...
       cargo foster --help | --version

Without cargo: `cargo-foster leakcheck ...`. More: `cargo foster leakcheck --help`.
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    // Cargo passes the name of the subcommand on.
    args.next_if(|word| word == "foster");
    run(args)
}

fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let task = args.next().unwrap_or_default();
    match task.to_str() {
        Some("leakcheck") => foster::leakcheck::main_from(args),
        Some("-h" | "--help" | "help") => say(HELP),
        Some("-V" | "--version") => say(concat!("cargo-foster ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => {
            let complaint = match task.to_string_lossy() {
                name if name.is_empty() => "it needs a task".to_owned(),
                name => format!("there is no task `{name}`"),
            };
            let _ = write!(io::stderr(), "cargo-foster: {complaint}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    // Nobody reads it: then there is nobody to tell, either.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
