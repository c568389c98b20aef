//! Waiting on several helpers at once: whoever says first what is expected of them.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::dialogue::channel::Output;
use crate::dialogue::found::Match;
use crate::dialogue::matcher::{IntoMatcher, Matcher, ViaList};
use crate::dialogue::verbs::single::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::fixture::Fixture;
use crate::futures::Awaitable;
use crate::report::seconds;
use crate::within::Within;

/// One stream, and what is expected on it; made by [`IntoCandidates`].
#[derive(Debug)]
pub struct Candidate<'m> {
    output: Output,
    matcher: Matcher<'m>,
}

/// What [`expect_first`] accepts: a tuple of up to eight pairs, an array of pairs, or a vector of them.
///
/// A pair is a `&Fixture`, whose standard output is meant, a [`Within`] or an [`Output`], and a matcher. In a tuple they may
/// be of different kinds: `((&server, "ready"), (server.stderr(), like("refused: {why}")))`.
pub trait IntoCandidates<Via> {
    /// Turns them into candidates, in their order.
    fn into_candidates<'m>(self) -> Vec<Candidate<'m>>
    where
        Self: 'm;
}

impl<Via, S: Into<Output>, M: IntoMatcher<Via>, const N: usize> IntoCandidates<ViaList<Via>> for [(S, M); N] {
    fn into_candidates<'m>(self) -> Vec<Candidate<'m>>
    where
        Self: 'm,
    {
        let into = |(from, what): (S, M)| candidate(from, what.into_matcher());
        self.into_iter().map(into).collect()
    }
}

impl<Via, S: Into<Output>, M: IntoMatcher<Via>> IntoCandidates<ViaList<Via>> for Vec<(S, M)> {
    fn into_candidates<'m>(self) -> Vec<Candidate<'m>>
    where
        Self: 'm,
    {
        let into = |(from, what): (S, M)| candidate(from, what.into_matcher());
        self.into_iter().map(into).collect()
    }
}

macro_rules! tuples {
    ($(($($s:ident $m:ident $via:ident),+))*) => {$(
        impl<$($via, $s: Into<Output>, $m: IntoMatcher<$via>),+> IntoCandidates<($($via,)+)> for ($(($s, $m),)+) {
            fn into_candidates<'m>(self) -> Vec<Candidate<'m>>
            where
                Self: 'm,
            {
                #[expect(non_snake_case, reason = "a type parameter's name serves as its value's")]
                let ($(($s, $m),)+) = self;
                vec![$(candidate($s, $m.into_matcher())),+]
            }
        }
    )*};
}

tuples! {
    (Sa A Va)
    (Sa A Va, Sb B Vb)
    (Sa A Va, Sb B Vb, Sc C Vc)
    (Sa A Va, Sb B Vb, Sc C Vc, Sd D Vd)
    (Sa A Va, Sb B Vb, Sc C Vc, Sd D Vd, Se E Ve)
    (Sa A Va, Sb B Vb, Sc C Vc, Sd D Vd, Se E Ve, Sf F Vf)
    (Sa A Va, Sb B Vb, Sc C Vc, Sd D Vd, Se E Ve, Sf F Vf, Sg G Vg)
    (Sa A Va, Sb B Vb, Sc C Vc, Sd D Vd, Se E Ve, Sf F Vf, Sg G Vg, Sh H Vh)
}

fn candidate<'m>(from: impl Into<Output>, matcher: Matcher<'m>) -> Candidate<'m> {
    Candidate { output: from.into(), matcher }
}

impl From<&Fixture> for Output {
    fn from(fixture: &Fixture) -> Output {
        fixture.stdout()
    }
}

impl From<Within<'_>> for Output {
    fn from(within: Within<'_>) -> Output {
        within.stdout()
    }
}

impl From<&Output> for Output {
    fn from(output: &Output) -> Output {
        output.clone()
    }
}

/// Waits on several helpers until one of them says what is expected of it: its index, and what was found.
///
/// Each is found as [`expect`](Fixture::expect) finds it. If several are there, the first in the list is meant. The others
/// have nothing consumed. The time limit is the shortest of theirs, for all together.
///
/// # Errors
///
/// [`ErrorKind::Timeout`], with the report of each. As soon as none of them can say it any more, because all have ended:
/// [`ErrorKind::Exited`] or the like, as the first of them. [`ErrorKind::Unwanted`] as soon as one of them says what it must
/// not [say](crate::FixtureBuilder::fail_on). Nothing is consumed then.
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
///
/// # fn main() -> foster::Result {
/// let leader = Fixture::command("sh").args(["-c", "sleep 5; echo elected"]).spawn()?;
/// let rival = Fixture::command("sh").args(["-c", "echo elected with 3 votes; read never"]).spawn()?;
/// let (who, how) = foster::expect_first(((&leader, "elected"), (&rival, like("with {votes} votes"))))?;
/// assert_eq!((who, how.get::<u32>("votes")?), (1, 3));
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn expect_first<K>(candidates: impl IntoCandidates<K>) -> Result<(usize, Match)> {
    block_on(first(candidates.into_candidates(), Location::caller()))
}

/// As [`expect_first`], for a task. Dropped before it is ready, it has consumed nothing.
///
/// # Errors
///
/// Those of [`expect_first`].
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// # pollster::block_on(async {
/// let [silent, loud] = ["read never", "echo hello"].map(|s| foster::Fixture::command("sh").args(["-c", s]));
/// let (silent, loud) = (silent.spawn()?, loud.spawn()?);
/// let (who, _) = foster::expect_first_async([(&silent, "hello"), (&loud, "hello")]).await?;
/// assert_eq!(who, 1);
/// # Ok(())
/// # })
/// # }
/// ```
#[track_caller]
pub fn expect_first_async<'m, K>(candidates: impl IntoCandidates<K> + 'm) -> Awaitable<'m, (usize, Match)> {
    Awaitable::new(first(candidates.into_candidates(), Location::caller()))
}

/// One that has not failed yet, or how it did.
enum Attempt<'m> {
    Runs(Pin<Box<dyn Future<Output = Result<Match>> + Send + 'm>>),
    Failed(Error),
}

async fn first(candidates: Vec<Candidate<'_>>, at: &'static Location<'static>) -> Result<(usize, Match)> {
    let Some(limit) = candidates.iter().map(|c| c.output.limit).min() else {
        let message = "failed to expect: there is nothing to expect".to_owned();
        return Err(Error::new(ErrorKind::InvalidInput, message));
    };
    let object = |Candidate { output, matcher }: &Candidate<'_>| {
        let matcher = matcher.to_string();
        let shown = output.conversation.lock().redacted(matcher.as_bytes()).into_owned();
        format!("`{}` from `{}`", String::from_utf8_lossy(&shown), output.conversation.subject.label)
    };
    let objects = candidates.iter().map(object).collect::<Vec<_>>().join(" or ");
    let attempt = |Candidate { output, matcher }| {
        let output = Output { limit, ..output };
        Attempt::Runs(Box::pin(async move { output.wait(at).run_awaited(Place::new(matcher)).await }))
    };
    let mut attempts: Vec<Attempt<'_>> = candidates.into_iter().map(attempt).collect();
    let found = poll_fn(|context| look(&mut attempts, context)).await;
    found.ok_or_else(|| failure(&objects, limit, &attempts))
}

/// Asks those that have not failed, in their order, until one has found it. `None` as soon as nobody can find it any more.
fn look(attempts: &mut [Attempt<'_>], context: &mut Context<'_>) -> Poll<Option<(usize, Match)>> {
    let mut running = false;
    for (i, attempt) in attempts.iter_mut().enumerate() {
        let Attempt::Runs(future) = attempt else { continue };
        match future.as_mut().poll(context) {
            Poll::Ready(Ok(found)) => return Poll::Ready(Some((i, found))),
            Poll::Ready(Err(error)) => {
                // What makes no sense, or must not be said, is not outweighed by what another one says.
                let serious = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unwanted);
                *attempt = Attempt::Failed(error);
                if serious {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending => running = true,
        }
    }
    if running { Poll::Pending } else { Poll::Ready(None) }
}

/// All reports, below a line that says what they have in common.
fn failure(objects: &str, limit: Duration, attempts: &[Attempt<'_>]) -> Error {
    let errors: Vec<&Error> = attempts
        .iter()
        .filter_map(|a| match a {
            Attempt::Failed(error) => Some(error),
            Attempt::Runs(_) => None,
        })
        .collect();
    let has = |kind: ErrorKind| errors.iter().any(|e| e.kind() == kind).then_some(kind);
    let kind = has(ErrorKind::InvalidInput).or_else(|| has(ErrorKind::Unwanted)).or_else(|| has(ErrorKind::Timeout));
    let kind = kind.or_else(|| errors.first().map(|e| e.kind())).unwrap_or(ErrorKind::Timeout);
    let why = match kind {
        ErrorKind::Timeout => format!("timed out after {}", seconds(limit)),
        ErrorKind::InvalidInput => "one of them makes no sense".to_owned(),
        ErrorKind::Unwanted => "one of them said what it must not say".to_owned(),
        _ => "none of them will say it any more".to_owned(),
    };
    let reports: String = errors.iter().map(|e| format!("\n{e:?}\n")).collect();
    Error::new(kind, format!("failed to expect {objects}: {why}")).with_report(reports)
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(result) = work.as_mut().poll(&mut context) {
            return result;
        }
        while !parked.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

struct Parked {
    thread: Thread,
    /// The thread's own token may have been used up by a matcher that has parked it.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
