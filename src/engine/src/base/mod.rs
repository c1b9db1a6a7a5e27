//! Floor 0: values without behaviour.
//!
//! Identities, keys, hashes, stamps, the canonical byte codec and a seeded source of random
//! bytes. Nothing here reads a clock, a disk or the operating system. Under a feature each, off by
//! default: bugs that can be chosen ([`mutant`]) and counters of rare paths ([`mark`]).

#[macro_use]
pub mod mark;
#[macro_use]
pub mod mutant;

mod codec;
mod hash;
mod hlc;
mod id;
mod key;
#[cfg(any(feature = "mutants", feature = "marks"))]
mod named;
mod rng;
mod time;
mod work;

pub use codec::{CodecError, Reader, Writer};
pub use hash::{Hash, Sha256Stream, sha256};
pub use hlc::{DriftError, Hlc, HlcClock};
pub use id::{
    CommitId, Dot, EventId, GrantId, LogId, ParseIdError, ReplicaId, SpaceId, hex, unhex,
};
pub use key::{Key, KeyError};
pub use rng::Rng;
pub use time::{Instant, Now, WallTime};
pub use work::work;
