//! Reads a store's files as they lie there, and names all that is wrong; changes none.

use std::collections::BTreeSet;

use super::blind::Affected;
use super::local::{Local, LocalError};
use super::overlay::Overlay;
use super::sidecar::{Sidecar, SidecarError};
use super::{OpenError, Options, Store};
use crate::base::{CodecError, Now, Rng, SpaceId};
use crate::event::KeyPair;
use crate::log::{self, Damage, Disk, FileId, FileKind, LogOptions};

/// What a store holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments of the log.
    pub segments: u64,
    /// Commits in sealed segments, as their sidecars count them, and in the growing one.
    pub commits: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes at the end of the log that were never durable: the next opening cuts them.
    pub torn_bytes: u64,
    /// What is wrong. Empty if all is well.
    pub problems: Vec<Problem>,
    /// The places of segments that lost records.
    pub damaged_places: BTreeSet<u64>,
}

/// A place that is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The file, from the data directory.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What kind of damage.
    pub kind: &'static str,
    /// Whom it concerns: the keys of space `default` as they are, those of other spaces as
    /// `space:NAME/KEY`, and `space:NAME` if it may be any key of that space. Ascending, at most
    /// [`crate::limits::AFFECTED_NAMES_MAX`]; none if no key is concerned.
    pub affected: Vec<String>,
    /// How many more there are than `affected` names.
    pub affected_omitted: u64,
}

impl From<Affected> for Problem {
    fn from(Affected { names, omitted }: Affected) -> Self {
        Self { affected: names, affected_omitted: omitted, ..Self::default() }
    }
}

/// Reads every truth file; with `deep` every derived one too.
///
/// # Errors
/// [`OpenError`] if the files belong to another store or version, or cannot be listed.
pub fn verify<D: Disk + Clone>(disk: &D, deep: bool) -> Result<Verified, OpenError> {
    let mut out = Verified::default();
    let local = match Local::load(disk) {
        Ok(Some(local)) => local,
        Ok(None) if disk.files(FileKind::Segment)?.is_empty() => return Ok(out),
        Ok(None) => return Err(LocalError::Missing.into()),
        Err(error) => return Err(error.into()),
    };
    for (file, error) in Local::verify(disk) {
        let kind = match error {
            LocalError::Disk(_) => "unreadable",
            LocalError::Damaged(CodecError::Truncated) => "missing",
            _ => "rotted",
        };
        out.problems.push(Problem { file: file.path(), kind, ..Problem::default() });
    }
    let options = LogOptions::new(local.store, Rng::new([0; 32]));
    let found = log::verify(disk, &options)?;
    out.segments = found.segments;
    out.bytes = found.bytes;
    out.torn_bytes = found.torn.iter().map(|torn| u64::from(torn.bytes)).sum();
    out.damaged_places.extend(found.problems.iter().map(|damage| damage.segment));
    out.damaged_places.remove(&0);
    // Opened on a view that takes no changes, the store counts what it holds, and its index tells
    // whom damage concerns.
    let options = Options { memory_bytes: 16 << 20, segment_bytes: u32::MAX >> 2, place: None };
    let (key, view) = (KeyPair::from_seed([0; 32]), Overlay::new(disk.clone()));
    let store = Store::open(view, key, [0; 32], Now::default(), options).ok();
    let store = store.map(|(store, _)| store);
    out.problems.extend(found.problems.iter().map(|damage| problem(damage, store.as_ref())));
    sidecars(disk, &local, &mut out)?;
    if let Some(store) = store {
        for space in &local.spaces {
            let (commits, events) = store.counts(&space.id).unwrap_or_default();
            out.commits += commits;
            out.events += events;
            if deep && out.problems.is_empty() {
                deep_check(&store, &space.id, &mut out);
            }
        }
    }
    Ok(out)
}

/// Computes the hash of every commit of a space anew.
fn deep_check<D: Disk + Clone>(store: &Store<D>, space: &SpaceId, out: &mut Verified) {
    let Ok(held) = store.held(space) else { return };
    for (log, seqs) in held {
        for seq in seqs {
            if store.check_commit(space, &log, seq).is_err() {
                let file = format!("commit {seq} of log {log}");
                let affected = store.affected_by(space, &log, seq);
                out.problems.push(Problem { file, offset: 0, kind: "hash", ..affected.into() });
                return;
            }
        }
    }
}

/// Reads every derived file whole.
fn sidecars<D: Disk + Clone>(disk: &D, local: &Local, out: &mut Verified) -> Result<(), OpenError> {
    for file in disk.files(FileKind::Sidecar)? {
        let checked = Sidecar::open(disk.clone(), file, local.store, file.number, None)
            .and_then(|sidecar| sidecar.check());
        match checked {
            Ok(()) => {}
            Err(SidecarError::Unreadable { .. }) => {
                let (file, kind) = (file.path(), "unreadable");
                out.problems.push(Problem { file, kind, ..Problem::default() });
            }
            Err(SidecarError::Disk(error)) => return Err(error.into()),
            Err(error) => out.problems.push(derived(file, &error)),
        }
    }
    Ok(())
}

fn derived(file: FileId, error: &SidecarError) -> Problem {
    let offset = match error {
        SidecarError::Damaged { offset, .. } => *offset,
        _ => 0,
    };
    Problem { file: file.path(), offset, kind: "derived", ..Problem::default() }
}

fn problem<D: Disk + Clone>(damage: &Damage, store: Option<&Store<D>>) -> Problem {
    let kind = match damage.kind {
        log::DamageKind::Missing => "missing",
        log::DamageKind::Unreadable => "unreadable",
        log::DamageKind::Header => "header",
        log::DamageKind::Hash | log::DamageKind::Order => "order",
        log::DamageKind::Bookkeeping => "bookkeeping",
        _ => "rotted",
    };
    let affected = store.map(|store| store.affected(damage)).unwrap_or_default();
    Problem { file: damage.file.path(), offset: damage.offset, kind, ..affected.into() }
}
