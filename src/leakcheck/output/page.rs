//! The report as one HTML file: the timeline of the run, and every finding, also without JavaScript.
//!
//! The findings are plain HTML. The timeline is drawn by the script from the report's JSON, which is embedded as data: no
//! text of anybody's ever becomes markup or code. The content security policy forbids every request, and every script but
//! the one with this file's nonce.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};

use super::finding::{Finding, Standing, all};
use super::markdown::{html as prose, verdict};
use super::words::{self, in_words, one_line, path_in_words};
use crate::leakcheck::Report;

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

pub(super) fn text(report: &Report) -> String {
    // Nobody whose text is in the report can know it.
    let nonce = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    let verdict = escaped(&verdict(report));
    let mut page = String::new();
    let mut rest = FRAME;
    // One pass, so that nothing that is put in is looked at again.
    while let Some((before, (name, after))) = rest.split_once("{{").and_then(|(b, r)| Some((b, r.split_once("}}")?))) {
        page.push_str(before);
        match name {
            "nonce" => page.push_str(&nonce),
            "verdict" => page.push_str(&verdict),
            "standing" => page.push_str(if report.exit_code() == 0 { "good" } else { "bad" }),
            "facts" => page.push_str(&facts(report)),
            "findings" => page.push_str(&findings(report)),
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            "data" => page.push_str(&data(report)),
            _ => unreachable!("the frame has no `{name}`"),
        }
        rest = after;
    }
    page + rest
}

/// The run in a few pairs.
fn facts(report: &Report) -> String {
    let mut pairs = vec![
        ("suite", one_line(&report.suite)),
        ("ended", words::suite_ended(report)),
        ("took", format!("{}, and the check {}", in_words(report.took_ms), in_words(report.checking_ms))),
        ("directory", path_in_words(&report.dir)),
    ];
    pairs.extend(words::timestamp(report.started_unix_ms).map(|at| ("started", at)));
    pairs.extend(report.shard.map(|shard| ("shard", shard.to_string())));
    if !report.shards.is_empty() {
        let shards: Vec<String> = report.shards.iter().map(ToString::to_string).collect();
        pairs.push(("shards", shards.join(", ")));
    }
    pairs.extend(report.tests_run.map(|n| ("tests", n.to_string())));
    pairs.push(("orphans", format!("{} were adopted and ended by themselves", report.adopted)));
    pairs.push(("status", report.exit_code().to_string()));
    pairs.push(("foster", one_line(&report.foster)));
    pairs.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value))).collect()
}

fn findings(report: &Report) -> String {
    let mut html = String::new();
    if report.timed_out_ms.is_some() || !report.hanging.is_empty() {
        html.push_str("<h2>What was alive when the time was up</h2>\n<pre>");
        report.hanging.iter().for_each(|line| html.push_str(&(escaped(line) + "\n")));
        html.push_str("</pre>\n");
    }
    let all = all(report);
    let _ = writeln!(html, "<h2>Findings <span class=\"count\">{}</span></h2>", all.len());
    if all.is_empty() {
        html.push_str("<p>Nothing was left behind.</p>\n");
    }
    for finding in all {
        html.push_str(&article(finding, report));
    }
    if !report.notes.is_empty() {
        html.push_str("<h2>Policy</h2>\n<ul>\n");
    }
    for note in &report.notes {
        let (place, what) = (escaped(&note.place.to_string()), escaped(&note.what));
        let _ = writeln!(html, "<li><code>{place}</code> {what}</li>");
    }
    if !report.notes.is_empty() {
        html.push_str("</ul>\n");
    }
    html
}

fn article(finding: Finding<'_>, report: &Report) -> String {
    let standing = finding.standing(report);
    let (class, word) = match standing {
        Standing::Fails => ("fails", "fails the check"),
        Standing::Warns => ("warns", "warning"),
        Standing::Allowed => ("allowed", "allowed"),
    };
    let kind = finding.kind().name();
    // The script finds the details of a leak by it.
    let index = match finding {
        Finding::Leak(leak) => report.leaks.iter().position(|l| std::ptr::eq(l, leak)),
        _ => None,
    };
    let index = index.map(|n| format!(" data-leak=\"{n}\"")).unwrap_or_default();
    let mut html = format!(
        "<article class=\"finding {class}\" data-kind=\"{kind}\"{index}>\n<details{}>\n<summary><span class=\"badge\">{word} · \
         {kind}</span> {}</summary>\n<dl>\n",
        if standing == Standing::Fails { " open" } else { "" },
        prose(&finding.sentence()),
    );
    let mut before = "";
    for (name, value) in finding.rows() {
        let shown = if name == before { "" } else { name };
        let _ = writeln!(html, "<dt>{shown}</dt><dd class=\"{}\">{}</dd>", name.replace(' ', "-"), escaped(&value));
        before = name;
    }
    html.push_str("</dl>\n");
    if !finding.transcript().is_empty() {
        html.push_str("<h3>Transcript</h3>\n<pre>");
        finding.transcript().iter().for_each(|line| html.push_str(&(escaped(&one_line(line)) + "\n")));
        html.push_str("</pre>\n");
    }
    html + "</details>\n</article>\n"
}

/// In text and in quoted attributes.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// JSON in which nothing ends the script element, or begins a comment in it.
fn data(report: &Report) -> String {
    // Plain data, whose keys are all strings: it cannot fail.
    let json = serde_json::to_string(report).unwrap_or_default();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::report::tests::{clean, full};

    /// The page as a browser's tokenizer cuts it, roughly: its tags, and the content of its scripts.
    fn tags(page: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = page;
        while let Some((_, after)) = rest.split_once('<') {
            let (tag, after) = after.split_once('>').expect("a tag ends");
            found.push(tag.to_owned());
            // What is in a script or a style is no markup.
            let name = tag.split([' ', '\n']).next().unwrap_or_default();
            rest = match name {
                "script" | "style" => &after[after.find(&format!("</{name}")).expect("it ends")..],
                _ => after,
            };
        }
        found
    }

    #[test]
    fn hostile_text_is_text() {
        let mut report = full();
        let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)><!--\"'&{{script}}";
        report.suite = hostile.into();
        report.dir = hostile.into();
        report.leaks[0].command = hostile.into();
        report.leaks[0].test.as_mut().unwrap().name = hostile.into();
        report.leaks[0].transcript = vec![hostile.into()];
        report.leaks[0].fix = hostile.into();
        report.tests[0].id.name = hostile.into();
        report.helpers[1].command = hostile.into();
        report.leftovers[0].path = hostile.into();
        report.notes[0].what = hostile.into();
        report.hanging = vec![hostile.into()];
        let tags = |report: &Report| {
            let mut tags = tags(&text(report));
            tags.iter_mut().for_each(|t| *t = t.split([' ', '\n']).next().unwrap_or_default().to_owned());
            tags
        };
        let mut plain = full();
        plain.hanging = vec!["x".into()];
        plain.leaks[0].transcript = vec!["x".into()];
        assert_eq!(tags(&report), tags(&plain), "the same elements, whatever the text");
        let json = data(&report);
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn every_page_has_its_own_nonce_and_no_address() {
        let page = text(&full());
        let nonce = page.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        assert!(nonce.len() == 32 && nonce.bytes().all(|b| b.is_ascii_hexdigit()), "{nonce}");
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "the style and the script");
        assert!(!text(&full()).contains(&nonce));
        for address in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!text(&clean()).contains(address), "{address}");
        }
    }

    #[test]
    fn without_a_script_every_finding_is_there() {
        let page = text(&full());
        assert_eq!(page.matches("<article ").count(), 7);
        for fact in
            ["started by", "cargo-nextest (pid 39)", "&lt;script&gt;alert(1)&lt;/script&gt; &amp;", "listens on tcp"]
        {
            assert!(page.contains(fact), "{fact}");
        }
    }
}
