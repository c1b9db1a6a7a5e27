//! What is tried on bytes that anybody may have written: one plain function for each target.
//!
//! The functions live here alone. `fuzz_targets/` hands them to libFuzzer, `tests/fuzz_corpus.rs`
//! replays the committed corpus through them on stable. They reach every decoder of the engine by
//! its public face, and the language of queries; where a checksum stands before a decoder they
//! compute it, so that changed bytes get past it. A function that returns found nothing; anything
//! else is a bug.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong here is a finding, and must end the run"
)]

pub mod disk;
pub mod node;
pub mod query;
pub mod records;
pub mod recover;
pub mod seeds;
pub mod sums;
pub mod values;
pub mod wire;
pub mod world;

/// A target: bytes in, and either nothing happens or a bug was found.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its file and of the folder of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("bookkeeping", disk::bookkeeping),
    ("causal", values::causal),
    ("chunk", wire::chunk),
    ("compact", values::compact),
    ("frame", wire::frame),
    ("header", values::header),
    ("json", values::json),
    ("leaf", values::leaf),
    ("local", disk::local),
    ("names", values::names),
    ("node", node::node),
    ("proof", values::proof),
    ("query", query::query),
    ("records", records::records),
    ("recover", recover::recover),
    ("sidecar", disk::sidecar),
    ("state", values::state),
    ("ticket", values::ticket),
];
