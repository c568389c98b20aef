//! `cargo xtask bench`: foster beside the limit and beside its peers, in turns within one run.
//!
//! Absolute times mean nothing on a shared machine, so every goal is a ratio within one run: the contestants of a row take
//! turns, and the machine's moods hit all alike. The measuring programs are in `benches/peers`, a workspace of its own, so
//! that whoever builds foster never compiles what it is compared with.
//! Each runs inside a [`foster::Fixture`]: nothing that it starts outlives it, whatever happens to it or to this task.

mod clean_build;
mod instructions;
mod json;
mod machine;
mod results;
mod rows;
mod svg;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use self::results::Results;
use self::rows::{MEASURES, Measure};

const USAGE: &str =
    "usage: cargo xtask bench [--quick] [--only NAME]... [--no-peers] [--rounds N] [--strict] [--svg PATH]
       cargo xtask bench --instructions [--record]

  --quick         fewer rounds and smaller sizes, for CI
  --only NAME     only this measure; may be given several times
  --no-peers      compiles and measures foster and the limit only
  --rounds N      so many rounds of each row, instead of each row's own number
  --strict        a goal that is missed is a failure
  --svg PATH      where the chart goes (target/bench/bench.svg)

  --instructions  counts instructions with callgrind and compares them with benches/instructions.txt
  --record        writes the counts there

The table is printed; JSON and Markdown go to target/bench/.";

/// What the user has asked for.
#[derive(Debug)]
struct Options {
    quick: bool,
    peers: bool,
    strict: bool,
    only: Vec<String>,
    rounds: Option<String>,
    svg: Option<PathBuf>,
    instructions: bool,
    record: bool,
}

/// The task's entry.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let options = match parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = writeln!(std::io::stdout(), "{USAGE}\n\nmeasures: {}", names().join(", "));
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            say(&format!("{what}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let done = if options.instructions { instructions::run(options.record) } else { run(&options) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            say(&e);
            ExitCode::from(2)
        }
    }
}

fn parse(args: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options {
        quick: false,
        peers: true,
        strict: false,
        only: Vec::new(),
        rounds: None,
        svg: None,
        instructions: false,
        record: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("`{arg}` needs a value"));
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => options.quick = true,
            "--no-peers" => options.peers = false,
            "--strict" => options.strict = true,
            "--only" => options.only.push(value()?),
            "--rounds" => options.rounds = Some(value()?),
            "--svg" => options.svg = Some(value()?.into()),
            "--instructions" => options.instructions = true,
            "--record" => options.record = true,
            other => return Err(format!("`{other}` is no option")),
        }
    }
    if let Some(unknown) = options.only.iter().find(|name| !names().contains(&name.as_str())) {
        return Err(format!("there is no measure `{unknown}`, only {}", names().join(", ")));
    }
    Ok(Some(options))
}

fn names() -> Vec<&'static str> {
    MEASURES.iter().map(|m| m.name).collect()
}

fn say(what: &str) {
    // Nobody listens: then there is nobody to tell, either.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

/// The root of the repository.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where everything goes that this task makes.
fn out_dir() -> Result<PathBuf, String> {
    let dir = root().join("target/bench");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// Measures and reports; false when a goal was missed and that is to be a failure.
fn run(options: &Options) -> Result<bool, String> {
    let out = out_dir()?;
    let programs = build(options.peers)?;
    let began = Instant::now();
    let mut results = Results::new();
    let before = machine::load();
    for measure in MEASURES.iter().filter(|m| options.only.is_empty() || options.only.iter().any(|o| o == m.name)) {
        let began = Instant::now();
        let outcome = match measure.name {
            "build" => clean_build::measure(options.quick, &out, &mut results),
            _ => one(measure, &programs, options, &mut results),
        };
        say(&format!("{} took {:.0} s", measure.name, began.elapsed().as_secs_f64()));
        if let Err(e) = outcome {
            say(&format!("{} could not be measured: {e}", measure.name));
            results.fail(measure.name, &e);
        }
    }
    let shown: Vec<_> = MEASURES
        .iter()
        .filter(|m| options.only.is_empty() || options.only.iter().any(|o| o == m.name))
        .flat_map(|m| m.rows)
        .collect();
    let machine = machine::describe(before);
    let text = table::terminal(&shown, &results);
    let _ = write!(std::io::stdout(), "{text}");
    write(&out.join("bench.json"), &json::print(&shown, &results, &machine))?;
    write(&out.join("bench.md"), &table::markdown(&shown, &results, &machine))?;
    let chart = options.svg.clone().unwrap_or_else(|| out.join("bench.svg"));
    write(&chart, &svg::draw(&results))?;
    say(&format!("done in {:.0} s; the chart is {}", began.elapsed().as_secs_f64(), chart.display()));
    let failed = results.failures() > 0;
    Ok(!failed && (!options.strict || table::missed(&shown, &results) == 0))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Builds the measuring programs; the folder that they are in.
fn build(peers: bool) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = out_dir()?.join("build");
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--bins",
        "--manifest-path",
        "benches/peers/Cargo.toml",
    ]);
    if !peers {
        command.arg("--no-default-features");
    }
    command.arg("--target-dir").arg(&target).current_dir(root());
    match command.status() {
        Ok(status) if status.success() => Ok(target.join("release")),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(e) => Err(format!("cargo build: {e}")),
    }
}

/// Runs one measure and takes in what it says.
fn one(measure: &Measure, programs: &Path, options: &Options, results: &mut Results) -> Result<(), String> {
    let limit = Duration::from_secs(if options.quick { 60 } else { 900 });
    let mut builder = foster::Fixture::command(programs.join("peers")).arg(measure.name).label(measure.name);
    if options.quick {
        builder = builder.arg("--quick");
    }
    if !options.peers {
        builder = builder.arg("--no-peers");
    }
    if let Some(rounds) = &options.rounds {
        builder = builder.args(["--rounds", rounds]);
    }
    for name in ["FOSTER_DISABLE", "FOSTER_REQUIRE", "FOSTER_TIMEOUT_SCALE"] {
        builder = builder.env_remove(name);
    }
    // It says everything at the end of a row, and all of it is wanted.
    let fx = builder.timeout(limit).buffer(512 << 20).spawn().map_err(|e| format!("{e:?}"))?;
    let said = fx.expect_eof().map_err(|e| format!("{e:?}"))?;
    for line in said.lines() {
        results.take_in(line).ok_or_else(|| format!("it says what makes no sense: {line}"))?;
    }
    let status = fx.expect_exit().map_err(|e| format!("{e:?}"))?;
    if status.success() {
        return Ok(());
    }
    let complaint = fx.within(Duration::from_secs(1)).stderr().expect_eof().unwrap_or_default();
    Err(format!("{status}; {}", complaint.trim_end()))
}
