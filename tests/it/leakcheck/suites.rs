//! E1 and E5 on a suite that has never heard of foster: each leak names its test, and a run without tests is no success.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::have;
use super::leaky::{Told, leaky, nextest, planted, started, tested, told};

/// Which test leaves what; a kind that is not possible here is left out, and said.
fn planted_ones(told: &Told) -> BTreeMap<String, Vec<String>> {
    let blamed = told.blamed();
    let mut expected = vec![
        ("a1_setsid in hidden", vec!["setsid"]),
        ("a2_daemon in hidden", vec!["daemon"]),
        ("a3_env_i in hidden", vec!["env-i"]),
        ("a4_argv in hidden", vec!["[planted]"]),
        ("a5_close_all in hidden", vec!["close-all"]),
        ("a6_ignore_hup in hidden", vec!["ignore-hup"]),
        ("a7_ignore_term in hidden", vec!["ignore-term"]),
        ("a8_stopped in hidden", vec!["stopped"]),
        ("a9_subreaper in hidden", vec!["subreaper", "subreaper"]),
        ("a10_namespace in hidden", vec!["namespace", "namespace"]),
        ("a14_drop_uid in hidden", vec!["drop-uid"]),
        ("a17_vfork in hidden", vec!["vfork", "vfork"]),
        ("a18_chatty in hidden", vec!["chatty"]),
        ("alone in several", vec!["setsid"]),
        ("long_and_the_same::one_leaves_a_child in several", vec!["child"]),
    ];
    let optional = ["a10_namespace in hidden", "a14_drop_uid in hidden"];
    expected.retain(|(test, _)| {
        let there = blamed.contains_key(*test) || !optional.contains(test);
        if !there {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {test}\n").as_bytes());
        }
        there
    });
    let owned = |(test, hows): (&str, Vec<&str>)| (test.to_owned(), hows.into_iter().map(str::to_owned).collect());
    expected.into_iter().map(owned).collect()
}

/// The line of the function, found by other means than the checker's.
fn line_of(file: &str, name: &str) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/leaky").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().position(|line| line.trim_start() == format!("fn {name}() {{"));
    line.unwrap() as u64 + 1
}

#[test]
fn e1_nextest_every_kind_names_its_test_and_its_attempt() {
    if !have("cargo-nextest") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("late");
    let told = nextest(&["--retries", "1", "--test-threads", "1"], &[("LEAKY_LATE", &late)]);
    assert_eq!(told.code(), Some(23), "{}", told.stderr());
    told.assert_planted();
    let mut expected = planted_ones(&told);
    // Born while `b_runs_when_it_is_born` ran, and found after the end of all.
    expected.insert("a_comes_first_and_is_to_blame in birth".into(), vec!["late".into()]);
    expected.insert("flaky in several".into(), vec!["child".into()]);
    assert_eq!(told.blamed(), expected, "{}", told.stderr());
    // Exactly what nextest ran, attempts and all.
    let tests = told.tests();
    assert_eq!(told.tests_run(), Some(tests.len() as u64 - 1), "one of them ran twice: {tests:?}");
    assert!(tests.contains("flaky in several: failed") && tests.contains("flaky in several, attempt 2: passed"));
    assert!(tests.contains("leaves_nothing in hidden: passed") && !tests.iter().any(|t| t.starts_with("ignored")));
    for leak in told.leaks() {
        let name = leak["test"]["name"].as_str().unwrap();
        // These two have none to be read, and their parents have ended at once.
        let hidden = ["a3_env_i", "a4_argv"].contains(&name) && leak["blame"] == "rerun";
        assert!(hidden || leak["blame"] == "environment", "{leak}");
        assert_eq!(leak["outcome"], if name == "flaky" { "failed" } else { "passed" }, "{leak}");
        assert!(leak["age_after_test_ms"].as_u64().is_some(), "{leak}");
        let file = format!("tests/{}.rs", leak["test"]["binary"].as_str().unwrap().strip_prefix("leaky::").unwrap());
        let line = line_of(&file, name.rsplit("::").next().unwrap());
        assert_eq!(leak["place"], serde_json::json!({ "file": file, "line": line }), "{leak}");
        assert!(!leak["fix"].as_str().unwrap().is_empty(), "{leak}");
    }
}

#[test]
fn e1_nextest_the_command_that_runs_the_test_again_does() {
    if !have("cargo-nextest") {
        return;
    }
    let told = nextest(&["long_and_the_same"], &[]);
    assert_eq!(told.tests_run(), Some(3), "{}", told.stderr());
    let again = told.leaks()[0]["again"].as_str().unwrap();
    let words = again.strip_prefix("cargo xtask leakcheck -- ").unwrap();
    let expected =
        "nextest run --offline -E 'binary_id(=leaky::several) & test(=long_and_the_same::one_leaves_a_child)'";
    assert_eq!(words, expected);
    assert_again(words, "long_and_the_same::one_leaves_a_child in several");
}

/// Through a shell, as it would be typed.
fn assert_again(words: &str, test: &str) {
    let print = Command::new("sh").args(["-c", &format!("printf '%s\\n' {words}")]).output().unwrap();
    let words: Vec<String> = String::from_utf8(print.stdout).unwrap().lines().map(str::to_owned).collect();
    let told = leaky(&["--grace", "50"], &words.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert_eq!((told.code(), told.tests_run()), (Some(23), Some(1)), "{words:?}: {}", told.stderr());
    assert_eq!(told.blamed().into_keys().collect::<Vec<_>>(), [test], "{words:?}");
}

/// In threads of one process, with a documentation test that leaks, too.
#[test]
fn e1_cargo_test_every_kind_names_its_test() {
    let told = tested(&[], &[("LEAKY_DOC", &planted())]);
    assert_eq!(told.code(), Some(23), "{}", told.stderr());
    told.assert_blamed_as_planted(&[("src/lib.rs - (line 5) in doc", "daemon")]);
    assert_eq!(told.tests_run(), Some(told.tests().len() as u64));
    for leak in told.leaks() {
        assert_eq!(leak["outcome"], "passed", "{leak}");
        assert!(["thread", "rerun"].contains(&leak["blame"].as_str().unwrap()), "{leak}");
    }
    let again = |test: &str| {
        let of = told.leaks().iter().find(|l| l["test"]["name"] == test).unwrap();
        of["again"].as_str().unwrap().strip_prefix("cargo xtask leakcheck -- ").unwrap().to_owned()
    };
    let words = again("alone");
    assert_eq!(words, "test --offline --quiet -p leaky --test several -- --exact alone");
    assert_again(&words, "alone in several");
    assert_eq!(again("src/lib.rs - (line 5)"), "test --offline --quiet -p leaky --doc -- '5)'");
}

/// One at a time, and in an order.
#[test]
fn e1_cargo_test_without_threads_the_birth_is_blamed_and_not_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("late");
    let words = ["--test", "birth", "--test", "several", "--", "--test-threads=1"];
    let told = tested(&words, &[("LEAKY_LATE", &late)]);
    assert_eq!(told.code(), Some(23), "{}", told.stderr());
    let expected = [
        ("a_comes_first_and_is_to_blame in birth", "late"),
        ("alone in several", "setsid"),
        ("long_and_the_same::one_leaves_a_child in several", "child"),
    ];
    let expected = expected.map(|(test, how)| (test.to_owned(), vec![how.to_owned()]));
    assert_eq!(told.blamed(), expected.into_iter().collect(), "{}", told.stderr());
}

/// A failing suite tells nothing of its tests, the second run of the one that is to blame does.
#[test]
fn e4_a_failing_test_that_leaks_is_named_as_one() {
    let words = ["--test", "several", "fails_if_asked"];
    let told = tested(&words, &[("LEAKY_FAIL", Path::new("1"))]);
    assert_eq!(told.code(), Some(101), "{}", told.stderr());
    assert_eq!(told.blamed().into_keys().collect::<Vec<_>>(), ["fails_if_asked in several"], "{}", told.stderr());
    let leak = &told.leaks()[0];
    let expected = if leak["blame"] == "rerun" { "failed" } else { "unknown" };
    assert_eq!(leak["outcome"], expected, "{leak}");
}

#[test]
fn rerun_0_runs_nothing_again() {
    let words = ["test", "--offline", "--quiet", "--test", "several", "--", "--test-threads=1"];
    let told = leaky(&["--grace", "50", "--rerun", "0"], &words, &[]);
    assert_eq!(told.code(), Some(23), "{}", told.stderr());
    assert!(told.leaks().iter().all(|l| l["blame"] != "rerun"), "{}", told.stderr());
}

/// What runs a second time is ended like the suite, and what was found until then is told.
#[test]
fn e7_interrupted_while_tests_run_again_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    // It leaks from a thread of another name, so nothing but a second run tells.
    let words = ["test", "--offline", "--quiet", "--test", "several", "hangs_when", "--", "--test-threads=1"];
    let running = started(&["--grace", "50"], &words, &[("LEAKY_MARK", &mark)], dir.path());
    assert!(running.scene.is_armed(&running.handle), "nothing ran again: {}", running.stderr());
    running.handle.signal(Signal::TERM);
    let told = told(running, dir.path());
    let signal = std::os::unix::process::ExitStatusExt::signal(&told.ended.status);
    assert_eq!(signal, Some(Signal::TERM.as_raw()), "{}", told.stderr());
    assert_eq!(told.leaks().len(), 1, "{}", told.stderr());
    assert_eq!(told.blamed().into_keys().collect::<Vec<_>>(), ["nobody"], "{}", told.stderr());
}

/// Somebody's own main function is not run a second time, whoever asks for its tests.
#[test]
fn a_harness_of_its_own_is_run_once() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    let words = ["--features", "own-main", "--test", "own_main", "--test", "several"];
    let told = tested(&words, &[("LEAKY_OWN_MAIN", &notes)]);
    assert_eq!(told.code(), Some(23), "{}", told.stderr());
    assert!(told.leaks().iter().any(|l| l["blame"] == "rerun" || l["blame"] == "thread"), "{}", told.stderr());
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "run\n");
    // How many tests it has run is not known, and that is no zero.
    let told = tested(&["--features", "own-main", "--test", "own_main"], &[("LEAKY_OWN_MAIN", &notes)]);
    assert_eq!((told.code(), told.tests_run()), (Some(0), None), "{}", told.stderr());
}

#[test]
fn e5_no_test_ran() {
    let cases: [(&[&str], Option<u64>); 7] = [
        (&["nonesuch"], Some(0)),
        (&["--doc", "nonesuch"], Some(0)),
        (&["--test", "hidden", "ignored"], Some(0)),
        (&["--test", "clean", "--", "--skip", "one", "--skip=two"], Some(0)),
        // The controls.
        (&["--doc", "one"], Some(1)),
        (&["--test", "clean", "one"], Some(1)),
        (&["--test", "clean", "--", "--skip=one"], Some(1)),
    ];
    for (words, expected) in cases {
        let told = tested(words, &[]);
        let code = if expected == Some(0) { 4 } else { 0 };
        assert_eq!((told.code(), told.tests_run()), (Some(code), expected), "{words:?}: {}", told.stderr());
    }
    let told = tested(&["--test", "hidden", "ignored", "--", "--ignored"], &[]);
    assert_eq!((told.code(), told.tests_run()), (Some(23), Some(1)), "{}", told.stderr());
    assert_eq!(told.blamed().into_keys().collect::<Vec<_>>(), ["ignored in hidden"], "{}", told.stderr());
    // Nothing was to be run.
    let told = tested(&["--no-run"], &[]);
    assert_eq!((told.code(), told.tests_run()), (Some(0), None), "{}", told.stderr());
}

#[test]
fn e5_no_test_ran_under_nextest() {
    if !have("cargo-nextest") {
        return;
    }
    for (words, expected) in
        [(&["nonesuch"][..], Some(4)), (&["nonesuch", "--no-tests=pass"], Some(4)), (&["-E", "binary(clean)"], Some(0))]
    {
        let told = nextest(words, &[]);
        let tests = if expected == Some(4) { 0 } else { 2 };
        assert_eq!((told.code(), told.tests_run()), (expected, Some(tests)), "{words:?}: {}", told.stderr());
    }
}

/// Each partition runs its part, and says which one it is.
#[test]
fn filters_and_partitions_of_nextests_are_passed_through() {
    if !have("cargo-nextest") {
        return;
    }
    let part = |partition: &str| nextest(&["-E", "binary(clean)", "--partition", partition, "--no-tests=pass"], &[]);
    let (first, second) = (part("count:1/2"), part("count:2/2"));
    assert_eq!(first.report["shard"], serde_json::json!({ "index": 1, "count": 2 }));
    assert_eq!(second.report["shard"], serde_json::json!({ "index": 2, "count": 2 }));
    assert_eq!((first.tests_run(), second.tests_run()), (Some(1), Some(1)));
    let both: Vec<String> = first.tests().union(&second.tests()).cloned().collect();
    assert_eq!(both, ["one in clean: passed", "two in clean: passed"]);
}

/// Whoever has JUnit configured finds the file where it was, and the tests are read there; but no file of another run.
#[test]
fn the_users_own_junit_is_respected() {
    if !have("cargo-nextest") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("own.toml");
    let store = dir.path().join("store");
    let text = format!("store.dir = {store:?}\n[profile.ci.junit]\npath = 'mine.xml'\n");
    std::fs::write(&config, text).unwrap();
    let file = config.to_str().unwrap();
    let told = nextest(&["--config-file", file, "--profile", "ci", "-E", "binary(clean)"], &[]);
    assert_eq!((told.code(), told.tests_run()), (Some(0), Some(2)), "{}", told.stderr());
    let mine = store.join("ci/mine.xml");
    let first = std::fs::read_to_string(&mine).unwrap();
    assert!(first.contains("classname=\"leaky::clean\""), "{first}");
    // A run that writes none: what is there is of the one before.
    let told = nextest(&["--config-file", file, "--profile", "ci", "--nonesuch"], &[]);
    assert_eq!((told.code(), told.tests_run()), (Some(2), None), "{}", told.stderr());
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), first);
}

impl Told {
    /// As planted, and these as well.
    fn assert_blamed_as_planted(&self, more: &[(&str, &str)]) {
        let mut expected = planted_ones(self);
        expected.extend(more.iter().map(|(test, how)| ((*test).to_owned(), vec![(*how).to_owned()])));
        assert_eq!(self.blamed(), expected, "{}", self.stderr());
    }
}
