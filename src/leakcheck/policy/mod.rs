//! What a repository allows and what fails it: `.config/foster.toml`.
//!
//! It is read before the suite starts, so that a mistake in it costs nobody a run, and it is asked twice: before anything
//! is ended, which processes are to be left running, and at the end, about every finding.

mod allowance;
mod baseline;
mod daemons;
mod file;
mod whole;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::facts::{AllowanceUse, Allowed, Kind, Place, PolicyNote};
use super::{Leak, Options, Report};
use allowance::{Allowance, Subject};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rules {
    grace: Option<Duration>,
    timeout: Option<Duration>,
    rerun: Option<Duration>,
    /// The suite gets a temporary directory of its own.
    tmpdir: bool,
    fail: Vec<Kind>,
    allowances: Vec<Allowance>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            grace: None,
            timeout: None,
            rerun: None,
            tmpdir: true,
            fail: vec![Kind::Process],
            allowances: Vec::new(),
        }
    }
}

/// The policy that applies to a run; the defaults where there is no file.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Rules,
    today: Date,
    /// Where a baseline goes, and what it allows already, if that is another file.
    baseline: Option<(PathBuf, Vec<Allowance>)>,
    /// Would every test run, but for the shard?
    whole: bool,
}

impl Policy {
    /// Reads the file that the options name, or the workspace's, if it is there.
    ///
    /// The error is for people: file, line, what was expected.
    pub(super) fn load(options: &Options) -> Result<Policy, String> {
        let here = std::env::current_dir().map_err(|e| format!("there is no current directory: {e}"))?;
        // In UTC, so that an allowance ends for everybody at once.
        Policy::load_at(options, &here, jiff::Timestamp::now().to_zoned(TimeZone::UTC).date())
    }

    fn load_at(options: &Options, here: &Path, today: Date) -> Result<Policy, String> {
        let default = root(here).join(super::POLICY);
        let file = options.policy.clone().unwrap_or_else(|| shown(&default, here));
        let rules = match read(here, &file)? {
            Some(rules) => rules,
            None if options.policy.is_some() => return Err(format!("there is no policy file {}", file.display())),
            None => Rules::default(),
        };
        let baseline = match &options.baseline {
            None => None,
            // The default is the policy that applies.
            Some(given) if given == Path::new(super::POLICY) || *given == file => Some((file, Vec::new())),
            Some(given) => {
                let more = read(here, given)?.unwrap_or_default();
                Some((given.clone(), more.allowances))
            }
        };
        Ok(Policy { rules, today, baseline, whole: whole::is_whole(options) })
    }

    /// Sets what the command line has left open.
    pub(super) fn complete(&self, options: &mut Options) {
        options.grace = options.grace.or(self.rules.grace);
        options.timeout = options.timeout.or(self.rules.timeout).filter(|limit| !limit.is_zero());
        options.own_temp_dir &= self.rules.tmpdir;
        if let (false, Some(limit)) = (options.rerun_given, self.rules.rerun) {
            options.rerun = (!limit.is_zero()).then_some(limit);
        }
    }

    /// Is this process to be left running? Asked before anything is ended, when not every test is known yet.
    pub(super) fn spares(&self, leak: &Leak) -> bool {
        let kind = if daemons::fix(leak).is_some() { Kind::Daemon } else { leak.kind };
        let subject = Subject::leak(leak, kind);
        self.in_force().any(|allowance| !allowance.end && allowance.is_for(&subject))
    }

    fn in_force(&self) -> impl Iterator<Item = &Allowance> {
        let more = self.baseline.iter().flat_map(|(_, more)| more);
        self.rules.allowances.iter().chain(more).filter(|allowance| !allowance.has_expired(self.today))
    }

    /// Says of each finding what kind it is and whether it is allowed, and what is the matter with the policy itself.
    pub(super) fn judge(&self, report: &mut Report) {
        recognize_daemons(&mut report.leaks);
        report.fails.clone_from(&self.rules.fail);
        let mut uses: Vec<(&Allowance, u32)> = self.in_force().map(|allowance| (allowance, 0)).collect();
        let mut allowed = |subject: &Subject<'_>| {
            let mut first = None;
            for (allowance, count) in &mut uses {
                if allowance.is_for(subject) {
                    // Each that is for it is in use: which one comes first is no matter.
                    *count += 1;
                    first.get_or_insert(*allowance);
                }
            }
            first.map(|a| Allowed { reason: a.reason.clone(), place: a.place.clone() })
        };
        for leak in &mut report.leaks {
            leak.allowed = allowed(&Subject::leak(leak, leak.kind));
        }
        for helper in report.helpers.iter_mut().filter(|helper| helper.ended_by.is_late()) {
            helper.allowed = allowed(&Subject::late(helper));
        }
        for file in &mut report.leftovers {
            file.allowed = allowed(&Subject::leftover(file));
        }
        let expired = self.rules.allowances.iter().filter(|allowance| allowance.has_expired(self.today));
        let mut notes: Vec<PolicyNote> = expired.map(expired_note).collect();
        // A filter, a failure that ended the suite early, or another shard may be why nothing matched.
        let succeeded = report.ending.is_some_and(super::Ending::success);
        if self.whole && succeeded && report.interrupted.is_none() && report.timed_out_ms.is_none() {
            let uses = uses.into_iter().map(|(a, matched)| AllowanceUse {
                place: a.place.clone(),
                what: a.in_words(),
                matched,
            });
            report.allowances = uses.collect();
            if report.shard.is_none() {
                notes.extend(unused(&report.allowances));
            }
        }
        notes.sort_by(|a, b| a.place.cmp(&b.place));
        report.notes.extend(notes);
    }

    /// Writes the baseline, if one is asked for: what fails the check now is allowed from here on, in this report, too.
    pub(super) fn write_baseline(&self, report: &mut Report) -> io::Result<()> {
        let Some((file, _)) = &self.baseline else { return Ok(()) };
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("failed to write {}: {e}", file.display()));
        let Some((count, line)) = baseline::append(report, file, self.today).map_err(failed)? else { return Ok(()) };
        let text = fs::read_to_string(file).map_err(failed)?;
        let rules = Rules { fail: self.rules.fail.clone(), ..file::read(&text, file).map_err(io::Error::other)? };
        let now = Policy { rules, today: self.today, baseline: None, whole: false };
        let notes = std::mem::take(&mut report.notes);
        let was: Vec<_> = report.leaks.iter().map(|l| l.allowed.clone()).collect();
        let late: Vec<_> = report.helpers.iter().map(|h| h.allowed.clone()).collect();
        let files: Vec<_> = report.leftovers.iter().map(|f| f.allowed.clone()).collect();
        now.judge(report);
        let keep = |now: &mut Option<Allowed>, was: Option<Allowed>| *now = was.or(now.take());
        report.leaks.iter_mut().zip(was).for_each(|(l, was)| keep(&mut l.allowed, was));
        report.helpers.iter_mut().zip(late).for_each(|(h, was)| keep(&mut h.allowed, was));
        report.leftovers.iter_mut().zip(files).for_each(|(f, was)| keep(&mut f.allowed, was));
        report.notes = notes;
        let what = match count {
            1 => "an allowance has been added: when its leak is gone, take it out".to_owned(),
            n => format!("{n} allowances have been added: when a leak is gone, take its allowance out"),
        };
        report.notes.push(PolicyNote { place: Place { file: file.clone(), line }, what });
        Ok(())
    }
}

/// What a well-known daemon is, it is by itself; and what it has started is its own.
fn recognize_daemons(leaks: &mut [Leak]) {
    let known: Vec<(String, &'static str)> =
        leaks.iter().filter_map(|l| Some((format!("(pid {})", l.pid), daemons::fix(l)?))).collect();
    for leak in leaks {
        let below = || {
            let of = |ancestor: &String| known.iter().find(|(pid, _)| ancestor.ends_with(pid)).map(|(_, fix)| *fix);
            leak.ancestors.iter().find_map(of)
        };
        if let Some(fix) = daemons::fix(leak).or_else(below) {
            leak.kind = Kind::Daemon;
            fix.clone_into(&mut leak.fix);
        }
    }
}

fn expired_note(allowance: &Allowance) -> PolicyNote {
    let what = format!(
        "this allowance ({}) has expired, so what it allowed is a finding again: repair it, or give it another date",
        allowance.in_words()
    );
    PolicyNote { place: allowance.place.clone(), what }
}

/// A note for each allowance that matched nothing.
pub(super) fn unused(uses: &[AllowanceUse]) -> impl Iterator<Item = PolicyNote> {
    uses.iter().filter(|one| one.matched == 0).map(|one| PolicyNote {
        place: one.place.clone(),
        what: format!("this allowance ({}) matched nothing: correct it, or take it out", one.what),
    })
}

fn read(here: &Path, file: &Path) -> Result<Option<Rules>, String> {
    match fs::read_to_string(here.join(file)) {
        Ok(text) => file::read(&text, file).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("failed to read {}: {e}", file.display())),
    }
}

/// The workspace: the nearest directory, from here upwards, that has a lock file, a repository or `[workspace]`; else here.
fn root(here: &Path) -> PathBuf {
    let is_root = |dir: &&Path| {
        let workspace = || fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|t| has_workspace(&t));
        dir.join(super::POLICY).is_file()
            || dir.join("Cargo.lock").is_file()
            || dir.join(".git").exists()
            || workspace()
    };
    here.ancestors().find(is_root).unwrap_or(here).to_owned()
}

fn has_workspace(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim_start().starts_with("[workspace"))
}

/// A path as people would write it from here.
fn shown(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests;
