//! What a run gets of its own: a temporary directory, and one in which foster notes what its fixtures do.
//!
//! With a temporary directory of its own, what a suite leaves in the file system can be told from what others have left
//! there; and it is removed, so that nothing piles up.
//!
//! The path is short, because that of a unix socket may have no more than 107 bytes (unix(7)). For nobody but the user it is,
//! except for root: whose tests can become another user, which must then find its way in, as into `/tmp`. Nobody can list
//! the directory around it, but it is no secret.

use std::cell::{Cell, OnceCell};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::journal::Journal;
use super::{Options, Report, late, leftovers};
use crate::sys::supervise::say_all;
use crate::sys::{OwnedFd, fds, process};

/// What the directory's name begins with.
const PREFIX: &str = "foster-";

/// The file in it that is locked while the check lives.
const LOCK: &str = "lock";

/// Both directories; dropping it removes them.
#[derive(Debug)]
pub(super) struct RunDir {
    /// `None` when it has been removed, or is kept.
    dir: Option<TempDir>,
    /// The suite's temporary directory is ours.
    own_tmp: bool,
    /// Something lives on that may need it.
    needed: Cell<bool>,
    /// As long as this is locked, the check lives.
    _lock: Option<OwnedFd>,
    journal: OnceCell<Journal>,
}

impl RunDir {
    pub(super) fn new(options: &Options) -> io::Result<RunDir> {
        let mut base = std::env::temp_dir();
        if base.as_os_str().is_empty() {
            // `TMPDIR=` means the same to most programs as no TMPDIR at all.
            base = "/tmp".into();
        }
        RunDir::under(&base, options.own_temp_dir, process::user() == 0)
    }

    fn under(base: &Path, own_tmp: bool, root: bool) -> io::Result<RunDir> {
        let base = std::path::absolute(base)?;
        let failed =
            |e: io::Error| io::Error::new(e.kind(), format!("failed to make a directory in `{}`: {e}", base.display()));
        // It is made for its user only (mkdtemp(3)), and opened afterwards.
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base).map_err(failed)?;
        sweep(&base);
        let lock = lock_in(dir.path()).map_err(failed)?;
        let made = RunDir { dir: Some(dir), own_tmp, needed: Cell::new(false), _lock: lock, journal: OnceCell::new() };
        // As in `/tmp`, everybody may make files, and nobody may remove those of others. Journals cannot be listed.
        let (around, tmp, journal) = if root { (0o711, 0o1777, 0o1733) } else { (0o700, 0o700, 0o700) };
        for (path, mode) in [(made.tmp(), tmp), (made.journals(), journal), (made.path().to_owned(), around)] {
            if path != made.path() {
                fs::create_dir(&path).map_err(failed)?;
            }
            // Not by `mkdir`, where the umask has a say.
            fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok(made)
    }

    /// The directory around the others: for whatever else a run needs that is to be gone with it.
    pub(super) fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    fn tmp(&self) -> PathBuf {
        self.path().join("tmp")
    }

    fn journals(&self) -> PathBuf {
        self.path().join("journal")
    }

    /// Tells the suite about them.
    pub(super) fn apply(&self, suite: &mut Command) {
        suite.env("FOSTER_LEAKCHECK", self.journals());
        if self.own_tmp {
            suite.env("TMPDIR", self.tmp());
        }
    }

    fn journal(&self) -> &Journal {
        self.journal.get_or_init(|| Journal::read(&self.journals()))
    }

    /// What foster's fixtures have noted: helpers, and the fixtures of leaks.
    pub(super) fn read_journals(&self, report: &mut Report) {
        late::tell(report, self.journal());
    }

    /// What is left in the temporary directory.
    ///
    /// Of a run that was cut short nothing is told: whoever was killed had no occasion to remove anything.
    pub(super) fn read_leftovers(&self, report: &mut Report) {
        let lives = |leak: &super::Leak| leak.deed.spared || leak.survived().is_some();
        let wanted = std::env::var_os("FOSTER_KEEP").is_some_and(|value| value != "0" && !value.is_empty());
        let anything = || fs::read_dir(self.tmp()).is_ok_and(|mut entries| entries.next().is_some());
        let kept = wanted && anything() || leftovers::holds_kept_dirs(&self.tmp());
        self.needed.set(self.own_tmp && (kept || report.leaks.iter().any(lives)));
        let cut_short = report.interrupted.is_some() || report.timed_out_ms.is_some();
        if self.own_tmp && !cut_short {
            report.leftovers = leftovers::read(&self.tmp(), self.journal(), report);
        }
        report.kept_dir = self.needed.get().then(|| self.tmp());
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        if self.needed.get() {
            // A daemon that may stay would find its temporary directory gone, and so would whoever has asked foster to
            // keep that of a fixture.
            let path = dir.keep();
            let _ = fs::remove_dir_all(path.join("journal"));
            // Without it, nobody takes it for one that a check has left behind.
            let _ = fs::remove_file(path.join(LOCK));
            return;
        }
        remove(&dir.keep());
    }
}

fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    // Some tests, and some tools, leave directories into which nobody may write.
    open_up(path);
    if let Err(e) = fs::remove_dir_all(path) {
        say_all(&format!("leakcheck: failed to remove `{}`: {e}\n", path.display()));
    }
}

/// Says that a check lives here. It gets its name when it is locked, so that nobody ever meets it unlocked.
fn lock_in(dir: &Path) -> io::Result<Option<OwnedFd>> {
    let new = dir.join("lock.new");
    let lock = fds::lock(&new, true)?;
    fs::rename(new, dir.join(LOCK))?;
    Ok(lock)
}

/// Removes what checks have left that were killed. Only what is this user's, and says by its lock that nobody is there.
fn sweep(base: &Path) {
    for path in fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let metadata = fs::symlink_metadata(&path).ok().filter(|m| ours && m.is_dir() && m.uid() == process::user());
        // Without a lock it is something else, one that is being made or one that was kept.
        if let (Some(_), Ok(Some(_lock))) = (metadata, fds::lock(&path.join(LOCK), false)) {
            remove(&path);
        }
    }
}

/// Lets its user into every directory; never follows a link.
fn open_up(root: &Path) {
    let mut next = vec![root.to_owned()];
    while let Some(dir) = next.pop() {
        // What is not ours says no.
        let _ = fs::set_permissions(&dir, Permissions::from_mode(0o700));
        let inside = fs::read_dir(&dir).into_iter().flatten().flatten();
        next.extend(inside.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{clean, full};
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn both_are_there_short_and_removed() {
        for root in [false, true] {
            let run = RunDir::under(Path::new("/tmp"), true, root).unwrap();
            let (path, tmp, journals) = (run.path().to_owned(), run.tmp(), run.journals());
            let modes = [mode(&path), mode(&tmp), mode(&journals)];
            assert_eq!(modes, if root { [0o711, 0o1777, 0o1733] } else { [0o700; 3] });
            assert!(tmp.as_os_str().len() <= 24, "{}", tmp.display());
            let mut command = Command::new("suite");
            run.apply(&mut command);
            let told: Vec<_> = command.get_envs().map(|(_, value)| value.unwrap().to_owned()).collect();
            assert_eq!(told, [journals.into_os_string(), tmp.clone().into_os_string()]);
            fs::create_dir_all(tmp.join("closed/inner")).unwrap();
            fs::write(tmp.join("closed/inner/file"), "").unwrap();
            for dir in ["closed/inner", "closed"] {
                fs::set_permissions(tmp.join(dir), Permissions::from_mode(0o0)).unwrap();
            }
            drop(run);
            assert!(!path.exists(), "root: {root}");
        }
    }

    /// A check that is killed removes nothing; the next one does.
    #[test]
    fn what_a_killed_check_has_left_is_removed_by_the_next_one() {
        let base = tempfile::tempdir().unwrap();
        let new = || RunDir::under(base.path(), true, false).unwrap();
        let (lives, mut killed) = (new(), new());
        let there = |run: &Path| run.join("tmp").exists();
        let left = killed.dir.take().unwrap().keep();
        let next = new();
        assert!(there(&left), "it is locked: as far as anybody can tell, it lives");
        drop(killed);
        // Some that are not ours: without a lock, by another name, and a link.
        let others = ["foster-abc", "other"].map(|name| base.path().join(name));
        others.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        fs::write(others[1].join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(&others[1], base.path().join("foster-link")).unwrap();
        let last = new();
        assert!(!left.exists());
        assert!([&lives, &next, &last].iter().all(|run| there(run.path())));
        assert!(others.iter().all(|dir| dir.exists()) && others[1].join(LOCK).exists());
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::set_permissions(outside.path(), Permissions::from_mode(0o500)).unwrap();
        let run = RunDir::under(&std::env::temp_dir(), true, false).unwrap();
        std::os::unix::fs::symlink(outside.path(), run.tmp().join("link")).unwrap();
        open_up(run.path());
        assert_eq!(mode(outside.path()), 0o500);
        drop(run);
        assert!(outside.path().exists());
    }

    #[test]
    fn who_wants_no_directory_of_his_own_gets_none() {
        let run = RunDir::under(&std::env::temp_dir(), false, false).unwrap();
        let mut command = Command::new("suite");
        run.apply(&mut command);
        assert_eq!(command.get_envs().map(|(key, _)| key).collect::<Vec<_>>(), ["FOSTER_LEAKCHECK"]);
        fs::write(run.tmp().join("file"), "").unwrap();
        let mut report = clean();
        run.read_leftovers(&mut report);
        assert!(report.leftovers.is_empty() && report.kept_dir.is_none());
    }

    /// A directory that was kept is no finding, and is there afterwards.
    #[test]
    fn what_foster_has_kept_stays() {
        let run = RunDir::under(&std::env::temp_dir(), true, false).unwrap();
        let path = run.path().to_owned();
        let root = run.tmp().join("foster-40-0123456789abcdef");
        fs::create_dir_all(root.join("fixture-a")).unwrap();
        let mut report = clean();
        run.read_leftovers(&mut report);
        assert_eq!((report.leftovers.len(), report.kept_dir.is_some()), (1, false));
        fs::write(root.join("fixture-a.keep"), "").unwrap();
        run.read_leftovers(&mut report);
        assert_eq!((report.leftovers.len(), report.kept_dir.as_deref()), (0, Some(&*path.join("tmp"))));
        drop(run);
        assert!(root.join("fixture-a").exists());
        fs::remove_dir_all(&path).unwrap();
    }

    /// A daemon that the policy leaves alone may have its sockets there.
    #[test]
    fn what_somebody_needs_stays() {
        let run = RunDir::under(&std::env::temp_dir(), true, false).unwrap();
        let path = run.path().to_owned();
        let mut report = full();
        report.leaks[2].deed.spared = true;
        run.read_leftovers(&mut report);
        assert_eq!(report.kept_dir.as_deref(), Some(&*path.join("tmp")));
        drop(run);
        assert!(path.join("tmp").exists() && !path.join("journal").exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn of_a_run_that_was_cut_short_nothing_is_told() {
        for cut in [true, false] {
            let run = RunDir::under(&std::env::temp_dir(), true, false).unwrap();
            fs::write(run.tmp().join("file"), "").unwrap();
            let mut report = Report { interrupted: cut.then_some(2), ..clean() };
            run.read_leftovers(&mut report);
            assert_eq!(report.leftovers.len(), usize::from(!cut));
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let error = RunDir::under(Path::new("/nonexistent"), true, false).unwrap_err();
        assert!(error.to_string().starts_with("failed to make a directory in `/nonexistent`: "), "{error}");
    }
}
