//! One line on the terminal that says what is being waited for, rewritten in place and erased before anything else is
//! printed.
//!
//! It is drawn only when standard error is a terminal, and only after the suite's end: while the suite runs, the terminal
//! is the suite's. cargo leaves the cursor behind `test orders::are_kept ... `, and nextest draws a bar on the last line; a
//! line of ours would destroy the one and be destroyed by the other, and neither can be known from outside.

use std::time::{Duration, Instant};

use crate::sys::supervise::{say_all, terminal_width};

/// How long nothing is shown, and how long one text stays: what is over sooner needs no line.
const PAUSE: Duration = Duration::from_secs(1);

/// The line. Dropping it erases it.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it goes; for the tests, to memory.
    out: fn(&str),
    width: Option<usize>,
    shown: bool,
    next: Instant,
}

impl Line {
    /// Nothing is shown in the first second, and nothing at all unless standard error is a terminal.
    pub(super) fn new() -> Line {
        Line::on(terminal_width(), say_all)
    }

    fn on(width: Option<usize>, out: fn(&str)) -> Line {
        Line { out, width, shown: false, next: Instant::now() + PAUSE }
    }

    /// When [`show`](Line::show) will show something; `None` if it never will, so that nobody need wake up for it.
    pub(super) fn next(&self) -> Option<Instant> {
        self.width.map(|_| self.next)
    }

    /// Puts this text into the place of the one before, at most once a second; `text` is called only then.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let Some(width) = self.width else { return };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + PAUSE;
        self.shown = true;
        // The last column stays empty: a terminal may go to the next line after it.
        let text: String = text().chars().take(width.saturating_sub(1)).collect();
        (self.out)(&format!("\r\x1b[2K{text}"));
    }

    /// To be called before anything else is printed.
    pub(super) fn erase(&mut self) {
        if std::mem::take(&mut self.shown) {
            (self.out)("\r\x1b[2K");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static SAID: RefCell<String> = const { RefCell::new(String::new()) };
    }

    fn record(text: &str) {
        SAID.with_borrow_mut(|said| said.push_str(text));
    }

    fn said() -> String {
        SAID.take()
    }

    #[test]
    fn one_line_is_rewritten_at_most_once_a_second_and_erased() {
        let mut line = Line::on(Some(10), record);
        line.show(|| "too soon".to_owned());
        line.erase();
        assert_eq!(said(), "");
        line.next = Instant::now();
        line.show(|| "longer than the terminal".to_owned());
        assert_eq!(said(), "\r\x1b[2Klonger th");
        line.show(|| "too soon".to_owned());
        assert_eq!(said(), "");
        assert!(line.next().is_some_and(|next| next > Instant::now()));
        line.erase();
        line.erase();
        assert_eq!(said(), "\r\x1b[2K");
        line.next = Instant::now();
        line.show(|| "again".to_owned());
        drop(line);
        assert_eq!(said(), "\r\x1b[2Kagain\r\x1b[2K");
    }

    #[test]
    fn without_a_terminal_nothing_is_shown_and_nobody_wakes_up() {
        let mut line = Line::on(None, record);
        line.next = Instant::now();
        line.show(|| unreachable!("nobody reads it"));
        assert_eq!(line.next(), None);
        drop(line);
        assert_eq!(said(), "");
    }
}
