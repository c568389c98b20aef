//! `cargo nextest run`: it is made to write down which tests ran, without any change to what it prints and does.
//!
//! A *tool configuration* has the lowest precedence but nextest's own defaults, and so has its profile `default` among the
//! profiles: whoever has configured JUnit keeps the file where it is, and it is read there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use toml::Table;

use super::junit::{self, Junit};
use super::words::{self, Line, NEXTEST, Word};

/// A run of nextest's.
#[derive(Debug)]
pub(super) struct Nextest {
    /// What stands before its own words: `+nightly nextest --color never run`.
    head: Vec<OsString>,
    own: Vec<OsString>,
    behind: Option<Vec<OsString>>,
    /// Where the user's own configuration has it written, and when that was last done.
    theirs: Option<(PathBuf, Option<SystemTime>)>,
}

impl Nextest {
    /// `head` are the words up to and with `nextest`, `rest` is what stands behind it.
    pub(super) fn understand(mut head: Vec<OsString>, rest: &[OsString]) -> Option<Nextest> {
        let line = Line::nextest(rest).filter(|line| matches!(line.subcommand.as_str(), "run" | "r"))?;
        let words = words::split(&[line.before.as_slice(), &line.own].concat(), NEXTEST);
        if words::has(&words, &["--no-run", "--help", "-h", "--version", "-V", "--unit-graph"]) {
            return None;
        }
        head.extend(line.before);
        head.push(line.subcommand.into());
        let theirs = users_file(&words).map(|path| (path.clone(), written(&path)));
        Some(Nextest { head, own: line.own, behind: line.behind, theirs })
    }

    /// The arguments, with ours behind the user's: of several tool configurations, the first has precedence.
    ///
    /// The configuration and the file that nextest writes by it are in `dir`.
    pub(super) fn args(&self, dir: &Path) -> Vec<OsString> {
        let mut args = [self.head.as_slice(), &self.own].concat();
        // Without it, less is known; the run is the same.
        if let Ok(config) = configure(dir) {
            let mut value = OsString::from("foster:");
            value.push(config);
            args.extend(["--tool-config-file".into(), value]);
        }
        if let Some(behind) = &self.behind {
            args.push("--".into());
            args.extend(behind.iter().cloned());
        }
        args
    }

    /// What this run has written down; never what an earlier one has.
    pub(super) fn junit(&self, dir: &Path, not_before: u64) -> Option<Junit> {
        let ours = Some(dir.join(OURS)).filter(|path| path.exists());
        let path = ours.or_else(|| {
            let (path, before) = self.theirs.clone()?;
            (written(&path)? != before.unwrap_or(SystemTime::UNIX_EPOCH)).then_some(path)
        })?;
        let junit = junit::read(&fs::read_to_string(path).ok()?).ok()?;
        junit.started_unix_ms.is_none_or(|at| at >= not_before).then_some(junit)
    }

    /// The user's own JUnit file.
    pub(super) fn users_file(&self) -> Option<&Path> {
        self.theirs.as_ref().map(|(path, _)| path.as_path())
    }

    /// The words that run one test one time, whether it fails or not.
    pub(super) fn once(&self, binary: &str, name: &str) -> Vec<OsString> {
        let before = self.head.iter().position(|w| w == "nextest").unwrap_or_default();
        let words = Line::nextest(&self.again(binary, name)[1..]);
        let Some(line) = words else { return Vec::new() };
        let own = words::split(&line.own, NEXTEST);
        let mut once = [&self.head[..before], &["nextest".into()], &line.before, &[line.subcommand.into()]].concat();
        once.extend(words::without(&own, |w| w.is(&["--retries", "--stress-count", "--stress-duration"])));
        once.push("--retries=0".into());
        once.extend(line.behind.into_iter().flat_map(|behind| std::iter::once("--".into()).chain(behind)));
        once
    }

    /// The words that run one test again, as far as they concern neither its choice nor what happens after a failure.
    pub(super) fn again(&self, binary: &str, name: &str) -> Vec<OsString> {
        const DROPPED: &[&str] = &[
            "-E",
            "--filterset",
            "--filter-expr",
            "--partition",
            "--fail-fast",
            "--no-fail-fast",
            "--max-fail",
            "--no-tests",
            "-R",
            "--rerun",
        ];
        let at = self.head.iter().position(|w| w == "nextest").unwrap_or_default();
        let own = words::split(&self.own, NEXTEST);
        let mut again: Vec<OsString> = self.head.get(at..).unwrap_or_default().to_vec();
        again.extend(words::without(&own, |w| w.name.is_none() || w.is(DROPPED)));
        again.extend(["-E".into(), format!("binary_id(={binary}) & test(={name})").into()]);
        // Behind `--`, as libtest has them.
        let behind = words::selection(&[], self.behind.as_deref().unwrap_or_default());
        if let Some(word) = behind.ignored.word() {
            again.extend(["--".into(), word.into()]);
        }
        again
    }
}

/// The file that nextest writes by our configuration.
const OURS: &str = "nextest.xml";

/// Makes our configuration; where it is.
fn configure(dir: &Path) -> io::Result<PathBuf> {
    let dir = fs::canonicalize(dir)?;
    let path = dir.join(OURS);
    let path = path.to_str().ok_or_else(|| io::Error::other("the path is not UTF-8"))?;
    // Every escape of JSON's strings is one of TOML's.
    let quoted = serde_json::to_string(path)?;
    let config = dir.join("nextest.toml");
    fs::write(&config, format!("[profile.default.junit]\npath = {quoted}\n"))?;
    Ok(config)
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The JUnit file of the user's own configuration, if it has one.
fn users_file(words: &[Word]) -> Option<PathBuf> {
    let root = workspace_root(words)?;
    let profile = words::value(words, &["--profile", "-P"]).map(OsString::from);
    let profile = profile.or_else(|| std::env::var_os("NEXTEST_PROFILE")).unwrap_or_else(|| "default".into());
    let profile = profile.to_str()?;
    let file = words::value(words, &["--config-file"]).map_or_else(|| root.join(".config/nextest.toml"), PathBuf::from);
    let tools = words.iter().filter(|w| w.is(&["--tool-config-file"])).filter_map(|w| {
        let (_, path) = w.value.as_ref()?.to_str()?.split_once(':')?;
        Some(PathBuf::from(path))
    });
    let read = |path: PathBuf| fs::read_to_string(path).ok()?.parse::<Table>().ok();
    let configs: Vec<Table> = std::iter::once(file).chain(tools).filter_map(read).collect();
    let path = look_up(&configs, profile, &["junit", "path"])?;
    let store = configs.iter().find_map(|c| c.get("store")?.get("dir")?.as_str());
    Some(root.join(store.unwrap_or("target/nextest")).join(profile).join(path))
}

/// A value of a profile: its own, else of the one that it inherits from, else of `default`; in each, of the first file.
fn look_up(configs: &[Table], profile: &str, keys: &[&str]) -> Option<String> {
    let mut name = profile.to_owned();
    // Nobody inherits through more than that, and a circle is an error of nextest's.
    for _ in 0..16 {
        let in_profile = |keys: &[&str]| {
            configs.iter().find_map(|config| {
                let profile = config.get("profile")?.get(&name)?;
                keys.iter().try_fold(profile, |at, key| at.get(key))?.as_str().map(str::to_owned)
            })
        };
        if let Some(found) = in_profile(keys) {
            return Some(found);
        }
        if name == "default" {
            return None;
        }
        name = in_profile(&["inherits"]).unwrap_or_else(|| "default".to_owned());
    }
    None
}

/// Where nextest looks for its configuration.
fn workspace_root(words: &[Word]) -> Option<PathBuf> {
    if let Some(remapped) = words::value(words, &["--workspace-remap"]) {
        return fs::canonicalize(remapped).ok();
    }
    let here = match words::value(words, &["--manifest-path"]) {
        Some(manifest) => fs::canonicalize(manifest).ok()?.parent()?.to_owned(),
        None => std::env::current_dir().ok()?,
    };
    root_above(&here)
}

/// The workspace that a directory belongs to: the next manifest above that has a `[workspace]`, else the next at all.
pub(super) fn root_above(dir: &Path) -> Option<PathBuf> {
    let mut nearest = None;
    for dir in dir.ancestors() {
        let Ok(text) = fs::read_to_string(dir.join("Cargo.toml")) else { continue };
        nearest = nearest.or(Some(dir));
        if text.parse::<Table>().is_ok_and(|manifest| manifest.contains_key("workspace")) {
            return Some(dir.to_owned());
        }
    }
    nearest.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn nextest(rest: &[&str]) -> Nextest {
        Nextest::understand(os(&["+stable", "nextest"]), &os(rest)).unwrap()
    }

    #[test]
    fn what_the_user_wrote_is_passed_through_and_ours_is_behind_it() {
        let rest = ["--color", "never", "run", "-E", "test(run)", "--profile=ci", "-p", "shop", "--", "--skip", "x"];
        let suite = nextest(&rest);
        let dir = tempfile::tempdir().unwrap();
        let args = suite.args(dir.path());
        let config = args[11].to_str().unwrap().strip_prefix("foster:").unwrap().to_owned();
        let mut expected = os(&["+stable", "nextest"]);
        expected.extend(os(&rest[..8]));
        expected.extend(os(&["--tool-config-file", &format!("foster:{config}")]));
        expected.extend(os(&rest[8..]));
        assert_eq!(args, expected);
        let text = fs::read_to_string(config).unwrap();
        let table: Table = text.parse().unwrap();
        let path = table["profile"]["default"]["junit"]["path"].as_str().unwrap();
        assert!(Path::new(path).is_absolute() && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn only_a_run_is_a_run() {
        for rest in [&["list"][..], &["run", "--no-run"], &["--version"], &[], &["archive", "--archive-file", "run"]] {
            assert!(Nextest::understand(Vec::new(), &os(rest)).is_none(), "{rest:?}");
        }
    }

    #[test]
    fn the_users_own_file_is_found_as_nextest_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nmembers = ['a']");
        write("a/Cargo.toml", "[package]\nname = 'a'");
        let tool = format!("ci:{}", root.join("tool.toml").display());
        let manifest = root.join("a/Cargo.toml");
        let file = |profile: &str| {
            let args = ["--manifest-path", manifest.to_str().unwrap(), "-P", profile, "--tool-config-file", &tool];
            users_file(&words::split(&os(&args), NEXTEST)).map(|p| p.strip_prefix(&root).unwrap().to_owned())
        };
        assert_eq!(file("ci"), None);
        write("tool.toml", "[profile.default.junit]\npath = 'tool.xml'");
        assert_eq!(file("ci"), Some("target/nextest/ci/tool.xml".into()));
        write(
            ".config/nextest.toml",
            "store.dir = 'st'\n[profile.base.junit]\npath = 'own.xml'\n[profile.ci]\ninherits = 'base'",
        );
        assert_eq!(file("ci"), Some("st/ci/own.xml".into()));
        assert_eq!(file("default"), Some("st/default/tool.xml".into()));
    }

    #[test]
    fn what_an_earlier_run_has_written_is_not_taken_for_this_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("junit.xml");
        let text = r#"<testsuites timestamp="2026-11-24T18:29:06.852Z"/>"#;
        fs::write(&path, text).unwrap();
        let before = written(&path);
        let began = 1_795_544_946_852;
        let suite = |before| Nextest { theirs: Some((path.clone(), before)), ..nextest(&["run"]) };
        assert!(suite(before).junit(Path::new("/nonexistent"), began).is_none(), "it has not been written since");
        assert!(suite(None).junit(Path::new("/nonexistent"), began).is_some(), "the control: a new file is read");
        assert!(suite(None).junit(Path::new("/nonexistent"), began + 1).is_none(), "it tells of another run");
    }

    #[test]
    fn one_test_is_run_again_with_what_built_it() {
        let suite =
            nextest(&["run", "orders", "-E", "all()", "--features", "x", "--retries=2", "--partition", "hash:1/2"]);
        let again = suite.again("shop::it", "a::b");
        let expected = ["nextest", "run", "--features", "x", "--retries=2", "-E", "binary_id(=shop::it) & test(=a::b)"];
        assert_eq!(again, os(&expected));
        let expr = "binary_id(=shop::it) & test(=a::b)";
        let expected = ["+stable", "nextest", "run", "--features", "x", "-E", expr, "--retries=0"];
        assert_eq!(suite.once("shop::it", "a::b"), os(&expected));
        let suite = nextest(&["--color", "never", "run", "--", "--ignored", "x"]);
        let expected = ["+stable", "nextest", "--color", "never", "run", "-E", expr, "--retries=0", "--", "--ignored"];
        assert_eq!(suite.once("shop::it", "a::b"), os(&expected));
    }
}
