//! What the tests of sidecars share: a file in memory, and a specification made of maps.

mod answers;
mod damage;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use super::{Builder, CommitAt, IdPrefix, Lineage, Sidecar, SidecarError};
use crate::base::{CommitId, Hash, Hlc, sha256};
use crate::log::{Disk, DiskError, DiskErrorKind, FileId, FileKind};

const STORE: [u8; 16] = *b"0123456789abcdef";
const SEGMENT: u64 = 9;
const SEAL: Hash = [0x5e; 32];
const FILE: FileId = FileId::new(FileKind::Sidecar, SEGMENT);

/// One file that can be read, and what was read of it.
#[derive(Debug, Clone)]
struct File {
    bytes: Rc<Vec<u8>>,
    reads: Rc<Cell<usize>>,
    bytes_read: Rc<Cell<usize>>,
    /// What every read fails with.
    fault: Rc<Cell<Option<DiskErrorKind>>>,
}

impl File {
    fn new(bytes: Vec<u8>) -> Self {
        let (reads, bytes_read) = Default::default();
        Self { bytes: Rc::new(bytes), reads, bytes_read, fault: Rc::default() }
    }
}

impl Disk for File {
    fn files(&self, _: FileKind) -> Result<Vec<FileId>, DiskError> {
        Ok(vec![FILE])
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        if file == FILE {
            Ok(self.bytes.len() as u64)
        } else {
            Err(DiskError::new(DiskErrorKind::NotFound, "no such file"))
        }
    }
    fn read(&self, _: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if let Some(kind) = self.fault.get() {
            return Err(DiskError::new(kind, "a fault"));
        }
        self.reads.set(self.reads.get() + 1);
        self.bytes_read.set(self.bytes_read.get() + buffer.len());
        let start = usize::try_from(offset).unwrap();
        let Some(bytes) = self.bytes.get(start..start + buffer.len()) else {
            return Err(DiskError::new(DiskErrorKind::PastEnd, "past the end"));
        };
        buffer.copy_from_slice(bytes);
        Ok(())
    }
    fn write(&self, _: FileId, _: u64, _: &[u8]) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn allocate(&self, _: FileId, _: u64) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn truncate(&self, _: FileId, _: u64) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn sync(&self, _: FileId) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn replace(&self, _: FileId, _: &[u8]) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn remove(&self, _: FileId) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
    fn rename(&self, _: FileId, _: FileId) -> Result<(), DiskError> {
        unreachable!("a sidecar is read")
    }
}

/// State and offsets of a key.
type Said = (Option<Vec<u8>>, Vec<u32>);

/// The specification: what a sidecar holds, as maps.
#[derive(Debug, Clone, Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Said>,
    commits: BTreeMap<(u32, u64), (u32, CommitId)>,
    blobs: BTreeMap<u8, Vec<u8>>,
    lineage: Lineage,
}

impl Model {
    fn build(&self) -> Vec<u8> {
        let mut builder = Builder::new(STORE, SEGMENT, SEAL);
        let mut file = Vec::new();
        for (key, (state, offsets)) in &self.keys {
            builder.key(key, state.as_deref(), offsets);
            if key.len() % 5 == 0 {
                file.extend(builder.drain());
            }
        }
        for ((ix, seq), (offset, id)) in &self.commits {
            builder.commit(*ix, *seq, *offset, id);
            builder.observe(Hlc(*seq));
        }
        for (tag, bytes) in &self.blobs {
            builder.blob(*tag, bytes);
        }
        builder.lineage(self.lineage);
        file.extend(builder.finish());
        file
    }

    fn open(&self) -> Sidecar<File> {
        open(self.build()).unwrap()
    }

    fn commit(&self, ix: u32, seq: u64) -> Option<CommitAt> {
        let (offset, id) = *self.commits.get(&(ix, seq))?;
        Some(CommitAt { ix, seq, offset, id })
    }

    fn find_ids(&self, prefix: &IdPrefix, max: usize) -> Vec<CommitAt> {
        let found = self.commits.iter().filter(|(_, (_, id))| prefix.matches(id));
        let found = found.map(|((ix, seq), (offset, id))| CommitAt {
            ix: *ix,
            seq: *seq,
            offset: *offset,
            id: *id,
        });
        let mut found: Vec<CommitAt> = found.collect();
        found.sort_by_key(|commit| (commit.id, commit.ix, commit.seq));
        found.truncate(max);
        found
    }
}

fn open(bytes: Vec<u8>) -> Result<Sidecar<File>, SidecarError> {
    Sidecar::open(File::new(bytes), FILE, STORE, SEGMENT, Some(SEAL))
}

fn ask(sidecar: &Sidecar<File>, key: &[u8]) -> Result<Option<Said>, SidecarError> {
    let Some(entry) = sidecar.lookup(key)? else { return Ok(None) };
    let state = sidecar.state(&entry)?.map(|state| state.to_vec());
    assert_eq!(entry.state_bytes(), state.as_ref().map(Vec::len));
    assert_eq!(entry.has_state(), state.is_some());
    let offsets = sidecar.offsets(&entry)?;
    Ok(Some((state, offsets)))
}

fn walk(sidecar: &Sidecar<File>, from: Bound<&[u8]>) -> Result<Vec<(Vec<u8>, Said)>, SidecarError> {
    let mut rows = Vec::new();
    for item in sidecar.range(from) {
        let (key, entry) = item?;
        let state = sidecar.state(&entry)?.map(|state| state.to_vec());
        rows.push((key, (state, sidecar.offsets(&entry)?)));
    }
    Ok(rows)
}

/// Accepts the right answer, or a report of damage; says whether it was the latter.
fn right_or_damaged<T: PartialEq + std::fmt::Debug>(
    answer: Result<T, SidecarError>,
    right: &T,
) -> bool {
    match answer {
        Ok(answer) => {
            assert_eq!(&answer, right, "a wrong answer");
            false
        }
        Err(SidecarError::Damaged { segment: SEGMENT, .. }) => true,
        Err(error) => panic!("another error than damage: {error:?}"),
    }
}

/// Asks all that can be asked; says whether damage was reported.
fn ask_all(model: &Model, sidecar: &Sidecar<File>, also: &[Vec<u8>]) -> bool {
    let mut damaged = false;
    assert_eq!(sidecar.lineage(), model.lineage, "an open sidecar's footer was checked");
    for key in model.keys.keys().chain(also) {
        let right = model.keys.get(key).cloned();
        damaged |= right_or_damaged(ask(sidecar, key), &right);
        match sidecar.may_contain(key) {
            Ok(passed) => assert!(passed || right.is_none(), "the filter denies a key"),
            answer => damaged |= right_or_damaged(answer, &true),
        }
    }
    let all: Vec<(Vec<u8>, Said)> = model.keys.clone().into_iter().collect();
    damaged |= right_or_damaged(walk(sidecar, Bound::Unbounded), &all);
    for ((ix, seq), _) in model.commits.iter() {
        for seq in seq.saturating_sub(1)..=seq.saturating_add(1) {
            damaged |= right_or_damaged(sidecar.commit(*ix, seq), &model.commit(*ix, seq));
        }
    }
    for digits in ["", "0", "7", "ff", "00000000"] {
        let prefix = IdPrefix::from_hex(digits).unwrap();
        let right = model.find_ids(&prefix, 100);
        damaged |= right_or_damaged(sidecar.find_ids(&prefix, 100), &right);
    }
    for tag in 0..4 {
        damaged |= right_or_damaged(sidecar.blob(tag), &model.blobs.get(&tag).cloned());
    }
    damaged
}

/// A file of about two KiB that has every kind of piece.
fn small() -> Model {
    let mut model = Model::default();
    for number in 0..20_u32 {
        let state = (number % 3 > 0).then(|| vec![7; number as usize]);
        let offsets = (0..number % 5).map(|n| n * 400 + number).collect();
        model.keys.insert(format!("a/{}", number * 7 % 20).into_bytes(), (state, offsets));
    }
    model.keys.insert(b"b".to_vec(), (Some(vec![1; 2049]), (0..600).collect()));
    for number in 0..12_u32 {
        let id = CommitId(sha256("", &[&number.to_le_bytes()]));
        model.commits.insert((number % 2, u64::from(number / 2 * 2)), (number * 100, id));
    }
    model.blobs.insert(1, b"dictionary".to_vec());
    model.blobs.insert(3, Vec::new());
    model.lineage = Lineage { own: [5; 32], upon: [6; 32] };
    model
}
