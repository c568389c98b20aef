//! A test for each dialogue file, for `cargo test --features dialogues --test dialogues` and for nextest.

foster::dialogues!("tests/dialogue/*.dlg");
