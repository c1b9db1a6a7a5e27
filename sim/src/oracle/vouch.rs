//! What vouches for commits, and what proves a fork: FORMAT sections 5.2 to 5.5.

use kdelta_engine::base::{CommitId, Hash, LogId, SpaceId, sha256};
use kdelta_engine::event::Attestation;

use super::act::Act;
use super::bytes::{Bytes, Wrong, sha};
use super::commit::{Kind, Tip};

/// An attestation, and what leads from a prefix of the log to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    /// The space.
    pub space: SpaceId,
    /// The last commit that is attested.
    pub tip: Tip,
    /// The root over the log up to it.
    pub root: Hash,
    /// The author's signature.
    pub signature: [u8; 64],
    /// Siblings from the prefix's last leaf up.
    pub proof: Vec<Hash>,
}

impl Voucher {
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Wrong> {
        if bytes.u8()? != 1 {
            return Err("the suite of an attestation is unknown");
        }
        let space = SpaceId(bytes.array()?);
        let (log, seq, id) = (bytes.log()?, bytes.varint()?, bytes.id()?);
        if seq == 0 || seq > u64::MAX >> 1 {
            return Err("a seq is out of range");
        }
        let (root, signature) = (bytes.array()?, bytes.array()?);
        let count = bytes.count(64)?;
        let proof = (0..count).map(|_| bytes.array()).collect::<Result<_, Wrong>>()?;
        Ok(Self { space, tip: Tip { log, seq, id }, root, signature, proof })
    }

    /// Checks that the prefix of the log that ends in `tip` is what is attested. The signature is
    /// [`signed`](Self::signed)'s.
    pub(super) fn covers(&self, space: &SpaceId, tip: &Tip) -> Result<(), Wrong> {
        if (self.space, self.tip.log) != (*space, tip.log) || tip.seq == 0 {
            return Err("a voucher is for another log");
        }
        let covers = if tip.seq == self.tip.seq {
            tip.id == self.tip.id && self.proof.is_empty()
        } else {
            let leaf = sha(&[&[0], &tip.id.0]);
            included(&self.root, self.tip.seq, tip.seq - 1, leaf, &self.proof)
        };
        if covers { Ok(()) } else { Err("a voucher does not cover its commit") }
    }

    /// Tells whether the signature is the author's. Costs about 50 microseconds.
    pub fn signed(&self) -> bool {
        let Self { space, tip, root, signature, .. } = self;
        let Tip { log, seq, id } = *tip;
        let (space, root, signature) = (*space, *root, *signature);
        Attestation { space, log, seq, tip: id, root, signature }.verify().is_ok()
    }
}

/// RFC 9162, section 2.1.3.2.
fn included(root: &Hash, size: u64, index: u64, leaf: Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut fn_, mut sn, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = sha(&[&[1], sibling, &hash]);
            if fn_ & 1 == 0 {
                while fn_ & 1 == 0 && fn_ != 0 {
                    (fn_, sn) = (fn_ >> 1, sn >> 1);
                }
            }
        } else {
            hash = sha(&[&[1], &hash, sibling]);
        }
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    sn == 0 && hash == *root
}

/// Two commits of one log under one number, each vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The space.
    pub space: SpaceId,
    /// The log that is forked.
    pub log: LogId,
    /// From where on: the seq of both.
    pub seq: u64,
    /// The two commits.
    pub ids: [CommitId; 2],
    /// What vouches for each.
    pub vouchers: [Voucher; 2],
}

impl Fork {
    /// Reads a proof and checks it, its signatures apart.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        if bytes.len() > 65_536 {
            return Err("a proof of a fork is too long");
        }
        let mut bytes = Bytes(bytes);
        let (first, one) = side(&mut bytes)?;
        let (second, other) = side(&mut bytes)?;
        bytes.end()?;
        let same = (first.space, first.prev, first.tip.log, first.tip.seq)
            == (second.space, second.prev, second.tip.log, second.tip.seq);
        if !same || first.tip.id >= second.tip.id {
            return Err("two commits do not prove a fork");
        }
        let Tip { log, seq, id } = first.tip;
        let (ids, vouchers) = ([id, second.tip.id], [one, other]);
        Ok(Self { space: first.space, log, seq, ids, vouchers })
    }
}

struct Front {
    space: SpaceId,
    tip: Tip,
    prev: CommitId,
}

fn side(bytes: &mut Bytes<'_>) -> Result<(Front, Voucher), Wrong> {
    let front = front(bytes.bytes(65_536)?)?;
    let voucher = Voucher::read(bytes)?;
    voucher.covers(&front.space, &front.tip)?;
    Ok((front, voucher))
}

/// Reads a canonical header.
fn front(header: &[u8]) -> Result<Front, Wrong> {
    let id = CommitId(sha256("kdelta/commit/1", &[header]));
    let mut bytes = Bytes(header);
    if bytes.take(2)? != [1, 1] {
        return Err("the version of a header is unknown");
    }
    let (space, log) = (SpaceId(bytes.array()?), bytes.log()?);
    let (seq, prev, _hlc) = (bytes.varint()?, bytes.id()?, bytes.u64()?);
    for _ in 0..bytes.count(256)? {
        let (_log, _seq, _id) = (bytes.log()?, bytes.varint()?, bytes.id()?);
    }
    match bytes.u8()? {
        0 => {}
        1 => drop(bytes.take(32)?),
        _ => return Err("a flag is neither 0 nor 1"),
    }
    match Kind::of(bytes.u8()?) {
        None | Some(Kind::Genesis) => return Err("such a commit cannot prove a fork"),
        Some(kind) if kind.acts() => drop(Act::read(kind.byte(), &mut bytes)?),
        Some(_) => {}
    }
    let (_count, meta, _size) = (bytes.varint()?, bytes.u8()?, bytes.varint()?);
    bytes.take(32)?;
    if meta > 1 {
        return Err("a flag is neither 0 nor 1");
    }
    bytes.end()?;
    Ok(Front { space, tip: Tip { log, seq, id }, prev })
}
