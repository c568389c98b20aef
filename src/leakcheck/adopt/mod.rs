//! `leakcheck init`: what makes `cargo xtask leakcheck` work in a package that has no xtask.
//!
//! Three things: an example whose `main` is [`foster::leakcheck::main`](super::main), the dev-dependency with its feature,
//! and cargo's alias. What people wrote stays as it is, to the byte; every change is read back before it is written, and
//! what cannot be changed safely is left, with the lines to add by hand.

mod config;
mod manifest;
mod text;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::COULD_NOT_CHECK;
use crate::sys::supervise::say_all;

const EXAMPLE: &str = "\
//! `cargo xtask leakcheck`: the tests under the leak check.

fn main() -> std::process::ExitCode {
    foster::leakcheck::main()
}
";

const ARM: &str = "Some(\"leakcheck\") => foster::leakcheck::main()";

/// What is to be done about one of the three.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It is there.
    Present(String),
    /// The whole text of the file, and what is new in it.
    Write { text: String, what: String },
    /// People have to do it.
    Left(String),
}

pub(super) fn run() -> ExitCode {
    let here = match std::env::current_dir() {
        Ok(here) => here,
        Err(e) => {
            say_all(&format!("leakcheck: there is no current directory: {e}\n"));
            return COULD_NOT_CHECK.into();
        }
    };
    let (said, complete) = init(&here);
    say_all(&said);
    if complete { ExitCode::SUCCESS } else { COULD_NOT_CHECK.into() }
}

/// Does it, from this directory; what to say about it, and whether `cargo xtask leakcheck` works now.
fn init(here: &Path) -> (String, bool) {
    match plan(here) {
        Ok(steps) => carry_out(here, steps),
        Err(complaint) => (format!("leakcheck: {complaint}\n"), false),
    }
}

type Steps = Vec<(PathBuf, Step)>;

fn plan(here: &Path) -> Result<Steps, String> {
    let nearest = here.ancestors().find(|dir| dir.join("Cargo.toml").is_file());
    let package = nearest.ok_or("there is no Cargo.toml, here or above; `init` is for a package")?;
    let path = package.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("failed to read {}: {e}", path.display()))?;
    let Some(name) = manifest::package(&text).map_err(|e| format!("{}: {e}", shown(&path, here)))? else {
        return Err(format!(
            "{} is a workspace without a package of its own\n  help: run `init` in one of its members, or make a package \
             `xtask` with the dependency\n        {}\n        whose `main` calls `foster::leakcheck::main()`",
            shown(&path, here),
            manifest::dependency()
        ));
    };
    let root = workspace(package);
    let words = match &root {
        Some(_) => format!("run --quiet --package {name} --example xtask --"),
        None => "run --quiet --example xtask --".to_owned(),
    };
    let (config, alias) = config::alias(root.as_deref().unwrap_or(package), &words)?;
    if let Step::Left(found) = alias {
        return Err(format!(
            "{}: there is an xtask already: {found}\n  help: give it the dependency\n        {}\n        and, where it \
             looks at its first argument, one more arm:\n        {ARM}",
            shown(&config, here),
            manifest::dependency()
        ));
    }
    let example = package.join("examples/xtask.rs");
    let main = match fs::read_to_string(&example) {
        Ok(text) if text.contains("leakcheck::main") => Step::Present("it calls the leak check".to_owned()),
        Ok(_) => {
            Step::Left(format!("it is yours; where it looks at its first argument, it needs one more arm:\n    {ARM}"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Step::Write { text: EXAMPLE.to_owned(), what: "its main is the leak check".to_owned() }
        }
        Err(e) => return Err(format!("failed to read {}: {e}", example.display())),
    };
    Ok(vec![(path, manifest::with_leakcheck(&text)), (example, main), (config, alias)])
}

fn carry_out(here: &Path, steps: Steps) -> (String, bool) {
    let mut said = String::new();
    let mut complete = true;
    for (path, step) in steps {
        let (verb, what) = match step {
            Step::Present(what) => ("there", what),
            Step::Left(what) => ("left", what),
            Step::Write { text, what } => {
                let verb = if path.exists() { "changed" } else { "written" };
                match put(&path, &text) {
                    Ok(()) => (verb, what),
                    Err(e) => ("left", format!("failed to write it: {e}")),
                }
            }
        };
        complete &= verb != "left";
        said += &format!("leakcheck: {verb:<8}{}: {what}\n", shown(&path, here));
    }
    said += if complete {
        "leakcheck: `cargo xtask leakcheck` runs the tests under the leak check now; --help says what else it can do\n"
    } else {
        "leakcheck: `cargo xtask leakcheck` works when what was left has been done\n"
    };
    (said, complete)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)
}

/// The root of the workspace that the package is in, or is.
fn workspace(package: &Path) -> Option<PathBuf> {
    let is_root =
        |dir: &&Path| fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| manifest::is_workspace(&text));
    package.ancestors().find(is_root).map(Path::to_owned)
}

fn shown(path: &Path, here: &Path) -> String {
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests;
