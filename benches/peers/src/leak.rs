//! What the leak check adds to a suite of 500 quick tests: processor time of everything together.

use std::process::{Command, Stdio};

use crate::limit::helper;
use crate::sample::{Match, Options, Result};

pub fn measure(options: &Options) -> Result {
    let count = "500";
    let own = std::env::current_exe()?;
    let mut entered = Match::new("leakcheck");
    entered.enter("the suite alone", |samples| {
        let mut command = Command::new(helper());
        samples.add(processor_time(command.args(["suite", count]))?);
        Ok(())
    });
    entered.enter("with leakcheck", |samples| {
        let mut command = Command::new(&own);
        samples.add(processor_time(command.arg("--leakcheck").arg(helper()).args(["suite", count]))?);
        Ok(())
    });
    entered.play(options.rounds(15, 4));
    Ok(())
}

/// User and system time of it and of all below it that it has waited for, in nanoseconds.
fn processor_time(command: &mut Command) -> Result<f64> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut status = 0;
    // SAFETY: all zeroes is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, which nobody else waits for; both places are ours.
    let pid = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    if pid < 0 || status != 0 {
        return Err(format!("it ended with the wait status {status}").into());
    }
    let nanos = |t: libc::timeval| t.tv_sec as f64 * 1e9 + t.tv_usec as f64 * 1e3;
    Ok(nanos(usage.ru_utime) + nanos(usage.ru_stime))
}
