//! `cargo xtask page REPORT DIR`: the files of a leak check's report, made again from its JSON. The tests of the page use it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use foster::leakcheck::Report;

/// What the arguments ask for.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let [report, dir] = args else {
        let _ = writeln!(io::stderr(), "usage: cargo xtask page REPORT DIR");
        return ExitCode::from(2);
    };
    match Report::read(report).and_then(|report| report.write_files(dir)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "xtask: {e}");
            ExitCode::FAILURE
        }
    }
}
