//! What every file says about a finding, whatever it is: one view of leaks, late fixtures and leftovers.

use std::collections::BTreeMap;

use super::words;
use super::words::{count_kind, in_words, one_line, path_in_words};
use crate::leakcheck::{Allowed, Helper, Kind, Leak, Leftover, Place, Report, TestId};

/// One of the things that a report is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finding<'a> {
    Leak(&'a Leak),
    Late(&'a Helper),
    Left(&'a Leftover),
}

/// What a finding means for the status of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Fails,
    Warns,
    Allowed,
}

/// Every finding: those that fail the check first, those that are allowed last.
pub(super) fn all(report: &Report) -> Vec<Finding<'_>> {
    let leaks = report.leaks.iter().map(Finding::Leak);
    let late = report.late().map(Finding::Late);
    let left = report.leftovers.iter().map(Finding::Left);
    let mut found: Vec<_> = leaks.chain(late).chain(left).collect();
    found.sort_by_key(|f| f.standing(report));
    found
}

/// `2 processes, 1 late fixture`, of those that stand so; empty if there is none.
pub(super) fn tally(report: &Report, standing: Standing) -> String {
    let mut counts = BTreeMap::new();
    for finding in all(report).iter().filter(|f| f.standing(report) == standing) {
        *counts.entry(finding.kind()).or_insert(0) += 1;
    }
    counts.into_iter().map(|(kind, n)| count_kind(n, kind)).collect::<Vec<_>>().join(", ")
}

impl<'a> Finding<'a> {
    pub(super) fn kind(self) -> Kind {
        match self {
            Finding::Leak(leak) => leak.kind,
            Finding::Late(_) => Kind::Late,
            Finding::Left(left) => left.kind,
        }
    }

    pub(super) fn allowed(self) -> Option<&'a Allowed> {
        match self {
            Finding::Leak(leak) => leak.allowed.as_ref(),
            Finding::Late(helper) => helper.allowed.as_ref(),
            Finding::Left(left) => left.allowed.as_ref(),
        }
    }

    pub(super) fn standing(self, report: &Report) -> Standing {
        match self.allowed() {
            Some(_) => Standing::Allowed,
            None if report.fails.contains(&self.kind()) => Standing::Fails,
            None => Standing::Warns,
        }
    }

    /// The test that is to blame.
    pub(super) fn test(self) -> Option<&'a TestId> {
        match self {
            Finding::Leak(leak) => leak.test.as_ref(),
            Finding::Late(helper) => helper.test.as_ref(),
            Finding::Left(left) => left.tests.first().filter(|_| left.tests.len() == 1),
        }
    }

    /// Where more than one may be.
    pub(super) fn suspects(self) -> &'a [TestId] {
        match self {
            Finding::Leak(leak) if leak.test.is_none() => &leak.suspects,
            Finding::Left(left) if left.tests.len() > 1 => &left.tests,
            _ => &[],
        }
    }

    /// The line of source where it is to be mended.
    pub(super) fn place(self) -> Option<&'a Place> {
        match self {
            Finding::Leak(leak) => leak.fixture.as_ref().map(|f| &f.place).or(leak.place.as_ref()),
            Finding::Late(helper) => Some(&helper.fixture.place),
            Finding::Left(_) => None,
        }
    }

    pub(super) fn transcript(self) -> &'a [String] {
        match self {
            Finding::Leak(leak) => &leak.transcript,
            Finding::Late(helper) => &helper.transcript,
            Finding::Left(_) => &[],
        }
    }

    /// What it is, in a few words.
    pub(super) fn title(self) -> String {
        match self {
            Finding::Leak(leak) => format!("`{}` (pid {})", one_line(&leak.command), leak.pid),
            Finding::Late(helper) => format!("`{}` (pid {})", one_line(&helper.command), helper.pid),
            Finding::Left(left) => format!("{} `{}`", left.kind.name(), path_in_words(&left.path)),
        }
    }

    /// All of it in one sentence, without its end.
    pub(super) fn sentence(self) -> String {
        let test = self.test().map(|t| one_line(&t.to_string()));
        let title = self.title();
        match (self, test) {
            (Finding::Leak(_), Some(test)) => format!("{test} left {title} running"),
            (Finding::Leak(_), None) => format!("{title} was left running"),
            (Finding::Late(helper), test) => {
                let test = test.unwrap_or_else(|| "a test".to_owned());
                let label = one_line(&helper.fixture.label);
                format!("{test} did not stop its fixture `{label}`: {title} was ended by {}", helper.ended_by)
            }
            (Finding::Left(left), test) => {
                let size = match left.files {
                    Some(n) => format!("{n} files, {}", words::bytes(left.bytes)),
                    None => words::bytes(left.bytes),
                };
                match test {
                    Some(test) => format!("{test} left the {title} ({size}) in the temporary directory"),
                    None => format!("the {title} ({size}) was left in the temporary directory"),
                }
            }
        }
    }

    /// What to change.
    pub(super) fn fix(self) -> String {
        match self {
            Finding::Leak(leak) if !leak.fix.is_empty() => one_line(&leak.fix),
            Finding::Leak(_) => {
                "wait for it in its test, or start it as a `foster::Fixture`, which ends with the test".to_owned()
            }
            Finding::Late(_) => {
                "call `stop` or `finish`, or let the fixture go out of scope at the end of the test: one in \
                                 a static, behind `mem::forget` or past `process::exit` is never dropped"
                    .to_owned()
            }
            Finding::Left(_) => "remove it at the end of its test, or create it in a `tempfile::TempDir` or in the \
                                 fixture's own directory, `fx.dir()`"
                .to_owned(),
        }
    }

    /// The command that runs its test again.
    pub(super) fn again(self) -> Option<String> {
        match self {
            Finding::Leak(leak) => leak.again.as_deref().map(one_line),
            _ => None,
        }
    }

    /// Everything that is known, by name, in one line each; the transcript aside.
    pub(super) fn rows(self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        match self {
            Finding::Leak(leak) => leak_rows(leak, &mut rows),
            Finding::Late(helper) => late_rows(helper, &mut rows),
            Finding::Left(left) => left_rows(left, &mut rows),
        }
        if let Some(allowed) = self.allowed() {
            rows.push(("allowed", format!("{} ({})", one_line(&allowed.reason), one_line(&allowed.place.to_string()))));
        }
        rows.push(("fix", self.fix()));
        rows.extend(self.again().map(|again| ("again", again)));
        rows
    }

    /// What it is called from run to run: no pid, no port, no name of a temporary file.
    pub(super) fn name(self) -> String {
        match self {
            Finding::Leak(leak) => {
                let exe = leak.exe.as_deref().and_then(|exe| exe.file_name()).map(|n| n.to_string_lossy().into_owned());
                let label = leak.fixture.as_ref().map(|f| f.label.clone());
                label.or(exe).unwrap_or_else(|| leak.command.split(' ').next().unwrap_or_default().to_owned())
            }
            Finding::Late(helper) => helper.fixture.label.clone(),
            // Names of temporary files are made up anew each time.
            Finding::Left(left) => left.path.extension().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The same for the same finding of another run.
    fn identity(self) -> String {
        let test = self.test().map(|t| format!("{}\0{}", t.binary, t.name)).unwrap_or_default();
        let file = match self {
            Finding::Late(helper) => helper.fixture.place.file.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        format!("{}\0{test}\0{}\0{file}", self.kind().name(), self.name())
    }
}

/// One for each finding, the same in the next run: services that show alerts know one again by it.
pub(super) fn fingerprints(findings: &[Finding<'_>]) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut of = |finding: &Finding<'_>| {
        let identity = finding.identity();
        let before = seen.entry(identity.clone()).or_default();
        *before += 1;
        // FNV-1a: std's hasher may be another one tomorrow.
        let hash = identity
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}:{before}")
    };
    findings.iter().map(&mut of).collect()
}

fn test_rows(finding: Finding<'_>, rows: &mut Vec<(&'static str, String)>) {
    if !finding.suspects().is_empty() {
        let names: Vec<String> = finding.suspects().iter().map(|t| one_line(&t.to_string())).collect();
        rows.push(("suspects", names.join("; ")));
    }
}

fn leak_rows(leak: &Leak, rows: &mut Vec<(&'static str, String)>) {
    match &leak.test {
        Some(test) => {
            rows.push(("test", format!("{}; {}", one_line(&test.to_string()), words::outcome(leak.outcome))));
            rows.push(("known by", words::blame(leak.blame).to_owned()));
        }
        None => rows.push(("test", format!("unknown: {}", words::blame(leak.blame)))),
    }
    test_rows(Finding::Leak(leak), rows);
    if let Some(package) = &leak.package {
        let dir = leak.manifest_dir.as_ref().map(|d| format!(" in {}", path_in_words(d)));
        rows.push(("package", format!("{}{}", one_line(package), dir.unwrap_or_default())));
    }
    match (&leak.fixture, &leak.place) {
        (Some(fixture), _) => {
            let place = one_line(&fixture.place.to_string());
            rows.push(("spawned at", format!("{place}, as the fixture `{}`", one_line(&fixture.label))));
        }
        (None, Some(place)) => rows.push(("place", one_line(&place.to_string()))),
        (None, None) => {}
    }
    let unreadable = || "unknown: the kernel does not let us read it".to_owned();
    if leak.args.len() > 1 {
        let args: Vec<String> = leak.args.iter().map(|a| format!("{a:?}")).collect();
        rows.push(("arguments", args.join(" ")));
    }
    rows.push(("directory", leak.dir.as_deref().map_or_else(unreadable, path_in_words)));
    rows.push(("executable", leak.exe.as_deref().map_or_else(unreadable, path_in_words)));
    let age = leak.age_ms.map_or_else(|| "unknown".to_owned(), in_words);
    match leak.age_after_test_ms {
        Some(after) => rows.push(("age", format!("{age}, {} of it after the end of its test", in_words(after)))),
        None => rows.push(("age", age)),
    }
    rows.push(("state", words::state(leak.state)));
    rows.push(("group", format!("{}, session {}", leak.group, leak.session)));
    rows.push(("started by", words::ancestors(leak)));
    rows.extend(leak.escapes.iter().map(|e| ("escaped", words::escape(e))));
    rows.extend(leak.holds.iter().map(|h| ("holds", words::holding(h))));
    let name = if leak.deed.survived.is_some() { "survived" } else { "done" };
    rows.push((name, words::deed(&leak.deed)));
}

fn late_rows(helper: &Helper, rows: &mut Vec<(&'static str, String)>) {
    let test = helper.test.as_ref().map_or_else(|| "unknown".to_owned(), |t| one_line(&t.to_string()));
    rows.push(("test", test));
    let place = one_line(&helper.fixture.place.to_string());
    rows.push(("spawned at", format!("{place}, as the fixture `{}`", one_line(&helper.fixture.label))));
    rows.push(("ended by", helper.ended_by.to_string()));
    if let Some(ended) = helper.ended_unix_ms {
        rows.push(("age", in_words(ended.saturating_sub(helper.started_unix_ms))));
    }
    rows.extend(helper.ending.as_ref().map(|e| ("ending", one_line(e))));
}

fn left_rows(left: &Leftover, rows: &mut Vec<(&'static str, String)>) {
    match left.tests.as_slice() {
        [test] => {
            let why = if left.fixture.is_some() || left.note.is_some() {
                ""
            } else {
                ", the only one that ran when it was made"
            };
            rows.push(("test", format!("{}{why}", one_line(&test.to_string()))));
        }
        [] => rows.push(("test", "unknown: it is not known what ran when it was made".to_owned())),
        _ => test_rows(Finding::Left(left), rows),
    }
    if let Some(fixture) = &left.fixture {
        rows.push(("fixture", one_line(&format!("`{}`, spawned at {}", fixture.label, fixture.place))));
    }
    rows.extend(left.note.as_ref().map(|note| ("note", one_line(note))));
    let files =
        left.files.map(|n| format!(" in {}", words::count(usize::try_from(n).unwrap_or(usize::MAX), "file", "files")));
    rows.push(("size", format!("{}{}", words::bytes(left.bytes), files.unwrap_or_default())));
    rows.extend(left.created_unix_ms.and_then(words::timestamp).map(|at| ("made", at)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::report::tests::full;

    #[test]
    fn what_fails_comes_first_and_is_counted() {
        let mut report = full();
        report.leaks[0].allowed = Some(Allowed { reason: "known".into(), place: Place { file: "f".into(), line: 1 } });
        let kinds: Vec<_> = all(&report).iter().map(|f| (f.kind(), f.standing(&report))).collect();
        assert_eq!(kinds[0], (Kind::Process, Standing::Fails));
        assert_eq!(kinds[kinds.len() - 1], (Kind::Process, Standing::Allowed));
        assert_eq!(tally(&report, Standing::Fails), "1 process");
        let warns = "1 well-known daemon, 2 late fixtures, 1 file left, 1 socket left";
        assert_eq!(tally(&report, Standing::Warns), warns);
        assert_eq!(tally(&report, Standing::Allowed), "1 process");
    }

    #[test]
    fn a_fingerprint_is_the_same_in_the_next_run_and_no_two_are_the_same() {
        let (one, mut two) = (full(), full());
        for leak in &mut two.leaks {
            leak.pid += 1000;
            leak.start_ticks += 5;
            leak.age_ms = None;
            leak.command = leak.command.replace("--port 0", "--port 77");
        }
        two.leftovers[0].path = "another.log".into();
        let prints = |report: &Report| fingerprints(&all(report));
        assert_eq!(prints(&one), prints(&two));
        let mut all_of_them = prints(&one);
        all_of_them.sort();
        all_of_them.dedup();
        assert_eq!(all_of_them.len(), 7);
        two.leaks[0].test.as_mut().unwrap().name.push('x');
        assert_ne!(prints(&one), prints(&two), "another test is another finding");
        assert_eq!(prints(&one)[0], "dea0ffdcce4cbf4a:1", "a service knows a finding by it: it must not change");
    }
}
