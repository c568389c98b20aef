//! Which lines of a dialogue stay when the program says something else: as many as possible.

/// What is compared.
pub(super) trait Pairs {
    /// How many lines there are in the file, and how many pieces the program has said.
    fn counts(&self) -> (usize, usize);
    /// Does this line of the file stand for any number of lines?
    fn is_rest(&self, line: usize) -> bool;
    /// Does this line of the file say this piece?
    fn fits(&self, line: usize, piece: usize) -> bool;
    /// May a line that stands for any number of lines cover this piece?
    fn can_be_covered(&self, piece: usize) -> bool;
}

/// What to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This line stays.
    Keep(usize),
    /// This line goes.
    Drop(usize),
    /// This piece is written.
    Write(usize),
    /// This piece is covered by the line before that stands for any number of lines.
    Cover(usize),
}

/// How many comparisons are worth it; beyond that everything is written anew.
const MOST: usize = 4_000_000;

/// The steps that keep the most.
pub(super) fn steps(pairs: &impl Pairs) -> Vec<Step> {
    let (lines, pieces) = pairs.counts();
    if (lines + 1).saturating_mul(pieces + 1) > MOST {
        return anew(lines, pieces);
    }
    // How much can be kept of what is left, from each pair of places. A line that fits counts most, then `...`; and a line
    // that another one replaces is better than one that goes while `...` covers what came.
    const FITS: u64 = 1 << 32;
    const REST: u64 = 1 << 16;
    const REPLACED: u64 = 1;
    let width = pieces + 1;
    let mut worth = vec![0_u64; (lines + 1) * width];
    let at = |line: usize, piece: usize| line * width + piece;
    for line in (0..lines).rev() {
        let rest = pairs.is_rest(line);
        for piece in (0..=pieces).rev() {
            let mut best = worth[at(line + 1, piece)] + if rest { REST } else { 0 };
            if piece < pieces {
                best = best.max(worth[at(line, piece + 1)]);
                if !rest {
                    let both = if pairs.fits(line, piece) { FITS } else { REPLACED };
                    best = best.max(worth[at(line + 1, piece + 1)] + both);
                }
            }
            worth[at(line, piece)] = best;
        }
    }
    let mut steps = Vec::new();
    let (mut line, mut piece) = (0, 0);
    while line < lines || piece < pieces {
        let here = worth[at(line, piece)];
        if line < lines && pairs.is_rest(line) {
            // Nothing is ever lost by keeping it, and it covers what nobody needs.
            steps.push(Step::Keep(line));
            line += 1;
            let needed = |line, piece| line < lines && !pairs.is_rest(line) && pairs.fits(line, piece);
            let free = |line, piece| worth[at(line, piece + 1)] == worth[at(line, piece)] && !needed(line, piece);
            while piece < pieces && pairs.can_be_covered(piece) && free(line, piece) {
                steps.push(Step::Cover(piece));
                piece += 1;
            }
            continue;
        }
        if line < lines && piece < pieces {
            let after = worth[at(line + 1, piece + 1)];
            if pairs.fits(line, piece) && here == after + FITS {
                steps.push(Step::Keep(line));
                (line, piece) = (line + 1, piece + 1);
                continue;
            }
            if !pairs.fits(line, piece) && here == after + REPLACED {
                steps.extend([Step::Drop(line), Step::Write(piece)]);
                (line, piece) = (line + 1, piece + 1);
                continue;
            }
        }
        if line < lines && here == worth[at(line + 1, piece)] {
            steps.push(Step::Drop(line));
            line += 1;
        } else {
            steps.push(Step::Write(piece));
            piece += 1;
        }
    }
    steps
}

/// Nothing is kept.
pub(super) fn anew(lines: usize, pieces: usize) -> Vec<Step> {
    (0..lines).map(Step::Drop).chain((0..pieces).map(Step::Write)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines are letters, and `*` stands for any number.
    struct Letters<'a>(&'a str, &'a str);

    impl Pairs for Letters<'_> {
        fn counts(&self) -> (usize, usize) {
            (self.0.len(), self.1.len())
        }
        fn is_rest(&self, line: usize) -> bool {
            self.0.as_bytes()[line] == b'*'
        }
        fn fits(&self, line: usize, piece: usize) -> bool {
            self.0.as_bytes()[line] == self.1.as_bytes()[piece]
        }
        fn can_be_covered(&self, _piece: usize) -> bool {
            true
        }
    }

    /// What stands there afterwards, with what is new as capitals.
    fn after(lines: &str, pieces: &str) -> String {
        let steps = steps(&Letters(lines, pieces));
        let letter = |text: &str, i: usize| char::from(text.as_bytes()[i]);
        let shown = steps.iter().filter_map(|step| match *step {
            Step::Keep(line) => Some(letter(lines, line)),
            Step::Write(piece) => Some(letter(pieces, piece).to_ascii_uppercase()),
            Step::Drop(_) | Step::Cover(_) => None,
        });
        shown.collect()
    }

    #[test]
    fn what_still_fits_stays() {
        for (lines, pieces, expected) in [
            ("abc", "abc", "abc"),
            ("abc", "axc", "aXc"),
            ("abc", "bc", "bc"),
            ("abc", "abcd", "abcD"),
            ("abc", "xabc", "Xabc"),
            ("abc", "", ""),
            ("", "ab", "AB"),
            ("a*c", "axyc", "a*c"),
            ("a*c", "ac", "a*c"),
            ("a*", "axy", "a*"),
            ("a*", "xy", "X*"),
            ("*c", "xyd", "*D"),
            ("a*c", "bxyc", "B*c"),
            ("a*c", "axyd", "a*D"),
            ("abcd", "acbd", "acBd"),
            ("ab", "xy", "XY"),
        ] {
            assert_eq!(after(lines, pieces), expected, "{lines} {pieces}");
        }
    }

    #[test]
    fn every_line_and_every_piece_is_dealt_with_once() {
        let words = ["", "a", "ab", "ba", "*", "a*b", "*a", "b*", "aab", "*a*b", "bab*"];
        for lines in words {
            for pieces in ["", "a", "b", "ab", "ba", "aab", "bbab"] {
                let steps = steps(&Letters(lines, pieces));
                let of_lines: Vec<usize> = steps
                    .iter()
                    .filter_map(|s| match s {
                        Step::Keep(i) | Step::Drop(i) => Some(*i),
                        _ => None,
                    })
                    .collect();
                let of_pieces = steps.iter().filter(|s| matches!(s, Step::Write(_) | Step::Cover(_))).count();
                let fitting =
                    steps.iter().filter(|s| matches!(s, Step::Keep(i) if lines.as_bytes()[*i] != b'*')).count();
                assert_eq!(of_lines, (0..lines.len()).collect::<Vec<_>>(), "{lines} {pieces}");
                assert_eq!(of_pieces + fitting, pieces.len(), "{lines} {pieces}");
            }
        }
    }

    #[test]
    fn a_flood_is_written_anew_without_being_compared() {
        let many = "a".repeat(3000);
        assert_eq!(steps(&Letters(&many, &many)), anew(3000, 3000));
    }
}
