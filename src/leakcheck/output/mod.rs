//! The files of a report, and what CI systems want to be told.

mod console;

use std::io;
use std::path::PathBuf;

use super::{Options, Report};

/// Writes every file; where they are.
pub(super) fn write(report: &Report, options: &Options) -> io::Result<Vec<PathBuf>> {
    let super::options::Files::In(dir) = &options.files else { return Ok(Vec::new()) };
    std::fs::create_dir_all(dir)?;
    let file = dir.join("leakcheck.json");
    std::fs::write(&file, serde_json::to_string_pretty(report)?)?;
    Ok(vec![file])
}
