//! Invariants of the source that a machine can check.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders, with its text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut next: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).collect();
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    next.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 5, "{folders:?} hold hardly anything: the check would prove nothing");
    found
}

const ALL: [&str; 6] = ["src", "tests", "fixtures", "xtask", "examples", "benches"];

#[test]
fn every_file_says_first_what_it_is_for() {
    for (path, text) in sources(&ALL) {
        let first = text.lines().next().unwrap_or_default();
        // lib.rs shows the README.
        let ok = first.starts_with("//! ") || path == Path::new("src/lib.rs");
        assert!(ok, "{}: the first line is `{first}`", path.display());
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for (path, text) in sources(&ALL) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{}: {lines} lines; split it", path.display());
    }
}

#[test]
fn unsafe_code_and_platforms_are_known_to_sys_only() {
    for (path, text) in sources(&["src"]) {
        if path.starts_with("src/sys") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in ["unsafe ", "unsafe{", "cfg(target", "cfg(unix", "cfg(windows", "libc::"] {
                assert!(!code.contains(word), "{}:{}: `{word}`", path.display(), number + 1);
            }
        }
    }
}

/// Dependencies point one way: sys ► dialogue, registry ► guardian, hooks ► builder, fixture ► lib.
#[test]
fn imports_point_one_way() {
    let forbidden: [(&str, &[&str]); 4] = [
        ("src/dialogue", &["crate::guardian", "crate::registry", "crate::hooks", "crate::fixture", "crate::builder"]),
        ("src/transcript", &["crate::"]),
        ("src/registry.rs", &["crate::guardian", "crate::hooks", "crate::fixture", "crate::builder"]),
        ("src/leakcheck", &["crate::registry", "crate::guardian", "crate::fixture", "crate::dialogue", "crate::hooks"]),
    ];
    for (path, text) in sources(&["src"]) {
        for (place, words) in forbidden {
            if path.starts_with(place) {
                for (number, line) in text.lines().enumerate() {
                    let code = line.split("//").next().unwrap();
                    for word in words {
                        assert!(!code.contains(word), "{}:{}: {word}", path.display(), number + 1);
                    }
                }
            }
        }
    }
}

#[test]
fn no_test_synchronizes_by_sleeping() {
    let sleep = concat!("thread::", "sleep");
    for (path, text) in sources(&["tests", "src", "xtask", "examples"]) {
        assert!(!text.contains(sleep), "{}", path.display());
    }
}

#[test]
fn every_fixture_program_has_a_deadline_and_a_row_in_the_table() {
    let table = fs::read_to_string(root().join("fixtures/README.md")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (path, text) in sources(&["fixtures"]) {
        if path.starts_with("fixtures/leaky") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(table.contains(&format!("`{name}`")), "fixtures/README.md does not list `{name}`");
        if name != "deadline" {
            assert!(
                text.contains("deadline::arm();") || text.contains("libc::alarm(DEADLINE)"),
                "{}: no deadline",
                path.display()
            );
            assert!(manifest.contains(&format!("path = \"fixtures/{name}.rs\"")), "Cargo.toml does not know {name}");
        }
    }
}

/// A project of its own: its one program has the deadline, and its tests start nothing but that.
#[test]
fn the_suite_that_leaks_starts_one_program_that_has_a_deadline() {
    let starts = ["Command", "libc::fork(", "libc::clone(", "process::"];
    let (mut places, mut program) = (Vec::new(), String::new());
    for (path, text) in sources(&["fixtures/leaky"]) {
        if starts.iter().any(|word| text.lines().any(|line| line.split("//").next().unwrap().contains(word))) {
            places.push(path.display().to_string());
        }
        if path.ends_with("src/planted.rs") {
            program = text;
        }
    }
    places.sort();
    assert_eq!(places, ["fixtures/leaky/src/lib.rs", "fixtures/leaky/src/planted.rs"]);
    // Each process that it starts has one as well: an alarm is not inherited.
    let (armed, forks) = (program.matches("libc::alarm(DEADLINE)").count(), ["libc::fork()", "libc::clone("]);
    let forks: usize = forks.iter().map(|fork| program.matches(fork).count()).sum();
    assert!(forks > 0 && armed == forks + 1, "{armed} deadlines for {forks} ways to start a process and the first one");
    let lib = fs::read_to_string(root().join("fixtures/leaky/src/lib.rs")).unwrap();
    assert_eq!(lib.matches("Command::new").count(), 1, "the tests start one program");
    let manifest = fs::read_to_string(root().join("fixtures/leaky/Cargo.toml")).unwrap();
    assert!(
        manifest.contains("\n[workspace]\n") && !manifest.contains("foster =") && !manifest.contains("dependencies]")
    );
    let table = fs::read_to_string(root().join("fixtures/README.md")).unwrap();
    assert!(table.contains("`leaky`"), "fixtures/README.md does not list `leaky`");
}

/// The tests of a file, by name.
fn tests_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut names = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim_start) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
            names.push(rest.split('(').next().unwrap().to_owned());
            marked = false;
        }
    }
    names
}

/// The files that a module path may mean: `guardian` is a file of `tests/it`, `sys::linux::procfs::tests` one of `src`.
fn files_of(module: &str) -> [PathBuf; 3] {
    let path = module.replace("::", "/");
    let inner = path.strip_suffix("/tests").unwrap_or(&path);
    [
        root().join(format!("tests/it/{path}.rs")),
        root().join(format!("src/{inner}.rs")),
        root().join(format!("src/{inner}/mod.rs")),
    ]
}

/// What a page says in backticks as the name of a test, `module::name` or its beginning and `…`, and how many there are
/// with it. A beginning alone (`b7_…`) may be anywhere in `tests/it`.
fn tests_named(page: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in page.split('`').skip(1).step_by(2) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:…".contains(c);
        if !token.chars().all(plain) || !(token.contains("::") || token.ends_with('…')) {
            continue;
        }
        let (module, name) = token.rsplit_once("::").unwrap_or(("", token));
        let names: Vec<String> = if module.is_empty() {
            fs::read_dir(root().join("tests/it")).unwrap().flat_map(|e| tests_of(&e.unwrap().path())).collect()
        } else {
            files_of(module).iter().flat_map(|path| tests_of(path)).collect()
        };
        let fits = |test: &&String| name.strip_suffix('…').map_or(name == *test, |start| test.starts_with(start));
        found.push((token.to_owned(), names.iter().filter(fits).count()));
    }
    found
}

#[test]
fn every_test_that_a_page_names_exists() {
    for page in ["src/docs/containment.md", "src/docs/platforms.md"] {
        let named = tests_named(&fs::read_to_string(root().join(page)).unwrap());
        assert!(named.len() > 10, "{page} names hardly any test: the check would prove nothing");
        for (token, tests) in named {
            assert!(tests > 0, "{page}: there is no test `{token}`");
        }
    }
}

/// The control: what does not exist is not found, and what does is.
#[test]
fn a_test_that_does_not_exist_is_not_found() {
    let page = "`endings::b1_return`, `endings::b8_…`, `b7_…`, `guardian::protocol::tests::every_frame_comes_back_as_it_was`, \
                `leakcheck::running`, `endings::b1_`, `endings::b99_…`, `no_module::b1_return`, `zz_…`, `no test`, `bombs`";
    let found: Vec<(String, bool)> = tests_named(page).into_iter().map(|(token, tests)| (token, tests > 0)).collect();
    let expected = [
        ("endings::b1_return", true),
        ("endings::b8_…", true),
        ("b7_…", true),
        ("guardian::protocol::tests::every_frame_comes_back_as_it_was", true),
        ("leakcheck::running", false),
        ("endings::b1_", false),
        ("endings::b99_…", false),
        ("no_module::b1_return", false),
        ("zz_…", false),
    ];
    assert_eq!(found, expected.map(|(token, there)| (token.to_owned(), there)));
}

#[test]
fn markdown_has_one_sentence_per_line() {
    for file in [
        "README.md",
        "fixtures/README.md",
        "src/docs/architecture.md",
        "src/docs/containment.md",
        "src/docs/dialogue-files.md",
        "src/docs/gotchas.md",
        "src/docs/leakcheck.md",
        "src/docs/performance.md",
        "src/docs/platforms.md",
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            code ^= line.trim_start().starts_with("```");
            if !code && !line.starts_with('|') {
                let two = line.match_indices(". ").any(|(at, _)| {
                    let next = line[at + 2..].chars().next();
                    next.is_some_and(char::is_uppercase)
                });
                assert!(!two, "{file}:{}: more than one sentence", number + 1);
            }
        }
    }
}
