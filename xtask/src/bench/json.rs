//! The results for programs.

use super::machine::Machine;
use super::results::Results;
use super::rows::{Row, Stat};
use super::table::goal_in_words;

/// One object; times in nanoseconds, memory in bytes.
pub(super) fn print(rows: &[&Row], results: &Results, machine: &Machine) -> String {
    let machine: Vec<String> = machine.iter().map(|(name, what)| format!("{}: {}", text(name), text(what))).collect();
    let rows: Vec<String> = rows.iter().map(|row| print_row(row, results)).collect();
    format!("{{\n\"machine\": {{{}}},\n\"rows\": [\n{}\n]\n}}\n", machine.join(", "), rows.join(",\n"))
}

fn print_row(row: &Row, results: &Results) -> String {
    let contestants: Vec<String> = results
        .of(row.id)
        .map(|c| {
            let stat = |s| number(c.stat(s));
            format!(
                "    {{\"name\": {}, \"samples\": {}, \"median\": {}, \"p99\": {}, \"max\": {}}}",
                text(&c.name),
                c.count(),
                stat(Stat::Median),
                stat(Stat::P99),
                stat(Stat::Max)
            )
        })
        .collect();
    let goals: Vec<String> = row
        .goals
        .iter()
        .map(|goal| {
            let (words, _, met) = goal_in_words(row, goal, results);
            let measured = results.judge(row.id, goal).map_or("null".to_owned(), |v| number(v.measured));
            let met = met.map_or("null".to_owned(), |m| m.to_string());
            format!("    {{\"goal\": {}, \"measured\": {measured}, \"met\": {met}}}", text(&words))
        })
        .collect();
    let notes: Vec<String> = results.notes(row.id).map(text).collect();
    format!(
        "  {{\"id\": {}, \"title\": {}, \"limit\": {},\n   \"contestants\": [\n{}\n   ],\n   \"goals\": [\n{}\n   ],\n   \"notes\": [{}]}}",
        text(row.id),
        text(row.title),
        text(row.limit),
        contestants.join(",\n"),
        goals.join(",\n"),
        notes.join(", ")
    )
}

/// JSON has no numbers that are none.
fn number(v: f64) -> String {
    if v.is_finite() { format!("{v}") } else { "null".to_owned() }
}

/// A string, quoted (RFC 8259).
fn text(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(text("a \"b\" \\ \n µ"), "\"a \\\"b\\\" \\\\ \\u000a µ\"");
    }

    #[test]
    fn what_is_no_number_is_null() {
        assert_eq!((number(1.5), number(f64::NAN)), ("1.5".to_owned(), "null".to_owned()));
    }
}
