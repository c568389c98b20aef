//! Dialogue files: played, failing with a report that ends the search, and blessed.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use foster::{DialogueFile, Error, ErrorKind, Result};

use crate::real_programs::have;

/// Each of the repository's own files, without the harness.
#[test]
fn every_file_of_the_repository_passes() -> Result {
    let mut files = 0;
    for entry in std::fs::read_dir("tests/dialogue").unwrap() {
        let path = entry.unwrap().path();
        let program = path.file_stem().unwrap().to_str().unwrap();
        if ["bc", "ed"].contains(&program) && !have(program) {
            continue;
        }
        DialogueFile::new(&path).timeout(Duration::from_secs(30)).check()?;
        files += 1;
    }
    assert!(files >= 3, "{files}");
    Ok(())
}

/// A file in a directory of its own.
struct Scratch {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn scratch(text: impl AsRef<[u8]>) -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.dlg");
    std::fs::write(&path, text).unwrap();
    Scratch { dir, path }
}

impl Scratch {
    fn check(&self) -> Result {
        DialogueFile::new(&self.path).timeout(Duration::from_secs(2)).check()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    /// Blesses it with the program `recite`, in an environment of its own.
    fn bless(&self, ci: Option<&str>) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("recite"));
        // Four times the usual quiet between two messages: other tests use the processors as well.
        command
            .env("FOSTER_TIMEOUT_SCALE", "4")
            .args(["--limit", "500"])
            .arg(&self.path)
            .env("FOSTER_BLESS", "1")
            .env_remove("CI");
        if let Some(ci) = ci {
            command.env("CI", ci);
        }
        command.output().unwrap()
    }
}

fn failure(text: &str) -> Error {
    scratch(text).check().expect_err(text)
}

#[test]
fn what_differs_is_found_whatever_it_is() {
    for (text, line, why) in [
        ("$ echo a\n< b\n", 2, "the next line is another one"),
        ("$ echo a\n<~ a\n", 2, "it came with a line ending"),
        ("$ printf a\n< a\n", 2, "it came without a line ending"),
        ("$ echo a\n", 1, "there is more"),
        ("$ printf a\n", 1, "there is more"),
        ("$ sh -c 'echo a >&2'\n", 1, "there is more"),
        ("$ sh -c 'echo a >&2'\n! b\n", 2, "the next line is another one"),
        ("$ echo a\n< a\n<\n", 3, "the helper exited with status 0"),
        ("$ true\n\n< a\n", 3, "the helper exited with status 0"),
        ("$ false\n", 1, "the program exited with status 1"),
        ("$ false\n? 2\n", 2, "the program exited with status 1"),
        ("$ true\n? SIGTERM\n", 2, "the program exited with status 0"),
        ("$ sh -c 'kill -9 $$'\n? SIGTERM\n", 2, "the program was killed by SIGKILL"),
        ("$ seq 3\n...\n< 2\n", 3, "there is more"),
        ("$ seq 3\n...\n< 4\n", 3, "the helper exited with status 0"),
        ("$ seq 3\n< 1\n...\n! x\n", 4, "the helper exited with status 0"),
        ("$ cat\n> a\n< {x}\n> b\n< {x}\n", 3, "the next line is another one"),
        ("$ cat\n> a\n< a\n> b\n< {x}\n^D\n$ echo c\n< {x}\n", 8, "the next line is another one"),
        ("$ sh -c 'printf \"> \"; read x; echo; echo a'\n<~ > \n>\n< a\n", 4, "the next line is another one"),
        ("$ sh -c 'printf \"? \"; read x'\n> a\n", 2, "there is more"),
        ("$ sleep 5\n", 1, "timed out after"),
        ("$ sleep 5\n<~ x\n", 2, "timed out after"),
        ("$ sh -c 'echo a; exec 0<&-; sleep 5'\n< b\n", 2, "the next line is another one"),
    ] {
        let error = failure(text);
        let said = error.to_string();
        let expected = if why == "the next line is another one" && text.contains("< {x}\n> b") { 5 } else { line };
        assert!(said.contains(&format!("/x.dlg:{expected}`: ")) && said.contains(why), "{text}: {said}");
    }
}

#[test]
fn a_report_shows_the_file_what_came_and_the_transcript() {
    let error = failure(
        "# A comment.\n$ sh -c 'echo \"name? \"; read n; printf \"hi \\033$n\\n\"'\n< name? \n> Bob\n< hello Bob\n",
    );
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let report = format!("{error:?}");
    for part in [
        "/x.dlg:5`: failed to expect line `hello Bob` from `sh`: the next line is another one\n  dialogue   /",
        "\n      2 | $ sh -c 'echo \"name? \"; read n; printf \"hi \\033$n\\n\"'\n      3 | < name? \n      4 | > Bob\n    - 5 | < hello Bob\n    +   | < hi \\x1bBob\n",
        "\n  expected   `hello Bob`\n  got        `hi \\x1bBob`\n",
        "transcript (last",
        "in  | Bob",
        "help: FOSTER_BLESS=1",
    ] {
        assert!(report.contains(part), "no `{part}` in:\n{report}");
    }
    let report = format!("{:?}", failure("$ false\n"));
    assert!(report.contains("      1 | $ false\n    +   | ? 1\n"), "{report}");
    assert!(!format!("{:?}", failure("$ /no/such/program\n")).contains("FOSTER_BLESS"));
}

#[test]
fn a_very_long_line_is_shown_by_its_ends() {
    let error = failure("$ sh -c 'head -c 300000 /dev/zero | tr \"\\0\" x; echo'\n< xxxx\n");
    let report = format!("{error:?}");
    assert!(report.contains("...(299600 characters)...") && report.len() < 10_000, "{} bytes", report.len());
}

#[test]
fn a_syntax_error_names_file_line_and_column_and_runs_nothing() {
    let scratch = scratch("$ touch made\n< x\n<y\n");
    let error = scratch.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Syntax);
    let place = format!("failed to read dialogue `{}:3:2`: expected a space after `<`", scratch.path.display());
    assert_eq!(error.to_string(), place);
    assert!(format!("{error:?}").contains("\n    3 | <y\n      |  ^\n"), "{error:?}");
    let error = failure("# Only a comment.\n");
    assert!(error.kind() == ErrorKind::Syntax && error.to_string().contains("x.dlg:2:1"), "{error}");
    let error = DialogueFile::new("no/such/file.dlg").check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn each_dialogue_runs_in_a_directory_of_its_own_that_goes() -> Result {
    let scratch = scratch(
        "$ sh -c 'pwd; touch x; ls'\n< {dir}\n< x\n$ sh -c 'ls; pwd; ls {dir} || echo gone'\n< {other}\n!...\n< gone\n",
    );
    scratch.check()?;
    assert_eq!(std::fs::read_dir(scratch.dir.path()).unwrap().count(), 1, "nothing was made beside the file");
    Ok(())
}

#[test]
fn programs_and_variables_can_be_given() -> Result {
    let scratch =
        scratch("$ tool\n< hello\n$ sh -c 'echo $GREETING'\n< hello\n$ GREETING=bye sh -c 'echo $GREETING'\n< bye\n");
    std::fs::write(scratch.dir.path().join("t"), "#!/bin/sh\necho hello\n").unwrap();
    std::fs::set_permissions(scratch.dir.path().join("t"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = DialogueFile::new(&scratch.path).env("GREETING", "hello");
    assert_eq!(file.check().unwrap_err().kind(), ErrorKind::Spawn);
    file.program("tool", scratch.dir.path().join("t")).check()
}

#[test]
fn a_program_that_goes_on_talking_for_ever_is_too_late() {
    let began = std::time::Instant::now();
    let error = failure("$ sh -c 'while :; do echo y; done'\n...\n< n\n");
    assert!(error.is_timeout(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Blesses it, and what it is then; a second time nothing changes, and it passes.
#[track_caller]
fn blessed(text: &str) -> String {
    let scratch = scratch(text);
    let output = scratch.bless(None);
    assert!(output.status.success(), "{}", stderr(&output));
    let first = scratch.text();
    let said = stderr(&output);
    assert_eq!(said.contains(&format!("foster: blessed `{}`: ", scratch.path.display())), first != text, "{said}");
    let inode = std::fs::metadata(&scratch.path).unwrap().ino();
    let output = scratch.bless(None);
    assert!(output.status.success() && !stderr(&output).contains("blessed"), "{}", stderr(&output));
    assert_eq!(scratch.text(), first, "the second time");
    assert_eq!(std::fs::metadata(&scratch.path).unwrap().ino(), inode, "a file that passes is not written again");
    scratch.check().unwrap();
    first
}

#[test]
fn a_new_file_needs_only_what_is_sent() {
    let program = "printf \"name? \"; while read n; do echo \"hello $n\"; echo \"log $n\" >&2; printf \"name? \"; done; echo; exit 2";
    let text = format!("$ sh -c '{program}'\n> Bob\n\n# Somebody else.\n> Ann\n");
    let expected = format!(
        "$ sh -c '{program}'\n<~ name?\\x20\n> Bob\n< hello Bob\n<~ name?\\x20\n! log Bob\n\n# Somebody else.\n> Ann\n< hello Ann\n< name?\\x20\n! log Ann\n? 2\n"
    );
    assert_eq!(blessed(&text), expected);
}

#[test]
fn only_what_differs_is_rewritten() {
    let program = "sh -c 'echo one; echo two $$; echo three; seq 50; echo end; echo warn >&2; exit 1'";
    let text = format!(
        "# Head.\n\n$ true\n$ {program}\n# About one.\n< one\n# About two.\n< two {{pid}}\n# About drei.\n< drei\n...\n# Gone.\n< 49\n< fifty\n< end\n! warn\n! more\n\n? 0\n# Tail.\n\n$ echo a\n< [..]"
    );
    let expected = format!(
        "# Head.\n\n$ true\n$ {program}\n# About one.\n< one\n# About two.\n< two {{pid}}\n# About drei.\n< three\n...\n# Gone.\n< 49\n< 50\n< end\n! warn\n\n? 1\n# Tail.\n\n$ echo a\n< [..]"
    );
    assert_eq!(blessed(&text), expected);
    // The control: what passes stays, however it is written.
    let text = "$ echo 'x  y'\n< x[..]y\n#  c \n   \n? 0";
    assert_eq!(blessed(text), text);
}

/// A prompt is the last thing before something is sent, and no `...` hides it.
#[test]
fn a_prompt_is_never_covered_by_any_lines() {
    let program = "sh -c 'seq 3; printf \"? \"; read x; echo got $x'";
    let text = format!("$ {program}\n< one\n...\n> y\n< [..]y\n");
    assert_eq!(blessed(&text), format!("$ {program}\n< 1\n...\n<~ ?\\x20\n> y\n< [..]y\n"));
    let text = format!("$ {program}\n...\n< 2\n<~ ? \n...\n> y\n< got\n");
    assert_eq!(failure(&text).kind(), ErrorKind::Syntax);
}

#[test]
fn what_is_written_means_itself() {
    let program = "sh -c 'printf \"{a} [..] \\\\\\\\x41 \\033 \\377\\n\\n  x \\n\\\\\\\\t\"'";
    let expected = format!("$ {program}\n< {{{{a}}}} [[..]] \\\\x41 \\x1b \\xff\n<\n<   x\\x20\n<~ \\t\n");
    assert_eq!(blessed(&format!("$ {program}\n")), expected);
}

#[test]
fn line_endings_and_the_end_of_the_file_are_kept() {
    assert_eq!(blessed("$ seq 2\r\n< 1\r\n"), "$ seq 2\r\n< 1\r\n< 2\r\n");
    assert_eq!(blessed("$ seq 2"), "$ seq 2\n< 1\n< 2\n");
    assert_eq!(blessed("$ seq 2\n< 1\n< 3"), "$ seq 2\n< 1\n< 2\n");
}

#[test]
fn a_file_that_is_blessed_keeps_its_permissions_and_its_link() {
    let scratch = scratch("$ echo a\n");
    std::fs::set_permissions(&scratch.path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let real = scratch.dir.path().join("real.dlg");
    std::fs::rename(&scratch.path, &real).unwrap();
    std::os::unix::fs::symlink("real.dlg", &scratch.path).unwrap();
    let before = std::fs::metadata(&real).unwrap();
    let output = scratch.bless(None);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::symlink_metadata(&scratch.path).unwrap().is_symlink());
    let after = std::fs::metadata(&real).unwrap();
    assert_eq!(after.mode() & 0o777, 0o640);
    // Another file has taken its place: nobody can ever have seen half of it.
    assert_ne!(after.ino(), before.ino());
    assert_eq!(std::fs::read_to_string(&real).unwrap(), "$ echo a\n< a\n");
    assert_eq!(std::fs::read_dir(scratch.dir.path()).unwrap().count(), 2, "nothing else is left");
}

/// Nothing is written, nothing is left, and the reason is told.
#[track_caller]
fn assert_not_blessed(text: &str, ci: Option<&str>, why: &str) {
    let scratch = scratch(text);
    let output = scratch.bless(ci);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
    assert_eq!(scratch.text(), text);
    assert_eq!(std::fs::read_dir(scratch.dir.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn nothing_is_blessed_where_nobody_looks() {
    assert_not_blessed("$ echo a\n", Some("true"), "CI is set as well");
    assert_not_blessed("$ echo a\n< a\n", Some("1"), "CI is set as well");
    // The control: an empty or negative value is none.
    for ci in [None, Some(""), Some("false"), Some("0")] {
        let scratch = scratch("$ echo a\n");
        assert!(scratch.bless(ci).status.success());
        assert_eq!(scratch.text(), "$ echo a\n< a\n");
    }
}

#[test]
fn what_cannot_be_blessed_is_left_alone() {
    assert_not_blessed("$ sh -c 'echo $$'\n", None, "something else the second time");
    assert_not_blessed("$ sh -c 'echo a; exec sleep 30'\n", None, "it has not ended within");
    assert_not_blessed(
        "$ sh -c 'while read x; do :; done; while :; do echo y; done'\n> a\n",
        None,
        "it has not ended within",
    );
    assert_not_blessed("$ /no/such/program\n", None, "failed to spawn");
    assert_not_blessed("$ echo a\n<b\n", None, "expected a space");
    // The line that captured the name goes, but another one needs it.
    assert_not_blessed("$ cat\n> a\n< {x} b\n> {x}\n< {x}\n", None, "{x} has no value");
    let needed = "$ cat\n> a\n< {x} b\n\n$ cat\n> {x}\n< {x}\n";
    assert_not_blessed(needed, None, "a line that other lines need is gone, and nothing was written: failed to read");
    // The second dialogue cannot be blessed, so the first is not either: a file is written as a whole.
    assert_not_blessed("$ echo a\n$ sh -c 'echo $$'\n", None, "something else the second time");
}

/// A project with foster as its dev-dependency, in which the files are tests.
fn trial() -> (tempfile::TempDir, impl Fn(&[&str]) -> Output) {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let manifest = format!(
        "[package]\nname = \"trial\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dev-dependencies]\n\
         foster = {{ path = \"{}\", features = [\"dialogues\"] }}\n\n[[test]]\nname = \"dialogues\"\nharness = false\n",
        root.display()
    );
    file("Cargo.toml", &manifest);
    file("src/main.rs", "fn main() { println!(\"up {}\", std::env::args().count()); }\n");
    file("tests/dialogues.rs", "foster::dialogues!(\"tests/dialogue/**/*.dlg\", \"trial\");\n");
    file("tests/dialogue/good.dlg", "$ trial a b\n< up 3\n");
    file("tests/dialogue/deep/good.dlg", "$ sh -c 'read x; echo $x'\n> deep\n< deep\n");
    file("tests/dialogue/bad.dlg", "$ trial\n< up 3\n");
    std::fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    let project = dir.path().to_owned();
    let cargo = move |args: &[&str]| {
        let mut command = crate::cargo::command();
        // What is built is the same each time, so it stays for the next run.
        command.current_dir(&project).env("CARGO_TARGET_DIR", root.join("target/trial-dialogues"));
        // The guardian is there without libtest's harness, too.
        drop(foster::Fixture::command("true").spawn().unwrap());
        let level = if foster::level() >= Some(foster::Level::L2) { "L2" } else { "L1" };
        command.env("FOSTER_REQUIRE", level).env_remove("FOSTER_BLESS").args(args).output().unwrap()
    };
    (dir, cargo)
}

#[test]
fn every_file_is_a_test_for_cargo_and_for_nextest() {
    let (dir, cargo) = trial();
    let said = |output: &Output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    let test = |args: &[&str]| cargo(&[&["test", "--quiet", "--test", "dialogues", "--"], args].concat());
    let list = test(&["--list", "--format", "terse"]);
    assert!(list.status.success(), "{}", said(&list));
    assert_eq!(String::from_utf8_lossy(&list.stdout), "bad.dlg: test\ndeep/good.dlg: test\ngood.dlg: test\n");
    let all = test(&[]);
    assert_eq!(all.status.code(), Some(101), "{}", said(&all));
    for part in [
        "2 passed; 1 failed",
        "failed dialogue `tests/dialogue/bad.dlg:2`",
        "    +   | < up 1\n",
        "help: FOSTER_BLESS=1",
    ] {
        assert!(said(&all).contains(part), "no `{part}` in:\n{}", said(&all));
    }
    let good = test(&["good"]);
    assert!(good.status.success() && said(&good).contains("2 passed; 0 failed"), "{}", said(&good));
    assert!(said(&all).contains("spawned at tests/dialogues.rs:1:1"), "{}", said(&all));
    let exact = test(&["--exact", "good.dlg"]);
    assert!(exact.status.success() && said(&exact).contains("1 passed; 0 failed"), "{}", said(&exact));
    if have("cargo-nextest") {
        let nextest =
            |args: &[&str]| cargo(&[&["nextest", "run", "--test", "dialogues", "--no-fail-fast"], args].concat());
        let all = nextest(&[]);
        assert_eq!(all.status.code(), Some(100), "{}", said(&all));
        let part = "3 tests run: 2 passed, 1 failed";
        assert!(
            said(&all).contains(part) && said(&all).contains("FAIL") && said(&all).contains("trial::dialogues bad.dlg"),
            "{}",
            said(&all)
        );
        let good = nextest(&["-E", "test(=deep/good.dlg)"]);
        assert!(good.status.success() && said(&good).contains("1 test run: 1 passed"), "{}", said(&good));
    }
    // And blessed, all are good.
    let mut command = crate::cargo::command();
    command.current_dir(dir.path()).args(["test", "--quiet", "--test", "dialogues"]);
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trial-dialogues"));
    let blessed = command.env("FOSTER_BLESS", "1").env_remove("CI").output().unwrap();
    assert!(blessed.status.success(), "{}", said(&blessed));
    assert!(
        said(&blessed).contains("foster: blessed `tests/dialogue/bad.dlg`: 1 line written, 1 line removed"),
        "{}",
        said(&blessed)
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("tests/dialogue/bad.dlg")).unwrap(), "$ trial\n< up 1\n");
    // A pattern that names no file is no success.
    std::fs::remove_dir_all(dir.path().join("tests/dialogue")).unwrap();
    let none = test(&[]);
    assert!(!none.status.success() && said(&none).contains("no dialogue is tested"), "{}", said(&none));
}
