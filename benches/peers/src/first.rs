//! The first spawn in a process, the guardian's start included: each sample comes from a process of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use foster::Fixture;

use crate::heap::Touched;
use crate::sample::{Match, Options, Result};
use crate::spawn::PROGRAM;

pub fn measure(options: &Options) -> Result {
    let own = std::env::current_exe()?;
    let fresh = |who: &'static str, heap: &'static str| {
        let own = own.clone();
        move |samples: &mut crate::sample::Samples| {
            let output = Command::new(&own).args(["--first", who, heap]).stdin(Stdio::null()).output()?;
            let text = String::from_utf8(output.stdout)?;
            samples.add(text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?);
            Ok(())
        }
    };
    let mut entered = Match::new("first").settle(std::time::Duration::from_millis(3));
    entered.enter("re-exec", fresh("re-exec", "0"));
    entered.enter("re-exec, then std", fresh("both", "0"));
    entered.enter("foster", fresh("foster", "0"));
    entered.enter("std", fresh("std", "0"));
    entered.play(options.rounds(100, 25));
    let mut entered = Match::new("first-heap");
    entered.enter("re-exec, 2 GiB", fresh("re-exec", "2048"));
    entered.enter("foster, no heap", fresh("foster", "0"));
    entered.enter("foster, 2 GiB", fresh("foster", "2048"));
    entered.play(options.rounds(15, 2));
    Ok(())
}

/// One sample, printed.
pub fn in_a_fresh_process(who: &str, heap: usize) -> Result {
    let _heap = Touched::new(heap)?;
    let began = Instant::now();
    let mut fixture = None;
    match who {
        "re-exec" => re_exec()?,
        "both" => {
            re_exec()?;
            std_spawn()?;
        }
        "std" => std_spawn()?,
        "foster" => fixture = Some(Fixture::command(PROGRAM).spawn()?),
        other => return Err(format!("`{other}` takes no part").into()),
    }
    let took = began.elapsed();
    drop(fixture);
    println!("{}", took.as_nanos());
    Ok(())
}

fn std_spawn() -> Result {
    let mut command = Command::new(PROGRAM);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Who waits for it is not part of a spawn; it needs no time to end.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The same program once more, until it says over a socket that it runs.
fn re_exec() -> Result {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("--nothing").stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    drop(command);
    ours.read_exact(&mut [0; 1])?;
    std::thread::spawn(move || child.wait());
    Ok(())
}

pub fn say_that_it_runs() -> Result {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    std::fs::File::from(socket).write_all(b"x")?;
    Ok(())
}
