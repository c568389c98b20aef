//! A line there and back over a terminal: to `helper echo` and from it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use foster::Fixture;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::limit::{Burners, Owned, Talker, helper};
use crate::sample::{Match, Options, Result};

/// How often a contestant asks in one turn.
const BATCH: usize = 100;

/// Blocking `write` and `read` on the one descriptor that there is.
struct Raw {
    terminal: File,
    _child: Owned,
}

impl Raw {
    fn start() -> Result<Raw> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut command = Command::new(helper());
        command
            .arg("echo")
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(slave);
        // SAFETY: two system calls, which allocate nothing.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let child = Owned(command.spawn()?);
        // With it go our copies of the helper's end.
        drop(command);
        let mut raw = Raw { terminal: File::from(master), _child: child };
        raw.line()?;
        Ok(raw)
    }

    fn line(&mut self) -> Result {
        let mut buf = [0; 64];
        let mut len = 0;
        while !buf[..len].ends_with(b"\n") {
            match self.terminal.read(&mut buf[len..])? {
                0 => return Err("end of file".into()),
                n => len += n,
            }
        }
        Ok(())
    }
}

impl Talker for Raw {
    fn ask(&mut self) -> Result {
        self.terminal.write_all(b"ping\n")?;
        self.line()
    }
}

struct Foster(Fixture);

impl Foster {
    fn start() -> Result<Foster> {
        let fx = Fixture::command(helper()).arg("echo").pty().spawn()?;
        fx.expect_line("up")?;
        Ok(Foster(fx))
    }
}

impl Talker for Foster {
    fn ask(&mut self) -> Result {
        self.0.send_line("ping")?;
        self.0.expect_line("ping")?;
        Ok(())
    }
}

pub fn measure(options: &Options) -> Result {
    one("pty", options)?;
    let _busy = Burners::start()?;
    one("pty-busy", options)
}

fn one(row: &str, options: &Options) -> Result {
    let mut entered = Match::new(row);
    if row == "pty" {
        entered = entered.alone();
    }
    let all: [(&str, Box<dyn Talker>); 2] =
        [("raw PTY", Box::new(Raw::start()?)), ("foster", Box::new(Foster::start()?))];
    for (name, mut talker) in all {
        entered.enter(name, move |samples| {
            // The first one finds cold caches and a helper that sleeps deeply.
            talker.ask()?;
            for _ in 0..BATCH {
                let began = Instant::now();
                talker.ask()?;
                samples.time(began.elapsed());
            }
            Ok(())
        });
    }
    entered.play(options.rounds(60, 15));
    Ok(())
}
