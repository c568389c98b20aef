//! What foster adds to a clean debug build, beside its dependencies alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::results::Results;

const ALONE: &str = "its dependencies alone";

const ROUNDS: usize = 4;

/// Two small packages, built in turns, each from nothing.
pub(super) fn measure(quick: bool, out: &Path, results: &mut Results) -> Result<(), String> {
    if quick {
        results.note("build", "left out by --quick");
        return Ok(());
    }
    let root = super::root();
    let foster = format!("foster = {{ path = {:?} }}\n", root.display().to_string());
    // What users of the same means would have without foster: the very lines of its manifest.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).map_err(|e| e.to_string())?;
    let own: Vec<&str> = dependencies(&manifest);
    let chosen = ["assert_cmd", "predicates", "tempfile", "signal-hook", "once_cell", "ctor"];
    let is_chosen = |line: &&&str| line.split_whitespace().next().is_some_and(|name| chosen.contains(&name));
    let alone: Vec<&str> = own.iter().filter(is_chosen).copied().collect();
    if alone.len() != chosen.len() {
        return Err(format!("of {chosen:?}, the manifest has only {alone:?}"));
    }
    let with = out.join("clean/with");
    let without = out.join("clean/without");
    package(&with, &foster)?;
    package(&without, &alone.join("\n"))?;
    for _ in 0..ROUNDS {
        for (name, dir) in [(ALONE, &without), ("foster", &with)] {
            let (took, cpu) = build(dir)?;
            results.add("build", name, took.as_nanos() as f64);
            results.add("build-cpu", name, cpu.as_nanos() as f64);
        }
    }
    results.add("build-copies", "foster", copies(&with)? as f64);
    Ok(())
}

/// The lines of the section `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.lines().skip_while(|l| *l != "[dependencies]").skip(1);
    section.take_while(|l| !l.starts_with('[')).filter(|l| l.contains('=')).collect()
}

fn package(dir: &Path, dependencies: &str) -> Result<(), String> {
    let manifest = format!(
        "[workspace]\n\n[package]\nname = \"clean\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n"
    );
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(dir.join("src"))?;
        fs::write(dir.join("Cargo.toml"), manifest)?;
        fs::write(dir.join("src/lib.rs"), "")?;
        // The same versions for both, and those that foster is tested with.
        fs::copy(super::root().join("Cargo.lock"), dir.join("Cargo.lock")).map(drop)
    };
    write().map_err(|e| format!("{}: {e}", dir.display()))
}

fn cargo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo xtask` has set for this package is not meant for those.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("CARGO_PKG_") || key == "CARGO_TARGET_DIR" {
            command.env_remove(key);
        }
    }
    command.args(args).arg("--offline").current_dir(dir);
    command
}

/// Wall time and processor time.
fn build(dir: &Path) -> Result<(Duration, Duration), String> {
    match fs::remove_dir_all(dir.join("target")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.to_string()),
        _ => {}
    }
    let before = used_by_children();
    let began = Instant::now();
    let status = cargo(dir, &["build", "--quiet", "--target-dir", "target"]).status().map_err(|e| e.to_string())?;
    let took = began.elapsed();
    if !status.success() {
        return Err(format!("cargo build in {}: {status}", dir.display()));
    }
    Ok((took, used_by_children().saturating_sub(before)))
}

/// How many packages are there in more than one version.
fn copies(dir: &Path) -> Result<usize, String> {
    let output = cargo(dir, &["tree", "--duplicates", "--depth", "0", "--prefix", "none"]).output();
    let output = output.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|l| !l.trim().is_empty()).count())
}

/// Processor time of children that have ended: fields 16 and 17 of /proc/self/stat (proc(5)), in ticks of 10 ms.
fn used_by_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dependencies_are_read_from_the_manifest() {
        let manifest =
            "[features]\na = []\n\n[dependencies]\nb = \"1\"\nc = { version = \"2\" }\n\n[lints]\nd = true\n";
        assert_eq!(dependencies(manifest), ["b = \"1\"", "c = { version = \"2\" }"]);
    }
}
