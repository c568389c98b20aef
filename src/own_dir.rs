//! A fixture's own temporary directory: made when it is wanted, removed with the fixture, or kept.
//!
//! Where there is a guardian, it lies in the directory that the guardian removes, so that it goes however the test process
//! ends. One that is kept has a file beside it that tells the guardian so: its path, which the helper may know, never changes.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;
use tempfile::TempDir;

use crate::guardian::start;
use crate::{hooks, report, settings};

/// What stands behind the name of a directory in the name of the file that says that it is kept.
const KEPT: &str = ".keep";

/// See the module's description.
#[derive(Debug)]
pub(crate) struct OwnDir {
    /// `None` when it has been let go of.
    dir: Option<TempDir>,
    kept: AtomicBool,
}

impl OwnDir {
    fn make() -> io::Result<OwnDir> {
        hooks::install();
        let dir = match start::root() {
            Some(root) => tempfile::Builder::new().prefix("fixture-").tempdir_in(root)?,
            None => tempfile::Builder::new().prefix("foster-").tempdir()?,
        };
        let own = OwnDir { dir: Some(dir), kept: AtomicBool::new(false) };
        if settings::keep() {
            own.keep()?;
            report::say(&format!("FOSTER_KEEP: the directory {} of a fixture stays", own.path().display()));
        }
        Ok(own)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// From now on nobody removes it, however the test process ends.
    pub(crate) fn keep(&self) -> io::Result<()> {
        if start::root().is_some_and(|root| self.path().starts_with(root)) {
            fs::write(mark_of(self.path()), "")?;
        }
        self.kept.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Acquire) {
            // Only the name of it is dropped.
            let _ = self.dir.take().map(TempDir::keep);
        }
    }
}

fn mark_of(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(KEPT);
    PathBuf::from(name)
}

/// The directory in this cell, made if it is not there yet.
///
/// # Panics
///
/// When it cannot be made.
#[track_caller]
pub(crate) fn of(cell: &OnceCell<OwnDir>) -> &OwnDir {
    match cell.get_or_try_init(OwnDir::make) {
        Ok(dir) => dir,
        Err(e) => panic!("failed to make a temporary directory for a fixture: {e}"),
    }
}

/// Removes the directory that holds those of all fixtures, but for what is to be kept.
///
/// The files that say so stay as well: without a guardian, every keeper does this, and the last must see what the first saw.
/// Never follows a link out of it: std removes relative to open directories (CVE-2022-21658).
pub(crate) fn remove_all(root: &Path) {
    let marks: Vec<PathBuf> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        // A directory that somebody has removed meanwhile needs no mark.
        .filter(|path| path.to_string_lossy().strip_suffix(KEPT).is_some_and(|dir| Path::new(dir).exists()))
        .collect();
    if marks.is_empty() {
        let _ = fs::remove_dir_all(root);
        return;
    }
    for path in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !marks.contains(&path) && !marks.contains(&mark_of(&path)) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_and_the_rest_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("foster-1-0123456789abcdef");
        for name in ["fixture-a", "fixture-b", "fixture-b2"] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("notes"), "x").unwrap();
        }
        fs::write(mark_of(&root.join("fixture-b")), "").unwrap();
        remove_all(&root);
        // Whoever comes second finds the same.
        remove_all(&root);
        let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["fixture-b", "fixture-b.keep"]);
        assert!(root.join("fixture-b/notes").exists());
        // Without a mark, nothing is kept, and a mark without a directory is none.
        fs::create_dir(root.join("fixture-a")).unwrap();
        fs::remove_dir_all(root.join("fixture-b")).unwrap();
        remove_all(&root);
        assert!(!root.exists());
    }
}
