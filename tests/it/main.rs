//! All integration tests, in one binary: one file per way a run can end and per way a helper can resist.

mod dialogue;
mod endings;
mod scene;
