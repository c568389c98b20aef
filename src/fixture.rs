//! A running helper.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::panic::Location;
use std::path::Path;
use std::process::{ExitStatus, Output as ProcessOutput};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use tempfile::TempDir;

use crate::builder::{self, FixtureBuilder};
use crate::dialogue::channel::{Input, Output};
use crate::dialogue::conversation::{Channel, Conversation, State};
use crate::dialogue::expect::deadline;
use crate::dialogue::matcher::{IntoMatcher, Match};
use crate::error::{Error, ErrorKind, Result};
use crate::finished::Finished;
use crate::guardian::handle::Handle;
use crate::guardian::keeper::KILL_LIMIT;
use crate::guardian::protocol::Ladder;
use crate::report::{self, Attempt, seconds, status};
use crate::settings::{self, scaled};
use crate::signal::Signal;
use crate::stop::{Stop, Stopped};
use crate::sys::process;
use crate::transcript::Transcript;
use crate::within::Within;

/// How much longer than a keeper may take to end its tree the test waits for its word.
const STOP_SLACK: Duration = Duration::from_secs(3);

/// A helper that runs, and everything below it; ended when dropped, and if it is never dropped, all the same.
///
/// All methods take `&self`: a fixture can be shared by threads, and its [`Input`] and [`Output`] handles can be given away.
/// Every wait has a total time limit, the [builder's](FixtureBuilder::timeout) or that of [`within`](Fixture::within).
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
///
/// # fn main() -> foster::Result {
/// let fx = Fixture::command("sh").args(["-c", "echo ready; read name; echo hello $name"]).spawn()?;
/// fx.expect_line("ready")?;
/// fx.send_line("Bob")?;
/// fx.expect_line(predicate::str::ends_with("Bob"))?;
/// assert!(fx.expect_exit()?.success());
/// # Ok(())
/// # }
/// ```
///
/// # Leaks
///
/// None, whatever happens to the fixture or to the test process, at [level L2](crate::Level::L2):
/// `mem::forget`, a static, `abort`, SIGKILL.
/// Files that the helper writes outside of its own [directory](Fixture::dir) stay.
pub struct Fixture {
    pub(crate) conversation: Arc<Conversation>,
    handle: Handle,
    policy: Stop,
    limit: Duration,
    dir: OnceCell<TempDir>,
    /// The process that spawned it; a copy made by `fork` must not end it.
    owner: i32,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("label", &self.label())
            .field("id", &self.id())
            .field("command", &self.conversation.subject.command)
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// What to run: a program by its path, or by its name, which is then looked up in the helper's PATH.
    pub fn command(program: impl AsRef<OsStr>) -> FixtureBuilder {
        FixtureBuilder::new(program.as_ref())
    }

    pub(crate) fn new(
        conversation: Arc<Conversation>,
        handle: Handle,
        policy: Stop,
        limit: Duration,
        dir: OnceCell<TempDir>,
    ) -> Fixture {
        Fixture { conversation, handle, policy, limit, dir, owner: process::own_pid() }
    }

    /// The helper's pid. After it has ended, the number may come to mean another process.
    pub fn id(&self) -> u32 {
        self.handle.pid() as u32
    }

    /// What reports call it.
    pub fn label(&self) -> &str {
        &self.conversation.subject.label
    }

    /// The fixture's own temporary directory; see [`FixtureBuilder::dir`].
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[track_caller]
    pub fn dir(&self) -> &Path {
        builder::own_dir(&self.dir)
    }

    /// The same verbs with another total time limit (scaled by `FOSTER_TIMEOUT_SCALE`).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("cat").spawn()?;
    /// let error = fx.within(Duration::from_millis(20)).expect("never said").unwrap_err();
    /// assert!(error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    pub fn within(&self, limit: Duration) -> Within<'_> {
        Within { fixture: self, limit: scaled(limit) }
    }

    fn usual(&self) -> Within<'_> {
        Within { fixture: self, limit: self.limit }
    }

    /// A handle on the helper's standard input, for other threads.
    #[must_use]
    pub fn input(&self) -> Input {
        self.usual().input()
    }

    /// A handle on the helper's standard output, for other threads. The same as [`stdout`](Fixture::stdout).
    #[must_use]
    pub fn output(&self) -> Output {
        self.usual().stdout()
    }

    /// The helper's standard output.
    #[must_use]
    pub fn stdout(&self) -> Output {
        self.usual().stdout()
    }

    /// The helper's standard error, with the same verbs: `fx.stderr().expect("warning")`.
    #[must_use]
    pub fn stderr(&self) -> Output {
        self.usual().stderr()
    }

    /// Sends bytes to the helper's standard input.
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        self.usual().send(bytes)
    }

    /// Sends text and a line ending.
    ///
    /// # Errors
    ///
    /// Those of [`Input::send`].
    #[track_caller]
    pub fn send_line(&self, line: &str) -> Result {
        self.usual().send_line(line)
    }

    /// Gives the helper the end of its input. Without effect if it has it already.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn send_eof(&self) -> Result {
        self.conversation.close_stdin();
        Ok(())
    }

    /// Waits for the first later place on standard output that matches; see [`Output::expect`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect`].
    #[track_caller]
    pub fn expect<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().expect(matcher)
    }

    /// Waits for the next line on standard output, which has to match; see [`Output::expect_line`].
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_line`].
    #[track_caller]
    pub fn expect_line<K>(&self, matcher: impl IntoMatcher<K>) -> Result<Match> {
        self.usual().expect_line(matcher)
    }

    /// Waits for the end of standard output; what had not been consumed.
    ///
    /// # Errors
    ///
    /// Those of [`Output::expect_eof`].
    #[track_caller]
    pub fn expect_eof(&self) -> Result<String> {
        self.usual().expect_eof()
    }

    /// Waits for the helper to end by itself.
    ///
    /// Processes that it has started may live on, until the fixture is stopped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], or [`ErrorKind::Guardian`] when its keeper was killed.
    #[track_caller]
    pub fn expect_exit(&self) -> Result<ExitStatus> {
        self.usual().expect_exit()
    }

    /// Gives the helper the end of its input, as std does, and waits for it to end.
    ///
    /// # Errors
    ///
    /// Those of [`expect_exit`](Fixture::expect_exit).
    #[track_caller]
    pub fn wait(&self) -> Result<ExitStatus> {
        self.usual().wait()
    }

    /// The helper's exit status, if it has ended already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Guardian`] when its keeper was killed before it could tell.
    #[track_caller]
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        match self.within(Duration::ZERO).expect_exit() {
            Ok(status) => Ok(Some(status)),
            Err(e) if e.is_timeout() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal to the helper itself, and to nobody else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Exited`] when it has ended, [`ErrorKind::Io`] when the kernel refuses.
    #[track_caller]
    pub fn signal(&self, signal: Signal) -> Result {
        let at = Location::caller();
        self.handle.signal(signal.as_raw()).map_err(|e| self.refused("signal", signal.to_string(), at, e))
    }

    /// Asks the helper, and everything in its process groups, to end: SIGTERM, and SIGCONT so that a stopped process can
    /// act on it. Does not wait.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Exited`] when nothing is left to ask.
    #[track_caller]
    pub fn terminate(&self) -> Result {
        let at = Location::caller();
        self.handle.terminate().map_err(|e| self.refused("terminate", String::new(), at, e))
    }

    /// Kills the helper and everything below it, and waits until the kernel confirms that nothing is left.
    ///
    /// Without effect if that is so already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Survivor`] when something cannot be killed, [`ErrorKind::Guardian`] when the keeper was killed.
    #[track_caller]
    pub fn kill(&self) -> Result {
        let at = Location::caller();
        let over = self.conversation.lock().life.is_over();
        if !over {
            // If the keeper does not hear it, it is gone, and the wait says so.
            let _ = self.handle.kill();
        }
        self.await_end("kill", Duration::ZERO, at).map(drop)
    }

    /// Walks the [ladder](Stop): asks, waits, kills, and waits until the kernel confirms that nothing is left.
    ///
    /// Without effect if that is so already.
    ///
    /// # Errors
    ///
    /// Those of [`kill`](Fixture::kill).
    #[track_caller]
    pub fn stop(&self) -> Result<Stopped> {
        let at = Location::caller();
        self.begin_stop();
        self.await_end("stop", self.policy.ladder().total(), at)
    }

    /// Gives the helper the end of its input, waits for it to end, and ends what it has left behind;
    /// its status, and all of its output that no expectation has consumed.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Fixture::wait) and [`stop`](Fixture::stop).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("sh").args(["-c", "echo out; echo err >&2; exit 3"]).spawn()?;
    /// fx.finish()?.assert().code(3).stdout("out\n").stderr("err\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn finish(self) -> Result<Finished> {
        let at = Location::caller();
        self.conversation.close_stdin();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        // Takes the output as it comes: all of it is wanted, so nothing may be dropped for want of room.
        let mut collect = |state: &mut State| {
            for (channel, to) in [(Channel::Stdout, &mut stdout), (Channel::Stderr, &mut stderr)] {
                let window = &mut state.stream(channel).window;
                to.extend_from_slice(window.unread());
                window.consume(window.unread().len());
            }
        };
        let limit = deadline(self.limit);
        let ended = self.conversation.wait(limit, |state| {
            collect(state);
            let exit = state.life.exited.as_ref().map(|e| Ok(e.status));
            exit.or_else(|| state.life.lost.clone().map(Err))
        });
        let status = self.exit_of(ended, self.limit, "finish", at)?;
        self.begin_stop();
        let stopped = self.await_end("finish", self.policy.ladder().total(), at)?;
        // Nobody is left who could hold the streams open, except at level L1.
        let closed = self.conversation.wait(limit, |state| {
            collect(state);
            (state.stream(Channel::Stdout).is_eof() && state.stream(Channel::Stderr).is_eof()).then_some(())
        });
        let state = self.conversation.lock();
        if closed.is_none() {
            let why = "its output does not end: a process that escaped holds it open";
            return Err(self.fail(&state, ErrorKind::Timeout, "finish", String::new(), at, why));
        }
        let dropped =
            state.stream_ref(Channel::Stdout).window.dropped() + state.stream_ref(Channel::Stderr).window.dropped();
        drop(state);
        let output = ProcessOutput { status, stdout, stderr };
        Ok(Finished { output, escapees: stopped.escapees, dropped, command: self.conversation.subject.command.clone() })
    }

    /// What has been said so far.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        // What has arrived, but was not read yet, belongs to it.
        self.conversation.wait(Some(Instant::now()), |_| None::<()>);
        self.conversation.lock().transcript.clone()
    }

    /// Asks for the ladder without waiting, so that many can walk theirs at the same time.
    fn begin_stop(&self) {
        let over = self.conversation.lock().life.is_over();
        if over {
            return;
        }
        let ladder: Ladder = self.policy.ladder();
        if ladder.eof.is_some() {
            self.conversation.close_stdin();
        }
        // If the keeper does not hear it, it is gone, and the wait says so.
        let _ = self.handle.stop(ladder);
    }

    /// Waits until nothing is left.
    fn await_end(&self, verb: &str, ladder: Duration, at: &'static Location<'static>) -> Result<Stopped> {
        let limit = ladder.saturating_add(KILL_LIMIT).saturating_add(STOP_SLACK);
        let over = self.conversation.wait(deadline(limit), |state| state.life.is_over().then_some(()));
        self.conversation.close_stdin();
        let state = self.conversation.lock();
        let object = String::new();
        if over.is_none() {
            let why = format!("its keeper did not confirm the end within {}", seconds(limit));
            return Err(self.fail(&state, ErrorKind::Timeout, verb, object, at, &why));
        }
        let Some(gone) = &state.life.gone else {
            let why = state.life.lost.clone().unwrap_or_default();
            return Err(self.fail(&state, ErrorKind::Guardian, verb, object, at, &why));
        };
        if !gone.survivors.is_empty() {
            let all: Vec<String> = gone.survivors.iter().map(ToString::to_string).collect();
            let why = format!("could not end {}", all.join("; "));
            return Err(self.fail(&state, ErrorKind::Survivor, verb, object, at, &why));
        }
        Ok(Stopped { status: state.life.exited.as_ref().map(|e| e.status), escapees: gone.escapees.clone() })
    }

    /// What a wait for the exit means.
    pub(crate) fn exit_of(
        &self,
        ended: Option<Result<ExitStatus, String>>,
        limit: Duration,
        verb: &str,
        at: &'static Location<'static>,
    ) -> Result<ExitStatus> {
        let (kind, why) = match ended {
            Some(Ok(status)) => return Ok(status),
            Some(Err(lost)) => (ErrorKind::Guardian, lost),
            None => (ErrorKind::Timeout, format!("timed out after {}", seconds(limit))),
        };
        let state = self.conversation.lock();
        Err(self.fail(&state, kind, verb, "exit".to_owned(), at, &why))
    }

    fn refused(&self, verb: &str, object: String, at: &'static Location<'static>, e: std::io::Error) -> Error {
        // The news of its end may have arrived without anybody having looked.
        let exited = self.conversation.wait(Some(Instant::now()), |s| s.life.exited.as_ref().map(|e| e.status));
        let state = self.conversation.lock();
        let gone = e.raw_os_error() == Some(crate::sys::ESRCH) || e.kind() == std::io::ErrorKind::BrokenPipe;
        match exited {
            Some(exit) if gone => {
                let why = format!("the helper has {}", status(exit));
                self.fail(&state, ErrorKind::Exited, verb, object, at, &why)
            }
            _ if gone => self.fail(&state, ErrorKind::Exited, verb, object, at, "the helper has ended"),
            _ => self.fail(&state, ErrorKind::Io, verb, object, at, "the kernel refused").with_source(e),
        }
    }

    fn fail(
        &self,
        state: &State,
        kind: ErrorKind,
        verb: &str,
        object: String,
        at: &'static Location<'static>,
        why: &str,
    ) -> Error {
        let attempt = Attempt { verb, object, at };
        report::failure(kind, &self.conversation.subject, state, &attempt, why, &[], None)
    }
}

impl Drop for Fixture {
    /// Stops the helper. Silent, bounded, and never a panic, also while the thread is unwinding.
    fn drop(&mut self) {
        if self.owner != process::own_pid() || settings::disabled("drop") {
            // A copy of the test process must not end its parent's helper; closing its copies of the descriptors is no harm.
            // And where Drop is switched off, the descriptors must stay open, or the keeper takes it for the end.
            std::mem::forget(Arc::clone(&self.conversation));
            return;
        }
        let over = self.conversation.lock().life.is_over();
        if !over {
            self.begin_stop();
            // Whatever is wrong now, the keeper and the guardian go on with it; there is nobody to tell.
            let _ = self.await_end("stop", self.policy.ladder().total(), Location::caller());
        }
        self.conversation.close_stdin();
    }
}

/// Stops many fixtures at the price of one grace: all are asked at once, then all are waited for.
///
/// # Errors
///
/// The first error of any of them, after all have been dealt with.
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// let many: Vec<_> = (0..5).map(|_| foster::Fixture::command("cat").spawn()).collect::<Result<_, _>>()?;
/// let stopped = foster::stop_all(&many)?;
/// assert_eq!(stopped.len(), 5);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn stop_all<F: Borrow<Fixture>>(fixtures: impl IntoIterator<Item = F>) -> Result<Vec<Stopped>> {
    let at = Location::caller();
    let fixtures: Vec<F> = fixtures.into_iter().collect();
    for fixture in &fixtures {
        fixture.borrow().begin_stop();
    }
    let results: Vec<Result<Stopped>> =
        fixtures.iter().map(|f| f.borrow().await_end("stop", f.borrow().policy.ladder().total(), at)).collect();
    results.into_iter().collect()
}
