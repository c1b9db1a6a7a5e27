//! The secret key of a replica, in the file `identity.key` of its data directory.
//!
//! Whoever has this file can write as the replica, unless a passphrase locks it. It is readable by
//! its owner alone. A damaged one is refused and stays, for a new key would be another replica.
//! What is done to keys on demand is in [`rekey`](super::rekey).

mod draw;
mod file;
mod passphrase;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::lock::Lock;
use crate::engine::base::ReplicaId;

pub use draw::Drawing;
pub use file::KeyFile;
pub(super) use file::loose_mode;
pub use passphrase::Passphrase;

/// The name of the file in the data directory.
pub const FILE_NAME: &str = "identity.key";

/// The key pair of a replica. Wiped from memory when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    replica: ReplicaId,
}

/// Why there is no identity to work under.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such file. Whoever may write makes one with [`Identity::load_or_create`].
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written. Nothing is overwritten: restore it from a copy, or move
    /// it away to go on as a new replica.
    #[error("{} is damaged ({what}): restore it from a copy, or move it away to go on as a new replica", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file is of a newer version: use the program that wrote it.
    #[error("{} was written by a newer version of kdelta", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The key wants a passphrase, and none was given.
    #[error("the key in {} is locked by a passphrase", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The key does not open with this passphrase.
    #[error("this is not the passphrase of the key in {}", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// There is no memory for the function that makes a key of a passphrase.
    #[error("there is not enough memory to lock the key")]
    Memory,
    /// The place cannot be written, and there is no identity there yet.
    #[error("{} cannot be made: the place cannot be written", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The operating system has no randomness to give.
    #[error("no random bytes for a new key")]
    Random(#[source] getrandom::Error),
    /// The operating system failed.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Identity {
    /// Makes the identity that belongs to a secret seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let replica = ReplicaId(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
        Self { seed, replica }
    }

    /// Makes a new one from the randomness of the operating system; it is kept nowhere yet.
    ///
    /// # Errors
    /// [`IdentityError::Random`].
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(IdentityError::Random)?;
        Ok(Self::from_seed(*seed))
    }

    /// Reads the identity of the data directory `dir`; a passphrase opens one that is locked.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self, IdentityError> {
        let path = dir.join(FILE_NAME);
        let file = KeyFile::read(&path)?;
        if loose_mode(&path).is_some() {
            tracing::warn!(path = %path.display(), "others may read the secret key: chmod 600 it");
        }
        file.open(passphrase)
    }

    /// Reads the identity of `dir`, and makes and keeps a new one where there is none.
    ///
    /// It is durable before this returns. Ten first commands at once make one identity, as each
    /// must hold the writer's `lock` of the directory.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load_or_create(
        dir: &Path,
        lock: &Lock,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, IdentityError> {
        assert!(lock.is_exclusive(), "an identity is made under the lock of a writer");
        match Self::load(dir, passphrase) {
            Err(IdentityError::Missing { .. }) => {}
            found => return found,
        }
        let identity = Self::generate()?;
        KeyFile::plain(&identity).store(dir)?;
        Ok(identity)
    }

    /// Returns the public half: the name of the replica.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Returns the secret half.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("replica", &self.replica).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    #[test]
    fn ten_first_commands_at_once_make_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<ReplicaId> = std::thread::scope(|scope| {
            let first = || {
                let lock = Lock::acquire(dir.path(), WAIT).unwrap();
                Identity::load_or_create(dir.path(), &lock, None).unwrap().replica()
            };
            let all: Vec<_> = (0..10).map(|_| scope.spawn(first)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(Identity::load(dir.path(), None).unwrap().replica(), ids[0]);
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "the lock and the identity, nothing left over");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        KeyFile::plain(&Identity::from_seed([3; 32])).store(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_identity_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), b"").unwrap();
        let lock = Lock::acquire(dir.path(), WAIT).unwrap();
        let found = Identity::load_or_create(dir.path(), &lock, None);
        assert!(matches!(found, Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), b"");
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", Identity::from_seed([0xab; 32]));
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }
}
