//! The file that a key lies in, as text, and where it lies.
//!
//! See FORMAT 13. The public half stands in the clear, so that anybody who may read the file can
//! tell whose it is; the secret half does too (version 1), or is sealed by a passphrase
//! (version 2). A file is written beside its place, made durable, and only then put there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::passphrase::{Cost, NONCE_BYTES, Passphrase, SALT_BYTES, SEALED_BYTES};
use super::{FILE_NAME, Identity, IdentityError};
use crate::engine::base::{ReplicaId, hex, sha256, unhex};
use crate::host::lock::is_read_only;

/// A key as it lies in a file. Wiped from memory when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct KeyFile {
    /// Where it was read, for what is said of it.
    path: PathBuf,
    replica: ReplicaId,
    secret: Secret,
    text: Zeroizing<String>,
}

#[derive(Clone)]
enum Secret {
    Plain(Identity),
    Locked(Box<Locked>),
}

/// A seed that a passphrase opens.
#[derive(Clone)]
struct Locked {
    /// The lines before it, which it is bound to.
    head: String,
    cost: Cost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

impl KeyFile {
    /// Makes the file of a key that is not locked.
    pub fn plain(identity: &Identity) -> Self {
        let secret = Zeroizing::new(hex(identity.seed()));
        let replica = identity.replica();
        let body = Zeroizing::new(format!("replica {replica}\nsecret {}\n", *secret));
        let text = finished(1, &body);
        Self { path: PathBuf::new(), replica, secret: Secret::Plain(identity.clone()), text }
    }

    /// Makes the file of a key that a passphrase locks. Takes a part of a second, and 64 MiB.
    ///
    /// # Errors
    /// [`IdentityError::Random`]; [`IdentityError::Memory`].
    pub fn locked(identity: &Identity, passphrase: &Passphrase) -> Result<Self, IdentityError> {
        Self::locked_at(Cost::USUAL, identity, passphrase)
    }

    pub(super) fn locked_at(
        cost: Cost,
        identity: &Identity,
        passphrase: &Passphrase,
    ) -> Result<Self, IdentityError> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        getrandom::fill(&mut salt).map_err(IdentityError::Random)?;
        getrandom::fill(&mut nonce).map_err(IdentityError::Random)?;
        let (replica, Cost { memory_kib, passes, lanes }) = (identity.replica(), cost);
        let salted = hex(&salt);
        let kdf = format!("kdf argon2id m={memory_kib} t={passes} p={lanes} salt={salted}");
        let body = format!("replica {replica}\n{kdf}\n");
        let head = format!("{VERSION_LINE} 2\n{body}");
        let sealed = cost.seal(passphrase, (&salt, &nonce), head.as_bytes(), identity.seed());
        let sealed = sealed.ok_or(IdentityError::Memory)?;
        let text = finished(2, &format!("{body}sealed {}{}\n", hex(&nonce), hex(&sealed)));
        let secret = Secret::Locked(Box::new(Locked { head, cost, salt, nonce, sealed }));
        Ok(Self { path: PathBuf::new(), replica, secret, text })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        match File::open(path) {
            Ok(file) => Self::read_from(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(IdentityError::Missing { path: path.to_owned() })
            }
            Err(source) => Err(IdentityError::Io { path: path.to_owned(), source }),
        }
    }

    /// Reads a file that is open; `path` is what it is called.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn read_from(file: impl io::Read, path: &Path) -> Result<Self, IdentityError> {
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        let read = file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text);
        read.map_err(|source| IdentityError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Takes the bytes of a file; `path` is what it is called.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`], [`IdentityError::Newer`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, IdentityError> {
        let path = path.to_owned();
        parse(text)
            .map(|(replica, secret, text)| Self { path: path.clone(), replica, secret, text })
            .map_err(|error| match error {
                ParseError::Newer => IdentityError::Newer { path },
                ParseError::Damaged(what) => IdentityError::Damaged { path, what },
            })
    }

    /// Returns whose key it is, which is not a secret.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Tells whether a passphrase locks it.
    pub fn is_locked(&self) -> bool {
        matches!(self.secret, Secret::Locked(_))
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Opens the key.
    ///
    /// # Errors
    /// [`IdentityError::Locked`] if it wants a passphrase and there is none,
    /// [`IdentityError::WrongPassphrase`], [`IdentityError::Damaged`].
    pub fn open(&self, passphrase: Option<&Passphrase>) -> Result<Identity, IdentityError> {
        let locked = match &self.secret {
            Secret::Plain(identity) => return Ok(identity.clone()),
            Secret::Locked(locked) => locked,
        };
        let path = self.path.clone();
        let Some(passphrase) = passphrase else { return Err(IdentityError::Locked { path }) };
        let Locked { head, cost, salt, nonce, sealed } = &**locked;
        let Some(seed) = cost.open(passphrase, (salt, nonce), head.as_bytes(), sealed) else {
            return Err(IdentityError::WrongPassphrase { path });
        };
        let identity = Identity::from_seed(*seed);
        if identity.replica() != self.replica {
            return Err(IdentityError::Damaged { path, what: NOT_TOGETHER });
        }
        Ok(identity)
    }

    /// Puts the file into the data directory `dir`, where no key may be yet; durable on return.
    pub(in crate::host) fn store(&self, dir: &Path) -> Result<(), IdentityError> {
        let put = |beside: &Path, path: &Path| {
            fs::hard_link(beside, path).or_else(|_| rename(beside, path))
        };
        self.write(dir, FILE_NAME, put)
    }

    /// Puts the file into the directory `dir` in place of what is there; durable on return.
    pub(in crate::host) fn replace(&self, dir: &Path, name: &str) -> Result<(), IdentityError> {
        self.write(dir, name, |beside, path| fs::rename(beside, path))
    }

    fn write(
        &self,
        dir: &Path,
        name: &str,
        put: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), IdentityError> {
        let path = dir.join(name);
        let beside = dir.join(format!("{name}.new"));
        let kept = remove_if_there(&beside)
            .and_then(|()| self.write_new(&beside))
            .and_then(|()| put(&beside, &path))
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

    /// Writes a file that is not there yet and that its owner alone may read; durable on return.
    ///
    /// # Errors
    /// The operating system's: one that is there stays as it is.
    pub fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(path)?;
        file.write_all(self.bytes())?;
        file.sync_all()
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let locked = self.is_locked();
        let mut shown = f.debug_struct("KeyFile");
        shown.field("replica", &self.replica).field("locked", &locked).finish_non_exhaustive()
    }
}

/// Returns the mode of a file if others than its owner may do anything with it.
pub(in crate::host) fn loose_mode(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

enum ParseError {
    Newer,
    Damaged(&'static str),
}

type Parsed = (ReplicaId, Secret, Zeroizing<String>);

fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let damaged = ParseError::Damaged;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (first, rest) = text.split_once('\n').ok_or(damaged("it ends too early"))?;
    let version = first.strip_prefix(VERSION_LINE).and_then(|rest| rest.strip_prefix(' '));
    let version = match version {
        Some("1") => 1,
        Some("2") => 2,
        Some(other) if other.parse::<u32>().is_ok_and(|v| v > 2) => return Err(ParseError::Newer),
        _ => return Err(damaged("the first line names no version")),
    };
    let at = rest.rfind("check ").ok_or(damaged("it ends too early"))?;
    let (body, check) = rest.split_at(at);
    if check.strip_prefix("check ") != Some(format!("{}\n", check_of(version, body)).as_str()) {
        return Err(damaged("its check sum does not match"));
    }
    let mut lines = body.lines();
    let mut field = |name| lines.next().and_then(|line| line.strip_prefix(name));
    let no_key = damaged("a key is not 64 hexadecimal digits");
    let Some(replica) = field("replica ").and_then(fixed) else { return Err(no_key) };
    let replica = ReplicaId(*replica);
    let secret = if version == 1 {
        let Some(seed) = field("secret ").and_then(fixed) else { return Err(no_key) };
        let identity = Identity::from_seed(*seed);
        if identity.replica() != replica {
            return Err(damaged(NOT_TOGETHER));
        }
        Secret::Plain(identity)
    } else {
        let cost = field("kdf ").and_then(parse_cost);
        let (cost, salt) = cost.ok_or(damaged("how it is locked is not known"))?;
        let sealed = field("sealed ").and_then(fixed::<{ NONCE_BYTES + SEALED_BYTES }>);
        let sealed = sealed.ok_or(damaged("what is locked is not whole"))?;
        let (nonce, sealed) = sealed.split_first_chunk().ok_or(damaged("it ends too early"))?;
        let end = body.find("sealed ").unwrap_or_default();
        let head = format!("{first}\n{}", body.get(..end).unwrap_or_default());
        let (nonce, sealed) = (*nonce, sealed.to_vec());
        Secret::Locked(Box::new(Locked { head, cost, salt, nonce, sealed }))
    };
    if lines.next().is_some() {
        return Err(damaged("it has lines that do not belong there"));
    }
    Ok((replica, secret, Zeroizing::new(text.to_owned())))
}

/// Reads what follows `kdf`: only what could have been written, and only what is bearable.
fn parse_cost(text: &str) -> Option<(Cost, [u8; SALT_BYTES])> {
    let mut words = text.strip_prefix("argon2id ")?.split(' ');
    let mut number = |name| {
        let digits = words.next()?.strip_prefix(name)?;
        let number: u32 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    };
    let (memory_kib, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    let cost = Cost { memory_kib, passes, lanes };
    let salt = words.next()?.strip_prefix("salt=").and_then(fixed)?;
    (words.next().is_none() && cost.is_bearable()).then_some((cost, *salt))
}

fn fixed<const N: usize>(digits: &str) -> Option<Zeroizing<[u8; N]>> {
    let bytes = Zeroizing::new(unhex(digits)?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

/// Puts the first line before a body, and the last after it.
fn finished(version: u8, body: &str) -> Zeroizing<String> {
    let check = check_of(version, body);
    Zeroizing::new(format!("{VERSION_LINE} {version}\n{body}check {check}\n"))
}

fn check_of(version: u8, body: &str) -> String {
    hex(&sha256(&format!("kdelta/identity/{version}"), &[body.as_bytes()]))
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

const VERSION_LINE: &str = "kdelta-identity";
const NOT_TOGETHER: &str = "its two keys do not belong together";
/// Longest key file, in bytes; the first version has 234, the second about 380.
const FILE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 32, passes: 1, lanes: 4 };

    fn locked() -> (KeyFile, Passphrase) {
        let passphrase = Passphrase::new(b"open sesame").unwrap();
        let identity = Identity::from_seed([3; 32]);
        (KeyFile::locked_at(CHEAP, &identity, &passphrase).unwrap(), passphrase)
    }

    fn parsed(text: &[u8]) -> Result<KeyFile, IdentityError> {
        KeyFile::parse(text, Path::new("f"))
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let plain = KeyFile::plain(&Identity::from_seed([3; 32]));
        for good in [plain, locked().0] {
            let good = good.bytes();
            assert!(parsed(good).is_ok());
            for at in 0..good.len() {
                let mut bytes = good.to_vec();
                bytes[at] ^= 1;
                let error = parsed(&bytes).unwrap_err();
                let refused =
                    matches!(error, IdentityError::Damaged { .. } | IdentityError::Newer { .. });
                assert!(refused, "byte {at}: {error:?}");
                let error = parsed(&good[..at]).unwrap_err();
                assert!(matches!(error, IdentityError::Damaged { .. }), "cut at {at}: {error:?}");
            }
        }
        let long = vec![b'a'; 1 << 20];
        assert!(matches!(parsed(&long), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn a_passphrase_opens_what_it_locked_and_nothing_else_does() {
        let (file, passphrase) = locked();
        let file = parsed(file.bytes()).unwrap();
        assert!(file.is_locked());
        assert_eq!(file.replica(), Identity::from_seed([3; 32]).replica());
        assert_eq!(file.open(Some(&passphrase)).unwrap().seed(), &[3; 32]);
        assert!(matches!(file.open(None), Err(IdentityError::Locked { .. })));
        let other = Passphrase::new(b"open sesamf").unwrap();
        let refused = file.open(Some(&other));
        assert!(matches!(refused, Err(IdentityError::WrongPassphrase { .. })), "{refused:?}");
        let text = std::str::from_utf8(file.bytes()).unwrap();
        assert!(!text.contains(&hex(&[3; 32])), "the seed does not stand in the clear");
        let again = locked().0;
        assert_ne!(again.bytes(), file.bytes(), "no two files are alike");
    }

    #[test]
    fn a_file_that_is_made_up_asks_for_nothing_that_is_not_bearable() {
        let (file, passphrase) = locked();
        let text = std::str::from_utf8(file.bytes()).unwrap();
        let body = text.split_once('\n').unwrap().1.split_once("check ").unwrap().0;
        let usual = "m=32 t=1 p=4";
        assert!(body.contains(usual));
        for other in ["m=4294967295 t=1 p=4", "m=32 t=4294967295 p=4", "m=032 t=1 p=4", "m=32", ""]
        {
            let text = finished(2, &body.replace(usual, other));
            let refused = parsed(text.as_bytes());
            assert!(matches!(refused, Err(IdentityError::Damaged { .. })), "{other}");
        }
        // What is sealed is bound to all that stands before it.
        let stranger = Identity::from_seed([4; 32]).replica().to_string();
        let text = finished(2, &body.replace(&file.replica().to_string(), &stranger));
        let opened = parsed(text.as_bytes()).unwrap().open(Some(&passphrase));
        assert!(matches!(opened, Err(IdentityError::WrongPassphrase { .. })), "{opened:?}");
        let text = finished(2, &format!("{body}more\n"));
        assert!(matches!(parsed(text.as_bytes()), Err(IdentityError::Damaged { .. })));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_file_holds_it_is_a_key_or_an_error(
            noise: Vec<u8>,
            version in 1..4u8,
            words in proptest::collection::vec(
                "(replica|secret|kdf argon2id m=9|sealed|check|[0-9a-f]{0,64}|salt=| |\\PC)", 0..12),
        ) {
            let _ = parsed(&noise);
            let body = words.join("\n");
            let _ = parsed(finished(version, &body).as_bytes());
        }
    }

    #[test]
    fn a_newer_version_is_named_as_such() {
        assert!(matches!(parsed(b"kdelta-identity 3\n"), Err(IdentityError::Newer { .. })));
    }

    #[test]
    fn the_first_version_is_read_as_it_was_written() {
        let text = concat!(
            "kdelta-identity 1\n",
            "replica ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1\n",
            "secret 0303030303030303030303030303030303030303030303030303030303030303\n",
        );
        let body = text.split_once('\n').unwrap().1;
        let check = hex(&sha256("kdelta/identity/1", &[body.as_bytes()]));
        let whole = format!("{text}check {check}\n");
        let read = parsed(whole.as_bytes()).unwrap();
        assert_eq!(read.open(None).unwrap().seed(), &[3; 32]);
        assert_eq!(read.bytes(), KeyFile::plain(&Identity::from_seed([3; 32])).bytes());
    }

    #[test]
    fn the_second_version_is_read_as_it_was_written() {
        let text = concat!(
            "kdelta-identity 2\n",
            "replica 3d5776106c5c21955c6de821d8826fef1f2cfc83195fefc6acce196723c6d4b6\n",
            "kdf argon2id m=65536 t=3 p=4 salt=62ef3fcd80117eb79377abdf3f80d941\n",
            "sealed e20902050b0c51a6343d0fd4cf36140b886f13d33e111d0e01e30ba5b71bd69db",
            "a7587eefb8fd298dc942cd3a625ac9b9d8b1775b226378de348f57ada829f14b6a46d8e8",
            "e52a448\n",
            "check ab7c528fa93941b3fbde34a6a98f767447ae1a06ed5e6e1477fccf9d5ebf9ffb\n",
        );
        let passphrase = Passphrase::new(b"correct horse battery staple").unwrap();
        let opened = parsed(text.as_bytes()).unwrap().open(Some(&passphrase)).unwrap();
        assert_eq!(
            hex(opened.seed()),
            "fbf02cba29ffab307205046b8066b4bdfd16dfcbfac4c49157340e858daa030e"
        );
    }
}
