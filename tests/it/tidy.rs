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
        ("src/transcript.rs", &["crate::"]),
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

#[test]
fn markdown_has_one_sentence_per_line() {
    for file in [
        "README.md",
        "fixtures/README.md",
        "src/docs/architecture.md",
        "src/docs/containment.md",
        "src/docs/gotchas.md",
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
