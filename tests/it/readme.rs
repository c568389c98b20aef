//! The README's example, compiled and run, and the check that it really is the README's.

#[test]
fn greets() -> foster::Result {
    let fx = foster::cargo_bin!("greet").spawn()?; // a program of this package; any other: Fixture::command("bc")
    fx.expect("name? ")?; // the first later place with this text
    fx.send_line("Bob")?;
    fx.expect_line("hello Bob")?; // the next line, whole
    fx.finish()?.assert().success(); // assert_cmd's checks
    Ok(())
}

#[test]
fn the_example_is_the_one_that_is_shown() {
    let (shown, own) = (include_str!("../../README.md"), include_str!("readme.rs"));
    let block = shown.split("```rust,ignore\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(own.contains(block), "this file lacks the README's example:\n{block}");
}
