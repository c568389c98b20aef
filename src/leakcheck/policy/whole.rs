//! Did the whole suite run? Only then does an allowance that matched nothing say anything.

use crate::leakcheck::Options;

/// Arguments of cargo and of nextest that change how tests are run, not which.
const HARMLESS: [&str; 33] = [
    "--workspace",
    "--all",
    "--all-targets",
    "--all-features",
    "--no-default-features",
    "--release",
    "-r",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "-vv",
    "--no-fail-fast",
    "--no-ff",
    "--locked",
    "--offline",
    "--frozen",
    "--no-capture",
    "--nocapture",
    "--color",
    "--retries",
    "--test-threads",
    "--jobs",
    "--build-jobs",
    "-j",
    "--features",
    "-F",
    "--cargo-profile",
    "--target-dir",
    "--archive-file",
    "--workspace-remap",
    "--extract-to",
    "--hide-progress-bar",
];

/// Those of them whose value may be the next word.
const WITH_VALUE: [&str; 12] = [
    "--color",
    "--retries",
    "--test-threads",
    "--jobs",
    "--build-jobs",
    "-j",
    "--features",
    "-F",
    "--cargo-profile",
    "--target-dir",
    "--archive-file",
    "--workspace-remap",
];

/// Would this command line run every test, but for its partition?
///
/// What is not known to be harmless may be a filter. A command that is not cargo's is taken for the whole.
pub(super) fn is_whole(options: &Options) -> bool {
    if !options.is_cargo {
        return true;
    }
    let mut words: Vec<String> = options.args.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let commands: &[&str] = match words.first().map(String::as_str) {
        Some("nextest") => &["nextest", "run"],
        Some("test") => &["test"],
        Some("t") => &["t"],
        _ => return false,
    };
    if words.len() < commands.len() || words[..commands.len()] != *commands {
        return false;
    }
    let mut words = words.drain(commands.len()..);
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, _)) => (name, true),
            None => (word.as_str(), false),
        };
        let with_value = WITH_VALUE.contains(&name) || name == "--partition" || name == "--extract-to";
        let glued = name.strip_prefix("-j").is_some_and(|n| !n.is_empty() && n.parse::<u32>().is_ok());
        if !(HARMLESS.contains(&name) || name == "--partition" || glued) {
            return false;
        }
        if with_value && !inline {
            words.next();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_makes_it_a_part() {
        for (line, expected) in [
            ("test", true),
            ("test --workspace --all-features -j 2", true),
            ("test -j2 --features a,b --color=always", true),
            ("nextest run --archive-file a.tar.zst --partition hash:1/2 --workspace-remap .", true),
            ("nextest run --partition=hash:1/2 --no-fail-fast", true),
            ("test orders", false),
            ("test --lib", false),
            ("test -p shop", false),
            ("test -- --ignored", false),
            ("test --jobs", true),
            ("nextest run -E test(x)", false),
            ("nextest run --profile ci", false),
            ("nextest list", false),
            ("nextest", false),
            ("bench", false),
        ] {
            assert_eq!(is_whole(&Options::cargo(line.split(' '))), expected, "{line}");
        }
        assert!(is_whole(&Options::command("make", ["check", "-j"])));
    }
}
