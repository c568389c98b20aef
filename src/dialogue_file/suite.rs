//! A test for each dialogue file, for a test target without libtest's harness: what `dialogues!` expands to calls this.

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use super::DialogueFile;

/// Runs, lists or filters the tests, as the command line says.
///
/// # Panics
///
/// When the pattern makes no sense.
#[track_caller]
pub fn main(package: &str, pattern: &str, programs: &[(&str, &str)]) -> ExitCode {
    let at = Location::caller();
    let arguments = Arguments::from_args();
    // Where the tests run may be another place than where they were built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(package), PathBuf::from);
    let files = match files(&package, pattern) {
        Ok(files) => files,
        Err(why) => {
            crate::report::say(&format!("no dialogue is tested: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let here = std::env::current_dir().unwrap_or_default();
    let tests = files.into_iter().map(|(name, path)| {
        let shown = path.strip_prefix(&here).unwrap_or(&path);
        let file = programs.iter().fold(DialogueFile::new(shown), |file, (name, path)| file.program(*name, path));
        Trial::test(name, move || file.check_at(at).map_err(|e| Failed::from(format!("{e:?}"))))
    });
    libtest_mimic::run(&arguments, tests.collect()).exit_code()
}

/// The files of a pattern, with the part of their names that differs.
fn files(package: &Path, pattern: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let fixed: PathBuf = Path::new(pattern).components().take_while(|c| !is_pattern(c.as_os_str())).collect();
    // A pattern without a placeholder is a file.
    let fixed = if fixed == Path::new(pattern) { fixed.parent().unwrap_or(Path::new("")).to_owned() } else { fixed };
    let whole = format!("{}/{pattern}", glob::Pattern::escape(&package.to_string_lossy()));
    let paths = glob::glob(&whole).map_err(|e| format!("`{pattern}` makes no sense: {e}"))?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|e| e.to_string())?;
        if path.is_file() {
            let name = path.strip_prefix(package.join(&fixed)).unwrap_or(&path);
            files.push((name.to_string_lossy().into_owned(), path));
        }
    }
    if files.is_empty() {
        return Err(format!("no file is called `{pattern}` in `{}`", package.display()));
    }
    Ok(files)
}

fn is_pattern(part: &std::ffi::OsStr) -> bool {
    part.to_string_lossy().contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_called_after_their_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/deep")).unwrap();
        for file in ["d/a.dlg", "d/b.dlg", "d/c.txt", "d/deep/e.dlg"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let names = |pattern: &str| {
            files(dir.path(), pattern).map(|all| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(names("d/*.dlg").unwrap(), ["a.dlg", "b.dlg"]);
        assert_eq!(names("d/**/*.dlg").unwrap(), ["a.dlg", "b.dlg", "deep/e.dlg"]);
        assert_eq!(names("d/a.dlg").unwrap(), ["a.dlg"]);
        assert!(names("d/x*.dlg").unwrap_err().contains("no file"));
        assert!(names("d/[").unwrap_err().contains("makes no sense"));
    }
}
