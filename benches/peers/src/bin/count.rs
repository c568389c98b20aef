//! `count WHAT N`: does one thing N times inside of a function whose instructions callgrind counts.
//!
//! `cargo xtask bench --instructions` runs it with `--toggle-collect=counted_*`, so that only what the calling thread does
//! inside of these functions counts, and divides by N. Before each, the answer is there already: otherwise the count would
//! depend on how often somebody looks for it.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use foster::Fixture;

const LINE: &str = "2026-01-01T00:00:00 INFO server: request 4711 served in 12 ms";

/// What `helper flood` is asked for: less than foster keeps unread.
const FLOOD: usize = 512 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, times] = args.as_slice() else { return Err("usage: count WHAT N".into()) };
    let times: usize = times.parse()?;
    let place = Fixture::command("true");
    let path = place.dir().join("told");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
    let told = File::options().read(true).write(true).open(&path)?;
    match what.as_str() {
        "round-trip" => round_trip(times, &path, told),
        "line" => flooded(&path, told, |fx| (0..times).try_for_each(|_| counted_line(fx))),
        "search" => flooded(&path, told, counted_search),
        "spawn" => spawn(times),
        other => Err(format!("nobody counts `{other}`").into()),
    }
}

fn helper() -> Result<PathBuf, Box<dyn Error>> {
    Ok(std::env::current_exe()?.with_file_name("helper"))
}

fn round_trip(times: usize, path: &Path, mut told: File) -> Result<(), Box<dyn Error>> {
    let fx = Fixture::command(helper()?).arg("echo").arg(path).spawn()?;
    fx.expect_line("up")?;
    for _ in 0..times {
        counted_send(&fx)?;
        told.read_exact(&mut [0; 1])?;
        counted_answer(&fx)?;
    }
    Ok(())
}

fn flooded(path: &Path, mut told: File, then: impl FnOnce(&Fixture) -> foster::Result) -> Result<(), Box<dyn Error>> {
    let fx = Fixture::command(helper()?).args(["flood", &FLOOD.to_string()]).arg(path).spawn()?;
    fx.expect_line("up")?;
    fx.send_line("go")?;
    told.read_exact(&mut [0; 1])?;
    Ok(then(&fx)?)
}

fn spawn(times: usize) -> Result<(), Box<dyn Error>> {
    // The first one of a process starts the guardian.
    drop(Fixture::command("/bin/true").spawn()?);
    for _ in 0..times {
        drop(counted_spawn()?);
    }
    Ok(())
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_send(fx: &Fixture) -> foster::Result {
    fx.send_line("ping")
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_answer(fx: &Fixture) -> foster::Result {
    fx.expect_line("ping").map(drop)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_line(fx: &Fixture) -> foster::Result {
    fx.expect_line(LINE).map(drop)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_search(fx: &Fixture) -> foster::Result {
    fx.expect("the end").map(drop)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_spawn() -> foster::Result<Fixture> {
    let fx = Fixture::command("/bin/true").spawn()?;
    fx.expect_exit()?;
    Ok(fx)
}
