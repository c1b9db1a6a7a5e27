//! What is done to a replica's key on demand: shown, copied, locked, and another taken for it.
//!
//! A key is never thrown away: what was in use before stays beside the new one. A store that takes
//! another key goes on as another replica; what it wrote under the one before is vouched for first,
//! so that it can be handed on, and the new one begins a log of its own, for it may be in use
//! elsewhere. Where it was drawn for the same owner, it is granted what the earlier one could.
//! Nothing here talks to a person.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::clock;
use super::identity::{FILE_NAME, Identity, IdentityError, KeyFile, Passphrase, loose_mode};
use super::lock::{Lock, LockError};
use super::replica::{Disk, OpenError, Replica};
use crate::engine::base::{ReplicaId, SpaceId, hex, work};
use crate::engine::event::Audience;
use crate::engine::store::{Store, WriteError};

/// What everybody may know of a key.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The name of the replica.
    pub replica: ReplicaId,
    /// Where the key lies.
    pub file: PathBuf,
    /// Whether a passphrase locks it.
    pub locked: bool,
    /// The mode of the file, if others than its owner may do anything with it.
    pub loose_mode: Option<u32>,
}

/// What taking a key did, or would do.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The key that is in use now.
    pub now: Shown,
    /// The replica that the store was before.
    pub before: Option<ReplicaId>,
    /// Where its key is kept.
    pub kept: Option<PathBuf>,
    /// The owned spaces in which it had rights, by name, and whether the new key has them all now.
    pub rights: Vec<(String, bool)>,
}

/// How another key is taken.
#[derive(Debug, Clone, Default)]
pub struct Take {
    /// Memory budget in bytes, for opening the store.
    pub memory_bytes: usize,
    /// What opens the present key, if it is locked.
    pub passphrase: Option<Passphrase>,
    /// What opens the new one, if it is locked.
    pub new_passphrase: Option<Passphrase>,
    /// The new key is the same owner's: what the earlier one may do in owned spaces it may too.
    pub pass_on: bool,
}

/// Why a key was not shown, copied or changed. What was there before is in use still.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// A key cannot be read, opened or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory is in use, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the store wrote cannot be vouched for: it is damaged, or the disk refuses.
    #[error("the store cannot go on under another key: {0}")]
    HandOver(#[from] WriteError),
    /// The place for the earlier key is taken by another file.
    #[error("{} is in the way: the earlier key is kept there", .0.display())]
    Taken(PathBuf),
    /// The data directory cannot be made.
    #[error("cannot make {}: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Shown {
    fn of(key: &KeyFile, file: PathBuf) -> Self {
        let loose_mode = loose_mode(&file);
        Self { replica: key.replica(), file, locked: key.is_locked(), loose_mode }
    }

    /// Returns how much work is in the name.
    pub fn work(&self) -> u32 {
        work(&self.replica)
    }

    /// Returns what is known as the command line prints it.
    pub fn json(&self) -> Value {
        json!({
            "replica": self.replica.to_string(),
            "file": self.file.to_string_lossy(),
            "locked": self.locked,
            "work": self.work(),
            "loose_mode": self.loose_mode.map(|mode| format!("{mode:04o}")),
        })
    }
}

impl Taken {
    /// Returns what was done as the command line prints it.
    pub fn json(&self) -> Value {
        let mut out = self.now.json();
        if let Some(members) = out.as_object_mut() {
            let before = json!(self.before.map(|replica| replica.to_string()));
            members.insert("before".to_owned(), before);
            let kept = json!(self.kept.as_ref().map(|path| path.to_string_lossy()));
            members.insert("kept".to_owned(), kept);
            let rights = self.rights.iter();
            let rights = rights.map(|(space, all)| json!({"space": space, "passed_on": all}));
            members.insert("rights".to_owned(), rights.collect());
        }
        out
    }
}

/// Returns the key of the data directory `dir` as it lies there; where none is, one is made.
///
/// # Errors
/// [`RekeyError`].
pub fn key_of(dir: &Path) -> Result<(KeyFile, Shown), RekeyError> {
    let path = dir.join(FILE_NAME);
    let key = match KeyFile::read(&path) {
        Err(IdentityError::Missing { .. }) => {
            let lock = lock(dir)?;
            Identity::load_or_create(dir, &lock, None)?;
            KeyFile::read(&path)?
        }
        found => found?,
    };
    let shown = Shown::of(&key, path);
    Ok((key, shown))
}

/// Locks the key of `dir` by another passphrase, or by none.
///
/// # Errors
/// [`RekeyError`].
pub fn relock(
    dir: &Path,
    passphrase: Option<&Passphrase>,
    new: Option<&Passphrase>,
) -> Result<Shown, RekeyError> {
    let lock = lock(dir)?;
    let identity = Identity::load_or_create(dir, &lock, passphrase)?;
    let key = key_file(&identity, new)?;
    key.replace(dir, FILE_NAME)?;
    Ok(Shown::of(&key, dir.join(FILE_NAME)))
}

/// Makes the file of a key: locked, if there is a passphrase.
///
/// # Errors
/// [`IdentityError`].
pub fn key_file(
    identity: &Identity,
    passphrase: Option<&Passphrase>,
) -> Result<KeyFile, IdentityError> {
    match passphrase {
        Some(passphrase) => KeyFile::locked(identity, passphrase),
        None => Ok(KeyFile::plain(identity)),
    }
}

/// Takes a key into the data directory `dir`: as its first, or in place of the one that is there.
///
/// # Errors
/// [`RekeyError`].
pub fn take(dir: &Path, key: &KeyFile, how: &Take) -> Result<Taken, RekeyError> {
    let path = dir.join(FILE_NAME);
    let lock = lock(dir)?;
    let (before, kept) = before(dir)?;
    let swap = || -> Result<(), RekeyError> {
        match (&before, &kept) {
            (Some(before), Some(kept)) => {
                let name = kept.file_name().unwrap_or_default().to_string_lossy();
                before.replace(dir, &name)?;
                key.replace(dir, FILE_NAME)?;
            }
            _ => key.store(dir)?,
        }
        Ok(())
    };
    // What cannot be opened now could not be opened later either.
    let opened = key.open(how.new_passphrase.as_ref())?;
    let mut rights = Vec::new();
    if dir.join("log").exists() {
        // A replica that comes back under its own key hands its logs over by that.
        let identity = match &before {
            Some(before) if before.replica() != key.replica() => {
                before.open(how.passphrase.as_ref())?
            }
            _ => opened,
        };
        let replica = Replica::open_locked(dir, how.memory_bytes, lock, identity)?;
        let replica_before = replica.id();
        let mut hand_over = |store: &mut Store<Disk>| {
            if replica_before != key.replica() {
                rights = rights_of(store, how.pass_on.then_some(key.replica()))?;
            }
            store.hand_over()
        };
        let handed = replica.read(&mut hand_over).and_then(|()| replica.flush());
        let swapped = handed.map_err(RekeyError::from).and_then(|()| swap());
        let closed = replica.close();
        swapped?;
        closed?;
    } else {
        swap()?;
    }
    let before = before.map(|key| key.replica());
    Ok(Taken { now: Shown::of(key, path), before, kept, rights })
}

/// Returns where the key that is in use has rights, and passes them on to another, if there is one.
fn rights_of(
    store: &mut Store<Disk>,
    to: Option<ReplicaId>,
) -> Result<Vec<(String, bool)>, WriteError> {
    let now = clock::now();
    let passed = match to {
        Some(to) => store.pass_on(now, to)?,
        None => {
            let own = Audience::Replica(store.replica());
            let spaces = store.local().spaces.iter().map(|space| space.id).collect::<Vec<_>>();
            let has =
                |space: &SpaceId| store.rights(space, &own, now.wall).is_ok_and(|r| !r.is_empty());
            spaces.into_iter().filter(has).map(|space| (space, false)).collect()
        }
    };
    let name = |id: SpaceId| {
        let known = store.local().spaces.iter().find(|space| space.id == id);
        known.map_or_else(|| id.to_string(), |space| space.name.clone())
    };
    Ok(passed.into_iter().map(|(space, all)| (name(space), all)).collect())
}

/// Says which replica would be left, and where its key would be kept; changes nothing.
///
/// # Errors
/// [`RekeyError`].
pub fn would_take(dir: &Path) -> Result<Option<(ReplicaId, PathBuf)>, RekeyError> {
    let (before, kept) = before(dir)?;
    Ok(before.map(|key| key.replica()).zip(kept))
}

/// Returns the key that is in use, and where it will be kept.
fn before(dir: &Path) -> Result<(Option<KeyFile>, Option<PathBuf>), RekeyError> {
    let before = match KeyFile::read(&dir.join(FILE_NAME)) {
        Err(IdentityError::Missing { .. }) => return Ok((None, None)),
        found => found?,
    };
    let short = hex(before.replica().as_bytes().get(..4).unwrap_or_default());
    let kept = dir.join(format!("{FILE_NAME}.old-{short}"));
    match KeyFile::read(&kept) {
        Err(IdentityError::Missing { .. }) => {}
        // The same key, perhaps under an earlier passphrase.
        Ok(there) if there.replica() == before.replica() => {}
        Ok(_) | Err(_) => return Err(RekeyError::Taken(kept)),
    }
    Ok((Some(before), Some(kept)))
}

fn lock(dir: &Path) -> Result<Lock, RekeyError> {
    if !dir.exists() {
        super::make_private_dir(dir)
            .map_err(|source| RekeyError::Directory { dir: dir.to_owned(), source })?;
    }
    Ok(Lock::acquire(dir, Duration::ZERO)?)
}
