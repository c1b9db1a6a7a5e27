//! History: of a key, of a space, and what lies between two points.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::backend::{Api, Backend, Store};
use super::histories::{
    Difference, Explanation, Forked, Inert, KeyHistory, Live, PastCommit, PastEvent, SpaceHistory,
    Why, act, kind_name,
};
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::shapes::{About, Got, Shown, author};
use super::{Answer, json};
use crate::engine::base::{EventId, GrantId, Hlc, Key, LogId, SpaceId};
use crate::engine::causal::VersionVector;
use crate::engine::crdt::{LiveEvent, State as KeyState, Type, View};
use crate::engine::log::Position;
use crate::engine::store::{Arrived, HistoryEvent, Place, ReadError, Reason, Which};

/// How many commits a history has if nobody says otherwise.
const HISTORY_EVENTS: usize = 1000;
/// How many keys of a commit are named.
const COMMIT_KEYS: usize = 16;
/// How many inert events an explanation names.
const INERT_EVENTS: usize = 100;
/// About how many bytes of commits are read under one hold of the store's lock.
const SLICE_BYTES: usize = 1 << 20;

/// `GET /v1/spaces/{space}/history` and `…/history/{key}`
pub(super) async fn history(api: Api, mut ask: Ask) -> Answer {
    let key = ask.key_if_any()?;
    let limit = ask.query.limit(HISTORY_EVENTS)?;
    let degraded = ask.query.flag("degraded")?;
    let which = if ask.query.flag("all")? { Which::All } else { Which::Effective };
    let name = ask.space;
    match key {
        Some(key) => {
            let read = move |backend: &Backend| {
                of_key(&backend.degraded(degraded), &name, &key, which, limit)
            };
            json(&api.run(read).await?)
        }
        None => {
            let read =
                move |backend: &Backend| of_space(&backend.degraded(degraded), &name, which, limit);
            json(&api.run(read).await?)
        }
    }
}

fn of_key(
    backend: &Backend,
    space: &str,
    key: &Key,
    which: Which,
    limit: usize,
) -> Result<KeyHistory, Problem> {
    let space = backend.space(space, key.as_str())?;
    let rights = backend.rights()?;
    let events = backend.read(|store| store.history_of(&space, key, which, limit))?;
    if events.is_empty() && limit > 0 {
        let inert = backend.read(|store| store.history_of(&space, key, Which::Inert, 1))?;
        return Err(if inert.is_empty() { never_written(key) } else { only_inert(key) });
    }
    let events = events.iter().map(|event| PastEvent::new(event, rights.as_ref())).collect();
    Ok(KeyHistory { key: key.as_str().to_owned(), events, degraded: backend.is_partial() })
}

fn only_inert(key: &Key) -> Problem {
    let detail = format!("nothing that was written to {:?} counts", key.as_str());
    Problem::new(Kind::NotFound, detail)
        .hint("See what was, and why not: kdelta history KEY --all")
        .with("key", key.as_str())
}

fn never_written(key: &Key) -> Problem {
    Problem::new(Kind::NotFound, format!("no key {:?} here, and none ever was", key.as_str()))
        .hint("List the keys: kdelta list")
        .with("key", key.as_str())
}

/// A commit by its place in history: stamp, log and seq.
type Ranked = (Hlc, LogId, u64);

/// Reads the newest commits of a space. Costs a pass over the log of the store.
fn of_space(
    backend: &Backend,
    space: &str,
    which: Which,
    limit: usize,
) -> Result<SpaceHistory, Problem> {
    let space = backend.space(space, "")?;
    let mut newest: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
    each_commit(backend, &space, |arrived| {
        let commit = &arrived.commit;
        if arrived.is_inert && which == Which::Effective {
            return Ok(());
        }
        newest.push(Reverse((commit.hlc, commit.log, commit.seq)));
        if newest.len() > limit {
            newest.pop();
        }
        Ok(())
    })?;
    let mut commits = Vec::with_capacity(newest.len());
    for Reverse((_, log, seq)) in newest.into_sorted_vec() {
        commits.extend(backend.read(|store| {
            let position = store.position_of(&space, &log, seq)?;
            let after = Position { offset: position.offset.saturating_add(1), ..position };
            let (found, _) = store.arrived(&space, position, after, 1)?;
            let verdict = store.verdicts(&space, &found, None)?.pop();
            let reason = verdict.and_then(Result::err);
            Ok(found.first().map(|arrived| past_commit(store, arrived, reason.as_ref())))
        })?);
    }
    let degraded = backend.is_partial();
    Ok(SpaceHistory { space: space.to_string(), commits, degraded })
}

fn past_commit(store: &Store, arrived: &Arrived, reason: Option<&Reason>) -> PastCommit {
    let commit = &arrived.commit;
    let before = commit.seq.checked_sub(1).filter(|seq| *seq > 0).map(|seq| (commit.log, seq));
    let parents = before.into_iter().chain(commit.deps.iter().copied());
    let parents = parents.filter_map(|(log, seq)| store.id_at(&commit.space, &log, seq));
    let mut keys: Vec<String> = Vec::new();
    for key in commit.events.iter().filter_map(|event| event.key()) {
        if keys.len() < COMMIT_KEYS && !keys.iter().any(|known| known == key.as_str()) {
            keys.push(key.as_str().to_owned());
        }
    }
    PastCommit {
        commit: arrived.tip.id.to_string(),
        parents: parents.map(|id| id.to_string()).collect(),
        time: super::point::time_text(commit.hlc),
        author: author(&commit.log),
        log: store.origin(&commit.space, &commit.log).to_string(),
        seq: commit.seq,
        kind: kind_name(commit.kind),
        events: commit.events.len(),
        keys,
        about: About::new(commit.meta().as_ref()),
        grant: commit.grant.map(|grant| grant.to_string()),
        act: commit.act.as_ref().and_then(act),
        // Who sees commits may see all keys.
        inert: reason.map(|reason| Why::new(reason, None)),
    }
}

/// Calls `take` with each commit of a space in order of arrival, in slices.
fn each_commit(
    backend: &Backend,
    space: &SpaceId,
    take: impl FnMut(&Arrived) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let upto = backend.read(|store| store.place_of_end(space, store.written()))?;
    each_commit_until(backend, space, upto, None, take)
}

/// The same, of the commits that begin before `upto`; which of them count is that of a version.
pub(super) fn each_commit_until(
    backend: &Backend,
    space: &SpaceId,
    upto: Place,
    at: Option<&VersionVector>,
    mut take: impl FnMut(&Arrived) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut from = backend.read(|store| store.place(space, Position::default()))?;
    loop {
        let slice = backend.read(|store| {
            let (start, end) = (store.find(space, &from)?, store.find(space, &upto)?);
            if start >= end {
                return Ok(None);
            }
            let (mut found, next) = store.arrived(space, start, end, SLICE_BYTES)?;
            let next = store.go_on(&from, &found, next);
            if at.is_some() {
                let verdicts = store.verdicts(space, &found, at)?;
                for (arrived, verdict) in found.iter_mut().zip(verdicts) {
                    arrived.is_inert = verdict.is_err();
                }
            }
            Ok(Some((found, next)))
        })?;
        let Some((found, next)) = slice else { return Ok(()) };
        found.iter().try_for_each(&mut take)?;
        from = next;
    }
}

/// `GET /v1/spaces/{space}/diff/{key}?from=&to=`
pub(super) async fn diff(api: Api, mut ask: Ask) -> Answer {
    let key = ask.key()?;
    let from = ask.query.text("from").ok_or_else(|| {
        Problem::usage("the parameter \"from\" is missing").hint("Give the point to start from")
    })?;
    let to = ask.query.text("to");
    let degraded = ask.query.flag("degraded")?;
    let name = ask.space;
    let read = move |backend: &Backend| {
        difference(&backend.degraded(degraded), &name, &key, &from, to.as_deref())
    };
    json(&api.run(read).await?)
}

fn difference(
    backend: &Backend,
    space: &str,
    key: &Key,
    from: &str,
    to: Option<&str>,
) -> Result<Difference, Problem> {
    let space = backend.space(space, key.as_str())?;
    let rights = backend.rights()?;
    let from = backend.resolve(&space, from)?;
    let to = match to {
        Some(to) => backend.resolve(&space, to)?,
        None => backend.read(|store| store.version(&space))?,
    };
    let (before, after, events) = backend.read(|store| {
        let before = store.get(&space, key, Some(&from))?;
        let after = store.get(&space, key, Some(&to))?;
        Ok((before, after, store.history(&space, key, usize::MAX)?))
    })?;
    if events.is_empty() {
        return Err(never_written(key));
    }
    // Either way round: what one of the two points knows and the other does not.
    let between = |dot| from.contains_dot(dot) != to.contains_dot(dot);
    let context = |view: &Option<View>| view.as_ref().map(|view| view.context);
    let events = events.iter().filter(|event| between(&event.stamp.dot));
    Ok(Difference {
        key: key.as_str().to_owned(),
        changed: context(&before) != context(&after),
        from: before.as_ref().map(|view| Got::new(key, view)),
        to: after.as_ref().map(|view| Got::new(key, view)),
        events: events.map(|event| PastEvent::new(event, rights.as_ref())).collect(),
    })
}

/// `GET /v1/spaces/{space}/explain/{key}`
pub(super) async fn explain(api: Api, mut ask: Ask) -> Answer {
    let key = ask.key()?;
    let degraded = ask.query.flag("degraded")?;
    let name = ask.space;
    let read = move |backend: &Backend| {
        let backend = backend.degraded(degraded);
        let space = backend.space(&name, key.as_str())?;
        let rights = backend.rights()?;
        let known = backend.read(|store| Known::of(store, &space, &key))?;
        let view = known.state.view();
        if view.is_none() && known.inert.is_empty() && known.forks.is_empty() {
            return Err(Problem::new(Kind::NotFound, format!("no key {:?} here", key.as_str()))
                .hint("See what was: kdelta history KEY"));
        }
        let mut told = known.explanation(&key, view.as_ref());
        let inert = known.inert.iter().take(INERT_EVENTS);
        told.inert = inert.map(|event| Inert::new(event, rights.as_ref())).collect();
        Ok(told)
    };
    json(&api.run(read).await?)
}

/// What there is of a key, read in one go.
struct Known {
    state: Arc<KeyState>,
    /// The events that are live, and the grant of each.
    live: Vec<(LiveEvent, Option<GrantId>)>,
    /// The newest that do not count, and one more than are named if there are more.
    inert: Vec<HistoryEvent>,
    forks: Vec<Forked>,
}

impl Known {
    fn of(store: &mut Store, space: &SpaceId, key: &Key) -> Result<Self, ReadError> {
        let state = store.state_at(space, key, None)?;
        let mut live = Vec::new();
        for event in state.events() {
            let dot = event.stamp.dot;
            let verdict = store.verdict(space, (dot.log, dot.seq), None)?;
            live.push((event, verdict.unwrap_or_default()));
        }
        let inert = if store.is_owned(space)? {
            store.history_of(space, key, Which::Inert, INERT_EVENTS + 1)?
        } else {
            Vec::new()
        };
        let mut forks = Vec::new();
        for (log, seq) in store.closed_logs(space)? {
            if store.forked_keys(space, &log)?.binary_search(key).is_ok() {
                forks.push(Forked::new(&log, seq, &store.branch_tips(space, &log)?));
            }
        }
        Ok(Self { state, live, inert, forks })
    }

    fn explanation(&self, key: &Key, view: Option<&View>) -> Explanation {
        let events: Vec<LiveEvent> = self.live.iter().map(|(event, _)| event.clone()).collect();
        let winners = view.map(|view| winners(view, &events)).unwrap_or_default();
        let live = |(event, grant): &(LiveEvent, Option<GrantId>)| {
            let wins = winners.contains(&event.stamp.event_id());
            Live::new(event, op_of(event), wins, *grant)
        };
        Explanation {
            key: key.as_str().to_owned(),
            ty: view.map(|view| view.ty.name()),
            value: view.map(|view| Shown(view.value.clone())),
            rule: view.map_or_else(|| NOTHING.to_owned(), |view| rule(view, &events)),
            type_conflict: view.is_some_and(|view| view.type_conflict),
            live: self.live.iter().map(live).collect(),
            inert: Vec::new(),
            inert_more: self.inert.len() > INERT_EVENTS,
            forks: self.forks.clone(),
        }
    }
}

/// The rule of a key that shows nothing.
const NOTHING: &str = "Nothing that counts is live.";

/// Returns the events that the shown value is made of.
fn winners(view: &View, events: &[LiveEvent]) -> Vec<EventId> {
    let shown = events.iter().filter(|event| event.ty == view.ty);
    match view.ty {
        Type::Register | Type::Bytes => vec![view.version],
        Type::Counter | Type::Set => shown.map(|event| event.stamp.event_id()).collect(),
        Type::Map => {
            // Events come greatest stamp first: the first of each field is shown.
            let mut fields: BTreeMap<Arc<str>, EventId> = BTreeMap::new();
            for event in shown {
                let field = event.field.clone().unwrap_or_default();
                fields.entry(field).or_insert_with(|| event.stamp.event_id());
            }
            fields.into_values().collect()
        }
    }
}

fn op_of(event: &LiveEvent) -> &'static str {
    match event.ty {
        Type::Register | Type::Bytes => "put",
        Type::Counter => "counter_add",
        Type::Set => "set_add",
        Type::Map => "map_put",
    }
}

/// Says in one sentence which rule decided.
fn rule(view: &View, events: &[LiveEvent]) -> String {
    let own = events.iter().filter(|event| event.ty == view.ty);
    let adds: u64 = own.clone().map(|event| event.count).sum();
    let logs = own.clone().count();
    let conflicts = view.conflicts.iter().filter(|other| other.ty == view.ty).count();
    let within = match view.ty {
        Type::Register | Type::Bytes if conflicts == 0 => {
            "One put is live: it replaced all that its author had seen.".to_owned()
        }
        Type::Register | Type::Bytes => format!(
            "{} puts are concurrent: the one with the latest time is shown, and on a tie the one \
             of the greater log id; the others are conflicts.",
            conflicts + 1
        ),
        Type::Counter => format!(
            "The value is the sum of {adds} live add{} by {logs} log{}.",
            plural(adds),
            plural(logs as u64)
        ),
        Type::Set => {
            "An element is in the set if an add of it is live: a remove takes away only the adds \
             that its author had seen."
                .to_owned()
        }
        Type::Map if conflicts == 0 => {
            "Each field shows its one live put; a delete takes away only the puts that its author \
             had seen."
                .to_owned()
        }
        Type::Map => "Of concurrent puts to one field the one with the latest time is shown, and \
                      on a tie the one of the greater log id; the others are conflicts."
            .to_owned(),
    };
    if !view.type_conflict {
        return within;
    }
    format!(
        "Values of several types are live: the type of the event with the latest time is shown, \
         the others are conflicts. {within}"
    )
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
