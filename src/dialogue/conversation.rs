//! The state that a fixture and all its handles share, and the one way to wait for a change of it.
//!
//! **Whoever waits reads.** The first thread that has to wait becomes the *leader*: it polls all of the helper's
//! descriptors and puts what arrives into the shared state. Threads that come later wait on a condition variable until the
//! leader has news or leaves. So a lone waiter, the usual case, pays for one `poll` and one `read` and for no hand-over
//! between threads. While nobody waits, the [attendant](super::attendant) reads, so a helper never blocks on a full pipe.
//! Futures wait in [their own way](super::awaiting).

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::attendant;
use super::awaiting::IfPanicking;
use super::bells::Bells;
use super::life::Life;
use super::looking::{self, Habit};
#[cfg(feature = "screen")]
use super::screen::Emulator;
use super::stdin::{SendError, Stdin};
use super::terminal::Ends;
use super::watch::{Lookout, Tripped, Unwanted};
use super::window::{Filled, Window};
use crate::logging;
use crate::report::Subject;
use crate::sys::OwnedFd;
use crate::sys::fds::write_some;
use crate::transcript::{Cut, Direction, Recorder, Secrets};

/// How many reads in a row keep the state locked.
pub(super) const FLOOD_ROUNDS: usize = 16;

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
    /// What must not be shown, for what is found in it.
    pub(crate) secrets: Secrets,
}

impl Stream {
    fn new(fd: Option<OwnedFd>, capacity: usize, secrets: Secrets) -> Stream {
        let joined = fd.is_none();
        let window = Window::new(capacity);
        Stream { fd: fd.map(Arc::new), window, mid_line: false, joined, broken: None, secrets }
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
    /// Whether looking again before sleeping has paid.
    habit: Habit,
    pub(crate) transcript: Recorder,
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

    /// A part of a stream as it may be shown: what was sent as a secret is left out.
    pub(crate) fn redacted<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        self.transcript.secrets.redacted(bytes, Cut::BOTH)
    }

    pub(super) fn is_led(&self) -> bool {
        self.led
    }

    /// Takes in what is there without waiting; true if there is probably more.
    pub(super) fn take_in(&mut self, ready: [bool; 3]) -> bool {
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
        if heard && self.life.is_over() {
            self.note_end();
        }
        more
    }

    /// One read of one stream.
    pub(super) fn read(&mut self, channel: Channel) -> Filled {
        let on_terminal = self.streams[Channel::Stderr as usize].joined;
        let stream = &mut self.streams[channel as usize];
        let Some(fd) = &stream.fd else { return Filled::Eof };
        let filled = stream.window.fill(fd).unwrap_or_else(|e| {
            stream.broken = Some(e.kind());
            Filled::Eof
        });
        // One read of a terminal brings at most a buffer of the kernel's, whatever room there is.
        let filled = match filled {
            Filled::Some(n) if on_terminal => Filled::More(n),
            other => other,
        };
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
    pub(super) changed: Condvar,
    /// Futures that wait for a change of the state.
    pub(super) bells: Bells,
    pub(super) stdin: Stdin,
    /// Threads that wait for `state` to be unlocked.
    queued: AtomicUsize,
    pub(crate) subject: Subject,
    /// What was sent as a secret.
    pub(crate) secrets: Secrets,
    /// The attendant looks after this conversation, or will look at it at its next tick.
    pub(super) attended: AtomicBool,
    /// The name under which the attendant knows it.
    pub(super) id: u64,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the command line, which may hold a secret.
        write!(f, "Conversation(`{}`, pid {})", self.subject.label, self.subject.pid)
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
        secrets: &Secrets,
    ) -> Arc<Conversation> {
        let log = logging::log_of(&subject, secrets);
        let transcript = Recorder::new(&subject.label, subject.started, secrets.clone(), log);
        let Ends { stdin, stdout, stderr, terminal } = ends;
        let stream = |fd| Stream::new(fd, capacity, secrets.clone());
        let conversation = Arc::new(Conversation {
            state: Mutex::new(State {
                streams: [stream(Some(stdout)), stream(stderr)],
                life,
                transcript,
                habit: Habit::default(),
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
            bells: Bells::default(),
            stdin: Stdin::new(stdin, terminal.is_some()),
            queued: AtomicUsize::new(0),
            subject,
            secrets: secrets.clone(),
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
        self.try_lock().unwrap_or_else(|| {
            self.queued.fetch_add(1, Ordering::Relaxed);
            let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.hold(guard)
        })
    }

    /// Notes that the calling thread has it now.
    fn hold<'a>(&'a self, guard: MutexGuard<'a, State>) -> Locked<'a> {
        let before = HOLDING.replace(std::ptr::from_ref(self).addr());
        Locked { guard: Some(guard), before }
    }

    /// Panics when the calling thread holds the state already.
    pub(super) fn refuse_matchers(&self) {
        if HOLDING.get() == std::ptr::from_ref(self).addr() {
            panic!("a matcher must not use the fixture that it is being matched against");
        }
    }

    /// The state, unless somebody else is at it.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_>> {
        match self.state.try_lock() {
            Ok(guard) => Some(self.hold(guard)),
            Err(std::sync::TryLockError::Poisoned(p)) => Some(self.hold(p.into_inner())),
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
        let _others = IfPanicking(self);
        let mut state = self.lock();
        state.waits += 1;
        let mut changed = false;
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
            let (mut now, ready) = self.lead(state, deadline, changed);
            changed = ready != [false; 3];
            let mut more = now.take_in(ready);
            self.announce(&now);
            state = now;
            // In a flood there is no need to ask again whether something is there.
            // But time passes, and whoever wants the state shall have it: only for a few rounds.
            for _ in 0..FLOOD_ROUNDS {
                if late && more {
                    // All that is there, also if that is more than one read brings.
                    more = state.take_in([true, true, false]);
                    continue;
                }
                if !more || deadline.is_some_and(|d| Instant::now() >= d) {
                    break;
                }
                if let Some(answer) = check(&mut state) {
                    self.leave(state);
                    return Some(answer);
                }
                more = state.take_in([true, true, false]);
            }
            if late || (ready == [false; 3] && deadline.is_some_and(|d| Instant::now() >= d)) {
                break check(&mut state);
            }
        };
        self.leave(state);
        answer
    }

    /// Whoever waited for us has to lead now; and if nobody waits any more, the attendant reads.
    fn leave(self: &Arc<Self>, state: Locked<'_>) {
        self.announce(&state);
        if !self.attended.load(Ordering::Relaxed) {
            attendant::idle(self);
        }
        drop(state);
        self.bells.ring();
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

    /// Polls without holding the state; which of stdout, stderr and the news are ready. `changed`: since the last time.
    fn lead<'a>(&'a self, mut state: Locked<'a>, deadline: Option<Instant>, changed: bool) -> (Locked<'a>, [bool; 3]) {
        let [out, err] = state.sources();
        let sources = [out, err, state.life.source()];
        let mut habit = state.habit;
        state.led = true;
        drop(state);
        if changed {
            self.bells.ring();
        }
        // std's mutex is not fair: in a flood we would have it back before they are awake.
        let until = Instant::now() + LET_PASS;
        while self.queued.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::yield_now();
        }
        let ready = looking::look(&sources, deadline, &mut habit);
        let mut state = self.lock();
        state.led = false;
        state.habit = habit;
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
        let full = || {
            if !self.attended.load(Ordering::Relaxed) {
                attendant::idle(self);
            }
        };
        let mut recorded = false;
        let write = |fd: &OwnedFd, rest: &[u8]| {
            // Nobody reads meanwhile, so what the helper answers is recorded after the message.
            let mut state = self.lock();
            let written = write_some(fd, rest)?;
            if written == Some(bytes.len()) {
                state.transcript.record_sent(&self.as_lines(bytes), bytes.len(), from);
                recorded = true;
            }
            Ok(written)
        };
        let (result, sent) = self.stdin.send(bytes, deadline, write, full);
        if sent > 0 && !recorded {
            self.lock().transcript.record_sent(&self.as_lines(bytes), sent, from);
        }
        result
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        attendant::forget(self.id);
    }
}
