//! The alias in cargo's configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Step, text};

/// The file for the alias `xtask` below this root, and what is to be done; left if there is another one of that name.
///
/// Cargo reads the files of every directory above as well, and an alias there is somebody's, too.
pub(super) fn alias(root: &Path, words: &str) -> Result<(PathBuf, Step), String> {
    for dir in root.ancestors() {
        for name in [".cargo/config.toml", ".cargo/config"] {
            let path = dir.join(name);
            let Some(content) = read(&path)? else { continue };
            let found = of(&content).map_err(|e| format!("{}: {e}", path.display()))?;
            if let Some(found) = found {
                let ours = ["run --quiet --example xtask --", words].contains(&found.as_str());
                let step =
                    if ours { Step::Present("the alias `xtask`".to_owned()) } else { Step::Left(format!("`{found}`")) };
                return Ok((path, step));
            }
        }
    }
    let old = root.join(".cargo/config");
    let path = if old.is_file() { old } else { root.join(".cargo/config.toml") };
    let content = read(&path)?.unwrap_or_default();
    let line = format!("xtask = \"{words}\"");
    let text = match DeTable::parse(&content) {
        Ok(document) => text::with_line(&content, document.get_ref(), "alias", &line),
        Err(e) => return Err(format!("{}: {}", path.display(), e.message())),
    };
    let step = match of(&text) {
        Ok(Some(found)) if found == words => Step::Write { text, what: "the alias `xtask`".to_owned() },
        _ => return Err(format!("{} cannot be changed safely; add this under `[alias]`:\n    {line}", path.display())),
    };
    Ok((path, step))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(format!("failed to read {}: {e}", path.display())),
    }
}

/// The alias, in one line: cargo takes a string or a list.
fn of(content: &str) -> Result<Option<String>, String> {
    let document = DeTable::parse(content).map_err(|e| e.message().to_owned())?;
    Ok(text::find(document.get_ref(), &["alias", "xtask"]).map(|value| match value.get_ref() {
        DeValue::Array(words) => words.iter().filter_map(|w| w.get_ref().as_str()).collect::<Vec<_>>().join(" "),
        other => other.as_str().unwrap_or_default().to_owned(),
    }))
}
