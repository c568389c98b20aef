//! Everything that is `unsafe`, a raw system call or specific to one operating system, behind one contract.
//!
//! The rest of the crate is written against the names that this module exports and never asks which platform it is on.
//! A new platform is a new folder beside `linux` that exports the same names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!(
    "foster supports Linux only so far; for a test suite that also builds elsewhere, write \
     `[target.'cfg(target_os = \"linux\")'.dev-dependencies]` in Cargo.toml"
);
