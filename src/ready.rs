//! When a helper counts as started: what it has to say, or where it has to listen.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::dialogue::awaiting::How;
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::expect::{Wait, deadline};
use crate::dialogue::matcher::{IntoMatcher, Matcher};
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;
use crate::dialogue::verbs::single::Place;
use crate::error::{ErrorKind, Result};
use crate::fixture::Fixture;
use crate::report::{seconds, status};
use crate::sys::listening::{self, Listener};

/// The kernel does not announce that somebody listens, so it has to be asked; this is how often, at first and at the least.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// When a helper counts as started; for [`FixtureBuilder::ready`](crate::FixtureBuilder::ready).
///
/// # Examples
///
/// A server that says where it listens, and then has to do so:
///
/// ```no_run
/// use foster::prelude::*;
///
/// # fn main() -> foster::Result {
/// let fx = foster::Fixture::command("server")
///     .ready(Ready::line(like("listening on {addr}")).and(Ready::tcp("{addr}")))
///     .spawn()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ready(Vec<Condition>);

#[derive(Clone)]
enum Condition {
    Said { channel: Channel, matcher: Arc<Mutex<Matcher<'static>>> },
    Listens { port: Template },
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ready").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, condition) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { ", then " } else { "" })?;
            match condition {
                Condition::Said { channel, matcher } => {
                    let matcher = matcher.lock().unwrap_or_else(PoisonError::into_inner);
                    write!(f, "`{matcher}` on {}", channel.name())?;
                }
                Condition::Listens { port } => write!(f, "listening on `{port}`")?,
            }
        }
        Ok(())
    }
}

impl Ready {
    fn said<K>(channel: Channel, matcher: impl IntoMatcher<K> + 'static) -> Ready {
        Ready(vec![Condition::Said { channel, matcher: Arc::new(Mutex::new(matcher.into_matcher())) }])
    }

    /// When it has said this on standard output, found as [`expect`](Fixture::expect) finds it, which consumes it.
    /// What it captures is kept for [`Fixture::capture`].
    #[must_use]
    pub fn line<K>(matcher: impl IntoMatcher<K> + 'static) -> Ready {
        Ready::said(Channel::Stdout, matcher)
    }

    /// The same on standard error, where many servers log.
    #[must_use]
    pub fn stderr_line<K>(matcher: impl IntoMatcher<K> + 'static) -> Ready {
        Ready::said(Channel::Stderr, matcher)
    }

    /// When the helper, or a process that it has started, listens on this TCP port.
    ///
    /// The port is the number at the end: `"4711"`, `"127.0.0.1:4711"`, or `"{addr}"` for what an earlier condition has
    /// captured. Nobody connects: the kernel is asked who listens, every 2 ms at first and every 50 ms in the end. Somebody else who listens on that port
    /// does not make the helper ready, and a report says who it is.
    ///
    /// # Platforms
    ///
    /// Linux, with `/proc`.
    #[must_use]
    pub fn tcp(port: impl AsRef<str>) -> Ready {
        Ready(vec![Condition::Listens { port: Template::new(port.as_ref()) }])
    }

    /// When it is ready in this sense and then in that.
    #[must_use]
    pub fn and(mut self, then: Ready) -> Ready {
        self.0.extend(then.0);
        self
    }

    /// Why it makes no sense, if it does not.
    pub(crate) fn problem(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for condition in &self.0 {
            match condition {
                Condition::Said { matcher, .. } => {
                    let matcher = matcher.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(why) = matcher.problem() {
                        return Some(format!("ready `{matcher}`: {why}"));
                    }
                    names.extend(matcher.names());
                }
                Condition::Listens { port } => {
                    if let Some(unknown) = port.names().find(|name| !names.iter().any(|n| n == name)) {
                        return Some(format!("ready on `{port}`: nothing before it captures `{unknown}`"));
                    }
                }
            }
        }
        None
    }

    /// Waits until it is so; what was captured.
    pub(crate) async fn wait(&self, how: How, fixture: &Fixture, at: &'static Location<'static>) -> Result<Captures> {
        let began = Instant::now();
        let limit = fixture.limit();
        let mut captures = Captures::new();
        for condition in &self.0 {
            let left = limit.saturating_sub(began.elapsed());
            match condition {
                Condition::Said { channel, matcher } => {
                    let wait = Wait { conversation: &fixture.conversation, channel: *channel, limit: left, at };
                    let place = Place::new(Matcher::shared(matcher));
                    captures.extend(wait.run_in(how, place).await?.captures);
                }
                Condition::Listens { port } => {
                    let value = |name: &str| captures.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                    let address = port.with(value).to_string();
                    await_listener(how, fixture, &address, left, at).await?;
                }
            }
        }
        Ok(captures)
    }
}

async fn await_listener(
    how: How,
    fixture: &Fixture,
    address: &str,
    limit: Duration,
    at: &'static Location<'static>,
) -> Result {
    let object = || format!("listening on {address}");
    let fail = |kind: ErrorKind, why: &str| {
        let state = fixture.conversation.lock();
        Err(fixture.fail(&state, kind, "expect", object(), at, why))
    };
    let Some(port) = port_of(address) else {
        return fail(ErrorKind::InvalidInput, "there is no port number at its end");
    };
    let deadline = deadline(limit);
    let (mut interval, slowest) = ASK_EVERY;
    loop {
        let listener = listening::on_port(port, fixture.handle.pid(), fixture.handle.root());
        if listener == Listener::Ours {
            return Ok(());
        }
        let ask = Instant::now() + interval;
        interval = (interval * 5 / 4).min(slowest);
        let next = deadline.map_or(ask, |d| ask.min(d));
        let ended = |state: &mut State| {
            let exited =
                state.life.exited.as_ref().map(|e| (ErrorKind::Exited, format!("the helper {}", status(e.status))));
            let lost = || state.life.lost.clone().map(|why| (ErrorKind::Guardian, why));
            let tripped = || state.tripped.as_ref().map(|t| (ErrorKind::Unwanted, t.to_string()));
            // A daemon listens on after the process that has started it.
            exited
                .filter(|_| state.life.exited.as_ref().is_some_and(|e| e.left.is_empty()))
                .or_else(lost)
                .or_else(tripped)
        };
        if let Some((kind, why)) = fixture.conversation.wait_in(how, Some(next), ended).await {
            return fail(kind, &why);
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            let timed_out = format!("timed out after {}", seconds(limit));
            return fail(
                ErrorKind::Timeout,
                &match listener {
                    Listener::Stranger(inodes) => match listening::holder(&inodes) {
                        Some((pid, command)) => {
                            format!("{timed_out}: another process listens there, `{command}` (pid {pid})")
                        }
                        None => format!("{timed_out}: another process listens there, of another user"),
                    },
                    _ => format!("{timed_out}: nobody listens there"),
                },
            );
        }
    }
}

/// The number at the end of an address.
fn port_of(address: &str) -> Option<u16> {
    let digits = address.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
