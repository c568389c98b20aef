//! What is different when the helper's standard streams are a terminal.
//!
//! Both directions go through one descriptor, so letting go of the input would end the output as well, and hang up on the
//! helper (SIGHUP). The end of the input is a character instead, as for a person at the keyboard.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::conversation::{Channel, Conversation};
use crate::sys::OwnedFd;
use crate::sys::fds::write_some;
use crate::sys::pty::Setup;

/// Our ends of the helper's standard streams.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    /// A terminal has one output.
    pub(crate) stderr: Option<OwnedFd>,
    /// What the terminal was like at first, if it is one.
    pub(crate) terminal: Option<Setup>,
}

/// The byte that this key sends together with Ctrl.
pub(crate) fn control(key: char) -> Option<u8> {
    match key {
        '?' => Some(0x7f),
        ' ' => Some(0),
        '@'..='_' | 'a'..='z' => Some(key.to_ascii_uppercase() as u8 & 0x1f),
        _ => None,
    }
}

impl Conversation {
    /// Gives the helper the end of its input, unless it had it already. Does not wait.
    ///
    /// A message that another thread is in the middle of is not cut: its descriptor lives until it is through.
    pub(crate) fn close_stdin(&self) {
        if !self.stdin.is_terminal() {
            return self.stdin.close();
        }
        // Its output comes from the same descriptor, so it stays open. If there is no room, the helper does not read.
        let ending = self.stdin.ending();
        let _ = self.stdin.send(&ending, Some(Instant::now()), write_some, || {});
    }

    /// Lets go of our end of the helper's input: nobody needs it any more.
    pub(crate) fn release_stdin(&self) {
        self.stdin.close();
    }

    /// What has to be typed at a terminal to end the input; empty for a pipe.
    pub(crate) fn ending(&self) -> Vec<u8> {
        self.stdin.ending()
    }

    /// Our end of the terminal, if it is one and not closed.
    pub(crate) fn terminal(&self) -> Option<Arc<OwnedFd>> {
        self.stdin.descriptor().filter(|_| self.stdin.is_terminal())
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.stdin.is_terminal()
    }

    /// Is it known that nobody has the terminal open any more? It takes what is written then, and loses it.
    ///
    /// To ask the kernel each time would cost as much as the rest of a message.
    pub(super) fn is_hung_up(&self) -> bool {
        self.stdin.is_terminal() && self.lock().stream_ref(Channel::Stdout).is_eof()
    }

    /// What the Enter key sends. A terminal makes a line ending of it, unless the helper wants to see the key itself.
    pub(crate) fn enter(&self) -> &'static [u8] {
        if self.stdin.is_terminal() { b"\r" } else { b"\n" }
    }

    /// What was typed, for the transcript: a terminal makes lines of it.
    pub(super) fn as_lines<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        match bytes {
            [rest @ .., b'\r'] if self.stdin.is_terminal() => Cow::Owned([rest, b"\n"].concat()),
            _ => Cow::Borrowed(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_ctrl_are_those_of_a_keyboard() {
        let keys = [('c', 3), ('C', 3), ('d', 4), ('z', 26), ('[', 27), ('\\', 28), ('@', 0), (' ', 0), ('?', 127)];
        for (key, byte) in keys {
            assert_eq!(control(key), Some(byte), "{key}");
        }
        for key in ['1', '\n', '{', 'ä', '\u{200}'] {
            assert_eq!(control(key), None, "{key}");
        }
    }
}
