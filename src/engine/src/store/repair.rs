//! Makes a damaged store whole again.
//!
//! Replaying a damaged segment takes what still builds upon what is here, and sets the rest aside.
//! A sync with a healthy peer then brings back what was lost, as it brings anything that is
//! missing; what was set aside and is still new follows; and the damaged segments are rewritten
//! without the damage, the old files kept in quarantine. Costs a replay from the first damaged
//! segment on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::apply::kinds;
use super::seal::Sealed;
use super::tables::Tables;
use super::{AppendError, ReadError, Store, WriteError};
use crate::base::{CommitId, Hlc, Instant, LogId, Now, Reader, SpaceId};
use crate::causal::Tip;
use crate::event::compact::{self, Loose};
use crate::event::{Commit, Dictionary};
use crate::log::{Disk, FileId, FileKind, Position, Record, RecordKind};

/// A record that could not be taken, and the logs that its segment names.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) position: Position,
    pub(super) body: Vec<u8>,
    pub(super) dictionary: Arc<Dictionary>,
    pub(super) base_ms: u64,
    /// Which commit it is, if that is told.
    pub(super) told: Option<(SpaceId, Tip)>,
    /// The last commit of each log and branch of each space when the segment began.
    pub(super) tips: Arc<Vec<Vec<Tip>>>,
}

impl Aside {
    /// Takes note of suspects that were taken: what comes after one in its segment may leave out
    /// its id.
    fn note(&mut self, taken: &[(Position, Arc<Commit>)]) {
        let Position { segment, offset } = self.position;
        let before = |at: &Position| at.segment == segment && at.offset < offset;
        for (_, commit) in taken.iter().filter(|(at, _)| before(at)) {
            let names = Arc::make_mut(&mut self.dictionary);
            if let Some(ix) = names.find(&commit.space(), &commit.log()) {
                names.note(ix, commit.seq(), commit.id());
            }
        }
    }
}

/// What a repair did, and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Files that were rewritten.
    pub repaired: Vec<String>,
    /// Derived files that were built anew.
    pub rebuilt: u64,
    /// What is still missing.
    pub missing: Vec<String>,
}

impl<D: Disk + Clone> Store<D> {
    /// Looks at the whole log, distrusts the derived files from the first damage on, and takes
    /// again what can be taken. Afterwards a sync with a peer brings what is missing; then comes
    /// [`finish_repair`](Self::finish_repair), or [`end_repair`](Self::end_repair) if none could.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses.
    pub fn begin_repair(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        self.notice_anew();
        let found = super::verify(&self.disk, true);
        let mut found = found.map_err(|error| WriteError::Unrepaired(error.to_string()))?;
        found.damaged_places.extend(&self.blind.noticed);
        if found.problems.is_empty() && found.damaged_places.is_empty() {
            // What could not be read is read by now, or the end of a repair was not noted.
            if !self.damaged_places.is_empty() || self.damage().is_some() {
                self.damaged_places.clear();
                self.reload()?;
            }
            return Ok(());
        }
        let first = found.damaged_places.iter().min().copied();
        let mut rotted = self.disk.files(FileKind::Sidecar)?;
        rotted.retain(|file| found.problems.iter().any(|problem| problem.file == file.path()));
        for file in &rotted {
            self.remove_sidecar(file.number)?;
        }
        if !rotted.is_empty() {
            self.reload()?;
        }
        self.seal()?;
        // The sidecars stay: if no peer can help, they go on to tell what is concerned.
        self.distrusted = first;
        self.damaged_places = found.damaged_places;
        self.reload()?;
        Ok(())
    }

    /// Tells whether a sync with a peer could bring back what damage took. Without
    /// [`damage`](Self::damage) that is only what vouches for others' logs, which does not keep a
    /// repair from ending: each later sync asks for it, too.
    pub fn wants_help(&self) -> bool {
        let lacks = |id: &SpaceId| self.unvouched(id).is_ok_and(|ends| !ends.is_empty());
        self.damage().is_some() || self.local.spaces.iter().any(|space| lacks(&space.id))
    }

    /// Ends a repair that could not be finished: the derived files are trusted again.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read.
    pub fn end_repair(&mut self) -> Result<(), ReadError> {
        if self.distrusted.take().is_some() {
            self.reload()?;
        }
        Ok(())
    }

    /// Takes what was set aside and fits now, and rewrites the damaged segments if nothing that
    /// is known of is missing any more.
    ///
    /// # Errors
    /// [`WriteError`] if the disk refuses: the store is as damaged as before.
    pub fn finish_repair(&mut self) -> Result<Repaired, WriteError> {
        let mut taken = self.take_asides()?;
        if self.close_own_forks(&taken.hidden)? {
            taken = self.take_asides()?;
        }
        let built = self.build_upon(&taken.branches);
        let vouched = built.and_then(|()| self.vouch_from_log(&taken.branches));
        if let Err(error) = vouched.and_then(|()| self.vouch_from_sidecars()) {
            // What is not built upon does not count, and is set aside again.
            self.end_repair()?;
            return Err(error);
        }
        let mut out = Repaired::default();
        for aside in &self.asides {
            let place = aside.position;
            out.missing
                .push(format!("what segment {} at {} builds upon", place.segment, place.offset));
        }
        self.still_missing(&mut out.missing);
        self.sync()?;
        if !out.missing.is_empty() {
            sometimes!("store-repair-fell-short");
            self.end_repair()?;
            return Ok(out);
        }
        self.seal()?;
        let rewritten = self.rewrite(&mut out);
        self.distrusted = None;
        if rewritten.is_ok() {
            self.blind.noticed.clear();
        } else {
            self.notice_anew();
        }
        // Also where the disk refused half-way: what was rewritten lies elsewhere in its segment.
        self.reload()?;
        let kept = rewritten?;
        let now = self.disk.files(FileKind::Sidecar)?;
        out.rebuilt = now.len().saturating_sub(kept) as u64;
        self.log.close()?;
        sometimes!("store-repaired", !out.repaired.is_empty());
        Ok(out)
    }

    /// Rewrites the damaged segments and whatever lists are kept of them; returns how many sidecars
    /// are left.
    ///
    /// The last one goes first: what builds upon lost commits lies behind those, in bytes that are
    /// whole. If the disk refuses half-way, the damage that it comes from is still there to be
    /// found, and the next repair goes on.
    fn rewrite(&mut self, out: &mut Repaired) -> Result<usize, WriteError> {
        while let Some(place) = self.damaged_places.last().copied() {
            let records = self.sound_records(place)?;
            self.log.replace_segment(place, records)?;
            self.damaged_places.remove(&place);
            out.repaired.push(FileId { kind: FileKind::Segment, number: place }.path());
        }
        out.repaired.reverse();
        let first = self.distrusted.unwrap_or(u64::MAX);
        let mut sidecars = self.disk.files(FileKind::Sidecar)?;
        for file in sidecars.extract_if(.., |file| file.number >= first) {
            self.remove_sidecar(file.number)?;
        }
        self.local.lost_segments.clear();
        self.local.save(&self.disk)?;
        self.log.renew_lists()?;
        Ok(sidecars.len())
    }

    /// Returns what the sidecars say that are distrusted. The newest one knows all that those
    /// before it do.
    pub(super) fn distrusted_tables(&self) -> Tables {
        let Some(first) = self.distrusted else { return Tables::new() };
        let segments = self.log.segments();
        let mut distrusted = segments
            .iter()
            .rev()
            .filter(|s| s.sealed && s.number >= first)
            .filter_map(|s| Sealed::open(&self.disk, &self.local.store, s.number, s.sha).ok());
        distrusted.find_map(|sealed| sealed.tables().ok()).unwrap_or_default()
    }

    /// Names what the sidecars know of and is not here.
    fn still_missing(&self, missing: &mut Vec<String>) {
        for table in self.distrusted_tables() {
            let Some(space_ix) = self.local.space_index(&table.id) else { continue };
            let Ok(now) = self.table(space_ix) else { continue };
            for tip in table.frontier() {
                let here = now.seq(&tip.log);
                // What is suspect since its log was closed comes with what builds upon it.
                let end = now.plain_end(&tip.log, tip.seq);
                if here < end {
                    missing.push(format!("commits {} to {end} of log {}", here + 1, tip.log));
                }
            }
        }
    }

    /// Sets aside a commit that does not build upon what is here.
    pub(crate) fn set_aside(
        &mut self,
        position: Position,
        record: &Record,
        base_ms: u64,
        told: Option<(SpaceId, Tip)>,
    ) {
        let dictionary = Arc::new(self.tail.dictionary.clone());
        let body = record.body.clone();
        let tips = Arc::default();
        self.asides.push(Aside { position, body, dictionary, base_ms, told, tips });
    }

    /// Takes note of how far logs had come when the segment began that commits were set aside of.
    pub(crate) fn remember_tips(&mut self, segment: u64, tips: Vec<Vec<Tip>>) {
        let tips = Arc::new(tips);
        for aside in self.asides.iter_mut().filter(|aside| aside.position.segment == segment) {
            aside.tips = Arc::clone(&tips);
        }
    }

    /// Appends what was set aside and is the next of its log by now; forgets what is here already.
    fn take_asides(&mut self) -> Result<Taken, AppendError> {
        let mut asides = std::mem::take(&mut self.asides);
        self.name_logs(&mut asides);
        self.note_asides(&mut asides);
        let needed = self.needed_suspects(&asides);
        self.asides = asides;
        let Taken { mut branches, mut hidden } = Taken::default();
        let (mut unbuilt, mut progress) = (Vec::new(), true);
        let mut suspects: Vec<(Position, Arc<Commit>)> = Vec::new();
        while progress {
            progress = false;
            self.asides.append(&mut unbuilt);
            for mut aside in std::mem::take(&mut self.asides) {
                aside.note(&suspects);
                match self.fit(&aside, &needed)? {
                    Fit::Here => progress = true,
                    Fit::Own => {
                        hidden.push(aside);
                        progress = true;
                    }
                    Fit::Next(space_ix, commit) => {
                        sometimes!("store-set-aside-and-taken");
                        let (tip, commit) = (commit.tip(), Arc::new(*commit));
                        if self.table(space_ix)?.is_suspect(&tip.log, tip.seq) {
                            branches.push((space_ix, tip));
                            suspects.push((aside.position, Arc::clone(&commit)));
                        }
                        self.append_commit(space_ix, commit)?;
                        progress = true;
                    }
                    Fit::NotYet => self.asides.push(aside),
                    Fit::Unbuilt => unbuilt.push(aside),
                }
            }
        }
        Ok(Taken { branches, hidden })
    }

    /// Names the suspects that something builds upon which was set aside and is none: nobody else
    /// may have either, and without the one the other cannot be taken.
    fn needed_suspects(&self, asides: &[Aside]) -> BTreeSet<(SpaceId, LogId, u64)> {
        let (mut builds_upon, mut needed, mut open) =
            (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for aside in asides {
            let loose = compact::read(&aside.body, &aside.dictionary, aside.base_ms);
            let Ok(Loose { space, log, seq, deps, .. }) = loose else { continue };
            let Ok(table) = self.space_index(&space).and_then(|ix| self.table(ix)) else {
                continue;
            };
            let before = (seq > 1).then(|| (log, seq - 1));
            let past =
                deps.into_iter().chain(before).filter(|(log, seq)| table.is_suspect(log, *seq));
            let past: Vec<_> = past.map(|(log, seq)| (space, log, seq)).collect();
            if table.is_suspect(&log, seq) {
                builds_upon.entry((space, log, seq)).or_insert_with(Vec::new).extend(past);
            } else {
                open.extend(past);
            }
        }
        while let Some(suspect) = open.pop() {
            if needed.insert(suspect) {
                open.extend(builds_upon.get(&suspect).into_iter().flatten());
            }
        }
        needed
    }

    /// Builds upon the ends of branches, by commits without events: so they count everywhere.
    fn build_upon(&mut self, branches: &[(usize, Tip)]) -> Result<(), WriteError> {
        for (space_ix, tip) in branches {
            let table = self.table(*space_ix)?;
            if table.ending_in(tip).is_none() || table.heads.iter().all(|head| head != tip) {
                continue;
            }
            // Nothing is known of the time but that it was later than all that is here.
            let now = Now { mono: Instant::default(), wall: table.hlc.wall() };
            let own = self.own_log()?;
            self.acknowledge(now, *space_ix, own, &[*tip])?;
        }
        Ok(())
    }

    fn fit(
        &self,
        aside: &Aside,
        needed: &BTreeSet<(SpaceId, LogId, u64)>,
    ) -> Result<Fit, ReadError> {
        let (body, names, base_ms) = (&aside.body, &aside.dictionary, aside.base_ms);
        let read = || {
            let loose = compact::read(body, names, base_ms).ok()?;
            Some((loose.space, loose.log, loose.seq))
        };
        let told = aside.told.map(|(space, tip)| (space, tip.log, tip.seq));
        let Some((space, log, seq)) = told.or_else(read) else { return Ok(Fit::NotYet) };
        let Some(space_ix) = self.local.space_index(&space) else { return Ok(Fit::Here) };
        // What is suspect comes again with what builds upon it; but nobody else may have what was
        // written here, or what that builds upon.
        let suspect = self.table(space_ix)?.is_suspect(&log, seq);
        let foreign = log.replica != self.key.id();
        let comes_again = foreign && !needed.contains(&(space, log, seq));
        if if suspect { comes_again } else { seq <= self.seq(space_ix, &log) } {
            return Ok(if foreign { Fit::Here } else { Fit::Own });
        }
        let id = aside.told.map(|(_, tip)| tip.id);
        match self.told_commit(body, names, &[], base_ms, id)? {
            Some(commit) if suspect => {
                if self.locate(space_ix, &commit.tip())?.is_some() {
                    return Ok(Fit::Here);
                }
                let follows = self.builds_upon_this(space_ix, &commit)?;
                Ok(if follows { Fit::Next(space_ix, Box::new(commit)) } else { Fit::Unbuilt })
            }
            None if suspect => Ok(Fit::Unbuilt),
            Some(commit) if self.builds_upon_this(space_ix, &commit)? => {
                let table = self.table(space_ix)?;
                let last = table.log(&commit.log()).map(|log| (log.id, log.hlc));
                let (tip, hlc) = last.unwrap_or((CommitId::ZERO, Hlc::default()));
                // What left out the id of another commit is read as if it meant this one.
                let next = tip == commit.prev() && (last.is_none() || hlc < commit.hlc());
                Ok(if next { Fit::Next(space_ix, Box::new(commit)) } else { Fit::Here })
            }
            _ => Ok(Fit::NotYet),
        }
    }

    /// Tells whether the past of a commit is here, and is what the commit says: where damage took
    /// one side of a fork, a peer may have brought the other under the same number.
    fn builds_upon_this(&self, space_ix: usize, commit: &Commit) -> Result<bool, ReadError> {
        let Some((_, deps)) = self.follows(space_ix, commit)? else { return Ok(false) };
        for (dep, (name, seq)) in commit.deps().iter().zip(deps) {
            if self.commit_id(space_ix, &name, seq)? != dep.id {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the records of a segment that the tables count on.
    ///
    /// Commits are encoded anew: they leave out ids that their segment knew, which is another set
    /// without what was lost.
    fn sound_records(&self, place: u64) -> Result<Vec<(RecordKind, Vec<u8>)>, ReadError> {
        // The names go first, all of them: what named a log may be what is lost.
        let dictionary = self.dictionary(place)?;
        let mut names = Vec::new();
        dictionary.put_entries(0, &mut names);
        let mut kept = vec![(kinds::DICTIONARY, names)];
        let (mut known, base_ms) = (dictionary.without_ids(), self.base_ms_of(place)?);
        let from = Position { segment: place, offset: 0 };
        for item in self.log.scan(from) {
            let Ok((position, record)) = item else { continue };
            if position.segment != place {
                break;
            }
            let body = match record.kind {
                kinds::DICTIONARY => None,
                kinds::COMMIT => self.counted_at(position)?.map(|(space_ix, log, seq)| {
                    // One that cannot be proved stays as it is.
                    let Ok(commit) = self.whole_commit(space_ix, &log, seq) else {
                        return record.body;
                    };
                    let mut body = Vec::with_capacity(record.body.len());
                    let table = self.tables.get(space_ix);
                    let forked = |log: &LogId, seq| table.is_some_and(|t| t.is_suspect(log, seq));
                    let encoded =
                        compact::encode_beside(&commit, &known, base_ms, &forked, &mut body);
                    if let Some(ix) = known.find(&commit.space(), &commit.log()) {
                        known.note(ix, commit.seq(), commit.id());
                    }
                    if encoded.is_ok() { body } else { record.body }
                }),
                kinds::VOUCHER => {
                    let ix = Reader::new(&record.body).varint().unwrap_or(u64::MAX);
                    let named = u32::try_from(ix).is_ok_and(|ix| dictionary.entry(ix).is_some());
                    named.then_some(record.body)
                }
                _ => Some(record.body),
            };
            kept.extend(body.map(|body| (record.kind, body)));
        }
        Ok(kept)
    }

    /// Returns the inner name of the commit at a position if it is the one that the index names.
    fn counted_at(&self, position: Position) -> Result<Option<(usize, LogId, u64)>, ReadError> {
        let Ok(loose) = self.read_commit(position.segment, position.offset) else {
            return Ok(None);
        };
        let Some(space_ix) = self.local.space_index(&loose.space) else { return Ok(None) };
        let place = self.commit_place(space_ix, &loose.log, loose.seq)?;
        let counts = place.is_some_and(|place| place.at() == position);
        Ok(counts.then_some((space_ix, loose.log, loose.seq)))
    }
}

/// What of own logs was set aside, and came of it.
#[derive(Debug, Default)]
struct Taken {
    /// Commits that were taken and count only if another log builds upon them.
    branches: Vec<(usize, Tip)>,
    /// What has something in its place.
    hidden: Vec<Aside>,
}

/// How a commit that was set aside relates to what is here.
enum Fit {
    /// It is here already, or another in its place.
    Here,
    /// The same, and it was written here.
    Own,
    /// It is the next of its log, or of a branch of it.
    Next(usize, Box<Commit>),
    /// What it builds upon is still missing.
    NotYet,
    /// The same, and nothing that counts waits for it.
    Unbuilt,
}
