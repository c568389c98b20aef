//! Runs the tests of the suspected executables again, one by one, and sees which of them leaves the same behind.
//!
//! Each runs in the environment that cargo gives it: cargo is asked for it one time, with a `runner` that writes it down
//! instead of running anything. So a test costs as much as its executable, and nothing is built, whatever the workspace's
//! features are. Where a runner is configured, an executable needs it, and nothing is run again.
//! Documentation tests have no executables; each is run by cargo itself, after everything else. Under nextest, those of its
//! tests that ran at the time are run again by nextest itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::alike::{Home, Seen, explains, is_open, join};
use super::kin;
use super::thread::birth;
use crate::leakcheck::below::Below;
use crate::leakcheck::facts::{Blame, Outcome};
use crate::leakcheck::run_dir::RunDir;
use crate::leakcheck::suite::{CargoTest, Executable, Listing, Suite, documentation_filter};
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
    way: Way<'a>,
}

/// How a test is run again.
enum Way<'a> {
    /// Its executable.
    Executable(&'a Executable),
    /// By rustdoc, with these filters.
    Documentation(Vec<String>),
    /// By nextest itself.
    Nextest,
}

pub(super) fn find(leaks: &mut [Leak], suite: &Suite, options: &Options, run_dir: &RunDir, limit: Duration) -> Found {
    let mut found = Found::default();
    if leaks.iter().all(|l| l.test.is_some()) {
        return found;
    }
    let until = Instant::now() + limit;
    let Ok(below) = Below::new() else { return found };
    let mut again = Again { below, suite, options, run_dir, until, limit };
    match suite.cargo_test() {
        Some((cargo, listing)) => again.cargo_test(leaks, cargo, listing, &mut found),
        None => again.nextest(leaks, &mut found),
    }
    kin::find(leaks);
    found.interrupted = again.below.request().map(|r| r.signal);
    found
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
                let suspect = Suspect { id: id.clone(), way: Way::Executable(executable) };
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
    suite: &'a Suite,
    options: &'a Options,
    run_dir: &'a RunDir,
    until: Instant,
    limit: Duration,
}

impl Again<'_> {
    fn cargo_test(&mut self, leaks: &mut [Leak], cargo: &CargoTest, listing: &Listing, found: &mut Found) {
        let settings = self.settings(cargo);
        let mut suspects = suspects(leaks, listing);
        suspects.retain(|s| matches!(s.way, Way::Executable(of) if settings.contains_key(&of.path)));
        self.announce(suspects.len());
        self.look(leaks, &suspects, &settings, found);
        let open = leaks.iter().any(|l| is_open(l) && may_be_documentation(l));
        if !(open && cargo.documents() && listing.may_document()) {
            return;
        }
        let names = cargo.list_documentation(self.options, &mut self.below, self.until).unwrap_or_default();
        let own = leaks.iter().filter(|l| is_open(l)).find_map(|l| l.package.clone());
        let of = |name: &String| {
            let binary = format!("{}::doc", documented(name, own.as_deref(), listing));
            let way = Way::Documentation(documentation_filter(name, &names));
            Suspect { id: TestId { binary, name: name.clone(), attempt: 1 }, way }
        };
        let suspects: Vec<Suspect<'_>> = names.iter().map(of).collect();
        self.look(leaks, &suspects, &settings, found);
    }

    /// Its tests that ran at the time of the birth, where neither the environment nor an ancestor has told.
    fn nextest(&mut self, leaks: &mut [Leak], found: &mut Found) {
        let ids: BTreeSet<TestId> = leaks.iter().filter(|l| is_open(l)).flat_map(|l| l.suspects.clone()).collect();
        let suspects: Vec<Suspect<'_>> = ids.into_iter().map(|id| Suspect { id, way: Way::Nextest }).collect();
        self.announce(suspects.len());
        // What the suite has told somebody, a second run of some of it must not replace.
        let file = self.suite.users_file();
        let told = file.and_then(|file| Some((file, fs::read(file).ok()?)));
        self.look(leaks, &suspects, &Settings::new(), found);
        if let Some((file, bytes)) = told {
            if fs::write(file, bytes).is_err() {
                say_all(&format!("leakcheck: failed to restore `{}` after tests ran again\n", file.display()));
            }
        }
    }

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
        let home = |leak: &Leak| Some(birth(leak, self.suite.cargo_test()?.1)?.executable.id.clone());
        let homes: Vec<Home> = leaks.iter().map(home).collect();
        let mut seen: Vec<Seen> = Vec::new();
        for suspect in suspects {
            if Instant::now() >= self.until || self.below.request().is_some() || explains(leaks, &homes, &seen) {
                break;
            }
            let command = match &suspect.way {
                Way::Executable(of) => {
                    settings.get(&of.path).map(|setting| self.executable(of, setting, &suspect.id.name))
                }
                Way::Documentation(filter) => self.documentation(filter),
                Way::Nextest => self.suite.nextest_again(self.options, &suspect.id.binary, &suspect.id.name),
            };
            let Some(mut command) = command else { continue };
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
        join(leaks, &homes, &seen);
    }

    fn executable(&self, executable: &Executable, setting: &Setting, name: &str) -> Command {
        let mut command = Command::new(&executable.path);
        let ignored = self.suite.cargo_test().and_then(|(cargo, _)| cargo.ignored());
        command.args(ignored).args(["--exact", name]);
        command.current_dir(&setting.dir).env_clear().envs(setting.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn documentation(&self, filter: &[String]) -> Option<Command> {
        let (cargo, _) = self.suite.cargo_test()?;
        let mut command = cargo.cargo(self.options, &["--doc"]);
        command.args(["--doc", "--"]).args(cargo.ignored()).args(filter);
        Some(command)
    }

    /// How cargo would run each executable.
    fn settings(&mut self, cargo: &CargoTest) -> Settings {
        if has_runner() {
            return Settings::new();
        }
        let Ok(dir) = tempfile::tempdir() else { return Settings::new() };
        // `$0` is the directory, `$1` the executable; nothing is run.
        let script = r#"{ printf '%s\0' "$1" "$PWD"; env -0; } > "$0/$$""#;
        let Ok(words) = serde_json::to_string(&["sh", "-c", script, &dir.path().to_string_lossy()]) else {
            return Settings::new();
        };
        let mut command = cargo.cargo(self.options, &["--doc", "--no-fail-fast"]);
        command.arg("--no-fail-fast").arg("--config").arg(format!("target.\"cfg(all())\".runner = {words}"));
        if cargo.documents() {
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

#[cfg(test)]
mod tests {
    use super::super::thread::tests::{below, executable_of};
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};

    fn test(name: &str) -> TestId {
        TestId { binary: "shop::it".into(), name: name.into(), attempt: 1 }
    }

    #[test]
    fn the_suspected_come_first_and_the_others_of_their_package_after() {
        let it = executable_of("it-0123456789abcdef", "shop::it", &["a", "b", "c"]);
        let unit = executable_of("shop-fedcba9876543210", "shop", &["u"]);
        let other = Executable { package: "other".into(), ..executable_of("o-0123456789abcdef", "other", &["o"]) };
        let listing = Listing { executables: vec![it, unit, other], known: true, ..Listing::default() };
        let names =
            |leak: Leak| -> Vec<String> { suspects(&[leak], &listing).into_iter().map(|s| s.id.name).collect() };
        let born = below(&[("it-0123456789abcdef", None)]);
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
