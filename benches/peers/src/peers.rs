//! The peers: how their own documentation says that a test should talk, start and stop.

use std::process::Command;
use std::time::Duration;

use expectrl::Expect;
use expectrl::session::OsSession;
use rexpect::session::PtySession;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::runtime::Runtime;

use crate::limit::{Talker, helper};
use crate::sample::Result;

/// No expectation of these waits longer.
const LIMIT: Duration = Duration::from_secs(20);

type TokioPipes = (ChildStdin, Lines<BufReader<ChildStdout>>, Child);

/// `tokio::process` in the runtime that `#[tokio::test]` gives: one thread.
pub struct Tokio {
    runtime: Runtime,
    helpers: Vec<TokioPipes>,
}

impl Tokio {
    pub fn runtime() -> Result<Runtime> {
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
    }

    pub fn command(args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::from(crate::limit::command(args));
        command.kill_on_drop(true);
        command
    }

    pub fn start_with(count: usize, args: &[&str]) -> Result<Tokio> {
        let runtime = Tokio::runtime()?;
        let helpers = runtime.block_on(async {
            let mut helpers = Vec::new();
            for _ in 0..count {
                let mut child = Tokio::command(args).spawn()?;
                let stdin = child.stdin.take().ok_or("no input")?;
                let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
                lines.next_line().await?;
                helpers.push((stdin, lines, child));
            }
            Ok::<_, Box<dyn std::error::Error>>(helpers)
        })?;
        Ok(Tokio { runtime, helpers })
    }

    /// All of them at the same time.
    pub fn all_ask(&mut self, times: usize) -> Result {
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for mut helper in self.helpers.drain(..) {
                tasks.push(tokio::spawn(async move {
                    for _ in 0..times {
                        talk(&mut helper, b"ping\n", "ping").await?;
                    }
                    Ok::<_, std::io::Error>(helper)
                }));
            }
            for task in tasks {
                self.helpers.push(task.await??);
            }
            Ok(())
        })
    }

    /// Sends a line and reads lines until this one comes.
    pub fn send_and_wait_for(&mut self, text: &[u8], line: &str) -> Result {
        let Tokio { runtime, helpers } = self;
        Ok(runtime.block_on(talk(&mut helpers[0], text, line))?)
    }

    /// Waits in vain.
    pub fn wait_in_vain(&mut self, limit: Duration) {
        let Tokio { runtime, helpers } = self;
        runtime.block_on(async {
            let _ = tokio::time::timeout(limit, helpers[0].1.next_line()).await;
        });
    }
}

async fn talk(helper: &mut TokioPipes, text: &[u8], line: &str) -> std::io::Result<()> {
    helper.0.write_all(text).await?;
    while helper.1.next_line().await?.ok_or(std::io::ErrorKind::UnexpectedEof)? != line {}
    Ok(())
}

impl Talker for Tokio {
    fn ask(&mut self) -> Result {
        self.send_and_wait_for(b"ping\n", "ping")
    }
}

fn plain(args: &[&str]) -> Command {
    let mut command = Command::new(helper());
    command.args(args);
    command
}

pub struct Expectrl(OsSession);

impl Expectrl {
    pub fn start(args: &[&str]) -> Result<Expectrl> {
        let mut session = OsSession::spawn(plain(args))?;
        session.set_expect_timeout(Some(LIMIT));
        session.expect("up")?;
        Ok(Expectrl(session))
    }

    pub fn send_and_wait_for(&mut self, line: &str, text: &str, limit: Duration) -> Result {
        self.0.set_expect_timeout(Some(limit));
        self.0.send_line(line)?;
        self.0.expect(text)?;
        Ok(())
    }

    pub fn wait_in_vain(&mut self, limit: Duration) {
        self.0.set_expect_timeout(Some(limit));
        let _ = self.0.expect("never said");
    }
}

impl Talker for Expectrl {
    fn ask(&mut self) -> Result {
        self.send_and_wait_for("ping", "ping\r\n", LIMIT)
    }
}

pub struct Rexpect(PtySession);

impl Rexpect {
    pub fn start(args: &[&str]) -> Result<Rexpect> {
        Rexpect::start_with(args, LIMIT)
    }

    pub fn start_with(args: &[&str], limit: Duration) -> Result<Rexpect> {
        let limit = u64::try_from(limit.as_millis())?;
        let mut session = rexpect::session::spawn_command(plain(args), Some(limit))?;
        session.exp_string("up")?;
        Ok(Rexpect(session))
    }

    pub fn send_and_wait_for(&mut self, line: &str, text: &str) -> Result {
        self.0.send_line(line)?;
        self.0.exp_string(text)?;
        Ok(())
    }

    pub fn wait_in_vain(&mut self) {
        let _ = self.0.exp_string("never said");
    }
}

impl Talker for Rexpect {
    fn ask(&mut self) -> Result {
        self.send_and_wait_for("ping", "ping\r\n")
    }
}

/// From spawn to exit status of `/bin/true`, each in its own way.
pub mod spawns {
    use std::process::{Command, Stdio};

    use process_wrap::std::{CommandWrap, ProcessGroup, ProcessSession};
    use tokio::runtime::Runtime;

    use crate::sample::Result;

    const PROGRAM: &str = "/bin/true";

    fn piped() -> Command {
        let mut command = Command::new(PROGRAM);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn process_group() -> Result {
        CommandWrap::from(piped()).wrap(ProcessGroup::leader()).spawn()?.wait()?;
        Ok(())
    }

    pub fn process_session() -> Result {
        CommandWrap::from(piped()).wrap(ProcessSession).spawn()?.wait()?;
        Ok(())
    }

    pub fn assert_cmd() -> Result {
        assert_cmd::Command::new(PROGRAM).output()?;
        Ok(())
    }

    pub fn duct() -> Result {
        duct::cmd!(PROGRAM).stdin_null().stdout_capture().stderr_capture().run()?;
        Ok(())
    }

    pub fn tokio(runtime: &Runtime) -> Result {
        runtime.block_on(async {
            tokio::process::Command::from(piped()).spawn()?.wait().await?;
            Ok(())
        })
    }

    pub fn rexpect() -> Result {
        rexpect::session::spawn_command(Command::new(PROGRAM), Some(5_000))?.process().wait()?;
        Ok(())
    }

    pub fn expectrl() -> Result {
        expectrl::session::OsSession::spawn(Command::new(PROGRAM))?.get_process().wait()?;
        Ok(())
    }
}

/// A helper in a process group of its own, as process-wrap starts it.
pub fn grouped(args: &[&str]) -> Result<Box<dyn process_wrap::std::ChildWrapper>> {
    use process_wrap::std::{CommandWrap, ProcessGroup};
    let mut child = CommandWrap::from(crate::limit::command(args)).wrap(ProcessGroup::leader()).spawn()?;
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout().as_mut().ok_or("no output")?, &mut word)?;
    Ok(child)
}
