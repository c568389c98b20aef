//! Whether a waiter looks again before it sleeps.
//!
//! Waking a sleeping thread on another core takes longer than most answers, so looking again for a moment pays where the
//! helper has a core of its own. Where it has to share the waiter's, or has to take a core from a busy program, it is the
//! sleeping that pays: who is woken by somebody who then sleeps gets his processor at once, while `sched_yield` need not
//! give it to whom we wait for, and to others it may give it for a whole slice (sched(7); kernel/sched/fair.c:
//! select_task_rq_fair, yield_task_fair). Which of the two it is, and for how long, the kernel decides. So each
//! conversation measures both, keeps to the one that is quicker, and tries the other ever more seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use crate::sys::fds::{Until, poll};
use crate::sys::{AsFd, OwnedFd};

/// How long a waiter looks again.
const LOOK_AGAIN: Duration = Duration::from_micros(30);

/// A look and a yield take a microsecond or less, unless somebody else has used the processor meanwhile.
const LOST_SLICE: Duration = Duration::from_micros(200);

/// For how long the machine counts as crowded after that: ten times what the next try can cost, which is a slice.
const CROWDED_FOR: Duration = Duration::from_millis(50);

/// Answers that take longer are all the same: waking up is the least part of them.
const LONG: u32 = 200_000;

/// What took less was there already.
const AT_ONCE: u32 = 2_000;

/// After how many waits the way that is not in use is tried again, at first and at the most: so seldom that it does not
/// show in a 99th percentile.
const TRY_AFTER: (u16, u16) = (8, 1024);

/// How many waits in a row are a try. Where the kernel puts the two sides follows from how they wait, so the first ones
/// show what was before.
const TRY: u16 = 4;

/// How long answers have taken in this conversation, in nanoseconds, for each way to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// `None` until it has been tried.
    times: [Option<u32>; 2],
    usual: Way,
    /// So many waits of a try are left.
    trying: u16,
    /// So many waits until the other way is tried, and so many after that.
    next_try: u16,
    then: u16,
}

/// The two ways to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Look,
    Sleep,
}

impl Way {
    fn other(self) -> Way {
        match self {
            Way::Look => Way::Sleep,
            Way::Sleep => Way::Look,
        }
    }
}

impl Default for Habit {
    fn default() -> Habit {
        // Looking first: many conversations have only a few waits, on a machine that has a core for each side.
        Habit { times: [None; 2], usual: Way::Look, trying: 0, next_try: TRY_AFTER.0, then: TRY_AFTER.0 }
    }
}

impl Habit {
    /// How to wait this time.
    fn choose(&mut self) -> Way {
        if self.trying > 0 {
            return self.usual.other();
        }
        if self.next_try == 0 {
            self.trying = TRY;
            self.next_try = self.then;
            self.then = (self.then * 2).min(TRY_AFTER.1);
            return self.usual.other();
        }
        self.next_try -= 1;
        self.usual
    }

    /// So long it has taken.
    fn learn(&mut self, way: Way, took: Duration) {
        let took = u32::try_from(took.as_nanos()).unwrap_or(LONG).min(LONG);
        if took < AT_ONCE {
            return;
        }
        let time = &mut self.times[way as usize];
        if self.trying == 0 {
            // A quarter of what is new: one that was disturbed says little.
            *time = Some(time.map_or(took, |time| time - time / 4 + took / 4));
            return;
        }
        // Of a try, what it ends with, and the better of two: no try is long enough for an average.
        *time = Some(if self.trying == 1 { time.map_or(took, |time| time.min(took)) } else { took });
        self.trying -= 1;
        if self.trying == 0 && self.times[self.usual.other() as usize] < self.times[self.usual as usize] {
            self.usual = self.usual.other();
            (self.next_try, self.then) = (TRY_AFTER.0, TRY_AFTER.0);
        }
    }
}

/// Which of the three are ready: looked at a few times without sleeping, if that is quicker, then slept on.
pub(super) fn look(sources: &[Option<Arc<OwnedFd>>; 3], deadline: Option<Instant>, habit: &mut Habit) -> [bool; 3] {
    let set = || sources.each_ref().map(|fd| fd.as_ref().map(|fd| (fd.as_fd(), Until::Readable)));
    // It fails for want of memory only; then reading shall tell what is there.
    let look = |until| poll(set(), until).unwrap_or([true; 3]);
    let began = Instant::now();
    let way = if CROWDED.is_so(began) { Way::Sleep } else { habit.choose() };
    let mut ready = [false; 3];
    let mut now = began;
    while way == Way::Look && now.duration_since(began) < LOOK_AGAIN {
        if now > began {
            std::thread::yield_now();
        }
        ready = look(Some(began));
        let before = now;
        now = Instant::now();
        if now.duration_since(before) >= LOST_SLICE {
            CROWDED.note(now);
        }
        if ready != [false; 3] || deadline.is_some_and(|d| now >= d) {
            break;
        }
    }
    if ready == [false; 3] {
        ready = look(deadline);
    }
    if ready != [false; 3] {
        habit.learn(way, began.elapsed());
    }
    ready
}

/// Who yields when others want the processor gets it back when their slices are used up, which may be milliseconds.
static CROWDED: Crowded = Crowded(AtomicU64::new(0));

/// Until when nobody looks again before sleeping: microseconds after [`EPOCH`].
struct Crowded(AtomicU64);

/// What the clock is compared with.
static EPOCH: Lazy<Instant> = Lazy::new(Instant::now);

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays so many waits in which the two ways take so many microseconds; how often each was chosen.
    fn play(habit: &mut Habit, waits: usize, look: u64, sleep: u64) -> [usize; 2] {
        let mut chosen = [0; 2];
        for _ in 0..waits {
            let way = habit.choose();
            chosen[way as usize] += 1;
            habit.learn(way, Duration::from_micros(if way == Way::Look { look } else { sleep }));
        }
        chosen
    }

    #[test]
    fn the_quicker_way_is_kept_and_the_other_is_tried_ever_more_seldom() {
        for (look, sleep, best) in [(10, 28, Way::Look), (40, 5, Way::Sleep), (4000, 5, Way::Sleep)] {
            let mut habit = Habit::default();
            play(&mut habit, 30, look, sleep);
            let chosen = play(&mut habit, 10_000, look, sleep);
            let other = 10_000 - chosen[best as usize];
            assert!((1..100).contains(&other), "{other} of 10,000: a 99th percentile would show more than 100");
        }
    }

    #[test]
    fn what_was_slower_is_found_to_be_quicker_when_the_machine_has_changed() {
        let mut habit = Habit::default();
        play(&mut habit, 1000, 10, 28);
        assert_eq!(habit.usual, Way::Look);
        play(&mut habit, 2000, 40, 5);
        assert_eq!(habit.usual, Way::Sleep);
        play(&mut habit, 3000, 10, 28);
        assert_eq!(habit.usual, Way::Look);
    }
}
