//! `cargo xtask leakcheck`: this repository's tests under the leak check that users of the crate get.

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    foster::leakcheck::main_from(args)
}
