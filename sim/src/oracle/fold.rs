//! What a set of commits comes to, key by key, by the law of CRDT section 1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kdelta_engine::base::{CommitId, Dot, EventId, Hash, LogId, ReplicaId, SpaceId, sha256};

use super::bytes::{put_bytes, put_len, put_log, put_varint};
use super::causes::{Causes, Invalid, Set};
use super::commit::{Action, Content, Supersedes, Tip};
use super::image::History;
use super::json::is_canonical;
use super::meta::{self, Tag};
use super::rights::effective;
use super::show::{Shown, Stamp};

/// A space as its commits have it.
#[derive(Debug, Clone)]
pub struct Fold {
    /// The commits, and which count.
    pub causes: Causes,
    /// What is effective of what counts.
    effective: Set,
    keys: BTreeMap<Arc<[u8]>, Vec<Written>>,
}

/// One event of a key.
#[derive(Debug, Clone)]
pub struct Written {
    /// Where its commit is in the causes.
    pub(super) at: usize,
    /// Its stamp and names.
    pub stamp: Stamp,
    /// Its short name.
    pub dot: Dot,
    /// What it did.
    pub action: Action,
    /// What it carried.
    pub payload: Arc<[u8]>,
    /// What it removed.
    pub supersedes: Supersedes,
}

impl Fold {
    /// Joins what some images hold of a space.
    ///
    /// # Errors
    /// [`Invalid`] if a commit is there that no replica may accept.
    pub fn new<'a>(
        space: SpaceId,
        histories: impl IntoIterator<Item = &'a History>,
    ) -> Result<Self, Invalid> {
        let causes = Causes::new(space, histories)?;
        let effective = effective(&causes, &causes.counted);
        let mut keys: BTreeMap<Arc<[u8]>, Vec<Written>> = BTreeMap::new();
        for (at, commit) in causes.of(&causes.counted) {
            for (index, event) in (0_u16..).zip(&commit.events) {
                let Content::Full { key, payload, .. } = &event.content else { continue };
                if !is_key(key) {
                    continue;
                }
                let id = EventId { commit: commit.id, index };
                keys.entry(Arc::clone(key)).or_default().push(Written {
                    at,
                    stamp: Stamp { hlc: commit.hlc, replica: commit.log.replica, id },
                    dot: Dot { log: commit.log, seq: commit.seq, index },
                    action: event.action,
                    payload: Arc::clone(payload),
                    supersedes: event.supersedes.clone(),
                });
            }
        }
        Ok(Self { causes, effective, keys })
    }

    /// Every key that an event which counts has touched.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.keys.keys()
    }

    /// The events of a key in commits that count, inert ones too, none before its past.
    fn written(&self, key: &[u8]) -> &[Written] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// The events of a key that count, none before its past.
    pub fn events<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = &'a Written> {
        self.written(key).iter().filter(|event| self.effective.has(event.at))
    }

    /// The events that one names and that are in its past.
    pub fn parents(&self, key: &[u8], of: &Written) -> BTreeSet<EventId> {
        let Supersedes::Dots(dots) = &of.supersedes else { return BTreeSet::new() };
        let named = |e: &&Written| dots.binary_search(&e.dot).is_ok() && self.saw(of, e);
        self.events(key).filter(named).map(|e| e.stamp.id).collect()
    }

    /// What a key shows; at a point, if the set of its commits is given.
    pub fn get(&self, key: &[u8], at: Option<&Set>) -> Option<Shown> {
        let then = at.map(|set| effective(&self.causes, set));
        self.get_of(key, then.as_ref().unwrap_or(&self.effective))
    }

    /// What a key shows by the commits of a set, all of which are effective.
    fn get_of(&self, key: &[u8], set: &Set) -> Option<Shown> {
        let known: Vec<&Written> = self.written(key).iter().filter(|e| set.has(e.at)).collect();
        let mut places: BTreeMap<Dot, Vec<usize>> = BTreeMap::new();
        for (place, event) in known.iter().enumerate() {
            places.entry(event.dot).or_default().push(place);
        }
        let mut gone = BTreeSet::new();
        for event in &known {
            match &event.supersedes {
                Supersedes::Dots(dots) => {
                    let named = dots.iter().filter_map(|dot| places.get(dot)).flatten();
                    gone.extend(named.filter(|at| {
                        known.get(**at).is_some_and(|earlier| self.saw(event, earlier))
                    }));
                }
                Supersedes::Cut(cut) => {
                    let cut: BTreeMap<LogId, u64> = cut.iter().copied().collect();
                    let covered = |earlier: &Written| {
                        cut.get(&earlier.dot.log).is_some_and(|seq| earlier.dot.seq <= *seq)
                            && self.saw(event, earlier)
                    };
                    let all = known.iter().enumerate();
                    gone.extend(all.filter(|(_, e)| covered(e)).map(|(at, _)| at));
                }
            }
        }
        let live = known.into_iter().enumerate().filter(|(at, e)| !gone.contains(at) && adds(e));
        Shown::of(live.map(|(_, event)| event).collect())
    }

    /// Tells whether one event comes before another.
    pub(super) fn saw(&self, event: &Written, earlier: &Written) -> bool {
        if event.at == earlier.at {
            return earlier.dot.index < event.dot.index;
        }
        self.causes.is_past(earlier.at, event.at)
    }

    /// What all keys show that show anything.
    pub fn shown(&self, at: Option<&Set>) -> BTreeMap<Arc<[u8]>, Shown> {
        let then = at.map(|set| effective(&self.causes, set));
        let set = then.as_ref().unwrap_or(&self.effective);
        let shown = |key: &Arc<[u8]>| Some((Arc::clone(key), self.get_of(key, set)?));
        self.keys.keys().filter_map(shown).collect()
    }

    /// The digest of what counts.
    pub fn state_hash(&self) -> Hash {
        let mut out = self.causes.space.0.to_vec();
        let frontier = self.causes.frontier();
        put_len(&mut out, frontier.len());
        frontier.iter().for_each(|tip| tip.put(&mut out));
        let closed = self.causes.closed();
        put_len(&mut out, closed.len());
        for (log, (seq, tips)) in closed {
            put_log(&mut out, &log);
            put_varint(&mut out, seq);
            put_len(&mut out, tips.len());
            for tip in tips {
                put_varint(&mut out, tip.seq);
                out.extend_from_slice(&tip.id.0);
            }
        }
        sha256("kdelta/state/1", &[&out])
    }

    /// The digest of what keys show.
    pub fn value_hash(&self, shown: &BTreeMap<Arc<[u8]>, Shown>) -> Hash {
        let mut out = self.causes.space.0.to_vec();
        for (key, shown) in shown {
            let mut entry = Vec::new();
            put_bytes(&mut entry, key);
            entry.push(shown.ty.byte());
            entry.extend_from_slice(&shown.context);
            shown.value.put(&mut entry);
            out.extend_from_slice(&sha256("kdelta/value-entry", &[&entry]));
        }
        sha256("kdelta/values/1", &[&out])
    }

    /// What was last said of each tag: the commit that says it, and the heads that it names.
    pub fn tags(&self) -> BTreeMap<String, (CommitId, Option<Vec<Tip>>)> {
        let mut tags: BTreeMap<String, (Rank, Option<Vec<Tip>>)> = BTreeMap::new();
        for (_, commit) in self.causes.of(&self.effective) {
            let Some(tag) = commit.meta.as_ref().and_then(meta::tag) else { continue };
            let (name, target) = match tag {
                Tag::Here(name) => (name, Some(vec![commit.tip()])),
                Tag::At(name, heads) => (name, Some(heads)),
                Tag::Gone(name) => (name, None),
            };
            let rank = (commit.hlc, commit.log.replica, commit.id);
            let said = tags.entry(name).or_insert_with(|| (rank, target.clone()));
            if said.0 < rank {
                *said = (rank, target);
            }
        }
        tags.into_iter().map(|(name, ((_, _, id), target))| (name, (id, target))).collect()
    }
}

/// Of two words on a tag the one with the greater rank holds: stamp, author, commit.
type Rank = (u64, ReplicaId, CommitId);

pub(super) fn is_key(key: &[u8]) -> bool {
    (1..=1024).contains(&key.len()) && !key.contains(&0) && std::str::from_utf8(key).is_ok()
}

/// Tells whether an event becomes live, as long as nothing supersedes it.
fn adds(event: &Written) -> bool {
    let payload = &event.payload;
    payload.len() <= 8 << 20
        && match event.action {
            Action::Put | Action::SetAdd => is_canonical(payload),
            Action::PutBytes => true,
            Action::CounterAdd => payload.len() == 8,
            Action::MapPut => meta::field(payload).is_some_and(|(_, value)| is_canonical(value)),
            Action::Delete | Action::SetRemove | Action::MapDelete => false,
        }
}
