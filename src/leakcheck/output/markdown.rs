//! The report as Markdown: `summary.md`, and the job summary of GitHub Actions.

use std::fmt::Write as _;

use super::finding::{Finding, Standing, all, tally};
use super::words::{self, in_words, one_line};
use crate::leakcheck::Report;

/// What GitHub takes of a step is 1 MiB; more, and all of it is dropped.
const JOB_SUMMARY: usize = 1000 * 1000;

/// Everything.
pub(super) fn text(report: &Report) -> String {
    bounded(report, usize::MAX)
}

/// As much as GitHub takes.
pub(super) fn job_summary(report: &Report) -> String {
    bounded(report, JOB_SUMMARY)
}

fn bounded(report: &Report, limit: usize) -> String {
    let mut text = String::new();
    let shard = report.shard.map(|s| format!(", shard {s}")).unwrap_or_default();
    let _ = writeln!(text, "## Leak check: {}\n", verdict(report));
    let _ = writeln!(
        text,
        "{} {} after {}{shard}.",
        code(&report.suite),
        words::suite_ended(report),
        in_words(report.took_ms)
    );
    if let Some(tests) = report.tests_run {
        let _ = writeln!(text, "{} ran.", words::count(usize::try_from(tests).unwrap_or(usize::MAX), "test", "tests"));
    }
    if let Some(limit) = report.timed_out_ms {
        let _ = writeln!(text, "\nThe suite did not end within {}; this was alive then:\n", in_words(limit));
        text.push_str(&fenced(&report.hanging));
    }
    if report.latecomers > 0 {
        let more = words::count(report.latecomers, "process", "processes");
        let _ = writeln!(text, "\n{more} began while others were being ended; nothing else is known about that.");
    }
    if !report.confirmed {
        text.push_str("\nThe kernel does not confirm that nothing is left.\n");
    }
    let findings = all(report);
    let headings = [(Standing::Fails, "Failing"), (Standing::Warns, "Warnings"), (Standing::Allowed, "Allowed")];
    let mut left_out = 0;
    for (standing, heading) in headings {
        let mut of_it = findings.iter().filter(|f| f.standing(report) == standing).peekable();
        if of_it.peek().is_some() {
            let _ = writeln!(text, "\n### {heading}: {}\n", tally(report, standing));
        }
        for finding in of_it {
            let entry = entry(*finding);
            // The rest, below, needs some room as well.
            if text.len() + entry.len() + 4096 > limit { left_out += 1 } else { text.push_str(&entry) }
        }
    }
    if left_out > 0 {
        let _ = writeln!(text, "\n{} more findings are in the report's files.", left_out);
    }
    if !report.notes.is_empty() {
        text.push_str("\n### Policy\n\n");
    }
    for note in report.notes.iter().take(20) {
        let _ = writeln!(text, "- {}: {}", code(&note.place.to_string()), code(&note.what));
    }
    text
}

/// In a few words.
pub(super) fn verdict(report: &Report) -> String {
    if report.timed_out_ms.is_some() {
        return "the time was up".to_owned();
    }
    let (failing, warnings) = (tally(report, Standing::Fails), tally(report, Standing::Warns));
    let more = if warnings.is_empty() { String::new() } else { format!("; warnings: {warnings}") };
    match report.is_clean() {
        true if report.tests_run == Some(0) => "no test ran".to_owned(),
        true if all(report).is_empty() => "nothing left behind".to_owned(),
        true => format!("nothing left behind that fails it{more}"),
        false if failing.is_empty() => format!("more is alive than can be shown{more}"),
        false => format!("{failing}{more}"),
    }
}

/// HTML, whose text is only to be escaped; a block of it ends with an empty line, and no text of ours has one.
fn entry(finding: Finding<'_>) -> String {
    let mut text = format!("<details><summary>{}</summary>\n<ul>\n", html(&finding.sentence()));
    for (name, value) in finding.rows() {
        let _ = writeln!(text, "<li>{name}: {}</li>", html(&value));
    }
    text.push_str("</ul>\n\n");
    if !finding.transcript().is_empty() {
        text.push_str(&fenced(finding.transcript()));
    }
    text + "</details>\n\n"
}

/// What is between backticks becomes code, as in Markdown.
pub(super) fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', " ");
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len() % 2 == 0 {
        return text.replace('`', "&#96;");
    }
    let part = |(n, part): (usize, &&str)| if n % 2 == 1 { format!("<code>{part}</code>") } else { (*part).to_owned() };
    parts.iter().enumerate().map(part).collect()
}

/// The longest run of backticks in it.
fn backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// A code span: nothing in it is markup.
fn code(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(backticks(&text) + 1);
    // A blank at both ends is taken away again (CommonMark 6.1); without it a backtick at an end would belong to the fence.
    format!("{fence} {text} {fence}")
}

/// A block of code: nothing in it is markup.
fn fenced(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|l| one_line(l)).collect();
    let fence = "`".repeat(lines.iter().map(|l| backticks(l)).max().unwrap_or_default().max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::leak::tests::sample;
    use crate::leakcheck::report::tests::{clean, full};

    #[test]
    fn a_summary_says_what_where_and_what_to_do() {
        let text = text(&full());
        let first = "## Leak check: 2 processes; warnings: 1 well-known daemon, 2 late fixtures, 1 file left, 1 socket left\n\n\
                     ` cargo test ` exited with status 0 after 12.00 s.\n3 tests ran.\n\n### Failing: 2 processes\n\n";
        assert!(text.starts_with(first), "{text}");
        let sentence = "<summary>orders::are_kept in shop::it, attempt 2 left <code>server --port 0</code> (pid 4711) running\
                        </summary>\n<ul>\n<li>test: orders::are_kept in shop::it, attempt 2; it passed</li>\n";
        assert!(text.contains(sentence), "{text}");
        assert!(
            text.contains("<li>fix: wait for it in its test, or start it as a <code>foster::Fixture</code>"),
            "{text}"
        );
        assert!(
            text.ends_with("\n### Policy\n\n- ` .config/foster.toml:4 `: ` this allowance matched nothing `\n"),
            "{text}"
        );
        assert!(text.contains("```text\nout > listening on 127.0.0.1:8080\n<script>alert(1)"), "{text}");
        assert_eq!(
            super::text(&clean()),
            "## Leak check: nothing left behind\n\n` cargo test ` exited with status 0 after 12.00 s.\n"
        );
        assert_eq!(verdict(&Report { tests_run: Some(0), ..clean() }), "no test ran");
        assert_eq!(verdict(&Report { confirmed: false, ..clean() }), "more is alive than can be shown");
    }

    #[test]
    fn nothing_in_a_code_span_is_markup() {
        for (text, span) in
            [("a", "` a `"), ("`a``b`", "``` `a``b` ```"), ("a\n# b", "` a\\n# b `"), ("``` x", "```` ``` x ````")]
        {
            assert_eq!(code(text), span);
        }
        let block = fenced(&["```".into(), "</details>".into(), "a\nb".into()]);
        assert_eq!(block, "````text\n```\n</details>\na\\nb\n````\n");
        assert_eq!(html("<b>`&"), "&lt;b&gt;&#96;&amp;");
        assert_eq!(html("a `<b>` c"), "a <code>&lt;b&gt;</code> c");
    }

    #[test]
    fn a_job_summary_is_no_longer_than_github_takes() {
        let report = Report { leaks: (0..3000).map(sample).collect(), ..clean() };
        let text = job_summary(&report);
        assert!(text.len() < 1024 * 1024 && text.len() > 900_000, "{}", text.len());
        assert!(text.contains(" more findings are in the report's files."));
        assert!(super::text(&report).len() > 1024 * 1024, "without a limit it is longer, or this proves nothing");
    }
}
