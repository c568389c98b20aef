//! What a person would see of a helper on a terminal: its output, run through a terminal emulator.
//!
//! The emulator sees every byte as it arrives, whatever expectations have consumed. It also answers what programs ask a
//! terminal (where the cursor is, what sort of terminal it is), or those would wait for an answer for ever.

use std::fmt;
use std::num::NonZeroU16;

use predicates_core::Predicate;

use super::conversation::{Channel, Conversation, State};
use super::matcher::{ViaClosure, ViaPredicate, ViaText};
use super::verbs::{Unmet, Verb};
use crate::sys::OwnedFd;
use crate::sys::fds::write_some;
use crate::sys::pty::Setup;
use crate::transcript::{Cut, Secrets, Visible};

/// What stands in the place of a secret's letters.
const HIDDEN: char = '*';

/// A moment of the terminal: what a person would see.
///
/// `Display` draws it in a frame.
///
/// # Examples
///
/// ```
/// # fn main() -> foster::Result {
/// // Clears the screen, and writes in the middle of it.
/// let fx = foster::Fixture::command("printf").arg("\\033[2J\\033[3;5Hhello").pty_size(20, 4).spawn()?;
/// let screen = fx.expect_screen("hello")?;
/// assert_eq!(screen.row(2), "    hello");
/// assert_eq!(screen.cursor(), (2, 9));
/// assert_eq!(
///     screen.to_string(),
///     "\
/// +--------------------+
/// |                    |
/// |                    |
/// |    hello           |
/// |                    |
/// +--------------------+
/// cursor: row 2, column 9
/// "
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    columns: u16,
    rows: Vec<String>,
    cursor: (u16, u16),
    hidden: bool,
    title: String,
    full: bool,
}

impl Screen {
    /// The rows from top to bottom, without the blanks at their ends.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// This row, counted from zero, without the blanks at its end.
    ///
    /// # Panics
    ///
    /// When the terminal has no such row.
    #[track_caller]
    #[must_use]
    pub fn row(&self, row: usize) -> &str {
        match self.rows.get(row) {
            Some(text) => text,
            None => panic!("the terminal has {} rows, and row {row} is none of them", self.rows.len()),
        }
    }

    /// All rows, each with a line ending, without the empty ones at the bottom.
    #[must_use]
    pub fn text(&self) -> String {
        let used = self.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        self.rows[..used].iter().flat_map(|row| [row, "\n"]).collect()
    }

    /// Does this stand in one of the rows?
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.rows.iter().any(|row| row.contains(text))
    }

    /// Where the cursor is: row and column, counted from zero. After the last column of a row the column is its width.
    #[must_use]
    pub fn cursor(&self) -> (u16, u16) {
        self.cursor
    }

    /// Has the helper hidden the cursor?
    #[must_use]
    pub fn is_cursor_hidden(&self) -> bool {
        self.hidden
    }

    /// The window's title, if the helper has set one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        (!self.title.is_empty()).then_some(&*self.title)
    }

    /// Does the helper use the whole screen, on the terminal's second page, as editors and pagers do?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        (self.columns, u16::try_from(self.rows.len()).unwrap_or(u16::MAX))
    }
}

impl fmt::Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let border = "-".repeat(usize::from(self.columns));
        writeln!(f, "+{border}+")?;
        for row in &self.rows {
            // A letter that is two columns wide, as many Chinese ones, moves the border: better than not being shown.
            writeln!(f, "|{:<width$}|", Visible(row.as_bytes()).to_string(), width = usize::from(self.columns))?;
        }
        writeln!(f, "+{border}+")?;
        let (row, column) = self.cursor;
        write!(f, "cursor: row {row}, column {column}{}", if self.hidden { ", hidden" } else { "" })?;
        if let Some(title) = self.title() {
            write!(f, "; title: {}", Visible(title.as_bytes()))?;
        }
        f.write_str("\n")
    }
}

/// What the emulator tells beside the screen itself.
#[derive(Debug, Default)]
struct Wishes {
    title: String,
    /// What the terminal has been asked, and answers.
    answers: Vec<u8>,
}

impl vt100::Callbacks for Wishes {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.title = String::from_utf8_lossy(title).into_owned();
    }

    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        _second: Option<u8>,
        params: &[&[u16]],
        command: char,
    ) {
        let param = params.first().and_then(|p| p.first()).copied().unwrap_or(0);
        // ECMA-48 8.3.35 and 8.3.24, and what xterm says: all is well; the cursor is here; I am a VT102.
        let answer = match (first, command, param) {
            (None, 'n', 5) => "\x1b[0n".to_owned(),
            (None, 'n', 6) => {
                let ((row, column), (_, columns)) = (screen.cursor_position(), screen.size());
                format!("\x1b[{};{}R", row + 1, (column + 1).min(columns.get()))
            }
            (None, 'c', 0) => "\x1b[?6c".to_owned(),
            _ => return,
        };
        self.answers.extend_from_slice(answer.as_bytes());
    }
}

/// The terminal emulator of one helper.
pub(crate) struct Emulator {
    parser: vt100::Parser<Wishes>,
    /// Somebody has asked for the screen: reports show it.
    asked: bool,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("screen", &self.screen()).finish_non_exhaustive()
    }
}

fn at_least_one(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}

impl Emulator {
    pub(super) fn new(setup: Setup) -> Box<Emulator> {
        let (rows, columns) = (at_least_one(setup.rows), at_least_one(setup.columns));
        let parser = vt100::Parser::new_with_callbacks(rows, columns, 0, Wishes::default());
        Box::new(Emulator { parser, asked: false })
    }

    /// Takes in what the helper has said, and answers what it has asked the terminal.
    pub(super) fn show(&mut self, bytes: &[u8], master: &OwnedFd) {
        let answers = self.process(bytes);
        if !answers.is_empty() {
            // Without waiting: whoever asks and does not read has no use for an answer.
            let _ = write_some(master, &answers);
        }
    }

    fn process(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.parser.process(bytes);
        std::mem::take(&mut self.parser.callbacks_mut().answers)
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.set_size(at_least_one(rows), at_least_one(columns));
    }

    fn rows(&self) -> Vec<String> {
        let screen = self.parser.screen();
        screen.rows(0, screen.size().1.get()).collect()
    }

    pub(crate) fn screen(&self) -> Screen {
        self.with_rows(self.rows())
    }

    fn with_rows(&self, mut rows: Vec<String>) -> Screen {
        let screen = self.parser.screen();
        for row in &mut rows {
            // Some programs write blanks to the end of each row.
            row.truncate(row.trim_end_matches(' ').len());
        }
        Screen {
            columns: screen.size().1.get(),
            rows,
            cursor: screen.cursor_position(),
            hidden: screen.hide_cursor(),
            title: self.parser.callbacks().title.clone(),
            full: screen.alternate_screen(),
        }
    }

    /// For a report, if the screen is what the test is about.
    pub(crate) fn picture(&self, secrets: &Secrets) -> Option<String> {
        if !self.asked && !self.parser.screen().alternate_screen() {
            return None;
        }
        let mut rows = self.rows();
        hide(&mut rows, secrets);
        Some(self.with_rows(rows).to_string())
    }
}

/// Overwrites the secrets, also where one goes over the end of a row.
fn hide(rows: &mut [String], secrets: &Secrets) {
    let whole = rows.concat();
    let places = secrets.places(whole.as_bytes(), Cut::NONE);
    if places.is_empty() {
        return;
    }
    let mut begin = 0;
    for row in rows {
        let end = begin + row.len();
        let letter = |(at, letter): (usize, char)| {
            let secret = places.iter().any(|place| place.contains(&(begin + at)));
            if secret { HIDDEN } else { letter }
        };
        *row = row.char_indices().map(letter).collect();
        begin = end;
    }
}

impl Conversation {
    /// The screen now; `None` if the helper has no terminal.
    pub(crate) fn screen(&self) -> Option<Screen> {
        let mut state = self.lock();
        let emulator = state.emulator.as_mut()?;
        emulator.asked = true;
        Some(emulator.screen())
    }
}

/// What the screen is to be like.
pub struct ScreenMatcher<'m> {
    test: Box<dyn FnMut(&Screen) -> bool + Send + 'm>,
    description: String,
}

impl fmt::Debug for ScreenMatcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScreenMatcher({})", self.description)
    }
}

/// What [`expect_screen`](crate::Fixture::expect_screen) accepts: a text that is to stand in one of the rows, a predicate
/// about [all rows](Screen::text), or a closure `|screen: &Screen| -> bool`.
///
/// `Via` only tells the three apart for the compiler; it is always inferred.
pub trait IntoScreenMatcher<Via> {
    /// Turns it into a matcher.
    fn into_screen_matcher<'m>(self) -> ScreenMatcher<'m>
    where
        Self: 'm;
}

impl IntoScreenMatcher<ViaText> for &str {
    fn into_screen_matcher<'m>(self) -> ScreenMatcher<'m>
    where
        Self: 'm,
    {
        let description = Visible(self.as_bytes()).to_string();
        ScreenMatcher { test: Box::new(move |screen| screen.contains(self)), description }
    }
}

impl IntoScreenMatcher<ViaText> for String {
    fn into_screen_matcher<'m>(self) -> ScreenMatcher<'m>
    where
        Self: 'm,
    {
        let description = Visible(self.as_bytes()).to_string();
        ScreenMatcher { test: Box::new(move |screen| screen.contains(&self)), description }
    }
}

impl<P: Predicate<str> + Send> IntoScreenMatcher<ViaPredicate> for P {
    fn into_screen_matcher<'m>(self) -> ScreenMatcher<'m>
    where
        Self: 'm,
    {
        let description = format!("a screen with {}", self.to_string().replacen("var", "text", 1));
        ScreenMatcher { test: Box::new(move |screen| self.eval(&screen.text())), description }
    }
}

impl<F: FnMut(&Screen) -> bool + Send> IntoScreenMatcher<ViaClosure> for F {
    fn into_screen_matcher<'m>(self) -> ScreenMatcher<'m>
    where
        Self: 'm,
    {
        let description = "a screen for which the closure says true".to_owned();
        ScreenMatcher { test: Box::new(self), description }
    }
}

/// The screen is like this; consumes nothing.
pub(crate) struct Shown<'m>(pub(crate) ScreenMatcher<'m>);

impl Verb for Shown<'_> {
    type Answer = Screen;

    fn name(&self) -> &'static str {
        "expect screen"
    }
    fn object(&self, _channel: Channel) -> String {
        self.0.description.clone()
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        vec![("expected", self.0.description.clone())]
    }
    fn look(&mut self, state: &mut State, _channel: Channel) -> Option<Result<Screen, Unmet>> {
        let emulator = state.emulator.as_mut()?;
        emulator.asked = true;
        let screen = emulator.screen();
        (self.0.test)(&screen).then_some(Ok(screen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulator(columns: u16, rows: u16) -> Box<Emulator> {
        Emulator::new(Setup { columns, rows, echo: false })
    }

    #[test]
    fn a_terminal_answers_what_it_is_asked_and_nothing_else() {
        let mut emulator = emulator(10, 4);
        assert_eq!(emulator.process(b"ab\r\ncd\x1b[6n"), b"\x1b[2;3R");
        assert_eq!(emulator.process(b"\x1b[5n\x1b[c"), b"\x1b[0n\x1b[?6c");
        assert_eq!(emulator.process(b"\x1b[?25l\x1b[>c\x1b[1m hello \x1b[2J"), b"");
        // In the last column the cursor waits for the next letter, and is still in that column.
        assert_eq!(emulator.process(b"\x1b[1;1H0123456789\x1b[6n"), b"\x1b[1;10R");
    }

    #[test]
    fn an_escape_sequence_in_pieces_is_one() {
        let mut emulator = emulator(10, 2);
        for byte in b"\x1b[2;4Hx\x1b]2;a title\x07" {
            emulator.process(&[*byte]);
        }
        let screen = emulator.screen();
        assert_eq!((screen.row(1), screen.title(), screen.cursor()), ("   x", Some("a title"), (1, 4)));
        assert_eq!(screen.size(), (10, 2));
        emulator.process(b"\x1b[H~         ");
        assert_eq!(emulator.screen().row(0), "~", "blanks that were written are blanks");
    }

    #[test]
    fn a_secret_is_not_shown_not_even_over_the_end_of_a_row() {
        let mut emulator = emulator(6, 3);
        let secrets = Secrets::default();
        emulator.process(b"ab swordfish cd");
        emulator.asked = true;
        let shown = |secrets: &Secrets, emulator: &Emulator| emulator.picture(secrets).unwrap();
        assert!(shown(&secrets, &emulator).contains("|ab swo|\n|rdfish|"), "it would be there");
        secrets.add(b"swordfish");
        assert!(shown(&secrets, &emulator).contains("|ab ***|\n|******|\n| cd   |"));
    }
}
