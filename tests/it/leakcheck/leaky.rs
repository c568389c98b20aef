//! A suite of a project that has never heard of foster, `fixtures/leaky`, run by cargo and nextest below the checker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use once_cell::sync::Lazy;
use serde_json::Value;

use crate::cargo;
use crate::leakcheck::running::{Ended, Running, checker};
use crate::scene::LIMIT;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/leaky");

/// Where it is built, and with it, its tests: one time in a run of ours.
static TARGET: Lazy<PathBuf> = Lazy::new(|| {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/leaky");
    let mut command = cargo::command();
    command.args(["test", "--quiet", "--no-run", "--target-dir"]).arg(&target).current_dir(DIR);
    assert!(command.status().unwrap().success(), "the planted suite cannot be built");
    target
});

/// The program that is left behind.
pub(super) fn planted() -> PathBuf {
    TARGET.join("debug/planted")
}

/// What a run has told.
pub(super) struct Told {
    pub(super) ended: Ended,
    pub(super) report: Value,
    /// Who has signed the record: everybody who was planted, second runs included.
    planted: BTreeSet<u64>,
}

/// Runs `leakcheck OPTIONS -- WORDS` in the project. The suite's own arguments for cargo are among the words already.
pub(super) fn leaky(options: &[&str], words: &[&str], environment: &[(&str, &Path)]) -> Told {
    let dir = tempfile::tempdir().unwrap();
    told(started(options, words, environment, dir.path()), dir.path())
}

/// The same, and it runs still; its report is to be in the directory.
pub(super) fn started(options: &[&str], words: &[&str], environment: &[(&str, &Path)], dir: &Path) -> Running {
    let mut command = checker(options);
    command.arg("--report-dir").arg(dir).arg("--").args(words).current_dir(DIR);
    command.env("CARGO_TARGET_DIR", &*TARGET).envs(environment.iter().copied());
    for name in ["NEXTEST", "NEXTEST_PROFILE", "NEXTEST_ATTEMPT", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    Running::start(command, "", "")
}

/// Waits for its end.
pub(super) fn told(running: Running, dir: &Path) -> Told {
    let record = running.scene.record();
    let ended = running.end();
    // A shard's has its number in the name.
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|e| e == "json"));
    let file = file.unwrap_or_else(|| panic!("there is no report: {}", ended.stderr));
    let text = std::fs::read_to_string(file).unwrap();
    let signed = std::fs::read_to_string(record).unwrap_or_default();
    let planted = signed.lines().map(|pid| pid.parse().unwrap()).collect();
    assert!(ended.scene.fifo_is_closed_within(LIMIT), "somebody has survived: {}", ended.stderr);
    Told { ended, report: serde_json::from_str(&text).unwrap(), planted }
}

/// Words for `cargo test` in the project.
pub(super) fn tested(words: &[&str], environment: &[(&str, &Path)]) -> Told {
    leaky(&["--grace", "50"], &[&["test", "--offline", "--quiet"], words].concat(), environment)
}

/// Words for nextest in the project.
pub(super) fn nextest(words: &[&str], environment: &[(&str, &Path)]) -> Told {
    leaky(&["--grace", "50"], &[&["nextest", "run", "--offline"], words].concat(), environment)
}

impl Told {
    pub(super) fn code(&self) -> Option<i32> {
        self.ended.status.code()
    }

    /// For messages.
    pub(super) fn stderr(&self) -> &str {
        &self.ended.stderr
    }

    pub(super) fn tests_run(&self) -> Option<u64> {
        self.report["tests_run"].as_u64()
    }

    pub(super) fn leaks(&self) -> &[Value] {
        self.report["leaks"].as_array().unwrap()
    }

    /// `name in binary #attempt: outcome`, of every test that the report knows.
    pub(super) fn tests(&self) -> BTreeSet<String> {
        let runs = self.report["tests"].as_array().unwrap();
        runs.iter().map(|run| format!("{}: {}", test(run), run["outcome"].as_str().unwrap())).collect()
    }

    /// Which test is said to have left what: the last argument of each that is known to be planted.
    pub(super) fn blamed(&self) -> BTreeMap<String, Vec<String>> {
        let mut blamed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for leak in self.leaks() {
            let how = leak["command"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
            blamed.entry(test(&leak["test"])).or_default().push(how);
        }
        blamed
    }

    /// Who is in the report was planted; the child in vfork and the one without an environment cannot sign.
    pub(super) fn assert_planted(&self) {
        let strange = self.leaks().iter().filter(|l| !self.planted.contains(&l["pid"].as_u64().unwrap()));
        let strange: Vec<&str> = strange.map(|l| l["command"].as_str().unwrap()).collect();
        let expected = ["vfork", "env-i"].map(|how| planted().to_string_lossy().into_owned() + " " + how);
        assert_eq!(strange, expected, "{}", self.stderr());
    }
}

/// `a1_setsid in hidden`, `flaky in several, attempt 2`
fn test(id: &Value) -> String {
    let Some(name) = id["name"].as_str() else { return "nobody".to_owned() };
    let binary = id["binary"].as_str().unwrap().trim_start_matches("leaky").trim_start_matches("::");
    let attempt = id["attempt"].as_u64().filter(|n| *n > 1).map(|n| format!(", attempt {n}"));
    format!("{name} in {binary}{}", attempt.unwrap_or_default())
}
