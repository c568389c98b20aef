//! Which part of the suite this is: as the options, nextest's `--partition` or Bazel's environment say it.

use super::Options;
use super::facts::Shard;

/// The shard of a run, if it is one. The error is that two of them say different things.
pub(super) fn of(options: &Options) -> Result<Option<Shard>, String> {
    let number = |name: &str| std::env::var(name).ok();
    let bazel = bazel(number("TEST_SHARD_INDEX").as_deref(), number("TEST_TOTAL_SHARDS").as_deref());
    let args = options.args.iter().map(|word| word.to_string_lossy().into_owned());
    // Without cargo, an archive is run by `cargo-nextest nextest run`.
    let knows_partitions = options.is_cargo || std::path::Path::new(&options.program).ends_with("cargo-nextest");
    let partition = if knows_partitions { partition(args) } else { None };
    match (options.shard, partition) {
        (Some(given), Some(partition)) if given != partition => Err(format!(
            "`--shard {given}` is said, and the suite's `--partition` says {partition}; leave `--shard` out"
        )),
        (given, partition) => Ok(given.or(partition).or(bazel)),
    }
}

/// `--partition hash:1/4`, and the like: `count`, `slice`.
fn partition(args: impl Iterator<Item = String>) -> Option<Shard> {
    let mut args = args.take_while(|word| word != "--");
    while let Some(word) = args.next() {
        let value = match word.strip_prefix("--partition") {
            Some("") => args.next()?,
            Some(rest) => rest.strip_prefix('=')?.to_owned(),
            None => continue,
        };
        let (index, count) = value.split_once(':')?.1.split_once('/')?;
        return checked(index.parse().ok()?, count.parse().ok()?);
    }
    None
}

/// `TEST_SHARD_INDEX` counts from 0.
fn bazel(index: Option<&str>, count: Option<&str>) -> Option<Shard> {
    checked(index?.parse::<u32>().ok()?.checked_add(1)?, count?.parse().ok()?)
}

fn checked(index: u32, count: u32) -> Option<Shard> {
    (1..=count).contains(&index).then_some(Shard { index, count })
}

/// Are these the same suite, but for the shard? Then what to call it: what differs is a star.
///
/// Numbers may differ that are each shard's own, from 0 or from 1: `hash:1/4` and `hash:2/4`, `--shard-index 0` and `1`.
pub(super) fn common(one: (&str, Shard), other: (&str, Shard)) -> Option<String> {
    let (a, b) = (pieces(one.0), pieces(other.0));
    if a.len() != b.len() {
        return None;
    }
    let own = |piece: &str, shard: Shard| Some(piece.parse::<i64>().ok()? - i64::from(shard.index));
    let mut words = String::new();
    for (a, b) in a.into_iter().zip(b) {
        if a == b {
            words += a;
        } else {
            let (x, y) = (own(a, one.1)?, own(b, other.1)?);
            if x != y || !(-1..=0).contains(&x) {
                return None;
            }
            words.push('*');
        }
    }
    Some(words)
}

/// Numbers, and what is between them.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: u32, count: u32) -> Shard {
        Shard { index, count }
    }

    #[test]
    fn nextest_and_bazel_say_which_shard_it_is() {
        let of = |line: &str| partition(line.split(' ').map(str::to_owned));
        assert_eq!(of("nextest run --partition hash:2/4"), Some(shard(2, 4)));
        assert_eq!(of("nextest run --partition=slice:1/1 x"), Some(shard(1, 1)));
        for line in ["nextest run", "nextest run --partition hash:5/4", "test -- --partition hash:1/2", "x --partition"]
        {
            assert_eq!(of(line), None, "{line}");
        }
        assert_eq!(bazel(Some("0"), Some("3")), Some(shard(1, 3)));
        assert_eq!(bazel(Some("3"), Some("3")), None);
        assert_eq!(bazel(Some("0"), None), None);
    }

    #[test]
    fn two_that_say_it_have_to_agree() {
        let options = Options::cargo(["nextest", "run", "--partition", "hash:1/2"]);
        assert_eq!(super::of(&options), Ok(Some(shard(1, 2))));
        assert_eq!(super::of(&options.clone().shard(1, 2)), Ok(Some(shard(1, 2))));
        let said = "`--shard 2/2` is said, and the suite's `--partition` says 1/2; leave `--shard` out";
        assert_eq!(super::of(&options.shard(2, 2)), Err(said.to_owned()));
    }

    #[test]
    fn suites_are_the_same_but_for_the_shard() {
        let (first, second) = (shard(1, 4), shard(2, 4));
        for (one, other, expected) in [
            ("run hash:1/4", "run hash:2/4", Some("run hash:*/4")),
            ("run -i 0 -n 4", "run -i 1 -n 4", Some("run -i * -n 4")),
            ("run -j1 hash:1/4", "run -j1 hash:2/4", Some("run -j1 hash:*/4")),
            ("make check", "make check", Some("make check")),
            ("run -j3 hash:1/4", "run -j4 hash:2/4", None),
            ("run hash:1/4", "run slice:2/4", None),
            ("test", "nextest run", None),
            ("run hash:1/4", "run hash:1/4 x", None),
        ] {
            assert_eq!(common((one, first), (other, second)).as_deref(), expected, "{one} | {other}");
        }
    }
}
