//! Very many fixtures at the same time: what each costs, and what grows with their number.

use std::time::Instant;

use foster::Fixture;

use crate::end::children;
use crate::limit::helper;
use crate::sample::{Options, Result, Samples, note};
use crate::silence::name;
use crate::stop::raise_limit;

pub fn measure(options: &Options) -> Result {
    raise_limit()?;
    let count = options.rounds(2_000, 300);
    note("live-threads", &format!("{count} fixtures"));
    let mut samples = Samples::of("live-spawn");
    let mut all: Vec<Fixture> = Vec::new();
    let tenth = (count / 10).max(1);
    for n in 0..count {
        let began = Instant::now();
        let fx = Fixture::command(helper()).arg("silent").spawn()?;
        let took = began.elapsed();
        fx.expect_line("up")?;
        all.push(fx);
        // The very first ones start what is needed once.
        let place = if n < 5 { continue } else { n };
        if place < tenth + 5 {
            samples.add_as("live-spawn", "the first tenth", took.as_nanos() as f64);
        } else if place >= count - tenth {
            samples.add_as("live-spawn", "the last tenth", took.as_nanos() as f64);
        }
        if n + 1 == 10 {
            samples.add_as("live-threads", "10 fixtures", threads());
        }
    }
    samples.add_as("live-threads", "all fixtures", threads());
    for guardian in children(std::process::id() as i32) {
        for keeper in children(guardian) {
            if name(keeper) == "foster-keeper"
                && let Some(bytes) = private_memory(keeper)
            {
                samples.add_as("live-memory", "keeper", bytes);
            }
        }
    }
    let began = Instant::now();
    foster::stop_all(&all)?;
    samples.add_as("live-stop", "stop_all", began.elapsed().as_nanos() as f64);
    samples.tell();
    Ok(())
}

fn threads() -> f64 {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) as f64
}

/// What only this process uses (proc(5), smaps_rollup).
fn private_memory(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let mut kib = 0;
    for line in text.lines().filter(|l| l.starts_with("Private_")) {
        kib += line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some((kib << 10) as f64)
}
