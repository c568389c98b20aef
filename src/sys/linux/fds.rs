//! Pipes, `poll` with a deadline, and reads and writes that never block and never raise SIGPIPE.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

/// What a caller of [`poll`] waits for on one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Data, end of file or an error.
    Readable,
    /// Room for at least one byte, or an error.
    Writable,
}

/// A pipe, close-on-exec from the start: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Makes reads and writes through this open file description return instead of block.
///
/// The flag lives on the description, so it is set only on ends that the helper does not share.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Asks for a larger pipe; `None` where the kernel refuses (`/proc/sys/fs/pipe-user-pages-soft`, pipe(7)).
pub(crate) fn grow_pipe(fd: &OwnedFd, bytes: usize) -> Option<usize> {
    rustix::pipe::fcntl_setpipe_size(fd, bytes).ok()
}

/// The directory that a path (by default the working directory) names now, as a handle that survives a rename.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A directory for nobody but its user.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// Locks a file, made if `make` says so, until this is dropped or the process ends, however it does (flock(2)); `None` if
/// somebody else has locked it.
#[cfg(feature = "leakcheck")]
pub(crate) fn lock(path: &Path, make: bool) -> io::Result<Option<OwnedFd>> {
    let made = if make { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | made;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&fd, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Appends to a file of this user's own, made if it is not there; with one `write`, unless the disk is full.
///
/// Never follows a link, and never opens what would keep the caller waiting.
pub(crate) fn append(path: &Path, mut bytes: &[u8]) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    while !bytes.is_empty() {
        match write_some(&fd, bytes)? {
            Some(written) if written > 0 => bytes = &bytes[written..],
            _ => return Err(io::ErrorKind::WriteZero.into()),
        }
    }
    Ok(())
}

/// Reads what is there into `buf`: `Ok(None)` when nothing is there yet, `Ok(Some(0))` at end of file.
pub(crate) fn read_some(fd: &OwnedFd, buf: &mut [u8]) -> io::Result<Option<usize>> {
    let mut closed = false;
    loop {
        match rustix::io::read(fd, &mut *buf) {
            Ok(n) => return Ok(Some(n)),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            // The other end of a terminal is closed. What was written in the moment before that may still be on its way
            // (n_tty_read looks for data first, and for the closed end afterwards): nothing can follow now, so the next
            // look is the last.
            Err(rustix::io::Errno::IO) if !closed => closed = true,
            Err(rustix::io::Errno::IO) => return Ok(Some(0)),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Writes what fits: `Ok(None)` when nothing fits now.
///
/// A reader that is gone is an error (`EPIPE`), never a SIGPIPE, whatever the process's disposition is:
/// a test with its own `main` may have left it at the default.
pub(crate) fn write_some(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    super::signals::without_sigpipe(|| {
        loop {
            match rustix::io::write(fd, bytes) {
                Ok(n) => return Ok(Some(n)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    })
}

/// Waits until one of the descriptors is ready or the deadline has passed; which of them are ready.
///
/// `None` as a descriptor is never ready; `None` as the deadline waits for ever.
/// An interrupted wait goes on with the time that is left.
pub(crate) fn poll<const N: usize>(
    what: [Option<(BorrowedFd<'_>, Until)>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut order = Vec::with_capacity(N);
    let mut set = Vec::with_capacity(N);
    for (index, entry) in what.iter().enumerate() {
        if let Some((fd, until)) = entry {
            let flags = match until {
                Until::Readable => PollFlags::IN,
                Until::Writable => PollFlags::OUT,
            };
            order.push(index);
            set.push(PollFd::from_borrowed_fd(*fd, flags));
        }
    }
    loop {
        let timeout = deadline.map(|d| timespec(d.saturating_duration_since(Instant::now())));
        match rustix::event::poll(&mut set, timeout.as_ref()) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut ready = [false; N];
    for (index, entry) in order.iter().zip(&set) {
        ready[*index] = !entry.revents().is_empty();
    }
    Ok(ready)
}

/// As [`poll`] for any number of descriptors that are to be read: waits until one of them is ready.
///
/// An error is treated like a deadline: the caller looks at what is there.
#[cfg(feature = "leakcheck")]
pub(crate) fn await_any(what: &[BorrowedFd<'_>], deadline: Instant) {
    let mut set: Vec<PollFd<'_>> = what.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let left = || timespec(deadline.saturating_duration_since(Instant::now()));
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut set, Some(&left())) {}
}

/// Are there bytes to be read, before any end of file (`FIONREAD`)?
pub(crate) fn has_bytes(fd: impl AsFd) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|n| n > 0)
}

/// Is it ready right now?
pub(crate) fn is_ready(fd: impl AsFd, until: Until) -> bool {
    matches!(poll([Some((fd.as_fd(), until))], Some(Instant::now())), Ok([true]))
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(d.subsec_nanos()) }
}
