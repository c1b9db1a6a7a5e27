//! What a script wrote, kept apart from the engine, and what keys must show of it.
//!
//! The model holds each commit with what its author had seen, and folds them anew each time: an
//! event is live until another that saw it removes it. It reads nothing from the engine but names
//! and stamps of commits. It knows no forks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kdelta_engine::base::{CommitId, Hlc, LogId, SpaceId};
use kdelta_engine::crdt::{Json, Op, Value, View};
use kdelta_engine::log::Position;
use kdelta_engine::store::{Local, LocalPeer, LocalTicket};

/// What a script does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sets a register to a number.
    Put(u64),
    /// Sets a register to so many equal bytes.
    Bytes(u8, usize),
    /// Adds to a counter.
    Count(i64),
    /// Adds an element to a set.
    Add(u64),
    /// Removes an element from a set.
    Remove(u64),
    /// Sets a field of a map.
    Field(&'static str, u64),
    /// Removes a field of a map.
    NoField(&'static str),
    /// Removes whatever is there.
    Delete,
}

impl Act {
    /// Returns what the engine is asked for; none if a number is no JSON.
    pub(crate) fn op(&self) -> Option<Op> {
        let json = |number: u64| Json::parse(number.to_string().as_bytes()).ok();
        Some(match self {
            Self::Put(value) => Op::Put(json(*value)?),
            Self::Bytes(byte, len) => Op::PutBytes(vec![*byte; *len].into()),
            Self::Count(by) => Op::CounterAdd(*by),
            Self::Add(element) => Op::SetAdd(vec![json(*element)?]),
            Self::Remove(element) => Op::SetRemove(vec![json(*element)?]),
            Self::Field(field, value) => {
                Op::MapPut { field: (*field).into(), value: json(*value)? }
            }
            Self::NoField(field) => Op::MapDelete { field: (*field).into() },
            Self::Delete => Op::Delete,
        })
    }

    /// Tells whether this, seen or done later, removes `before`.
    fn removes(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Delete, _) => true,
            (Self::Put(_) | Self::Bytes(..), Self::Put(_) | Self::Bytes(..)) => true,
            (Self::Add(a) | Self::Remove(a), Self::Add(b)) => a == b,
            (Self::Field(a, _) | Self::NoField(a), Self::Field(b, _)) => a == b,
            _ => false,
        }
    }

    fn is_live(&self) -> bool {
        !matches!(self, Self::Remove(_) | Self::NoField(_) | Self::Delete)
    }
}

/// What a commit says of a tag: its name, and whether it stands for that commit or for nothing.
pub(crate) type TagWord = (String, bool);

/// A commit as the script knows it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: CommitId,
    pub(crate) hlc: Hlc,
    /// Of each log, how many commits its author had seen.
    pub(crate) past: BTreeMap<LogId, u64>,
    pub(crate) acts: Vec<(String, Act)>,
    pub(crate) tag: Option<TagWord>,
    /// Where the log of the replica under test ended then; none for commits of others.
    pub(crate) stamp: Option<Position>,
    /// The replica under test said that it is durable.
    pub(crate) acked: bool,
}

/// A commit's name: space, log, number.
pub(crate) type Place = (SpaceId, LogId, u64);

/// All that was written and told.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) entries: BTreeMap<Place, Entry>,
    /// What the replica under test wrote, in order.
    pub(crate) own: Vec<Place>,
    /// What a copy of the replica wrote, under numbers that are taken here.
    pub(crate) twin: Vec<Entry>,
    /// Commits that its peer got to see.
    pub(crate) seen: BTreeMap<Place, CommitId>,
    /// Spaces of which it said that they are durable.
    pub(crate) spaces: BTreeMap<SpaceId, String>,
    /// Whom it admits: the last state that is durable, and the one that is being made durable.
    pub(crate) local: Vec<(Vec<LocalPeer>, Vec<LocalTicket>)>,
    /// Writes count as durable at once, as a careless program would have it.
    pub(crate) careless: bool,
}

impl Model {
    /// Takes note of a commit.
    pub(crate) fn wrote(&mut self, place: Place, mut entry: Entry) {
        entry.acked |= self.careless && entry.stamp.is_some();
        if entry.stamp.is_some() {
            self.own.push(place);
        }
        self.entries.insert(place, entry);
    }

    /// Takes note that what the replica wrote before `durable` is durable.
    pub(crate) fn durable(&mut self, durable: Position) {
        for entry in self.entries.values_mut() {
            entry.acked |= entry.stamp.is_some_and(|stamp| stamp <= durable);
        }
    }

    /// Takes note that a replica holds a log durably up to `seq`.
    pub(crate) fn durable_upto(&mut self, space: SpaceId, log: LogId, seq: u64) {
        for entry in self.entries.range_mut((space, log, 0)..=(space, log, seq)) {
            entry.1.acked = true;
        }
    }

    /// Forgets what the replica wrote and is not `held` any more: it must not come back, unless a
    /// peer got to see it.
    pub(crate) fn settle(&mut self, held: impl Fn(&Place, &CommitId) -> bool) {
        let seen = &self.seen;
        self.entries.retain(|place, entry| {
            let kept = held(place, &entry.id);
            let known = seen.get(place) == Some(&entry.id);
            let stays = entry.stamp.is_none() || kept || known;
            if !kept {
                (entry.acked, entry.stamp) = (false, None);
            }
            stays
        });
        let entries = &self.entries;
        self.own.retain(|place| entries.get(place).is_some_and(|entry| entry.stamp.is_some()));
    }

    /// Takes note of whom the replica is about to admit, and then that this is durable.
    pub(crate) fn local(&mut self, local: &Local, durable: bool) {
        if durable {
            self.local.clear();
        }
        self.local.push((local.peers.clone(), local.tickets.clone()));
    }

    /// Returns how many of the first commits of each log are those that were written here.
    pub(crate) fn known(
        &self,
        space: SpaceId,
        logs: &BTreeMap<LogId, Vec<Option<CommitId>>>,
    ) -> BTreeMap<LogId, u64> {
        let known = |log: LogId, seq: u64, id: &Option<CommitId>| {
            id.is_some() && self.entries.get(&(space, log, seq)).map(|entry| entry.id) == *id
        };
        let count = |log: LogId, ids: &[Option<CommitId>]| {
            (1..).zip(ids).take_while(|(seq, id)| known(log, *seq, id)).count() as u64
        };
        logs.iter().map(|(log, ids)| (*log, count(*log, ids))).collect()
    }

    /// Folds the commits of a space of which `held` says how many of each log count.
    pub(crate) fn fold(&self, space: SpaceId, held: &BTreeMap<LogId, u64>) -> Shown {
        let mut counted: Vec<(&LogId, u64, &Entry)> = self
            .entries
            .iter()
            .filter(|((of, log, seq), _)| {
                *of == space && held.get(log).is_some_and(|last| seq <= last)
            })
            .map(|((_, log, seq), entry)| (log, *seq, entry))
            .collect();
        counted.sort_by_key(|(log, seq, entry)| (entry.hlc, **log, *seq));
        let mut live: BTreeMap<&str, Vec<(LogId, u64, &Act)>> = BTreeMap::new();
        let mut tags = BTreeMap::new();
        for (log, seq, entry) in counted {
            for (key, act) in &entry.acts {
                let events = live.entry(key).or_default();
                events.retain(|(of, at, before)| {
                    let saw = of == log || entry.past.get(of).is_some_and(|last| at <= last);
                    !(saw && act.removes(before))
                });
                if act.is_live() {
                    events.push((*log, seq, act));
                }
            }
            if let Some((name, stands)) = &entry.tag {
                tags.insert(name.clone(), stands.then_some(entry.id));
            }
        }
        let keys = live.into_iter().filter(|(_, events)| !events.is_empty());
        let keys = keys.map(|(key, events)| (key.to_owned(), show_acts(&events))).collect();
        let tags = tags.into_iter().filter_map(|(name, id)| Some((name, id?))).collect();
        Shown { keys, tags }
    }
}

/// What a space shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The value of each live key, as text.
    pub(crate) keys: BTreeMap<String, String>,
    /// The commit that each tag stands for.
    pub(crate) tags: BTreeMap<String, CommitId>,
}

/// Says what live events of one key, in the order of their stamps, come to.
fn show_acts(events: &[(LogId, u64, &Act)]) -> String {
    match events.last().map(|(_, _, act)| *act) {
        Some(Act::Put(value)) => value.to_string(),
        Some(Act::Bytes(byte, len)) => format!("{len} bytes {byte}"),
        Some(Act::Count(_)) => {
            let adds =
                events.iter().map(|(_, _, act)| if let Act::Count(by) = act { *by } else { 0 });
            format!("count {}", adds.sum::<i64>())
        }
        Some(Act::Add(_)) => {
            let elements = events.iter().filter_map(|(_, _, act)| match act {
                Act::Add(element) => Some(element.to_string()),
                _ => None,
            });
            format!("set {:?}", elements.collect::<BTreeSet<_>>())
        }
        Some(Act::Field(..)) => {
            let fields = events.iter().filter_map(|(_, _, act)| match act {
                Act::Field(field, value) => Some((*field, value.to_string())),
                _ => None,
            });
            format!("map {:?}", fields.collect::<BTreeMap<_, _>>())
        }
        _ => "nothing".to_owned(),
    }
}

/// Says what the engine shows in the same words.
pub(crate) fn show_view(view: &View) -> String {
    let mut text = String::new();
    let _ = match &view.value {
        Value::Json(json) => write!(text, "{}", json.as_str()),
        Value::Bytes(bytes) => {
            let first = bytes.first().copied().unwrap_or_default();
            let equal = bytes.iter().all(|byte| *byte == first);
            write!(text, "{} bytes {}", bytes.len(), if equal { first } else { 255 })
        }
        Value::Counter(sum) => write!(text, "count {sum}"),
        Value::Set(elements) => {
            let elements: BTreeSet<&str> = elements.iter().map(Json::as_str).collect();
            write!(text, "set {elements:?}")
        }
        Value::Map(fields) => {
            let fields: BTreeMap<_, _> =
                fields.iter().map(|(f, json)| (f, json.as_str())).collect();
            write!(text, "map {fields:?}")
        }
        other => write!(text, "{other:?}"),
    };
    text
}
