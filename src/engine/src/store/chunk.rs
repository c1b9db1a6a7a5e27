//! Commits on their way between replicas: a self-contained run of bytes with its own dictionary.
//!
//! A chunk holds commits of one space in causal order, in the same compact form as segments, and
//! for each log what vouches for the last commit of it in the chunk (PROTOCOL, chunks).

use std::collections::BTreeMap;

use super::{InsertError, ReadError, Store};
use crate::base::{CodecError, CommitId, LogId, Reader, SpaceId, Writer};
use crate::causal::Tip;
use crate::event::{Commit, Dictionary, Voucher, compact};
use crate::limits;
use crate::log::Disk;

/// A part of one log that a peer asks for: the commits after `after`, up to and with `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The log.
    pub log: LogId,
    /// The last seq that the peer has.
    pub after: u64,
    /// The last seq that it wants.
    pub upto: u64,
}

/// The parts of logs that are still to be sent, in causal order over all of them.
///
/// What they need of the branches of forked logs comes with them, unasked: just before what builds
/// upon it, as it counts for nobody without that.
#[derive(Debug, Default)]
pub struct Serving {
    runs: Vec<(Run, Option<Commit>)>,
    /// How far each branch was sent or is known to be there, and its next commit.
    branches: BTreeMap<LogId, (u64, Option<Commit>)>,
    /// Whether the above says what the peer had of branches at the start.
    begun: bool,
}

/// What is to be sent next: the next commit of a run, or of a branch.
#[derive(Debug, Clone, Copy)]
enum Next {
    Run(usize),
    Branch(LogId),
}

impl Serving {
    /// Starts to serve `runs`.
    pub fn new(runs: impl IntoIterator<Item = Run>) -> Self {
        let runs = runs.into_iter().filter(|run| run.after < run.upto);
        Self { runs: runs.map(|run| (run, None)).collect(), ..Self::default() }
    }

    /// Tells whether all was sent.
    pub fn is_done(&self) -> bool {
        self.runs.is_empty()
    }

    fn slot(&mut self, next: Next) -> Option<&mut Option<Commit>> {
        match next {
            Next::Run(at) => self.runs.get_mut(at).map(|(_, slot)| slot),
            Next::Branch(name) => self.branches.get_mut(&name).map(|(_, slot)| slot),
        }
    }

    /// Takes note that the commit with that seq was taken out of its slot and is sent; returns the
    /// inner name of its log.
    fn sent(&mut self, next: Next, seq: u64) -> LogId {
        match next {
            Next::Run(at) => {
                let Some((run, _)) = self.runs.get_mut(at) else { return LogId::default() };
                run.after = seq;
                let (log, done) = (run.log, run.after >= run.upto);
                if done {
                    self.runs.swap_remove(at);
                }
                log
            }
            Next::Branch(name) => {
                self.branches.insert(name, (seq, None));
                name
            }
        }
    }
}

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
    /// before one of its deps that is served too. A larger commit makes a chunk of its own.
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
        let mut bytes = 0;
        let mut events = 0;
        while bodies.len() < limits::CHUNK_COMMITS_MAX {
            let Some(next) = self.next_commit(space_ix, serving)? else { break };
            let Some(commit) = serving.slot(next).and_then(Option::take) else { break };
            let size = commit.header().size as usize + 128;
            let log = commit.log();
            // One voucher a log: what it vouches for ends where something may build upon it.
            let follows = last.get(&log).is_none_or(|(_, tip)| tip.id == commit.prev());
            let parted = matches!(next, Next::Branch(_)) && last.contains_key(&log);
            if bytes > 0 && bytes + size > bytes_max || !follows || parted && before != Some(log) {
                if let Some(slot) = serving.slot(next) {
                    *slot = Some(commit);
                }
                break;
            }
            bytes += size;
            before = Some(log);
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

    /// Returns what is to be sent next; its slot is filled.
    fn next_commit(
        &mut self,
        space_ix: usize,
        serving: &mut Serving,
    ) -> Result<Option<Next>, ReadError> {
        let Some(at) = self.earliest(space_ix, serving)? else { return Ok(None) };
        if self.table(space_ix)?.is_unforked() {
            return Ok(Some(Next::Run(at)));
        }
        let Some((run, Some(commit))) = serving.runs.get(at) else { return Ok(None) };
        let (log, seq) = (run.log, commit.seq());
        self.begin_branches(space_ix, serving)?;
        let mut earliest = None;
        for branch in self.table(space_ix)?.logs().filter(|log| log.is_branch()) {
            let needed = self.table(space_ix)?.clocks.known(&log, seq, &branch.log).unwrap_or(0);
            let (sent, slot) =
                serving.branches.entry(branch.log).or_insert((branch.first - 1, None));
            if *sent >= needed {
                continue;
            }
            let next = match slot.take() {
                Some(next) => next,
                None => self.whole_commit(space_ix, &branch.log, *sent + 1)?,
            };
            let at = (next.hlc(), branch.log);
            *slot = Some(next);
            earliest = earliest.into_iter().chain([at]).min();
        }
        Ok(Some(earliest.map_or(Next::Run(at), |(_, name)| Next::Branch(name))))
    }

    /// Takes note of what the peer has of branches: all that its part of each run builds upon.
    fn begin_branches(&self, space_ix: usize, serving: &mut Serving) -> Result<(), ReadError> {
        if std::mem::replace(&mut serving.begun, true) {
            return Ok(());
        }
        let table = self.table(space_ix)?;
        for branch in table.logs().filter(|log| log.is_branch()) {
            let known = |run: &Run| table.clocks.known(&run.log, run.after, &branch.log);
            let known = serving.runs.iter().filter_map(|(run, _)| known(run)).max();
            let sent = known.unwrap_or(0).max(branch.first - 1);
            serving.branches.insert(branch.log, (sent, None));
        }
        Ok(())
    }

    /// Returns the run whose next commit has the least stamp; reads what is needed to tell.
    fn earliest(
        &mut self,
        space_ix: usize,
        serving: &mut Serving,
    ) -> Result<Option<usize>, ReadError> {
        for at in (0..serving.runs.len()).rev() {
            let Some((run, slot)) = serving.runs.get_mut(at) else { continue };
            if slot.is_none() {
                match self.whole_commit(space_ix, &run.log, run.after + 1) {
                    Ok(commit) => *slot = Some(commit),
                    Err(ReadError::UnknownEvent) => drop(serving.runs.swap_remove(at)),
                    Err(error) => {
                        serving.runs.swap_remove(at);
                        return Err(error);
                    }
                }
            }
        }
        let next = serving.runs.iter().enumerate();
        let next = next.filter_map(|(at, (run, commit))| {
            commit.as_ref().map(|commit| ((commit.hlc(), run.log), at))
        });
        Ok(next.min().map(|(_, at)| at))
    }
}

/// The version of the chunk's layout.
const VERSION: u8 = 1;
