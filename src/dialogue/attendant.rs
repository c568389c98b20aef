//! One thread for the whole process that reads for those on whom nobody waits, so that no helper blocks on a full pipe.
//!
//! It must cost nothing while tests wait for themselves, which is nearly always. So a conversation that somebody has
//! just waited on is only put on a list; a few milliseconds later the attendant looks whether it has been used again, and
//! begins to watch it only if not. A dialogue at full speed thus costs one look per tick, and an idle one costs nothing at
//! all: the thread sleeps without a time limit.
//!
//! For futures it does more: it watches a conversation at once, its news included, keeps their deadlines, and goes on with
//! messages that do not fit into a pipe. See [`awaiting`](super::awaiting) for why no wake-up is lost.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::bells::Bell;
use super::conversation::{Channel, Conversation, Locked, State};
use super::looking::{self, Habit};
use super::window::Filled;
use crate::sys::attendant::{Fired, Watch};
use crate::sys::fds::Until;
use crate::sys::{OwnedFd, signals};

/// How long a conversation is left alone after it was used.
const TICK: Duration = Duration::from_millis(5);

/// How many reads one stream may have in a row while others wait for theirs.
const TURN: usize = 16;

/// How long a flood may pause before its descriptor is armed like any other.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the state of a conversation that somebody awaits is asked for: usually it is locked for microseconds, and only
/// a slow matcher is worth no more waiting.
const PATIENCE: Duration = Duration::from_micros(100);

/// The thread needs little: it reads into buffers that exist and formats nothing.
const STACK: usize = 128 * 1024;

#[derive(Debug, Default)]
struct Book {
    /// Everyone who lives, by number.
    known: HashMap<u64, Weak<Conversation>>,
    /// Those to be looked at at the next tick, with the number of waits that they had seen.
    waiting: Vec<(Weak<Conversation>, u64)>,
    /// The thread has a tick to come.
    ticking: bool,
    /// The deadlines of futures.
    alarms: BTreeMap<Alarm, Arc<Bell>>,
    /// When the thread looks at them next, also if the alarm that this was for has been cleared: an alarm that is set and
    /// cleared at each step of a dialogue would otherwise wake it each time.
    next_alarm: Option<Instant>,
}

/// When somebody wants to be told, and a number, so that two can want it at the same time.
pub(super) type Alarm = (Instant, u64);

/// What is watched of a conversation: the streams, in the order of [`Channel`], and these.
const NEWS: u64 = 2;
const INPUT: u64 = 3;

/// How many numbers each conversation has for what is watched of it.
const KINDS: u64 = 4;

#[derive(Debug)]
struct Attendant {
    watch: Watch,
    book: Mutex<Book>,
}

/// Only a success is kept: what was lacking once may be there the next time.
static ATTENDANT: OnceCell<Arc<Attendant>> = OnceCell::new();
static IDS: AtomicU64 = AtomicU64::new(1);

/// A number for a new conversation.
pub(super) fn next_id() -> u64 {
    IDS.fetch_add(1, Ordering::Relaxed)
}

/// The attendant, started if this is the first call; `None` while the system has no room for it, and then helpers
/// can block on a pipe that is full and that nobody waits for, as with `std::process`.
fn attendant() -> Option<&'static Attendant> {
    let start = || -> io::Result<Arc<Attendant>> {
        let attendant = Arc::new(Attendant { watch: Watch::new()?, book: Mutex::default() });
        let own = Arc::clone(&attendant);
        let thread = std::thread::Builder::new().name("foster-attendant".to_owned()).stack_size(STACK);
        // With every signal blocked, so that no handler of the test's ever runs on this thread.
        signals::with_all_blocked(|| thread.spawn(move || own.run()))?;
        Ok(attendant)
    };
    ATTENDANT.get_or_try_init(start).ok().map(|a| &**a)
}

/// Makes a new conversation known.
pub(super) fn introduce(conversation: &Arc<Conversation>) {
    if let Some(attendant) = attendant() {
        attendant.book().known.insert(conversation.id, Arc::downgrade(conversation));
    }
}

/// This one is gone.
pub(super) fn forget(id: u64) {
    if let Some(attendant) = ATTENDANT.get() {
        attendant.book().known.remove(&id);
    }
}

/// Everyone who lives.
pub(crate) fn everyone() -> Vec<Arc<Conversation>> {
    let Some(attendant) = ATTENDANT.get() else { return Vec::new() };
    attendant.book().known.values().filter_map(Weak::upgrade).collect()
}

/// Takes in what has arrived for anybody, without waiting.
pub(crate) fn look_at_everyone() {
    for conversation in everyone() {
        // What another test's judge does is no failure of the one that looks.
        survives(|| {
            conversation.wait(Some(Instant::now()), |_| None::<()>);
        });
    }
}

/// Nobody waits on this one at the moment; see to it that it is read if that lasts.
pub(super) fn idle(conversation: &Arc<Conversation>) {
    let Some(attendant) = attendant() else { return };
    // Once more, for the case that there was no attendant when it was introduced.
    attendant.book().known.entry(conversation.id).or_insert_with(|| Arc::downgrade(conversation));
    conversation.attended.store(true, Ordering::Relaxed);
    attendant.enlist(conversation, u64::MAX);
}

/// A future awaits a change of this conversation, and nobody leads. False if that cannot be watched: the kernel has no memory
/// for it.
pub(super) fn watch(conversation: &Arc<Conversation>, state: &State) -> bool {
    if !conversation.attended.load(Ordering::Relaxed) {
        idle(conversation);
    }
    attendant().is_some_and(|attendant| attendant.watch_all(conversation, state))
}

/// A future waits for room in the helper's input. False if that cannot be watched.
pub(super) fn watch_input(conversation: &Arc<Conversation>, fd: &OwnedFd) -> bool {
    if !conversation.attended.load(Ordering::Relaxed) {
        idle(conversation);
    }
    attendant().is_some_and(|attendant| attendant.arm(conversation, INPUT, fd))
}

/// Rings at this time. `None` where there is no attendant.
pub(super) fn set_alarm(at: Instant, bell: &Arc<Bell>) -> Option<Alarm> {
    let attendant = attendant()?;
    let alarm = (at, next_id());
    let mut book = attendant.book();
    book.alarms.insert(alarm, Arc::clone(bell));
    let sooner = book.next_alarm.is_none_or(|next| at < next);
    if sooner {
        book.next_alarm = Some(at);
    }
    drop(book);
    if sooner {
        attendant.watch.wake();
    }
    Some(alarm)
}

pub(super) fn clear_alarm(alarm: Alarm) {
    if let Some(attendant) = ATTENDANT.get() {
        // The bell goes when the book is closed.
        let bell = attendant.book().alarms.remove(&alarm);
        drop(bell);
    }
}

impl Attendant {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be looked at at the next tick.
    fn enlist(&self, conversation: &Arc<Conversation>, waits: u64) {
        let mut book = self.book();
        book.waiting.push((Arc::downgrade(conversation), waits));
        let first = !book.ticking;
        book.ticking = true;
        drop(book);
        if first {
            self.watch.tick_in(TICK);
        }
    }

    fn run(&self) {
        // How to wait for the next piece of a flood.
        let mut habit = Habit::default();
        loop {
            let alarm = self.book().next_alarm;
            // Out of memory in the kernel is the only failure; then the next round tries again.
            for fired in self.watch.wait(alarm).unwrap_or_default() {
                match fired {
                    Fired::Tick => self.look_around(),
                    Fired::Token(token) => {
                        if !survives(|| self.serve(token, &mut habit, alarm)) {
                            survives(|| self.make_up_for(token));
                        }
                    }
                }
            }
            if alarm.is_some() {
                self.ring_alarms();
            }
        }
    }

    /// Rings for those whose time has come.
    fn ring_alarms(&self) {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut book = self.book();
        if book.next_alarm.is_some_and(|next| now >= next) {
            while let Some(first) = book.alarms.first_entry().filter(|first| first.key().0 <= now) {
                due.push(first.remove());
            }
            book.next_alarm = book.alarms.first_key_value().map(|((at, _), _)| *at);
        }
        drop(book);
        for bell in due {
            survives(|| bell.ring());
        }
    }

    /// Begins to watch those that have not been used since they were listed; the others wait for another tick.
    fn look_around(&self) {
        let waiting = {
            let mut book = self.book();
            book.ticking = false;
            std::mem::take(&mut book.waiting)
        };
        for (conversation, seen) in waiting {
            // Whoever lets go of it last drops what the test has given it.
            survives(|| self.look_at(&conversation, seen));
        }
    }

    fn look_at(&self, conversation: &Weak<Conversation>, seen: u64) {
        let Some(conversation) = conversation.upgrade() else { return };
        match conversation.try_lock() {
            Some(state) if !state.is_led() => {
                if state.waits == seen || conversation.bells.any() {
                    // Refused only without memory; the stream is then read when somebody waits for it.
                    let _ = self.watch_all(&conversation, &state);
                } else {
                    let waits = state.waits;
                    drop(state);
                    self.enlist(&conversation, waits);
                }
            }
            // Somebody waits on it and reads. When they leave, they tell us.
            Some(state) => {
                conversation.attended.store(false, Ordering::Relaxed);
                drop(state);
            }
            // Somebody is at it this very moment.
            None => return self.enlist(&conversation, seen),
        }
        if conversation.stdin.has_begun() {
            conversation.go_on_sending();
        }
    }

    /// Watches everything that can change this conversation. Who waits for nothing needs no news of the helper's end.
    ///
    /// With the state locked: as soon as news of the last end have been heard, the keeper's socket may be another
    /// conversation's, and must not be watched in the name of this one any more.
    fn watch_all(&self, conversation: &Conversation, state: &State) -> bool {
        let [out, err] = state.sources();
        let news = conversation.bells.any().then(|| state.life.source()).flatten();
        let mut all = true;
        for (kind, fd) in [out, err, news].iter().enumerate() {
            all &= fd.as_ref().is_none_or(|fd| self.arm(conversation, kind as u64, fd));
        }
        all
    }

    fn arm(&self, conversation: &Conversation, kind: u64, fd: &OwnedFd) -> bool {
        let until = if kind == INPUT { Until::Writable } else { Until::Readable };
        self.watch.arm(fd, until, conversation.id * KINDS + kind).is_ok()
    }

    /// Deals with what has happened to a conversation that nobody waits on with a thread of their own. Stays with a flood
    /// until something else has happened, or this time has come.
    fn serve(&self, token: u64, habit: &mut Habit, until: Option<Instant>) {
        let (id, kind) = (token / KINDS, token % KINDS);
        let Some(conversation) = self.book().known.get(&id).and_then(Weak::upgrade) else { return };
        if kind == INPUT {
            match self.ask_for(&conversation, true) {
                Some(state) => {
                    drop(state);
                    conversation.go_on_sending();
                }
                None => self.enlist(&conversation, u64::MAX),
            }
            return;
        }
        let until = until.unwrap_or_else(|| Instant::now() + TICK);
        while self.take_turn(&conversation, kind, habit, until) {}
    }

    /// Reads what is there, for one turn; true if the next turn shall follow at once.
    fn take_turn(&self, conversation: &Arc<Conversation>, kind: u64, habit: &mut Habit, until: Instant) -> bool {
        let patient = conversation.bells.any();
        let Some(mut state) = self.ask_for(conversation, patient).filter(|state| !state.is_led()) else {
            // Whoever is at it reads, and tells us on leaving; to be sure, we look again at the next tick.
            self.enlist(conversation, u64::MAX);
            return false;
        };
        let mut flood = false;
        if kind == NEWS {
            state.take_in([false, false, true]);
        } else {
            let channel = if kind == Channel::Stdout as u64 { Channel::Stdout } else { Channel::Stderr };
            for _ in 0..TURN {
                if !matches!(state.read(channel), Filled::More(_)) {
                    break;
                }
            }
            flood = state.stream(channel).window.is_flooded();
        }
        conversation.announce(&state);
        let source = match kind {
            NEWS => conversation.bells.any().then(|| state.life.source()).flatten(),
            stream => state.sources()[stream as usize].take(),
        };
        let Some(fd) = source else {
            drop(state);
            conversation.bells.ring();
            return false;
        };
        if flood {
            drop(state);
            conversation.bells.ring();
            // To arm it costs more than to stay, for the moment that the helper needs to fill its pipe again.
            let sources = [Some(Arc::clone(&fd)), Some(self.watch.source()), None];
            if looking::look(&sources, Some(until.min(Instant::now() + PAUSE)), habit) == [true, false, false]
                && Instant::now() < until
            {
                return true;
            }
            match self.ask_for(conversation, patient) {
                Some(again) => state = again,
                None => {
                    self.enlist(conversation, u64::MAX);
                    return false;
                }
            }
            if state.sources()[kind as usize].is_none() {
                return false;
            }
        }
        self.arm(conversation, kind, &fd);
        drop(state);
        conversation.bells.ring();
        false
    }

    /// Something that is not ours has panicked in the middle of that: what was read is told, and the rest is looked at later.
    fn make_up_for(&self, token: u64) {
        let Some(conversation) = self.book().known.get(&(token / KINDS)).and_then(Weak::upgrade) else { return };
        self.enlist(&conversation, u64::MAX);
        conversation.changed.notify_all();
        conversation.bells.ring();
    }

    /// The state, unless somebody keeps it to himself: a slow matcher of one test must not hold up the others.
    fn ask_for<'c>(&self, conversation: &'c Conversation, patient: bool) -> Option<Locked<'c>> {
        let until = patient.then(|| Instant::now() + PATIENCE);
        loop {
            match conversation.try_lock() {
                None if until.is_some_and(|until| Instant::now() < until) => std::thread::yield_now(),
                other => return other,
            }
        }
    }
}

/// Wakers, and what must not come, are code of the test's: one that panics must not end the reading for everybody.
fn survives(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()
}
