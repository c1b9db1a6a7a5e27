//! The first frame both ways, and the proof that a ticket is held.

use super::PeerText;
use crate::base::{Hash, ReplicaId, SpaceId, sha256};

/// What one side can speak, and which process it is.
///
/// The peer's identity is not in here: the transport has proved its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version that it speaks.
    pub version_min: u16,
    /// The newest version that it speaks, at least `version_min`.
    pub version_max: u16,
    /// One bit for each optional feature; unknown bits are ignored.
    pub features: u64,
    /// Random in each process: two of them under one key are a copied replica.
    pub process: [u8; 16],
    /// Name and version of the program, for people.
    pub agent: PeerText,
}

/// What two hellos have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The newest version that both speak.
    pub version: u16,
    /// The features that both have.
    pub features: u64,
}

/// The two sides speak no version in common: update the older of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no protocol version in common: this side speaks {}, the peer ({}) speaks {}",
    range(.ours), .theirs.agent, range(.theirs)
)]
pub struct NoCommonVersion {
    /// This side's hello.
    pub ours: Hello,
    /// The peer's.
    pub theirs: Hello,
}

impl Hello {
    /// The oldest version of the protocol that this build speaks.
    pub const VERSION_MIN: u16 = 1;
    /// The newest version of the protocol that this build speaks.
    pub const VERSION_MAX: u16 = 1;

    /// Makes the hello of this build; `process` is drawn once in the life of the process.
    pub fn new(process: [u8; 16], agent: &str) -> Self {
        Self {
            version_min: Self::VERSION_MIN,
            version_max: Self::VERSION_MAX,
            features: 0,
            process,
            agent: PeerText::new(agent),
        }
    }

    /// Finds what this hello and the peer's have in common. Both sides find the same.
    ///
    /// # Errors
    /// [`NoCommonVersion`]: send [`Close`](super::Message::Close) with
    /// [`Code::VERSION`](super::Code::VERSION) and the text of the error.
    pub fn agree(&self, theirs: &Self) -> Result<Agreed, NoCommonVersion> {
        let version = self.version_max.min(theirs.version_max);
        if version < self.version_min.max(theirs.version_min) {
            return Err(NoCommonVersion { ours: self.clone(), theirs: theirs.clone() });
        }
        Ok(Agreed { version, features: self.features & theirs.features })
    }
}

fn range(hello: &Hello) -> String {
    if hello.version_min == hello.version_max {
        return format!("version {}", hello.version_max);
    }
    format!("versions {} to {}", hello.version_min, hello.version_max)
}

/// Returns the proof that `prover` holds the secret of a ticket for `space`, made for `verifier`.
///
/// It is bound to both keys and to the verifier's process, so it serves nobody else, and nobody
/// after a restart. Whoever sees it learns nothing of the secret (32 random bytes). The verifier
/// computes the same for each open ticket and compares; one comparison leaks nothing of use, as
/// the proof differs with each secret.
pub fn admission_proof(
    secret: &[u8; 32],
    space: &SpaceId,
    prover: &ReplicaId,
    verifier: &ReplicaId,
    verifier_process: &[u8; 16],
) -> Hash {
    sha256("kdelta/admit/1", &[secret, &space.0, &prover.0, &verifier.0, verifier_process])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version_min: u16, version_max: u16, features: u64) -> Hello {
        Hello { version_min, version_max, features, ..Hello::new([0; 16], "test 9") }
    }

    #[test]
    fn the_newest_common_version_is_agreed_on_by_both() {
        let (old, new) = (hello(1, 3, 0b110), hello(2, 9, 0b011));
        assert_eq!(old.agree(&new), Ok(Agreed { version: 3, features: 0b010 }));
        assert_eq!(old.agree(&new).ok(), new.agree(&old).ok());
    }

    #[test]
    fn no_common_version_names_both() {
        let error = hello(1, 1, 0).agree(&hello(2, 4, 0)).expect_err("apart");
        assert_eq!(
            error.to_string(),
            "no protocol version in common: this side speaks version 1, \
             the peer (test 9) speaks versions 2 to 4"
        );
    }

    #[test]
    fn a_proof_serves_one_pair_and_process_only() {
        let (a, b) = (ReplicaId([1; 32]), ReplicaId([2; 32]));
        let proof = |space, from, to, process: u8| {
            admission_proof(&[9; 32], &SpaceId([space; 32]), &from, &to, &[process; 16])
        };
        let proofs = [proof(0, a, b, 0), proof(1, a, b, 0), proof(0, b, a, 0), proof(0, a, b, 1)];
        let distinct: std::collections::BTreeSet<_> = proofs.iter().collect();
        assert_eq!(distinct.len(), proofs.len());
    }
}
