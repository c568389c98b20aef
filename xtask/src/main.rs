//! The tasks of this workspace, run as `cargo xtask NAME`.

mod bench;
mod clean_runs;
mod leakcheck;
mod page;
mod torture;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK [ARGUMENTS...]

  help        this text
  bench       foster beside the limit and its peers, in turns; `--help` says more
  clean-runs  a clean suite under the leak check, again and again on a busy machine: no false alarm; `--help` says more
  leakcheck   runs the tests and finds processes that they leave behind; `cargo xtask leakcheck --help` says more
  page        the files of a leak check's report, made again from its JSON: `cargo xtask page REPORT DIR`
  torture     random trees of helpers, random ends, and a proof each time that nothing is left; `--help` says more
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let task = args.next().unwrap_or_default();
    match task.to_str() {
        Some("leakcheck") => leakcheck::run(args),
        Some("bench") => bench::main(&in_utf8(args)),
        Some("clean-runs") => clean_runs::main(&in_utf8(args)),
        Some("page") => page::main(&in_utf8(args)),
        Some("torture") => torture::main(&in_utf8(args)),
        Some("help" | "-h" | "--help") => {
            // Nobody reads it: then there is nobody to tell, either.
            let _ = io::stdout().write_all(HELP.as_bytes());
            ExitCode::SUCCESS
        }
        _ => {
            let _ = writeln!(io::stderr(), "xtask: there is no task `{}`\n\n{HELP}", task.to_string_lossy());
            ExitCode::from(2)
        }
    }
}

fn in_utf8(args: impl Iterator<Item = OsString>) -> Vec<String> {
    args.map(|a| a.to_string_lossy().into_owned()).collect()
}
