//! Pseudo-terminals (pty(7)): a terminal for the helper, and the end of it that the test keeps.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize};

/// What a terminal is like at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
    /// Does the terminal show what is typed?
    pub(crate) echo: bool,
}

/// The longest line that a terminal takes while it collects lines (`N_TTY_BUF_SIZE`, drivers/tty/n_tty.c), with its ending.
/// What is more is lost.
pub(crate) const LONGEST_LINE: usize = 4096;

/// A new terminal: our end, which does not block, and the helper's.
///
/// Both are close-on-exec, and neither becomes the controlling terminal of the test process.
pub(crate) fn open(setup: Setup) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let slave = peer(&master)?;
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    modes.local_modes.set(LocalModes::ECHO, setup.echo);
    // Erasing a character in the terminal's own line editor erases all of its bytes.
    modes.input_modes.insert(InputModes::IUTF8);
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    resize(&master, setup.columns, setup.rows)?;
    super::fds::set_nonblocking(&master)?;
    Ok((master, slave))
}

/// The helper's end. By its name only where the kernel cannot do it without (before Linux 4.13): the name may mean another
/// terminal where `/dev/pts` is another one.
fn peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    match rustix::pty::ioctl_tiocgptpeer(master, flags) {
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::INVAL) => {
            let name = rustix::pty::ptsname(master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(name, flags, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Changes the window's size; the kernel tells the foreground process group by SIGWINCH if it is another one.
pub(crate) fn resize(master: &OwnedFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// How the terminal reads what is typed at this moment.
#[derive(Debug)]
pub(crate) struct Keyboard(Termios);

impl Keyboard {
    pub(crate) fn of(master: &OwnedFd) -> io::Result<Keyboard> {
        Ok(Keyboard(rustix::termios::tcgetattr(master)?))
    }

    /// Does it collect whole lines for the helper?
    pub(crate) fn is_by_lines(&self) -> bool {
        self.0.local_modes.contains(LocalModes::ICANON)
    }

    /// The character that ends the input; Ctrl-D if there is none.
    pub(crate) fn end_of_file(&self) -> u8 {
        match self.0.special_codes[SpecialCodeIndex::VEOF] {
            0 => 4,
            code => code,
        }
    }

    /// Is nothing of a line left after this character?
    pub(crate) fn ends_line(&self, last: u8) -> bool {
        use SpecialCodeIndex as Index;
        // Ctrl-C and the like throw the line away.
        let special = [Index::VEOF, Index::VINTR, Index::VQUIT, Index::VSUSP, Index::VKILL, Index::VEOL];
        let codes = special.map(|index| self.0.special_codes[index]);
        matches!(last, b'\n' | b'\r') || (last != 0 && codes.contains(&last))
    }
}

/// The child that this command starts leads a session of its own, whose terminal is its standard input.
pub(crate) fn lead_session(command: &mut Command) {
    let prepare = || {
        // SAFETY: no arguments, and no memory of ours.
        if unsafe { libc::setsid() } < 0 {
            return Err(io::Error::last_os_error());
        }
        take_terminal().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    };
    // SAFETY: between fork and exec it makes two system calls; an error that is a number allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Standard input becomes the controlling terminal of the session that the caller leads; the errno if not.
///
/// Async-signal-safe.
pub(super) fn take_terminal() -> Option<i32> {
    // SAFETY: plain numbers; the last one says not to take it from another session.
    (unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0).then(super::clone::errno)
}

/// Why there is no new terminal, for people.
pub(crate) fn name_refusal(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        // posix_openpt(3) says EAGAIN.
        Some(libc::ENOSPC | libc::EAGAIN) => "the system has no pseudo-terminals left (/proc/sys/kernel/pty/max)",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "there are no pseudo-terminals here: /dev/ptmx is missing, or /dev/pts is not mounted"
        }
        Some(libc::EACCES | libc::EPERM) => "/dev/ptmx may not be opened",
        Some(code) if super::is_exhaustion(code) => super::name_shortage(e),
        _ => "no pseudo-terminal can be made",
    }
}
