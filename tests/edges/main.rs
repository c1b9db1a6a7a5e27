//! The real binary on the real file system, at its edges: killed at each call that writes, refused
//! by a failing or full disk, cut from power, short of what the system gives; and the disk of the
//! host beside the disk in memory that stands for it in simulations.
//!
//! A test that needs a tool or a right that is not there says `SKIPPED: …` on stderr and passes.
//! `KDELTA_TEST_CUTS` sets how often the power is cut, `KDELTA_TEST_SEED` when.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests may panic, and must say what they did not test"
)]

#[path = "../common/mod.rs"]
mod common;

mod errors;
mod kills;
mod ledger;
mod limits;
mod mounts;
mod parity;
mod power;
mod strace;

use std::path::PathBuf;

/// Finds a program; says so where it is missing.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let found = places.map(|place| PathBuf::from(place).join(name)).find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Says why something was not tested. Past the capture of test output, so that it is seen.
fn skipped(reason: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}
