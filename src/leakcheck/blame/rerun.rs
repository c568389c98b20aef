//! Runs the tests of the suspected executables again, one by one, and sees which of them leaves the same behind.
//!
//! Each runs in the environment that cargo gives it: cargo is asked for it one time, with a `runner` that writes it down
//! instead of running anything. So a test costs as much as its executable, and nothing is built, whatever the workspace's
//! features are. Where a runner is configured, an executable needs it, and nothing is run again.
//! Documentation tests have no executables; each is run by cargo itself, after everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::thread::{SUSPECTS, birth};
use super::{blame, kin};
use crate::leakcheck::below::{Below, Trace};
use crate::leakcheck::facts::{Blame, Outcome};
use crate::leakcheck::run_dir::RunDir;
use crate::leakcheck::suite::{CargoTest, Executable, Listing, documentation_filter};
use crate::leakcheck::{Leak, Options, TestId};
use crate::sys::supervise::say_all;

/// How long cargo may take to say how it would run the executables.
const ASKING: Duration = Duration::from_secs(30);

/// The part of the time that one test may take: one that hangs when it is alone must leave something for the others.
const PARTS: u32 = 4;

/// What the second runs have shown.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) outcomes: BTreeMap<TestId, Outcome>,
    /// Somebody has wanted us to end meanwhile.
    pub(super) interrupted: Option<i32>,
}

/// How an executable is run.
#[derive(Debug, Default)]
struct Setting {
    dir: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

/// One test that may be to blame.
struct Suspect<'a> {
    id: TestId,
    /// `None` for a documentation test.
    executable: Option<&'a Executable>,
    /// For a documentation test.
    filter: Vec<String>,
}

pub(super) fn find(
    leaks: &mut [Leak],
    cargo: &CargoTest,
    listing: &Listing,
    options: &Options,
    run_dir: &RunDir,
    limit: Duration,
) -> Found {
    let mut found = Found::default();
    if leaks.iter().all(|l| l.test.is_some()) {
        return found;
    }
    let until = Instant::now() + limit;
    let Ok(below) = Below::new() else { return found };
    let mut again = Again { below, cargo, options, run_dir, until, limit };
    let settings = again.settings();
    let mut suspects = suspects(leaks, listing);
    suspects.retain(|s| s.executable.is_none_or(|e| settings.contains_key(&e.path)));
    again.announce(suspects.len());
    again.look(leaks, &suspects, &settings, &mut found);
    if cargo.documents() && listing.may_document() && leaks.iter().any(|l| is_open(l) && may_be_documentation(l)) {
        let names = cargo.list_documentation(options, &mut again.below, until).unwrap_or_default();
        let own = leaks.iter().filter(|l| is_open(l)).find_map(|l| l.package.clone());
        let of = |name: &String| {
            let binary = format!("{}::doc", documented(name, own.as_deref(), listing));
            let filter = documentation_filter(name, &names);
            Suspect { id: TestId { binary, name: name.clone(), attempt: 1 }, executable: None, filter }
        };
        let suspects: Vec<Suspect<'_>> = names.iter().map(of).collect();
        again.look(leaks, &suspects, &settings, &mut found);
    }
    kin::find(leaks);
    found.interrupted = again.below.request().map(|r| r.signal);
    found
}

/// Is nobody to blame yet?
fn is_open(leak: &Leak) -> bool {
    leak.test.is_none()
}

/// Nothing that cargo runs by itself is seen above it, but maybe rustdoc.
fn may_be_documentation(leak: &Leak) -> bool {
    leak.blame != Blame::Binary
}

/// Whose tests may have started one of the leaks: those whose thread had the name, else all of the executable that is an
/// ancestor, else all of the package, else all.
fn suspects<'a>(leaks: &[Leak], listing: &'a Listing) -> Vec<Suspect<'a>> {
    let mut found: BTreeMap<TestId, Suspect<'a>> = BTreeMap::new();
    let mut last: BTreeMap<TestId, Suspect<'a>> = BTreeMap::new();
    for leak in leaks.iter().filter(|l| is_open(l)) {
        let born = birth(leak, listing).map(|birth| birth.executable);
        for executable in &listing.executables {
            let of_package = leak.package.as_ref().is_none_or(|package| *package == executable.package);
            if born.map_or(!of_package, |born| born != executable) {
                continue;
            }
            for name in executable.tests.iter().flatten() {
                let id = TestId { binary: executable.id.clone(), name: name.clone(), attempt: 1 };
                let suspect = Suspect { id: id.clone(), executable: Some(executable), filter: Vec::new() };
                let first = leak.suspects.is_empty() || leak.suspects.contains(&id);
                // Only those that are suspected already, if there are such.
                if first {
                    found.insert(id, suspect)
                } else {
                    last.insert(id, suspect)
                };
            }
        }
    }
    let rest: Vec<_> = last.into_iter().filter(|(id, _)| !found.contains_key(id)).map(|(_, s)| s).collect();
    found.into_values().chain(rest).collect()
}

/// The package whose documentation this test is in: rustdoc says only the file, which is relative to the workspace.
fn documented(name: &str, own: Option<&str>, listing: &Listing) -> String {
    let file = name.split(" - ").next().unwrap_or_default();
    let holds = |e: &&Executable| {
        e.manifest_dir
            .ancestors()
            .map(|dir| dir.join(file))
            .any(|path| path.starts_with(&e.manifest_dir) && path.is_file())
    };
    let found = listing.executables.iter().find(holds).map(|e| e.package.as_str());
    found.or(own).unwrap_or_default().to_owned()
}

struct Again<'a> {
    below: Below,
    cargo: &'a CargoTest,
    options: &'a Options,
    run_dir: &'a RunDir,
    until: Instant,
    limit: Duration,
}

impl Again<'_> {
    fn announce(&self, tests: usize) {
        if tests > 0 && std::io::stderr().is_terminal() {
            let limit = crate::report::seconds(self.limit);
            say_all(&format!(
                "leakcheck: running {tests} tests again, one by one, to find out which of them leaked (for {limit} at the most)\n"
            ));
        }
    }

    /// Runs one after the other until every leak is explained.
    fn look(&mut self, leaks: &mut [Leak], suspects: &[Suspect<'_>], settings: &Settings, found: &mut Found) {
        let mut seen: Vec<(TestId, Trace)> = Vec::new();
        for suspect in suspects {
            if Instant::now() >= self.until || self.below.request().is_some() || explains(leaks, &seen) {
                break;
            }
            let mut command = match suspect.executable {
                Some(executable) => match settings.get(&executable.path) {
                    Some(setting) => self.executable(executable, setting, &suspect.id.name),
                    None => continue,
                },
                None => self.documentation(&suspect.filter),
            };
            self.run_dir.apply(&mut command);
            let until = (Instant::now() + self.limit / PARTS).min(self.until);
            let Ok(ended) = self.below.run(&mut command, until, self.options.patience()) else { continue };
            let outcome = match ended.status {
                Some(status) if status.success() => Outcome::Passed,
                Some(_) => Outcome::Failed,
                None => Outcome::Unknown,
            };
            found.outcomes.insert(suspect.id.clone(), outcome);
            seen.extend(ended.left.into_iter().map(|trace| (suspect.id.clone(), trace)));
        }
        join(leaks, &seen);
    }

    fn executable(&self, executable: &Executable, setting: &Setting, name: &str) -> Command {
        let mut command = Command::new(&executable.path);
        command.args(self.cargo.ignored()).args(["--exact", name]);
        command.current_dir(&setting.dir).env_clear().envs(setting.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn documentation(&self, filter: &[String]) -> Command {
        let mut command = self.cargo.cargo(self.options, &["--doc"]);
        command.args(["--doc", "--"]).args(self.cargo.ignored()).args(filter);
        command
    }

    /// How cargo would run each executable.
    fn settings(&mut self) -> Settings {
        if has_runner() {
            return Settings::new();
        }
        let Ok(dir) = tempfile::tempdir() else { return Settings::new() };
        // `$0` is the directory, `$1` the executable; nothing is run.
        let script = r#"{ printf '%s\0' "$1" "$PWD"; env -0; } > "$0/$$""#;
        let Ok(words) = serde_json::to_string(&["sh", "-c", script, &dir.path().to_string_lossy()]) else {
            return Settings::new();
        };
        let mut command = self.cargo.cargo(self.options, &["--doc", "--no-fail-fast"]);
        command.arg("--no-fail-fast").arg("--config").arg(format!("target.\"cfg(all())\".runner = {words}"));
        if self.cargo.documents() {
            // Everything that `cargo test` runs but the documentation tests, whose runner it would be as well.
            command.arg("--tests");
        }
        let until = (Instant::now() + ASKING).min(self.until);
        let _ = self.below.run(&mut command, until, Duration::ZERO);
        let files = fs::read_dir(dir.path()).into_iter().flatten().flatten();
        files.filter_map(|file| setting(&fs::read(file.path()).ok()?)).collect()
    }
}

type Settings = BTreeMap<PathBuf, Setting>;

fn setting(bytes: &[u8]) -> Option<(PathBuf, Setting)> {
    let mut parts = bytes.split(|b| *b == 0);
    let mut path = || parts.next().map(|p| PathBuf::from(OsStr::from_bytes(p)));
    let (executable, dir) = (path()?, path()?);
    let variables = parts.filter_map(|entry| {
        let at = entry.iter().position(|b| *b == b'=')?;
        Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
    });
    // What the shell has added for itself.
    let variables = variables.filter(|(name, _)| name != "_" && name != "SHLVL" && name != "OLDPWD");
    Some((executable, Setting { dir, variables: variables.collect() }))
}

/// Does somebody's configuration say how executables are run? Then ours could be overruled, and they would really run.
fn has_runner() -> bool {
    let by_environment = std::env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_TARGET_") && name.ends_with("_RUNNER")
    });
    let here = std::env::current_dir().unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let dirs = here.ancestors().map(|dir| dir.join(".cargo")).chain(home);
    by_environment
        || dirs.flat_map(|dir| [dir.join("config.toml"), dir.join("config")]).any(|file| mentions_runner(&file))
}

/// Rather once too often: a word in a comment costs only the second run.
fn mentions_runner(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.contains("runner") || text.contains("include"))
}

/// How much two processes are alike; 0: not at all.
fn likeness(leak: &Leak, trace: &Trace) -> u32 {
    let exe = |path: &Path| path.file_name().map(OsStr::to_owned);
    let same_exe = match (&leak.exe, &trace.exe) {
        (Some(a), Some(b)) => a == b || exe(a) == exe(b),
        // Who may not be looked at is known by its command.
        _ => false,
    };
    if leak.command == trace.command {
        return 3;
    }
    match same_exe {
        // Ports, process ids and temporary directories are others each time.
        true if general(&leak.command) == general(&trace.command) => 2,
        true => 1,
        false => 0,
    }
}

/// A command without what changes from run to run: numbers, and names that were made up.
fn general(command: &str) -> String {
    let made_up = |part: &str| part.starts_with(".tmp") || part.starts_with("tmp");
    let word = |word: &str| {
        let parts: Vec<&str> = word.split('/').map(|part| if made_up(part) { "tmp" } else { part }).collect();
        parts.join("/")
    };
    let words: Vec<String> = command.split(' ').map(word).collect();
    let mut general = String::new();
    for c in words.join(" ").chars() {
        // A number is as good as another, however long.
        match c.is_ascii_digit() {
            true if general.ends_with('0') => {}
            true => general.push('0'),
            false => general.push(c),
        }
    }
    general
}

/// Is there for each leak that is open one that is as like it as can be?
fn explains(leaks: &[Leak], seen: &[(TestId, Trace)]) -> bool {
    pairs(leaks, seen, 2).len() == leaks.iter().filter(|l| is_open(l)).count()
}

/// Which leak is which trace; the most alike first, and each trace is used once.
fn pairs(leaks: &[Leak], seen: &[(TestId, Trace)], least: u32) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for level in (least..=3).rev() {
        for (at, leak) in leaks.iter().enumerate().filter(|(_, l)| is_open(l)) {
            if pairs.iter().any(|pair| pair.0 == at) {
                continue;
            }
            let free = |with: &usize| pairs.iter().all(|pair| pair.1 != *with);
            let like = |with: &usize| may_be(leak, &seen[*with].0) && likeness(leak, &seen[*with].1) >= level;
            if let Some(with) = (0..seen.len()).filter(free).find(like) {
                pairs.push((at, with));
            }
        }
    }
    pairs
}

/// Does what is known of its birth allow this test?
fn may_be(leak: &Leak, test: &TestId) -> bool {
    leak.suspects.is_empty() || leak.suspects.contains(test)
}

/// Blames those that have left the same. Who looks like what several have left, and was not the only one, is suspected to
/// be one of theirs.
fn join(leaks: &mut [Leak], seen: &[(TestId, Trace)]) {
    let pairs = pairs(leaks, seen, 1);
    let choose = |(at, with): &(usize, usize)| {
        let level = likeness(&leaks[*at], &seen[*with].1);
        let left =
            seen.iter().filter(|(test, trace)| may_be(&leaks[*at], test) && likeness(&leaks[*at], trace) >= level);
        let tests: Vec<TestId> = left.map(|(test, _)| test.clone()).collect();
        let alike = leaks.iter().filter(|l| is_open(l) && likeness(l, &seen[*with].1) >= level).count();
        // As many as have been left: each is somebody's, and it does not matter whose.
        let each_has_one = tests.len() <= alike;
        let different: BTreeSet<TestId> = tests.into_iter().collect();
        if each_has_one { (*at, vec![seen[*with].0.clone()]) } else { (*at, different.into_iter().collect()) }
    };
    let choices: Vec<(usize, Vec<TestId>)> = pairs.iter().map(choose).collect();
    for (at, tests) in choices {
        match <[TestId; 1]>::try_from(tests) {
            Ok([test]) => blame(&mut leaks[at], test, Blame::Rerun),
            Err(mut several) => {
                several.truncate(SUSPECTS);
                leaks[at].suspects = several;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::thread::tests::executable_of;
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};

    fn test(name: &str) -> TestId {
        TestId { binary: "shop::it".into(), name: name.into(), attempt: 1 }
    }

    fn leak(pid: u32, command: &str) -> Leak {
        Leak { command: command.into(), exe: Some("/usr/bin/server".into()), ..stranger(pid) }
    }

    fn left(by: &str, command: &str) -> (TestId, Trace) {
        (test(by), Trace { exe: Some("/usr/bin/server".into()), command: command.into() })
    }

    fn joined(leaks: &[Leak], seen: &[(TestId, Trace)]) -> Vec<String> {
        let mut leaks = leaks.to_vec();
        join(&mut leaks, seen);
        let name =
            |l: &Leak| l.test.as_ref().map_or_else(|| format!("{} suspects", l.suspects.len()), |t| t.name.clone());
        leaks.iter().map(name).collect()
    }

    #[test]
    fn the_most_alike_is_the_same() {
        let seen = [left("b", "server --port 4711"), left("a", "server --dir /tmp/.tmpAbC/x")];
        let leaks = [leak(1, "server --dir /tmp/.tmpXyZ/x"), leak(2, "server --port 80")];
        assert_eq!(joined(&leaks, &seen), ["a", "b"]);
        assert!(explains(&leaks, &seen));
        assert!(!explains(&leaks, &seen[..1]), "one of them is open");
        let other = Leak { exe: Some("/bin/cat".into()), ..leak(3, "cat") };
        assert_eq!(joined(&[other], &seen), ["0 suspects"]);
    }

    #[test]
    fn what_several_leave_is_somebodys_or_they_are_suspected() {
        let seen = [left("a", "server"), left("b", "server")];
        assert_eq!(joined(&[leak(1, "server"), leak(2, "server")], &seen), ["a", "b"]);
        assert_eq!(joined(&[leak(1, "server")], &seen), ["2 suspects"]);
        // One test may leave many.
        let seen = [left("a", "server"), left("a", "server"), left("a", "server")];
        assert_eq!(joined(&[leak(1, "server")], &seen), ["a"]);
    }

    #[test]
    fn who_is_known_already_stays_and_who_is_excluded_is_not_blamed() {
        let known = sample(1);
        let narrowed = Leak { suspects: vec![test("c"), test("d")], ..leak(2, "server --port 0") };
        let seen = [left("a", "server --port 0"), left("d", "server --port 0")];
        let mut leaks = [known.clone(), narrowed];
        join(&mut leaks, &seen);
        assert_eq!(leaks[0], known);
        assert_eq!((&leaks[1].test, leaks[1].blame), (&Some(test("d")), Blame::Rerun));
    }

    #[test]
    fn the_suspected_come_first_and_the_others_of_their_package_after() {
        let it = executable_of("it-0123456789abcdef", "shop::it", &["a", "b", "c"]);
        let unit = executable_of("shop-fedcba9876543210", "shop", &["u"]);
        let other = Executable { package: "other".into(), ..executable_of("o-0123456789abcdef", "other", &["o"]) };
        let listing = Listing { executables: vec![it, unit, other], known: true, ..Listing::default() };
        let names =
            |leak: Leak| -> Vec<String> { suspects(&[leak], &listing).into_iter().map(|s| s.id.name).collect() };
        let born = Leak { ancestors: vec!["it-0123456789ab (pid 3)".into()], ..stranger(1) };
        assert_eq!(names(Leak { suspects: vec![test("c")], ..born.clone() }), ["c", "a", "b"]);
        assert_eq!(names(born), ["a", "b", "c"]);
        assert_eq!(names(Leak { package: Some("shop".into()), ..stranger(1) }), ["u", "a", "b", "c"]);
        assert_eq!(names(stranger(1)).len(), 5);
        assert!(names(sample(1)).is_empty(), "nobody is looked for");
    }

    #[test]
    fn what_cargo_would_do_is_read_back() {
        let (path, setting) = setting(b"/t/it-1\0/home/me\0A=b=c\0SHLVL=1\0_=x\0B=\0\xff=\xfe\0").unwrap();
        assert_eq!((path, setting.dir), ("/t/it-1".into(), PathBuf::from("/home/me")));
        let names: Vec<_> = setting.variables.iter().map(|(name, _)| name.as_bytes()).collect();
        assert_eq!(names, [&b"A"[..], b"B", b"\xff"]);
        assert_eq!(setting.variables[0].1, "b=c");
    }

    #[test]
    fn a_configured_runner_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        assert!(!mentions_runner(&file));
        fs::write(
            &file,
            "[alias]
xtask = 'run'",
        )
        .unwrap();
        assert!(!mentions_runner(&file));
        fs::write(&file, "target.x86_64-unknown-linux-gnu.runner = 'qemu'").unwrap();
        assert!(mentions_runner(&file));
    }
}
