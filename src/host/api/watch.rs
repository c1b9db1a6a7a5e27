//! Changes as they become durable.
//!
//! A watch is a place in the log that moves forward: no queue fills up behind a slow reader, and a
//! cursor outlives a restart, and a repair that wrote its segment anew. A cursor names the commit's
//! record, the event in it, and a part of the commit's id, so that one which is not of this
//! replica, or whose history is gone, is told apart (410). Nothing is sent that a crash could still
//! undo. How it goes to whoever listens is in `follow.rs`.

use std::fmt;
use std::str::FromStr;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderName, header};

use super::Answer;
use super::backend::{Api, Backend, Store};
use super::follow::Follow;
use super::problem::{Kind, Problem};
use super::request::Ask;
use super::shapes::{Change, Did, Shown, author};
use crate::engine::base::{Dot, EventId, Key, LogId, SpaceId};
use crate::engine::causal::VersionVector;
use crate::engine::crdt::Supersedes;
use crate::engine::event::Event;
use crate::engine::log::Position;
use crate::engine::store::{Arrived, Place, ReadError};
use crate::host::http::Served;

/// Where a browser goes on after it lost the connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// About how many bytes of commits are read under one hold of the store's lock: of each of their
/// events a key is folded too.
const SLICE_BYTES: usize = 8 << 10;
/// A place in a watch: just after one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// Where the record of the commit begins.
    position: Position,
    /// The index of the event in the commit.
    index: u16,
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

/// `GET /v1/spaces/{space}/watch?prefix=&from=`
pub(super) async fn watch(
    api: Api,
    headers: HeaderMap,
    served: Option<Extension<Served>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    mut ask: Ask,
) -> Answer {
    let prefix = ask.query.text("prefix").unwrap_or_default();
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
            Watch::start(backend, space, prefix, from.as_deref())
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
    /// Commits that begin before this were sent.
    at: Place,
    /// Events up to this one, of the commit at `at`, were sent.
    sent: Option<Cursor>,
}

/// What is read under one hold of the store's lock.
pub(super) struct Slice {
    pub(super) changes: Vec<Change>,
    next: Place,
}

impl Watch {
    fn start(
        backend: &Backend,
        space: SpaceId,
        prefix: String,
        from: Option<&str>,
    ) -> Result<Self, Problem> {
        let Some(text) = from else {
            let at = backend.read(|store| store.place(&space, store.durable()))?;
            return Ok(Self { space, prefix, at, sent: None });
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
            Some(at) => {
                let sent = Some(Cursor { position: at.position(), ..cursor });
                Ok(Self { space, prefix, at, sent })
            }
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
        let slice = backend.read(|store| self.slice(store, upto))?;
        (self.at, self.sent) = (slice.next, None);
        Ok((self, slice))
    }

    fn slice(&self, store: &mut Store, upto: Position) -> Result<Slice, ReadError> {
        let from = store.find(&self.space, &self.at)?;
        let (found, next) = store.arrived(&self.space, from, upto, SLICE_BYTES)?;
        let version = durable_version(store, &self.space)?;
        let mut changes: Vec<(Position, Change)> = Vec::new();
        for (log, position) in store.closed_between(&self.space, from, next) {
            self.forked(store, &log, position, &mut changes)?;
        }
        for arrived in found.iter().filter(|arrived| !arrived.is_inert) {
            for (index, event) in (0_u16..).zip(&arrived.commit.events) {
                let sent = self.sent.filter(|sent| sent.position == arrived.position);
                if sent.is_some_and(|sent| index <= sent.index) {
                    continue;
                }
                if let Some(key) = event.key().filter(|k| k.as_str().starts_with(&self.prefix)) {
                    let change = change(store, arrived, index, event, &key, version.as_ref())?;
                    changes.push((arrived.position, change));
                }
            }
        }
        changes.sort_by_key(|(position, _)| *position);
        let next = store.go_on(&self.at, &found, next);
        Ok(Slice { changes: changes.into_iter().map(|(_, change)| change).collect(), next })
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
        for (index, key) in (0_u16..).zip(&keys) {
            let sent = self.sent.filter(|sent| sent.position == position);
            if sent.is_some_and(|sent| index <= sent.index)
                || !key.as_str().starts_with(&self.prefix)
            {
                continue;
            }
            let current = store.get(&self.space, key, None)?;
            let change = Change {
                cursor: Cursor { position, index, check }.to_string(),
                key: key.as_str().to_owned(),
                version: current.as_ref().map(|view| view.version.to_string()),
                commit: None,
                index: usize::from(index),
                of: keys.len(),
                previous: Vec::new(),
                op: "fork",
                ty: current.as_ref().map(|view| view.ty.name()),
                field: None,
                value: None,
                current: current.map(|view| Shown(view.value)),
                author: author(log),
                time: super::point::time_text(hlc),
            };
            changes.push((position, change));
        }
        Ok(())
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
    let cursor = Cursor { position: arrived.position, index, check };
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
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-10000-4", "1-100000000-1-1", "g-1-1-1"] {
            let problem = text.parse::<Cursor>().unwrap_err();
            assert_eq!(problem.kind(), Kind::Pruned, "{text}");
        }
    }
}
