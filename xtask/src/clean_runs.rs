//! `cargo xtask clean-runs`: the leak check must not cry wolf. A clean suite under it, again and again, on a busy machine.
//!
//! One run among them has a leak, which has to be found: a check that reports nothing proves nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use foster::Fixture;

/// How many runs without `--runs`: bounded for CI.
const RUNS: u32 = 20;

const USAGE: &str = "usage: cargo xtask clean-runs [--runs N]

  --runs N   how many checks of a clean suite (20)

All cores burn meanwhile. Most runs execute the test binary itself, each tenth goes through `cargo test` and each tenth
through `cargo nextest`, if that is installed. One more run has a leak, as a control.";

/// The task's entry. Exit code 1 on the first false alarm, and if the leak is not found.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let runs = match args {
        [] => RUNS,
        [option, n] if option == "--runs" && n.parse::<u32>().is_ok() => n.parse().unwrap_or(RUNS),
        [help] if help == "--help" || help == "-h" => {
            let _ = writeln!(io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            let _ = writeln!(io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    match series(runs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            let _ = writeln!(io::stderr(), "clean-runs: {what}");
            ExitCode::from(1)
        }
    }
}

fn series(runs: u32) -> Result<(), String> {
    let suite = build()?;
    let nextest = Command::new(cargo()).args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = burn(cores).map_err(|e| e.to_string())?;
    let began = Instant::now();
    let (mut clean, mut adopted, mut found) = (0, 0, 0);
    for run in 0..=runs {
        let planted = run == runs / 2;
        let filter = if planted { "" } else { "clean_" };
        let mut command = check();
        match run % 10 {
            3 if !planted => {
                command.args(["--", "test", "--quiet", "--test", "clean", "--", "--ignored", filter]);
            }
            7 if !planted && nextest => {
                command.args(["--", "nextest", "run", "--cargo-quiet", "--test", "clean", "--run-ignored", "only"]);
                command.arg(filter);
            }
            _ => {
                command.args(["exec", "--"]).arg(&suite).args(["--ignored", filter]);
            }
        }
        let output = command.output().map_err(|e| format!("the check cannot be started: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let nothing = said.lines().any(|line| line.starts_with("leakcheck: nothing left behind"));
        match (planted, output.status.code()) {
            (true, Some(23)) if said.contains("sleep 50") => found += 1,
            (true, _) => return Err(format!("the planted leak is not found: {}\n{said}", output.status)),
            (false, Some(0)) if nothing => clean += 1,
            (false, _) => return Err(format!("run {run} of a clean suite: {}\n{said}", output.status)),
        }
        adopted += u32::from(said.contains("adopted and ended"));
    }
    for fixture in &load {
        if fixture.try_wait().map_err(|e| e.to_string())?.is_some() {
            return Err("the load has ended too early: this was no busy machine".to_owned());
        }
    }
    if (clean, found) != (runs, 1) {
        return Err(format!("{clean} clean runs and {found} leaks were counted, and not {runs} and 1"));
    }
    let _ = writeln!(
        io::stderr(),
        "clean-runs: {clean} of {runs} checks of a clean suite reported nothing ({adopted} of them had orphans to wait for), \
         the planted leak was found; {cores} cores burning, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The check, as this program has it.
fn check() -> Command {
    let own = std::env::current_exe().unwrap_or_else(|_| "xtask".into());
    let mut command = Command::new(own);
    command.args(["leakcheck", "--no-report"]).current_dir(root()).stdin(Stdio::null());
    command
}

/// Builds the suite; where it is.
fn build() -> Result<PathBuf, String> {
    let mut command = Command::new(cargo());
    command.args(["test", "--no-run", "--test", "clean", "--message-format", "json"]).current_dir(root());
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo test: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo test: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text.lines().filter(|line| line.contains("\"name\":\"clean\"")).find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    path.ok_or_else(|| "cargo does not say where the suite is".to_owned())
}

/// Something that keeps each core busy. It ends with us, and by itself when it has burnt an hour.
fn burn(cores: usize) -> Result<Vec<Fixture>, foster::Error> {
    let burner = || Fixture::command("sh").args(["-c", "ulimit -t 3600; while :; do :; done"]).label("load").spawn();
    (0..cores).map(|_| burner()).collect()
}
