#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod registry;
pub mod transcript;

mod builder;
mod color;
mod dialogue;
mod dialogue_file;
mod ending;
mod error;
mod finished;
mod first;
mod fixture;
mod futures;
mod guardian;
mod hooks;
mod journal;
mod level;
mod logging;
mod own_dir;
mod pty;
mod ready;
mod report;
mod script;
mod settings;
mod shared;
mod signal;
mod stop;
mod sys;
mod talk;
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
pub use dialogue_file::DialogueFile;
pub use ending::stop_all;
pub use error::{Error, ErrorKind, Result};
pub use finished::Finished;
pub use first::{Candidate, IntoCandidates, expect_first, expect_first_async};
pub use fixture::{Fixture, merged};
pub use futures::{Awaitable, FixtureFutures, InputFutures, OutputFutures};
pub use level::{Level, level};
pub use ready::Ready;
pub use script::{Mirror, Played, Script};
pub use shared::Shared;
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
    #[doc = include_str!("docs/dialogue-files.md")]
    pub mod dialogue_files {}
    #[doc = include_str!("docs/gotchas.md")]
    pub mod gotchas {}
    #[doc = include_str!("docs/leakcheck.md")]
    pub mod leakcheck {}
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
    #[cfg(feature = "dialogues")]
    pub use crate::dialogue_file::suite::main as dialogues;
    pub use assert_cmd::cargo::cargo_bin;
}

/// The `main` of a test target with `harness = false`: one test for each [dialogue file](docs::dialogue_files) that the
/// pattern names, relative to the package.
///
/// The tests are called after their files, and can be listed and filtered as usual, with `cargo test` and with
/// `cargo nextest`.
/// The package's programs are found in the target directory; after the pattern they can be named, for packages whose
/// programs are somewhere else.
///
/// Needs the feature `dialogues`.
///
/// ```toml
/// # Cargo.toml
/// [dev-dependencies]
/// foster = { version = "0.1", features = ["dialogues"] }
///
/// [[test]]
/// name = "dialogues"
/// harness = false
/// ```
///
/// ```ignore
/// // tests/dialogues.rs
/// foster::dialogues!("tests/dialogue/*.dlg");
/// ```
#[cfg(feature = "dialogues")]
#[macro_export]
macro_rules! dialogues {
    ($pattern:expr $(, $program:literal)* $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::__private::dialogues(
                env!("CARGO_MANIFEST_DIR"),
                $pattern,
                &[$(($program, env!(concat!("CARGO_BIN_EXE_", $program)))),*],
            )
        }
    };
}

/// A test for each dialogue file; needs the feature `dialogues`.
#[cfg(not(feature = "dialogues"))]
#[macro_export]
macro_rules! dialogues {
    ($($anything:tt)*) => {
        compile_error!("`foster::dialogues!` needs foster's feature `dialogues`");
    };
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
