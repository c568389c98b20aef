//! What to run and how: std's verbs, and what a test adds to them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::dialogue::awaiting::{How, at_once};
use crate::dialogue::conversation::Conversation;
use crate::dialogue::life::Life;
use crate::dialogue::matcher::IntoMatcher;
use crate::dialogue::watch::Unwanted;
use crate::dialogue::window;
use crate::error::{Error, ErrorKind, Result};
use crate::fixture::Fixture;
use crate::guardian::handle::{self, Failure, Handle, Request};
use crate::hooks;
use crate::journal::{self, Ticket};
use crate::own_dir::{self, OwnDir};
use crate::pty::wiring;
use crate::ready::Ready;
use crate::registry;
use crate::report::Subject;
use crate::script::fake::{self, Part};
use crate::script::mirror::Mirror;
use crate::settings::scaled;
use crate::stop::Stop;
use crate::sys::clone::Stage;
use crate::sys::pty::{self, Setup};
use crate::sys::reexec::MARKER;
use crate::transcript::{Secrets, Visible};

/// How long an expectation waits unless the builder says otherwise.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a start may take. It takes less than a millisecond.
const SPAWN_LIMIT: Duration = Duration::from_secs(10);

/// What to run and how; made by [`Fixture::command`] or [`cargo_bin!`](crate::cargo_bin).
///
/// The verbs that `std::process::Command` has mean what they mean there. The environment and the working directory are
/// those of the test process at the moment of [`spawn`](FixtureBuilder::spawn), as are its umask, its limits and the
/// signals that it ignores.
#[derive(Debug)]
#[must_use = "nothing runs before `spawn`"]
pub struct FixtureBuilder {
    program: OsString,
    args: Vec<OsString>,
    env_clear: bool,
    env: BTreeMap<OsString, Option<OsString>>,
    dir: Option<PathBuf>,
    in_own_dir: bool,
    own_dir: OnceCell<OwnDir>,
    label: Option<String>,
    limit: Duration,
    policy: Stop,
    capacity: usize,
    unwanted: Unwanted,
    ready: Option<Ready>,
    /// What is sent as a secret: a helper that is started again may remember it.
    secrets: Secrets,
    /// Instead of a program.
    fake: Option<Mirror>,
    pub(crate) terminal: Option<Setup>,
    /// Its scope is the process.
    shared: bool,
}

impl FixtureBuilder {
    pub(crate) fn new(program: &OsStr) -> FixtureBuilder {
        FixtureBuilder {
            program: program.to_owned(),
            args: Vec::new(),
            env_clear: false,
            env: BTreeMap::new(),
            dir: None,
            in_own_dir: false,
            own_dir: OnceCell::new(),
            label: None,
            limit: DEFAULT_TIMEOUT,
            policy: Stop::default(),
            capacity: window::CAPACITY,
            unwanted: Unwanted::default(),
            ready: None,
            secrets: Secrets::default(),
            fake: None,
            terminal: None,
            shared: false,
        }
    }

    pub(crate) fn new_fake(mirror: Mirror) -> FixtureBuilder {
        FixtureBuilder { fake: Some(mirror), ..FixtureBuilder::new(OsStr::new("fake")) }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Sets several environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        for (key, value) in vars {
            self = self.env(key, value);
        }
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Begins with an empty environment.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// Runs the helper in this directory.
    ///
    /// A program that is named by a relative path with a slash in it is looked up from there, as with std on Unix.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self.in_own_dir = false;
        self
    }

    /// Runs the helper in the fixture's [own directory](FixtureBuilder::dir).
    pub fn in_own_dir(mut self) -> Self {
        self.in_own_dir = true;
        self
    }

    /// The fixture's own temporary directory, made at the first call; it is removed after the helper is gone,
    /// however the test process ends, unless it is [kept](Fixture::keep).
    ///
    /// # Panics
    ///
    /// When it cannot be made: a test cannot go on without it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let tool = foster::Fixture::command("cat");
    /// let notes = tool.dir().join("notes");
    /// std::fs::write(&notes, "remember the milk\n").unwrap();
    /// let fx = tool.arg(&notes).spawn()?;
    /// fx.expect_line("remember the milk")?;
    /// drop(fx);
    /// assert!(!notes.exists());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn dir(&self) -> &Path {
        own_dir::of(&self.own_dir).path()
    }

    /// What reports call this fixture; the program's file name unless set.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How long each expectation, each `send` and each `wait` may take in all; ten seconds unless set.
    ///
    /// It is multiplied by `FOSTER_TIMEOUT_SCALE`. With zero, only what is there already is looked at.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How the helper is asked to leave when it is stopped, dropped, or when the test process ends.
    pub fn stop_policy(mut self, policy: Stop) -> Self {
        self.policy = policy;
        self
    }

    /// How many bytes of each output stream are kept unread; 1 MiB unless set.
    ///
    /// Beyond it the oldest are dropped, and counted in reports: a helper never blocks because its test is busy.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// A line, on standard output or standard error, that must not come: from then on every wait fails at once, whatever it
    /// waits for.
    ///
    /// Whoever reads asks it, which may be a thread that reads for others as well: it must be quick, and must not wait for
    /// anything. One that panics counts as a line that must not come. Of a line, the first 64 KiB and what comes last are
    /// looked at.
    ///
    /// Can be called several times. Looks at complete lines, also at those that expectations pass over; a text, a template or
    /// a pattern may stand anywhere in the line.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("sh")
    ///     .args(["-c", "echo \"thread 'main' panicked at src/main.rs:1\" >&2; read never"])
    ///     .fail_on("panicked at")
    ///     .spawn()?;
    /// let error = fx.expect("ready").unwrap_err();
    /// assert_eq!(error.kind(), foster::ErrorKind::Unwanted);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_on<K>(self, matcher: impl IntoMatcher<K> + 'static) -> Self {
        self.unwanted.add(matcher.into_matcher());
        self
    }

    /// When the helper counts as started: [`spawn`](FixtureBuilder::spawn) waits for it, for as long as
    /// [`timeout`](FixtureBuilder::timeout) says.
    ///
    /// A helper that ends before it is ready fails the spawn at once, with what it has said.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("sh")
    ///     .args(["-c", "echo starting; echo listening on 127.0.0.1:4711; read never"])
    ///     .ready(Ready::line(like("listening on {addr}")))
    ///     .spawn()?;
    /// let addr: std::net::SocketAddr = fx.capture("addr")?;
    /// assert_eq!(addr.port(), 4711);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = Some(ready);
        self
    }

    /// It belongs to a static.
    pub(crate) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Starts the helper.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Spawn`] when the program cannot be started: the message names the step, the path and the errno.
    /// [`ErrorKind::InvalidInput`] for a NUL byte in an argument, [`ErrorKind::Io`] when descriptors or memory have run
    /// out, or terminals, those of [`expect`](Fixture::expect) when it does not become [ready](FixtureBuilder::ready),
    /// [`ErrorKind::Level`] when `FOSTER_REQUIRE` is not met, [`ErrorKind::Guardian`] when the guardian was killed.
    ///
    /// # Platforms
    ///
    /// Linux.
    #[track_caller]
    pub fn spawn(self) -> Result<Fixture> {
        self.spawn_from(Location::caller())
    }

    pub(crate) fn spawn_from(self, at: &'static Location<'static>) -> Result<Fixture> {
        at_once(self.spawn_in(How::Blocking, at))
    }

    /// Starts the helper, in either way of waiting until it is ready.
    pub(crate) async fn spawn_in(mut self, how: How, at: &'static Location<'static>) -> Result<Fixture> {
        let dir = std::mem::take(&mut self.own_dir);
        if self.in_own_dir {
            own_dir::of(&dir);
        }
        let (conversation, handle) = self.start(dir.get().map(OwnDir::path), at)?;
        let mut fixture = Fixture::new(conversation, handle, self, dir);
        fixture.become_ready(how, at).await?;
        Ok(fixture)
    }

    pub(crate) fn policy(&self) -> Stop {
        self.policy
    }

    pub(crate) fn limit(&self) -> Duration {
        scaled(self.limit)
    }

    pub(crate) fn readiness(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// Starts what is described; `own_dir` is the fixture's own directory, if it has one.
    pub(crate) fn start(
        &self,
        own_dir: Option<&Path>,
        at: &'static Location<'static>,
    ) -> Result<(Arc<Conversation>, Handle)> {
        hooks::install();
        let label = self.label.clone().unwrap_or_else(|| {
            let name = Path::new(&self.program).file_name().unwrap_or(&self.program);
            name.to_string_lossy().into_owned()
        });
        let dir = if self.in_own_dir { own_dir.map(Path::to_owned) } else { self.dir.clone() };
        let ticket = if self.fake.is_none() { journal::ticket(self.shared) } else { None };
        let request = Request {
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.environment(ticket.as_ref()),
            dir: dir.map(PathBuf::into_os_string),
            ladder: self.policy.ladder(),
            terminal: self.terminal.is_some(),
        };
        let command = match &self.fake {
            Some(mirror) => format!("a fake that plays the other side of a script of {} steps", mirror.len()),
            None => command_line(&request),
        };
        let nonsense = |why| self.failed(&request, at, Failure::Nonsense(why));
        if let Some(why) = self.unwanted.problem().or_else(|| self.ready.as_ref().and_then(Ready::problem)) {
            return Err(nonsense(why));
        }
        let part = self.fake.as_ref().map(Part::of).transpose().map_err(nonsense)?;
        let (stdio, ends) = wiring(self.terminal).map_err(|failure| self.failed(&request, at, failure))?;
        let started = Instant::now();
        let deadline = started + scaled(SPAWN_LIMIT).min(Duration::from_secs(3600));
        let (handle, reports) = match part {
            Some(part) => fake::start(part, stdio).map_err(|e| self.failed(&request, at, Failure::Wiring(e)))?,
            None => {
                let (handle, reports) =
                    handle::spawn(&request, stdio, deadline).map_err(|failure| self.failed(&request, at, failure))?;
                registry::record_helper(handle.pid(), &label, &command, at);
                (handle, reports)
            }
        };
        let subject = Subject { label, command, pid: handle.pid(), started, spawned_at: at };
        let mut life = Life::new(Box::new(reports));
        if let Some(ticket) = ticket {
            ticket.started(&subject, &self.secrets, own_dir);
            life.ticket = Some(Box::new(ticket));
        }
        let conversation = Conversation::new(ends, life, subject, self.capacity, &self.unwanted, &self.secrets);
        Ok((conversation, handle))
    }

    fn environment(&self, ticket: Option<&Ticket>) -> Vec<(OsString, OsString)> {
        let mut all: BTreeMap<OsString, OsString> =
            if self.env_clear { BTreeMap::new() } else { std::env::vars_os().collect() };
        if self.terminal.is_some() && !self.env_clear {
            crate::pty::adapt(&mut all);
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        // Who has asked for an empty environment gets it: then others have to know whose it is.
        if let Some(ticket) = ticket.filter(|_| !self.env_clear) {
            all.insert(journal::MARKER.into(), ticket.marker().into());
        }
        // A helper that is itself a test binary must never take itself for a guardian.
        all.remove(OsStr::new(MARKER));
        all.into_iter().collect()
    }

    fn failed(&self, request: &Request, at: &'static Location<'static>, failure: Failure) -> Error {
        let program = self.program.to_string_lossy();
        let (kind, why, source) = match failure {
            Failure::Nonsense(why) => (ErrorKind::InvalidInput, why, None),
            Failure::Nul(what) => (ErrorKind::InvalidInput, format!("{what} contains a NUL byte"), None),
            Failure::Step(stage, e) => (ErrorKind::Spawn, explain(request, stage, &e), Some(e)),
            Failure::Wiring(e) => (ErrorKind::Io, crate::sys::name_shortage(&e).to_owned(), Some(e)),
            Failure::Terminal(e) => (ErrorKind::Io, pty::name_refusal(&e).to_owned(), Some(e)),
            Failure::Guardian(e) => {
                let why = match e.kind() {
                    std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::ConnectionReset => {
                        "the guardian process has died; it and all helpers are gone".to_owned()
                    }
                    std::io::ErrorKind::TimedOut => "the guardian process did not answer in time".to_owned(),
                    _ => "the guardian process cannot serve it".to_owned(),
                };
                (ErrorKind::Guardian, why, Some(e))
            }
            Failure::Level(why) => (ErrorKind::Level, why, None),
        };
        let mut report = format!("  command    {}\n", command_line(request));
        let dir = request.dir.as_ref().map(PathBuf::from).or_else(|| std::env::current_dir().ok());
        if let Some(dir) = dir {
            report.push_str(&format!("  directory  {}\n", dir.display()));
        }
        report.push_str(&format!("  at         {}:{}:{}\n", at.file(), at.line(), at.column()));
        let error = Error::new(kind, format!("failed to spawn `{program}`: {why}")).with_report(report);
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The command as a reader would type it.
fn command_line(request: &Request) -> String {
    let quote = |word: &OsString| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%^".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", Visible(word.replace('\'', "'\\''").as_bytes()))
        }
    };
    std::iter::once(&request.program).chain(&request.args).map(quote).collect::<Vec<_>>().join(" ")
}

/// What an errno means at this step, for somebody who sees only the message.
fn explain(request: &Request, stage: Stage, e: &std::io::Error) -> String {
    use std::io::ErrorKind::{ArgumentListTooLong, NotFound, PermissionDenied};
    let program = &request.program;
    match (stage, e.kind()) {
        (Stage::Clone, _) => "no new process could be made".to_owned(),
        (Stage::Prepare, _) => "its limits or standard streams could not be set up".to_owned(),
        (Stage::Chdir, _) => {
            let dir = request.dir.as_deref().unwrap_or(OsStr::new("."));
            format!("cannot enter the working directory `{}`", Path::new(dir).display())
        }
        (Stage::Exec, NotFound) if !program.to_string_lossy().contains('/') => {
            let path = request.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.to_string_lossy());
            match path {
                Some(path) => format!("no such program in PATH ({path})"),
                None => "no such program in /bin or /usr/bin, and PATH is not set".to_owned(),
            }
        }
        (Stage::Exec, NotFound) => {
            let found = |base: &Path| base.join(program).exists();
            let base = request.dir.as_ref().map(PathBuf::from).unwrap_or_default();
            if found(&base) {
                "the file is there, but the interpreter or loader that it names is not".to_owned()
            } else if request.dir.is_some() && found(Path::new("")) {
                "no such file; a relative path is looked up from the helper's working directory".to_owned()
            } else {
                "no such file".to_owned()
            }
        }
        (Stage::Exec, PermissionDenied) => "it is not an executable file, or its directory is closed to us".to_owned(),
        (Stage::Exec, ArgumentListTooLong) => "its arguments and environment are too long together".to_owned(),
        (Stage::Exec, _) if e.raw_os_error() == Some(crate::sys::ENOEXEC) => {
            "it is neither a binary nor a script with a `#!` line".to_owned()
        }
        (Stage::Exec, _) => "the kernel refused to execute it".to_owned(),
    }
}
