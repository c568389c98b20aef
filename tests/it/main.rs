//! All integration tests, in one binary: one file per way a run can end and per way a helper can resist.

mod bombs;
mod cargo;
mod cgroup;
mod dialogue;
mod endings;
mod endurance;
mod guardian;
mod hidings;
mod hooks;
mod hostile;
mod leakcheck;
mod long_lived;
mod proc;
mod pty;
mod pty_programs;
mod readme;
mod real_programs;
mod registry;
mod reports;
mod runners;
mod scene;
#[cfg(feature = "screen")]
mod screen;
mod spawn;
mod stop;
mod tidy;
mod unkillable;
