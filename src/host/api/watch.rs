//! Changes as they become durable.
//!
//! A watch is a place in the log that moves forward: no queue fills up behind a slow reader, and a
//! cursor outlives a restart, and a repair that wrote its segment anew. A cursor names the commit's
//! record, the event in it, and a part of the commit's id, so that one which is not of this
//! replica, or whose history is gone, is told apart (410). Nothing is sent that a crash could still
//! undo. How it goes to whoever listens is in `follow.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderName, header};

use super::Answer;
use super::backend::{Api, Backend, Store};
use super::follow::Follow;
use super::histories::Why;
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::shapes::{Change, Did, Shown, author};
use crate::engine::base::{Dot, EventId, Hlc, Key, LogId, SpaceId};
use crate::engine::causal::VersionVector;
use crate::engine::crdt::{Supersedes, View};
use crate::engine::event::{Event, Kind as CommitKind};
use crate::engine::log::Position;
use crate::engine::store::{Arrived, Place, ReadError, Rights};
use crate::host::http::Served;

/// Where a browser goes on after it lost the connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// About how many bytes of commits are read under one hold of the store's lock: of each of their
/// events a key is folded too.
const SLICE_BYTES: usize = 8 << 10;
/// About how many keys that a revocation reached are told of under one hold of the store's lock.
const REACHED_KEYS: usize = 256;

/// A place in a watch: just after one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// Where the record of the commit begins.
    position: Position,
    /// The index of the event in the commit; of a revocation, how many of the commits that it
    /// reached were told of.
    index: u32,
    /// The first bytes of the commit's id.
    check: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, index, check } = self;
        write!(f, "{:x}-{:x}-{index:x}-{check:08x}", position.segment, position.offset)
    }
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let mut parts = text.split('-');
        let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
        let cursor = (|| {
            let position = Position { segment: next()?, offset: next()?.try_into().ok()? };
            let (index, check) = (next()?.try_into().ok()?, next()?.try_into().ok()?);
            Some(Self { position, index, check })
        })();
        cursor.filter(|_| parts.next().is_none()).ok_or_else(|| unknown(text))
    }
}

fn unknown(text: &str) -> Problem {
    Problem::new(Kind::Pruned, format!("the cursor {text:?} is not known on this replica"))
        .hint("Watch from now on, and read what is there with list or history")
}

/// `GET /v1/spaces/{space}/watch?prefix=&from=&all=`
pub(super) async fn watch(
    api: Api,
    headers: HeaderMap,
    served: Option<Extension<Served>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    mut ask: Ask,
) -> Answer {
    let prefix = ask.query.text("prefix").unwrap_or_default();
    let all = ask.query.flag("all")?;
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok().map(str::to_owned));
    // A browser repeats the address, and says in the header how far it has come since.
    let from = resumed.or(ask.query.text("from"));
    let upgrade = match upgrade {
        Ok(upgrade) => Some(upgrade),
        Err(_) if !headers.contains_key(header::UPGRADE) => None,
        Err(refused) => {
            return Err(Problem::usage(format!("no WebSocket can be opened: {refused}"))
                .hint("Leave out the header Upgrade, and read server-sent events"));
        }
    };
    let watch = api
        .run(move |backend| {
            let space = backend.space(&ask.space, &prefix)?;
            let at = Watch::start(backend, space, from.as_deref())?;
            Ok(Watch { space, prefix, all, at: at.0, sent: at.1 })
        })
        .await?;
    let follow = Follow::new(api, watch, served.map(|Extension(served)| served));
    Ok(match upgrade {
        Some(upgrade) => follow.socket(upgrade),
        None => follow.events(),
    })
}

/// A place in the log that moves forward.
pub(super) struct Watch {
    space: SpaceId,
    prefix: String,
    /// Whether what does not count is told too.
    all: bool,
    /// Commits that begin before this were sent.
    at: Place,
    /// Events up to this one, of the commit at `at`, were sent.
    sent: Option<Cursor>,
}

/// What is read under one hold of the store's lock.
pub(super) struct Slice {
    pub(super) changes: Vec<Change>,
    next: Place,
    /// What is told of the commit at `next`.
    sent: Option<Cursor>,
}

impl Watch {
    /// Returns where to begin: a place, and what was sent of the commit there.
    fn start(
        backend: &Backend,
        space: SpaceId,
        from: Option<&str>,
    ) -> Result<(Place, Option<Cursor>), Problem> {
        let Some(text) = from else {
            return Ok((backend.read(|store| store.place(&space, store.durable()))?, None));
        };
        let cursor: Cursor = text.parse()?;
        let digits = format!("{:08x}", cursor.check);
        let there = backend.read(|store| {
            if cursor.position.segment > store.durable().segment {
                return Ok(None);
            }
            // What a repair wrote anew lies elsewhere than it did.
            let found = store.find_cursor(&space, cursor.position, &digits).ok().flatten();
            let found = found.filter(|position| *position < store.durable());
            found.map(|position| store.place(&space, position)).transpose()
        })?;
        match there {
            Some(at) => Ok((at, Some(Cursor { position: at.position(), ..cursor }))),
            None => Err(unknown(text)),
        }
    }

    /// Returns where it is: there is something to read once what is durable lies beyond.
    pub(super) fn position(&self) -> Position {
        self.at.position()
    }

    /// Goes on to what is durable by now, or a part of the way.
    pub(super) fn read(
        mut self,
        backend: &Backend,
        upto: Position,
    ) -> Result<(Self, Slice), Problem> {
        // What let it begin may have been taken back since.
        backend.check_read(&self.prefix)?;
        let rights = backend.rights()?;
        let slice = backend.read(|store| self.slice(store, upto, rights.as_ref()))?;
        (self.at, self.sent) = (slice.next, slice.sent);
        Ok((self, slice))
    }

    fn slice(
        &self,
        store: &mut Store,
        upto: Position,
        rights: Option<&Rights>,
    ) -> Result<Slice, ReadError> {
        let from = store.find(&self.space, &self.at)?;
        let (mut found, mut next) = store.arrived(&self.space, from, upto, SLICE_BYTES)?;
        let version = durable_version(store, &self.space)?;
        let version = version.as_ref();
        let verdicts = store.verdicts(&self.space, &found, version)?;
        let mut changes: Vec<(Position, Change)> = Vec::new();
        let mut sent = None;
        for (at, verdict) in verdicts.iter().enumerate() {
            let Some(arrived) = found.get(at) else { break };
            if verdict.is_err() && !self.all {
                continue;
            }
            if arrived.commit.kind == CommitKind::Revoke && verdict.is_ok() {
                sent = self.revoked(store, arrived, version, &mut changes)?;
            }
            if sent.is_some() {
                // There is more to tell of it before anything else.
                next = arrived.position;
                found.truncate(at);
                break;
            }
            let why = verdict.as_ref().err().map(|reason| Why::new(reason, rights));
            self.written(store, arrived, why.as_ref(), version, &mut changes)?;
        }
        for (log, position) in store.closed_between(&self.space, from, next) {
            self.forked(store, &log, position, &mut changes)?;
        }
        changes.sort_by_key(|(position, _)| *position);
        let next = store.go_on(&self.at, &found, next);
        Ok(Slice { changes: changes.into_iter().map(|(_, change)| change).collect(), next, sent })
    }

    /// Tells the events of a commit.
    fn written(
        &self,
        store: &mut Store,
        arrived: &Arrived,
        why: Option<&Why>,
        version: Option<&VersionVector>,
        changes: &mut Vec<(Position, Change)>,
    ) -> Result<(), ReadError> {
        for (index, event) in (0_u16..).zip(&arrived.commit.events) {
            let sent = self.sent.filter(|sent| sent.position == arrived.position);
            if sent.is_some_and(|sent| u32::from(index) <= sent.index) {
                continue;
            }
            if let Some(key) = event.key().filter(|k| k.as_str().starts_with(&self.prefix)) {
                let change = change(store, arrived, index, event, &key, version)?;
                changes.push((arrived.position, Change { inert: why.cloned(), ..change }));
            }
        }
        Ok(())
    }

    /// Tells what the keys show that were written to under what a revocation took back, and that
    /// its author had not seen. Returns how far it came, if there is more of them.
    fn revoked(
        &self,
        store: &mut Store,
        by: &Arrived,
        version: Option<&VersionVector>,
        changes: &mut Vec<(Position, Change)>,
    ) -> Result<Option<Cursor>, ReadError> {
        let check = check_of(by.tip.id.as_bytes());
        let told = self.sent.filter(|sent| sent.position == by.position);
        let mut index = told.map_or(0, |told| told.index);
        let reached = store.reached(&self.space, by, u64::from(index), REACHED_KEYS)?;
        let mut seen = BTreeSet::new();
        for mut keys in reached.keys {
            keys.retain(|key| key.as_str().starts_with(&self.prefix) && seen.insert(key.clone()));
            let last = keys.len().saturating_sub(1);
            for (at, key) in keys.iter().enumerate() {
                // Only the last one says that all of this commit was told.
                let done = index.saturating_add(u32::from(at == last));
                let cursor = Cursor { position: by.position, index: done, check };
                let current = store.get(&self.space, key, version)?;
                let change = Change {
                    index: usize::try_from(index).unwrap_or(usize::MAX),
                    of: usize::try_from(reached.count).unwrap_or(usize::MAX),
                    ..shown_now(cursor, key, "revoke", current, (&by.tip.log, by.commit.hlc))
                };
                changes.push((by.position, change));
            }
            index = index.saturating_add(1);
        }
        let more = u64::from(index) < reached.count && index < u32::MAX;
        Ok(more.then_some(Cursor { position: by.position, index, check }))
    }

    /// Tells what the keys show that a log touched beyond its fork: it may be less than before, for
    /// what nobody else built upon does not count any more.
    fn forked(
        &self,
        store: &mut Store,
        log: &LogId,
        position: Position,
        changes: &mut Vec<(Position, Change)>,
    ) -> Result<(), ReadError> {
        let check = check_of(store.commit_at(position)?.as_bytes());
        let (keys, hlc) = (store.forked_keys(&self.space, log)?, store.last_hlc(&self.space)?);
        for (index, key) in (0_u32..).zip(&keys) {
            let sent = self.sent.filter(|sent| sent.position == position);
            if sent.is_some_and(|sent| index <= sent.index)
                || !key.as_str().starts_with(&self.prefix)
            {
                continue;
            }
            let current = store.get(&self.space, key, None)?;
            let cursor = Cursor { position, index, check };
            let change = Change {
                index: usize::try_from(index).unwrap_or(usize::MAX),
                of: keys.len(),
                ..shown_now(cursor, key, "fork", current, (log, hlc))
            };
            changes.push((position, change));
        }
        Ok(())
    }
}

/// Tells what a key shows after something that was no event of it.
fn shown_now(
    cursor: Cursor,
    key: &Key,
    op: &'static str,
    current: Option<View>,
    (log, hlc): (&LogId, Hlc),
) -> Change {
    Change {
        cursor: cursor.to_string(),
        key: key.as_str().to_owned(),
        version: current.as_ref().map(|view| view.version.to_string()),
        commit: None,
        index: 0,
        of: 0,
        previous: Vec::new(),
        op,
        ty: current.as_ref().map(|view| view.ty.name()),
        field: None,
        value: None,
        current: current.map(|view| Shown(view.value)),
        author: author(log),
        time: super::point::time_text(hlc),
        inert: None,
    }
}

fn change(
    store: &mut Store,
    arrived: &Arrived,
    index: u16,
    event: &Event,
    key: &Key,
    version: Option<&VersionVector>,
) -> Result<Change, ReadError> {
    let id = EventId { commit: arrived.tip.id, index };
    let check = check_of(arrived.tip.id.as_bytes());
    let cursor = Cursor { position: arrived.position, index: index.into(), check };
    let current = store.get(&arrived.commit.space, key, version)?;
    let (op, ty, field, value) = Did::parts(event);
    Ok(Change {
        cursor: cursor.to_string(),
        key: key.as_str().to_owned(),
        version: Some(id.to_string()),
        commit: Some(arrived.tip.id.to_string()),
        index: usize::from(index),
        of: arrived.commit.events.len(),
        previous: previous(store, &arrived.commit.space, event),
        current: current.map(|view| Shown(view.value)),
        op,
        ty,
        field,
        value,
        author: author(&arrived.tip.log),
        time: super::point::time_text(arrived.commit.hlc),
        inert: None,
    })
}

/// Returns the events that an event superseded by name.
fn previous(store: &Store, space: &SpaceId, event: &Event) -> Vec<String> {
    let Supersedes::Dots(dots) = &event.skeleton.supersedes else { return Vec::new() };
    let id = |dot: &Dot| {
        let commit = store.id_at(space, &dot.log, dot.seq)?;
        Some(EventId { commit, index: dot.index }.to_string())
    };
    dots.iter().filter_map(id).collect()
}

/// Returns the commits of a space that a crash could not undo; none if that is all of them.
fn durable_version(store: &mut Store, space: &SpaceId) -> Result<Option<VersionVector>, ReadError> {
    let (durable, written) = (store.durable(), store.written());
    if durable == written {
        return Ok(None);
    }
    let mut early = std::collections::BTreeMap::new();
    let mut at = durable;
    while at < written {
        let (found, next) = store.arrived(space, at, written, SLICE_BYTES)?;
        for arrived in found {
            // They come in order, so the first of each log is the least.
            early.entry(arrived.tip.log).or_insert(arrived.tip.seq);
        }
        at = next;
    }
    let all = store.version(space)?;
    let mut version = VersionVector::new();
    for (log, seq) in all.iter() {
        let last = early.get(&log).map_or(seq, |first| first - 1);
        version.advance(log, last);
    }
    Ok(Some(version))
}

fn check_of(id: &[u8; 32]) -> u32 {
    id.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        let position = Position { segment: 18, offset: 0xffff_0000 };
        let cursor = Cursor { position, index: 4095, check: 0xab };
        assert_eq!(cursor.to_string(), "12-ffff0000-fff-000000ab");
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
    }

    #[test]
    fn other_text_is_an_unknown_cursor() {
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-100000000-4", "1-100000000-1-1", "g-1-1-1"] {
            let problem = text.parse::<Cursor>().unwrap_err();
            assert_eq!(problem.kind(), Kind::Pruned, "{text}");
        }
    }
}
