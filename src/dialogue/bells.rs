//! Who awaits a change, and how they are told: what a condition variable is for threads, for futures.
//!
//! A waker is code of somebody else's: to wake it, or to drop it, may run a task, or drop one and with it a fixture. So no
//! lock of foster's is held while that happens, neither here nor by those who call [`Bells::ring`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::attendant::{self, Alarm};

/// Wakes one task, once for each time that it was [set](Bell::set).
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Option<Waker>>);

impl Bell {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one is to be woken, and no other any more: a future may move from one task to another.
    fn set(&self, waker: &Waker) {
        if self.waker().as_ref().is_some_and(|w| w.will_wake(waker)) {
            return;
        }
        let new = waker.clone();
        let before = self.waker().replace(new);
        drop(before);
    }

    pub(super) fn ring(&self) {
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The bells of all who await the same thing.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    all: Mutex<Vec<Arc<Bell>>>,
    /// Their number, for those who have nothing to tell most of the time.
    count: AtomicUsize,
}

impl Bells {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Bell>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there anybody to be told? Exact for a caller who holds the lock under which they enlist.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Tells everybody.
    pub(crate) fn ring(&self) {
        self.ring_others(None);
    }

    /// Tells everybody but this one, who knows.
    pub(super) fn ring_others(&self, own: Option<&Listener<'_>>) {
        if !self.any() {
            return;
        }
        let bells = self.all().clone();
        for bell in bells.iter().filter(|b| own.is_none_or(|own| !Arc::ptr_eq(b, &own.bell))) {
            bell.ring();
        }
    }
}

/// One future that awaits: enlisted, with its alarm, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    bells: &'a Bells,
    bell: Arc<Bell>,
    enlisted: bool,
    alarm: Option<Alarm>,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(bells: &'a Bells) -> Listener<'a> {
        Listener { bells, bell: Arc::default(), enlisted: false, alarm: None }
    }

    /// To be called before anything is locked and looked at: what happens after the look then finds a waker.
    pub(super) fn set(&self, waker: &Waker) {
        self.bell.set(waker);
    }

    /// From now on it is told of every change, and when its time is up; false if nobody can do the latter. To be called under
    /// the lock under which the change is made, or looked at once more afterwards.
    #[must_use]
    pub(super) fn enlist(&mut self, deadline: Option<Instant>) -> bool {
        if !self.enlisted {
            self.enlisted = true;
            let mut all = self.bells.all();
            all.push(Arc::clone(&self.bell));
            self.bells.count.store(all.len(), Ordering::Relaxed);
        }
        if let (Some(at), None) = (deadline, &self.alarm) {
            self.alarm = attendant::set_alarm(at, &self.bell);
        }
        deadline.is_none() || self.alarm.is_some()
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            attendant::clear_alarm(alarm);
        }
        if self.enlisted {
            let mut all = self.bells.all();
            let own = all.iter().position(|b| Arc::ptr_eq(b, &self.bell));
            // Ours is not the last reference: that one goes, with the waker, when nothing is locked.
            drop(own.map(|at| all.remove(at)));
            self.bells.count.store(all.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bell_wakes_the_task_that_was_set_last_and_once() {
        let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let bell = Bell::default();
        bell.ring();
        bell.set(&Waker::from(Arc::clone(&first)));
        bell.set(&Waker::from(Arc::clone(&second)));
        bell.ring();
        bell.ring();
        let woken = [&first, &second].map(|c| c.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
        // Nor is a waker kept that nobody needs any more.
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn who_is_dropped_is_told_no_more_and_the_others_are() {
        let counters = [(); 3].map(|()| Arc::new(Counter::default()));
        let bells = Bells::default();
        assert!(!bells.any());
        let mut listeners: Vec<Listener<'_>> = counters
            .iter()
            .map(|counter| {
                let mut listener = Listener::new(&bells);
                listener.set(&Waker::from(Arc::clone(counter)));
                assert!(listener.enlist(None) && listener.enlist(None));
                listener
            })
            .collect();
        drop(listeners.remove(1));
        bells.ring_others(Some(&listeners[0]));
        let woken = |c: &[Arc<Counter>; 3]| c.each_ref().map(|c| c.0.load(Ordering::Relaxed));
        assert_eq!(woken(&counters), [0, 0, 1]);
        bells.ring();
        assert_eq!(woken(&counters), [1, 0, 1]);
        drop(listeners);
        assert!(!bells.any());
    }
}
