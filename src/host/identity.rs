//! The secret key of a replica, in the file `identity.key` of its data directory.
//!
//! Four lines of text, readable by the owner alone:
//! `kdelta-identity 1`, `replica <64 hex digits: public key>`, `secret <64 hex digits: Ed25519
//! seed>`, `check <64 hex digits: SHA-256 in domain "kdelta/identity/1" over the two lines before,
//! with their line ends>`. Whoever has this file can write as the replica. It is never rewritten:
//! a damaged one is refused, for a new key would be another replica.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::lock::{Lock, is_read_only};
use crate::engine::base::{ReplicaId, hex, sha256, unhex};

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

    /// Reads the identity of the data directory `dir`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(FILE_NAME);
        let io_error = |source| IdentityError::Io { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing { path });
            }
            Err(error) => return Err(io_error(error)),
        };
        warn_if_others_may_read(&file, &path);
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        (&mut file).take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(io_error)?;
        parse(&text).map_err(|error| match error {
            ParseError::Newer => IdentityError::Newer { path },
            ParseError::Damaged(what) => IdentityError::Damaged { path, what },
        })
    }

    /// Reads the identity of `dir`, and makes and keeps a new one where there is none.
    ///
    /// It is durable before this returns. Ten first commands at once make one identity, as each
    /// must hold the writer's `lock` of the directory.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load_or_create(dir: &Path, lock: &Lock) -> Result<Self, IdentityError> {
        assert!(lock.is_exclusive(), "an identity is made under the lock of a writer");
        match Self::load(dir) {
            Err(IdentityError::Missing { .. }) => {}
            found => return found,
        }
        let identity = Self::generate()?;
        identity.store(dir)?;
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

    /// Writes the file beside its place and links it there, which fails if one is there by now.
    pub(super) fn store(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(FILE_NAME);
        let beside = dir.join(format!("{FILE_NAME}.new"));
        let kept = remove_if_there(&beside)
            .and_then(|()| write_secret(&beside, render(self).as_bytes()))
            .and_then(|()| fs::hard_link(&beside, &path).or_else(|_| rename(&beside, &path)))
            .and_then(|()| remove_if_there(&beside))
            .and_then(|()| File::open(dir)?.sync_all());
        kept.map_err(|source| {
            if is_read_only(&source) {
                IdentityError::ReadOnly { path, source }
            } else {
                IdentityError::Io { path, source }
            }
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("replica", &self.replica).finish_non_exhaustive()
    }
}

enum ParseError {
    Newer,
    Damaged(&'static str),
}

fn parse(text: &[u8]) -> Result<Identity, ParseError> {
    let damaged = ParseError::Damaged;
    if text.len() > FILE_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let (version, rest) = text.split_once('\n').ok_or(damaged("it ends too early"))?;
    match version.strip_prefix("kdelta-identity ") {
        Some("1") => {}
        Some(other) if other.parse::<u32>().is_ok_and(|v| v > 1) => return Err(ParseError::Newer),
        _ => return Err(damaged("the first line names no version")),
    }
    let at = rest.rfind("check ").ok_or(damaged("it ends too early"))?;
    let (body, check) = rest.split_at(at);
    if check.strip_prefix("check ") != Some(format!("{}\n", hex(&check_of(body))).as_str()) {
        return Err(damaged("its check sum does not match"));
    }
    let mut lines = body.lines();
    let mut field = |name| -> Result<Zeroizing<[u8; 32]>, ParseError> {
        let digits = lines.next().and_then(|line| line.strip_prefix(name));
        let bytes = digits.and_then(unhex).map(Zeroizing::new);
        let bytes = bytes.and_then(|b| <[u8; 32]>::try_from(b.as_slice()).ok());
        bytes.map(Zeroizing::new).ok_or(damaged("a key is not 64 hexadecimal digits"))
    };
    let replica = field("replica ")?;
    let identity = Identity::from_seed(*field("secret ")?);
    if identity.replica.as_bytes() != &*replica {
        return Err(damaged("its two keys do not belong together"));
    }
    Ok(identity)
}

fn render(identity: &Identity) -> Zeroizing<String> {
    let secret = Zeroizing::new(hex(identity.seed()));
    let body = Zeroizing::new(format!("replica {}\nsecret {}\n", identity.replica, *secret));
    Zeroizing::new(format!("kdelta-identity 1\n{}check {}\n", *body, hex(&check_of(&body))))
}

fn check_of(body: &str) -> [u8; 32] {
    sha256("kdelta/identity/1", &[body.as_bytes()])
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// For file systems without hard links; the lock keeps others from the same place.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn warn_if_others_may_read(file: &File, path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if file.metadata().is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "others may read the secret key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_others_may_read(_file: &File, _path: &Path) {}

/// Longest identity file, in bytes; the first version has 238.
const FILE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WAIT: Duration = Duration::from_secs(60);

    #[test]
    fn ten_first_commands_at_once_make_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<ReplicaId> = std::thread::scope(|scope| {
            let first = || {
                let lock = Lock::acquire(dir.path(), WAIT).unwrap();
                Identity::load_or_create(dir.path(), &lock).unwrap().replica()
            };
            let all: Vec<_> = (0..10).map(|_| scope.spawn(first)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(Identity::load(dir.path()).unwrap().replica(), ids[0]);
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "the lock and the identity, nothing left over");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        Identity::from_seed([3; 32]).store(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let good = render(&Identity::from_seed([3; 32]));
        for at in 0..good.len() {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = Identity::load(dir.path()).unwrap_err();
            let refused =
                matches!(error, IdentityError::Damaged { .. } | IdentityError::Newer { .. });
            assert!(refused, "byte {at}: {error:?}");
            fs::write(&path, &good.as_bytes()[..at]).unwrap();
            let error = Identity::load(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "cut at {at}: {error:?}");
        }
        fs::write(&path, vec![b'a'; 1 << 20]).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn a_damaged_identity_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), b"").unwrap();
        let lock = Lock::acquire(dir.path(), WAIT).unwrap();
        let found = Identity::load_or_create(dir.path(), &lock);
        assert!(matches!(found, Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), b"");
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", Identity::from_seed([0xab; 32]));
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn a_newer_version_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "kdelta-identity 2\n").unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Newer { .. })));
    }
}
