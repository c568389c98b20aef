//! Cargo, run from inside a test: for what only cargo can build, and for being killed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The cargo that runs this test, without what it and nextest have set for this test only.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg("--offline").current_dir(env!("CARGO_MANIFEST_DIR"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["CARGO_PKG", "CARGO_BIN", "CARGO_MANIFEST", "NEXTEST"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command
}

/// Builds one executable of this workspace, if it is not up to date; where it is.
pub(crate) fn build(name: &str, args: &[&str]) -> PathBuf {
    let mut command = command();
    command.args(["build", "--quiet", "--message-format", "json"]).args(args);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "cargo build {} failed", args.join(" "));
    let text = String::from_utf8(output.stdout).unwrap();
    let target = format!("\"name\":\"{name}\"");
    let path = text.lines().filter(|l| l.contains(&target)).find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    path.expect("cargo names the executable")
}
