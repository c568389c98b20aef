//! Which part of the suite this is: as the options, nextest's `--partition` or Bazel's environment say it.

use super::Options;
use super::facts::Shard;

/// The shard of a run, if it is one. The error is that two of them say different things.
pub(super) fn of(options: &Options) -> Result<Option<Shard>, String> {
    let number = |name: &str| std::env::var(name).ok();
    let bazel = bazel(number("TEST_SHARD_INDEX").as_deref(), number("TEST_TOTAL_SHARDS").as_deref());
    let args = options.args.iter().map(|word| word.to_string_lossy().into_owned());
    let partition = if options.is_cargo { partition(args) } else { None };
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

/// Options whose value is a place on one machine.
const PLACES: [&str; 7] = [
    "--archive-file",
    "--workspace-remap",
    "--extract-to",
    "--manifest-path",
    "--target-dir",
    "--config-file",
    "--target-dir-remap",
];

/// Are these the same suite, but for the shard and the machine? Then what to call it: what differs is a star.
///
/// Numbers may differ that are each shard's own, from 0 or from 1: `hash:1/4` and `hash:2/4`, `--shard-index 0` and `1`.
/// Files may be in different directories.
pub(super) fn common(one: (&str, Shard), other: (&str, Shard)) -> Option<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (one.0.split(' ').collect(), other.0.split(' ').collect());
    if a.len() != b.len() {
        return None;
    }
    let mut words = Vec::new();
    let mut place = false;
    for (a, b) in a.into_iter().zip(b) {
        words.push(match (a.split_once('='), b.split_once('=')) {
            _ if a == b => a.to_owned(),
            _ if place => "*".to_owned(),
            (Some((name, _)), Some((same, _))) if name == same && PLACES.contains(&name) => format!("{name}=*"),
            _ if is_same_file(a, b) => format!("*/{}", a.rsplit('/').next()?),
            _ => word((a, one.1), (b, other.1))?,
        });
        place = PLACES.contains(&a);
    }
    Some(words.join(" "))
}

fn is_same_file(a: &str, b: &str) -> bool {
    a.starts_with('/') && b.starts_with('/') && a.rsplit('/').next() == b.rsplit('/').next()
}

/// A word that is the same but for each shard's own number.
fn word(one: (&str, Shard), other: (&str, Shard)) -> Option<String> {
    let (a, b) = (pieces(one.0), pieces(other.0));
    if a.len() != b.len() {
        return None;
    }
    let own = |piece: &str, shard: Shard| Some(piece.parse::<i64>().ok()? - i64::from(shard.index));
    let mut word = String::new();
    for (a, b) in a.into_iter().zip(b) {
        if a == b {
            word += a;
        } else {
            let (x, y) = (own(a, one.1)?, own(b, other.1)?);
            if x != y || !(-1..=0).contains(&x) {
                return None;
            }
            word.push('*');
        }
    }
    Some(word)
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
            (
                "run --archive-file /a/x.tar --workspace-remap=/a hash:1/4",
                "run --archive-file b.tar --workspace-remap=/b hash:2/4",
                Some("run --archive-file * --workspace-remap=* hash:*/4"),
            ),
            ("/home/a/check.sh -q", "/home/b/check.sh -q", Some("*/check.sh -q")),
            ("/home/a/check.sh -q", "/home/b/test.sh -q", None),
            ("run --features a", "run --features b", None),
            ("test", "nextest run", None),
            ("run hash:1/4", "run hash:1/4 x", None),
        ] {
            assert_eq!(common((one, first), (other, second)).as_deref(), expected, "{one} | {other}");
        }
    }
}
