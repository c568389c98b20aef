//! Packages of every shape, before and after.

use std::fs;
use std::path::Path;

use super::*;

/// A package with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        put(&dir.path().join(name), text).unwrap();
    }
    dir
}

fn all(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                next.push(entry)
            } else {
                found.push((entry.clone(), fs::read_to_string(entry).unwrap()))
            }
        }
    }
    found.sort();
    found
}

/// Runs `init` twice; what it said first. The second run has to change nothing.
fn twice(dir: &Path) -> (String, bool) {
    let first = init(dir);
    let files = all(dir);
    let second = init(dir);
    assert_eq!(all(dir), files, "the second run changes nothing: {}", second.0);
    assert_eq!(first.1, second.1, "{}", second.0);
    first
}

const PACKAGE: &str = "[package]\nname = \"shop\"\nversion = \"0.1.0\"\n";

#[test]
fn a_package_without_anything_gets_all_three() {
    let dir = project(&[("Cargo.toml", PACKAGE)]);
    let (said, complete) = twice(dir.path());
    assert!(complete, "{said}");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("examples/xtask.rs"), EXAMPLE);
    assert_eq!(read("Cargo.toml"), format!("{PACKAGE}\n[dev-dependencies]\n{}\n", manifest::dependency()));
    assert_eq!(read(".cargo/config.toml"), "[alias]\nxtask = \"run --quiet --example xtask --\"\n");
    assert_eq!(
        said,
        "leakcheck: changed Cargo.toml: the dev-dependency foster with the feature `leakcheck`\n\
         leakcheck: written examples/xtask.rs: its main is the leak check\n\
         leakcheck: written .cargo/config.toml: the alias `xtask`\n\
         leakcheck: `cargo xtask leakcheck` runs the tests under the leak check now; --help says what else it can do\n"
    );
}

#[test]
fn what_people_wrote_stays_as_it_is() {
    let feature = "features = [\"leakcheck\"]";
    let own = manifest::dependency();
    for (before, after) in [
        ("[dev-dependencies]\n", format!("[dev-dependencies]\n{own}\n")),
        (
            "[dev-dependencies] # ours\na = \"1\" # why\n\n# the rest\n[features]\nx = []\n",
            format!("[dev-dependencies] # ours\na = \"1\" # why\n{own}\n\n# the rest\n[features]\nx = []\n"),
        ),
        ("[dev-dependencies]\na = [\n\"1\" ]", format!("[dev-dependencies]\na = [\n\"1\" ]\n{own}\n")),
        ("[dev-dependencies]\r\na = \"1\"\r\n", format!("[dev-dependencies]\r\na = \"1\"\r\n{own}\r\n")),
        (
            "[dev-dependencies]\nfoster = '0.1'\n",
            format!("[dev-dependencies]\nfoster = {{ version = '0.1', {feature} }}\n"),
        ),
        (
            "[dev-dependencies]\nfoster = { path = \"../foster\" } # near\n",
            format!("[dev-dependencies]\nfoster = {{ path = \"../foster\", {feature} }} # near\n"),
        ),
        (
            "[dev-dependencies]\nfoster = { version = \"0.1\", features = [\"screen\", ] }\n",
            "[dev-dependencies]\nfoster = { version = \"0.1\", features = [\"screen\", \"leakcheck\", ] }\n".to_owned(),
        ),
        (
            "[dev-dependencies]\nfoster = { version = \"0.1\", features = [] }\n",
            "[dev-dependencies]\nfoster = { version = \"0.1\", features = [\"leakcheck\"] }\n".to_owned(),
        ),
        (
            "[dev-dependencies.foster]\nversion = \"0.1\"\n\n[features]\n",
            format!("[dev-dependencies.foster]\n{feature}\nversion = \"0.1\"\n\n[features]\n"),
        ),
        (
            "[dev-dependencies]\nfoster.workspace = true\nz = \"1\"\n",
            format!("[dev-dependencies]\nfoster.workspace = true\nz = \"1\"\nfoster.{feature}\n"),
        ),
        (
            "[dev-dependencies.a]\nversion = \"1\"\n",
            format!("[dev-dependencies.a]\nversion = \"1\"\n\n[dev-dependencies]\n{own}\n"),
        ),
        (
            "[dependencies]\nfoster = \"0.1\"\n",
            format!("[dependencies]\nfoster = \"0.1\"\n\n[dev-dependencies]\n{own}\n"),
        ),
    ] {
        let dir = project(&[("Cargo.toml", &format!("{PACKAGE}{before}"))]);
        let (said, complete) = twice(dir.path());
        assert!(complete, "{before}: {said}");
        assert_eq!(fs::read_to_string(dir.path().join("Cargo.toml")).unwrap(), format!("{PACKAGE}{after}"), "{before}");
    }
}

#[test]
fn what_is_there_is_left_alone() {
    let has = "[dev-dependencies]\nfoster = { version = \"0.1\", features = [\"leakcheck\"] }\n";
    for dependency in [has.to_owned(), has.replace("dev-", "")] {
        let dir = project(&[
            ("Cargo.toml", &format!("{PACKAGE}{dependency}")),
            ("examples/xtask.rs", "fn main() { foster::leakcheck::main(); }"),
            (".cargo/config.toml", "[alias]\nxtask = [\"run\", \"--quiet\", \"--example\", \"xtask\", \"--\"]\n"),
        ]);
        let before = all(dir.path());
        let (said, complete) = twice(dir.path());
        assert!(complete && all(dir.path()) == before, "{said}");
        assert_eq!(said.matches("leakcheck: there   ").count(), 3, "{said}");
    }
}

#[test]
fn another_example_of_that_name_is_left_and_the_arm_is_told() {
    let dir = project(&[("Cargo.toml", PACKAGE), ("examples/xtask.rs", "fn main() {}\n")]);
    let (said, complete) = twice(dir.path());
    assert!(!complete && said.contains("leakcheck: left    examples/xtask.rs: it is yours; "), "{said}");
    assert!(said.contains(ARM), "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("examples/xtask.rs")).unwrap(), "fn main() {}\n");
}

#[test]
fn an_xtask_that_is_there_gets_one_more_arm_by_hand() {
    for place in [".cargo/config.toml", ".cargo/config", "../.cargo/config.toml"] {
        let outer = project(&[("shop/Cargo.toml", PACKAGE)]);
        let dir = outer.path().join("shop");
        put(&dir.join(place), "[alias]\nxtask = \"run --package xtask --\"\n").unwrap();
        let before = all(outer.path());
        let (said, complete) = twice(&dir);
        assert!(!complete && all(outer.path()) == before, "{said}");
        assert!(said.contains("there is an xtask already: `run --package xtask --`"), "{said}");
        assert!(said.contains(&manifest::dependency()) && said.contains(ARM), "{said}");
    }
}

#[test]
fn other_settings_of_cargos_stay() {
    for (before, after) in [
        ("[build]\njobs = 2\n", "[build]\njobs = 2\n\n[alias]\nxtask = \"run --quiet --example xtask --\"\n"),
        (
            "[alias]\nb = \"build\"\n\n[env]\n",
            "[alias]\nb = \"build\"\nxtask = \"run --quiet --example xtask --\"\n\n[env]\n",
        ),
    ] {
        let dir = project(&[("Cargo.toml", PACKAGE), (".cargo/config.toml", before)]);
        assert!(twice(dir.path()).1);
        assert_eq!(fs::read_to_string(dir.path().join(".cargo/config.toml")).unwrap(), after);
    }
}

#[test]
fn a_member_of_a_workspace_has_its_alias_at_the_root() {
    let dir = project(&[("Cargo.toml", "[workspace]\nmembers = [\"shop\"]\n"), ("shop/Cargo.toml", PACKAGE)]);
    let (said, complete) = twice(dir.path());
    assert!(!complete && said.contains("Cargo.toml is a workspace without a package of its own"), "{said}");
    assert_eq!(all(dir.path()).len(), 2, "nothing has been written");
    fs::create_dir(dir.path().join("shop/src")).unwrap();
    assert!(twice(&dir.path().join("shop/src")).1);
    let alias = fs::read_to_string(dir.path().join(".cargo/config.toml")).unwrap();
    assert_eq!(alias, "[alias]\nxtask = \"run --quiet --package shop --example xtask --\"\n");
    assert!(dir.path().join("shop/examples/xtask.rs").is_file());
}

#[test]
fn a_package_that_lists_its_examples_gets_one_more() {
    let dir = project(&[("Cargo.toml", &format!("{PACKAGE}autoexamples = false\n"))]);
    assert!(twice(dir.path()).1);
    let text = fs::read_to_string(dir.path().join("Cargo.toml")).unwrap();
    assert!(text.ends_with("\n[[example]]\nname = \"xtask\"\npath = \"examples/xtask.rs\"\n"), "{text}");
}

#[test]
fn where_it_cannot_be_done_nothing_is_done() {
    let dir = project(&[("Cargo.toml", "[package\n")]);
    let (said, complete) = twice(dir.path());
    assert!(!complete && said.starts_with("leakcheck: Cargo.toml: "), "{said}");
    // `dev-dependencies` cannot be a table of its own as well.
    let dir = project(&[("Cargo.toml", &format!("dev-dependencies = {{ a = \"1\" }}\n{PACKAGE}"))]);
    let (said, complete) = twice(dir.path());
    assert!(
        !complete && said.contains("leakcheck: left    Cargo.toml: it cannot be changed safely; add under"),
        "{said}"
    );
}
