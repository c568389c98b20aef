//! The cost of a spawn when the test process has much memory: with `fork` in the test process it grows, and must not.

use foster::Fixture;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::sample::{Match, Options, Result, Samples};
use crate::spawn;

/// Memory that is really there: every page has been written to.
pub struct Touched {
    at: *mut std::ffi::c_void,
    len: usize,
}

impl Touched {
    pub fn new(mib: usize) -> Result<Touched> {
        let len = (mib << 20).max(4096);
        // SAFETY: a new mapping, wherever the kernel likes.
        let at = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        // A heap of many small pieces has no huge pages. Without the advice: not known to this kernel, which has none.
        // SAFETY: our own mapping.
        let _ = unsafe { madvise(at, len, Advice::LinuxNoHugepage) };
        let touched = Touched { at, len };
        for page in (0..len).step_by(4096) {
            // SAFETY: inside the mapping.
            unsafe { at.cast::<u8>().add(page).write_volatile(1) };
        }
        Ok(touched)
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which nobody has a reference.
        let _ = unsafe { munmap(self.at, self.len) };
    }
}

pub fn measure(options: &Options) -> Result {
    Fixture::command(spawn::PROGRAM).spawn()?.expect_exit()?;
    let turns = if options.quick { 5 } else { 20 };
    let mut entered = Match::new("heap");
    for (mib, name) in [(0, "no heap"), (256, "256 MiB"), (2048, "2 GiB")] {
        entered.enter(name, move |samples| {
            let _heap = Touched::new(mib)?;
            for _ in 0..turns {
                settle();
                let mut own = |who: &str, run: &dyn Fn(&mut Samples) -> Result| -> Result {
                    samples.under(&format!("{who}, {name}"), run)?;
                    settle();
                    Ok(())
                };
                own("std", &|s| s.timed(spawn::std))?;
                own("foster", &spawn::foster)?;
                own("std with pre_exec", &|s| s.timed(spawn::pre_exec))?;
            }
            Ok(())
        });
    }
    entered.play(options.rounds(6, 2));
    Ok(())
}

/// A pause between two spawns, so that what foster does ahead of need is done, as it is in a test that does something else.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2));
}
