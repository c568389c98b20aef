//! Much output before the match: how long until it is found, and how much memory that takes.
//!
//! In the second mode the test does something else meanwhile and looks only when the helper has written everything.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use foster::Fixture;
use memchr::memmem;

use crate::limit::{Burners, Owned, helper};
use crate::sample::{Match, Options, Result, Samples};

const MIB: u64 = 1 << 20;
const END: &str = "the end";
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(options: &Options) -> Result {
    let sizes: &[(u64, usize)] = if options.quick { &[(64, 3), (512, 1)] } else { &[(64, 9), (512, 5), (2048, 3)] };
    let dir = Fixture::command("true");
    let fifo = dir.dir().join("written");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
    for &(size, rounds) in sizes {
        waiting(&format!("flood-{size}"), size, options.rounds(rounds, rounds), options)?;
        elsewhere(size, options.rounds(rounds, rounds), &fifo)?;
    }
    let _busy = Burners::start()?;
    waiting("flood-busy", 64, options.rounds(9, 3), options)
}

/// The test waits for the match.
fn waiting(row: &str, size: u64, rounds: usize, options: &Options) -> Result {
    let args = ["flood".to_owned(), (size * MIB).to_string()];
    let args: [&str; 2] = [&args[0], &args[1]];
    let mut entered = Match::new(row);
    entered.enter("raw pipe", |samples| with_memory(samples, || raw(&args, None)));
    entered.enter("raw 256 KiB pipe", |samples| with_memory(samples, || raw(&args, Some(256 << 10))));
    entered.enter("foster", |samples| {
        let fx = Fixture::command(helper()).args(args).spawn()?;
        fx.expect_line("up")?;
        with_memory(samples, || {
            let began = Instant::now();
            fx.send_line("go")?;
            fx.within(LIMIT).expect(END)?;
            Ok(began.elapsed())
        })
    });
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::peers;
        entered.enter("tokio", |samples| {
            let mut tokio = peers::Tokio::start_with(1, &args)?;
            with_memory(samples, || {
                let began = Instant::now();
                tokio.send_and_wait_for(b"go\n", END)?;
                Ok(began.elapsed())
            })
        });
        if row == "flood-64" && !options.quick {
            let limit = Duration::from_secs(40);
            entered.enter_for(1, "rexpect", move |samples| {
                let mut rexpect = peers::Rexpect::start_with(&args, limit)?;
                with_memory(samples, || {
                    let began = Instant::now();
                    gave_up("rexpect", rexpect.send_and_wait_for("go", END));
                    Ok(began.elapsed())
                })
            });
            entered.enter_for(1, "expectrl", move |samples| {
                let mut expectrl = peers::Expectrl::start(&args)?;
                with_memory(samples, || {
                    let began = Instant::now();
                    gave_up("expectrl", expectrl.send_and_wait_for("go", END, limit));
                    Ok(began.elapsed())
                })
            });
        }
    }
    let _ = options;
    entered.play(rounds);
    Ok(())
}

/// A peer that has not found it counts with the time that it had.
#[cfg(feature = "peers")]
fn gave_up(who: &str, result: Result) {
    if let Err(e) = result {
        // Some print all that they have read.
        let why: String = e.to_string().chars().take(60).collect();
        crate::sample::note("flood-64", &format!("{who} has not found it, or not in time: {why}"));
    }
}

/// The test does not wait until all of it has been written.
fn elsewhere(size: u64, rounds: usize, fifo: &Path) -> Result {
    let args = ["flood".to_owned(), (size * MIB).to_string(), fifo.to_string_lossy().into_owned()];
    let plain: [&str; 2] = [&args[0], &args[1]];
    // Open for writing, too, so that neither side waits for the other to open it.
    let mut written = File::options().read(true).write(true).open(fifo)?;
    let mut entered = Match::new(format!("flood-late-{size}"));
    entered.enter("raw pipe", |samples| with_memory(samples, || raw(&plain, None)));
    entered.enter("foster", |samples| {
        let fx = Fixture::command(helper()).args(&args).spawn()?;
        fx.expect_line("up")?;
        with_memory(samples, || {
            let began = Instant::now();
            fx.send_line("go")?;
            written.read_exact(&mut [0; 1])?;
            fx.expect(END)?;
            Ok(began.elapsed())
        })
    });
    entered.play(rounds);
    Ok(())
}

/// `read` and memmem, as fast as one thread can.
fn raw(args: &[&str], pipe: Option<usize>) -> Result<Duration> {
    let mut child = Owned::up(args)?;
    let (mut stdin, mut stdout) = child.pipes()?;
    let mut chunk = 64 << 10;
    if let Some(size) = pipe {
        chunk = rustix::pipe::fcntl_setpipe_size(stdout.as_fd(), size)?;
    }
    let finder = memmem::Finder::new(END);
    let keep = END.len() - 1;
    let mut buf = vec![0; keep + chunk];
    let began = Instant::now();
    stdin.write_all(b"go\n")?;
    loop {
        let n = stdout.read(&mut buf[keep..])?;
        if n == 0 {
            return Err("the end has not come".into());
        }
        if finder.find(&buf[..keep + n]).is_some() {
            return Ok(began.elapsed());
        }
        buf.copy_within(n..n + keep, 0);
    }
}

/// Adds the time, and in another row the most by which this process has grown meanwhile.
fn with_memory(samples: &mut Samples, what: impl FnOnce() -> Result<Duration>) -> Result {
    // proc(5): resets the peak.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory("VmRSS:")?;
    let took = what()?;
    samples.time(took);
    samples.add_to("flood-memory", memory("VmHWM:")?.saturating_sub(before) as f64);
    Ok(())
}

fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix(field)).ok_or("no such field")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
