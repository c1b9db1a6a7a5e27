//! The proof that one author wrote two commits under one number (FORMAT 5.5).
//!
//! Two headers of one log with equal seq and equal `prev` and different ids, each with a voucher of
//! the author's: nobody else can make one, and whoever holds it needs nothing else to believe it.
//! Equal `prev` means that the log parts exactly here. What follows from a proof is not decided
//! here (Kleppmann 2022, "Making CRDTs Byzantine Fault Tolerant": name by hash, and let validity be
//! a function of what is known, not of what came first).

use super::{Header, Kind, Voucher, VoucherError};
use crate::base::{CodecError, CommitId, LogId, Reader, SpaceId, Writer};
use crate::causal::Tip;
use crate::limits;

/// One of the commits at a fork: its header, and what shows that it is its author's.
///
/// To hold one is proof that the voucher covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSide {
    header: Header,
    id: CommitId,
    voucher: Voucher,
}

/// Two commits of one log under one number.
///
/// To hold one is proof that the author forked its log: both vouchers were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkProof {
    /// Ascending by commit id, so that the same two commits make the same proof.
    sides: [ForkSide; 2],
}

/// Why two commits prove no fork.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// The bytes are not canonical.
    #[error("malformed proof of a fork: {0}")]
    Malformed(#[from] CodecError),
    /// The author does not vouch for one of them.
    #[error("a side of the fork is not vouched for: {0}")]
    Unvouched(#[from] VoucherError),
    /// They are not two commits of one log that follow the same one.
    #[error("the two commits do not fork one log")]
    NotAFork,
}

impl ForkSide {
    /// Takes a header for which `voucher` vouches. Costs a check of a signature.
    ///
    /// # Errors
    /// [`ForkError`]. A genesis founds a space of its own and is no side of any fork.
    pub fn new(header: Header, voucher: Voucher) -> Result<Self, ForkError> {
        if header.kind == Kind::Genesis {
            return Err(ForkError::NotAFork);
        }
        let side = Self { id: header.id(), header, voucher };
        side.voucher.covers(&side.header.space, &side.tip())?;
        Ok(side)
    }

    /// Returns the space.
    pub fn space(&self) -> SpaceId {
        self.header.space
    }

    /// Returns the commit's name.
    pub fn tip(&self) -> Tip {
        Tip { log: self.header.log, seq: self.header.seq, id: self.id }
    }

    /// Returns what vouches for the log up to this commit.
    pub fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    /// Appends the canonical form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut header = Vec::new();
        self.header.encode(&mut header);
        out.put_bytes(&header);
        self.voucher.encode(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ForkError> {
        let header = Header::decode(reader.bytes(limits::FORK_PROOF_BYTES_MAX, "header")?)?;
        Self::new(header, Voucher::decode(reader)?)
    }

    /// Takes the canonical form and verifies it.
    ///
    /// # Errors
    /// [`ForkError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ForkError> {
        let mut reader = Reader::new(bytes);
        let side = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(side)
    }
}

impl ForkProof {
    /// Makes a proof of two sides, in any order.
    ///
    /// # Errors
    /// [`ForkError::NotAFork`].
    pub fn new(a: ForkSide, b: ForkSide) -> Result<Self, ForkError> {
        let place = |side: &ForkSide| {
            let Header { space, log, seq, prev, .. } = side.header;
            (space, log, seq, prev)
        };
        if a.id == b.id || place(&a) != place(&b) {
            return Err(ForkError::NotAFork);
        }
        Ok(Self { sides: if a.id < b.id { [a, b] } else { [b, a] } })
    }

    /// Returns the space.
    pub fn space(&self) -> SpaceId {
        self.one().space()
    }

    /// Returns the forked log.
    pub fn log(&self) -> LogId {
        self.one().header.log
    }

    /// Returns the number that both commits have.
    pub fn seq(&self) -> u64 {
        self.one().header.seq
    }

    /// Returns the last commit that both branches share; all zero if they share none.
    pub fn prev(&self) -> CommitId {
        self.one().header.prev
    }

    /// Returns the two sides, ascending by commit id.
    pub fn sides(&self) -> &[ForkSide; 2] {
        &self.sides
    }

    /// Appends the canonical form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.sides.iter().for_each(|side| side.encode(out));
    }

    /// Takes the canonical form and verifies it: two checks of a signature.
    ///
    /// # Errors
    /// [`ForkError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ForkError> {
        let mut reader = Reader::new(bytes);
        let (a, b) = (ForkSide::read(&mut reader)?, ForkSide::read(&mut reader)?);
        reader.finish()?;
        if a.id > b.id {
            return Err(CodecError::NotCanonical("order of the sides of a fork").into());
        }
        Self::new(a, b)
    }

    /// Reads what the bytes of a proof, or of one side, speak of, and checks nothing else: to tell
    /// what is known already from what is worth a check.
    pub fn place(bytes: &[u8]) -> Option<(SpaceId, LogId, u64)> {
        let header = Reader::new(bytes).bytes(limits::FORK_PROOF_BYTES_MAX, "header").ok()?;
        let header = Header::decode(header).ok()?;
        Some((header.space, header.log, header.seq))
    }

    fn one(&self) -> &ForkSide {
        let [one, _] = &self.sides;
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Hlc, Key, Rng, WallTime};
    use crate::crdt::{Action, Delta, Supersedes};
    use crate::event::tree::Tree;
    use crate::event::{Attestation, Commit, Draft, KeyPair};
    use proptest::prelude::*;

    const SPACE: SpaceId = SpaceId([9; 32]);

    fn key() -> KeyPair {
        KeyPair::from_seed([7; 32])
    }

    fn commit(seq: u64, prev: CommitId, salt: u8) -> Commit {
        let log = LogId { replica: key().id(), incarnation: 5 };
        let hlc = Hlc::from_wall(WallTime(1000 + seq));
        let (action, supersedes) = (Action::RegisterPut, Supersedes::NOTHING);
        let delta = Delta { action, supersedes, payload: [b'1'][..].into() };
        let events = vec![(Key::new("k").unwrap(), delta)];
        let kind = Kind::Data;
        Draft { space: SPACE, seq, prev, kind, events, ..Draft::genesis(log, hlc) }
            .seal(&mut Rng::new([salt; 32]))
            .unwrap()
    }

    /// A chain of commits and what vouches for one of them under the last.
    fn side(chain: &[Commit], at: usize) -> ForkSide {
        let mut tree = Tree::default();
        chain.iter().for_each(|commit| tree.append(&commit.id()));
        let tip = chain.last().unwrap().tip();
        let attestation = Attestation::sign(&key(), SPACE, tip, tree.root());
        let ids = |index: u64| chain.get(usize::try_from(index).unwrap()).map(Commit::id);
        let (index, size) = (at as u64, chain.len() as u64);
        let last = index + 1 == size;
        let proof = if last { Vec::new() } else { tree.proof(index, size, &ids).unwrap() };
        ForkSide::new(chain[at].header().clone(), Voucher { attestation, proof }).unwrap()
    }

    fn chains() -> (Vec<Commit>, Vec<Commit>) {
        let first = commit(1, CommitId::ZERO, 0);
        let (a, b) = (commit(2, first.id(), 1), commit(2, first.id(), 2));
        let longer = commit(3, b.id(), 3);
        (vec![first.clone(), a], vec![first, b, longer])
    }

    fn proof() -> ForkProof {
        let (a, b) = chains();
        ForkProof::new(side(&b, 1), side(&a, 1)).unwrap()
    }

    #[test]
    fn two_commits_after_one_are_a_proof_whatever_their_order() {
        let (a, b) = chains();
        let proof = proof();
        assert_eq!(ForkProof::new(side(&a, 1), side(&b, 1)).unwrap(), proof);
        assert_eq!((proof.seq(), proof.prev()), (2, a[0].id()));
        let mut bytes = Vec::new();
        proof.encode(&mut bytes);
        assert!(bytes.len() < limits::FORK_PROOF_BYTES_MAX);
        assert_eq!(ForkProof::decode(&bytes), Ok(proof));
    }

    #[test]
    fn one_commit_twice_or_commits_of_different_numbers_prove_nothing() {
        let (a, b) = chains();
        let not = Err(ForkError::NotAFork);
        assert_eq!(ForkProof::new(side(&a, 1), side(&a, 1)), not);
        assert_eq!(ForkProof::new(side(&a, 1), side(&b, 2)), not);
        assert_eq!(ForkProof::new(side(&a, 0), side(&b, 0)), not);
    }

    #[test]
    fn two_commits_that_follow_different_ones_say_that_the_fork_lies_below() {
        let (a, b) = chains();
        let after_a = commit(3, a[1].id(), 9);
        let a: Vec<_> = a.into_iter().chain([after_a]).collect();
        assert_eq!(ForkProof::new(side(&a, 2), side(&b, 2)), Err(ForkError::NotAFork));
    }

    #[test]
    fn a_voucher_of_the_other_branch_vouches_for_nothing_here() {
        let (a, b) = chains();
        let voucher = side(&a, 1).voucher().clone();
        let stolen = ForkSide::new(b[1].header().clone(), voucher);
        assert!(matches!(stolen, Err(ForkError::Unvouched(_))), "{stolen:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_or_cut_proof_is_refused(at: prop::sample::Index, bit in 0u8..8, cut: bool) {
            let mut bytes = Vec::new();
            proof().encode(&mut bytes);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            prop_assert!(ForkProof::decode(&bytes).is_err());
        }
    }
}
