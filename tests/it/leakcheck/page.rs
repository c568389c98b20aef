//! The HTML page of a report in a real browser: what is drawn, what a click and a key show, and that hostile text is text.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::browser::Browser;
use super::running::{XTASK, have};

const T0: u64 = 1_790_000_000_000;

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";

fn report(tests: &[Value], helpers: &[Value], leaks: &[Value]) -> Value {
    json!({
        "schema": 1, "foster": "0.1.0", "suite": "cargo test", "dir": "/home/me/shop", "started_unix_ms": T0,
        "took_ms": 10_000, "checking_ms": 500, "grace_ms": 500, "ending": { "code": 0 }, "tests": tests, "leaks": leaks,
        "confirmed": true, "adopted": 0, "helpers": helpers, "fails": ["process"],
    })
}

fn id(name: &str) -> Value {
    json!({ "binary": "shop::it", "name": name })
}

fn test(name: &str, outcome: &str, from: u64, took: u64) -> Value {
    json!({ "binary": "shop::it", "name": name, "outcome": outcome, "started_unix_ms": T0 + from, "took_ms": took })
}

fn helper(of: &str, ended_by: &str, pid: u32, transcript: &[&str]) -> Value {
    json!({
        "test": id(of), "fixture": { "label": format!("server-{pid}"), "place": { "file": "tests/it.rs", "line": 3 } },
        "pid": pid, "command": "server", "started_unix_ms": T0 + 100, "ended_unix_ms": T0 + 900, "ended_by": ended_by,
        "transcript": transcript,
    })
}

fn leak(of: Option<&str>, command: &str, pid: u32, killed: bool) -> Value {
    let mut leak = json!({
        "kind": "process", "pid": pid, "start_ticks": pid, "started_unix_ms": T0 + 500, "command": command, "state": "S",
        "group": 1, "session": 1, "deed": { "terminated": true, "killed": killed, "took_ms": 20 },
        "transcript": [format!("out | {command}")], "fix": "wait for it",
    });
    if let Some(of) = of {
        leak["test"] = id(of);
    }
    leak
}

/// The page, made by the code that makes it for users.
fn page(report: &Value, dir: &TempDir) -> PathBuf {
    let json = dir.path().join("report.json");
    std::fs::write(&json, report.to_string()).unwrap();
    let output = Command::new(&*XTASK).arg("page").arg(&json).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    dir.path().join("leakcheck.html")
}

const BARS: &str = "JSON.stringify([...document.querySelectorAll('#rows .bar')].map(b => [b.dataset.state, \
                    getComputedStyle(b).backgroundColor, getComputedStyle(b).backgroundImage]))";

const CHOSEN: &str = "document.querySelector('#rows [aria-selected=true]').getAttribute('aria-label')";

/// One page with one of everything, and one with five thousand tests: one start of the browser.
#[test]
fn the_page_works_in_a_browser() {
    if !have("chromium") {
        return;
    }
    let mut browser = Browser::start();
    one_of_everything(&mut browser);
    five_thousand_tests(&mut browser);
}

fn one_of_everything(browser: &mut Browser) {
    let dir = tempfile::tempdir().unwrap();
    let tests = [
        test("passes", "passed", 0, 1000),
        test("fails", "failed", 50, 2000),
        test(HOSTILE, "unknown", 90, 700),
        // As `cargo test` tells it.
        json!({ "binary": "shop::it", "name": "untimed", "outcome": "passed" }),
    ];
    let helpers = [
        helper("passes", "test", 11, &["out | hello"]),
        helper("passes", "drop", 12, &[HOSTILE, "in  | bye"]),
        helper("fails", "exit", 13, &[]),
    ];
    let leaks = [leak(Some("fails"), "/usr/bin/stays", 21, false), leak(None, HOSTILE, 22, true)];
    let page = page(&report(&tests, &helpers, &leaks), &dir);
    browser.open(&page);

    // Each bar, in the order of the tests; each state with a look of its own, and a word for it.
    let bars: Vec<[String; 3]> = serde_json::from_str(&browser.text(BARS)).unwrap();
    let states: Vec<&str> = bars.iter().map(|b| b[0].as_str()).collect();
    assert_eq!(states, ["passed", "stopped", "dropped", "failed", "late", "leaked", "unknown", "killed"]);
    for (n, one) in bars.iter().enumerate() {
        assert!(!one[1].is_empty() && one[1] != "rgba(0, 0, 0, 0)", "no color: {one:?}");
        assert!(
            bars[..n].iter().all(|other| other[1] != one[1] && (other[2] != one[2] || one[2] == "none")),
            "{bars:?}"
        );
    }
    let words = browser.text("[...document.querySelectorAll('#rows .row')].map(r => r.textContent).join('|')");
    for label in [
        "✓passestest passed · 1.00 s",
        "✗failstest failed",
        "▲server-13late",
        "✓untimedtest passed; when it ran is not known",
        "●staysleaked",
        "leaked, and had to be killed",
    ] {
        assert!(words.contains(label), "{label}: {words}");
    }

    // What leaked is chosen at first; a click chooses another one, and shows its transcript.
    assert_eq!(browser.text(CHOSEN), format!("helper or leak {HOSTILE}: leaked, and had to be killed, 10.00 s"));
    browser.click("document.querySelector('#rows .bar.dropped')");
    assert!(browser.text(CHOSEN).starts_with("helper or leak server-12: stopped by drop"));
    assert_eq!(browser.text("document.querySelector('#detail pre').textContent"), format!("{HOSTILE}\nin  | bye"));
    assert!(browser.text("document.querySelector('#detail').textContent").contains("tests/it.rs:3"));

    // So do the arrows, and what has the focus says so to a screen reader.
    browser.press("ArrowUp", 38);
    assert!(browser.text(CHOSEN).starts_with("helper or leak server-11: stopped by its test"));
    assert_eq!(browser.text("document.querySelector('#detail pre').textContent"), "out | hello");
    let active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent";
    assert!(browser.text(active).contains("server-11"));
    browser.press("End", 35);
    assert!(browser.text("document.querySelector('#detail').textContent").contains("SIGTERM did not end it"));

    // The filter narrows bars and findings.
    browser.press("/", 191);
    browser.type_in("stays");
    let shown = browser.text("document.getElementById('shown').textContent");
    assert_eq!(shown, "2 of 9 bars, 1 of 3 findings", "the test stays with its leak");
    let hidden = browser.evaluate("document.querySelectorAll('.finding[hidden]').length");
    assert_eq!(hidden, 2);

    look_and_view(browser);

    // Nobody's text has become an element, run or fetched anything.
    let counts = browser.evaluate("[document.scripts.length, document.images.length]");
    assert_eq!(counts, json!([2, 0]));
    assert!(browser.text("document.getElementById('findings').textContent").contains(HOSTILE));
    browser.assert_quiet(&page);
    without_scripts(browser, &page);
}

/// The legend hides and shows, the keys zoom, and the dark theme is one.
fn look_and_view(browser: &mut Browser) {
    browser.evaluate(
        "(() => { const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input')); })()",
    );
    let bars = "document.querySelectorAll('#rows .bar.late').length";
    for (pressed, count) in [("false", 0), ("true", 1)] {
        browser.click("document.querySelector('#legend [data-state=late]')");
        assert_eq!(browser.evaluate(bars), count);
        let state = browser.text("document.querySelector('#legend [data-state=late]').getAttribute('aria-pressed')");
        assert_eq!(state, pressed);
    }
    let axis = "document.getElementById('axis').textContent";
    let whole = browser.text(axis);
    browser.click("document.querySelector('#rows .bar.passed')");
    browser.press("+", 187);
    assert_ne!(browser.text(axis), whole);
    browser.press("0", 48);
    assert_eq!(browser.text(axis), whole);
    let mut theme = |scheme: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
        browser
            .text("(() => { const s = getComputedStyle(document.body); return `${s.backgroundColor} ${s.color}`; })()")
    };
    assert_eq!(theme("light"), "rgb(251, 251, 250) rgb(29, 33, 38)");
    assert_eq!(theme("dark"), "rgb(20, 23, 26) rgb(228, 231, 235)");
}

/// Every finding is there, and the timeline that would be empty is not.
fn without_scripts(browser: &mut Browser, page: &Path) {
    browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.open(page);
    // Looked at from outside: the page's own scripts do not run, the debugger's do.
    let text = browser.text("document.body.innerText");
    assert!(text.contains("Leak check: 2 processes") && text.contains("All findings are below."), "{text}");
    assert!(!text.contains("Timeline") && !text.contains("Choose a bar"), "{text}");
    // Not its inner text: what is out of sight is not laid out before somebody scrolls to it.
    let findings = browser.text("document.getElementById('findings').textContent");
    for part in ["fails in shop::it left /usr/bin/stays", "wait for it", HOSTILE] {
        assert!(findings.contains(part), "{part}: {findings}");
    }
    browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": false }));
}

fn five_thousand_tests(browser: &mut Browser) {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: u64| format!("module_{}::test_{n}", n % 50);
    let tests: Vec<_> = (0..5000).map(|n| test(&name(n), "passed", n * 2, 300)).collect();
    let helpers: Vec<_> = (0..2500).map(|n| helper(&name(n), "drop", n as u32 + 100, &["out | up"])).collect();
    let page = page(&report(&tests, &helpers, &[leak(Some(&name(4321)), "stays", 21, true)]), &dir);
    browser.open(&page);
    let took = browser.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd").as_f64().unwrap();
    // A fifth of a second on a machine that does nothing else. Were every row in the document, it would be many times that.
    assert!(took < 8000.0, "{took} ms until it is drawn");
    assert_eq!(browser.text("document.getElementById('shown').textContent"), "7501 of 7501 bars, 1 of 1 findings");
    let rows = browser.evaluate("document.querySelectorAll('#rows .row').length").as_u64().unwrap();
    assert!((10..100).contains(&rows), "{rows} rows are in the document: only those in sight should be");
    assert!(browser.text(CHOSEN).contains("stays"), "the leak is scrolled to, far below");
    // A frame after a jump to the other end.
    browser.click("document.querySelector('#rows [aria-selected=true] .name')");
    browser.press("Home", 36);
    assert!(browser.text(CHOSEN).starts_with("test module_0::test_0: test passed"));
    browser.assert_quiet(&page);
    what_is_forbidden_is_refused_and_seen(browser, &page);
}

/// The control: were anything of the page's to be fetched or run that is not its own, it would be refused, and noticed here.
fn what_is_forbidden_is_refused_and_seen(browser: &mut Browser, page: &Path) {
    let hostile = "<img src='http://127.0.0.1:9/x' onerror='document.title = 1'>";
    browser.evaluate(&format!("document.body.insertAdjacentHTML('beforeend', \"{hostile}\")"));
    let complaints = browser.complaints(page);
    let refused = |word: &str| complaints.iter().any(|c| c.to_string().contains(word));
    assert!(refused("img-src") || refused("default-src"), "{complaints:#?}");
    assert!(refused("inline event handler"), "{complaints:#?}");
    assert_ne!(browser.text("document.title"), "1");
}
