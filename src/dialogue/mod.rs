//! Talking to a helper: who reads, what is kept, and what an expectation is.
//!
//! Nothing here knows about processes beyond a file descriptor that brings news.
//!
//! | file | its job |
//! |---|---|
//! | `window` | the bounded stretch of output that nobody has consumed yet |
//! | `life` | what became of the helper, as far as a waiter needs to know |
//! | `conversation` | the state that a fixture and its handles share; whoever waits reads |
//! | `looking` | whether a waiter looks again before it sleeps |
//! | `stdin` | the helper's input: whole messages, one sender at a time |
//! | `outbox` | messages that futures send: whole, also when the future is dropped |
//! | `awaiting` | how a future waits for a change, and why it misses none |
//! | `bells` | who awaits a change, and how they are told |
//! | `terminal` | what is different when the helper has a terminal |
//! | `screen` | what a person would see of a helper on a terminal (feature `screen`) |
//! | `attendant` | one thread for the whole process that reads for those on whom nobody waits |
//! | `matcher` | what can be expected |
//! | `template` | `like("…{name}…")`: text with holes |
//! | `escape` | any bytes as a line of text, and back |
//! | `pattern` | `regex("…")`: regular expressions, line by line |
//! | `search` | where in a stretch of output something is |
//! | `found` | what an expectation has found, with its captures |
//! | `verbs` | what can be asked of one stream |
//! | `expect` | how a verb waits, and when it gives up |
//! | `explain` | why an expectation was not met, in words that end the search |
//! | `watch` | lines that must not come |
//! | `channel` | the `Input` and `Output` handles |

pub(crate) mod attendant;
pub(crate) mod awaiting;
pub(crate) mod bells;
pub(crate) mod channel;
mod conclusion;
pub(crate) mod conversation;
pub(crate) mod escape;
pub(crate) mod expect;
pub(crate) mod explain;
pub(crate) mod found;
pub(crate) mod life;
pub(crate) mod looking;
pub(crate) mod matcher;
pub(crate) mod outbox;
#[cfg(feature = "regex")]
pub(crate) mod pattern;
#[cfg(feature = "screen")]
pub(crate) mod screen;
pub(crate) mod search;
pub(crate) mod stdin;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod verbs;
pub(crate) mod watch;
pub(crate) mod window;
