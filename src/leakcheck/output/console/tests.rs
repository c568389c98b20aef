//! The whole text, as it is printed.

use super::*;
use crate::leakcheck::facts::{Deed, Place};
use crate::leakcheck::leak::tests::sample;
use crate::leakcheck::report::tests::{clean, full};
use crate::leakcheck::{Allowed, Ending, Holding};

#[test]
fn todo() {
    println!("{}", full());
}
