//! Two seconds of waiting for a helper that says nothing: how much processor time that takes, and how often somebody wakes.

use std::time::Duration;

use foster::Fixture;
use rustix::time::ClockId;

use crate::end::children;
use crate::limit::{Threaded, helper};
use crate::sample::{Match, Options, Result, Samples, note};

const WAIT: Duration = Duration::from_secs(2);

pub fn measure(options: &Options) -> Result {
    let mut entered = Match::new("silence");
    entered.enter("foster", |samples| {
        let fx = Fixture::command(helper()).arg("silent").spawn()?;
        fx.expect_line("up")?;
        watch(samples, || drop(fx.within(WAIT).expect("never said")))
    });
    entered.enter("foster, nobody waits", |samples| {
        let fx = Fixture::command(helper()).arg("silent").spawn()?;
        fx.expect_line("up")?;
        watch(samples, || std::thread::sleep(WAIT))
    });
    if options.quick {
        note("silence", "the others are left out by --quick");
        entered.play(options.rounds(1, 1));
        return Ok(());
    }
    entered.enter("reader thread", |samples| {
        let threaded = Threaded::start(&["silent"])?;
        watch(samples, || drop(threaded.wait_for("never said", WAIT)))
    });
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::peers;
        entered.enter("tokio", |samples| {
            let mut tokio = peers::Tokio::start_with(1, &["silent"])?;
            watch(samples, || tokio.wait_in_vain(WAIT))
        });
        entered.enter("expectrl", |samples| {
            let mut expectrl = peers::Expectrl::start(&["silent"])?;
            watch(samples, || expectrl.wait_in_vain(WAIT))
        });
        entered.enter("rexpect", |samples| {
            let mut rexpect = peers::Rexpect::start_with(&["silent"], WAIT)?;
            watch(samples, || rexpect.wait_in_vain())
        });
    }
    entered.play(options.rounds(5, 1));
    Ok(())
}

/// The processor time of the wait; and how often threads of this process, its guardian and its keepers have woken in
/// the second in the middle of it.
fn watch(samples: &mut Samples, wait: impl FnOnce()) -> Result {
    let before = used(ClockId::ProcessCPUTime);
    let woken = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            std::thread::sleep(WAIT / 4);
            let first = switches();
            std::thread::sleep(WAIT / 2);
            (switches() - first, used(ClockId::ThreadCPUTime))
        });
        wait();
        watcher.join().map_err(|_| "the watcher has panicked")
    })?;
    let (woken, watching) = woken;
    samples.add((used(ClockId::ProcessCPUTime) - before).saturating_sub(watching).as_nanos() as f64);
    // The watcher's own sleep is one of them.
    samples.add_to("silence-wakeups", woken.saturating_sub(1) as f64);
    Ok(())
}

/// How often anybody of ours has gone to sleep so far.
fn switches() -> u64 {
    let mut all = vec![std::process::id() as i32];
    let mut at = 0;
    while at < all.len() {
        let below = children(all[at]);
        all.extend(below.into_iter().filter(|pid| name(*pid).starts_with("foster-") || at == 0));
        at += 1;
    }
    // The helpers of the others are their own business.
    all.retain(|pid| *pid == std::process::id() as i32 || name(*pid).starts_with("foster-"));
    let mut sum = 0;
    for pid in all {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let count = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            sum += count.and_then(|c| c.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

pub fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Processor time of all threads of this process, or of this one, so far.
fn used(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or(0))
}
