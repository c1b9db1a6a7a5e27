//! Floor 0: values without behaviour.
//!
//! Identities, keys, hashes, stamps, the canonical byte codec and a seeded source of random
//! bytes. Nothing here reads a clock, a disk or the operating system.

mod codec;
mod hash;
mod hlc;
mod id;
mod key;
mod rng;
mod time;

pub use codec::{CodecError, Reader, Writer};
pub use hash::{Hash, Sha256Stream, sha256};
pub use hlc::{DriftError, Hlc, HlcClock};
pub use id::{
    CommitId, Dot, EventId, GrantId, LogId, ParseIdError, ReplicaId, SpaceId, hex, unhex,
};
pub use key::{Key, KeyError};
pub use rng::Rng;
pub use time::{Instant, Now, WallTime};
