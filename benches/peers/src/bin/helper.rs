//! The programs that the measurements start, in one: `helper WHAT [ARGUMENT]`.
//!
//! | WHAT | what it does |
//! |---|---|
//! | `echo [FIFO]` | writes what it reads; with a FIFO, one byte there after each answer |
//! | `echo-on CORE` | the same, and it stays on this core |
//! | `flood BYTES [FIFO]` | after one line of input: so many bytes in lines, then `the end`; with a FIFO, one byte there then |
//! | `silent` | says `up` and waits |
//! | `quick`, `slow`, `stubborn` | `silent` that ends on SIGTERM at once, after 10 ms, or not at all |
//! | `family` | `silent` with a daemon in a session of its own |
//! | `burn` | keeps one core busy |
//! | `suite N` | N tests, each of which starts a program and looks at its status |
//!
//! Each ends by itself when its deadline has passed.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// After so many seconds the program is over, whoever has forgotten it.
const DEADLINE: u32 = 180;

fn main() -> io::Result<()> {
    // SAFETY: no pointer; SIGALRM ends the program, as nobody handles it.
    unsafe { libc::alarm(DEADLINE) };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["echo", fifo @ ..] => echo(fifo.first().copied()),
        ["echo-on", core] => {
            let mut cores = rustix::thread::CpuSet::new();
            cores.set(core.parse().map_err(io::Error::other)?);
            rustix::thread::sched_setaffinity(None, &cores)?;
            echo(None)
        }
        ["flood", bytes, fifo @ ..] => flood(bytes.parse().map_err(io::Error::other)?, fifo.first().copied()),
        ["silent" | "quick"] => up_and_wait(),
        ["slow"] => {
            on_sigterm(late as *const () as libc::sighandler_t);
            up_and_wait()
        }
        ["stubborn"] => {
            on_sigterm(libc::SIG_IGN);
            up_and_wait()
        }
        ["family"] => family(),
        ["daemon"] => daemon(),
        ["burn"] => burn(),
        ["suite", count] => suite(count.parse().map_err(io::Error::other)?),
        _ => Err(io::Error::other("helper: nobody knows how to do that; see the top of helper.rs")),
    }
}

fn on_sigterm(action: libc::sighandler_t) {
    // SAFETY: the handler does what a handler may do.
    unsafe { libc::signal(libc::SIGTERM, action) };
}

/// Async-signal-safe.
extern "C" fn late(_: libc::c_int) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    // SAFETY: a valid time, and no interest in what is left of it; both calls are allowed in a handler.
    unsafe {
        libc::nanosleep(&time, std::ptr::null_mut());
        libc::_exit(0);
    }
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn up_and_wait() -> io::Result<()> {
    say("up\n")?;
    wait_for_ever()
}

/// Input without any buffer in between.
fn read(buf: &mut [u8]) -> io::Result<usize> {
    rustix::io::read(rustix::stdio::stdin(), buf).map_err(Into::into)
}

/// On a terminal, what is typed is not shown: an answer is then an answer.
fn no_echo() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = rustix::stdio::stdin();
    if let Ok(mut modes) = tcgetattr(stdin) {
        modes.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(stdin, OptionalActions::Now, &modes);
    }
}

fn echo(fifo: Option<&str>) -> io::Result<()> {
    no_echo();
    let mut tell = fifo.map(|f| std::fs::OpenOptions::new().write(true).open(f)).transpose()?;
    say("up\n")?;
    let mut buf = [0; 4096];
    loop {
        match read(&mut buf)? {
            0 => return Ok(()),
            n => {
                let mut rest = &buf[..n];
                while !rest.is_empty() {
                    let n = rustix::io::write(rustix::stdio::stdout(), rest)?;
                    rest = &rest[n..];
                }
            }
        }
        if let Some(tell) = &mut tell {
            tell.write_all(b"x")?;
        }
    }
}

fn flood(bytes: u64, fifo: Option<&str>) -> io::Result<()> {
    no_echo();
    let line = b"2026-01-01T00:00:00 INFO server: request 4711 served in 12 ms\n";
    let block: Vec<u8> = line.iter().copied().cycle().take(line.len() * 1057).collect();
    let mut out = io::stdout().lock();
    out.write_all(b"up\n")?;
    out.flush()?;
    let mut buf = [0; 64];
    read(&mut buf)?;
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(block.len()).min(block.len());
        out.write_all(&block[..n])?;
        left -= n as u64;
    }
    out.write_all(b"\nthe end\n")?;
    out.flush()?;
    if let Some(fifo) = fifo {
        std::fs::OpenOptions::new().write(true).open(fifo)?.write_all(b"x")?;
    }
    while read(&mut buf)? > 0 {}
    Ok(())
}

fn family() -> io::Result<()> {
    let own = std::env::current_exe()?;
    let mut child = Command::new(own);
    let mut running = child.arg("daemon").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = running.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // It closes its output when it is in its place.
    io::Read::read_to_end(&mut output, &mut Vec::new())?;
    up_and_wait()
}

fn daemon() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    wait_for_ever()
}

fn burn() -> io::Result<()> {
    say("up\n")?;
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn suite(count: u32) -> io::Result<()> {
    for _ in 0..count {
        let status = Command::new("/bin/true").stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(io::Error::other("a test has failed"));
        }
    }
    Ok(())
}
