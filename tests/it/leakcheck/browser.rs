//! A headless Chromium of our own, driven through its debugging pipe: real clicks and keys, and everything that it complains of.
//!
//! It is a fixture, so it ends with its test, whatever it has started.

use std::path::Path;
use std::time::Duration;

use foster::Fixture;
use serde_json::{Value, json};
use tempfile::TempDir;

/// It may be started on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

/// A browser with one page.
pub(super) struct Browser {
    fixture: Fixture,
    session: String,
    last: u64,
    /// What nobody has asked for: what it requested, complained of, and so on.
    pub(super) events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    pub(super) fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // Its pipe are the descriptors 3 and 4: our ends of its standard streams.
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let fixture = Fixture::command("sh")
            .args(["-c", script, "chromium", "--remote-debugging-pipe", "--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1400,1100"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            // Whatever it keeps goes with its profile.
            .envs(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, profile.path())))
            .label("chromium")
            .timeout(PATIENCE)
            .spawn()
            .unwrap();
        let mut browser = Browser { fixture, session: String::new(), last: 0, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Page.setLifecycleEventsEnabled", &json!({ "enabled": true }));
        browser
    }

    /// The next message; it ends with a zero byte.
    fn next(&mut self) -> Value {
        let found = self.fixture.expect("\0").unwrap();
        serde_json::from_str(found.skipped()).unwrap()
    }

    pub(super) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.fixture.send(format!("{request}\0")).unwrap();
        loop {
            let message = self.next();
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    /// Shows a page, and returns when it is loaded, which is after its script.
    pub(super) fn open(&mut self, page: &Path) {
        self.events.clear();
        let params = json!({ "url": format!("file://{}", page.display()) });
        let loader = self.call("Page.navigate", &params)["loaderId"].clone();
        // The load of this page, and not of the empty one before it.
        let loaded = |e: &Value| e["params"]["name"] == "load" && e["params"]["loaderId"] == loader;
        while !self.events.iter().any(loaded) {
            let message = self.next();
            self.events.push(message);
        }
    }

    /// The value of an expression of JavaScript.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    pub(super) fn text(&mut self, expression: &str) -> String {
        self.evaluate(expression).as_str().unwrap_or_else(|| panic!("{expression} is no string")).to_owned()
    }

    /// A click of the left button in the middle of the element, where a hand would do it.
    pub(super) fn click(&mut self, element: &str) {
        let middle = format!(
            "(() => {{ const b = {element}.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        );
        let at = self.evaluate(&middle);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    pub(super) fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" && key.chars().count() == 1 { key } else { "" };
            let event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    pub(super) fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// What was logged, thrown, asked or fetched since the page was opened, but for the page itself.
    pub(super) fn complaints(&mut self, page: &Path) -> Vec<Value> {
        // Whatever the page is still to complain of, it does so before it answers.
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))");
        let own = format!("file://{}", page.display());
        let is_one = |event: &&Value| match event["method"].as_str().unwrap() {
            "Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => true,
            "Page.javascriptDialogOpening" => true,
            "Network.requestWillBeSent" => event["params"]["request"]["url"] != own.as_str(),
            _ => false,
        };
        self.events.iter().filter(is_one).cloned().collect()
    }

    pub(super) fn assert_quiet(&mut self, page: &Path) {
        let complaints = self.complaints(page);
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
