//! A helper that the tests of a binary share: started once, on first use.

use std::fmt;

use once_cell::sync::OnceCell;

use crate::builder::FixtureBuilder;
use crate::error::Result;
use crate::fixture::Fixture;

/// A fixture for all tests of a binary; made by [`shared!`](crate::shared).
///
/// # Leaks
///
/// None: statics are never dropped, and the exit destructor, the signal hooks and the guardian end it.
pub struct Shared {
    make: fn() -> FixtureBuilder,
    fixture: OnceCell<Fixture>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("fixture", &self.fixture.get()).finish_non_exhaustive()
    }
}

impl Shared {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(make: fn() -> FixtureBuilder) -> Shared {
        Shared { make, fixture: OnceCell::new() }
    }

    /// The fixture, started by whoever is the first to ask; the others wait until it is there, and ready.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](FixtureBuilder::spawn), for everybody who asks: each tries again.
    #[track_caller]
    pub fn get(&self) -> Result<&Fixture> {
        let at = std::panic::Location::caller();
        self.fixture.get_or_try_init(|| (self.make)().shared().spawn_from(at))
    }
}

/// A helper for all tests of a binary: started once, on first use, and ended when the binary ends, however it does.
///
/// Under `cargo nextest` each test is a process of its own, and starts its own.
///
/// # Examples
///
/// ```
/// use foster::prelude::*;
///
/// foster::shared! {
///     /// Echoes what it is sent.
///     static ECHO = Fixture::command("cat");
/// }
///
/// # fn main() -> foster::Result {
/// ECHO.get()?.ask("hello", "hello")?;
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! shared {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident = $builder:expr;)+) => {$(
        $(#[$attribute])*
        $visibility static $name: $crate::Shared = $crate::Shared::new(|| $builder);
    )+};
}
