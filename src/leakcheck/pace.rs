//! When to look at the tree: as often as it can be had for half a percent of the time.
//!
//! A look costs some ten microseconds for each process. What it costs is measured, as processor time, and paid from an
//! account that grows with the time; nobody looks as long as nothing has been born since the last look.
//! Those who are looked at pay about half as much again, for locks and caches that they share with us.

use std::time::{Duration, Instant};

/// How soon after a look the next one may be.
const QUICK: Duration = Duration::from_millis(20);

/// How soon, when nobody is being born: the question alone is a small file.
const CALM: Duration = Duration::from_millis(80);

/// The part of the time that looks may take: one in this many.
const SHARE: u32 = 200;

/// What the account holds at most, and at the beginning: some looks in quick succession, for whatever begins after a long
/// build.
const CREDIT: Duration = Duration::from_micros(500);

/// The account.
#[derive(Debug)]
pub(super) struct Pace {
    /// Until when the looks so far are paid for. When that lies in the past, there is credit.
    paid: Instant,
    next: Instant,
    pause: Duration,
    /// Who was born last when the last look began.
    born: Option<i32>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        let paid = now.checked_sub(CREDIT * SHARE).unwrap_or(now);
        Pace { paid, next: now, pause: QUICK, born: None }
    }

    /// When to ask again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Is it time for a look? `born` tells who was born last; `None` if that cannot be known.
    pub(super) fn is_due(&mut self, now: Instant, born: impl FnOnce() -> Option<i32>) -> bool {
        if now < self.next {
            return false;
        }
        let born = born();
        if born.is_some() && born == self.born {
            self.pause = (self.pause * 2).min(CALM);
            self.next = now + self.pause;
            return false;
        }
        self.born = born;
        true
    }

    /// A look has taken this much processor time.
    pub(super) fn took(&mut self, now: Instant, cost: Duration) {
        // What was not spent for a long time is not saved up: it would be felt all at once.
        let full = CREDIT * SHARE;
        self.paid = self.paid.max(now.checked_sub(full).unwrap_or(now)) + cost * SHARE;
        self.pause = QUICK;
        self.next = self.paid.max(now + QUICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Looks for as long as it is told, each at this price, and something is born all the time; how many looks.
    fn looks(pace: &mut Pace, from: Instant, length: Duration, cost: Duration) -> u32 {
        let mut looks = 0;
        let mut now = from;
        let mut born = 0;
        while now < from + length {
            born += 1;
            if pace.is_due(now, || Some(born)) {
                looks += 1;
                pace.took(now, cost);
            }
            assert!(pace.next() >= now + QUICK, "this would be a storm");
            now = pace.next();
        }
        looks
    }

    #[test]
    fn looks_begin_quick_and_cost_half_a_percent() {
        let began = Instant::now();
        for cost in [MS / 10, MS, 10 * MS] {
            let mut pace = Pace::new(began);
            let count = looks(&mut pace, began, Duration::from_secs(60), cost);
            let spent = cost * count;
            assert!(spent <= CREDIT + Duration::from_millis(300) + cost, "{count} looks at {cost:?}");
            assert!(spent >= Duration::from_millis(280) || count == 3000, "{count} looks at {cost:?}");
        }
        let mut pace = Pace::new(began);
        assert_eq!(looks(&mut pace, began, 100 * MS, MS / 10), 5, "every 20 ms as long as the account is full");
    }

    #[test]
    fn a_long_calm_saves_no_more_than_the_credit() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        assert!(pace.is_due(began, || Some(1)));
        pace.took(began, MS);
        let later = began + Duration::from_secs(3600);
        assert!(!pace.is_due(later, || Some(1)), "nobody was born");
        assert!(pace.next() <= later + CALM);
        let count = looks(&mut pace, later + CALM, Duration::from_secs(1), MS);
        assert!((3..=9).contains(&count), "{count}");
    }

    #[test]
    fn nobody_looks_as_long_as_nobody_is_born_and_everybody_where_it_cannot_be_known() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let mut now = began;
        let mut count = 0;
        for _ in 0..100 {
            if pace.is_due(now, || Some(7)) {
                count += 1;
                pace.took(now, MS / 100);
            }
            now = pace.next();
        }
        assert_eq!(count, 1);
        assert!(now - began >= CALM * 90, "it is asked less often as well");
        assert!(pace.is_due(now, || None));
        pace.took(now, MS / 100);
        assert!(pace.is_due(pace.next(), || None));
    }
}
