//! What users steer with environment variables.

use std::time::Duration;

use foster::Result;

fn scaled(scale: &str) -> foster::FixtureBuilder {
    foster::cargo_bin!("scaled").env("FOSTER_TIMEOUT_SCALE", scale).timeout(Duration::from_secs(60))
}

/// Each of the limits is ten seconds, and a hundredth of that is a tenth of one; what is not scaled takes too long.
#[test]
fn the_scale_applies_to_every_time_limit() -> Result {
    let fx = scaled("0.01").spawn()?;
    let mut measured = 0;
    for line in fx.output().lines() {
        let line = line?;
        let (what, ms) = line.split_once(' ').expect("a word and a number");
        let ms: u64 = ms.parse().expect("a number");
        assert!((90..9000).contains(&ms), "{what} took {ms} ms, and should take 100");
        measured += 1;
    }
    fx.finish()?.assert().success();
    assert_eq!(measured, 16);
    Ok(())
}

#[test]
fn no_limit_is_too_long_for_the_clock() -> Result {
    for scale in ["1", "1e300", "0.5"] {
        scaled(scale).arg("--huge").spawn()?.finish()?.assert().success();
    }
    Ok(())
}
