//! pexpect, through a small Python program that takes its own times; only where Python has it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::limit::{Owned, helper};
use crate::sample::{Result, Samples};

/// For each number N on its input: N questions to the helper, and their times in nanoseconds.
const PROGRAM: &str = "
import sys, time
import pexpect
child = pexpect.spawn(sys.argv[1], sys.argv[2:], timeout=20)
child.expect('up')
print('pexpect', flush=True)
for line in sys.stdin:
    took = []
    for _ in range(int(line)):
        began = time.perf_counter_ns()
        child.sendline('ping')
        child.expect_exact('ping\\r\\n')
        took.append(time.perf_counter_ns() - began)
    print(*took, flush=True)
child.close(force=True)
";

pub struct Pexpect {
    child: Owned,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Pexpect {
    pub fn start(args: &[&str]) -> Result<Pexpect> {
        let mut python = Command::new("python3");
        python
            .args(["-c", PROGRAM])
            .arg(helper())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Owned(python.spawn().map_err(|e| format!("python3: {e}"))?);
        let mut lines = BufReader::new(child.0.stdout.take().ok_or("no output")?).lines();
        match lines.next() {
            Some(Ok(word)) if word == "pexpect" => Ok(Pexpect { child, lines }),
            _ => Err("this Python does not have it".into()),
        }
    }

    pub fn ask(&mut self, times: usize, samples: &mut Samples) -> Result {
        let stdin = self.child.0.stdin.as_mut().ok_or("no input")?;
        writeln!(stdin, "{times}")?;
        for value in self.lines.next().ok_or("it has ended")??.split_whitespace() {
            samples.add(value.parse()?);
        }
        Ok(())
    }
}
