//! The dev-dependency in `Cargo.toml`, however it is written there.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Step, text};

const FEATURE: &str = "features = [\"leakcheck\"]";

/// The line that a package needs which has never heard of foster.
pub(super) fn dependency() -> String {
    let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    format!("foster = {{ version = \"{version}\", {FEATURE} }}")
}

/// The name of the package; `None` for a workspace without one.
pub(super) fn package(manifest: &str) -> Result<Option<String>, String> {
    let document = DeTable::parse(manifest).map_err(|e| e.message().to_owned())?;
    let name = text::find(document.get_ref(), &["package", "name"]);
    Ok(name.and_then(|name| name.get_ref().as_str()).map(str::to_owned))
}

pub(super) fn is_workspace(manifest: &str) -> bool {
    DeTable::parse(manifest).is_ok_and(|document| text::find(document.get_ref(), &["workspace"]).is_some())
}

/// What is to be done so that an example can use the leak check.
pub(super) fn with_leakcheck(manifest: &str) -> Step {
    let by_hand =
        || Step::Left(format!("it cannot be changed safely; add under `[dev-dependencies]`:\n    {}", dependency()));
    let Ok(document) = DeTable::parse(manifest) else { return by_hand() };
    let document = document.get_ref();
    let mut new = manifest.to_owned();
    let mut what = Vec::new();
    if !["dev-dependencies", "dependencies"].iter().any(|table| has_feature(document, table)) {
        new = match text::find(document, &["dev-dependencies", "foster"]) {
            Some(found) => with_feature(manifest, document, found),
            None => text::with_line(manifest, document, "dev-dependencies", &dependency()),
        };
        what.push("the dev-dependency foster with the feature `leakcheck`");
    }
    if !finds_example(document) {
        let gap = if new.ends_with('\n') { "\n" } else { "\n\n" };
        new += &format!("{gap}[[example]]\nname = \"xtask\"\npath = \"examples/xtask.rs\"\n");
        what.push("the example `xtask`, since examples are not looked for");
    }
    if what.is_empty() {
        return Step::Present("foster with the feature `leakcheck`".to_owned());
    }
    let done = DeTable::parse(&new).is_ok_and(|document| {
        let document = document.get_ref();
        finds_example(document) && ["dev-dependencies", "dependencies"].iter().any(|table| has_feature(document, table))
    });
    if done { Step::Write { text: new, what: what.join(", ") } } else { by_hand() }
}

fn has_feature(document: &DeTable<'_>, table: &str) -> bool {
    let features = text::find(document, &[table, "foster", "features"]);
    let features = features.and_then(|features| features.get_ref().as_array());
    features.is_some_and(|all| all.iter().any(|feature| feature.get_ref().as_str() == Some("leakcheck")))
}

/// Would cargo find `examples/xtask.rs`?
fn finds_example(document: &DeTable<'_>) -> bool {
    let looked_for = text::find(document, &["package", "autoexamples"]).and_then(|v| v.get_ref().as_bool());
    let listed = text::find(document, &["example"]).and_then(|v| v.get_ref().as_array()).is_some_and(|examples| {
        let name = |e: &Spanned<DeValue<'_>>| {
            Some(text::find(e.get_ref().as_table()?, &["name"])?.get_ref().as_str()? == "xtask")
        };
        examples.iter().any(|example| name(example) == Some(true))
    });
    looked_for != Some(false) || listed
}

/// The dependency that is there, with the feature. What does not come out right is noticed by reading it again.
fn with_feature(manifest: &str, document: &DeTable<'_>, found: &Spanned<DeValue<'_>>) -> String {
    let span = found.span();
    let source = &manifest[span.clone()];
    if let DeValue::String(_) = found.get_ref() {
        // `foster = "0.1"`
        let table = format!("{{ version = {source}, {FEATURE} }}");
        return format!("{}{table}{}", &manifest[..span.start], &manifest[span.end..]);
    }
    if let Some(features) = text::find(document, &["dev-dependencies", "foster", "features"]) {
        return with_another(manifest, features);
    }
    match source {
        // `foster = { version = "0.1" }`
        _ if source.starts_with('{') => {
            let inner = source.trim_end_matches('}').trim_end();
            text::with(manifest, span.start + inner.len(), &format!(", {FEATURE}"))
        }
        // `[dev-dependencies.foster]`
        _ if source.starts_with('[') => {
            let line_end = manifest[span.end..].find('\n').map_or(manifest.len(), |at| span.end + at);
            text::with(manifest, line_end, &format!("\n{FEATURE}"))
        }
        // `foster.workspace = true`
        _ => text::with_line(manifest, document, "dev-dependencies", &format!("foster.{FEATURE}")),
    }
}

/// A list of features, with one more.
fn with_another(manifest: &str, features: &Spanned<DeValue<'_>>) -> String {
    let span = features.span();
    let last = features.get_ref().as_array().and_then(|all| all.iter().last());
    match last {
        Some(last) => text::with(manifest, last.span().end, ", \"leakcheck\""),
        None => text::with(manifest, span.end.saturating_sub(1), "\"leakcheck\""),
    }
}
