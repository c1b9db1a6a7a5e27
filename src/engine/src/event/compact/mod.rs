//! The form of commits on disk and on the wire (FORMAT 6).
//!
//! Log ids are small indexes into a dictionary, seqs and stamps small differences, and what
//! can be computed again (sizes, root, id) or looked up (prev, deps that lie near) is left out.
//! Decoding rebuilds the canonical header and hashes it; so the commit that comes out is the one
//! that went in, or has another id. Whoever expects a certain id must compare.
//!
//! A form other than the one that [`encode`] makes is refused, save one: an id that the dictionary
//! has learnt only since may be written out.

mod body;
mod read;
mod write;

pub use read::{DecodeError, Loose, decode, read};
pub use write::{EncodeError, encode, encode_beside, logs};

use crate::base::CodecError;
use crate::crdt::Action;

/// First byte: what is there.
mod head {
    pub(super) const KIND: u8 = 0b0000_0111;
    pub(super) const META: u8 = 1 << 3;
    pub(super) const ONE_EVENT: u8 = 1 << 4;
    pub(super) const DEPS: u8 = 1 << 5;
    pub(super) const ERASED: u8 = 1 << 6;
    pub(super) const MORE: u8 = 1 << 7;
}

/// Second byte, there if [`head::MORE`] is set: the rarities.
mod more {
    pub(super) const GRANT: u8 = 1;
    pub(super) const PREV: u8 = 1 << 1;
}

/// First byte of an event: four bits of type, one of verb, then these.
mod lead {
    pub(super) const FORM_SHIFT: u32 = 5;
    pub(super) const NOTHING: u8 = 0;
    pub(super) const ONE_DOT: u8 = 1;
    pub(super) const DOTS: u8 = 2;
    pub(super) const CUT: u8 = 3;
    pub(super) const ERASED: u8 = 1 << 7;
}

/// Puts type and verb into five bits. All actions have a type below 15 and the verb 1 or 2.
fn action_bits(action: Action) -> u8 {
    let [ty, verb] = action.to_bytes();
    (ty & 0x0f) | (verb.wrapping_sub(1) & 1) << 4
}

fn action_from_bits(bits: u8) -> Result<Action, CodecError> {
    Action::from_bytes([bits & 0x0f, (bits >> 4 & 1) + 1])
}

/// Maps a difference to a number that is small if the difference is, either way.
fn zigzag(value: u64, base: u64) -> u64 {
    let difference = value.wrapping_sub(base).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

fn unzigzag(number: u64, base: u64) -> u64 {
    base.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg())
}

#[cfg(test)]
mod tests;
