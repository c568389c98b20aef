//! The command that runs a test again under the check, as it is typed.

use std::path::Path;

use crate::leakcheck::TestId;
use crate::leakcheck::suite::{Suite, quoted};

pub(super) fn command(suite: &Suite, test: &TestId) -> Option<String> {
    // Who does not know its binary cannot choose it.
    if test.binary.is_empty() || test.name.is_empty() {
        return None;
    }
    let words = suite.again(&test.binary, &test.name)?;
    let words: Vec<String> = words.iter().map(|w| quoted(&w.to_string_lossy())).collect();
    let args: Vec<String> = std::env::args().take(2).collect();
    let (program, first) = (args.first().map_or("", String::as_str), args.get(1).map_or("", String::as_str));
    Some(format!("{} -- {}", started_as(program, first), words.join(" ")))
}

/// How this process is started by hand.
fn started_as(program: &str, first: &str) -> String {
    let name = Path::new(program).file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    match name.strip_prefix("cargo-") {
        Some(subcommand) => format!("cargo {subcommand} leakcheck"),
        // What adoption has set up, as a package or as an example.
        None if name == "xtask" => "cargo xtask leakcheck".to_owned(),
        None if first == "leakcheck" => format!("{} leakcheck", quoted(program)),
        None => quoted(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::Options;

    #[test]
    fn it_begins_as_the_check_was_started() {
        for (program, first, expected) in [
            ("/x/target/debug/xtask", "leakcheck", "cargo xtask leakcheck"),
            ("target/debug/examples/xtask", "--grace", "cargo xtask leakcheck"),
            ("/home/me/.cargo/bin/cargo-foster", "foster", "cargo foster leakcheck"),
            ("/opt/my tools/dev", "leakcheck", "'/opt/my tools/dev' leakcheck"),
            ("./check", "--", "./check"),
        ] {
            assert_eq!(started_as(program, first), expected);
        }
    }

    #[test]
    fn it_chooses_one_test_and_keeps_what_built_it() {
        let test = TestId { binary: "shop::it".into(), name: "orders::are_kept".into(), attempt: 2 };
        let of = |args: &[&str], test: &TestId| {
            let suite = Suite::understand(&Options::cargo(args.iter().copied()));
            let whole = command(&suite, test)?;
            Some(whole.split_once(" -- ").unwrap().1.to_owned())
        };
        assert_eq!(
            of(&["nextest", "run", "--release"], &test).unwrap(),
            "nextest run --release -E 'binary_id(=shop::it) & test(=orders::are_kept)'"
        );
        // Without a listing, all that is known of the binary is its name.
        let doc = TestId { binary: "shop::doc".into(), name: "src/lib.rs - shop (line 3)".into(), attempt: 1 };
        assert_eq!(
            of(&["+nightly", "test", "--workspace", "--features", "x", "shop", "--", "--ignored", "--nocapture"], &doc)
                .unwrap(),
            "+nightly test --features x -p shop --doc -- --ignored '3)'"
        );
        assert_eq!(of(&["bench"], &test), None);
        assert_eq!(of(&["test"], &TestId { binary: String::new(), ..test }), None);
    }
}
