//! Signatures over log tips, and what they vouch for (FORMAT 5.3, 5.4).
//!
//! An author signs the tip of a log and the root over all its commit ids. Through `prev` the tip
//! names the whole log; through the root a proof of O(log n) shows the same of any shorter prefix.
//! Ed25519, checked with `verify_strict` only: batch verification would accept signatures that
//! single verification refuses, and replicas would disagree.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::tree;
use crate::base::{CodecError, CommitId, Hash, LogId, Reader, ReplicaId, SpaceId, Writer};
use crate::causal::{Tip, check_seq};
use crate::limits;

/// The secret key of a replica.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// Makes the pair that belongs to a seed of 32 random bytes, the secret itself.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Returns the public key.
    pub fn id(&self) -> ReplicaId {
        ReplicaId(self.0.verifying_key().to_bytes())
    }

    /// Signs a message. Costs about 50 microseconds.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({:?})", self.id())
    }
}

/// An author's signature over the tip of one of its logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The space.
    pub space: SpaceId,
    /// The log.
    pub log: LogId,
    /// How many commits are attested: the seq of the last.
    pub seq: u64,
    /// The id of the last.
    pub tip: CommitId,
    /// The RFC 6962 root over the ids of all, in order.
    pub root: Hash,
    /// Ed25519, by the log's replica.
    pub signature: [u8; 64],
}

impl Attestation {
    /// Signs a tip; `root` is that of the log's tree at size `tip.seq`.
    ///
    /// # Panics
    /// If the log is not one of the key's.
    pub fn sign(key: &KeyPair, space: SpaceId, tip: Tip, root: Hash) -> Self {
        assert!(tip.log.replica == key.id(), "a replica attests its own logs only");
        let Tip { log, seq, id } = tip;
        let mut attestation = Self { space, log, seq, tip: id, root, signature: [0; 64] };
        attestation.signature = key.sign(&attestation.message());
        attestation
    }

    /// Returns what is attested, by its name.
    pub fn tip(&self) -> Tip {
        Tip { log: self.log, seq: self.seq, id: self.tip }
    }

    /// Checks the signature. Costs about 100 microseconds.
    ///
    /// # Errors
    /// [`VoucherError::Signature`].
    pub fn verify(&self) -> Result<(), VoucherError> {
        verify(&self.log.replica, &self.message(), &self.signature)
    }

    /// Appends the canonical form.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_u8(super::SUITE);
        out.put(&self.space.0);
        self.tip().encode(out);
        out.put(&self.root);
        out.put(&self.signature);
    }

    /// Takes the canonical form. The signature is not checked.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if reader.u8()? != super::SUITE {
            return Err(CodecError::Unknown("attestation suite"));
        }
        let space = SpaceId(reader.hash()?);
        let Tip { log, seq, id } = Tip::decode(reader)?;
        let (root, signature) = (reader.hash()?, reader.array()?);
        Ok(Self { space, log, seq, tip: id, root, signature })
    }

    fn message(&self) -> Vec<u8> {
        let mut message = b"kdelta/attest/1".to_vec();
        message.put(&self.space.0);
        message.put_log(&self.log);
        message.put_u64(self.seq);
        message.put(&self.tip.0);
        message.put(&self.root);
        message
    }
}

/// An attestation and the proof that a shorter prefix lies under its root.
///
/// `proof` is empty where the prefix is all that is attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    /// The signed tip.
    pub attestation: Attestation,
    /// Siblings of the prefix's last leaf, from the leaf up.
    pub proof: Vec<Hash>,
}

/// Why a voucher does not vouch for a prefix. The commits may still be right: ask for another.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It is for another space.
    #[error("the attestation is for another space")]
    Space,
    /// It is for another log.
    #[error("the attestation is for another log")]
    Log,
    /// The prefix is longer than what is attested.
    #[error("the attestation ends at {attested}, the prefix at {seq}")]
    Beyond {
        /// The end of the prefix.
        seq: u64,
        /// The end of what is attested.
        attested: u64,
    },
    /// The proof does not lead from the prefix's last commit to the root.
    #[error("the proof does not lead to the attested root")]
    Proof,
    /// The signature is not the replica's.
    #[error("the signature is not that of the log's replica")]
    Signature,
}

impl Voucher {
    /// Checks that the author of `tip.log` vouches for it and for all before it.
    ///
    /// The way from `tip` back is through `prev`: whoever holds the chain holds the proof.
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn covers(&self, space: &SpaceId, tip: &Tip) -> Result<(), VoucherError> {
        self.includes(space, tip)?;
        if mutant!("signature-unchecked") {
            return Ok(());
        }
        self.attestation.verify()
    }

    /// Checks all but the signature, for an attestation that was verified before.
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn includes(&self, space: &SpaceId, tip: &Tip) -> Result<(), VoucherError> {
        let Attestation { seq: attested, root, .. } = &self.attestation;
        if self.attestation.space != *space {
            return Err(VoucherError::Space);
        }
        if self.attestation.log != tip.log {
            return Err(VoucherError::Log);
        }
        if tip.seq > *attested {
            return Err(VoucherError::Beyond { seq: tip.seq, attested: *attested });
        }
        let proven = if tip.seq == *attested {
            self.proof.is_empty() && tip.id == self.attestation.tip
        } else {
            let Some(index) = tip.seq.checked_sub(1) else { return Err(VoucherError::Proof) };
            tree::verify(root, *attested, index, &tree::leaf(&tip.id), &self.proof)
        };
        if proven { Ok(()) } else { Err(VoucherError::Proof) }
    }

    /// Appends the canonical form: the attestation, then the proof with its length in front.
    pub fn encode(&self, out: &mut impl Writer) {
        self.attestation.encode(out);
        out.put_len(self.proof.len());
        for hash in &self.proof {
            out.put(hash);
        }
    }

    /// Takes the canonical form. Nothing is verified.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let attestation = Attestation::decode(reader)?;
        check_seq(attestation.seq)?;
        let count = reader.count(limits::PROOF_HASHES_MAX, 32, "proof")?;
        let proof = (0..count).map(|_| reader.hash()).collect::<Result<_, _>>()?;
        Ok(Self { attestation, proof })
    }
}

/// The one place where signatures of replicas are checked, singly and strictly: so a malformed one
/// has the same verdict everywhere.
fn verify(replica: &ReplicaId, message: &[u8], signature: &[u8; 64]) -> Result<(), VoucherError> {
    let bad = |_| VoucherError::Signature;
    let key = VerifyingKey::from_bytes(&replica.0).map_err(bad)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::arbitrary::random_bytes;
    use crate::event::tree::Tree;
    use proptest::prelude::*;

    const SPACE: SpaceId = SpaceId([1; 32]);

    fn id(seq: u64) -> CommitId {
        CommitId(crate::base::sha256("test", &[&seq.to_le_bytes()]))
    }

    fn key() -> KeyPair {
        KeyPair::from_seed([7; 32])
    }

    fn tip(seq: u64) -> Tip {
        Tip { log: LogId { replica: key().id(), incarnation: 5 }, seq, id: id(seq) }
    }

    fn voucher(size: u64, prefix: u64) -> Voucher {
        let mut tree = Tree::default();
        (1..=size).for_each(|seq| tree.append(&id(seq)));
        let attestation = Attestation::sign(&key(), SPACE, tip(size), tree.root());
        let proof = if prefix == size {
            Vec::new()
        } else {
            tree.proof(prefix - 1, size, &|index| Some(id(index + 1))).unwrap()
        };
        Voucher { attestation, proof }
    }

    fn encoded(voucher: &Voucher) -> Vec<u8> {
        let mut bytes = Vec::new();
        voucher.encode(&mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Voucher, CodecError> {
        let mut reader = Reader::new(bytes);
        let voucher = Voucher::decode(&mut reader)?;
        reader.finish().map(|()| voucher)
    }

    #[test]
    fn every_prefix_of_an_attested_log_is_covered_and_nothing_else() {
        for size in 1..20 {
            for prefix in 1..=size {
                let voucher = voucher(size, prefix);
                assert_eq!(voucher.covers(&SPACE, &tip(prefix)), Ok(()));
                for other in (1..=size).filter(|other| *other != prefix) {
                    let error = voucher.includes(&SPACE, &tip(other));
                    assert_eq!(error, Err(VoucherError::Proof), "{prefix} {other}");
                }
                let forged = Tip { id: CommitId([0; 32]), ..tip(prefix) };
                assert_eq!(voucher.includes(&SPACE, &forged), Err(VoucherError::Proof));
            }
        }
    }

    #[test]
    fn what_is_not_covered_says_why() {
        let voucher = voucher(9, 5);
        let other = Tip { log: LogId { incarnation: 6, ..tip(5).log }, ..tip(5) };
        assert_eq!(voucher.covers(&SpaceId([2; 32]), &tip(5)), Err(VoucherError::Space));
        assert_eq!(voucher.covers(&SPACE, &other), Err(VoucherError::Log));
        let beyond = VoucherError::Beyond { seq: 10, attested: 9 };
        assert_eq!(voucher.covers(&SPACE, &tip(10)), Err(beyond));
        assert_eq!(voucher.covers(&SPACE, &tip(0)), Err(VoucherError::Proof));
        let mut longer = voucher.clone();
        longer.proof.push([0; 32]);
        assert_eq!(longer.covers(&SPACE, &tip(5)), Err(VoucherError::Proof));
    }

    #[test]
    fn a_changed_attestation_does_not_verify() {
        let voucher = voucher(9, 9);
        let attestation = voucher.attestation;
        assert_eq!(attestation.verify(), Ok(()));
        let mut bytes = Vec::new();
        attestation.encode(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut reader = Reader::new(&bytes);
            if let Ok(other) = Attestation::decode(&mut reader) {
                let whole = reader.finish().is_ok();
                assert!(!whole || other.verify() == Err(VoucherError::Signature), "bit {bit}");
            }
        }
        let other_key = KeyPair::from_seed([8; 32]);
        assert_ne!(other_key.id(), key().id());
        let log = LogId { replica: other_key.id(), ..attestation.log };
        assert!(Attestation { log, ..attestation }.verify().is_err());
    }

    /// A key of small order with a zero signature passes lax verification for any message.
    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut attestation = voucher(1, 1).attestation;
        let mut point = [0; 32];
        point[0] = 1;
        attestation.log.replica = ReplicaId(point);
        attestation.signature = [0; 64];
        attestation.signature[0] = 1;
        assert_eq!(attestation.verify(), Err(VoucherError::Signature));
    }

    /// Of those that verify singly and not in batches, or the reverse, or in some libraries only,
    /// one is good; its key and its point are of mixed order.
    #[test]
    fn a_malformed_signature_has_one_verdict() {
        let cases = include_str!("../../tests/fixtures/signatures.txt");
        let cases = cases.lines().filter(|line| !line.starts_with('#'));
        let verdicts = cases.map(|case| {
            let mut parts = case.split(' ').map(|part| crate::base::unhex(part).unwrap());
            let [message, key, signature] = std::array::from_fn(|_| parts.next().unwrap());
            let replica = ReplicaId(key.try_into().unwrap());
            verify(&replica, &message, &signature.try_into().unwrap()).is_ok()
        });
        let good = |at| at == 3;
        assert_eq!(verdicts.collect::<Vec<_>>(), (0..12).map(good).collect::<Vec<_>>());
    }

    #[test]
    fn a_voucher_has_one_encoding() {
        for (size, prefix) in [(1, 1), (9, 5), (300, 1), (300, 300)] {
            let voucher = voucher(size, prefix);
            let bytes = encoded(&voucher);
            assert_eq!(decoded(&bytes), Ok(voucher));
            for len in 0..bytes.len() {
                assert!(decoded(&bytes[..len]).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = decoded(&changed) {
                    assert_eq!(encoded(&other), changed);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in random_bytes(600)) {
            let bytes = [&[1][..], &bytes].concat();
            if let Ok(voucher) = decoded(&bytes) {
                prop_assert_eq!(encoded(&voucher), bytes);
            }
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", KeyPair::from_seed([0xab; 32])).contains("abab"));
    }
}
