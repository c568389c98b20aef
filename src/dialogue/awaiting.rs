//! How a future waits for a change of a conversation, on whatever executor, and why it misses none.
//!
//! A future never leads: it would have to block. It looks at what is there, and if that is no answer, the
//! [attendant](super::attendant) watches the helper's descriptors for it and rings its [bell](super::bells). Each look takes
//! what it wants in one step with finding it, so a future that is dropped has consumed nothing: it returned what it took,
//! or it took nothing.
//!
//! **No wake-up is lost**, because this holds whenever the state is unlocked: *if a future is enlisted whose bell is set, then
//! a thread leads, or every open source is armed with the attendant, or a call to ring is on its way.*
//!
//! - *Looking and enlisting* happen under one lock, with the bell set before. A change before it is seen; a change after it
//!   finds the bell.
//! - *Arming* asks the kernel for a level, not for an edge: what arrived between the look and the arming fires at once.
//!   Arming twice is arming once. An entry that has fired is off until it is armed again (`EPOLLONESHOT`), by the attendant
//!   after it has read, and by every future that looks in vain.
//! - *A thread leads* while a future looks: the future is enlisted and arms nothing. The leader rings after each change, and
//!   when it leaves; so does a leader whose matcher panics. Then the futures look again, and arm.
//! - *The attendant finds a leader* when an entry fires: it does nothing, for the leader reads, and rings.
//! - *The attendant finds the state locked*, although nobody leads: it tries for a moment, and then again at its next tick,
//!   where it arms everything anew. Only a slow matcher can bring that about.
//! - *Several futures* on one conversation are all rung for each change, and each arms for itself: that one of them is
//!   dropped takes nothing from the others. Who takes in something tells threads and the other futures.
//! - *A conversation that is dropped* while it is armed: its descriptors leave the kernel's set when they are closed, and an
//!   event that is on its way finds nobody of that number. The keeper's socket lives on, for the next fixture's news: so it
//!   is armed only with the state locked, where it is known that its last word has not been heard, and the next fixture arms
//!   it in its own name after that. What the old name still fires is one event that nobody misses.
//! - *Deadlines* are alarms of the attendant. Where it cannot help, for want of memory or threads, the future asks to be
//!   polled again at once: that costs CPU, and no answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use super::attendant;
use super::bells::Listener;
use super::conversation::{Conversation, FLOOD_ROUNDS, State};
use super::expect::{Progress, Wait};
use super::verbs::Verb;
use crate::error::Error;
use crate::sys::AsFd;
use crate::sys::fds::{Until, poll};

/// Whose time a wait takes. What waits in several steps is written once, and is run [at once](at_once) by a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The calling thread's: nothing is ever pending.
    Blocking,
    /// Nobody's: the task is woken when it has to look again.
    Awaiting,
}

/// Runs what waits in a [blocking](How::Blocking) way.
pub(crate) fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(work).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("what blocks is never pending"),
    }
}

impl Conversation {
    /// As [`wait`](Conversation::wait), in either way.
    pub(crate) async fn wait_in<R>(
        self: &Arc<Self>,
        how: How,
        deadline: Option<Instant>,
        check: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        match how {
            How::Blocking => self.wait(deadline, check),
            How::Awaiting => self.change(deadline, check).await,
        }
    }

    /// Awaits that `check` has an answer. `None` when the deadline has passed without one.
    pub(crate) async fn change<R>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut listener = Listener::new(&self.bells);
        poll_fn(|context| self.look(context, &mut listener, deadline, &mut check)).await
    }

    /// One look; see the module's description.
    fn look<R>(
        self: &Arc<Self>,
        context: &Context<'_>,
        listener: &mut Listener<'_>,
        deadline: Option<Instant>,
        check: &mut impl FnMut(&mut State) -> Option<R>,
    ) -> Poll<Option<R>> {
        listener.set(context.waker());
        let _others = IfPanicking(self);
        let mut state = self.lock();
        let led = state.is_led();
        let mut changed = false;
        let mut answer = check(&mut state);
        if answer.is_none() && !led {
            let mut ready = glance(&state);
            for _ in 0..FLOOD_ROUNDS {
                if ready == [false; 3] {
                    break;
                }
                changed = true;
                let more = state.take_in(ready);
                answer = check(&mut state);
                if answer.is_some() || !more {
                    break;
                }
                ready = [true, true, false];
            }
        }
        let late = deadline.is_some_and(|d| Instant::now() >= d);
        let mut blind = false;
        if answer.is_none() && !late {
            blind = !listener.enlist(deadline) || (!led && !attendant::watch(self, &state));
        }
        if changed {
            self.announce(&state);
        }
        drop(state);
        if changed {
            self.bells.ring_others(Some(listener));
        }
        match answer {
            None if !late => {
                if blind {
                    ask_again(context);
                }
                Poll::Pending
            }
            answer => Poll::Ready(answer),
        }
    }
}

impl Wait<'_> {
    /// As [`run`](Wait::run), for a task.
    pub(crate) async fn run_awaited<V: Verb>(&self, mut verb: V) -> Result<V::Answer, Error> {
        if let Some(why) = verb.problem() {
            return Err(self.refuse(&verb, &why));
        }
        let mut progress = Progress::new(self.limit);
        let end = loop {
            let deadline = progress.deadline();
            let look = |state: &mut State| {
                let answer = progress.check(&mut verb, state, self.channel)?;
                Some(answer.inspect(|answer| self.note(state, &verb, V::note(answer))))
            };
            let found = self.conversation.change(deadline, look).await;
            match self.outcome(found, &mut verb, &mut progress) {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(end)) => break end,
                None => {}
            }
        };
        Err(self.explain(&mut verb, end))
    }

    /// As [`run`](Wait::run), in either way.
    pub(crate) async fn run_in<V: Verb>(&self, how: How, verb: V) -> Result<V::Answer, Error> {
        match how {
            How::Blocking => self.run(verb),
            How::Awaiting => self.run_awaited(verb).await,
        }
    }
}

/// For want of somebody who wakes it: the task wakes itself.
pub(super) fn ask_again(context: &Context<'_>) {
    std::thread::yield_now();
    context.waker().wake_by_ref();
}

/// Which of stdout, stderr and the news are ready this very moment.
fn glance(state: &State) -> [bool; 3] {
    let [out, err] = state.sources();
    let sources = [out, err, state.life.source()];
    let set = sources.each_ref().map(|fd| fd.as_ref().map(|fd| (fd.as_fd(), Until::Readable)));
    // poll fails for want of memory only; then reading shall tell what is there.
    poll(set, Some(Instant::now())).unwrap_or([true; 3])
}

/// A check that panics ends its wait without leaving properly: whoever waited for it as their leader has to look again, and
/// if nobody waits any more, the attendant reads.
pub(super) struct IfPanicking<'a>(pub(super) &'a Arc<Conversation>);

impl Drop for IfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.changed.notify_all();
            if !self.0.attended.load(Ordering::Relaxed) {
                attendant::idle(self.0);
            }
            self.0.bells.ring();
        }
    }
}
