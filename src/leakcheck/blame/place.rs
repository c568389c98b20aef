//! The line of a test's function, found in the sources of its package by its name; where that is not unique, nobody's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::leakcheck::{Place, TestId};

/// A package with more files than this, or a larger file, is generated.
const FILES: usize = 5_000;
const BYTES: u64 = 4 << 20;

/// Remembers the sources of each package.
#[derive(Debug)]
pub(super) struct Places {
    /// What paths are relative to.
    dir: PathBuf,
    sources: BTreeMap<PathBuf, Vec<(PathBuf, String)>>,
}

impl Places {
    pub(super) fn new(dir: PathBuf) -> Places {
        Places { dir, sources: BTreeMap::new() }
    }

    /// Where the test is, in the package in this directory.
    pub(super) fn of(&mut self, manifest_dir: &Path, test: &TestId) -> Option<Place> {
        let sources = self.sources.entry(manifest_dir.to_owned()).or_insert_with(|| sources(manifest_dir));
        let (file, line) = documented(&test.name)
            .map(|(file, line)| (below(manifest_dir, file), line))
            .or_else(|| function(sources, manifest_dir, test))?;
        let file = file.strip_prefix(&self.dir).map_or(file.clone(), Path::to_owned);
        Some(Place { file, line })
    }
}

/// rustdoc names files as cargo has named them to it: relative to the workspace, which is above the package.
fn below(manifest_dir: &Path, file: &str) -> PathBuf {
    let found = manifest_dir.ancestors().map(|dir| dir.join(file));
    let found = found.filter(|path| path.starts_with(manifest_dir)).find(|path| path.is_file());
    found.unwrap_or_else(|| manifest_dir.join(file))
}

/// `src/lib.rs - shop::orders (line 12)`
fn documented(name: &str) -> Option<(&str, u32)> {
    let (file, rest) = name.split_once(" - ")?;
    let (_, line) = rest.rsplit_once("(line ")?;
    Some((file, line.split(')').next()?.parse().ok()?))
}

fn function(sources: &[(PathBuf, String)], manifest_dir: &Path, test: &TestId) -> Option<(PathBuf, u32)> {
    // The cases of a parametrized test are modules of its name, or parts behind it.
    let name = test.name.rsplit("::").next()?;
    let mut found: Vec<(&PathBuf, u32)> = Vec::new();
    for (path, text) in sources {
        for (number, line) in text.lines().enumerate() {
            if declares(line, name) {
                found.push((path, u32::try_from(number + 1).ok()?));
            }
        }
    }
    // Each hint is followed only as long as it leaves somebody.
    let mut narrow = |hint: &dyn Fn(&Path) -> bool| {
        let fitting: Vec<_> = found.iter().copied().filter(|(path, _)| hint(path)).collect();
        if !fitting.is_empty() {
            found = fitting;
        }
    };
    let folder = match test.binary.split_once("::") {
        None => "src",
        Some((_, target)) if target.starts_with("bin/") => "src",
        Some((_, target)) if target.starts_with("bench/") => "benches",
        Some((_, target)) if target.starts_with("example/") => "examples",
        Some(_) => "tests",
    };
    narrow(&|path| path.starts_with(manifest_dir.join(folder)));
    if let Some((_, target)) = test.binary.split_once("::") {
        let target = target.rsplit('/').next().unwrap_or(target);
        narrow(&|path| path.components().any(|c| Path::new(c.as_os_str()).file_stem() == Some(target.as_ref())));
    }
    for module in test.name.rsplit("::").skip(1) {
        narrow(&|path| path.components().any(|c| Path::new(c.as_os_str()).file_stem() == Some(module.as_ref())));
    }
    match found.as_slice() {
        [(path, line)] => Some(((*path).clone(), *line)),
        _ => None,
    }
}

/// `fn are_kept(`, `async fn are_kept<T>(`; not in a comment.
fn declares(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("fn ").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let rest = code[at + 3..].trim_start().strip_prefix(name);
        before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
            && rest.is_some_and(|rest| rest.trim_start().starts_with(['(', '<']))
    })
}

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut next: Vec<PathBuf> = ["src", "tests", "benches", "examples"].iter().map(|d| dir.join(d)).collect();
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && entry.metadata().is_ok_and(|m| m.len() <= BYTES) {
                found.extend(fs::read_to_string(&path).ok().map(|text| (path, text)));
            }
            if found.len() > FILES {
                return Vec::new();
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[(&str, &str)], binary: &str, name: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = dir.path().join("shop").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let test = TestId { binary: binary.into(), name: name.into(), attempt: 1 };
        Places::new(dir.path().to_owned()).of(&dir.path().join("shop"), &test).map(|p| p.to_string())
    }

    #[test]
    fn a_name_that_is_there_once_is_found() {
        let file =
            "// fn are_kept() {}\n#[test]\nfn are_kept_long() {}\n#[test]\nasync fn are_kept () {}\nlet xfn are_kept()";
        assert_eq!(place(&[("tests/it.rs", file)], "shop::it", "are_kept").unwrap(), "shop/tests/it.rs:5");
        assert_eq!(place(&[("tests/it.rs", file)], "shop::it", "are_lost"), None);
    }

    #[test]
    fn of_several_the_one_in_its_module_is_meant() {
        let fun = "fn full() {}";
        let files = [
            ("src/lib.rs", fun),
            ("tests/it/main.rs", ""),
            ("tests/it/carts.rs", fun),
            ("tests/it/orders/mod.rs", fun),
        ];
        assert_eq!(place(&files, "shop", "tests::full").unwrap(), "shop/src/lib.rs:1");
        assert_eq!(place(&files, "shop::it", "carts::full").unwrap(), "shop/tests/it/carts.rs:1");
        assert_eq!(place(&files, "shop::it", "orders::full").unwrap(), "shop/tests/it/orders/mod.rs:1");
        assert_eq!(place(&files, "shop::it", "full"), None, "two may be meant");
        let two = [("tests/a.rs", "mod x { fn full() {} }\nmod y { fn full() {} }")];
        assert_eq!(place(&two, "shop::a", "x::full"), None);
    }

    #[test]
    fn a_documentation_test_says_it_itself() {
        let name = "src/orders.rs - orders::Order (line 12)";
        assert_eq!(place(&[], "shop::doc", name).unwrap(), "shop/src/orders.rs:12");
        // In a workspace rustdoc says it from there.
        let (files, name) = ([("src/orders.rs", "")], "shop/src/orders.rs - orders::Order (line 12)");
        assert_eq!(place(&files, "shop::doc", name).unwrap(), "shop/src/orders.rs:12");
    }
}
