//! Who owns the helpers: a guardian process and one keeper process per fixture, so that nothing outlives the test
//! process, whatever ends it.
//!
//! | file | runs in | its job |
//! |---|---|---|
//! | `start` | test process | starts the guardian at the first spawn, asks it for keepers, says goodbye |
//! | `handle` | test process | one helper: asks its keeper for things, hears what became of it |
//! | `idle` | test process | keepers that have served a fixture and wait for another |
//! | `direct` | test process | the same without a guardian (level L1) |
//! | `protocol`, `codec`, `link` | both | the frames, their bytes, and the sockets that carry them |
//! | `root` | guardian | makes keepers, watches the test process and its runner, cleans up behind everybody |
//! | `fuzz` | a fuzzer | what `tests/fuzz` may see of the decoder |
//! | `keeper` | keeper | an init for one fixture: spawns, reaps, takes down, confirms |

mod codec;
pub(crate) mod direct;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
pub(crate) mod handle;
mod idle;
pub(crate) mod keeper;
pub(crate) mod link;
pub(crate) mod protocol;
pub(crate) mod root;
pub(crate) mod start;
