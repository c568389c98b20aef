//! Every process that this test process has started through foster, with the test and the line that did it.
//!
//! The registry is for people and for reports. The *promise* does not rest on it: that is the guardian's, and the leak
//! check asks the operating system, never this list.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use once_cell::sync::Lazy;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The program under a fixture.
    Helper,
    /// An init for one fixture.
    Keeper,
    /// The owner of all keepers.
    Guardian,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Helper => "helper",
            Role::Keeper => "keeper",
            Role::Guardian => "guardian",
        })
    }
}

/// One process that lives.
#[derive(Debug, Clone)]
pub struct Entry {
    pid: u32,
    role: Role,
    label: String,
    command: String,
    test: Option<String>,
    location: Option<&'static Location<'static>>,
    started: SystemTime,
}

impl Entry {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// What it is there for.
    pub fn role(&self) -> Role {
        self.role
    }
    /// The fixture's label; the role for foster's own processes.
    pub fn label(&self) -> &str {
        &self.label
    }
    /// The command line.
    pub fn command(&self) -> &str {
        &self.command
    }
    /// The test that started it: nextest's name of it, else the name that libtest gave the thread. `None` if neither is
    /// known, as in a program with a `main` of its own.
    pub fn test(&self) -> Option<&str> {
        self.test.as_deref()
    }
    /// The line of the test that called `spawn`; `None` for foster's own processes.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }
    /// When it was started.
    pub fn started(&self) -> SystemTime {
        self.started
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} `{}`", self.role, self.pid, self.command)?;
        if let Some(test) = &self.test {
            write!(f, " of test {test}")?;
        }
        if let Some(location) = self.location {
            write!(f, ", spawned at {}:{}", location.file(), location.line())?;
        }
        Ok(())
    }
}

static REGISTRY: Lazy<Mutex<BTreeMap<i32, Entry>>> = Lazy::new(Mutex::default);

fn entries() -> MutexGuard<'static, BTreeMap<i32, Entry>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every process of foster's that lives now, in the order of their pids.
///
/// A helper that has ended by itself leaves the list when its fixture hears of it: at the latest, now.
///
/// # Examples
///
/// ```
/// use foster::registry::{self, Role};
///
/// # fn main() -> foster::Result {
/// let fx = foster::Fixture::command("cat").label("my cat").spawn()?;
/// let mine = registry::live().into_iter().find(|p| p.pid() == fx.id()).unwrap();
/// assert_eq!((mine.role(), mine.label()), (Role::Helper, "my cat"));
/// fx.stop()?;
/// assert!(registry::live().iter().all(|p| p.pid() != fx.id()));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn live() -> Vec<Entry> {
    crate::dialogue::attendant::look_at_everyone();
    entries().values().cloned().collect()
}

/// The helpers that the test of this one has started beside it, as far as is known.
pub(crate) fn siblings(pid: i32) -> Vec<Entry> {
    let entries = entries();
    let Some(own) = entries.get(&pid) else { return Vec::new() };
    let beside = |e: &&Entry| e.role == Role::Helper && e.test == own.test && e.pid != own.pid;
    entries.values().filter(beside).cloned().collect()
}

/// Enters a helper.
pub(crate) fn record_helper(pid: i32, label: &str, command: &str, location: &'static Location<'static>) {
    let entry = Entry {
        pid: pid as u32,
        role: Role::Helper,
        label: label.to_owned(),
        command: command.to_owned(),
        test: current_test(),
        location: Some(location),
        started: SystemTime::now(),
    };
    entries().insert(pid, entry);
}

/// Enters one of foster's own processes.
pub(crate) fn record_own(pid: i32, role: Role) {
    let entry = Entry {
        pid: pid as u32,
        role,
        label: role.to_string(),
        command: format!("foster-{role}"),
        test: None,
        location: None,
        started: SystemTime::now(),
    };
    entries().insert(pid, entry);
}

/// This process has ended.
pub(crate) fn forget(pid: i32) {
    entries().remove(&pid);
}

/// The test that runs on this thread.
///
/// nextest runs each test in a process of its own, on whichever thread, and says its name in the environment;
/// libtest names the thread after the test, except when it runs the only one on the main thread.
pub(crate) fn current_test() -> Option<String> {
    if let Ok(name) = std::env::var("NEXTEST_TEST_NAME") {
        return Some(name);
    }
    std::thread::current().name().filter(|name| *name != "main").map(str::to_owned)
}
