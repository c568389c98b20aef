//! Everything that a report becomes: the console's text, the files, and what GitHub Actions wants to be told.

mod console;
mod files;
mod finding;
mod github;
pub(super) mod json;
mod junit;
mod markdown;
mod page;
mod paint;
mod sarif;
mod words;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::options::Files;
use super::{Options, Report};

/// The report for standard error: in color, if a person reads it there and wants it.
pub(super) fn for_console(report: &Report) -> String {
    let text = report.to_string();
    if crate::color::is_wanted(io::stderr().is_terminal()) { paint::painted(&text) } else { text }
}

/// Writes every file, and tells GitHub Actions if that is where this runs; where the files are.
///
/// One that cannot be written does not keep the others from being written; the error names each of them.
pub(super) fn write(report: &Report, options: &Options) -> io::Result<Vec<PathBuf>> {
    let mut errors = Vec::new();
    let mut written = Vec::new();
    if let Some(dir) = files::directory(options) {
        written = write_to(report, &dir, &mut errors);
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(summary) = variable("GITHUB_STEP_SUMMARY") {
        // It is shared by all commands of the step.
        errors.extend(files::append(Path::new(&summary), &markdown::job_summary(report)).err());
    }
    if variable("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        let workspace = variable("GITHUB_WORKSPACE").map_or_else(|| report.dir.clone(), PathBuf::from);
        let text = github::annotations(report, &workspace);
        errors
            .extend(io::stdout().write_all(text.as_bytes()).err().map(|e| format!("failed to write annotations: {e}")));
    }
    if errors.is_empty() { Ok(written) } else { Err(io::Error::other(errors.join("\n  "))) }
}

/// Was it asked for that there are files? Then it is an error if there are none.
pub(super) fn was_asked_for(options: &Options) -> bool {
    matches!(options.files, Files::In(_))
}

/// What the console says about the files of a report that has something to tell.
pub(super) fn whereabouts(report: &Report, written: &[PathBuf]) -> String {
    let Some(dir) = written.first().and_then(|file| file.parent()) else { return String::new() };
    if finding::all(report).is_empty() && report.is_clean() {
        return String::new();
    }
    let name = |file: &PathBuf| file.file_name().map(|n| n.to_string_lossy().into_owned());
    let names: Vec<String> = written.iter().filter_map(name).collect();
    format!("leakcheck: the report is in {}: {}\n", words::path_in_words(dir), names.join(", "))
}

impl Report {
    /// Writes JSON, JUnit, SARIF, Markdown and HTML into this directory, which is made if it is not there; where they are.
    ///
    /// [`main`](super::main) does so by itself.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written. The others are written all the same; the error names each that is missing.
    pub fn write_files(&self, dir: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
        let mut errors = Vec::new();
        let written = write_to(self, dir.as_ref(), &mut errors);
        if errors.is_empty() { Ok(written) } else { Err(io::Error::other(errors.join("\n  "))) }
    }

    /// Reads the JSON that [`write_files`](Report::write_files) or the command line has written.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no report, or has another version of the format. The error names the file.
    pub fn read(file: impl AsRef<Path>) -> io::Result<Report> {
        json::read(file.as_ref()).map_err(io::Error::other)
    }
}

fn write_to(report: &Report, dir: &Path, errors: &mut Vec<String>) -> Vec<PathBuf> {
    if let Err(e) = std::fs::create_dir_all(dir) {
        errors.push(format!("failed to make the directory `{}`: {e}", dir.display()));
        return Vec::new();
    }
    let mut written = Vec::new();
    let mut put = |name: &str, text: String| match files::replace(&dir.join(name), &text) {
        Ok(()) => written.push(dir.join(name)),
        Err(e) => errors.push(e),
    };
    put("leakcheck.html", page::text(report));
    put(&json::name(report), json::text(report));
    put("junit.xml", junit::text(report));
    put("leakcheck.sarif", sarif::text(report));
    put("summary.md", markdown::text(report));
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::report::tests::{clean, full};

    #[test]
    fn every_file_is_written_and_the_json_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = full().write_files(dir.path().join("a/b")).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["leakcheck.html", "leakcheck.json", "junit.xml", "leakcheck.sarif", "summary.md"]);
        assert!(files.iter().all(|f| f.metadata().unwrap().len() > 100), "{files:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 5, "nothing temporary is left");
        assert_eq!(Report::read(&files[1]).unwrap(), full());
        let line = whereabouts(&full(), &files);
        let expected = format!(
            "leakcheck: the report is in {}: leakcheck.html, leakcheck.json, ",
            dir.path().join("a/b").display()
        );
        assert!(line.starts_with(&expected), "{line}");
        assert_eq!(whereabouts(&clean(), &files), "", "a clean run has one line");
        assert_eq!(whereabouts(&full(), &[]), "");
    }

    #[test]
    fn what_cannot_be_written_is_named_and_the_rest_is_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("junit.xml")).unwrap();
        let error = full().write_files(dir.path()).unwrap_err().to_string();
        let start = format!("failed to write `{}`: ", dir.path().join("junit.xml").display());
        assert!(error.starts_with(&start) && error.lines().count() == 1, "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = full().write_files(dir.path().join("file")).unwrap_err().to_string();
        assert!(error.starts_with("failed to make the directory `"), "{error}");
    }
}
