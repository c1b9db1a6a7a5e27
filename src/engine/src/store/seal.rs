//! Sealed segments and their sidecars: builds them, and looks things up in all of them.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use super::overlay::Overlay;
use super::sidecar::{Builder, Entry, IdPrefix, KeyHash, Lineage, Merge, Sidecar, SidecarError};
use super::tables;
use super::tail::{Namespace, Row, Tail, TailCommit, split_row, table_key, table_prefix};
use super::{AppendError, Damaged, ReadError, Store};
use crate::base::{Hash, sha256};
use crate::causal::Tip;
use crate::event::Dictionary;
use crate::log::{Disk, FileId, FileKind};

/// A sealed segment: its number, its sidecar, and the logs that its records name.
#[derive(Debug)]
pub(crate) struct Sealed<D> {
    pub(crate) number: u64,
    pub(crate) sidecar: Sidecar<Overlay<D>>,
    dictionary: OnceLock<Arc<Dictionary>>,
}

/// The caller's sections in a sidecar.
mod blobs {
    /// The logs that the segment's records name.
    pub(super) const DICTIONARY: u8 = 1;
    /// All tables as of the segment's end.
    pub(super) const TABLES: u8 = 3;
}

impl<D: Disk + Clone> Sealed<D> {
    /// Opens the sidecar of a sealed segment.
    pub(crate) fn open(
        disk: &D,
        store: &[u8; 16],
        number: u64,
        seal: Hash,
    ) -> Result<Self, SidecarError> {
        Self::open_on(Overlay::new(disk.clone()), store, number, seal)
    }

    fn open_on(
        disk: Overlay<D>,
        store: &[u8; 16],
        number: u64,
        seal: Hash,
    ) -> Result<Self, SidecarError> {
        let file = FileId { kind: FileKind::Sidecar, number };
        let sidecar = Sidecar::open(disk, file, *store, number, Some(seal))?;
        Ok(Self { number, sidecar, dictionary: OnceLock::new() })
    }

    /// Tells whether this was built upon the tables that are in the sidecar before: logs are named
    /// as there, and what is built anew, and knows of a fork or not, may name them otherwise.
    pub(crate) fn follows(&self, former: Option<&Self>) -> bool {
        self.sidecar.lineage().upon == stands_for(former)
    }

    /// Returns what the segment says of a row.
    pub(crate) fn lookup(&self, row: &[u8], hash: KeyHash) -> Result<Option<Entry>, SidecarError> {
        if self.sidecar.may_contain_hash(hash)? { self.sidecar.lookup(row) } else { Ok(None) }
    }

    /// Reads the tables as of the segment's end.
    pub(crate) fn tables(&self) -> Result<tables::Tables, SidecarError> {
        let bytes = self.sidecar.blob(blobs::TABLES)?.ok_or_else(|| self.damaged("no tables"))?;
        tables::decode(&bytes).map_err(|_| self.damaged("tables"))
    }

    /// Returns the logs that the segment's records name.
    pub(crate) fn dictionary(&self) -> Result<Arc<Dictionary>, SidecarError> {
        if let Some(dictionary) = self.dictionary.get() {
            return Ok(Arc::clone(dictionary));
        }
        let bytes = self.sidecar.blob(blobs::DICTIONARY)?;
        let bytes = bytes.ok_or_else(|| self.damaged("no dictionary"))?;
        let mut dictionary = Dictionary::default();
        dictionary.read_entries(&bytes).map_err(|_| self.damaged("dictionary"))?;
        Ok(Arc::clone(self.dictionary.get_or_init(|| Arc::new(dictionary))))
    }

    pub(crate) fn damaged(&self, what: &'static str) -> SidecarError {
        SidecarError::Damaged { segment: self.number, offset: 0, what }
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Seals the growing segment and writes its sidecar; the next record begins a new segment.
    ///
    /// # Errors
    /// The log's. A sidecar that cannot be written is no error: the next open builds it.
    pub(crate) fn seal_if_full(&mut self) -> Result<(), AppendError> {
        if self.log.wants_seal() { self.seal() } else { Ok(()) }
    }

    /// Seals the growing segment whatever its size.
    ///
    /// # Errors
    /// As for [`seal_if_full`](Self::seal_if_full).
    pub(crate) fn seal(&mut self) -> Result<(), AppendError> {
        if self.tail.segment.is_none() {
            return Ok(());
        }
        let sealed = self.log.seal_active();
        // Where records were moved on the way, all was read again, what was sealed included.
        let moved = self.follow()?;
        match sealed? {
            Some(sealed) if !moved => Ok(self.index_sealed(sealed.number, sealed.sha)?),
            _ => Ok(()),
        }
    }

    /// Turns the tail into the sidecar of a segment that was sealed.
    ///
    /// The log has gone on to another segment by now, so this must not stop half-way: names that
    /// are still in the tail would be taken for written there. Nothing of it asks more of the disk
    /// than a read that may fail.
    pub(crate) fn index_sealed(&mut self, number: u64, seal: Hash) -> Result<(), ReadError> {
        let bytes = self.sidecar_bytes(number, seal)?;
        let file = FileId { kind: FileKind::Sidecar, number };
        // What is built while something is lost says too little to be kept.
        let sound = self.blind.is_empty() && !self.damaged_places.contains(&number);
        // Whole or not at all: half of one would be found out only when that half is asked for.
        let kept = sound && self.disk.replace(file, &bytes).is_ok();
        if sound && !kept {
            // A full disk keeps nobody from reading: the next open writes it.
            sometimes!("store-sidecar-in-memory");
            let _ = self.disk.remove(file);
        }
        let store = self.local.store;
        let on_disk = kept.then(|| Sealed::open(&self.disk, &store, number, seal));
        let sealed = match on_disk {
            Some(Ok(sealed)) => sealed,
            _ => {
                let disk = Overlay::with(self.disk.clone(), file, bytes);
                Sealed::open_on(disk, &store, number, seal)?
            }
        };
        self.sealed.push(sealed);
        self.tail = Tail::default();
        Ok(())
    }

    fn sidecar_bytes(&mut self, number: u64, seal: Hash) -> Result<Vec<u8>, ReadError> {
        let mut builder = Builder::new(self.local.store, number, seal);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows: Vec<Row> = self.tail.rows_in(all).cloned().collect();
        for row in rows {
            let state = match split_row(&row) {
                Some((space_ix, Namespace::Key)) => self.row_state_bytes(space_ix, &row)?,
                _ => None,
            };
            builder.key(&row, state.as_deref(), self.tail.offsets(&row));
        }
        let named = self.tail.named();
        for TailCommit { space, log, seq, offset, id } in self.tail.commits() {
            let last = || self.space_index(&space).is_ok_and(|ix| self.seq(ix, &log) == seq);
            let missed = mutant!("sidecar-misses-the-last") && last();
            if let Some(ix) = named.find(&space, &log).filter(|_| !missed) {
                builder.commit(ix, seq, offset, &id);
            }
        }
        let mut dictionary = Vec::new();
        named.put_entries(0, &mut dictionary);
        builder.blob(blobs::DICTIONARY, &dictionary);
        let tables = tables::encode(&self.tables);
        let own = sha256("kdelta/tables", &[&tables]);
        builder.blob(blobs::TABLES, &tables);
        builder.lineage(Lineage { own, upon: stands_for(self.sealed.last()) });
        Ok(builder.finish())
    }

    /// Returns the state of a key to be kept in a sidecar.
    fn row_state_bytes(
        &mut self,
        space_ix: usize,
        row: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let state = match self.cache.get(row) {
            Some(state) => state,
            None => match self.fold_row(space_ix, row) {
                Ok(state) => Arc::new(state),
                // A row of which something is damaged or cannot be read gets no state: reads of it
                // go on to say so, or build the index anew that is at fault.
                Err(_) => return Ok(None),
            },
        };
        let table = self.table(space_ix)?;
        let mut bytes = Vec::with_capacity(state.bytes());
        state.encode(&mut bytes, &mut |log| table.index(log).unwrap_or(u32::MAX));
        Ok(Some(bytes))
    }

    /// Returns the logs that the records of a segment name.
    pub(crate) fn dictionary(&self, segment: u64) -> Result<Arc<Dictionary>, ReadError> {
        Ok(self.sealed_at(segment)?.dictionary()?)
    }

    /// Returns a sealed segment.
    pub(crate) fn sealed_at(&self, segment: u64) -> Result<&Sealed<D>, ReadError> {
        let found = self.sealed.iter().rev().find(|sealed| sealed.number == segment);
        found.ok_or(ReadError::Damaged(Damaged { segment, offset: 0 }))
    }

    /// Returns the names of rows that begin with `prefix`, after `after`, in order, at most
    /// `count` of them.
    pub(crate) fn row_page(
        &self,
        space_ix: usize,
        namespace: Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        self.check_sight(space_ix, 0)?;
        let skip = table_prefix(space_ix, namespace).len();
        let within = table_key(space_ix, namespace, prefix);
        let after = after.map(|after| table_key(space_ix, namespace, after));
        let from = match &after {
            Some(after) if *after >= within => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(within.as_slice()),
        };
        let walks = self.sealed.iter().rev().map(|sealed| sealed.sidecar.range(from)).collect();
        let tail = self.tail.rows_in((from, Bound::Unbounded)).map(|row| (row.to_vec(), ()));
        let mut rows = Vec::new();
        for merged in Merge::new(tail, walks) {
            let merged = merged?;
            if !merged.key.starts_with(&within) || rows.len() == count {
                break;
            }
            rows.push(merged.key.get(skip..).unwrap_or_default().to_vec());
        }
        Ok(rows)
    }

    /// Returns up to two commits of a space whose ids begin with these hexadecimal digits, by inner
    /// names.
    pub(crate) fn commits_with_prefix(
        &self,
        space_ix: usize,
        digits: &str,
    ) -> Result<Vec<Tip>, ReadError> {
        let space = self.table(space_ix)?.id;
        let mut found = Vec::new();
        let Some(prefix) = IdPrefix::from_hex(digits) else { return Ok(found) };
        for TailCommit { space: of, log, seq, id, .. } in self.tail.commits() {
            if of == space && prefix.matches(&id) {
                found.push(Tip { log, seq, id });
            }
        }
        for sealed in &self.sealed {
            for at in sealed.sidecar.find_ids(&prefix, IDS_MAX)? {
                let dictionary = sealed.dictionary()?;
                if let Some(entry) = dictionary.entry(at.ix)
                    && entry.space == space
                {
                    found.push(Tip { log: entry.log, seq: at.seq, id: at.id });
                }
            }
            if found.len() > 1 {
                break;
            }
        }
        Ok(found)
    }
}

/// Returns what a sidecar is built upon if it comes after `former`.
fn stands_for<D: Disk + Clone>(former: Option<&Sealed<D>>) -> Hash {
    former.map_or([0; 32], |former| former.sidecar.lineage().own)
}

/// How many commits with one prefix are looked at in a segment: enough for one in each space.
const IDS_MAX: usize = 64;
