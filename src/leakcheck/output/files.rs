//! Where the files go, and how they are written: whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::leakcheck::Options;
use crate::leakcheck::options::Files;
use crate::sys::process;

/// The folder in the build directory.
const FOLDER: &str = "leakcheck";

/// The directory that the options mean; `None` if there are to be no files.
pub(super) fn directory(options: &Options) -> Option<PathBuf> {
    match &options.files {
        Files::Nowhere => None,
        Files::In(dir) => Some(dir.clone()),
        Files::Default if !options.is_cargo => None,
        Files::Default => {
            let of_environment = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
            let target = of_arguments(&options.args, "--target-dir").map(PathBuf::from).or(of_environment);
            Some(target.or_else(|| of_cargo(options)).unwrap_or_else(|| "target".into()).join(FOLDER))
        }
    }
}

/// The value of an option of cargo's. What stands after `--` is for the tests.
fn of_arguments(args: &[OsString], name: &str) -> Option<OsString> {
    let mut words = args.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == name {
            return words.next().cloned();
        }
        let inline = word.to_str().and_then(|w| w.strip_prefix(name)?.strip_prefix('='));
        if let Some(value) = inline {
            return Some(value.into());
        }
    }
    None
}

/// How long cargo may take to say where the target directory is.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// What cargo itself says, which reads its configuration files: `build.target-dir`, the workspace.
fn of_cargo(options: &Options) -> Option<PathBuf> {
    let mut cargo = Command::new(&options.program);
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    for name in ["--manifest-path", "--config"] {
        cargo.args(of_arguments(&options.args, name).map(|value| [name.into(), value]).into_iter().flatten());
    }
    let mut answer = tempfile::tempfile().ok()?;
    let mut child = cargo.stdin(Stdio::null()).stdout(answer.try_clone().ok()?).stderr(Stdio::null()).spawn().ok()?;
    process::reap_child(&mut child, Instant::now() + ASK_LIMIT);
    if !matches!(child.try_wait(), Ok(Some(_))) {
        // It is our own unreaped child, and only a question: the report does not wait for it.
        let _ = child.kill();
        let _ = child.wait();
    }
    answer.rewind().ok()?;
    let metadata: serde_json::Value = serde_json::from_reader(answer).ok()?;
    let target = PathBuf::from(metadata.get("target_directory")?.as_str()?);
    // Shorter, where it is below us: it is printed.
    let here = std::env::current_dir().ok()?;
    Some(target.strip_prefix(here).map(Path::to_owned).unwrap_or(target))
}

/// Writes a file so that nobody ever sees a part of it, and an older one stays if it cannot be written. The error names it.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), String> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|e| {
        // It may not be there.
        let _ = fs::remove_file(&temporary);
        format!("failed to write `{}`: {e}", path.display())
    })
}

/// Adds to a file that others add to as well. The error names it.
pub(super) fn append(path: &Path, text: &str) -> Result<(), String> {
    let append = || fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes());
    append().map_err(|e| format!("failed to add to `{}`: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_directory_is_cargos() {
        let with = |args: &[&str]| directory(&Options::cargo(args.iter().copied()));
        assert_eq!(with(&["test", "--target-dir", "/x"]), Some("/x/leakcheck".into()));
        assert_eq!(with(&["test", "--target-dir=/x", "--", "--target-dir=/y"]), Some("/x/leakcheck".into()));
        let project = tempfile::tempdir().unwrap();
        let manifest = project.path().join("Cargo.toml");
        fs::write(&manifest, "[package]\nname = 'p'\nversion = '0.0.0'\nedition = '2024'\n[lib]\npath = 'l.rs'\n")
            .unwrap();
        let manifest = manifest.to_str().unwrap();
        let configured = Options::cargo(["test", "--manifest-path", manifest, "--config", "build.target-dir='/z'"]);
        // A build directory in the environment wins, as it does for cargo.
        let of_environment = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        assert_eq!(of_cargo(&configured), Some(of_environment.unwrap_or("/z".into())));
    }

    #[test]
    fn where_nobody_builds_or_nobody_wants_files_there_are_none() {
        assert_eq!(directory(&Options::command("make", ["--target-dir=x"])), None);
        assert_eq!(directory(&Options::cargo(["test"]).no_report()), None);
        assert_eq!(directory(&Options::command("make", [""; 0]).report_dir("r")), Some("r".into()));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, "one").unwrap();
        let old = fs::File::open(&path).unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(std::io::read_to_string(old).unwrap(), "one", "whoever reads the old one reads all of it");
        append(&path, "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "twothree");
        let error = replace(&dir.path().join("none/f"), "x").unwrap_err();
        assert!(error.starts_with("failed to write `") && error.contains("none/f`: "), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
