//! The state that a fixture and all its handles share, and the one way to wait for a change of it.
//!
//! **Whoever waits reads.** The first thread that has to wait becomes the *leader*: it polls all of the helper's
//! descriptors and puts what arrives into the shared state. Threads that come later wait on a condition variable until the
//! leader has news or leaves. So a lone waiter, the usual case, pays for one `poll` and one `read` and for no hand-over
//! between threads. While nobody waits, the [attendant](super::attendant) reads, so a helper never blocks on a full pipe.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use super::attendant;
use super::life::Life;
#[cfg(feature = "screen")]
use super::screen::Emulator;
use super::stdin::{SendError, Stdin};
use super::terminal::Ends;
use super::watch::{Lookout, Tripped, Unwanted};
use super::window::{Filled, Window};
use crate::report::Subject;
use crate::sys::fds::{Until, poll};
use crate::sys::{AsFd, OwnedFd};
use crate::transcript::{Direction, Transcript};

/// How long a waiter looks again before it sleeps. Waking a sleeping thread on another core costs more than the usual
/// answer takes; spinning for longer would take time from the helper on a busy machine.
const LOOK_AGAIN: Duration = Duration::from_micros(30);

/// How many reads in a row keep the state locked.
const FLOOD_ROUNDS: usize = 16;

/// How long a leader lets others go first, who have asked for the state while it had it.
const LET_PASS: Duration = Duration::from_millis(1);

/// Which of the helper's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

impl Channel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Channel::Stdout => "stdout",
            Channel::Stderr => "stderr",
        }
    }

    fn direction(self) -> Direction {
        match self {
            Channel::Stdout => Direction::Out,
            Channel::Stderr => Direction::Err,
        }
    }
}

/// One output stream.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: Option<Arc<OwnedFd>>,
    pub(crate) window: Window,
    /// The last match ended inside a line.
    pub(crate) mid_line: bool,
    /// It is no stream of its own: a terminal has one output.
    pub(crate) joined: bool,
    /// Reading failed for a reason other than the end of the stream.
    pub(crate) broken: Option<io::ErrorKind>,
}

impl Stream {
    fn new(fd: Option<OwnedFd>, capacity: usize) -> Stream {
        let joined = fd.is_none();
        Stream { fd: fd.map(Arc::new), window: Window::new(capacity), mid_line: false, joined, broken: None }
    }

    /// How much of the stream has arrived, as a position in it.
    pub(crate) fn arrived(&self) -> u64 {
        self.window.offset() + self.window.unread().len() as u64
    }

    /// Has everything arrived that will ever arrive?
    pub(crate) fn is_eof(&self) -> bool {
        self.fd.is_none()
    }
}

/// What is known about the helper at one moment.
#[derive(Debug)]
pub(crate) struct State {
    streams: [Stream; 2],
    pub(crate) life: Life,
    pub(crate) transcript: Transcript,
    /// A thread polls; it will put what it finds here.
    led: bool,
    /// Threads that wait for the leader.
    followers: usize,
    /// A failure has been reported with all that is known: a panic that follows need not do so again.
    pub(crate) reported: bool,
    /// Looks for lines that must not come, if there are such.
    lookout: Option<Lookout>,
    /// One has come: no wait succeeds any more.
    pub(crate) tripped: Option<Tripped>,
    /// What shows the output as a person would see it, if it goes to a terminal.
    #[cfg(feature = "screen")]
    pub(crate) emulator: Option<Box<Emulator>>,
    /// How often somebody has waited: tells the attendant whether the conversation is in use.
    pub(super) waits: u64,
}

impl State {
    pub(crate) fn stream(&mut self, channel: Channel) -> &mut Stream {
        &mut self.streams[channel as usize]
    }

    pub(crate) fn stream_ref(&self, channel: Channel) -> &Stream {
        &self.streams[channel as usize]
    }

    /// The descriptors of the streams that are open, for the attendant.
    pub(super) fn sources(&self) -> [Option<Arc<OwnedFd>>; 2] {
        [self.streams[0].fd.clone(), self.streams[1].fd.clone()]
    }

    /// As it may be shown: what was sent as a secret is left out.
    pub(crate) fn redacted<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        self.transcript.secrets.redacted(bytes)
    }

    pub(super) fn is_led(&self) -> bool {
        self.led
    }

    /// Takes in what is there without waiting; true if there is probably more.
    fn take_in(&mut self, ready: [bool; 3]) -> bool {
        let [out, err, news] = ready;
        let heard = news && self.life.hear();
        // The helper's last words were written before its end was told: read them in the same breath.
        let all = heard && self.life.exited.is_some();
        let mut more = false;
        for (channel, ready) in [(Channel::Stdout, out), (Channel::Stderr, err)] {
            if all {
                // Up to the end of the stream, which is there already unless somebody else holds it open.
                more |= (0..FLOOD_ROUNDS).all(|_| matches!(self.read(channel), Filled::Some(_) | Filled::More(_)));
            } else if ready {
                more |= matches!(self.read(channel), Filled::More(_));
            }
        }
        more
    }

    /// One read of one stream.
    pub(super) fn read(&mut self, channel: Channel) -> Filled {
        let stream = &mut self.streams[channel as usize];
        let Some(fd) = &stream.fd else { return Filled::Eof };
        let filled = stream.window.fill(fd).unwrap_or_else(|e| {
            stream.broken = Some(e.kind());
            Filled::Eof
        });
        match filled {
            Filled::Nothing => {}
            Filled::Eof => {
                stream.fd = None;
                if let (Some(lookout), None) = (&mut self.lookout, &self.tripped) {
                    self.tripped = lookout.end(channel);
                }
            }
            Filled::Some(n) | Filled::More(n) => {
                let latest = stream.window.latest(n);
                self.transcript.record(channel.direction(), latest);
                #[cfg(feature = "screen")]
                if let Some(emulator) = &mut self.emulator {
                    emulator.show(latest, fd);
                }
                if let (Some(lookout), None) = (&mut self.lookout, &self.tripped) {
                    self.tripped = lookout.see(channel, latest);
                }
            }
        }
        filled
    }
}

/// See the module's description.
pub(crate) struct Conversation {
    state: Mutex<State>,
    changed: Condvar,
    pub(super) stdin: Stdin,
    /// Threads that wait for `state` to be unlocked.
    queued: AtomicUsize,
    pub(crate) subject: Subject,
    /// The attendant looks after this conversation, or will look at it at its next tick.
    pub(super) attended: AtomicBool,
    /// The name under which the attendant knows it.
    pub(super) id: u64,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("subject", &self.subject).finish_non_exhaustive()
    }
}

thread_local! {
    /// The conversation whose state this thread holds right now, as an address.
    static HOLDING: Cell<usize> = const { Cell::new(0) };
}

/// The state, locked.
pub(crate) struct Locked<'a> {
    /// `None` only for the moment in which a condition variable has it.
    guard: Option<MutexGuard<'a, State>>,
    before: usize,
}

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        self.guard.as_ref().expect("the guard is always put back")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.guard.as_mut().expect("the guard is always put back")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        HOLDING.set(self.before);
    }
}

impl Conversation {
    pub(crate) fn new(
        ends: Ends,
        life: Life,
        subject: Subject,
        capacity: usize,
        unwanted: &Unwanted,
    ) -> Arc<Conversation> {
        let transcript = Transcript::new(subject.started);
        let Ends { stdin, stdout, stderr, terminal } = ends;
        let conversation = Arc::new(Conversation {
            state: Mutex::new(State {
                streams: [Stream::new(Some(stdout), capacity), Stream::new(stderr, capacity)],
                life,
                transcript,
                led: false,
                followers: 0,
                waits: 0,
                lookout: Lookout::new(unwanted),
                tripped: None,
                #[cfg(feature = "screen")]
                emulator: terminal.map(Emulator::new),
                reported: false,
            }),
            changed: Condvar::new(),
            stdin: Stdin::new(stdin, terminal.is_some()),
            queued: AtomicUsize::new(0),
            subject,
            attended: AtomicBool::new(false),
            id: attendant::next_id(),
        });
        attendant::introduce(&conversation);
        attendant::idle(&conversation);
        conversation
    }

    /// # Panics
    ///
    /// When the calling thread holds it already, which only a matcher that uses its own fixture can bring about:
    /// a panic that says so is better than waiting for oneself.
    pub(crate) fn lock(&self) -> Locked<'_> {
        self.refuse_matchers();
        let before = HOLDING.get();
        let guard = self.try_lock().unwrap_or_else(|| {
            self.queued.fetch_add(1, Ordering::Relaxed);
            let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.queued.fetch_sub(1, Ordering::Relaxed);
            guard
        });
        HOLDING.set(std::ptr::from_ref(self).addr());
        Locked { guard: Some(guard), before }
    }

    /// Panics when the calling thread holds the state already.
    fn refuse_matchers(&self) {
        if HOLDING.get() == std::ptr::from_ref(self).addr() {
            panic!("a matcher must not use the fixture that it is being matched against");
        }
    }

    /// The state, unless somebody else is at it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(p)) => Some(p.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Tells threads that wait for the leader that the state has changed.
    pub(super) fn announce(&self, state: &State) {
        if state.followers > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until `check` has an answer. `None` when the deadline has passed without one.
    ///
    /// `check` sees everything that has arrived before each look, and is asked at least once.
    pub(crate) fn wait<R>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let _others = IfPanicking(&self.changed);
        let mut state = self.lock();
        state.waits += 1;
        let answer = loop {
            if let Some(answer) = check(&mut state) {
                break Some(answer);
            }
            if state.led {
                if self.follow(&mut state, deadline) {
                    break check(&mut state);
                }
                continue;
            }
            let late = deadline.is_some_and(|d| Instant::now() >= d);
            let (mut now, ready) = self.lead(state, deadline);
            let mut more = now.take_in(ready);
            self.announce(&now);
            state = now;
            // In a flood there is no need to ask again whether something is there.
            // But time passes, and whoever wants the state shall have it: only for a few rounds.
            for _ in 0..FLOOD_ROUNDS {
                if !more || late || deadline.is_some_and(|d| Instant::now() >= d) {
                    break;
                }
                if let Some(answer) = check(&mut state) {
                    self.leave(&state);
                    return Some(answer);
                }
                more = state.take_in([true, true, false]);
            }
            if late || (ready == [false; 3] && deadline.is_some_and(|d| Instant::now() >= d)) {
                break check(&mut state);
            }
        };
        self.leave(&state);
        answer
    }

    /// Whoever waited for us has to lead now; and if nobody waits any more, the attendant reads.
    fn leave(self: &Arc<Self>, state: &State) {
        self.announce(state);
        if !self.attended.load(Ordering::Relaxed) {
            attendant::idle(self);
        }
    }

    /// Waits for the leader's news; true when the deadline has passed.
    fn follow(&self, state: &mut Locked<'_>, deadline: Option<Instant>) -> bool {
        state.followers += 1;
        let mut timed_out = false;
        state.guard = state.guard.take().map(|guard| match deadline {
            None => self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(d) => {
                let left = d.saturating_duration_since(Instant::now());
                let (guard, result) = self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
                timed_out = result.timed_out();
                guard
            }
        });
        state.followers -= 1;
        timed_out
    }

    /// Polls without holding the state; which of stdout, stderr and the news are ready.
    fn lead<'a>(&'a self, mut state: Locked<'a>, deadline: Option<Instant>) -> (Locked<'a>, [bool; 3]) {
        let [out, err] = state.sources();
        let sources = [out, err, state.life.source()];
        state.led = true;
        drop(state);
        // std's mutex is not fair: in a flood we would have it back before they are awake.
        let until = Instant::now() + LET_PASS;
        while self.queued.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::yield_now();
        }
        let ready = look(&sources, deadline);
        let mut state = self.lock();
        state.led = false;
        (state, ready)
    }

    /// Sends one whole message; threads that send at the same time take turns.
    ///
    /// The helper may be busy writing to us meanwhile: the attendant reads that, or both sides would wait for ever.
    pub(crate) fn send(
        self: &Arc<Self>,
        bytes: &[u8],
        deadline: Option<Instant>,
        from: &'static Location<'static>,
    ) -> Result<(), SendError> {
        self.refuse_matchers();
        if self.is_hung_up() {
            return Err(SendError::Broken { sent: 0 });
        }
        let (result, sent) = self.stdin.send(bytes, deadline, || {
            if !self.attended.load(Ordering::Relaxed) {
                attendant::idle(self);
            }
        });
        if sent > 0 {
            self.lock().transcript.record_sent(&self.as_lines(&bytes[..sent]), from);
        }
        result
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        attendant::forget(self.id);
    }
}

/// A check that panics ends its wait without leaving properly: whoever waited for it as their leader has to look again.
struct IfPanicking<'a>(&'a Condvar);

impl Drop for IfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.notify_all();
        }
    }
}

/// Which of the three are ready: looked at a few times without sleeping, then slept on.
fn look(sources: &[Option<Arc<OwnedFd>>; 3], deadline: Option<Instant>) -> [bool; 3] {
    let set = || sources.each_ref().map(|fd| fd.as_ref().map(|fd| (fd.as_fd(), Until::Readable)));
    let began = Instant::now();
    let mut now = began;
    loop {
        // poll fails for want of memory only; then reading shall tell what is there.
        let ready = poll(set(), Some(began)).unwrap_or([true; 3]);
        let yielded = now;
        now = Instant::now();
        if ready != [false; 3] || deadline.is_some_and(|d| now >= d) {
            return ready;
        }
        if now.duration_since(yielded) >= LOST_SLICE {
            CROWDED.note(now);
        }
        if now.duration_since(began) >= LOOK_AGAIN || CROWDED.is_so(now) {
            break;
        }
        std::thread::yield_now();
    }
    poll(set(), deadline).unwrap_or([true; 3])
}

/// Who yields when others want the processor gets it back when their slices are used up, which may be milliseconds.
static CROWDED: Crowded = Crowded(AtomicU64::new(0));

/// Until when nobody looks again before sleeping: microseconds after [`EPOCH`].
struct Crowded(AtomicU64);

/// What the clock is compared with.
static EPOCH: Lazy<Instant> = Lazy::new(Instant::now);

/// A look and a yield take a microsecond or two, unless somebody else has used the processor meanwhile.
const LOST_SLICE: Duration = Duration::from_micros(200);

/// For how long the machine counts as crowded after that: ten times what the next try can cost, which is a slice.
const CROWDED_FOR: Duration = Duration::from_millis(50);

impl Crowded {
    fn note(&self, now: Instant) {
        self.0.store(micros(now + CROWDED_FOR), Ordering::Relaxed);
    }

    fn is_so(&self, now: Instant) -> bool {
        micros(now) < self.0.load(Ordering::Relaxed)
    }
}

fn micros(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_micros()).unwrap_or(u64::MAX)
}
