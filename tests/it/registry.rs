//! The registry knows every process, who started it and where.

use foster::prelude::*;
use foster::registry::{self, Role};
use foster::{Level, Result};

#[test]
fn a_helper_is_listed_with_all_that_is_known_of_it() -> Result {
    let fx = Fixture::command("cat").arg("-u").label("the cat").spawn()?;
    let line = line!() - 1;
    let live = registry::live();
    let entry = live.iter().find(|e| e.pid() == fx.id()).expect("it lives");
    assert_eq!((entry.role(), entry.label(), entry.command()), (Role::Helper, "the cat", "cat -u"));
    let location = entry.location().unwrap();
    assert_eq!((location.file(), location.line()), (file!(), line));
    // libtest and nextest say it in different ways, but both say it.
    let test = entry.test().expect("a test runs");
    assert!(test.ends_with("a_helper_is_listed_with_all_that_is_known_of_it"), "{test}");
    assert!(entry.started().elapsed().unwrap().as_secs() < 60);
    let text = entry.to_string();
    assert!(text.contains("helper") && text.contains("`cat -u` of test") && text.contains("registry.rs"), "{text}");
    Ok(())
}

#[test]
fn guardian_and_keepers_are_listed_and_are_what_they_claim_to_be() -> Result {
    let fx = Fixture::command("cat").spawn()?;
    let live = registry::live();
    let guardian = live.iter().find(|e| e.role() == Role::Guardian).expect("the level is L2");
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_eq!(name(guardian.pid()), "foster-guardian\n".split_at(15).0.to_owned() + "\n");
    assert_eq!(parent_of(guardian.pid()), std::process::id());
    // The helper's parent is a keeper in the list, and the keeper's parent is the guardian.
    let keeper = parent_of(fx.id());
    assert!(live.iter().any(|e| e.pid() == keeper && e.role() == Role::Keeper), "{live:?}");
    assert_eq!(parent_of(keeper), guardian.pid());
    assert!(foster::level() >= Some(Level::L2));
    drop(fx);
    assert!(registry::live().iter().all(|e| e.pid() != keeper), "a keeper goes with its fixture");
    Ok(())
}

#[test]
fn who_has_ended_by_himself_is_not_listed() -> Result {
    let fx = Fixture::command("true").spawn()?;
    fx.expect_exit()?;
    assert!(registry::live().iter().all(|e| e.pid() != fx.id()));
    Ok(())
}

fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}
