//! Floor 3: the commit, its bytes and its proofs.
//!
//! A commit is an atomic batch of events, hash-chained per log; its id is the hash of its header.
//! To hold a [`Commit`] is proof that it is structurally valid: sizes, counts, order and root
//! agree. What needs other commits (is a superseded dot in the past, does the stamp exceed those
//! of the deps, may the author write) is checked by the store.
//!
//! [`compact`] is the form on disk and wire, [`tree`] the Merkle tree of RFC 6962, and a
//! [`Voucher`] shows with one signature that a prefix of a log is its author's, and a [`ForkProof`]
//! with two that a log has two ends.
//! All bytes are specified in `docs/FORMAT.md`, chapters 1 to 6.

mod act;
mod attestation;
mod commit;
pub mod compact;
mod dictionary;
mod draft;
mod fork;
mod header;
mod leaf;
mod meta;
mod tip;
pub mod tree;

#[cfg(test)]
pub(crate) mod arbitrary;

pub use act::{Act, Actions, Audience, Grant, Prefixes, root_grant};
pub use attestation::{Attestation, KeyPair, Voucher, VoucherError};
pub use commit::Commit;
pub use dictionary::{Dictionary, Entry};
pub use draft::{Draft, DraftError};
pub use fork::{ForkError, ForkProof, ForkSide};
pub use header::{Genesis, Header, Kind, Mode, Owned, SUITE, VERSION};
pub use leaf::{Content, Event, Skeleton};
pub use meta::{Meta, Tag};
pub use tip::Dep;

use crate::base::{Sha256Stream, Writer};

impl Writer for Sha256Stream {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Counts what is written and keeps none of it.
struct Measure(usize);

impl Writer for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}
