//! One local write: from what a caller asks for to a commit in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tail::{Namespace, table_key};
use super::{ReadError, Reason, Store, Write, WriteError, Written};
use crate::base::{CommitId, Dot, EventId, Hlc, HlcClock, Key, LogId, Now, SpaceId};
use crate::causal::Tip;
use crate::crdt::{Applied, Delta, Stamp, State};
use crate::event::{Act, Commit, Draft, Kind, Meta};
use crate::limits;
use crate::log::Disk;

/// What a commit of this store's own says.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) kind: Kind,
    pub(super) events: Vec<(Key, Delta)>,
    pub(super) act: Option<Act>,
    pub(super) meta: Option<Meta>,
}

impl<D: Disk + Clone> Store<D> {
    /// Makes one commit of all ops, or none.
    ///
    /// The commit is in the log's open group on return, visible to reads, and not yet durable.
    /// A request id that was used before makes no commit: the first one is returned again.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was written then.
    pub fn write(&mut self, now: Now, write: Write) -> Result<Written, WriteError> {
        self.past_rot(WriteError::to_rebuild, |store| store.write_once(now, &write))
    }

    fn write_once(&mut self, now: Now, write: &Write) -> Result<Written, WriteError> {
        self.log.set_wall(now.wall);
        let space_ix = self.space_index(&write.space)?;
        if let Some(id) = &write.request_id
            && let Some(first) = self.request(space_ix, id)?
        {
            return Ok(first);
        }
        self.check_founded(space_ix)?;
        self.check_expectations(write)?;
        let events = self.deltas(space_ix, write)?;
        let kind = if events.is_empty() { Kind::Tag } else { Kind::Data };
        let (note, tag, request_id) = (&write.note, &write.tag, &write.request_id);
        let (note, tag, request_id) = (note.clone(), tag.clone(), request_id.clone());
        let meta = Meta { note, tag, request_id };
        let meta = Some(meta).filter(|meta| !meta.is_empty());
        self.commit(now, space_ix, Saying { kind, events, act: None, meta })
    }

    /// Makes a space of this store's own, under a name that is not taken.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was written then.
    pub fn create_space(&mut self, now: Now, name: &str) -> Result<SpaceId, WriteError> {
        self.found_space(now, name, None)
    }

    /// Appends a commit of this store's own, after all that it holds.
    pub(super) fn commit(
        &mut self,
        now: Now,
        space_ix: usize,
        mut saying: Saying,
    ) -> Result<Written, WriteError> {
        let log = self.own_log()?;
        self.acknowledge_heads(now, space_ix, log)?;
        let heads = self.foreign_heads(space_ix, log);
        let keys: Vec<Key> = saying.events.iter().map(|(key, _)| key.clone()).collect();
        saying.events = self.outer(space_ix, saying.events)?;
        let hlc = self.next_stamp(now, space_ix)?;
        let commit = Arc::new(self.seal_own((now, hlc), space_ix, log, &heads, saying)?);
        self.check_quota(space_ix, &commit)?;
        let position = self.append_commit(space_ix, Arc::clone(&commit))?;
        let events = keys.into_iter().enumerate().map(|(index, key)| {
            #[expect(clippy::cast_possible_truncation, reason = "at most 4096 events")]
            let index = index as u16;
            (key, EventId { commit: commit.id(), index })
        });
        Ok(Written {
            tip: commit.tip(),
            hlc: commit.hlc(),
            events: events.collect(),
            position: Some(position),
            repeated: false,
        })
    }

    /// Seals a commit of this store's own; in an owned space under the first grant that lets it say
    /// that. It gets the stamp beside the time.
    fn seal_own(
        &mut self,
        (now, hlc): (Now, Hlc),
        space_ix: usize,
        log: LogId,
        deps: &[Tip],
        saying: Saying,
    ) -> Result<Commit, WriteError> {
        let grants = self.own_grants(space_ix, now)?;
        let table = self.table(space_ix)?;
        let own = table.log(&log);
        let mut draft = Draft {
            space: table.id,
            log,
            seq: own.map_or(0, |own| own.seq) + 1,
            prev: own.map_or(CommitId::ZERO, |own| own.id),
            hlc,
            deps: deps.to_vec(),
            grant: None,
            kind: saying.kind,
            owned: None,
            act: saying.act,
            events: saying.events,
            meta: saying.meta,
        };
        let Some(grants) = grants else { return Ok(draft.seal(&mut self.rng)?) };
        let mut lacks = Reason::NoGrant;
        for grant in grants {
            draft.grant = Some(grant);
            let commit = draft.clone().seal(&mut self.rng)?;
            match self.check_rights(space_ix, &commit)? {
                Ok(()) => return Ok(commit),
                Err(reason) => lacks = reason,
            }
        }
        Err(WriteError::Unauthorised(lacks))
    }

    /// Returns the heads that a new commit of `log` has as deps: those of the other logs.
    ///
    /// The first commit of a new incarnation also names the tip of the life before, which vouches
    /// for that branch, whether it is a head or not.
    pub(crate) fn foreign_heads(&self, space_ix: usize, log: LogId) -> Vec<Tip> {
        let Some(table) = self.tables.get(space_ix) else { return Vec::new() };
        let mut heads: Vec<Tip> =
            table.heads.iter().filter(|tip| tip.log != log).copied().collect();
        if table.log(&log).is_none() {
            let past = self.local.past_incarnations.iter().rev();
            let mut past = past.map(|&incarnation| LogId { incarnation, ..log });
            if let Some(before) = past.find_map(|past| table.log(&past)) {
                heads.push(before.tip());
            }
        }
        heads.sort_unstable();
        heads.dedup_by_key(|tip| tip.log);
        heads
    }

    /// Writes commits without events until few enough heads are left to be deps of one commit.
    pub(crate) fn acknowledge_heads(
        &mut self,
        now: Now,
        space_ix: usize,
        log: LogId,
    ) -> Result<(), WriteError> {
        loop {
            let mut heads = self.foreign_heads(space_ix, log);
            if heads.len() <= limits::DEPS_MAX {
                return Ok(());
            }
            heads.truncate(limits::DEPS_MAX);
            self.acknowledge(now, space_ix, log, &heads)?;
        }
    }

    /// Writes a commit without events that has these heads as deps.
    pub(crate) fn acknowledge(
        &mut self,
        now: Now,
        space_ix: usize,
        log: LogId,
        heads: &[Tip],
    ) -> Result<(), WriteError> {
        let hlc = self.next_stamp(now, space_ix)?;
        self.acknowledge_at((now, hlc), space_ix, log, heads)
    }

    /// Writes a commit without events that has one dep, and is stamped just after that and what it
    /// follows in its log.
    pub(crate) fn acknowledge_early(
        &mut self,
        now: Now,
        space_ix: usize,
        log: LogId,
        dep: (Tip, Hlc),
    ) -> Result<(), WriteError> {
        let before = self.table(space_ix)?.log(&log).map_or(Hlc::default(), |own| own.hlc);
        let hlc = before.max(dep.1).next();
        self.acknowledge_at((now, hlc), space_ix, log, &[dep.0])
    }

    fn acknowledge_at(
        &mut self,
        at: (Now, Hlc),
        space_ix: usize,
        log: LogId,
        deps: &[Tip],
    ) -> Result<(), WriteError> {
        let ack = Saying { kind: Kind::Ack, events: Vec::new(), act: None, meta: None };
        let ack = self.seal_own(at, space_ix, log, deps, ack)?;
        self.append_commit(space_ix, Arc::new(ack))?;
        Ok(())
    }

    /// Returns a stamp after all that is held.
    fn next_stamp(&self, now: Now, space_ix: usize) -> Result<Hlc, ReadError> {
        Ok(HlcClock::resume(self.table(space_ix)?.hlc).tick(now.wall))
    }

    /// Turns ops into deltas, each against the state that those before it leave behind.
    fn deltas(&mut self, space_ix: usize, write: &Write) -> Result<Vec<(Key, Delta)>, WriteError> {
        let log = self.own_log()?;
        let table = self.table(space_ix)?;
        let (seq, hlc) = (table.seq(&log) + 1, table.hlc.next());
        let single = write.ops.len() == 1;
        let mut changed: BTreeMap<Key, State> = BTreeMap::new();
        let mut events = Vec::new();
        for op in &write.ops {
            let state = match changed.remove(&op.key) {
                Some(state) => Arc::new(state),
                None => self.state(&write.space, &op.key)?,
            };
            sometimes!("store-key-retyped", op.retype && state.shown().is_some());
            let deltas = state
                .deltas(&op.op, op.retype)
                .map_err(|error| WriteError::Op { key: op.key.clone(), error })?;
            if single {
                events = deltas.into_iter().map(|delta| (op.key.clone(), delta)).collect();
                continue;
            }
            let mut state = Arc::unwrap_or_clone(state);
            for delta in deltas {
                let index = u16::try_from(events.len()).unwrap_or(u16::MAX);
                // The id is not known before the commit is sealed; within a commit the index
                // decides, so that any id serves here.
                let stamp = Stamp { hlc, dot: Dot { log, seq, index }, commit: CommitId::ZERO };
                let applied = state.apply(&stamp, &delta);
                assert!(
                    applied == Applied::Done,
                    "a local delta covers all that it sees or nothing"
                );
                events.push((op.key.clone(), delta));
            }
            changed.insert(op.key.clone(), state);
        }
        if events.is_empty() && write.tag.is_none() {
            return Err(WriteError::Empty);
        }
        Ok(events)
    }

    fn check_expectations(&mut self, write: &Write) -> Result<(), WriteError> {
        for op in &write.ops {
            let Some(expect) = &op.expect else { continue };
            let view = self.state(&write.space, &op.key)?.view();
            if !expect.holds(view.as_ref()) {
                let (key, version) = (op.key.clone(), view.map(|view| view.version));
                return Err(WriteError::Expectation { key, version });
            }
        }
        Ok(())
    }

    /// Returns what the commit under a request id wrote.
    fn request(&mut self, space_ix: usize, id: &[u8]) -> Result<Option<Written>, WriteError> {
        let row = table_key(space_ix, Namespace::Request, id);
        let Some(place) = self.places(space_ix, &row)?.into_iter().next() else { return Ok(None) };
        let Some(offset) = place.offsets.first() else { return Ok(None) };
        let loose = self.read_commit(place.segment, *offset)?;
        let id = self.commit_id(space_ix, &loose.log, loose.seq)?;
        let events = loose.events.iter().enumerate().filter_map(|(index, event)| {
            Some((event.key()?, EventId { commit: id, index: u16::try_from(index).ok()? }))
        });
        Ok(Some(Written {
            tip: Tip { log: self.table(space_ix)?.origin(&loose.log), seq: loose.seq, id },
            hlc: loose.hlc,
            events: events.collect(),
            position: None,
            repeated: true,
        }))
    }
}
