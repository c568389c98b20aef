//! Much output before a regular expression matches, with a capture.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use foster::Fixture;
use regex::bytes::Regex;

use crate::limit::{Owned, helper};
use crate::sample::{Match, Options, Result};

const MIB: u64 = 1 << 20;
const PATTERN: &str = r"(?m)^the (?<what>[a-z]+)$";
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(options: &Options) -> Result {
    let size = if options.quick { 64 } else { 512 };
    let args = ["flood".to_owned(), (size * MIB).to_string()];
    let args: [&str; 2] = [&args[0], &args[1]];
    let mut entered = Match::new("regex");
    entered.enter("raw pipe", |samples| {
        samples.time(raw(&args)?);
        Ok(())
    });
    entered.enter("foster", |samples| {
        let fx = Fixture::command(helper()).args(args).spawn()?;
        fx.expect_line("up")?;
        let began = Instant::now();
        fx.send_line("go")?;
        let found = fx.within(LIMIT).expect(foster::regex(PATTERN))?;
        if found.get::<String>("what")? != "end" {
            return Err("it has found something else".into());
        }
        samples.time(began.elapsed());
        Ok(())
    });
    entered.play(options.rounds(5, 3));
    Ok(())
}

/// `read` and the same expression on all complete lines, as fast as one thread can.
fn raw(args: &[&str]) -> Result<Duration> {
    let mut child = Owned::up(args)?;
    let (mut stdin, mut stdout) = child.pipes()?;
    let pattern = Regex::new(PATTERN)?;
    let mut buf = vec![0; 128 << 10];
    let mut end = 0;
    let began = Instant::now();
    stdin.write_all(b"go\n")?;
    loop {
        let n = stdout.read(&mut buf[end..])?;
        if n == 0 {
            return Err("the end has not come".into());
        }
        end += n;
        let Some(whole) = memchr::memrchr(b'\n', &buf[..end]).map(|at| at + 1) else { continue };
        if let Some(groups) = pattern.captures(&buf[..whole]) {
            let took = began.elapsed();
            return if &groups["what"] == b"end" { Ok(took) } else { Err("it has found something else".into()) };
        }
        buf.copy_within(whole..end, 0);
        end -= whole;
    }
}
