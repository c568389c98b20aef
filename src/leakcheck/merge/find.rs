//! The reports that a merge is about: files, and directories that hold some.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::leakcheck::Report;
use crate::leakcheck::output::json;

/// CI systems put each artifact into a directory of its own, and Bazel's are as deep as the source.
const DEPTH: usize = 24;

/// A report, and where it was.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) report: Report,
}

/// Every report. The error has a line for each file that is none, or says that there is none at all.
///
/// A file that is named has to be a report. In a directory, other JSON is nobody's mistake, and neither is the result of
/// an earlier merge.
pub(super) fn reports(from: &[PathBuf]) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut complaints = Vec::new();
    for path in from {
        if path.is_dir() {
            let mut files = Vec::new();
            walk(path, DEPTH, &mut files).map_err(|e| format!("failed to read {}: {e}", path.display()))?;
            files.sort();
            for file in files {
                if is_something_else(&file) {
                    continue;
                }
                match json::read(&file) {
                    Ok(report) if report.shards.is_empty() => found.push(Found { path: file, report }),
                    Ok(_) => {}
                    Err(complaint) => complaints.push(complaint),
                }
            }
        } else {
            match json::read(path) {
                Ok(report) if report.shards.is_empty() => found.push(Found { path: path.clone(), report }),
                Ok(_) => complaints.push(format!("`{}` is the result of a merge itself; leave it out", path.display())),
                Err(complaint) => complaints.push(complaint),
            }
        }
    }
    // Named twice, as by a directory and a file in it.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| same_file(&a.path, &b.path));
    if complaints.is_empty() && found.is_empty() {
        let places: Vec<String> = from.iter().map(|path| path.display().to_string()).collect();
        complaints.push(format!("there is no report in {}", places.join(", ")));
    }
    if complaints.is_empty() { Ok(found) } else { Err(complaints.join("\n  ")) }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn walk(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Not through links, which may lead in a circle.
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                walk(&entry.path(), depth - 1, files)?;
            }
        } else if entry.path().extension().is_some_and(|e| e == "json") {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// No regular file, which may have no end, or whole JSON that does not say that it is a report. What is cut may have been
/// one.
fn is_something_else(path: &Path) -> bool {
    if !path.is_file() {
        return true;
    }
    let value = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    value.is_some_and(|value| value.get("foster").is_none() || value.get("schema").is_none())
}
