//! A policy as a whole: where it is found, what it allows, what it says about itself.

use std::fs;

use super::*;
use crate::leakcheck::facts::Ending;
use crate::leakcheck::leak::tests::{sample, stranger};
use crate::leakcheck::report::tests::{clean, full};

const TODAY: Date = Date::constant(2026, 3, 1);

/// A directory with this policy, and the policy.
fn policy(text: &str, options: &Options) -> (tempfile::TempDir, Result<Policy, String>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".config")).unwrap();
    fs::write(dir.path().join(crate::leakcheck::POLICY), text).unwrap();
    let policy = Policy::load_at(options, dir.path(), TODAY);
    (dir, policy)
}

fn whole() -> Options {
    Options::cargo(["test", "--workspace"])
}

fn judged(text: &str, mut report: Report) -> Report {
    policy(text, &whole()).1.unwrap().judge(&mut report);
    report
}

/// Said of an allowance of this name.
fn allow(name: &str, more: &str) -> String {
    format!("[[leakcheck.allow]]\nname = \"{name}\"\nreason = \"because\"\n{more}\n")
}

#[test]
fn it_is_found_from_anywhere_in_the_workspace_and_not_above_it() {
    let (dir, _) = policy("[leakcheck]\nfail = [\"late\"]\n", &whole());
    let member = dir.path().join("crates/shop");
    fs::create_dir_all(&member).unwrap();
    fs::write(dir.path().join("Cargo.lock"), "").unwrap();
    let found = |here: &Path| Policy::load_at(&whole(), here, TODAY).unwrap().rules.fail;
    assert_eq!(found(&member), [Kind::Late]);
    for (file, text) in [(".git", ""), ("Cargo.lock", ""), ("Cargo.toml", "[workspace]\n")] {
        fs::write(member.join(file), text).unwrap();
        assert_eq!(found(&member), [Kind::Process], "{file} makes it a root of its own");
        fs::remove_file(member.join(file)).unwrap();
    }
    assert_eq!(found(&member), [Kind::Late]);
}

#[test]
fn a_file_that_is_named_has_to_be_there() {
    let (dir, _) = policy("", &whole());
    let missing = Policy::load_at(&whole().policy("nowhere.toml"), dir.path(), TODAY);
    assert_eq!(missing.unwrap_err(), "there is no policy file nowhere.toml");
    fs::write(dir.path().join("mine.toml"), "[leakcheck]\nfail = []\n").unwrap();
    let mine = Policy::load_at(&whole().policy("mine.toml"), dir.path(), TODAY).unwrap();
    assert!(mine.rules.fail.is_empty());
}

#[test]
fn a_mistake_is_said_with_the_file_as_it_is_seen_from_here() {
    let (_dir, policy) = policy("[leakcheck]\ngrase = 1\n", &whole());
    assert!(policy.unwrap_err().starts_with(".config/foster.toml:2:1: unknown key `grase`"));
}

#[test]
fn the_command_line_wins() {
    let text = "[leakcheck]\ngrace = \"2s\"\ntimeout = \"1m\"\nrerun = \"0s\"\n";
    let of = |options: Options| {
        let mut options = options;
        policy(text, &options).1.unwrap().complete(&mut options);
        (options.grace, options.timeout, options.rerun)
    };
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(of(whole()), (seconds(2), seconds(60), None));
    let said = whole().grace(Duration::ZERO).timeout(Duration::from_secs(9)).rerun(seconds(120));
    assert_eq!(of(said), (seconds(0), seconds(9), seconds(120)));
    assert_eq!(of(whole().timeout(Duration::ZERO)).1, None, "no limit, and not no time");
}

#[test]
fn what_is_allowed_does_not_fail_and_says_why() {
    let report = judged(&allow("server", ""), full());
    let leak = &report.leaks()[0];
    let place = Place { file: ".config/foster.toml".into(), line: 1 };
    assert_eq!(leak.allowed, Some(Allowed { reason: "because".into(), place }));
    assert_eq!((report.failing(), report.exit_code()), (0, 0));
    // The control.
    let report = judged(&allow("client", ""), full());
    assert_eq!((report.failing(), report.exit_code()), (2, 23));
}

#[test]
fn kinds_fail_as_chosen() {
    let failing = |fail: &str| judged(&format!("[leakcheck]\nfail = {fail}\n"), full()).failing();
    assert_eq!(failing("[]"), 0);
    assert_eq!(failing("['process']"), 2);
    assert_eq!(failing("['daemon']"), 1);
    assert_eq!(failing("['process', 'daemon', 'late', 'file', 'socket']"), 7);
}

#[test]
fn an_allowance_that_matched_nothing_is_noted_when_everything_ran() {
    let text = allow("nobody", "kind = \"process\"");
    let notes = |options: &Options, report: Report| {
        let mut report = Report { notes: Vec::new(), ..report };
        policy(&text, options).1.unwrap().judge(&mut report);
        report.notes
    };
    let expected = PolicyNote {
        place: Place { file: ".config/foster.toml".into(), line: 1 },
        what: "this allowance (process, name `nobody`) matched nothing: correct it, or take it out".into(),
    };
    assert_eq!(notes(&whole(), clean()), [expected]);
    // Each of these may be why it matched nothing.
    assert_eq!(notes(&Options::cargo(["test", "orders"]), clean()), []);
    assert_eq!(notes(&whole(), Report { shard: Some(crate::leakcheck::Shard { index: 1, count: 2 }), ..clean() }), []);
    assert_eq!(notes(&whole(), Report { interrupted: Some(2), ..clean() }), []);
    assert_eq!(notes(&whole(), Report { timed_out_ms: Some(2), ..clean() }), []);
    assert_eq!(notes(&whole(), Report { ending: Some(Ending { code: Some(101), signal: None }), ..clean() }), []);
    // The control: it is needed.
    let needed = Report { leaks: vec![Leak { args: vec!["nobody".into()], ..stranger(1) }], ..clean() };
    assert_eq!(notes(&whole(), needed), []);
}

#[test]
fn two_allowances_for_the_same_are_both_in_use() {
    let text = allow("server", "") + &allow("serv*", "");
    let report = judged(&text, Report { notes: Vec::new(), ..full() });
    assert_eq!(report.notes, []);
    assert_eq!(report.allowances.iter().map(|a| a.matched).collect::<Vec<_>>(), [4, 4], "two leaks, two late fixtures");
}

#[test]
fn an_expired_allowance_allows_nothing_and_is_noted() {
    let last_day = judged(&allow("server", "expires = \"2026-03-01\""), Report { notes: Vec::new(), ..full() });
    assert_eq!((last_day.failing(), last_day.notes.len()), (0, 0));
    let report = judged(&allow("server", "expires = \"2026-02-28\""), Report { notes: Vec::new(), ..full() });
    assert_eq!(report.failing(), 2);
    let [note] = &report.notes[..] else { panic!("{:?}", report.notes) };
    assert!(note.what.contains("has expired, so what it allowed is a finding again"), "{note:?}");
    // A failed run is no reason not to say so.
    let failed = Report { ending: Some(Ending { code: Some(1), signal: None }), notes: Vec::new(), ..full() };
    assert_eq!(judged(&allow("server", "expires = \"2026-02-28\""), failed).notes.len(), 1);
}

#[test]
fn only_an_allowance_that_says_so_leaves_a_process_running() {
    let spares = |text: &str, leak: &Leak| policy(text, &whole()).1.unwrap().spares(leak);
    let server = sample(1);
    assert!(spares(&allow("server", "end = false"), &server));
    assert!(!spares(&allow("server", "end = true"), &server));
    assert!(!spares(&allow("server", ""), &server));
    assert!(!spares(&allow("client", "end = false"), &server));
    assert!(!spares(&allow("server", "end = false\nexpires = \"2026-02-28\""), &server));
    let sccache = Leak { args: vec!["sccache".into()], ..stranger(2) };
    assert!(spares(&allow("sccache", "kind = \"daemon\"\nend = false"), &sccache), "known before anything is ended");
}

#[test]
fn a_daemon_that_is_well_known_warns_and_so_does_what_it_has_started() {
    let daemon = Leak { args: vec!["git".into(), "maintenance".into(), "run".into(), "--auto".into()], ..stranger(7) };
    let below = |ancestors: &[&str]| Leak {
        args: vec!["git".into(), "repack".into()],
        ancestors: ancestors.iter().map(|a| (*a).to_owned()).collect(),
        ..stranger(8)
    };
    let report = judged("", Report { leaks: vec![daemon.clone(), below(&["git (pid 7)"])], ..clean() });
    assert_eq!((report.leaks[0].kind, report.leaks[1].kind), (Kind::Daemon, Kind::Daemon));
    assert!(report.leaks.iter().all(|leak| leak.fix.contains("maintenance.auto false")), "{report:?}");
    assert_eq!(report.exit_code(), 0);
    // The controls: the same child of somebody else, and the daemon where daemons fail.
    let report = judged("", Report { leaks: vec![daemon.clone(), below(&["git (pid 77)"])], ..clean() });
    assert_eq!((report.leaks[1].kind, report.exit_code()), (Kind::Process, 23));
    let strict = "[leakcheck]\nfail = [\"process\", \"daemon\"]\n";
    assert_eq!(judged(strict, Report { leaks: vec![daemon], ..clean() }).exit_code(), 23);
}

/// A run with `--write-baseline`, and the file after it.
fn baseline(dir: &Path, options: &Options) -> Report {
    let mut options = options.clone();
    // Files are relative to the current directory, which the tests of this process share.
    let absolute = |file: PathBuf| if file == Path::new(crate::leakcheck::POLICY) { file } else { dir.join(file) };
    options.baseline = options.baseline.map(absolute);
    let mut policy = Policy::load_at(&options, dir, TODAY).unwrap();
    policy.baseline = policy.baseline.map(|(file, more)| (dir.join(file), more));
    let mut report = Report { notes: Vec::new(), ..full() };
    policy.judge(&mut report);
    policy.write_baseline(&mut report).unwrap();
    report
}

#[test]
fn with_its_baseline_a_suite_is_green_and_twice_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(crate::leakcheck::POLICY);
    let options = whole().write_baseline(crate::leakcheck::POLICY);
    let first = baseline(dir.path(), &options);
    assert_eq!(first.exit_code(), 0, "what is written is allowed at once");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("[[leakcheck.allow]]").count(), 2, "{text}");
    let [note] = &first.notes[..] else { panic!("{:?}", first.notes) };
    assert_eq!((note.place.line, note.place.file.as_path()), (1, file.as_path()));
    assert_eq!(note.what, "2 allowances have been added: when a leak is gone, take its allowance out");
    let second = baseline(dir.path(), &options);
    assert_eq!((second.exit_code(), second.notes.len()), (0, 0));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // And without being asked for one.
    let mut third = full();
    Policy::load_at(&whole(), dir.path(), TODAY).unwrap().judge(&mut third);
    assert_eq!(third.exit_code(), 0);
}

#[test]
fn a_baseline_rewrites_nothing_that_people_wrote() {
    let written =
        "# ours\n[leakcheck]\nfail=['process',   'late'] # strict\n\n[[leakcheck.allow]]\nname='sccache'\nreason='x'";
    let (dir, _) = policy(written, &whole());
    let report = baseline(dir.path(), &whole().write_baseline(crate::leakcheck::POLICY));
    let text = fs::read_to_string(dir.path().join(crate::leakcheck::POLICY)).unwrap();
    assert!(text.starts_with(&format!("{written}\n\n[[leakcheck.allow]]\n")), "{text}");
    assert_eq!(text.matches("[[leakcheck.allow]]").count(), 5, "{text}");
    assert_eq!(report.notes[0].place.line, 9, "{text}");
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn a_baseline_of_its_own_knows_what_it_has() {
    let (dir, _) = policy(&allow("sccache", ""), &whole());
    let options = whole().write_baseline("later/baseline.toml");
    assert_eq!(baseline(dir.path(), &options).exit_code(), 0);
    let text = fs::read_to_string(dir.path().join("later/baseline.toml")).unwrap();
    assert_eq!(baseline(dir.path(), &options).exit_code(), 0);
    assert_eq!(fs::read_to_string(dir.path().join("later/baseline.toml")).unwrap(), text);
}

#[test]
fn a_suite_that_is_clean_gets_no_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::load_at(&whole().write_baseline(crate::leakcheck::POLICY), dir.path(), TODAY).unwrap();
    let mut report = clean();
    policy.judge(&mut report);
    policy.write_baseline(&mut report).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
