//! One allowance of a policy, and whether it is for a finding.

use std::path::Path;

use glob::{MatchOptions, Pattern};
use jiff::civil::Date;

use crate::leakcheck::facts::{Kind, Place, TestId};
use crate::leakcheck::{Helper, Leak, Leftover};

/// Findings that are all right, by what they are. What is left out does not matter; what is given has to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) place: Place,
    pub(super) kind: Option<Kind>,
    pub(super) name: Option<Pattern>,
    pub(super) command: Option<Pattern>,
    pub(super) exe: Option<Pattern>,
    pub(super) test: Option<Pattern>,
    pub(super) path: Option<Pattern>,
    pub(super) reason: String,
    /// The last day.
    pub(super) expires: Option<Date>,
    /// Is the process to be ended, although it is allowed?
    pub(super) end: bool,
}

/// What an allowance can be asked about.
#[derive(Debug, Default)]
pub(super) struct Subject<'a> {
    pub(super) kind: Option<Kind>,
    /// One of them has to match.
    names: Vec<String>,
    commands: Vec<String>,
    exe: Option<&'a Path>,
    /// One of them has to match: under `cargo test`, several may have been running.
    tests: Vec<&'a TestId>,
    path: Option<&'a Path>,
}

impl Allowance {
    pub(super) fn new(place: Place) -> Allowance {
        Allowance {
            place,
            kind: None,
            name: None,
            command: None,
            exe: None,
            test: None,
            path: None,
            reason: String::new(),
            expires: None,
            end: true,
        }
    }

    /// Does it say what it is for? A kind alone would allow all that is to come; `fail` is for that.
    pub(super) fn is_selective(&self) -> bool {
        [&self.name, &self.command, &self.exe, &self.test, &self.path].into_iter().any(Option::is_some)
    }

    /// Keys that can never match together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let file = matches!(self.kind, Some(Kind::File | Kind::Socket)) || self.path.is_some();
        let process = matches!(self.kind, Some(Kind::Process | Kind::Daemon));
        if file && (self.command.is_some() || self.exe.is_some()) {
            return Some("`command` and `exe` are for processes, and this allowance is for files");
        }
        if self.path.is_some() && matches!(self.kind, Some(Kind::Process | Kind::Daemon | Kind::Late)) {
            return Some(
                "`path` is for files that are left, and this allowance is for a process; `exe` is its program",
            );
        }
        if !self.end && !process && self.kind.is_some() {
            return Some("`end = false` leaves a process running, and this allowance is for something else");
        }
        None
    }

    pub(super) fn has_expired(&self, today: Date) -> bool {
        self.expires.is_some_and(|last| last < today)
    }

    /// Is it for this?
    pub(super) fn is_for(&self, subject: &Subject<'_>) -> bool {
        // Everywhere but in paths, `*` is anything.
        let text = |pattern: &Option<Pattern>, texts: &[String]| {
            pattern.as_ref().is_none_or(|pattern| texts.iter().any(|text| pattern.matches(text)))
        };
        let path = |pattern: &Option<Pattern>, path: Option<&Path>| {
            pattern.as_ref().is_none_or(|pattern| path.is_some_and(|path| is_at(pattern, path)))
        };
        let test = |test: &&TestId| {
            let whole = format!("{} {}", test.binary, test.name);
            self.test.as_ref().is_some_and(|pattern| pattern.matches(&test.name) || pattern.matches(&whole))
        };
        self.is_for_kind(subject.kind)
            && text(&self.name, &subject.names)
            && text(&self.command, &subject.commands)
            && path(&self.exe, subject.exe)
            && path(&self.path, subject.path)
            && (self.test.is_none() || subject.tests.iter().any(test))
    }

    fn is_for_kind(&self, kind: Option<Kind>) -> bool {
        match self.kind {
            None => true,
            // A daemon is a process, and whether the built-in table knows it is not for the author to know.
            Some(Kind::Process) => matches!(kind, Some(Kind::Process | Kind::Daemon)),
            own => own == kind,
        }
    }

    /// For a note about it.
    pub(super) fn in_words(&self) -> String {
        let mut words = vec![self.kind.map_or("anything", Kind::name).to_owned()];
        let given = [
            ("name", &self.name),
            ("command", &self.command),
            ("exe", &self.exe),
            ("test", &self.test),
            ("path", &self.path),
        ];
        for (key, pattern) in given {
            words.extend(pattern.as_ref().map(|pattern| format!("{key} `{pattern}`")));
        }
        words.join(", ")
    }
}

/// `*` stays within a directory, `**` does not; one that does not begin at the root may begin in any directory.
fn is_at(pattern: &Pattern, path: &Path) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    if pattern.matches_path_with(path, options) {
        return true;
    }
    let text = pattern.as_str();
    let anywhere = path.is_absolute() && !text.starts_with('/') && !text.starts_with("**");
    let anywhere = if anywhere { Pattern::new(&format!("**/{text}")).ok() } else { None };
    anywhere.is_some_and(|pattern| pattern.matches_path_with(path, options))
}

impl<'a> Subject<'a> {
    pub(super) fn leak(leak: &'a Leak, kind: Kind) -> Subject<'a> {
        let mut commands = vec![leak.command.clone()];
        if !leak.args.is_empty() {
            // Not cut.
            commands.push(leak.args.join(" "));
        }
        Subject {
            kind: Some(kind),
            names: names(leak),
            commands,
            exe: leak.exe.as_deref(),
            tests: leak.test.iter().chain(&leak.suspects).collect(),
            path: None,
        }
    }

    pub(super) fn late(helper: &'a Helper) -> Subject<'a> {
        let program = helper.command.split(' ').next().unwrap_or_default();
        Subject {
            kind: Some(Kind::Late),
            names: vec![helper.fixture.label.clone(), file_name(program)],
            commands: vec![helper.command.clone()],
            exe: Some(Path::new(program)),
            tests: helper.test.iter().collect(),
            path: None,
        }
    }

    pub(super) fn leftover(file: &'a Leftover) -> Subject<'a> {
        Subject {
            kind: Some(file.kind),
            names: vec![file_name(&file.path.to_string_lossy())],
            tests: file.tests.iter().collect(),
            path: Some(&file.path),
            ..Subject::default()
        }
    }
}

/// What a process may be called: by its arguments first, which is what `ps` shows, then by its file.
pub(super) fn names(leak: &Leak) -> Vec<String> {
    let first = super::daemons::words(leak).into_iter().next().unwrap_or_default();
    let mut names = vec![file_name(&first)];
    if let Some(exe) = &leak.exe {
        let exe = exe.to_string_lossy();
        names.push(file_name(exe.strip_suffix(" (deleted)").unwrap_or(&exe)));
    }
    names.retain(|name| !name.is_empty());
    names.dedup();
    names
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    // What has no command line is shown as `[name]`.
    let name = name.unwrap_or_default();
    name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use crate::leakcheck::leak::tests::{sample, stranger};

    fn allowance(text: &str) -> Allowance {
        let text = format!("[[leakcheck.allow]]\nreason = \"r\"\n{}\n", text.replace("; ", "\n"));
        file::read(&text, Path::new("p.toml")).unwrap().allowances.remove(0)
    }

    #[test]
    fn an_allowance_is_for_what_has_all_that_it_says() {
        let leak = sample(1);
        for (text, expected) in [
            ("name = 'server'", true),
            ("name = 'serv'", false),
            ("name = 'ser*'", true),
            ("kind = 'process'; name = 'server'", true),
            ("kind = 'daemon'; name = 'server'", false),
            ("kind = 'late'; name = 'server'", false),
            ("command = 'server --port *'", true),
            ("command = 'server'", false),
            ("exe = '/usr/bin/server'", true),
            ("exe = '/usr/*'", false),
            ("exe = '/usr/**'", true),
            ("exe = 'bin/server'", true),
            ("exe = 'in/server'", false),
            ("test = 'orders::are_kept'", true),
            ("test = 'shop::it orders::*'", true),
            ("test = 'orders::are_lost'", false),
            ("name = 'server'; test = 'orders::*'", true),
            ("name = 'client'; test = 'orders::*'", false),
            ("path = 'server'", false),
        ] {
            assert_eq!(allowance(text).is_for(&Subject::leak(&leak, leak.kind)), expected, "{text}");
        }
        let daemon = allowance("kind = 'process'; name = 'server'");
        assert!(daemon.is_for(&Subject::leak(&leak, Kind::Daemon)), "a daemon is a process");
        assert!(!allowance("test = '*'").is_for(&Subject::leak(&stranger(1), Kind::Process)), "no test is known");
    }

    #[test]
    fn a_process_without_arguments_is_known_by_its_file() {
        let leak =
            Leak { command: "[x]".into(), args: Vec::new(), exe: Some("/opt/tool (deleted)".into()), ..stranger(1) };
        for name in ["x", "tool"] {
            assert!(allowance(&format!("name = '{name}'")).is_for(&Subject::leak(&leak, Kind::Process)), "{name}");
        }
    }

    #[test]
    fn files_are_known_by_name_and_path() {
        let report = crate::leakcheck::report::tests::full();
        let log = Leftover { path: "logs/a/out.log".into(), ..report.leftovers[0].clone() };
        for (text, expected) in [
            ("name = '*.log'", true),
            ("path = 'logs/**'", true),
            ("path = 'logs/*'", false),
            ("path = 'a/out.log'", false),
            ("kind = 'socket'; name = '*.log'", false),
            ("kind = 'file'; test = 'orders::are_kept'", true),
        ] {
            assert_eq!(allowance(text).is_for(&Subject::leftover(&log)), expected, "{text}");
        }
        assert!(allowance("kind = 'late'; name = 'server'").is_for(&Subject::late(&report.helpers[1])));
    }

    #[test]
    fn an_allowance_ends_after_its_last_day() {
        let last = allowance("name = 'x'; expires = '2027-01-31'");
        assert!(!last.has_expired(Date::constant(2027, 1, 31)) && last.has_expired(Date::constant(2027, 2, 1)));
        assert!(!allowance("name = 'x'").has_expired(Date::constant(9999, 1, 1)));
    }
}
