//! Signals by name.

use std::fmt;

use crate::report::signal_name;

/// A signal, for [`Fixture::signal`](crate::Fixture::signal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident, $doc:literal;)*) => {
        impl Signal {
            $(
                #[doc = $doc]
                pub const $name: Signal = Signal(signal_hook::consts::signal::$name);
            )*
        }
    };
}

signals! {
    SIGHUP, "The terminal is gone; many daemons read their configuration again.";
    SIGINT, "Ctrl-C.";
    SIGQUIT, "Ctrl-\\: end with a core dump.";
    SIGKILL, "End at once; cannot be caught.";
    SIGUSR1, "The first of two without a meaning of their own.";
    SIGUSR2, "The second of two without a meaning of their own.";
    SIGALRM, "An alarm clock.";
    SIGTERM, "Please end.";
    SIGCONT, "Go on after a stop.";
    SIGSTOP, "Stop; cannot be caught.";
    SIGTSTP, "Ctrl-Z.";
    SIGWINCH, "The window has another size.";
}

impl Signal {
    /// Any signal, by the number that it has on this platform.
    #[must_use]
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// The number on this platform.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&signal_name(self.0))
    }
}
