//! Which file a fixture's conversation is written into, where `FOSTER_LOG` asks for it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::registry;
use crate::report::{self, Subject};
use crate::settings;
use crate::transcript::{Log, Secrets};

/// How much of a label or a test's name is in the name of a file.
const NAME: usize = 80;

/// The file of this fixture; `None` where nobody asked for it. It is not made before something is said.
pub(crate) fn log_of(subject: &Subject, secrets: &Secrets) -> Option<Log> {
    let dir = settings::log_dir()?;
    let test = registry::current_test();
    let path = dir.join(file_name(&subject.label, test.as_deref(), subject.pid));
    let heading = secrets.redacted_text(&heading(subject, test.as_deref()));
    Some(Log::new(path, heading, secrets.clone(), complain))
}

fn heading(subject: &Subject, test: Option<&str>) -> String {
    let at = subject.spawned_at;
    let test = test.map(|test| format!(" of test {test}")).unwrap_or_default();
    let Subject { label, command, pid, .. } = subject;
    format!("`{label}`: `{command}` (pid {pid}){test}, spawned at {}:{}\n", at.file(), at.line())
}

/// The label, the test, and the helper's pid, which tells fixtures of the same label apart.
fn file_name(label: &str, test: Option<&str>, pid: i32) -> String {
    let name = |text: &str| -> String {
        let text = text.replace("::", ".");
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '_' };
        text.chars().map(plain).take(NAME).collect()
    };
    match test {
        Some(test) => format!("{}-{}-{pid}.log", name(label), name(test)),
        None => format!("{}-{pid}.log", name(label)),
    }
}

/// Said once: one directory that cannot be written to is one problem, however many fixtures there are.
fn complain(why: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        report::say(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_fixture_and_test_and_nothing_leaves_the_directory() {
        assert_eq!(file_name("my cat", Some("mod::test"), 7), "my_cat-mod.test-7.log");
        assert_eq!(file_name("../../x/\0", None, 7), ".._.._x__-7.log");
        assert!(file_name(&"x".repeat(999), Some(&"\u{e4}".repeat(999)), i32::MAX).len() < 200);
    }
}
