//! Reports in color, where a person reads them on a terminal.
//!
//! A report is written without color; color is laid over it, line by line, when it is printed. So what a file or a CI log
//! gets is the same text.

use std::io::IsTerminal as _;

use anstyle::{AnsiColor, Style};

/// What decides.
#[derive(Debug, Clone, Copy, Default)]
struct Surroundings {
    no_color: bool,
    force: bool,
    /// `CLICOLOR=0`.
    off: bool,
    dumb: bool,
    terminal: bool,
}

impl Surroundings {
    fn look() -> Surroundings {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is = |name: &str, value: &str| set(name).is_some_and(|v| v == value);
        Surroundings {
            no_color: set("NO_COLOR").is_some(),
            force: set("CLICOLOR_FORCE").is_some_and(|v| v != "0"),
            off: is("CLICOLOR", "0"),
            dumb: is("TERM", "dumb"),
            // What a test prints on standard error, libtest collects and prints on standard output: both must be terminals,
            // or `cargo test > log` would fill the file with escape sequences.
            terminal: std::io::stderr().is_terminal() && std::io::stdout().is_terminal(),
        }
    }

    /// As <https://bixense.com/clicolors> and <https://no-color.org> have it.
    fn want_color(self) -> bool {
        !self.no_color && (self.force || (self.terminal && !self.off && !self.dumb))
    }
}

/// For whoever prints to one stream only, which is a terminal or not.
#[cfg(feature = "leakcheck")]
pub(crate) fn is_wanted(terminal: bool) -> bool {
    Surroundings { terminal, ..Surroundings::look() }.want_color()
}

/// The report as it is to be printed here and now.
pub(crate) fn for_printing(report: String) -> String {
    if Surroundings::look().want_color() { painted(&report) } else { report }
}

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const WRONG: Style = AnsiColor::Red.on_default();
const NEAR: Style = AnsiColor::Yellow.on_default();
const SENT: Style = AnsiColor::Blue.on_default();
const HELP: Style = AnsiColor::Cyan.on_default().bold();
const QUIET: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// The same text in color.
fn painted(report: &str) -> String {
    let mut out = String::with_capacity(report.len() * 2);
    for (number, line) in report.split_inclusive('\n').enumerate() {
        let (text, ending) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        paint(&mut out, text, number == 0);
        out.push_str(ending);
    }
    out
}

fn styled(out: &mut String, style: Style, text: &str) {
    if !text.is_empty() {
        out.push_str(&format!("{style}{text}{style:#}"));
    }
}

fn paint(out: &mut String, line: &str, first: bool) {
    if first {
        return styled(out, BAD, line);
    }
    if let Some((time, direction, rest)) = transcript_line(line) {
        styled(out, QUIET, time);
        let style = match direction {
            "in " => SENT,
            "err" => WRONG,
            "ok " => GOOD,
            _ => Style::new(),
        };
        let (rest, place) = rest.split_at(rest.rfind("    <- ").unwrap_or(rest.len()));
        match style == Style::new() {
            true => out.push_str(&format!("{direction}{rest}")),
            false => styled(out, style, &format!("{direction}{rest}")),
        }
        return styled(out, QUIET, place);
    }
    if line.starts_with("  help: ") {
        let (name, text) = line.split_at("  help:".len());
        styled(out, HELP, name);
        return out.push_str(text);
    }
    if line.starts_with("  transcript") {
        return styled(out, STRONG, line);
    }
    // A name of at most ten letters, and what is behind it.
    let Some((name, value)) = line.split_at_checked(13).filter(|(name, _)| name.starts_with("  ")) else {
        return out.push_str(line);
    };
    let style = match name.trim() {
        "expected" | "or" | "found" => GOOD,
        "got" | "unwanted" | "missing" => WRONG,
        "closest" | "" => NEAR,
        "state" => STRONG,
        _ => Style::new(),
    };
    styled(out, QUIET, name);
    match style == Style::new() {
        true => out.push_str(value),
        false => styled(out, style, value),
    }
}

/// `     0.001s out | text`, cut before the direction and after it.
fn transcript_line(line: &str) -> Option<(&str, &str, &str)> {
    let seconds = line.trim_start();
    let point = seconds.find(|c: char| !c.is_ascii_digit())?;
    let after = seconds[point..].strip_prefix('.')?.get(3..)?.strip_prefix("s ")?;
    let direction = after.get(..3).filter(|d| ["in ", "out", "err", "ok "].contains(d))?;
    let rest = after[3..].strip_prefix(" | ").map(|_| &after[3..])?;
    Some((&line[..line.len() - after.len()], direction, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            out.push_str(before);
            rest = after.split_once('m').expect("a color ends").1;
        }
        out + rest
    }

    #[test]
    fn who_wants_color() {
        let nobody = Surroundings::default();
        let terminal = Surroundings { terminal: true, ..nobody };
        assert!(terminal.want_color());
        assert!(!nobody.want_color());
        assert!(!Surroundings { no_color: true, ..terminal }.want_color());
        assert!(!Surroundings { off: true, ..terminal }.want_color());
        assert!(!Surroundings { dumb: true, ..terminal }.want_color());
        assert!(Surroundings { force: true, ..nobody }.want_color());
        assert!(Surroundings { force: true, dumb: true, ..terminal }.want_color());
        assert!(!Surroundings { force: true, no_color: true, ..terminal }.want_color());
    }

    const REPORT: &str = "failed to expect line `a` from `b`: the next line is another one
  expected   \"a\"
  got        \"\u{e4}\"
              ^ from here they differ
  state      running for 3.0 ms

  transcript (last 2 of 2 lines)
     0.001s in  | x    <- tests/x.rs:3
     0.002s err | \u{e4}
   1234.002s out | 0.001s in  | y
          ... 3 bytes not kept ...

  help: something
\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}
";

    #[test]
    fn color_changes_nothing_but_the_color() {
        let seen = painted(REPORT);
        assert_eq!(stripped(&seen), REPORT);
        assert!(seen.starts_with("\u{1b}[1m\u{1b}[31mfailed"), "{seen:?}");
        let red = |text: &str| format!("{WRONG}{text}{WRONG:#}");
        assert!(seen.contains(&red("\"\u{e4}\"")) && seen.contains(&red("err | \u{e4}")), "{seen:?}");
        assert!(seen.contains("out | 0.001s in  | y"), "what the helper says is no part of the report: {seen:?}");
    }

    #[test]
    fn any_cut_of_a_report_is_painted_without_a_panic() {
        for (at, _) in REPORT.char_indices() {
            assert_eq!(stripped(&painted(&REPORT[at..])), &REPORT[at..]);
        }
    }
}
