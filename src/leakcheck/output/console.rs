//! What the command line prints: one line when nothing was left, else a paragraph for each leak and a line for the rest.

use std::fmt::{self, Write as _};

use super::finding::{Finding, Standing, all, tally};
use super::words::{self, count, count_kind, in_words, one_line};
use crate::leakcheck::{Kind, Leak, Report};
use crate::report::signal_name;

/// How many findings are described. A loop that leaks can leave thousands, and they look alike.
const DESCRIBED: usize = 20;

/// How many lines of a transcript are shown.
const TRANSCRIPT: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hanging(f)?;
        let mut room = DESCRIBED;
        let leaks = self.paragraphs();
        if leaks.is_empty() && self.is_clean() {
            self.nothing_left(f)?;
        } else {
            self.heading(&leaks, f)?;
            for group in leaks.iter().take(room) {
                write!(f, "\n{}", Paragraph(group))?;
            }
            room = room.saturating_sub(leaks.len());
            if let Some(more) = leaks.get(DESCRIBED..).filter(|more| !more.is_empty()) {
                let pids: Vec<u32> = more.iter().flatten().map(|l| l.pid).collect();
                writeln!(f, "\n  and {} more: {}", pids.len(), listed_pids(&pids))?;
            }
            writeln!(f)?;
            self.outcome(&leaks, f)?;
        }
        self.lists(&mut room, f)?;
        if let Some(dir) = &self.kept_dir {
            let dir = super::words::path_in_words(dir);
            writeln!(
                f,
                "leakcheck: the suite's temporary directory stays in {dir}: something that lives on may need it, or it was to be kept"
            )?;
        }
        if self.tests_run == Some(0) {
            writeln!(f, "leakcheck: no test ran, so nothing has been shown")?;
        }
        Ok(())
    }
}

impl Report {
    /// Leaks that get a paragraph, those that are alike together: the same test, the same command, the same end.
    fn paragraphs(&self) -> Vec<Vec<&Leak>> {
        let mut groups: Vec<Vec<&Leak>> = Vec::new();
        for leak in all(self).into_iter().filter_map(|f| self.gets_a_paragraph(f)) {
            let alike = |other: &Leak| {
                (&other.test, &other.command, other.kind) == (&leak.test, &leak.command, leak.kind)
                    && (&other.deed.survived, other.deed.killed) == (&leak.deed.survived, leak.deed.killed)
                    && (&other.fixture, other.deed.spared) == (&leak.fixture, leak.deed.spared)
            };
            match groups.iter_mut().find(|group| alike(group[0])) {
                Some(group) => group.push(leak),
                None => groups.push(vec![leak]),
            }
        }
        groups
    }

    fn gets_a_paragraph<'a>(&self, finding: Finding<'a>) -> Option<&'a Leak> {
        match (finding, finding.standing(self)) {
            (Finding::Leak(leak), Standing::Fails) => Some(leak),
            (Finding::Leak(leak), Standing::Warns) if leak.kind == Kind::Process => Some(leak),
            _ => None,
        }
    }

    /// What was alive when the time was up.
    fn hanging(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(limit) = self.timed_out_ms else { return Ok(()) };
        writeln!(f, "leakcheck: the time was up: `{}` did not end within {}", one_line(&self.suite), in_words(limit))?;
        if !self.hanging.is_empty() {
            writeln!(f, "  what was alive then, the children below their parents:")?;
        }
        for line in &self.hanging {
            // The indentation says who is whose child.
            let depth = line.len() - line.trim_start().len();
            writeln!(f, "  | {:depth$}{}", "", one_line(line.trim_start()))?;
        }
        Ok(())
    }

    /// The first line of a report about findings that are described, or that fail.
    fn heading(&self, groups: &[Vec<&Leak>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaks = groups.iter().map(Vec::len).sum();
        let suite = one_line(&self.suite);
        let what = match leaks {
            0 => "something".to_owned(),
            n => count(n, "process", "processes"),
        };
        if let Some(signal) = self.interrupted {
            return writeln!(f, "leakcheck: interrupted by {}; {what} did not end with `{suite}`", signal_name(signal));
        }
        let how = words::suite_ended(self);
        if leaks == 0 && self.latecomers == 0 && self.confirmed {
            let failing = tally(self, Standing::Fails);
            return writeln!(f, "leakcheck: found after the end of `{suite}`, which {how}: {failing}");
        }
        let verb = if leaks > 1 { "are" } else { "is" };
        let after = in_words(self.grace_ms);
        let alive = format!("leakcheck: {what} {verb} alive {after} after the end of `{suite}`, which {how}");
        match self.fails.contains(&Kind::Process) || groups.iter().flatten().any(|l| self.fails.contains(&l.kind)) {
            false if leaks > 0 => writeln!(f, "{alive} (a warning, as the policy says)"),
            _ => writeln!(f, "{alive}"),
        }
    }

    /// What became of them.
    fn outcome(&self, groups: &[Vec<&Leak>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count_of = |n: usize| count(n, "process", "processes");
        let survivors = self.leaks.iter().filter(|l| l.survived().is_some()).count();
        let spared = self.leaks.iter().filter(|l| l.deed.spared).count();
        if self.latecomers > 0 {
            writeln!(f, "leakcheck: {} more began while these were being ended", count_of(self.latecomers))?;
        }
        if survivors > 0 {
            return writeln!(f, "leakcheck: {} could not be ended: see `survived` above", count_of(survivors));
        }
        if !self.confirmed {
            return writeln!(f, "leakcheck: the kernel says that something is alive which `/proc` does not show");
        }
        match (groups.is_empty() && self.latecomers == 0, spared) {
            (true, _) => Ok(()),
            (false, 0) => {
                writeln!(f, "leakcheck: all of it has been ended; the kernel confirms that nothing is left")
            }
            (false, n) => {
                writeln!(f, "leakcheck: all of it has been ended, but for {} that the policy spares", count_of(n))
            }
        }
    }

    /// The one line of a report without anything that fails.
    fn nothing_left(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (took, checking) = (in_words(self.took_ms), in_words(self.checking_ms));
        if let Some(signal) = self.interrupted {
            let signal = signal_name(signal);
            return writeln!(f, "leakcheck: interrupted by {signal}; everything ended with the suite, after {took}");
        }
        let orphans = match self.adopted {
            0 => "nothing had to be adopted".to_owned(),
            1 => "1 orphan was adopted and ended by itself".to_owned(),
            n => format!("{n} orphans were adopted and ended by themselves"),
        };
        let what =
            if all(self).is_empty() { "nothing left behind" } else { "nothing left behind that fails the check" };
        writeln!(f, "leakcheck: {what} ({orphans}; the suite took {took}, the check {checking})")
    }

    /// What needs no paragraph: a heading for each kind and a line for each finding.
    fn lists(&self, room: &mut usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let findings = all(self);
        for kind in [Kind::Late, Kind::File, Kind::Socket, Kind::Daemon] {
            let of_kind = |x: &&Finding<'_>| {
                x.kind() == kind && x.standing(self) != Standing::Allowed && self.gets_a_paragraph(**x).is_none()
            };
            let listed: Vec<_> = findings.iter().filter(of_kind).collect();
            if listed.is_empty() {
                continue;
            }
            let warning = if self.fails.contains(&kind) { "" } else { " (a warning)" };
            writeln!(f, "leakcheck: {}{warning}", count_kind(listed.len(), kind))?;
            let shown = listed.len().min(*room);
            for finding in &listed[..shown] {
                writeln!(f, "  {}", line_of(**finding))?;
            }
            if shown < listed.len() {
                writeln!(f, "  and {} more", listed.len() - shown)?;
            }
            *room -= shown;
            if let Some(first) = listed.first() {
                writeln!(f, "  help: {}", first.fix())?;
            }
        }
        self.allowed(&findings, f)?;
        for note in &self.notes {
            writeln!(f, "leakcheck: {}: {}", one_line(&note.place.to_string()), one_line(&note.what))?;
        }
        Ok(())
    }

    /// One line for each allowance that was made use of.
    fn allowed(&self, findings: &[Finding<'_>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = Vec::new();
        for allowed in findings.iter().filter_map(|x| x.allowed()).filter(|a| {
            let first = !seen.contains(a);
            seen.push(a);
            first
        }) {
            let of_it: Vec<_> = findings.iter().filter(|x| x.allowed() == Some(allowed)).collect();
            let more = if of_it.len() > 1 { format!(" and {} more", of_it.len() - 1) } else { String::new() };
            let (title, reason) = (of_it[0].title(), one_line(&allowed.reason));
            writeln!(f, "leakcheck: allowed: {title}{more}: {reason} ({})", one_line(&allowed.place.to_string()))?;
        }
        Ok(())
    }
}

/// A finding that gets one line.
fn line_of(finding: Finding<'_>) -> String {
    let place = finding.place().map(|place| format!("{}: ", one_line(&place.to_string())));
    let mut line = place.unwrap_or_default() + &finding.sentence();
    let suspects = finding.suspects();
    if !suspects.is_empty() {
        let names: Vec<String> = suspects.iter().take(3).map(|t| one_line(&t.to_string())).collect();
        let more = if suspects.len() > 3 { format!(" and {} more", suspects.len() - 3) } else { String::new() };
        let _ = write!(line, ", while {}{more} ran", names.join("; "));
    }
    if let Finding::Leak(leak) = finding {
        let _ = write!(line, "; {}", words::deed(&leak.deed));
    }
    line
}

fn listed_pids(pids: &[u32]) -> String {
    let shown: Vec<String> = pids.iter().take(DESCRIBED).map(u32::to_string).collect();
    let dots = if pids.len() > DESCRIBED { ", ..." } else { "" };
    format!("{} {}{dots}", if pids.len() == 1 { "pid" } else { "pids" }, shown.join(", "))
}

/// Leaks that are alike, described by the first of them.
struct Paragraph<'a, 'b>(&'a [&'b Leak]);

impl fmt::Display for Paragraph<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, more) = (self.0[0], &self.0[1..]);
        let finding = Finding::Leak(first);
        write!(f, "  {}", finding.title())?;
        if !more.is_empty() {
            let pids: Vec<u32> = more.iter().map(|l| l.pid).collect();
            write!(f, " and {} more like it ({})", more.len(), listed_pids(&pids))?;
        }
        writeln!(f)?;
        let mut before = "";
        for (name, text) in finding.rows() {
            if name == "fix" {
                transcript(&first.transcript, f)?;
            }
            writeln!(f, "    {:<11}{text}", if name == before { "" } else { name })?;
            before = name;
        }
        Ok(())
    }
}

fn transcript(lines: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let shown = &lines[lines.len().saturating_sub(TRANSCRIPT)..];
    for (number, line) in shown.iter().enumerate() {
        writeln!(f, "    {:<11}| {}", if number == 0 { "transcript" } else { "" }, one_line(line))?;
    }
    Ok(())
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Paragraph(&[self]).fmt(f)
    }
}

#[cfg(test)]
mod tests;
