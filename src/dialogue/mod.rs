//! Talking to a helper: who reads, what is kept, and what an expectation is.
//!
//! Nothing here knows about processes beyond a file descriptor that brings news.
//!
//! | file | its job |
//! |---|---|
//! | `window` | the bounded stretch of output that nobody has consumed yet |
//! | `life` | what became of the helper, as far as a waiter needs to know |
//! | `conversation` | the state that a fixture and its handles share; whoever waits reads |
//! | `stdin` | the helper's input: whole messages, one sender at a time |
//! | `attendant` | one thread for the whole process that reads for those on whom nobody waits |
//! | `matcher` | what can be expected |
//! | `expect` | expectations on one stream |
//! | `channel` | the `Input` and `Output` handles |

pub(crate) mod attendant;
pub(crate) mod channel;
pub(crate) mod conversation;
pub(crate) mod expect;
pub(crate) mod life;
pub(crate) mod matcher;
pub(crate) mod stdin;
pub(crate) mod window;
