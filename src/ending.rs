//! How a fixture ends: what is behind `stop`, `kill`, `finish` and `Drop`.

use std::borrow::Borrow;
use std::panic::Location;
use std::process::{ExitStatus, Output as ProcessOutput};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::color;
use crate::dialogue::awaiting::{How, at_once};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::expect::deadline;
use crate::error::{ErrorKind, Result};
use crate::finished::Finished;
use crate::fixture::Fixture;
use crate::guardian::keeper::KILL_LIMIT;
use crate::guardian::protocol::Ladder;
use crate::journal::By;
use crate::report::{self, seconds};
use crate::settings;
use crate::stop::Stopped;
use crate::sys::process;

/// How much longer than a keeper may take to end its tree the test waits for its word.
const STOP_SLACK: Duration = Duration::from_secs(3);

impl Fixture {
    /// Gives the helper the end of its input, waits for it to end, and ends what it has left behind;
    /// its status, all of its output that no expectation has consumed, and its directory.
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
        at_once(self.finish_in(How::Blocking, Location::caller()))
    }

    pub(crate) async fn finish_in(mut self, how: How, at: &'static Location<'static>) -> Result<Finished> {
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
        let limit = deadline(self.limit());
        let look = |state: &mut State| {
            collect(state);
            exit(state)
        };
        let ended = self.conversation.wait_in(how, limit, look).await;
        let status = match ended {
            None => {
                let why = format!("it has not ended within {}, though its input has", seconds(self.limit()));
                let help = "a program that does not leave at the end of its input is ended with `stop()`, or given more \
                            time with `.timeout(…)`";
                return Err(self.fail_with(ErrorKind::Timeout, "finish", at, &why, help));
            }
            ended => self.exit_of(ended, self.limit(), "finish", at)?,
        };
        self.begin_stop(By::Test);
        let stopped = self.await_end(how, "finish", self.policy().ladder().total(), at).await?;
        // Nobody is left who could hold the streams open, except at level L1.
        let look = |state: &mut State| {
            collect(state);
            (state.stream(Channel::Stdout).is_eof() && state.stream(Channel::Stderr).is_eof()).then_some(())
        };
        let closed = self.conversation.wait_in(how, limit, look).await;
        let state = self.conversation.lock();
        if let Some(tripped) = &state.tripped {
            return Err(self.fail(&state, ErrorKind::Unwanted, "finish", String::new(), at, &tripped.to_string()));
        }
        if closed.is_none() {
            let why = "its output does not end: a process that escaped holds it open";
            return Err(self.fail(&state, ErrorKind::Timeout, "finish", String::new(), at, why));
        }
        let dropped =
            state.stream_ref(Channel::Stdout).window.dropped() + state.stream_ref(Channel::Stderr).window.dropped();
        drop(state);
        let output = ProcessOutput { status, stdout, stderr };
        Ok(Finished {
            output,
            escapees: stopped.escapees,
            dropped,
            command: self.conversation.subject.command.clone(),
            transcript: self.transcript(),
            dir: std::mem::take(&mut self.dir),
        })
    }

    #[expect(
        clippy::print_stderr,
        reason = "through the macro, so that libtest shows it with the panic and not elsewhere"
    )]
    fn show_to_the_panicking(&self) {
        self.conversation.wait(Some(Instant::now()), |_| None::<()>);
        let state = self.conversation.lock();
        if !state.reported {
            eprintln!("{}", color::for_printing(report::of_panic(&self.conversation.subject, &state)));
        }
    }

    /// Asks for the ladder without waiting, so that many can walk theirs at the same time.
    pub(crate) fn begin_stop(&self, by: By) {
        if self.is_over_or_begin(by) {
            return;
        }
        let ladder: Ladder = self.policy().ladder();
        if ladder.eof.is_some() {
            self.conversation.close_stdin();
        }
        // If the keeper does not hear it, it is gone, and the wait says so.
        let _ = self.handle.stop(ladder);
    }

    /// Is nothing left already? Otherwise its end begins now, by this one.
    fn is_over_or_begin(&self, by: By) -> bool {
        let mut state = self.conversation.lock();
        let over = state.life.is_over();
        if !over {
            state.life.claim(by);
        }
        over
    }

    /// Waits until nothing is left.
    pub(crate) async fn await_end(
        &self,
        how: How,
        verb: &str,
        ladder: Duration,
        at: &'static Location<'static>,
    ) -> Result<Stopped> {
        let is_over = |state: &mut State| state.life.is_over().then_some(());
        let limit = ladder.saturating_add(KILL_LIMIT).saturating_add(STOP_SLACK);
        let mut over = self.conversation.wait_in(how, deadline(limit), is_over).await;
        if over.is_none() && self.handle.give_up_on_keeper() {
            // Somebody has stopped it. The guardian kills it and then what it has left.
            let limit = KILL_LIMIT.saturating_add(STOP_SLACK);
            over = self.conversation.wait_in(how, deadline(limit), is_over).await;
        }
        self.conversation.release_stdin();
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
            // A fork bomb may have left hundreds, of which one is like the other.
            const NAMED: usize = 8;
            let named: Vec<String> = gone.survivors.iter().take(NAMED).map(ToString::to_string).collect();
            let more = match gone.survivors.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let why = format!("could not end {}{more}", named.join("; "));
            return Err(self.fail(&state, ErrorKind::Survivor, verb, object, at, &why));
        }
        Ok(Stopped { status: state.life.exited.as_ref().map(|e| e.status), escapees: gone.escapees.clone() })
    }

    pub(crate) async fn kill_in(&self, how: How, at: &'static Location<'static>) -> Result {
        if !self.is_over_or_begin(By::Test) {
            // If the keeper does not hear it, it is gone, and the wait says so.
            let _ = self.handle.kill();
        }
        self.await_end(how, "kill", Duration::ZERO, at).await.map(drop)
    }

    pub(crate) async fn stop_in(&self, how: How, at: &'static Location<'static>) -> Result<Stopped> {
        self.begin_stop(By::Test);
        self.await_end(how, "stop", self.policy().ladder().total(), at).await
    }

    /// What a wait for the exit means.
    pub(crate) fn exit_of(
        &self,
        ended: Option<Result<ExitStatus, (ErrorKind, String)>>,
        limit: Duration,
        verb: &str,
        at: &'static Location<'static>,
    ) -> Result<ExitStatus> {
        let (kind, why) = match ended {
            Some(Ok(status)) => return Ok(status),
            Some(Err(failed)) => failed,
            None => (ErrorKind::Timeout, format!("timed out after {}", seconds(limit))),
        };
        let state = self.conversation.lock();
        let object = if verb == "expect" { "exit" } else { "" };
        Err(self.fail(&state, kind, verb, object.to_owned(), at, &why))
    }
}

/// The helper's exit, or why nobody will hear of it.
pub(crate) fn exit(state: &mut State) -> Option<Result<ExitStatus, (ErrorKind, String)>> {
    if let Some(tripped) = &state.tripped {
        return Some(Err((ErrorKind::Unwanted, tripped.to_string())));
    }
    let exit = state.life.exited.as_ref().map(|e| Ok(e.status));
    exit.or_else(|| state.life.lost.clone().map(|why| Err((ErrorKind::Guardian, why))))
}

impl Drop for Fixture {
    /// Stops the helper. Silent, bounded, and never a panic, also while the thread is unwinding.
    ///
    /// A test that panics has its helpers shown, unless a report of foster's has just done so: an `assert!` that fails says
    /// nothing about them.
    fn drop(&mut self) {
        if self.owner != process::own_pid() || settings::disabled("drop") {
            // A copy of the test process must not end its parent's helper; closing its copies of the descriptors is no harm.
            // And where Drop is switched off, the descriptors must stay open, or the keeper takes it for the end.
            std::mem::forget(Arc::clone(&self.conversation));
            return;
        }
        let over = self.conversation.lock().life.is_over();
        if std::thread::panicking() {
            self.show_to_the_panicking();
        }
        if !over {
            self.begin_stop(By::Drop);
            // Whatever is wrong now, the keeper and the guardian go on with it; there is nobody to tell.
            let ladder = self.policy().ladder().total();
            let _ = at_once(self.await_end(How::Blocking, "stop", ladder, Location::caller()));
        }
        self.conversation.release_stdin();
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
        fixture.borrow().begin_stop(By::Test);
    }
    let end = |f: &Fixture| at_once(f.await_end(How::Blocking, "stop", f.policy().ladder().total(), at));
    let results: Vec<Result<Stopped>> = fixtures.iter().map(|f| end(f.borrow())).collect();
    results.into_iter().collect()
}
