//! `cargo xtask bench --instructions`: how many instructions foster itself needs, counted by callgrind.
//!
//! Times say little on a shared machine and instructions say the same everywhere, so this is what CI can watch.
//! The counts depend on the compiler: those of another version are not compared, and a visible line says so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::machine::rustc;

/// What is counted, how often in one run, into how many parts its count is divided, and by how much that may grow.
///
/// Under callgrind a round trip may last longer than a tick of the attendant, which then has to be told to step back; how
/// often is up to the machine: 2,600 to 4,000 instructions were seen for the same code.
const COUNTED: [(&str, u64, u64, f64); 4] =
    [("round-trip", 200, 200, 1.00), ("line", 2_000, 2_000, 0.05), ("search", 1, 512, 0.05), ("spawn", 30, 30, 0.10)];

/// The least of so many runs: what else happens on a machine only ever adds.
const RUNS: usize = 3;

const HEAD: &str = "\
# Instructions for each operation, by compiler: `cargo xtask bench --instructions` compares, `--record` writes.
# round-trip: a line there and back. line: `expect_line` of a line that has arrived. search: `expect` through 1 KiB that has
# arrived. spawn: from spawn to exit status.
";

/// Counts and compares, or records; false when something needs more than it did.
pub(super) fn run(record: bool) -> Result<bool, String> {
    let programs = super::build(false)?;
    let file = super::root().join("benches/instructions.txt");
    let known = parse(&fs::read_to_string(&file).unwrap_or_default());
    let compiler = rustc();
    let mut out = std::io::stdout();
    if !record && !known.keys().any(|(c, _)| *c == compiler) {
        let _ = writeln!(out, "instructions: skipped, no counts are recorded for {compiler}; --record does that");
        return Ok(true);
    }
    let mut counts = known.clone();
    let mut good = true;
    for (what, times, parts, tolerance) in COUNTED {
        let Some(count) = count(&programs, what, times)? else {
            let _ = writeln!(out, "instructions: skipped, there is no valgrind");
            return Ok(true);
        };
        let each = count / parts;
        let before = known.get(&(compiler.clone(), what.to_owned())).copied();
        let change = before.map_or(0.0, |b| each as f64 / b as f64 - 1.0);
        let verdict = match before {
            None => "new",
            Some(_) if change > tolerance && !record => {
                good = false;
                "MORE"
            }
            Some(_) if change < -tolerance => "less: worth a --record",
            Some(_) => "as before",
        };
        let was = before.map_or("-".to_owned(), |b| b.to_string());
        let _ = writeln!(
            out,
            "{what:<11} {each:>9} instructions, recorded {was:>9}, {:>+5.1} %  {verdict}",
            change * 100.0
        );
        counts.insert((compiler.clone(), what.to_owned()), each);
    }
    if record {
        let lines: String = counts.iter().map(|((c, what), n)| format!("{c} {what} {n}\n")).collect();
        super::write(&file, &format!("{HEAD}{lines}"))?;
    }
    if !good {
        super::say("more instructions than may be; if that is what it takes, record it: --instructions --record");
    }
    Ok(good)
}

type Counts = BTreeMap<(String, String), u64>;

/// Lines of the form `rustc 1.95.0 round-trip 4711`.
fn parse(text: &str) -> Counts {
    let line = |line: &str| {
        let (rest, count) = line.rsplit_once(' ')?;
        let (compiler, what) = rest.rsplit_once(' ')?;
        Some(((compiler.to_owned(), what.to_owned()), count.parse().ok()?))
    };
    text.lines().filter(|l| !l.starts_with('#')).filter_map(line).collect()
}

/// The instructions of all the times together; `None` without valgrind.
fn count(programs: &Path, what: &str, times: u64) -> Result<Option<u64>, String> {
    let mut least: Option<u64> = None;
    for _ in 0..RUNS {
        let place = foster::Fixture::command("valgrind");
        let file = place.dir().join("callgrind.out");
        let valgrind = place
            .args(["--tool=callgrind", "--toggle-collect=counted_*"])
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(programs.join("count"))
            .args([what, &times.to_string()])
            // What is spawned gets a copy of the environment: its size must not count.
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .timeout(Duration::from_secs(120));
        let fx = match valgrind.spawn() {
            Ok(fx) => fx,
            Err(e) if e.kind() == foster::ErrorKind::Spawn => return Ok(None),
            Err(e) => return Err(format!("{e:?}")),
        };
        let status = fx.expect_exit().map_err(|e| format!("{e:?}"))?;
        if !status.success() {
            return Err(format!("count {what}: {status}\n{}", fx.transcript()));
        }
        let text = fs::read_to_string(&file).map_err(|e| format!("callgrind's output: {e}"))?;
        let total = total(&text).ok_or("callgrind's output has no total")?;
        least = Some(least.map_or(total, |l| l.min(total)));
    }
    Ok(least)
}

/// The one number of the last line that callgrind writes for all of it.
fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|l| l.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_counts_are_known_by_compiler() {
        let counts = parse("# a comment 5\nrustc 1.95.0 round-trip 4711\nrustc 1.96.0 round-trip 42\n");
        assert_eq!(counts[&("rustc 1.95.0".to_owned(), "round-trip".to_owned())], 4711);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("fn=x\n1 2\n\ntotals: 12345\n"), Some(12345));
        assert_eq!(total("fn=x\n"), None);
    }
}
