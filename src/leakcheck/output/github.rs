//! Annotations for GitHub Actions: workflow commands on standard output, which the runner turns into remarks at the lines
//! of a pull request.
//!
//! GitHub shows ten errors and ten warnings of a step; of more, the tenth says how many there are and where.

use std::path::Path;

use super::finding::{Finding, Standing, all};
use super::words::{below, one_line};
use crate::leakcheck::Report;

/// What GitHub shows of a step, of each level.
const SHOWN: usize = 10;

/// The commands, one a line. `workspace` is where the repository was checked out (`GITHUB_WORKSPACE`).
pub(super) fn annotations(report: &Report, workspace: &Path) -> String {
    let findings = all(report);
    let mut text = String::new();
    for (level, standing) in [("error", Standing::Fails), ("warning", Standing::Warns)] {
        let of_level: Vec<_> = findings.iter().filter(|f| f.standing(report) == standing).collect();
        let shown = if of_level.len() > SHOWN { SHOWN - 1 } else { of_level.len() };
        for finding in &of_level[..shown] {
            text.push_str(&annotation(level, **finding, report, workspace));
        }
        if shown < of_level.len() {
            let what = format!("{} more findings of the leak check", of_level.len() - shown);
            let message = "The job summary and the report's files have all of them.";
            text.push_str(&command(level, &[("title", &what)], message));
        }
    }
    if !report.confirmed || report.latecomers > 0 {
        let message = "Processes are alive, or were until they were killed, that the report cannot describe.";
        text.push_str(&command("error", &[("title", "The leak check found more than it can show")], message));
    }
    if let Some(limit) = report.timed_out_ms {
        let message = report.hanging.iter().map(|l| l.as_str()).collect::<Vec<_>>().join("\n");
        let title = format!("The suite did not end within {}", super::words::in_words(limit));
        text.push_str(&command("error", &[("title", &title)], &message));
    }
    text
}

fn annotation(level: &str, finding: Finding<'_>, report: &Report, workspace: &Path) -> String {
    let title = match finding.test() {
        Some(test) => format!("{} left {}", one_line(&test.to_string()), super::words::count_kind(1, finding.kind())),
        None => format!("A test left {}", super::words::count_kind(1, finding.kind())),
    };
    let mut lines = vec![format!("{}.", finding.sentence()), format!("fix: {}", finding.fix())];
    lines.extend(finding.again().map(|again| format!("again: {again}")));
    let message = lines.join("\n");
    let Some(place) = finding.place() else { return command(level, &[("title", &title)], &message) };
    // Relative to the repository, whatever directory of it the check was started in.
    let file = below(workspace, &report.dir, &place.file).unwrap_or_else(|| place.file.clone());
    let (file, line) = (file.to_string_lossy().into_owned(), place.line.max(1).to_string());
    command(level, &[("file", &file), ("line", &line), ("title", &title)], &message)
}

/// `::error file=…,line=…::message`, as actions/toolkit writes it.
fn command(level: &str, properties: &[(&str, &str)], message: &str) -> String {
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    format!("::{level} {}::{}\n", properties.join(","), data(message))
}

/// Its `escapeData`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Its `escapeProperty`.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::sample;
    use crate::leakcheck::report::tests::{clean, full};

    /// As the runner's `ActionCommand` reads a line.
    fn read(line: &str) -> (String, Vec<(String, String)>, String) {
        let unescape = |text: &str| {
            let text = text.replace("%3A", ":").replace("%2C", ",").replace("%0D", "\r").replace("%0A", "\n");
            text.replace("%25", "%")
        };
        let (head, message) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
        let (level, properties) = head.split_once(' ').unwrap();
        let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), unescape(v))).unwrap();
        (level.to_owned(), properties.split(',').map(pair).collect(), unescape(message))
    }

    #[test]
    fn an_annotation_is_at_its_line_and_survives_hostile_text() {
        let mut report = full();
        report.leaks[0].test.as_mut().unwrap().name = "a,b::c%0A::error::x\n".into();
        report.leaks[0].command = "::stop-commands::x\n100%".into();
        let text = annotations(&report, Path::new("/home/me"));
        let lines: Vec<_> = text.lines().map(read).collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert_eq!(lines.iter().filter(|l| l.0 == "error").count(), 2, "{text}");
        let (level, properties, message) = &lines[0];
        let value = |name: &str| properties.iter().find(|p| p.0 == name).map(|p| p.1.as_str());
        assert_eq!(
            (level.as_str(), value("file"), value("line")),
            ("error", Some("shop/tests/it/orders.rs"), Some("42"))
        );
        assert_eq!(value("title"), Some("a,b::c%0A::error::x\\n in shop::it, attempt 2 left 1 process"));
        let expected =
            "a,b::c%0A::error::x\\n in shop::it, attempt 2 left `::stop-commands::x\\n100%` (pid 4711) running.\nfix: ";
        assert!(message.starts_with(expected), "{message}");
        assert!(lines[1].1.iter().all(|p| p.0 != "file"), "what has no place is at no line: {:?}", lines[1]);
    }

    #[test]
    fn more_than_github_shows_are_summed_up_in_the_last() {
        for (leaks, lines, last) in [(10, 10, "pid 9"), (11, 10, "2 more findings"), (500, 10, "491 more findings")] {
            let report = crate::leakcheck::Report { leaks: (0..leaks).map(sample).collect(), ..clean() };
            let text = annotations(&report, Path::new("/"));
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.lines().next_back().unwrap().contains(last), "{text}");
        }
    }

    #[test]
    fn nothing_is_said_about_nothing() {
        assert_eq!(annotations(&clean(), Path::new("/")), "");
    }
}
