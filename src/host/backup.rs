//! A whole store in one file, and a store out of such a file.
//!
//! A backup holds the names of the spaces, the replica's secret key, and the commits of every space
//! as chunks, each with what vouches for it: restoring is syncing with a file, and checks as much.
//! Keep it as safe as the store itself, for the key is in it: locked if it is locked in the store.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::clock;
use super::identity::{FILE_NAME, Identity, IdentityError, KeyFile, Passphrase};
use super::lock::{Lock, LockError};
use super::replica::{OpenError, OpenOptions, Replica};
use crate::engine::base::{CodecError, Reader, Sha256Stream, SpaceId, Writer};
use crate::engine::event::{ForkError, ForkProof};
use crate::engine::limits;
use crate::engine::log::LogError;
use crate::engine::store::{InsertError, LocalSpace, ReadError, Run, Serving, WriteError};

/// What a backup or a restore moved.
#[derive(Debug, Clone, Default)]
pub struct BackupReport {
    /// The replica that was saved, or the one that was made.
    pub replica: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Commits in it.
    pub commits: u64,
    /// Events in it.
    pub events: u64,
}

impl BackupReport {
    /// Returns the report as the command line prints it.
    pub fn json(&self) -> Value {
        json!({
            "replica": self.replica,
            "bytes": self.bytes,
            "commits": self.commits,
            "events": self.events,
        })
    }
}

/// Why a backup was not made or not restored. What was there before is untouched.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a backup, or it is damaged.
    #[error("the file is not a whole backup: {0}")]
    Damaged(#[from] CodecError),
    /// There is a store in the directory already.
    #[error("{} holds a store already", .0.display())]
    Occupied(PathBuf),
    /// A proof of a fork does not check out.
    #[error("the backup's proof of a fork is refused: {0}")]
    Fork(#[from] ForkError),
    /// The commits do not check out.
    #[error("the backup's commits are refused: {0}")]
    Commits(#[from] InsertError),
    /// The store that is saved cannot be read.
    #[error("the store cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The new store cannot be written.
    #[error("the store cannot be written: {0}")]
    Write(#[from] WriteError),
    /// The key cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The new store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl BackupError {
    /// Tells whether no space is left for a file, or none may be written there.
    pub fn is_refusal(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self {
            Self::File { source, .. } => matches!(
                source.kind(),
                StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem
            ),
            Self::Write(WriteError::Log(error)) => {
                matches!(error, LogError::Full(_) | LogError::ReadOnly(_) | LogError::Stalled(_))
            }
            Self::Write(WriteError::Disk(error)) => error.is_refusal(),
            Self::Write(WriteError::TakenBack(_)) => true,
            _ => false,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Occupied(_) => "Choose an empty directory with --data-dir",
            Self::Damaged(_) | Self::Commits(_) | Self::Fork(_) => "Use another copy of the backup",
            Self::Read(_) => "Repair the store first: kdelta repair",
            _ => "See that the place can be written and has room",
        }
    }
}

impl Replica {
    /// Writes a backup of everything to `path`, atomically; the store goes on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]; `path` is untouched then.
    pub fn backup(&self, path: &Path) -> Result<BackupReport, BackupError> {
        let file_error = |source| BackupError::File { path: path.to_path_buf(), source };
        let temporary = path.with_extension("partial");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(file_error)?;
        let written = self.write_backup(file).and_then(|report| {
            std::fs::rename(&temporary, path).map_err(file_error)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(file_error)?;
            folder.sync_all().map_err(file_error)?;
            Ok(report)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn write_backup(&self, file: File) -> Result<BackupReport, BackupError> {
        // Nothing leaves the store that a crash could undo.
        self.flush()?;
        let mut out =
            Output { file: BufWriter::new(file), sum: Sha256Stream::new(DOMAIN), bytes: 0 };
        let spaces: Vec<LocalSpace> = self.read(|store| store.local().spaces.clone());
        let spaces: Vec<LocalSpace> = spaces.into_iter().filter(|space| !space.retired).collect();
        let mut head = Vec::new();
        let key = KeyFile::read(&self.shared.dir.join(FILE_NAME))?;
        head.put(MAGIC);
        if key.is_locked() {
            head.put_u8(LOCKED);
            head.put_bytes(key.bytes());
        } else {
            head.put_u8(PLAIN);
            head.put(self.shared.identity.seed());
        }
        head.put_len(spaces.len());
        for space in &spaces {
            head.put(&space.id.0);
            head.put_bytes(space.name.as_bytes());
        }
        out.frame(&head)?;
        let mut report = BackupReport { replica: self.id().to_string(), ..Default::default() };
        for space in &spaces {
            let (frontier, counts) = self.read(|store| {
                Ok::<_, ReadError>((store.frontier(&space.id)?, store.counts(&space.id)?))
            })?;
            for (log, _) in self.read(|store| store.closed_logs(&space.id))? {
                let proof = self.read(|store| store.fork_proof(&space.id, &log))?;
                let mut bytes = vec![PROOF];
                proof.encode(&mut bytes);
                out.frame(&bytes)?;
            }
            let runs = frontier.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
            let mut serving = Serving::new(runs);
            while let Some(chunk) =
                self.read(|store| store.next_chunk(&space.id, &mut serving, CHUNK_BYTES))?
            {
                report.events += chunk.events;
                out.frame(&chunk.bytes)?;
            }
            report.commits += counts.0;
        }
        out.frame(&[])?;
        report.bytes = out.finish()?;
        Ok(report)
    }
}

/// Makes a store in `dir`, which holds none, out of a backup.
///
/// The store goes on under a new key; with `same_identity` under the old one, in a new
/// incarnation: use that only where the old store is gone for good. A passphrase opens an old key
/// that is locked, which stays so.
///
/// # Errors
/// [`BackupError`].
pub fn restore(
    dir: &Path,
    path: &Path,
    same_identity: bool,
    passphrase: Option<&Passphrase>,
) -> Result<BackupReport, BackupError> {
    let file_error = |source| BackupError::File { path: path.to_path_buf(), source };
    let (mut input, (key, spaces), _) = checked(dir, path)?;
    if same_identity {
        key.open(passphrase)?;
    }
    if !dir.exists() {
        super::make_private_dir(dir).map_err(file_error)?;
    }
    {
        let lock = Lock::acquire(dir, Duration::ZERO)?;
        if same_identity {
            key.store(dir)?;
        } else {
            Identity::load_or_create(dir, &lock, None)?;
        }
    }
    let passphrase = passphrase.cloned();
    let options = OpenOptions { wait: Duration::ZERO, passphrase, ..Default::default() };
    let replica = Replica::open_with(dir, &options)?;
    let outcome = fill(&replica, &mut input, &spaces);
    let closed = replica.clone().close().map_err(BackupError::from);
    let mut report = outcome.and_then(|report| closed.map(|()| report)).inspect_err(|_| {
        // What was begun is of no use, and would be in the way of another try.
        for made in ["log", "index"] {
            let _ = std::fs::remove_dir_all(dir.join(made));
        }
        let _ = std::fs::remove_file(dir.join(FILE_NAME));
    })?;
    report.replica = replica.id().to_string();
    report.bytes = input.bytes;
    Ok(report)
}

/// Says what [`restore`] would make, and changes nothing.
///
/// # Errors
/// As for [`restore`], as far as can be told before.
pub fn would_restore(dir: &Path, path: &Path) -> Result<Value, BackupError> {
    let (_, (_, spaces), bytes) = checked(dir, path)?;
    let spaces: Vec<&str> = spaces.iter().map(|(_, name)| name.as_str()).collect();
    let (dir, file) = (dir.to_string_lossy(), path.to_string_lossy());
    Ok(json!({"dry_run": true, "data_dir": dir, "file": file, "bytes": bytes, "spaces": spaces}))
}

/// Opens a backup that is whole, for a directory that holds no store; its head is read.
fn checked(dir: &Path, path: &Path) -> Result<(Input, Head, u64), BackupError> {
    let file_error = |source| BackupError::File { path: path.to_path_buf(), source };
    // Nothing is made of a file that is not whole.
    let mut input = Input::open(path).map_err(file_error)?;
    while input.frame()?.is_some() {}
    input.finish()?;
    let bytes = input.bytes;
    if dir.join("log").exists() || dir.join(FILE_NAME).exists() {
        return Err(BackupError::Occupied(dir.to_path_buf()));
    }
    let mut input = Input::open(path).map_err(file_error)?;
    let head = input.frame()?.ok_or(CodecError::Truncated)?;
    Ok((input, read_head(&head, path)?, bytes))
}

fn fill(
    replica: &Replica,
    input: &mut Input,
    spaces: &[(SpaceId, String)],
) -> Result<BackupReport, BackupError> {
    for (id, name) in spaces {
        replica.read(|store| store.join_space(*id, name))?;
    }
    let mut report = BackupReport::default();
    while let Some(chunk) = input.frame()? {
        if let Some((&PROOF, bytes)) = chunk.split_first() {
            let proof = ForkProof::decode(bytes)?;
            replica.read(|store| store.close_forked(clock::now(), &[proof]))?;
            continue;
        }
        let inserted = replica.read(|store| store.insert_chunk(clock::now(), &chunk))?;
        report.commits += inserted.commits;
        report.events += inserted.events;
        replica.flush()?;
    }
    input.finish()?;
    Ok(report)
}

fn read_head(head: &[u8], path: &Path) -> Result<Head, BackupError> {
    let unknown = CodecError::Unknown("file: it is no backup of this version");
    let mut r = Reader::new(head);
    if r.take(MAGIC.len())? != MAGIC {
        return Err(unknown.into());
    }
    let key = match r.u8()? {
        PLAIN => KeyFile::plain(&Identity::from_seed(r.array()?)),
        LOCKED => KeyFile::parse(r.bytes(KEY_BYTES_MAX, "key")?, path)?,
        _ => return Err(unknown.into()),
    };
    let mut spaces = Vec::new();
    for _ in 0..r.count(limits::SPACES_MAX, 33, "spaces")? {
        let id = SpaceId(r.hash()?);
        let name = r.bytes(limits::SPACE_NAME_BYTES_MAX, "name")?;
        let name = std::str::from_utf8(name).map_err(|_| CodecError::NotCanonical("name"))?;
        spaces.push((id, name.to_owned()));
    }
    r.finish()?;
    Ok((key, spaces))
}

/// The replica's key, and the spaces with their names.
type Head = (KeyFile, Vec<(SpaceId, String)>);

/// Writes frames: a length of four bytes, then the bytes; at the end a SHA-256 over all.
struct Output {
    file: BufWriter<File>,
    sum: Sha256Stream,
    bytes: u64,
}

impl Output {
    fn frame(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let len = u32::try_from(bytes.len()).map_err(|_| CodecError::TooLarge("chunk"))?;
        self.put(&len.to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| self.error(source))
    }

    fn finish(mut self) -> Result<u64, BackupError> {
        let sum = std::mem::replace(&mut self.sum, Sha256Stream::new(DOMAIN)).finish();
        self.file.write_all(&sum).map_err(|source| self.error(source))?;
        self.file.flush().map_err(|source| self.error(source))?;
        self.file.get_ref().sync_all().map_err(|source| self.error(source))?;
        Ok(self.bytes + 32)
    }

    #[expect(clippy::unused_self, reason = "reads as what it belongs to")]
    fn error(&self, source: io::Error) -> BackupError {
        BackupError::File { path: PathBuf::from("the backup"), source }
    }
}

/// Reads what [`Output`] wrote.
struct Input {
    file: BufReader<File>,
    sum: Sha256Stream,
    bytes: u64,
}

impl Input {
    fn open(path: &Path) -> io::Result<Self> {
        let file = BufReader::new(File::open(path)?);
        Ok(Self { file, sum: Sha256Stream::new(DOMAIN), bytes: 0 })
    }

    /// Returns the next frame, or none after the last.
    fn frame(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let mut len = [0; 4];
        self.take(&mut len)?;
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len == 0 {
            return Ok(None);
        }
        if len > limits::CHUNK_WHOLE_BYTES_MAX {
            return Err(CodecError::TooLarge("chunk").into());
        }
        let mut bytes = vec![0; len];
        self.take(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        let sum = std::mem::replace(&mut self.sum, Sha256Stream::new(DOMAIN)).finish();
        let mut stored = [0; 32];
        self.file.read_exact(&mut stored).map_err(|_| CodecError::Truncated)?;
        if sum != stored {
            return Err(CodecError::NotCanonical("checksum").into());
        }
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.file.read_exact(bytes).map_err(|_| CodecError::Truncated)?;
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

const MAGIC: &[u8] = b"KDBACKUP";
/// The version of a backup whose key is the seed.
const PLAIN: u8 = 1;
/// The version of a backup whose key is locked: it is there as its file.
const LOCKED: u8 = 2;
/// Longest key in a backup, in bytes.
const KEY_BYTES_MAX: usize = 4096;
/// The first byte of a frame with a proof of a fork; a chunk begins with its version, 1.
const PROOF: u8 = 2;
const DOMAIN: &str = "kdelta/backup/1";
const CHUNK_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::base::Key;
    use crate::engine::crdt::Op;
    use crate::engine::store::{KeyOp, Write};
    use crate::host::replica::Durability;

    #[test]
    fn the_largest_value_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::open(home.path().join("from")).unwrap();
        let space = replica.space("default", true).unwrap().unwrap();
        let key = Key::new("large").unwrap();
        let op = Op::PutBytes(vec![7; limits::VALUE_BYTES_MAX].into());
        let ops = vec![KeyOp { key: key.clone(), op, retype: false, expect: None }];
        replica.write(Write { space, ops, ..Write::default() }, Durability::Local).unwrap();
        let file = home.path().join("backup");
        replica.backup(&file).unwrap();
        restore(&home.path().join("to"), &file, false, None).unwrap();
        let restored = Replica::open(home.path().join("to")).unwrap();
        let hash = |replica: &Replica| replica.read(|store| store.value_hash(&space)).unwrap();
        assert_eq!(hash(&restored), hash(&replica));
    }

    #[test]
    fn a_commit_larger_than_a_chunk_is_restored() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::open(home.path().join("from")).unwrap();
        let text = format!("\"{}\"", "x".repeat(3 << 20));
        replica.put("large", &text).unwrap();
        let (file, to) = (home.path().join("backup"), home.path().join("to"));
        replica.backup(&file).unwrap();
        restore(&to, &file, false, None).unwrap();
        let restored = Replica::open(&to).unwrap();
        assert_eq!(restored.get("large").unwrap(), replica.get("large").unwrap());
    }

    #[test]
    fn a_backup_that_is_not_whole_makes_no_store() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::open(home.path().join("from")).unwrap();
        let space = replica.space("default", true).unwrap().unwrap();
        let file = home.path().join("backup");
        let report = replica.backup(&file).unwrap();
        assert_eq!(report.commits, 1, "the genesis");
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let (cut, mut flipped) = (whole.get(..at).unwrap().to_vec(), whole.clone());
            flipped[at] ^= 1;
            for bytes in [cut, flipped] {
                std::fs::write(&file, bytes).unwrap();
                let to = home.path().join("to");
                assert!(restore(&to, &file, false, None).is_err(), "byte {at}");
                assert!(!to.join("log").exists() && !to.join("identity.key").exists(), "{at}");
            }
        }
        std::fs::write(&file, &whole).unwrap();
        let to = home.path().join("to");
        restore(&to, &file, true, None).unwrap();
        let restored = Replica::open(&to).unwrap();
        assert_eq!(restored.id(), replica.id());
        assert_eq!(restored.space("default", false).unwrap(), Some(space));
    }
}
