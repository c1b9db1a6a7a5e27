//! How new commits spread: to few peers as they are, to the others by name.
//!
//! In the manner of Plumtree (Leitão, Pereira, Rodrigues 2007), over runs of commits. A peer is
//! *eager*, and new commits are pushed to it, or *lazy*, and it is told their tips. What comes a
//! second time makes the slower of two links lazy on both sides; what was named and does not come
//! is asked for, and makes a link eager again. So what is pushed follows a tree that mends itself.
//! Nothing depends on it: a session finds whatever was missed here. Who is connected to whom is
//! not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LinkId, Node};
use crate::base::{Instant, LogId, SpaceId};
use crate::causal::{Tip, VersionVector};
use crate::limits;
use crate::log::Disk;
use crate::store::Inserted;
use crate::sync::{Message, Run};

/// How new commits go to and come from one peer in one space.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// New commits are pushed to the peer; else it is told of them.
    pub(super) eager: bool,
    /// What the peer was sent, or told that this side holds.
    told: VersionVector,
    /// What it is to be told of next: the last commit of each log.
    to_tell: BTreeMap<LogId, Tip>,
    /// What it named and is not here.
    awaited: BTreeMap<LogId, Awaited>,
    /// What it asked for by a graft and was not begun to be sent.
    pub(super) grafted: BTreeMap<LogId, crate::store::Run>,
    /// Since when there is something to push and no credit for it.
    stalled: Option<Instant>,
}

/// Commits of one log that a peer named and that are not here.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// The first that was named: when that is here the others are on their way.
    first: Tip,
    last: Tip,
    /// When something is done about it.
    due: Instant,
    /// Whether the peer was asked for it.
    asked: bool,
}

/// Counts of what is said about new commits, since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpreadStats {
    /// Chunks that came by pushes.
    pub pushes: u64,
    /// Of those, the ones that brought nothing new.
    pub duplicates: u64,
    /// Peers that were told that names are enough.
    pub prunes: u64,
    /// Peers that were asked for what they had named.
    pub grafts: u64,
    /// Messages that name what is held.
    pub told: u64,
    /// Peers to which nothing is pushed any more because they did not keep up.
    pub stalls: u64,
}

/// What the node remembers for all peers.
#[derive(Debug, Default)]
pub(super) struct Spreading {
    pub(super) stats: SpreadStats,
    /// Which connection was the last to push something new of a space.
    sources: BTreeMap<SpaceId, LinkId>,
    /// Whom the last round told of something.
    last_told: Option<(LinkId, SpaceId)>,
    /// When the next round of telling is.
    tell_at: Option<Instant>,
    /// When the first of what is awaited is due.
    due: Option<Instant>,
}

impl Spread {
    /// Takes note of what both sides know since a session ended in sync.
    pub(super) fn both_hold(&mut self, version: &VersionVector) {
        self.told.join(version);
    }

    /// Tells whether the peer was sent a commit, or told of it.
    pub(super) fn knows(&self, tip: &Tip) -> bool {
        self.told.contains(&tip.log, tip.seq)
    }

    /// Takes note of what is sent to the peer.
    pub(super) fn sent(&mut self, tip: &Tip) {
        self.told.advance(tip.log, tip.seq);
    }

    /// Has the peer told of a commit in the next round.
    fn tell(&mut self, tip: Tip) {
        self.to_tell.insert(tip.log, tip);
    }

    /// Takes note that something is to be pushed, or was; tells whether the peer has let it wait
    /// for too long.
    pub(super) fn is_stalled(&mut self, now: Instant, waits: bool) -> bool {
        self.stalled = waits.then(|| self.stalled.unwrap_or(now));
        self.stalled.is_some_and(|since| since.plus(STALL) <= now)
    }
}

impl<D: Disk + Clone> Node<D> {
    /// Returns counts of how new commits spread.
    pub fn spreading(&self) -> SpreadStats {
        self.spreading.stats
    }

    /// Pushes go to a peer from now on if they go to few; called when its first session is through.
    pub(super) fn choose_eager(&mut self, id: LinkId, space: SpaceId) {
        let talks = self.links.values().filter_map(|link| link.talks.get(&space));
        let eager = talks.filter(|talk| talk.live.is_some() && talk.spread.eager).count();
        if let Some(talk) = self.talk(id, &space)
            && talk.live.is_none()
        {
            talk.spread.eager |= eager < limits::EAGER_PEERS_MAX;
        }
    }

    /// Has a peer told of a commit in the next round.
    pub(super) fn tell_later(&mut self, id: LinkId, space: SpaceId, tip: Tip) {
        let at = self.now.mono.plus(TELL_AFTER);
        let Some(talk) = self.talk(id, &space) else { return };
        talk.spread.tell(tip);
        let at = *self.spreading.tell_at.get_or_insert(at);
        self.wake_at(at);
    }

    /// Tells a peer at once which commits are held here. What waits or is suspected is not.
    pub(super) fn tell(&mut self, id: LinkId, space: SpaceId, mut tips: Vec<Tip>) {
        tips.retain(|tip| self.store.id_at(&space, &tip.log, tip.seq) == Some(tip.id));
        if let Some(talk) = self.talk(id, &space) {
            tips.iter().for_each(|tip| talk.spread.sent(tip));
        }
        for message in Message::acked(space, &tips) {
            self.spreading.stats.told += 1;
            self.send(id, &message);
        }
    }

    /// Takes what a peer says that it holds.
    pub(super) fn heard(&mut self, id: LinkId, space: SpaceId, tips: &[Tip]) {
        let due = self.now.mono.plus(GRAFT_AFTER);
        for tip in tips {
            let lacks = self.lacks(&space, tip);
            let Some(talk) = self.talk(id, &space) else { return };
            talk.theirs.advance(tip.log, tip.seq);
            talk.acked.advance(tip.log, tip.seq);
            if !lacks {
                continue;
            }
            let awaited = &mut talk.spread.awaited;
            if awaited.len() >= limits::AWAITED_LOGS_MAX && !awaited.contains_key(&tip.log) {
                return self.open_session(id, space);
            }
            let new = Awaited { first: *tip, last: *tip, due, asked: false };
            let entry = awaited.entry(tip.log).or_insert(new);
            if entry.last.seq < tip.seq {
                entry.last = *tip;
            }
            self.act_at(due);
        }
    }

    /// Tells whether a commit is to be had that is not here.
    fn lacks(&self, space: &SpaceId, tip: &Tip) -> bool {
        self.store.id_at(space, &tip.log, tip.seq) != Some(tip.id)
            && !self.store.is_closed(space, &tip.log, tip.seq)
    }

    fn act_at(&mut self, due: Instant) {
        let due = self.spreading.due.map_or(due, |before| before.min(due));
        self.spreading.due = Some(due);
        self.wake_at(due);
    }

    /// Takes note of a chunk that was pushed: what came twice came on a link too many.
    pub(super) fn push_came(&mut self, id: LinkId, space: SpaceId, inserted: &Inserted) {
        self.spreading.stats.pushes += 1;
        if inserted.commits > 0 {
            self.spreading.sources.insert(space, id);
            return;
        }
        let here = |tip: &Tip| self.store.id_at(&space, &tip.log, tip.seq) == Some(tip.id);
        if !inserted.tips.iter().all(here) {
            return;
        }
        self.spreading.stats.duplicates += 1;
        let own = self.store.replica();
        let source = self.spreading.sources.get(&space);
        let came_before =
            source.is_some_and(|other| *other != id && self.links.contains_key(other));
        // What is written here and comes back went round.
        if came_before || inserted.tips.iter().any(|tip| tip.log.replica == own) {
            sometimes!("node-pruned");
            self.spreading.stats.prunes += 1;
            if let Some(talk) = self.talk(id, &space) {
                talk.spread.eager = false;
            }
            self.send(id, &Message::Prune { space });
        }
    }

    /// The peer has another one from whom new commits come sooner.
    pub(super) fn pruned(&mut self, id: LinkId, space: SpaceId) {
        if mutant!("prune-not-heeded") {
            return;
        }
        if let Some(talk) = self.talk(id, &space) {
            talk.spread.eager = false;
        }
    }

    /// The peer lacks what it was told of: it gets that, and what is new from now on.
    pub(super) fn grafted(&mut self, id: LinkId, space: SpaceId, runs: &[Run]) {
        let store = &self.store;
        let held =
            |run: &&Run| store.id_at(&space, &run.upto.log, run.upto.seq) == Some(run.upto.id);
        let mut runs: Vec<Run> = runs.iter().filter(held).copied().collect();
        let Some(talk) = self.talk(id, &space) else { return };
        talk.spread.eager = true;
        // What it would be told of next goes along, as far as there is room.
        let room = limits::AWAITED_LOGS_MAX.saturating_sub(runs.len() + talk.spread.grafted.len());
        for _ in 0..room {
            let Some((log, tip)) = talk.spread.to_tell.pop_first() else { break };
            runs.push(Run { after: talk.theirs.get(&log), upto: tip });
        }
        for run in runs {
            let (log, upto) = (run.upto.log, run.upto.seq);
            let asked = crate::store::Run { log, after: run.after, upto };
            if run.after >= upto || talk.spread.grafted.len() >= limits::AWAITED_LOGS_MAX {
                continue;
            }
            let entry = talk.spread.grafted.entry(log).or_insert(asked);
            (entry.after, entry.upto) = (entry.after.min(run.after), entry.upto.max(upto));
            talk.theirs.advance(log, upto);
            talk.spread.sent(&run.upto);
        }
        self.pump(id);
    }

    /// Tells peers of what is held, and asks for what was named and did not come.
    pub(super) fn tick_spreading(&mut self) {
        let now = self.now.mono;
        if self.spreading.tell_at.is_some_and(|at| at <= now) {
            self.tell_round();
        }
        if self.spreading.due.is_some_and(|at| at <= now) {
            self.fetch_overdue();
        }
        let wakes = [self.spreading.tell_at, self.spreading.due];
        wakes.into_iter().flatten().for_each(|at| self.wake_at(at));
    }

    /// Tells the next few peers what they are to be told.
    fn tell_round(&mut self) {
        let mut waiting = Vec::new();
        for link in self.links.values() {
            let talks = link.talks.iter().filter(|(_, talk)| !talk.spread.to_tell.is_empty());
            waiting.extend(talks.map(|(space, _)| (link.id, *space)));
        }
        // They take turns, so that nobody is passed over for long.
        let after = waiting.partition_point(|talk| Some(*talk) <= self.spreading.last_told);
        waiting.rotate_left(after);
        let left = waiting.split_off(waiting.len().min(limits::TOLD_AT_ONCE_MAX));
        for (id, space) in &waiting {
            let Some(talk) = self.talk(*id, space) else { continue };
            let tips = std::mem::take(&mut talk.spread.to_tell).into_values().collect();
            if talk.spread.eager || !mutant!("lazy-not-told") {
                self.tell(*id, *space, tips);
            }
        }
        self.spreading.last_told = waiting.last().copied();
        self.spreading.tell_at = (!left.is_empty()).then(|| self.now.mono.plus(TELL_AFTER));
    }

    /// Asks for what was named a while ago and has not come, and compares frontiers with whom that
    /// did not help.
    fn fetch_overdue(&mut self) {
        self.spreading.due = None;
        let mut talks = Vec::new();
        for link in self.links.values() {
            let waiting = link.talks.iter().filter(|(_, talk)| !talk.spread.awaited.is_empty());
            talks.extend(waiting.map(|(space, _)| (link.id, *space)));
        }
        // Nobody is asked for what somebody else was asked for a moment ago.
        let mut asked: BTreeSet<(SpaceId, LogId)> = BTreeSet::new();
        for (id, space) in &talks {
            let Some(talk) = self.talk(*id, space) else { continue };
            let waits = talk.spread.awaited.values().filter(|entry| entry.asked);
            asked.extend(waits.map(|entry| (*space, entry.last.log)));
        }
        for (id, space) in talks {
            self.fetch_from(id, space, &mut asked);
        }
    }

    fn fetch_from(&mut self, id: LinkId, space: SpaceId, asked: &mut BTreeSet<(SpaceId, LogId)>) {
        let (now, later) = (self.now.mono, self.now.mono.plus(GRAFT_AFTER));
        let Some(talk) = self.talk(id, &space) else { return };
        let in_session = talk.pinned_at().is_some();
        let mut awaited = std::mem::take(&mut talk.spread.awaited);
        let (mut tips, mut pull) = (Vec::new(), false);
        awaited.retain(|log, entry| {
            if entry.due > now {
                return true;
            }
            if !self.lacks(&space, &entry.first) {
                *entry = Awaited { first: entry.last, due: later, asked: false, ..*entry };
                return self.lacks(&space, &entry.last);
            }
            if mutant!("announced-not-fetched") {
                return false;
            }
            if entry.asked && !in_session {
                sometimes!("node-graft-of-no-use");
                pull = true;
                return false;
            }
            entry.due = later;
            if !entry.asked && asked.insert((space, *log)) {
                entry.due = now.plus(PULL_AFTER);
                entry.asked = true;
                tips.push(entry.last);
            }
            true
        });
        if let Some(due) = awaited.values().map(|entry| entry.due).min() {
            self.act_at(due);
        }
        if let Some(talk) = self.talk(id, &space) {
            talk.spread.awaited = awaited;
        }
        if !tips.is_empty() {
            pull |= !self.graft(id, space, &tips);
        }
        if pull {
            self.open_session(id, space);
        }
    }

    /// Asks a peer for what it named; tells whether all of it can be asked for that way.
    fn graft(&mut self, id: LinkId, space: SpaceId, tips: &[Tip]) -> bool {
        let Ok(version) = self.store.version(&space) else { return false };
        let runs = tips.iter().map(|tip| Run { after: version.get(&tip.log), upto: *tip });
        // What is held under another id only a session can settle.
        let runs: Vec<Run> = runs.filter(|run| run.after < run.upto.seq).collect();
        let all = runs.len() == tips.len();
        if !runs.is_empty() {
            sometimes!("node-grafted");
            self.spreading.stats.grafts += 1;
            if let Some(talk) = self.talk(id, &space) {
                talk.spread.eager = true;
            }
            self.send(id, &Message::Graft { space, runs });
        }
        all
    }
}

/// How long what a peer is to be told is gathered.
const TELL_AFTER: Duration = Duration::from_millis(100);
/// After how long what was named is asked for: more than it takes to come another way, as a rule.
const GRAFT_AFTER: Duration = Duration::from_millis(1_000);
/// After how long frontiers are compared if asking brought nothing.
const PULL_AFTER: Duration = Duration::from_millis(3_000);
/// After how long without credit nothing is pushed to a peer any more: it may ask.
const STALL: Duration = Duration::from_secs(5);
