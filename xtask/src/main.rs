//! The tasks of this workspace, run as `cargo xtask NAME`.

mod torture;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((name, rest)) if name == "torture" => torture::main(rest),
        _ => ExitCode::from(2),
    }
}
