//! What was seen in a run, and must stay true while it goes on.

use std::collections::{BTreeMap, BTreeSet};

use kdelta_engine::base::{CommitId, Hash, Hlc, LogId, ReplicaId, SpaceId};
use kdelta_engine::causal::Tip;
use kdelta_engine::store::Store;

use super::Broken;
use crate::world::{SeatDisk, World};

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// A promise that was just found broken.
    pub(crate) broken: Option<Broken>,
    /// What users were told is durable, by seat; `usize::MAX` stands for seats that lost a disk.
    pub(crate) told: BTreeMap<usize, Vec<Tip>>,
    /// The one commit at each place of each log that anybody else ever saw.
    ids: BTreeMap<(LogId, u64), CommitId>,
    /// Whose logs may be forked: of those the directory was copied or set back.
    forkers: BTreeSet<ReplicaId>,
    /// What each state showed.
    values: BTreeMap<Hash, (Hash, usize)>,
    looks: u64,
    /// The latest stamp of what ever counted at anybody, be it lost since.
    pub(crate) latest: Hlc,
    /// Whether bytes of a disk went bad that is not there any more: its backup may have them.
    pub(crate) rotted: bool,
}

impl Facts {
    /// A user was told that a commit is durable.
    pub(crate) fn acknowledge(&mut self, seat: usize, tip: Tip) {
        self.told.entry(seat).or_default().push(tip);
    }

    /// Whoever has this key may fork its logs from now on, in good faith.
    pub(crate) fn may_fork(&mut self, replica: Option<ReplicaId>) {
        self.forkers.extend(replica);
    }

    /// Tells whether that replica's logs may be forked.
    pub(crate) fn forks(&self, replica: &ReplicaId) -> bool {
        self.forkers.contains(replica)
    }

    /// Takes note of the commit at a place of a log that somebody else holds.
    fn saw(&mut self, at: usize, tip: Tip) {
        let first = *self.ids.entry((tip.log, tip.seq)).or_insert(tip.id);
        if first != tip.id && !self.forkers.contains(&tip.log.replica) {
            let (a, b) = (short(&first), short(&tip.id));
            let seen = format!("log {} has {a} and {b} at {}, seen at {at}", tip.log, tip.seq);
            self.broken = Some(Broken::new("one place of a log, one commit", seen));
        }
    }
}

impl World {
    /// A seat was repaired, and not all were there to help, or nothing was spared: what it was told
    /// is durable and does not hold is looked for in the end, as is what others were told.
    pub(crate) fn miss(&mut self, at: usize) {
        let space = self.space;
        let told = self.facts.told.get(&at).cloned().unwrap_or_default();
        let Some(store) = self.store(at) else { return };
        let latest = store.latest(&space).unwrap_or_default();
        let (held, missed): (Vec<Tip>, Vec<Tip>) =
            told.into_iter().partition(|tip| holds(store, &space, tip));
        if let Some(seat) = self.seats.get_mut(at).filter(|_| !missed.is_empty()) {
            seat.told = latest.min(seat.told);
        }
        self.facts.told.insert(at, held);
        self.facts.told.entry(usize::MAX).or_default().extend(missed);
    }

    /// Looks at a replica after something happened to it: what it holds grows and contradicts
    /// nobody, and equal states show equal values.
    pub(crate) fn look(&mut self, at: usize) {
        let space = self.space;
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(node) = seat.node.as_mut() else { return };
        if node.store_ref().written() == seat.looked {
            return;
        }
        seat.looked = node.store_ref().written();
        let (own, faults) = (seat.key, seat.disk_faults);
        let store = node.store();
        let Ok(version) = store.version(&space) else { return };
        let has_some = version.iter().next().is_some();
        let latest = store.latest(&space).unwrap_or_default();
        let mut news = Vec::new();
        for (log, seq) in version.iter() {
            let before = seat.seen.insert(log, seq).unwrap_or(0);
            // What a disk did not take is taken back.
            if seq < before
                && !faults
                && store.closed_logs(&space).is_ok_and(|c| c.iter().all(|c| c.0 != log))
            {
                let seen = format!("seat {at} held {log} up to {before}, and now up to {seq}");
                self.facts.broken = Some(Broken::new("what is held stays held", seen));
            }
            for seq in before + 1..=seq {
                news.extend(store.id_at(&space, &log, seq).map(|id| Tip { log, seq, id }));
            }
        }
        self.facts.looks += 1;
        let shown =
            if self.facts.looks.is_multiple_of(LOOKS_A_VALUE) { show(store, &space) } else { None };
        let foreign = |tip: &Tip| {
            tip.log.replica != self.seats.get(own).map(|s| s.replica()).unwrap_or_default()
        };
        let (news, own): (Vec<Tip>, Vec<Tip>) = news.into_iter().partition(foreign);
        for tip in news {
            self.facts.saw(at, tip);
            self.check_early(at, &tip);
        }
        if has_some {
            self.check_admission(at);
        }
        self.check_time(at, latest, !own.is_empty());
        if let Some((state, value)) = shown {
            let (first, by) = *self.facts.values.entry(state).or_insert((value, at));
            if first != value {
                let seen = format!("seats {by} and {at} hold the same and show different values");
                self.facts.broken = Some(Broken::new("equal states show equal values", seen));
            }
        }
    }
}

/// Returns the hashes of what a store holds and of what it shows.
pub(crate) fn show(store: &mut Store<SeatDisk>, space: &SpaceId) -> Option<(Hash, Hash)> {
    Some((store.state_hash(space).ok()??, store.value_hash(space).ok()?))
}

/// Tells whether a commit counts in a store.
pub(crate) fn holds(store: &Store<SeatDisk>, space: &SpaceId, tip: &Tip) -> bool {
    store.id_at(space, &tip.log, tip.seq) == Some(tip.id) || store.inner_name(space, tip).is_some()
}

/// Returns the first digits of an id.
pub(crate) fn short(id: &CommitId) -> String {
    kdelta_engine::base::hex(id.0.get(..6).unwrap_or_default())
}

/// Of so many looks one asks for the values too.
const LOOKS_A_VALUE: u64 = 16;
