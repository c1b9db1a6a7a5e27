//! Commits on their way between replicas: a self-contained run of bytes with its own dictionary.
//!
//! A chunk holds commits of one space in causal order, in the same compact form as segments, and
//! for each log what vouches for the last commit of it in the chunk (PROTOCOL, chunks).

use std::collections::BTreeMap;

use super::serving::Serving;
use super::{InsertError, ReadError, Store};
use crate::base::{CodecError, CommitId, LogId, Reader, SpaceId, Writer};
use crate::causal::Tip;
use crate::event::{Commit, Dictionary, Voucher, compact};
use crate::limits;
use crate::log::Disk;

/// A chunk to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// The chunk.
    pub bytes: Vec<u8>,
    /// How many events are in it.
    pub events: u64,
}

/// A chunk taken apart. Nothing of it is vouched for yet.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) space: SpaceId,
    /// For each log, the commit before the first one of it in the chunk.
    pub(crate) bases: Vec<Tip>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) vouchers: BTreeMap<LogId, Voucher>,
}

impl Chunk {
    /// Reads a chunk; each commit is checked to be whole and to follow the one before it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, InsertError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(CodecError::Unknown("chunk version").into());
        }
        let space = SpaceId(r.hash()?);
        let base_ms = r.u64()?;
        let mut dictionary = Dictionary::default();
        dictionary.read_entries(r.bytes(limits::CHUNK_BYTES_MAX, "dictionary")?)?;
        if dictionary.entries().any(|(_, entry)| entry.space != space) {
            return Err(CodecError::NotCanonical("a chunk holds one space").into());
        }
        let mut tips: BTreeMap<LogId, Tip> = BTreeMap::new();
        let mut bases = Vec::new();
        let mut commits = Vec::new();
        for _ in 0..r.count(limits::CHUNK_COMMITS_MAX, 1, "commits in a chunk")? {
            let body = r.bytes(limits::RECORD_BYTES_MAX, "commit")?;
            let commit = compact::decode(body, &dictionary, base_ms, &|_, _| None)
                .map_err(|_| CodecError::NotCanonical("commit"))?;
            let ix = dictionary.find(&space, &commit.log());
            let ix = ix.ok_or(CodecError::NotCanonical("log of a commit"))?;
            dictionary.note(ix, commit.seq(), commit.id());
            let base = Tip { log: commit.log(), seq: commit.seq() - 1, id: commit.prev() };
            match tips.insert(commit.log(), commit.tip()) {
                None => bases.push(base),
                Some(before) if before == base => {}
                Some(_) => return Err(CodecError::NotCanonical("order of a log").into()),
            }
            commits.push(commit);
        }
        let mut vouchers = BTreeMap::new();
        for _ in 0..r.count(limits::CHUNK_LOGS_MAX, 1, "vouchers in a chunk")? {
            let voucher = Voucher::decode(&mut r)?;
            vouchers.insert(voucher.attestation.log, voucher);
        }
        r.finish()?;
        Ok(Self { space, bases, commits, vouchers })
    }
}

impl<D: Disk + Clone> Store<D> {
    /// Returns the next chunk of what is served, of about `bytes_max` bytes, and moves on.
    ///
    /// Commits come in the order of their stamps over all runs, so that a commit never comes
    /// before one of its deps that is served too. A larger commit makes a chunk of its own. Of a
    /// branch more goes into one: a receiver keeps it for sure only if what builds upon it comes
    /// along.
    ///
    /// # Errors
    /// [`ReadError`] if a commit is damaged here; the run that it is in is given up.
    pub fn next_chunk(
        &mut self,
        space: &SpaceId,
        serving: &mut Serving,
        bytes_max: usize,
    ) -> Result<Option<Outgoing>, ReadError> {
        let space_ix = self.space_index(space)?;
        let mut base_ms = None;
        let mut dictionary = Dictionary::default();
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        // Of each log, the inner name and tip of what is in the chunk.
        let mut last: BTreeMap<LogId, (LogId, Tip)> = BTreeMap::new();
        let mut before = None;
        let mut in_branch = false;
        let mut bytes = 0;
        let mut events = 0;
        while bodies.len() < limits::CHUNK_COMMITS_MAX {
            let Some((next, commit)) = self.next_served(space_ix, serving)? else { break };
            let size = commit.header().size as usize + 128 + commit.deps().len() * DEP_BYTES;
            let room = in_branch && dictionary.len() < BRANCH_LOGS_MAX;
            let bytes_max = if room { BRANCH_BYTES_MAX.max(bytes_max) } else { bytes_max };
            let log = commit.log();
            // One voucher a log: what it vouches for ends where something may build upon it.
            let follows = last.get(&log).is_none_or(|(_, tip)| tip.id == commit.prev());
            let parted = next.is_branch() && last.contains_key(&log);
            if bytes > 0 && bytes + size > bytes_max || !follows || parted && before != Some(log) {
                serving.put_back(next, commit);
                break;
            }
            bytes += size;
            before = Some(log);
            in_branch = next.is_branch();
            let name = serving.sent(next, commit.seq());
            // A log that is only named has no base, so that the ids of its commits are written out.
            dictionary.intern(*space, commit.log(), commit.seq() - 1, commit.prev());
            for log in compact::logs(&commit) {
                dictionary.intern(*space, log, 0, CommitId::ZERO);
            }
            let mut body = Vec::with_capacity(size);
            let base_ms = *base_ms.get_or_insert(commit.hlc().wall().0);
            let encoded = compact::encode(&commit, &dictionary, base_ms, &mut body);
            assert!(encoded.is_ok(), "every log that the commit names is interned");
            if let Some(ix) = dictionary.find(space, &commit.log()) {
                dictionary.note(ix, commit.seq(), commit.id());
            }
            last.insert(log, (name, commit.tip()));
            events += commit.events().len() as u64;
            bodies.push(body);
        }
        if bodies.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(bytes + 256);
        out.put_u8(VERSION);
        out.put(&space.0);
        out.put_u64(base_ms.unwrap_or_default());
        let mut entries = Vec::new();
        dictionary.put_entries(0, &mut entries);
        out.put_bytes(&entries);
        out.put_len(bodies.len());
        for body in &bodies {
            out.put_bytes(body);
        }
        out.put_len(last.len());
        for (name, tip) in last.into_values() {
            self.voucher(space_ix, &name, tip.seq)?.encode(&mut out);
        }
        Ok(Some(Outgoing { bytes: out, events }))
    }
}

/// Most bytes of a branch, and of what builds upon it, in one chunk.
pub(super) const BRANCH_BYTES_MAX: usize = 8 << 20;
/// With so many logs in its dictionary a chunk is closed as soon as another one would be.
const BRANCH_LOGS_MAX: u32 = 1 << 13;
/// What a dep takes in a commit, at most, in bytes.
const DEP_BYTES: usize = 82;

// Names and vouchers find room beside the commits.
const _: () = assert!(BRANCH_BYTES_MAX + (4 << 20) < limits::CHUNK_WHOLE_BYTES_MAX);

/// The version of the chunk's layout.
const VERSION: u8 = 1;
