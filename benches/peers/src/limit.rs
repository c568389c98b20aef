//! The limit: what a test would do by hand with the kernel's own means, `std::process` and nothing in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::sample::Result;

/// The path of `helper`, which is beside this program.
pub fn helper() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    own.with_file_name("helper")
}

/// The helper as std would start it, with three pipes.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(helper());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that is killed and waited for at the end of its scope.
pub struct Owned(pub Child);

impl Owned {
    /// Starts it and waits until it says that it is up.
    pub fn up(args: &[&str]) -> Result<Owned> {
        let mut owned = Owned(command(args).spawn()?);
        let mut word = [0; 3];
        owned.0.stdout.as_mut().ok_or("no output")?.read_exact(&mut word)?;
        Ok(owned)
    }

    pub fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout)> {
        Ok((self.0.stdin.take().ok_or("no input")?, self.0.stdout.take().ok_or("no output")?))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One busy program for each core, until the end of the scope.
pub struct Burners(#[expect(dead_code, reason = "held, for its end")] Vec<Owned>);

impl Burners {
    pub fn start() -> Result<Burners> {
        let cores = std::thread::available_parallelism()?.get();
        Ok(Burners((0..cores).map(|_| Owned::up(&["burn"])).collect::<Result<_>>()?))
    }
}

/// Somebody who asks `helper echo` and gets an answer.
pub trait Talker: Send {
    fn ask(&mut self) -> Result;
}

/// Blocking `write` and `read`.
pub struct Raw {
    stdin: ChildStdin,
    stdout: ChildStdout,
    _child: Owned,
}

impl Raw {
    pub fn start(args: &[&str]) -> Result<Raw> {
        let mut child = Owned::up(args)?;
        let (stdin, stdout) = child.pipes()?;
        Ok(Raw { stdin, stdout, _child: child })
    }
}

impl Talker for Raw {
    fn ask(&mut self) -> Result {
        self.stdin.write_all(b"ping\n")?;
        let mut buf = [0; 64];
        let mut len = 0;
        while !buf[..len].ends_with(b"\n") {
            match self.stdout.read(&mut buf[len..])? {
                0 => return Err("end of file".into()),
                n => len += n,
            }
        }
        Ok(())
    }
}

/// What is often written by hand: a thread that reads lines into a channel.
pub struct Threaded {
    stdin: ChildStdin,
    lines: Receiver<String>,
    _child: Owned,
}

impl Threaded {
    pub fn start(args: &[&str]) -> Result<Threaded> {
        let mut child = Owned::up(args)?;
        let (stdin, stdout) = child.pipes()?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Threaded { stdin, lines, _child: child })
    }

    pub fn send(&mut self, text: &[u8]) -> Result {
        Ok(self.stdin.write_all(text)?)
    }

    pub fn wait_for(&self, text: &str, limit: Duration) -> Result {
        while self.lines.recv_timeout(limit)? != text {}
        Ok(())
    }
}

impl Talker for Threaded {
    fn ask(&mut self) -> Result {
        self.send(b"ping\n")?;
        self.wait_for("ping", Duration::from_secs(10))
    }
}
