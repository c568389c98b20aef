//! Control groups, version 2 (cgroups(7)): one per fixture below our own, where the kernel lets us make them.
//!
//! What a cgroup adds to a keeper: `cgroup.kill` (Linux 5.14) ends everything in it in one step, however fast it forks,
//! whoever it runs as, and even if its keeper is gone.
//! No controller is enabled in them, so they limit nothing and count nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A cgroup that we have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a cgroup below the one that this process is in, if it can have what we need there.
    ///
    /// # Errors
    ///
    /// In words, what is missing.
    pub(crate) fn probe(name: &str) -> Result<Cgroup, String> {
        let own = own_directory().ok_or("no cgroup v2 is mounted that shows this process")?;
        let failed = |what: &str, path: &Path, e: io::Error| format!("{what} {}: {e}", path.display());
        if !super::clone3::is_there() {
            return Err("clone3 with CLONE_INTO_CGROUP is not there (Linux 5.7) or not allowed".to_owned());
        }
        // Whoever starts a process in a cgroup must be allowed to move it there from where it would have been.
        let procs = own.join("cgroup.procs");
        std::fs::OpenOptions::new().write(true).open(&procs).map_err(|e| failed("opening", &procs, e))?;
        let made = Cgroup::make(own.join(name)).map_err(|e| failed("making", &own.join(name), e))?;
        if !made.0.join("cgroup.kill").exists() {
            made.remove_all();
            return Err("there is no cgroup.kill (Linux 5.14)".to_owned());
        }
        Ok(made)
    }

    /// Removes what a guardian has made under this name that was killed before it could say where.
    pub(crate) fn forget(name: &str) {
        if let Some(own) = own_directory() {
            Cgroup(own.join(name)).remove_all();
        }
    }

    /// The cgroup at a path that somebody else has made.
    pub(crate) fn at(path: PathBuf) -> Cgroup {
        Cgroup(path)
    }

    fn make(path: PathBuf) -> io::Result<Cgroup> {
        std::fs::create_dir(&path)?;
        Ok(Cgroup(path))
    }

    /// The cgroup of the fixture whose keeper this is, below this one. It need not exist.
    pub(crate) fn of_keeper(&self, pid: i32) -> Cgroup {
        Cgroup(self.0.join(pid.to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// SIGKILL to everything in it and below it; what is forking is included. Nothing happens if it is gone.
    pub(crate) fn kill(&self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Ends what is alive in it, if anything is, and removes it with everything below it.
    ///
    /// What a helper has moved into another pid namespace is no descendant of the keeper's any more, but still in here.
    /// Nobody waits for longer than until the deadline. True if it is gone.
    pub(crate) fn clear(&self, deadline: Instant) -> bool {
        let remove = || matches!(rustix::fs::rmdir(&self.0), Ok(()) | Err(Errno::NOENT));
        if remove() {
            return true;
        }
        if let Ok(events) = std::fs::File::open(self.0.join("cgroup.events")) {
            if is_populated(&events) {
                self.kill();
            }
            while is_populated(&events) && Instant::now() < deadline {
                wait_for_change(&events, (Instant::now() + LOOK_AGAIN).min(deadline));
            }
        }
        self.remove_all();
        remove()
    }

    /// Removes it with everything below it, as far as nothing is alive there.
    fn remove_all(&self) {
        // A helper may have made some of its own below its fixture's. They are directories that only rmdir removes.
        let mut found = vec![self.0.clone()];
        let mut next = 0;
        while let Some(dir) = found.get(next) {
            let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let below: Vec<_> = below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
            found.extend(below);
            next += 1;
        }
        for dir in found.iter().rev() {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// A cgroup for one fixture after the other.
#[derive(Debug)]
pub(crate) struct Compartment {
    cgroup: Cgroup,
    /// For processes to be started in.
    dir: OwnedFd,
    events: std::fs::File,
}

impl Compartment {
    /// Makes the cgroup.
    pub(crate) fn make(cgroup: Cgroup) -> io::Result<Compartment> {
        let cgroup = Cgroup::make(cgroup.0)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&cgroup.0, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|dir| Ok((dir, std::fs::File::open(cgroup.0.join("cgroup.events"))?)));
        match opened {
            Ok((dir, events)) => Ok(Compartment { cgroup, dir, events }),
            Err(e) => {
                cgroup.remove_all();
                Err(e)
            }
        }
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Is nothing in it, neither a process nor a cgroup that a helper has made? Then the next fixture can have it as it is,
    /// which saves the kernel from taking it down and making another: half of what a short helper costs.
    pub(crate) fn is_vacant(&self) -> bool {
        // What somebody else has removed cannot be read any more (ENODEV). One that a helper has left frozen would stop the
        // next one before its `exec`, and its keeper with it.
        let mut text = [0; 256];
        let n = self.events.read_at(&mut text, 0).unwrap_or(0);
        let says = |what: &[u8]| text[..n].split(|b| *b == b'\n').any(|line| line == what);
        let empty = says(b"populated 0") && !says(b"frozen 1");
        // A directory of kernfs has one link for each directory in it, and two for itself (fs/kernfs/inode.c).
        empty && rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 2)
    }
}

fn is_populated(events: &std::fs::File) -> bool {
    let mut text = [0; 256];
    matches!(events.read_at(&mut text, 0), Ok(n) if text[..n].split(|b| *b == b'\n').any(|line| line == b"populated 1"))
}

/// How long a change may go unnoticed.
///
/// The kernel tells of a change at most every 10 ms, later if need be; but if somebody else removes the cgroup before that,
/// it tells nobody (`cgroup_file_notify` in kernel/cgroup/cgroup.c).
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The file reports each change as an exceptional condition (cgroups(7)).
fn wait_for_change(events: &std::fs::File, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&timeout));
}

/// Where the file system shows the cgroup that this process is in.
fn own_directory() -> Option<PathBuf> {
    let own = std::fs::read("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let dir = find(&own, &mounts)?;
    // Something else may have been mounted over it.
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    let magic = rustix::fs::statfs(&dir).ok()?.f_type;
    u64::try_from(magic).is_ok_and(|m| m == CGROUP2_SUPER_MAGIC).then_some(dir)
}

/// From the contents of `/proc/self/cgroup` and `/proc/self/mountinfo` (proc(5)).
fn find(own: &[u8], mounts: &[u8]) -> Option<PathBuf> {
    let own = own.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    mounts.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        // Six fields, any number of optional ones, the separator, and the type of the file system.
        let separator = 6 + fields.iter().skip(6).position(|f| *f == b"-")?;
        if *fields.get(separator + 1)? != b"cgroup2" {
            return None;
        }
        let (root, point) = (unescape(fields.get(3)?), unescape(fields.get(4)?));
        let below = Path::new(std::ffi::OsStr::from_bytes(own)).strip_prefix(root).ok()?.to_owned();
        // A path that leads out of the namespace's root names somebody else's cgroup.
        (!below.components().any(|c| c == std::path::Component::ParentDir)).then(|| point.join(below))
    })
}

/// Space, tab, newline and backslash stand in mountinfo as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => out.push(*byte),
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n";

    #[test]
    fn our_cgroup_is_found_where_it_is_mounted() {
        let find = |own: &str, mounts: &[u8]| find(own.as_bytes(), mounts).map(|p| p.display().to_string());
        let own = "9:name=systemd:/x\n4:memory:/y\n0::/a/b.scope\n";
        assert_eq!(find(own, HYBRID).as_deref(), Some("/sys/fs/cgroup/unified/a/b.scope"));
        // Only a part of the hierarchy is mounted, at a place with a space in its name.
        let part = b"1 2 0:1 /a /mnt/the\\040place rw - cgroup2 x rw\n";
        assert_eq!(find(own, part).as_deref(), Some("/mnt/the place/b.scope"));
        let other = b"1 2 0:1 /other /mnt rw - cgroup2 x rw\n";
        assert_eq!(find(own, other), None, "a part that we are not in");
        assert_eq!(find("9:name=systemd:/x\n", HYBRID), None, "version 1 only");
        assert_eq!(find(own, b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None, "not mounted");
        assert_eq!(find("0::/../outside\n", HYBRID), None, "outside of our cgroup namespace");
        for garbage in [&b""[..], b"\n", b"1 2 3", b"- cgroup2", b"1 2 3 / - cgroup2"] {
            assert_eq!(find(own, garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn escapes_of_mountinfo() {
        assert_eq!(unescape(b"/a\\040b\\134c\\011"), Path::new("/a b\\c\t"));
        assert_eq!(unescape(b"\\04"), Path::new("\\04"));
        assert_eq!(unescape(b"\\999"), Path::new("\\999"));
    }
}
