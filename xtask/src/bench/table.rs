//! The results for people: on a terminal, and as Markdown for `src/docs/performance.md`.

use super::machine::Machine;
use super::results::{Contestant, Results};
use super::rows::{Goal, Row, Stat, Unit};

/// A value with its unit.
pub(super) fn value(v: f64, unit: Unit) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let (step, name) = steps.iter().rev().find(|(step, _)| v >= *step).unwrap_or(&steps[0]);
        let v = v / step;
        let digits = if v >= 100.0 || *step == 1.0 {
            0
        } else if v >= 10.0 {
            1
        } else {
            2
        };
        format!("{v:.digits$} {name}")
    };
    match unit {
        Unit::Time => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
        Unit::Memory => scaled(&[(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB"), (1_073_741_824.0, "GiB")]),
        Unit::Count => format!("{v:.0}"),
    }
}

/// A ratio with as many digits as it deserves.
pub(super) fn times(ratio: f64) -> String {
    let digits = if ratio >= 100.0 {
        0
    } else if ratio >= 10.0 {
        1
    } else {
        2
    };
    format!("{ratio:.digits$} ×")
}

/// How a contestant compares with the row's limit.
fn relative(contestant: &Contestant, limit: Option<&Contestant>, stat: Stat) -> Option<f64> {
    let limit = limit?;
    let ratio = contestant.stat(stat) / limit.stat(stat);
    ratio.is_finite().then_some(ratio)
}

/// A goal in words, what was measured, and whether that is enough.
pub(super) fn goal_in_words(row: &Row, goal: &Goal, results: &Results) -> (String, String, Option<bool>) {
    let verdict = results.judge(row.id, goal);
    let (text, show): (String, Box<dyn Fn(f64) -> String>) = match *goal {
        Goal::Ratio { of, to, stat, max } => {
            (format!("{} of {of} ≤ {} {to}", stat.name(), times(max)), Box::new(times))
        }
        Goal::Most { of, stat, max } => {
            let unit = row.unit;
            (format!("{} of {of} ≤ {}", stat.name(), value(max, unit)), Box::new(move |v| value(v, unit)))
        }
    };
    match verdict {
        Some(v) => (text, show(v.measured), Some(v.met)),
        None => (text, "not measured".to_owned(), None),
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "-",
    }
}

/// How many goals were missed.
pub(super) fn missed(rows: &[&Row], results: &Results) -> usize {
    let verdicts = rows.iter().flat_map(|row| row.goals.iter().map(|goal| results.judge(row.id, goal)));
    verdicts.flatten().filter(|v| !v.met).count()
}

/// The table for a terminal.
pub(super) fn terminal(rows: &[&Row], results: &Results) -> String {
    let mut out = String::new();
    for row in rows {
        out.push_str(&format!("\n{}\n", row.title));
        let limit = results.find(row.id, row.limit);
        for c in results.of(row.id) {
            let (median, p99) = (value(c.stat(Stat::Median), row.unit), value(c.stat(Stat::P99), row.unit));
            let shown = |stat| relative(c, limit, stat).map(times).unwrap_or_default();
            let (ratio, ratio99) = (shown(Stat::Median), shown(Stat::P99));
            let name = &c.name;
            let n = c.count();
            out.push_str(&format!("  {name:<26} median {median:>9} {ratio:>9}   p99 {p99:>9} {ratio99:>9}   n {n}\n"));
        }
        for goal in row.goals {
            let (text, measured, met) = goal_in_words(row, goal, results);
            out.push_str(&format!("  {:<7} {text}: {measured}\n", verdict(met)));
        }
        for note in results.notes(row.id) {
            out.push_str(&format!("  note: {note}\n"));
        }
    }
    let all = rows.iter().map(|row| row.goals.len()).sum::<usize>();
    out.push_str(&format!("\n{} of {all} goals missed\n", missed(rows, results)));
    out
}

/// The same as two Markdown tables: the goals, and everybody's numbers.
pub(super) fn markdown(rows: &[&Row], results: &Results, machine: &Machine) -> String {
    let mut out = String::new();
    for (name, what) in machine {
        out.push_str(&format!("- {name}: {what}\n"));
    }
    out.push_str("\n| measure | goal | measured | |\n|---|---|---|---|\n");
    for row in rows {
        for goal in row.goals {
            let (text, measured, met) = goal_in_words(row, goal, results);
            out.push_str(&format!("| {} | {text} | {measured} | {} |\n", row.title, verdict(met)));
        }
    }
    out.push_str("\n| measure | who | median | ratio | p99 | ratio | samples |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let limit = results.find(row.id, row.limit);
        for c in results.of(row.id) {
            let shown = |stat| relative(c, limit, stat).map(times).unwrap_or_default();
            out.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                row.title,
                c.name,
                value(c.stat(Stat::Median), row.unit),
                shown(Stat::Median),
                value(c.stat(Stat::P99), row.unit),
                shown(Stat::P99),
                c.count()
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_unit_that_a_reader_expects() {
        assert_eq!(value(950.0, Unit::Time), "950 ns");
        assert_eq!(value(7_340.0, Unit::Time), "7.34 µs");
        assert_eq!(value(2_050_000_000.0, Unit::Time), "2.05 s");
        assert_eq!(value(4_194_304.0, Unit::Memory), "4.00 MiB");
        assert_eq!(value(0.0, Unit::Count), "0");
    }

    #[test]
    fn ratios_are_not_more_exact_than_they_are() {
        assert_eq!((times(0.214), times(12.34), times(2_840.4)), ("0.21 ×".into(), "12.3 ×".into(), "2840 ×".into()));
    }
}
