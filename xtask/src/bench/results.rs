//! All samples of a run, and what they come to.

use super::rows::{Goal, Stat};

/// One contestant of one row.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) row: String,
    pub(super) name: String,
    samples: Vec<f64>,
}

impl Contestant {
    pub(super) fn count(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn stat(&self, stat: Stat) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let at = match stat {
            Stat::Median => last / 2,
            // The smallest that 99 of 100 do not exceed.
            Stat::P99 => (sorted.len() * 99).div_ceil(100).saturating_sub(1),
            Stat::Max => last,
        };
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// Whether a goal was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) measured: f64,
    pub(super) met: bool,
}

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Results {
    contestants: Vec<Contestant>,
    notes: Vec<(String, String)>,
    failures: Vec<(String, String)>,
}

impl Results {
    pub(super) fn new() -> Results {
        Results { contestants: Vec::new(), notes: Vec::new(), failures: Vec::new() }
    }

    /// One line of a measuring program; `None` when it is none.
    pub(super) fn take_in(&mut self, line: &str) -> Option<()> {
        let mut parts = line.split('\t');
        match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
            ("sample", row, name, Some(value)) => self.add(row, name, value.parse().ok()?),
            ("note", row, text, None) => self.note(row, text),
            _ => return None,
        }
        Some(())
    }

    pub(super) fn add(&mut self, row: &str, name: &str, value: f64) {
        match self.contestants.iter_mut().find(|c| c.row == row && c.name == name) {
            Some(contestant) => contestant.samples.push(value),
            None => {
                let (row, name) = (row.to_owned(), name.to_owned());
                self.contestants.push(Contestant { row, name, samples: vec![value] });
            }
        }
    }

    pub(super) fn note(&mut self, row: &str, text: &str) {
        self.notes.push((row.to_owned(), text.to_owned()));
    }

    /// A measure that could not be made.
    pub(super) fn fail(&mut self, measure: &str, why: &str) {
        self.failures.push((measure.to_owned(), why.to_owned()));
    }

    pub(super) fn failures(&self) -> usize {
        self.failures.len()
    }

    /// The contestants of a row, in the order in which they came.
    pub(super) fn of(&self, row: &str) -> impl Iterator<Item = &Contestant> {
        self.contestants.iter().filter(move |c| c.row == row)
    }

    pub(super) fn notes(&self, row: &str) -> impl Iterator<Item = &str> {
        self.notes.iter().filter(move |(r, _)| r == row).map(|(_, text)| text.as_str())
    }

    /// A contestant of this row, or, as `row/contestant`, of another one.
    pub(super) fn find(&self, row: &str, name: &str) -> Option<&Contestant> {
        let (row, name) = name.split_once('/').unwrap_or((row, name));
        self.contestants.iter().find(|c| c.row == row && c.name == name)
    }

    /// `None` when it was not measured.
    pub(super) fn judge(&self, row: &str, goal: &Goal) -> Option<Verdict> {
        let (measured, max) = match *goal {
            Goal::Ratio { of, to, stat, max } => (self.find(row, of)?.stat(stat) / self.find(row, to)?.stat(stat), max),
            Goal::Most { of, stat, max } => (self.find(row, of)?.stat(stat), max),
        };
        Some(Verdict { measured, met: measured <= max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::new();
        for value in 1..=200 {
            results.take_in(&format!("sample\tr\ta\t{value}")).unwrap();
            results.take_in(&format!("sample\tr\tb\t{}", value * 2)).unwrap();
        }
        results
    }

    #[test]
    fn the_statistics_are_samples_that_were_there() {
        let results = results();
        let a = results.find("r", "a").unwrap();
        assert_eq!((a.stat(Stat::Median), a.stat(Stat::P99), a.stat(Stat::Max)), (100.0, 198.0, 200.0));
    }

    #[test]
    fn a_goal_is_met_up_to_its_limit_and_not_beyond() {
        let results = results();
        let goal = |max| Goal::Ratio { of: "b", to: "r/a", stat: Stat::Median, max };
        assert!(results.judge("r", &goal(2.0)).unwrap().met);
        assert!(!results.judge("r", &goal(1.9)).unwrap().met);
        let nobody = Goal::Most { of: "c", stat: Stat::Max, max: 1.0 };
        assert!(results.judge("r", &nobody).is_none());
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        let mut results = Results::new();
        for line in ["", "sample\tr\ta", "sample\tr\ta\tx", "note\tr", "note\tr\ta\tb", "other\tr\ta\t1"] {
            assert!(results.take_in(line).is_none(), "{line:?}");
        }
    }
}
