//! The report as JSON: what `leakcheck merge` reads, and anybody's own tools.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::leakcheck::Report;
use crate::leakcheck::report::SCHEMA;

/// `leakcheck.json`, or `leakcheck-2-of-4.json`: the files of all shards fit into one directory.
pub(super) fn name(report: &Report) -> String {
    match report.shard {
        Some(shard) => format!("leakcheck-{}-of-{}.json", shard.index, shard.count),
        None => "leakcheck.json".to_owned(),
    }
}

pub(super) fn text(report: &Report) -> String {
    // Plain data, whose keys are all strings: it cannot fail.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// Reads a report that this version of foster, or one with the same format, has written.
///
/// The error is for people and names the file.
pub(in crate::leakcheck) fn read(path: &Path) -> Result<Report, String> {
    let shown = path.display();
    // A pipe or a device may have no end.
    if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return Err(format!("`{shown}` is no report of foster's leak check: it is no regular file"));
    }
    let bytes = fs::read(path).map_err(|e| format!("failed to read `{shown}`: {e}"))?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|e| format!("`{shown}` is no report of foster's leak check: it is no JSON, or not all of it: {e}"))?;
    let writer = value.get("foster").and_then(Value::as_str);
    let (Some(schema), Some(writer)) = (value.get("schema").and_then(Value::as_u64), writer) else {
        return Err(format!("`{shown}` is no report of foster's leak check: it says no `schema` and no `foster`"));
    };
    if schema != u64::from(SCHEMA) {
        return Err(format!(
            "`{shown}` has version {schema} of the format (foster {writer} has written it), and foster {} reads version \
             {SCHEMA}: run the shards and the merge with the same version of foster",
            env!("CARGO_PKG_VERSION")
        ));
    }
    serde_json::from_value(value).map_err(|e| format!("`{shown}` is no whole report of foster's leak check: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leakcheck::Shard;
    use crate::leakcheck::report::tests::{clean, full};

    #[test]
    fn every_shard_has_a_name_of_its_own() {
        assert_eq!(name(&clean()), "leakcheck.json");
        let shard = Some(Shard { index: 2, count: 4 });
        assert_eq!(name(&Report { shard, ..clean() }), "leakcheck-2-of-4.json");
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let read_back = |content: &str| {
            fs::write(&path, content).unwrap();
            read(&path).map_err(|e| e.replace(&format!("`{}`", path.display()), "FILE"))
        };
        for report in [clean(), full()] {
            assert_eq!(read_back(&text(&report)), Ok(report));
        }
        // A device has no end that a reader would come to; this one has, for a reader that forgets to ask.
        let error = read(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error, "`/dev/null` is no report of foster's leak check: it is no regular file");
        let newer = text(&clean()).replace("\"schema\": 1,", "\"schema\": 2,").replace("\"leaks\"", "\"findings\"");
        let error = read_back(&newer).unwrap_err();
        assert!(error.starts_with("FILE has version 2 of the format (foster "), "{error}");
        for (content, complaint) in [
            ("", "FILE is no report of foster's leak check: it is no JSON, or not all of it: "),
            (&text(&full())[..900], "FILE is no report of foster's leak check: it is no JSON, or not all of it: "),
            ("[1]", "FILE is no report of foster's leak check: it says no `schema` and no `foster`"),
            (
                "{\"schema\":1,\"foster\":\"1\"}",
                "FILE is no whole report of foster's leak check: missing field `suite`",
            ),
        ] {
            let error = read_back(content).unwrap_err();
            assert!(error.starts_with(complaint), "{error}");
        }
        let error = read(&dir.path().join("none.json")).unwrap_err();
        assert!(error.starts_with("failed to read `") && error.contains("none.json`: No such file"), "{error}");
    }
}
