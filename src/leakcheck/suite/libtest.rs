//! `cargo test`: which executables it runs, and which tests are in them.
//!
//! Cargo is asked again, without running anything and, as everything is built, without building anything. Each executable
//! then lists its tests, with the filters that it was run with.
//!
//! Only what is known to be libtest's is asked: an executable with a harness of its own (`harness = false`) may know no
//! `--list` and do its work instead, for a second time. So what such an executable runs is not counted, and its leaks are
//! traced back to it and no further.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use toml::Table;

use super::words::{self, Ignored, Line, Selection, TEST, Word};
use crate::leakcheck::below::{Below, Ended};
use crate::leakcheck::{Options, Outcome, TestId, TestRun};

/// How long all the listing may take: nothing is built, so what takes longer waits for somebody.
const LIMIT: Duration = Duration::from_secs(30);

/// Which targets a run is about; without any of them, `cargo test` runs the documentation tests as well.
pub(super) const TARGETS: [&str; 10] = [
    "--lib",
    "--bins",
    "--bin",
    "--examples",
    "--example",
    "--tests",
    "--test",
    "--benches",
    "--bench",
    "--all-targets",
];

/// A run of `cargo test`.
#[derive(Debug)]
pub(in crate::leakcheck) struct CargoTest {
    pub(super) line: Line,
    pub(super) words: Vec<Word>,
    pub(super) selection: Selection,
}

/// A test executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leakcheck) struct Executable {
    pub(in crate::leakcheck) path: PathBuf,
    /// As nextest calls it: `shop`, `shop::it`, `shop::bin/server`.
    pub(in crate::leakcheck) id: String,
    pub(in crate::leakcheck) package: String,
    /// What chooses it on cargo's command line: `--test it`, `--lib`.
    pub(in crate::leakcheck) target: Vec<String>,
    pub(in crate::leakcheck) manifest_dir: PathBuf,
    /// Its tests that were run; `None` if they are not known.
    pub(in crate::leakcheck) tests: Option<Vec<String>>,
}

/// What `cargo test` has run.
#[derive(Debug, Default)]
pub(in crate::leakcheck) struct Listing {
    pub(in crate::leakcheck) executables: Vec<Executable>,
    /// Packages with libraries that may have documentation tests.
    pub(in crate::leakcheck) documented: BTreeSet<String>,
    /// Cargo has answered.
    pub(in crate::leakcheck) known: bool,
}

impl CargoTest {
    pub(super) fn understand(line: Line) -> Option<CargoTest> {
        let words = words::split(&line.own, TEST);
        let selection = words::selection(&words, line.behind.as_deref().unwrap_or_default());
        let tells = ["--no-run", "--help", "-h", "--version", "-V", "--unit-graph", "--build-plan"];
        (!selection.only_tells && !words::has(&words, &tells)).then_some(CargoTest { line, words, selection })
    }

    /// Cargo with the words that choose packages, targets and features, and no filter.
    pub(in crate::leakcheck) fn cargo(&self, options: &Options, dropped: &[&str]) -> Command {
        let given = ["--message-format", "--timings", "--quiet", "-q", "--verbose", "-v"];
        let own = words::without(&self.words, |w| w.name.is_none() || w.is(&given) || w.is(dropped));
        let args = [self.line.before.as_slice(), &[OsString::from("test")], &own].concat();
        let mut command = super::program(options);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The word by which libtest runs ignored tests, if it is to.
    pub(in crate::leakcheck) fn ignored(&self) -> Option<&'static str> {
        self.selection.ignored.word()
    }

    /// Were the documentation tests run?
    pub(in crate::leakcheck) fn documents(&self) -> bool {
        !words::has(&self.words, &TARGETS)
    }

    /// The words that run one test again.
    pub(super) fn again(&self, listing: Option<&Listing>, binary: &str, name: &str) -> Vec<OsString> {
        let choosing = ["--workspace", "--all", "--exclude", "-p", "--package", "--doc", "--no-fail-fast"];
        let own = words::without(&self.words, |w| w.name.is_none() || w.is(&choosing) || w.is(&TARGETS));
        let mut again: Vec<OsString> = [self.line.before.as_slice(), &[OsString::from("test")], &own].concat();
        match listing.and_then(|l| l.executables.iter().find(|e| e.id == binary)) {
            Some(of) => {
                again.extend(["-p".into(), of.package.clone().into()]);
                again.extend(of.target.iter().map(OsString::from));
            }
            None => {
                let package = binary.strip_suffix("::doc").unwrap_or(binary);
                again.extend(["-p".into(), package.into(), "--doc".into()]);
            }
        }
        again.push("--".into());
        again.extend(self.selection.ignored.word().map(OsString::from));
        match listing.is_some_and(|l| l.executables.iter().any(|e| e.id == binary)) {
            true => again.extend(["--exact".into(), name.into()]),
            // The line, which hardly any other has: see `documentation_filter`.
            false => again.extend(name.split_whitespace().next_back().map(OsString::from)),
        }
        again
    }

    /// Asks cargo, and each executable.
    pub(in crate::leakcheck) fn list(&self, options: &Options, below: &mut Below) -> Listing {
        let until = Instant::now() + LIMIT;
        let mut listing = Listing::default();
        let mut command = self.cargo(options, &["--doc"]);
        command.args(["--no-run", "--message-format=json"]);
        let Some(messages) = output(below, command, until) else { return listing };
        let mut libraries = LibraryPath::default();
        for line in messages.lines() {
            match serde_json::from_str(line) {
                Ok(Message::CompilerArtifact(artifact)) => listing.take(artifact),
                Ok(Message::BuildScriptExecuted { linked_paths }) => libraries.add(&linked_paths),
                Ok(Message::BuildFinished { success }) => listing.known = success,
                Ok(Message::Other) | Err(_) => {}
            }
        }
        listing.executables.retain(|_| !words::has(&self.words, &["--doc"]));
        for executable in &mut listing.executables {
            if executable.tests.is_some() {
                executable.tests = self.tests_of(executable, options, &mut libraries, below, until);
            }
        }
        listing
    }

    /// The tests that an executable runs with these filters.
    fn tests_of(
        &self,
        of: &Executable,
        options: &Options,
        libraries: &mut LibraryPath,
        below: &mut Below,
        until: Instant,
    ) -> Option<Vec<String>> {
        let mut list = |ignored: Option<&str>| {
            let command = |path: OsString| {
                let mut command = Command::new(&of.path);
                command.args(["--list", "--format", "terse"]).args(ignored).args(&self.selection.words);
                command.current_dir(&of.manifest_dir).env("CARGO_MANIFEST_DIR", &of.manifest_dir);
                command.env("LD_LIBRARY_PATH", path).stdin(Stdio::null()).stderr(Stdio::null());
                command
            };
            let text = output(below, command(libraries.of(&of.path)), until).or_else(|| {
                // The tests of a procedural macro need the compiler's libraries.
                libraries.add_compilers(options, below, until).then_some(())?;
                output(below, command(libraries.of(&of.path)), until)
            })?;
            Some(names(&text))
        };
        match self.selection.ignored {
            Ignored::No => {
                // It lists those that it would ignore as well.
                let (all, ignored) = (list(None)?, list(Some("--ignored"))?);
                Some(all.into_iter().filter(|name| !ignored.contains(name)).collect())
            }
            Ignored::Only => list(Some("--ignored")),
            Ignored::Too => list(Some("--include-ignored")),
        }
    }

    /// The documentation tests that were run. `None` if that cannot be found out.
    ///
    /// This takes rustdoc as long as it takes to compile them, so it is asked only where the answer matters.
    pub(in crate::leakcheck) fn list_documentation(
        &self,
        options: &Options,
        below: &mut Below,
        until: Instant,
    ) -> Option<Vec<String>> {
        let mut list = |ignored: Option<&str>| {
            let mut command = self.cargo(options, &["--doc"]);
            command.args(["--doc", "--", "--list", "--format", "terse"]).args(ignored).args(&self.selection.words);
            output(below, command, until).map(|text| names(&text))
        };
        match self.selection.ignored {
            Ignored::No => {
                let all = list(None)?;
                let ignored = if all.is_empty() { Vec::new() } else { list(Some("--ignored"))? };
                Some(all.into_iter().filter(|name| !ignored.contains(name)).collect())
            }
            other => list(other.word()),
        }
    }
}

impl Listing {
    fn take(&mut self, artifact: Artifact) {
        let Artifact { manifest_path, target, profile, executable } = artifact;
        let manifest_dir = manifest_path.parent().unwrap_or(Path::new("")).to_owned();
        let kind = target.kind.first().map_or("", String::as_str);
        let is_library = !matches!(kind, "bin" | "test" | "bench" | "example" | "custom-build");
        let manifest = fs::read_to_string(&manifest_path).ok().and_then(|text| text.parse::<Table>().ok());
        let package = manifest.as_ref().and_then(|m| m.get("package")?.get("name")?.as_str());
        let package = package.unwrap_or(&target.name).to_owned();
        if is_library && target.doctest {
            self.documented.insert(package.clone());
        }
        let Some(path) = executable.filter(|_| profile.test) else { return };
        let (id, chooses) = match kind {
            "test" => (format!("{package}::{}", target.name), vec!["--test".to_owned(), target.name.clone()]),
            "bin" | "bench" | "example" => {
                (format!("{package}::{kind}/{}", target.name), vec![format!("--{kind}"), target.name.clone()])
            }
            _ => (package.clone(), vec!["--lib".to_owned()]),
        };
        let libtest = manifest.is_some_and(|m| has_libtest(&m, kind, &target.name));
        let tests = libtest.then(Vec::new);
        self.executables.push(Executable { path, id, package, target: chooses, manifest_dir, tests });
    }

    /// How many tests ran, documentation tests not included; `None` if one of its executables does not tell.
    pub(in crate::leakcheck) fn count(&self) -> Option<u64> {
        let of = |e: &Executable| e.tests.as_ref().map(|tests| tests.len() as u64);
        // What is not known can only be more.
        let known: u64 = self.executables.iter().filter_map(of).sum();
        (known > 0 || (self.known && self.executables.iter().all(|e| e.tests.is_some()))).then_some(known)
    }

    /// May there be documentation tests?
    pub(in crate::leakcheck) fn may_document(&self) -> bool {
        let tested = |package: &String| self.executables.iter().any(|e| e.package == *package);
        self.documented.iter().any(tested) || (self.executables.is_empty() && !self.documented.is_empty())
    }

    pub(in crate::leakcheck) fn runs(&self, outcome: Outcome) -> Vec<TestRun> {
        let runs = self.executables.iter().flat_map(|executable| {
            let names = executable.tests.iter().flatten();
            names.map(|name| TestId { binary: executable.id.clone(), name: name.clone(), attempt: 1 })
        });
        runs.map(|id| TestRun { id, outcome, started_unix_ms: None, took_ms: None }).collect()
    }
}

/// The words for rustdoc that choose one documentation test, as well as that can be done.
///
/// rustdoc splits what it is given at spaces, so that no whole name can be said, let alone an exact one: what is said are
/// parts of it that the others do not have.
pub(in crate::leakcheck) fn documentation_filter(name: &str, all: &[String]) -> Vec<String> {
    let others = |word: &str| all.iter().filter(|other| *other != name && other.contains(word)).collect::<Vec<_>>();
    let Some(word) = name.split_whitespace().min_by_key(|word| others(word).len()) else { return Vec::new() };
    let mut words = vec![word.to_owned()];
    for other in others(word) {
        if let Some(skipped) = other.split_whitespace().find(|word| !name.contains(word)) {
            words.extend(["--skip".to_owned(), skipped.to_owned()]);
        }
    }
    words
}

/// Does the manifest leave the main function of this target to libtest?
fn has_libtest(manifest: &Table, kind: &str, name: &str) -> bool {
    let own = |target: &toml::Value| target.get("harness").and_then(toml::Value::as_bool) == Some(false);
    match kind {
        "test" | "bin" | "bench" | "example" => {
            let targets = manifest.get(kind).and_then(toml::Value::as_array);
            let named = |t: &&toml::Value| t.get("name").and_then(toml::Value::as_str) == Some(name);
            !targets.into_iter().flatten().filter(named).any(own)
        }
        _ => !manifest.get("lib").is_some_and(own),
    }
}

/// `orders::are_kept: test`
fn names(listed: &str) -> Vec<String> {
    let name = |line: &str| line.strip_suffix(": test").or_else(|| line.strip_suffix(": benchmark")).map(str::to_owned);
    listed.lines().filter_map(name).collect()
}

/// What a command prints, if it ends in time and with success. Into a file: whoever holds a pipe could let us wait.
fn output(below: &mut Below, mut command: Command, until: Instant) -> Option<String> {
    let mut file = tempfile::tempfile().ok()?;
    command.stdout(clone(&file).ok()?);
    let Ended { status, .. } = below.run(&mut command, until, Duration::ZERO).ok()?;
    if !status?.success() {
        return None;
    }
    file.rewind().ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn clone(file: &File) -> io::Result<Stdio> {
    Ok(file.try_clone()?.into())
}

/// Where an executable finds the libraries that it needs, as cargo says it to those that it starts.
#[derive(Default)]
struct LibraryPath {
    more: Vec<PathBuf>,
    has_compilers: bool,
}

impl LibraryPath {
    fn add(&mut self, linked: &[String]) {
        // `native=/path`
        self.more.extend(linked.iter().map(|path| PathBuf::from(path.split_once('=').map_or(path.as_str(), |p| p.1))));
    }

    /// True if that has changed anything.
    fn add_compilers(&mut self, options: &Options, below: &mut Below, until: Instant) -> bool {
        if std::mem::replace(&mut self.has_compilers, true) {
            return false;
        }
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let toolchain = options.args.first().filter(|word| word.to_string_lossy().starts_with('+'));
        command.args(toolchain).args(["--print", "target-libdir", "--print", "sysroot"]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let Some(text) = output(below, command, until) else { return false };
        self.more.extend(text.lines().map(PathBuf::from).flat_map(|dir| [dir.join("lib"), dir]));
        true
    }

    fn of(&self, executable: &Path) -> OsString {
        let deps = executable.parent().map(Path::to_owned);
        let above = deps.as_deref().and_then(Path::parent).map(Path::to_owned);
        let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let inherited = std::env::split_paths(&inherited).filter(|p| !p.as_os_str().is_empty());
        let all = above.into_iter().chain(deps).chain(self.more.iter().cloned()).chain(inherited);
        // A path with a colon cannot be said in it.
        std::env::join_paths(all.filter(|p| !p.as_os_str().as_encoded_bytes().contains(&b':'))).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    BuildScriptExecuted {
        #[serde(default)]
        linked_paths: Vec<String>,
    },
    BuildFinished {
        success: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
    #[serde(default)]
    doctest: bool,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(dir: &Path) -> Listing {
        let mut listing = Listing::default();
        let manifest = "[package]\nname = 'shop'\n[[test]]\nname = 'own'\nharness = false\n[[test]]\nname = 'it'\n";
        fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        for (kind, name, test) in [
            ("lib", "shop_lib", false),
            ("lib", "shop_lib", true),
            ("bin", "server", true),
            ("test", "it", true),
            ("test", "own", true),
            ("example", "show", false),
            ("proc-macro", "shop_derive", true),
        ] {
            let json = serde_json::json!({
                "reason": "compiler-artifact",
                "package_id": "path+file:///shop#0.1.0",
                "manifest_path": dir.join("Cargo.toml"),
                "target": { "kind": [kind], "name": name, "doctest": kind == "lib", "test": true },
                "profile": { "test": test, "opt_level": "0" },
                "executable": if test { Some(dir.join(format!("{name}-1"))) } else { None },
            });
            match serde_json::from_value(json).unwrap() {
                Message::CompilerArtifact(artifact) => listing.take(artifact),
                _ => unreachable!(),
            }
        }
        listing
    }

    #[test]
    fn an_executable_is_called_as_nextest_calls_it() {
        let dir = tempfile::tempdir().unwrap();
        let listing = messages(dir.path());
        let ids: Vec<_> = listing.executables.iter().map(|e| (e.id.as_str(), e.target.join(" "))).collect();
        let expected = [
            ("shop", "--lib"),
            ("shop::bin/server", "--bin server"),
            ("shop::it", "--test it"),
            ("shop::own", "--test own"),
            ("shop", "--lib"),
        ];
        assert_eq!(ids, expected.map(|(id, target)| (id, target.to_owned())));
        let own: Vec<_> = listing.executables.iter().filter(|e| e.tests.is_none()).map(|e| e.id.as_str()).collect();
        assert_eq!(own, ["shop::own"], "it has a main function of its own, and is never asked");
        assert!(listing.may_document());
    }

    #[test]
    fn what_cannot_be_counted_is_no_zero() {
        let dir = tempfile::tempdir().unwrap();
        let mut listing = Listing { known: true, ..messages(dir.path()) };
        assert_eq!(listing.count(), None);
        listing.executables.retain(|e| e.tests.is_some());
        assert_eq!(listing.count(), Some(0));
        listing.executables[0].tests = Some(vec!["a".to_owned()]);
        assert_eq!((listing.count(), listing.runs(Outcome::Passed).len()), (Some(1), 1));
        assert_eq!(Listing::default().count(), None, "cargo has not answered");
    }

    #[test]
    fn other_messages_and_other_words_are_passed_over() {
        let text = r#"{"reason":"something-new","x":1}"#;
        assert!(matches!(serde_json::from_str(text), Ok(Message::Other)));
        let listed = "a::b: test\nc: benchmark\n\n1 test, 1 benchmark\nall doctests ran in 0.1s\nsrc/lib.rs - x (line 3): test\n";
        assert_eq!(names(listed), ["a::b", "c", "src/lib.rs - x (line 3)"]);
    }

    #[test]
    fn a_documentation_test_is_chosen_by_what_others_do_not_have() {
        let all = ["src/lib.rs - (line 5)", "src/lib.rs - one (line 15)", "src/a.rs - a (line 5)"].map(str::to_owned);
        let chosen = |name: &str| documentation_filter(name, &all).join(" ");
        assert_eq!(chosen(&all[1]), "one");
        assert_eq!(chosen(&all[2]), "src/a.rs");
        assert_eq!(chosen(&all[0]), "src/lib.rs --skip one");
    }
}
