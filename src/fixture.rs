//! A running helper.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::builder::FixtureBuilder;
use crate::dialogue::awaiting::{How, at_once};
use crate::dialogue::conversation::{Conversation, State};
use crate::dialogue::found;
use crate::dialogue::search::Captures;
use crate::ending;
use crate::error::{Error, ErrorKind, Result};
use crate::guardian::handle::Handle;
use crate::journal::By;
use crate::own_dir::{self, OwnDir};
use crate::report::{self, Attempt, status};
use crate::script::Mirror;
use crate::settings::scaled;
use crate::signal::Signal;
use crate::stop::{Stop, Stopped};
use crate::sys::{process, procfs};
use crate::transcript::{Known, Mark, Merged, Transcript};
use crate::within::Within;

/// A helper that runs, and everything below it; ended when dropped, and if it is never dropped, all the same.
///
/// All methods take `&self`: a fixture can be shared by threads, and its [`Input`](crate::Input) and [`Output`](crate::Output) handles can be given away.
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
    pub(crate) handle: Handle,
    /// What it was made from, for [`restart`](Fixture::restart).
    pub(crate) spec: FixtureBuilder,
    pub(crate) captures: Captures,
    pub(crate) dir: OnceCell<OwnDir>,
    /// The process that spawned it; a copy made by `fork` must not end it.
    pub(crate) owner: i32,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("label", &self.label())
            .field("id", &self.id())
            .field("command", &self.conversation.secrets.redacted_text(&self.conversation.subject.command))
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// What to run: a program by its path, or by its name, which is then looked up in the helper's PATH.
    pub fn command(program: impl AsRef<OsStr>) -> FixtureBuilder {
        FixtureBuilder::new(program.as_ref())
    }

    /// A helper without a program: it plays the other side of a [script](crate::Script::mirror), so that the script, or what
    /// is built on it, can be tested by itself.
    ///
    /// What the builder says about a program has no effect; the rest has: time limits, [`ready`](FixtureBuilder::ready),
    /// [`fail_on`](FixtureBuilder::fail_on), the label.
    /// The fake is a thread of the test process, so [`id`](Fixture::id) is the test process and [`signal`](Fixture::signal)
    /// is refused; [`terminate`](Fixture::terminate), [`kill`](Fixture::kill) and [`stop`](Fixture::stop) end it at once.
    ///
    /// # Errors
    ///
    /// [`spawn`](FixtureBuilder::spawn) refuses a script that cannot be mirrored with
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): one that makes no sense, or that expects more right after
    /// a prompt.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::{Fixture, Script};
    ///
    /// # fn main() -> foster::Result {
    /// let script = Script::new().prompt("> ").send_line("status").line("{jobs} jobs").send_eof().exit(0);
    /// let fake = Fixture::fake(script.mirror().with("jobs", 3)).spawn()?;
    /// assert_eq!(script.play(&fake)?.get::<u32>("jobs")?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fake(mirror: Mirror) -> FixtureBuilder {
        FixtureBuilder::new_fake(mirror)
    }

    pub(crate) fn new(
        conversation: Arc<Conversation>,
        handle: Handle,
        spec: FixtureBuilder,
        dir: OnceCell<OwnDir>,
    ) -> Fixture {
        Fixture { conversation, handle, spec, captures: Captures::new(), dir, owner: process::own_pid() }
    }

    /// How long each expectation may take.
    pub(crate) fn limit(&self) -> Duration {
        self.spec.limit()
    }

    /// Waits until the helper counts as started.
    pub(crate) async fn become_ready(&mut self, how: How, at: &'static Location<'static>) -> Result {
        if let Some(ready) = self.spec.readiness() {
            self.captures = ready.wait(how, self, at).await?;
        }
        Ok(())
    }

    /// The value under this name in what made the helper [ready](FixtureBuilder::ready).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Capture`] when there is none of this name, or when it is no `T`.
    #[track_caller]
    pub fn capture<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let ready = self.spec.readiness().map_or_else(|| "no condition of readiness".to_owned(), ToString::to_string);
        found::parse(&self.captures, name, &ready, &self.conversation.secrets)
    }

    /// Stops the helper and starts it again, as it was built, in the same [directory](Fixture::dir), and waits until it is
    /// ready.
    ///
    /// Nothing is left of the old conversation: what was unread is gone, and the transcript begins anew.
    /// [`Input`](crate::Input) and [`Output`](crate::Output) handles stay with the helper that they were made for.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Fixture::stop) and of [`spawn`](FixtureBuilder::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let mut fx = Fixture::command("sh")
    ///     .args(["-c", "echo started >> log; wc -l < log; read never"])
    ///     .in_own_dir()
    ///     .spawn()?;
    /// fx.expect_line("1")?;
    /// fx.restart()?;
    /// fx.expect_line("2")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn restart(&mut self) -> Result {
        at_once(self.start_again(How::Blocking, Location::caller()))
    }

    pub(crate) async fn start_again(&mut self, how: How, at: &'static Location<'static>) -> Result {
        self.begin_stop(By::Test);
        self.await_end(how, "restart", self.policy().ladder().total(), at).await?;
        let (conversation, handle) = self.spec.start(self.dir.get().map(OwnDir::path), at)?;
        self.conversation = conversation;
        self.handle = handle;
        self.captures.clear();
        self.become_ready(how, at).await
    }

    pub(crate) fn policy(&self) -> Stop {
        self.spec.policy()
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
        let made = self.dir.get().is_none();
        let dir = own_dir::of(&self.dir).path();
        // A matcher may ask, too, and then the state is locked.
        if let Some(state) = self.conversation.try_lock().filter(|_| made) {
            state.life.has_dir(dir);
        }
        dir
    }

    /// Keeps the fixture's own [directory](Fixture::dir), made if it is not there yet, for somebody who looks at it
    /// afterwards; where it is. From now on nobody removes it, however the test process ends. The helper ends all the same.
    ///
    /// `FOSTER_KEEP=1` does so for the directory of every fixture, and says where each of them is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when that cannot be noted in the file system.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("sh").args(["-c", "echo found > notes"]).in_own_dir().spawn()?;
    /// let dir = fx.keep()?;
    /// fx.finish()?.assert().success();
    /// assert_eq!(std::fs::read_to_string(dir.join("notes")).unwrap(), "found\n");
    /// # std::fs::remove_dir_all(dir).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn keep(&self) -> Result<PathBuf> {
        let path = self.dir().to_owned();
        let kept = own_dir::of(&self.dir).keep();
        kept.map(|()| path).map_err(|e| {
            let why = "its directory cannot be marked as one that stays";
            let at = Location::caller();
            self.fail(&self.conversation.lock(), ErrorKind::Io, "keep", String::new(), at, why).with_source(e)
        })
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
        Within { fixture: self, limit: scaled(limit), chosen: true }
    }

    pub(crate) fn usual(&self) -> Within<'_> {
        Within { fixture: self, limit: self.limit(), chosen: false }
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
        // Not through `expect_exit`: this is called again and again, and no failure has to be described.
        let ended = self.conversation.wait(Some(Instant::now()), ending::exit);
        match ended {
            None => Ok(None),
            ended => self.exit_of(ended, Duration::ZERO, "expect", Location::caller()).map(Some),
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
        // A keeper that has said its last word takes requests for a moment longer, and does nothing with them.
        let over = self.conversation.lock().life.gone.is_some();
        let asked = if over { Err(std::io::ErrorKind::BrokenPipe.into()) } else { self.handle.terminate() };
        asked.map_err(|e| self.refused("terminate", String::new(), at, e))
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
        at_once(self.kill_in(How::Blocking, Location::caller()))
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
        at_once(self.stop_in(How::Blocking, Location::caller()))
    }

    /// What has been said so far; `eprintln!("{}", fx.transcript())` shows it.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        self.look();
        let below = procfs::descendants(self.handle.pid()).into_iter().map(|s| s.pid as u32);
        let mut known = Known { pids: std::iter::once(self.id()).chain(below).collect(), dirs: Vec::new() };
        known.dirs.extend(self.dir.get().map(|dir| dir.path().to_owned()));
        let state = self.conversation.lock();
        if let Some(exit) = &state.life.exited {
            known.pids.extend(exit.left.iter().map(|e| e.pid()));
        }
        state.transcript.clone().knowing(known)
    }

    /// What has arrived, but was not read yet, belongs to what has been said.
    fn look(&self) {
        self.conversation.wait(Some(Instant::now()), |_| None::<()>);
    }

    /// This moment, for [`since`](Fixture::since).
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.look();
        self.conversation.lock().transcript.mark()
    }

    /// What has been said since this moment, whether an expectation has consumed it or not.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("cat").spawn()?;
    /// fx.ask("one", "one")?;
    /// let mark = fx.mark();
    /// fx.ask("two", "two")?;
    /// assert_eq!(fx.since(mark).stdout(), "two\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn since(&self, mark: Mark) -> Transcript {
        self.transcript().since(mark)
    }

    fn refused(&self, verb: &str, object: String, at: &'static Location<'static>, e: std::io::Error) -> Error {
        // The news of its end may have arrived without anybody having looked.
        let exited = self.conversation.wait(Some(Instant::now()), |s| s.life.exited.as_ref().map(|e| e.status));
        let state = self.conversation.lock();
        let gone = e.raw_os_error() == Some(crate::sys::ESRCH) || e.kind() == std::io::ErrorKind::BrokenPipe;
        match exited {
            Some(exit) if gone => {
                let why = format!("the helper {}", status(exit));
                self.fail(&state, ErrorKind::Exited, verb, object, at, &why)
            }
            _ if gone => self.fail(&state, ErrorKind::Exited, verb, object, at, "the helper has ended"),
            _ => self.fail(&state, ErrorKind::Io, verb, object, at, "the kernel refused").with_source(e),
        }
    }

    /// As [`fail`](Fixture::fail), with a help line, for verbs that need no object.
    pub(crate) fn fail_with(
        &self,
        kind: ErrorKind,
        verb: &str,
        at: &'static Location<'static>,
        why: &str,
        help: &str,
    ) -> Error {
        let mut state = self.conversation.lock();
        state.reported = true;
        let attempt = Attempt { verb, object: String::new(), at };
        report::failure(kind, &self.conversation.subject, &state, &attempt, why, &[], Some(help))
    }

    pub(crate) fn fail(
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

/// The transcripts of several fixtures as one, in the order of time, each line with the label of its fixture.
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// let one = foster::Fixture::command("cat").label("one").spawn()?;
/// let two = foster::Fixture::command("cat").label("two").spawn()?;
/// one.ask("hello", "hello")?;
/// two.ask("hello", "hello")?;
/// println!("{}", foster::merged([&one, &two]));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn merged<F: Borrow<Fixture>>(fixtures: impl IntoIterator<Item = F>) -> Merged {
    let transcripts: Vec<Transcript> = fixtures.into_iter().map(|f| f.borrow().transcript()).collect();
    Transcript::merge(&transcripts)
}
