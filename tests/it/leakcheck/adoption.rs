//! Each way to adopt the leak check, from a scratch project outside of this repository, as its user would take it.
//!
//! They compile foster as a dependency, once for all of them, so they run only where `FOSTER_TEST_ADOPTION` is set, as in
//! CI.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::cargo;

const LEAKY: &str = "\
#[test]
fn forgets_a_server() {
    use std::process::{Command, Stdio};
    let mut sleeper = Command::new(\"sleep\");
    sleeper.arg(\"50\").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sleeper.spawn().unwrap();
}

#[test]
fn waits() {
    assert!(std::process::Command::new(\"true\").status().unwrap().success());
}
";

fn is_wanted() -> bool {
    let wanted = std::env::var_os("FOSTER_TEST_ADOPTION").is_some_and(|value| !value.is_empty());
    if !wanted {
        let _ = writeln!(std::io::stderr(), "SKIPPED: it compiles scratch projects; FOSTER_TEST_ADOPTION=1 runs it");
    }
    wanted
}

/// Where all of them build. Below this repository's, so that the next run finds it built.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("adoption")
}

fn foster() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// A project with these files. The lock file is ours, so that nothing has to be looked up.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::copy(Path::new(foster()).join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    dir
}

/// Runs cargo in that project, as a person would type it.
fn cargo_in(dir: &Path, args: &[&str]) -> Output {
    finish(cargo::command().args(args).current_dir(dir))
}

fn finish(command: &mut Command) -> Output {
    command.env("CARGO_TARGET_DIR", target()).env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never");
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_status(output: &Output, expected: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(expected), "{}\n{stderr}", String::from_utf8_lossy(&output.stdout));
    stderr
}

/// `cargo install`, into a directory of its own; the directory of the program.
fn install() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut command = cargo::command();
    command.args(["install", "--quiet", "--locked", "--debug", "--path", foster(), "--bin", "cargo-foster"]);
    command.args(["--features", "leakcheck", "--root"]).arg(root.path());
    assert_status(&finish(&mut command), 0);
    assert!(root.path().join("bin/cargo-foster").is_file());
    root
}

#[test]
fn a_package_without_an_xtask_gets_one() {
    if !is_wanted() {
        return;
    }
    let manifest = format!(
        "[package]\nname = \"shop\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dev-dependencies]\nfoster = {{ path = \
         \"{}\" }}\n",
        foster()
    );
    let project = project(&[("Cargo.toml", &manifest), ("src/lib.rs", ""), ("tests/it.rs", LEAKY)]);
    let program = install();
    let init = || {
        let mut command = Command::new(program.path().join("bin/cargo-foster"));
        assert_status(&finish(command.args(["leakcheck", "init"]).current_dir(project.path())), 0)
    };
    let said = init();
    assert_eq!(said.matches("leakcheck: written ").count(), 2, "{said}");
    assert_eq!(said.matches("leakcheck: changed Cargo.toml").count(), 1, "{said}");
    assert_eq!(init().matches("leakcheck: there   ").count(), 3);

    let leaky = assert_status(&cargo_in(project.path(), &["xtask", "leakcheck", "--grace", "100"]), 23);
    assert!(leaky.contains("`sleep 50` (pid ") && leaky.contains("forgets_a_server in shop::it"), "{leaky}");
    // The control, with a filter that passes through.
    let clean = cargo_in(project.path(), &["xtask", "leakcheck", "--", "test", "--test", "it", "waits"]);
    let said = assert_status(&clean, 0);
    assert!(said.contains("leakcheck: nothing left behind"), "{said}");
    assert!(String::from_utf8_lossy(&clean.stdout).contains("1 passed"), "the suite's own output passes through");
}

#[test]
fn an_xtask_that_is_there_needs_a_dependency_and_an_arm() {
    if !is_wanted() {
        return;
    }
    let member = "[package]\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let xtask = format!(
        "{member}name = \"xtask\"\n[dependencies]\nfoster = {{ path = \"{}\", features = [\"leakcheck\"] }}\n",
        foster()
    );
    let main = "\
fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(\"leakcheck\") => foster::leakcheck::main(),
        Some(\"lint\") => std::process::ExitCode::from(7),
        _ => std::process::ExitCode::from(8),
    }
}
";
    let project = project(&[
        ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"shop\", \"xtask\"]\n"),
        ("shop/Cargo.toml", &format!("{member}name = \"shop\"\n")),
        ("shop/src/lib.rs", ""),
        ("shop/tests/it.rs", LEAKY),
        ("xtask/Cargo.toml", &xtask),
        ("xtask/src/main.rs", main),
        (".cargo/config.toml", "[alias]\nxtask = \"run --quiet --package xtask --\"\n"),
    ]);
    let run = |args: &[&str]| cargo_in(project.path(), args);
    assert_status(&run(&["xtask", "lint"]), 7);
    let leaky = assert_status(&run(&["xtask", "leakcheck", "--grace", "100"]), 23);
    assert!(leaky.contains("forgets_a_server in shop::it"), "{leaky}");
    assert_status(&run(&["xtask", "leakcheck", "exec", "--", "sh", "-c", "exit 9"]), 9);
    // `init` sees it and says what to do.
    let said = assert_status(&run(&["xtask", "leakcheck", "init"]), 24);
    assert!(said.contains("is a workspace without a package of its own"), "{said}");
}

#[test]
fn an_installed_cargo_foster_is_for_any_repository() {
    if !is_wanted() {
        return;
    }
    let program = install();
    let bin = program.path().join("bin");
    let manifest = "[package]\nname = \"shop\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let project = project(&[("Cargo.toml", manifest), ("src/lib.rs", ""), ("tests/it.rs", LEAKY)]);
    // As cargo finds its subcommands.
    let mut paths = vec![bin.clone()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(paths).unwrap();
    let cargo = |args: &[&str]| finish(cargo::command().args(args).current_dir(project.path()).env("PATH", &path));
    let leaky = assert_status(&cargo(&["foster", "leakcheck", "--grace", "100"]), 23);
    assert!(leaky.contains("forgets_a_server in shop::it"), "{leaky}");
    assert!(target().join("leakcheck/leakcheck.json").is_file());
    assert_status(&cargo(&["foster", "leakcheck", "--", "test", "--test", "it", "waits"]), 0);

    // Without cargo, and without a package.
    let empty = tempfile::tempdir().unwrap();
    let bare = |args: &[&str]| {
        let mut command = Command::new(bin.join("cargo-foster"));
        command.args(args).current_dir(empty.path()).env_remove("CARGO").env("PATH", "/usr/bin:/bin");
        finish(&mut command)
    };
    for (index, script) in [(1, "true"), (2, "sleep 50 >/dev/null 2>&1 &")] {
        let shard = format!("{index}/2");
        let options =
            ["leakcheck", "--grace", "100", "--shard", &shard, "--report-dir", "reports", "exec", "--", "sh", "-c"];
        let status = if index == 1 { 0 } else { 23 };
        assert_status(&bare(&[&options[..], &[script]].concat()), status);
    }
    let different = assert_status(&bare(&["leakcheck", "merge", "reports"]), 24);
    assert!(different.contains("different suites"), "{different}");
    fs::remove_file(empty.path().join("reports/leakcheck-2-of-2.json")).unwrap();
    let missing = assert_status(&bare(&["leakcheck", "merge", "reports", "--report-dir", "merged"]), 24);
    assert!(missing.contains("shard 2/2 is missing"), "{missing}");

    let help = bare(&["--help"]);
    assert_status(&help, 0);
    assert!(String::from_utf8_lossy(&help.stdout).contains("usage: cargo foster leakcheck"), "{help:?}");
    let version = bare(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("cargo-foster ", env!("CARGO_PKG_VERSION"), "\n"));
    let unknown = assert_status(&bare(&["leakchek"]), 2);
    assert!(unknown.starts_with("cargo-foster: there is no task `leakchek`"), "{unknown}");
}

#[test]
fn the_published_package_has_the_program() {
    if !is_wanted() {
        return;
    }
    let output = cargo_in(Path::new(foster()), &["package", "--list", "--allow-dirty", "--package", "foster"]);
    assert_status(&output, 0);
    let files = String::from_utf8_lossy(&output.stdout);
    assert!(files.lines().any(|file| file == "src/bin/cargo-foster.rs"), "{files}");
    assert!(!files.lines().any(|file| file.starts_with("fixtures/")), "{files}");
}
