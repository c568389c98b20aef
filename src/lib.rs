#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod registry;

mod builder;
mod dialogue;
mod ending;
mod error;
mod finished;
mod fixture;
mod guardian;
mod hooks;
mod level;
mod pty;
mod ready;
mod report;
mod settings;
mod signal;
mod stop;
mod sys;
mod talk;
mod transcript;
mod within;

pub use builder::FixtureBuilder;
pub use dialogue::channel::{Input, Lines, Output};
pub use dialogue::found::Match;
pub use dialogue::matcher::{IntoMatcher, IntoMatchers, Matcher, ViaClosure, ViaList, ViaPredicate, ViaText};
#[cfg(feature = "regex")]
pub use dialogue::pattern::{Pattern, regex};
#[cfg(feature = "screen")]
pub use dialogue::screen::{IntoScreenMatcher, Screen, ScreenMatcher};
pub use dialogue::template::{Template, like};
pub use ending::stop_all;
pub use error::{Error, ErrorKind, Result};
pub use finished::Finished;
pub use fixture::Fixture;
pub use level::{Level, level};
pub use ready::Ready;
pub use signal::Signal;
pub use stop::{Escapee, Stop, Stopped};
pub use transcript::{Mark, Transcript};
pub use within::Within;

#[cfg(feature = "leakcheck")]
pub mod leakcheck;

/// Everything that a test usually needs: `use foster::prelude::*;`.
///
/// It brings the traits and functions of [`predicates`], too: `predicate::str::contains("…")`.
pub mod prelude {
    #[cfg(feature = "regex")]
    pub use crate::regex;
    pub use crate::{Fixture, FixtureBuilder, Ready, Signal, Stop, like};
    pub use predicates::prelude::*;
}

/// Long-form documentation: how it is built, and where it ends.
pub mod docs {
    #[doc = include_str!("docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("docs/containment.md")]
    pub mod containment {}
    #[doc = include_str!("docs/gotchas.md")]
    pub mod gotchas {}
    #[doc = include_str!("docs/performance.md")]
    pub mod performance {}
    #[doc = include_str!("docs/platforms.md")]
    pub mod platforms {}
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzz {
    pub use crate::guardian::fuzz::{Decoded, End, receive, samples};
}

#[doc(hidden)]
pub mod __private {
    pub use assert_cmd::cargo::cargo_bin;
}

/// A [`FixtureBuilder`] for a binary of the package under test, found by `assert_cmd`.
///
/// Works in integration tests and benchmarks, for which cargo builds the package's binaries.
///
/// ```ignore
/// let fx = foster::cargo_bin!("greet").arg("--polite").spawn()?;
/// ```
#[macro_export]
macro_rules! cargo_bin {
    ($name:expr) => {
        $crate::Fixture::command($crate::__private::cargo_bin!($name))
    };
}
