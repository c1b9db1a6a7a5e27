//! History: of a key, of a space, and what lies between two points.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::backend::{Api, Backend, Store};
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::shapes::{
    About, Difference, Explanation, Got, KeyHistory, Live, PastCommit, PastEvent, Shown,
    SpaceHistory, author, kind_name,
};
use super::{Answer, json};
use crate::engine::base::{EventId, Hlc, Key, LogId, SpaceId};
use crate::engine::crdt::{LiveEvent, State as KeyState, Type, View};
use crate::engine::log::Position;
use crate::engine::store::{Arrived, Place};

/// How many commits a history has if nobody says otherwise.
const HISTORY_EVENTS: usize = 1000;
/// How many keys of a commit are named.
const COMMIT_KEYS: usize = 16;
/// About how many bytes of commits are read under one hold of the store's lock.
const SLICE_BYTES: usize = 1 << 20;

/// `GET /v1/spaces/{space}/history` and `…/history/{key}`
pub(super) async fn history(api: Api, mut ask: Ask) -> Answer {
    let key = ask.key_if_any()?;
    let limit = ask.query.limit(HISTORY_EVENTS)?;
    let degraded = ask.query.flag("degraded")?;
    let name = ask.space;
    match key {
        Some(key) => {
            let read =
                move |backend: &Backend| of_key(&backend.degraded(degraded), &name, &key, limit);
            json(&api.run(read).await?)
        }
        None => {
            let read = move |backend: &Backend| of_space(&backend.degraded(degraded), &name, limit);
            json(&api.run(read).await?)
        }
    }
}

fn of_key(backend: &Backend, space: &str, key: &Key, limit: usize) -> Result<KeyHistory, Problem> {
    let space = backend.space(space, key.as_str())?;
    let events = backend.read(|store| store.history(&space, key, limit))?;
    if events.is_empty() && limit > 0 {
        return Err(never_written(key));
    }
    let events = events.iter().map(PastEvent::new).collect();
    Ok(KeyHistory { key: key.as_str().to_owned(), events, degraded: backend.is_partial() })
}

fn never_written(key: &Key) -> Problem {
    Problem::new(Kind::NotFound, format!("no key {:?} here, and none ever was", key.as_str()))
        .hint("List the keys: kdelta list")
        .with("key", key.as_str())
}

/// A commit by its place in history: stamp, log and seq.
type Ranked = (Hlc, LogId, u64);

/// Reads the newest commits of a space. Costs a pass over the log of the store.
fn of_space(backend: &Backend, space: &str, limit: usize) -> Result<SpaceHistory, Problem> {
    let space = backend.space(space, "")?;
    let mut newest: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
    each_commit(backend, &space, |arrived| {
        let commit = &arrived.commit;
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
            Ok(found.first().map(|arrived| past_commit(store, arrived)))
        })?);
    }
    let degraded = backend.is_partial();
    Ok(SpaceHistory { space: space.to_string(), commits, degraded })
}

fn past_commit(store: &Store, arrived: &Arrived) -> PastCommit {
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
    }
}

/// Calls `take` with each commit of a space in order of arrival, in slices.
fn each_commit(
    backend: &Backend,
    space: &SpaceId,
    take: impl FnMut(&Arrived) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let upto = backend.read(|store| store.place_of_end(space, store.written()))?;
    each_commit_until(backend, space, upto, take)
}

/// The same, of the commits that begin before `upto`.
pub(super) fn each_commit_until(
    backend: &Backend,
    space: &SpaceId,
    upto: Place,
    mut take: impl FnMut(&Arrived) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut from = backend.read(|store| store.place(space, Position::default()))?;
    loop {
        let slice = backend.read(|store| {
            let (start, end) = (store.find(space, &from)?, store.find(space, &upto)?);
            if start >= end {
                return Ok(None);
            }
            let (found, next) = store.arrived(space, start, end, SLICE_BYTES)?;
            let next = store.go_on(&from, &found, next);
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
    Ok(Difference {
        key: key.as_str().to_owned(),
        changed: context(&before) != context(&after),
        from: before.as_ref().map(|view| Got::new(key, view)),
        to: after.as_ref().map(|view| Got::new(key, view)),
        events: events.iter().filter(|e| between(&e.stamp.dot)).map(PastEvent::new).collect(),
    })
}

/// `GET /v1/spaces/{space}/explain/{key}`
pub(super) async fn explain(api: Api, mut ask: Ask) -> Answer {
    let key = ask.key()?;
    let degraded = ask.query.flag("degraded")?;
    let (name, of) = (ask.space, key.clone());
    let state = api
        .run(move |backend| {
            let backend = backend.degraded(degraded);
            let space = backend.space(&name, of.as_str())?;
            backend.read(|store| store.state_at(&space, &of, None))
        })
        .await?;
    let view = state.view().ok_or_else(|| {
        Problem::new(Kind::NotFound, format!("no key {:?} here", key.as_str()))
            .hint("See what was: kdelta history KEY")
    })?;
    json(&explanation(&key, &state, &view))
}

fn explanation(key: &Key, state: &Arc<KeyState>, view: &View) -> Explanation {
    let events = state.events();
    let winners = winners(view, &events);
    let live = |event: &LiveEvent| {
        let wins = winners.contains(&event.stamp.event_id());
        Live::new(event, op_of(event), wins)
    };
    Explanation {
        key: key.as_str().to_owned(),
        ty: view.ty.name(),
        value: Shown(view.value.clone()),
        rule: rule(view, &events),
        type_conflict: view.type_conflict,
        live: events.iter().map(live).collect(),
    }
}

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
