//! Helpers on a terminal: how they get one, and what can be done at it that cannot be done at a pipe.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::panic::Location;

use crate::builder::FixtureBuilder;
use crate::dialogue::channel::Input;
#[cfg(feature = "screen")]
use crate::dialogue::conversation::Channel;
#[cfg(feature = "screen")]
use crate::dialogue::screen::{IntoScreenMatcher, Screen, Shown};
use crate::dialogue::terminal::{Ends, control};
#[cfg(feature = "screen")]
use crate::dialogue::verbs::Verb;
use crate::error::{Error, ErrorKind, Result};
use crate::fixture::Fixture;
use crate::guardian::handle::Failure;
use crate::report::{self, Attempt};
use crate::sys::pty::{self, Setup};
use crate::sys::{OwnedFd, fds};
use crate::within::Within;

/// As large as terminals have been since they had glass.
const USUAL: Setup = Setup { columns: 80, rows: 24, echo: false };

/// What the programs of today take for granted, and what the [screen](Fixture::screen) understands.
const TERM: &str = "xterm-256color";

impl FixtureBuilder {
    /// The helper gets a terminal of its own, 80 columns by 24 rows: as standard input, output and error, and as what
    /// `/dev/tty` means.
    ///
    /// So it behaves as it does for a person: it prompts, it shows each line at once, it asks for passwords, it draws
    /// screens, and it hears of [Ctrl-C](Fixture::send_control) and of a [resize](Fixture::resize).
    ///
    /// - There is one output. What the helper writes to standard error is on [`stdout`](Fixture::stdout), and
    ///   [`stderr`](Fixture::stderr) is at its end from the beginning.
    /// - Lines end with `\r\n`, unless the helper has it otherwise. Verbs about lines do not mind; a text that spans lines
    ///   has to have it.
    /// - What is sent is not shown on the terminal, so that expectations find only what the helper says: see
    ///   [`pty_echo`](FixtureBuilder::pty_echo). Programs with readline keep to that; other line editors may show what they
    ///   are sent all the same.
    /// - [`send_line`](Fixture::send_line) ends with what the Enter key sends, `\r`, of which the terminal makes a `\n`.
    ///   A terminal that collects lines takes 4096 bytes for one, and a longer one is refused.
    /// - [`send_eof`](Fixture::send_eof) is a key, too (Ctrl-D), and so is the first step of [`Stop::eof`](crate::Stop::eof).
    ///   Interactive shells ignore SIGTERM, so that is how they are asked to leave.
    /// - `TERM` is `xterm-256color`, and `LINES` and `COLUMNS` are not set, unless the builder says otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::prelude::*;
    ///
    /// # fn main() -> foster::Result {
    /// let fx = Fixture::command("sh")
    ///     .args(["-c", "stty -echo; printf 'password: '; read word; stty echo; echo; echo ${#word} letters"])
    ///     .pty()
    ///     .spawn()?;
    /// fx.expect_prompt("password: ")?;
    /// fx.send_secret("swordfish")?;
    /// fx.expect_line("9 letters")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pty(mut self) -> Self {
        self.terminal.get_or_insert(USUAL);
        self
    }

    /// As [`pty`](FixtureBuilder::pty), with a window of another size.
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let fx = foster::Fixture::command("stty").arg("size").pty_size(132, 50).spawn()?;
    /// fx.expect_line("50 132")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pty_size(mut self, columns: u16, rows: u16) -> Self {
        let setup = self.terminal.get_or_insert(USUAL);
        (setup.columns, setup.rows) = (columns, rows);
        self
    }

    /// As [`pty`](FixtureBuilder::pty); does the terminal show what it is sent, as it does for a person? It does not, unless
    /// this says so.
    ///
    /// Only how it is at first: the helper can change it.
    pub fn pty_echo(mut self, echo: bool) -> Self {
        self.terminal.get_or_insert(USUAL).echo = echo;
        self
    }
}

impl Fixture {
    /// Presses a key together with Ctrl: `'c'` interrupts what runs in the foreground (SIGINT), `'z'` stops it, `'\\'` quits
    /// it, and for a program that reads keys itself it is a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when there is no such key, or the helper has no [terminal](FixtureBuilder::pty): then
    /// [`signal`](Fixture::signal) interrupts it. Those of [`Input::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> foster::Result {
    /// let script = "trap 'echo interrupted; exit 3' INT; echo up; read never";
    /// let fx = foster::Fixture::command("sh").args(["-c", script]).pty().spawn()?;
    /// fx.expect_line("up")?;
    /// fx.send_control('c')?;
    /// fx.expect_line("interrupted")?;
    /// assert_eq!(fx.expect_exit()?.code(), Some(3));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn send_control(&self, key: char) -> Result {
        self.usual().send_control(key)
    }

    /// Gives the helper's terminal another size; what runs in the foreground is told by SIGWINCH.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the helper has no [terminal](FixtureBuilder::pty), or for a size of zero,
    /// [`ErrorKind::InputClosed`] when everything is over.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) -> Result {
        let at = Location::caller();
        let refuse = |kind, why: &str, help: Option<&str>| {
            Err(self.input().refuse(kind, "resize", format!("{columns} x {rows}"), at, why, help))
        };
        if !self.conversation.is_terminal() {
            return refuse(ErrorKind::InvalidInput, NO_TERMINAL, Some(GIVE_ONE));
        }
        if columns == 0 || rows == 0 {
            return refuse(ErrorKind::InvalidInput, "a terminal has at least one column and one row", None);
        }
        let Some(master) = self.conversation.terminal() else {
            return refuse(ErrorKind::InputClosed, "the terminal is closed already", None);
        };
        #[cfg(feature = "screen")]
        if let Some(emulator) = &mut self.conversation.lock().emulator {
            // What the helper has said before was said to the old one, and some of that may still be on its way. The same
            // happens to a person.
            emulator.resize(columns, rows);
        }
        pty::resize(&master, columns, rows)
            .or_else(|e| refuse(ErrorKind::Io, "the kernel refused", None).map_err(|error: Error| error.with_source(e)))
    }
}

const NO_TERMINAL: &str = "the helper has no terminal";
const GIVE_ONE: &str = "give it one with `.pty()`";

#[cfg(feature = "screen")]
impl Fixture {
    /// What a person would see on the helper's [terminal](FixtureBuilder::pty) at this moment, whatever expectations have
    /// consumed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the helper has no terminal.
    #[track_caller]
    pub fn screen(&self) -> Result<Screen> {
        // What has arrived, but was not read yet, belongs to it.
        self.conversation.wait(Some(std::time::Instant::now()), |_| None::<()>);
        let refused = || {
            self.input().refuse(
                ErrorKind::InvalidInput,
                "look at the screen",
                String::new(),
                Location::caller(),
                NO_TERMINAL,
                Some(GIVE_ONE),
            )
        };
        self.conversation.screen().ok_or_else(refused)
    }

    /// Waits until the [screen](Fixture::screen) is like this; what it was like then.
    ///
    /// Consumes nothing. A program draws in pieces, so the screen may be seen half drawn: expect what it draws last, or
    /// several things at once with a closure.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](Fixture::expect), and of [`screen`](Fixture::screen); the report shows the screen.
    ///
    /// # Examples
    ///
    /// ```
    /// use foster::Screen;
    ///
    /// # fn main() -> foster::Result {
    /// let script = "printf 'one\\ntwo'; read key; printf '\\033[H\\033[2Jthree'; read never";
    /// let fx = foster::Fixture::command("sh").args(["-c", script]).pty().spawn()?;
    /// fx.expect_screen(|screen: &Screen| screen.row(0) == "one" && screen.row(1) == "two")?;
    /// fx.send_line("")?;
    /// let screen = fx.expect_screen("three")?;
    /// assert_eq!(screen.text(), "three\n");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn expect_screen<K>(&self, matcher: impl IntoScreenMatcher<K>) -> Result<Screen> {
        self.usual().expect_screen(matcher)
    }
}

#[cfg(feature = "screen")]
impl Within<'_> {
    /// See [`Fixture::expect_screen`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::expect_screen`].
    #[track_caller]
    pub fn expect_screen<K>(&self, matcher: impl IntoScreenMatcher<K>) -> Result<Screen> {
        let at = Location::caller();
        let shown = Shown(matcher.into_screen_matcher());
        if !self.fixture.conversation.is_terminal() {
            let (verb, object) = (shown.name(), shown.object(Channel::Stdout));
            return Err(self.input().refuse(ErrorKind::InvalidInput, verb, object, at, NO_TERMINAL, Some(GIVE_ONE)));
        }
        self.stdout().wait(at).run(shown)
    }
}

impl Within<'_> {
    /// See [`Fixture::send_control`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::send_control`].
    #[track_caller]
    pub fn send_control(&self, key: char) -> Result {
        self.input().send_control(key)
    }
}

impl Input {
    /// Presses a key together with Ctrl; see [`Fixture::send_control`].
    ///
    /// # Errors
    ///
    /// Those of [`Fixture::send_control`].
    #[track_caller]
    pub fn send_control(&self, key: char) -> Result {
        let at = Location::caller();
        let refuse = |why: &str, help: &str| {
            let object = format!("Ctrl-{}", key.to_uppercase());
            Err(self.refuse(ErrorKind::InvalidInput, "send", object, at, why, Some(help)))
        };
        if !self.conversation.is_terminal() {
            return refuse(
                NO_TERMINAL,
                "give it one with `.pty()`, or send the signal itself: `.signal(Signal::SIGINT)`",
            );
        }
        match control(key) {
            Some(byte) => self.send_from(&[byte], at),
            None => refuse("there is no such key", "Ctrl goes with letters and with `@ [ \\ ] ^ _ ?`"),
        }
    }

    pub(crate) fn send_eof_from(&self, at: &'static Location<'static>) -> Result {
        if !self.conversation.is_terminal() {
            self.conversation.close_stdin();
            return Ok(());
        }
        self.send_from(&self.conversation.ending(), at)
    }

    fn refuse(
        &self,
        kind: ErrorKind,
        verb: &str,
        object: String,
        at: &'static Location<'static>,
        why: &str,
        help: Option<&str>,
    ) -> Error {
        let mut state = self.conversation.lock();
        state.reported = true;
        report::failure(kind, &self.conversation.subject, &state, &Attempt { verb, object, at }, why, &[], help)
    }
}

/// What a program on a terminal finds in its environment; it is not that of the terminal in which the tests run, if any.
pub(crate) fn adapt(environment: &mut BTreeMap<OsString, OsString>) {
    environment.insert("TERM".into(), TERM.into());
    // They would hide the window's real size.
    for name in ["LINES", "COLUMNS"] {
        environment.remove(OsStr::new(name));
    }
}

/// The helper's standard streams, and our ends of them.
pub(crate) fn wiring(terminal: Option<Setup>) -> Result<([OwnedFd; 3], Ends), Failure> {
    match terminal {
        None => pipes().map_err(Failure::Wiring),
        Some(Setup { columns: 0, .. } | Setup { rows: 0, .. }) => {
            Err(Failure::Nonsense("a terminal has at least one column and one row".to_owned()))
        }
        Some(setup) => lines(setup).map_err(Failure::Terminal),
    }
}

fn pipes() -> io::Result<([OwnedFd; 3], Ends)> {
    let (stdin, to_helper) = fds::pipe()?;
    let (from_out, stdout) = fds::pipe()?;
    let (from_err, stderr) = fds::pipe()?;
    for ours in [&to_helper, &from_out, &from_err] {
        fds::set_nonblocking(ours)?;
    }
    let ends = Ends { stdin: to_helper, stdout: from_out, stderr: Some(from_err), terminal: None };
    Ok(([stdin, stdout, stderr], ends))
}

fn lines(setup: Setup) -> io::Result<([OwnedFd; 3], Ends)> {
    let (master, stdin) = pty::open(setup)?;
    let (stdout, stderr) = (stdin.try_clone()?, stdin.try_clone()?);
    let ends = Ends { stdin: master.try_clone()?, stdout: master, stderr: None, terminal: Some(setup) };
    Ok(([stdin, stdout, stderr], ends))
}
