//! The console's report in color, laid over the finished text line by line, so that a file or a CI log gets the same text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const HELP: Style = AnsiColor::Cyan.on_default().bold();
const QUIET: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// The same text in color.
pub(super) fn painted(report: &str) -> String {
    let mut out = String::with_capacity(report.len() * 2);
    for line in report.split_inclusive('\n') {
        let (text, ending) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        paint(&mut out, text);
        out.push_str(ending);
    }
    out
}

fn styled(out: &mut String, style: Style, text: &str) {
    if !text.is_empty() {
        let _ = write!(out, "{style}{text}{style:#}");
    }
}

fn paint(out: &mut String, line: &str) {
    if let Some(rest) = line.strip_prefix("leakcheck: ") {
        let good = rest.starts_with("nothing left behind") || rest.starts_with("all of it has been ended;");
        let quiet = rest.starts_with("allowed: ") || rest.starts_with("the report is in ");
        let warning = rest.ends_with(" (a warning)") || rest.ends_with("(a warning, as the policy says)");
        let style = match (good, quiet, warning) {
            (true, ..) => GOOD,
            (_, true, _) => QUIET,
            (.., true) => WARN,
            _ => BAD,
        };
        return styled(out, style, line);
    }
    if let Some(rest) = line.strip_prefix("  help: ") {
        styled(out, HELP, "  help:");
        return {
            let _ = write!(out, " {rest}");
        };
    }
    // A row: four blanks, a name of at most ten letters, and what is behind it.
    let row = line.split_at_checked(15).filter(|(name, _)| name.starts_with("    "));
    match row {
        Some((name, value)) => {
            styled(out, QUIET, name);
            match name.trim() {
                "test" => styled(out, STRONG, value),
                "fix" | "again" => styled(out, HELP, value),
                "survived" => styled(out, BAD, value),
                _ => out.push_str(value),
            }
        }
        None if line.starts_with("  `") => styled(out, STRONG, line),
        None => out.push_str(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::report::tests::full;

    fn stripped(text: &str) -> String {
        let mut parts = text.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |out, part| out + part.split_once('m').expect("a color ends").1)
    }

    #[test]
    fn color_changes_nothing_but_the_color() {
        let mut report = full();
        report.leaks[0].command = "müller \u{1b}[31m".into();
        let text = report.to_string();
        let seen = painted(&text);
        assert_eq!(stripped(&seen), text);
        assert!(seen.contains(&format!("{BAD}leakcheck: 2 processes are alive")), "{seen:?}");
        assert!(!text.contains('\u{1b}'), "nobody else brings a color: {text:?}");
    }

    #[test]
    fn any_cut_of_a_report_is_painted_without_a_panic() {
        let text = full().to_string() + "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}";
        for (at, _) in text.char_indices() {
            assert_eq!(stripped(&painted(&text[at..])), &text[at..]);
        }
    }
}
