//! The JSON of histories and explanations: what happened, what of it counts, and why not the rest.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::grants::said;
use super::point::{time_text, wall_text};
use super::shapes::{About, Did, Got, Shown, author, is_false, is_one};
use crate::engine::base::{GrantId, LogId, WallTime};
use crate::engine::causal::Tip;
use crate::engine::crdt::LiveEvent;
use crate::engine::event::{Act, Kind};
use crate::engine::store::{HistoryEvent, Reason, Rights};

/// Why something does not count.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Why {
    code: &'static str,
    text: String,
}

impl Why {
    /// Says it to the owner, or to whoever has these rights: of keys beyond them nobody learns.
    pub(super) fn new(reason: &Reason, rights: Option<&Rights>) -> Self {
        let covers = |key: &[u8]| rights.is_none_or(|rights| rights.prefixes.cover(key));
        let text = match reason {
            Reason::Expired { expiry_ms } => {
                format!("the grant expired at {}", wall_text(WallTime(*expiry_ms)))
            }
            Reason::Key { key } if !covers(key.as_bytes()) => {
                "the grant does not cover all of its keys".to_owned()
            }
            reason => reason.to_string(),
        };
        Self { code: reason.code(), text }
    }
}

/// One event of a key's history.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PastEvent {
    version: String,
    parents: Vec<String>,
    /// It superseded all that its author had seen, too many events to name.
    #[serde(skip_serializing_if = "is_false")]
    supersedes_all_seen: bool,
    time: String,
    author: String,
    log: String,
    seq: u64,
    #[serde(flatten)]
    did: Did,
    #[serde(flatten)]
    about: About,
    /// What its author acted under, in an owned space.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inert: Option<Why>,
}

impl PastEvent {
    pub(super) fn new(event: &HistoryEvent, rights: Option<&Rights>) -> Self {
        Self {
            version: event.stamp.event_id().to_string(),
            parents: event.parents.iter().map(ToString::to_string).collect(),
            supersedes_all_seen: event.cut,
            time: time_text(event.stamp.hlc),
            author: author(&event.stamp.dot.log),
            log: event.stamp.dot.log.to_string(),
            seq: event.stamp.dot.seq,
            did: Did::new(event.action, event.payload.as_ref()),
            about: About::new(event.meta.as_ref()),
            grant: event.grant.map(|grant| grant.to_string()),
            inert: event.inert.as_ref().map(|reason| Why::new(reason, rights)),
        }
    }
}

/// The history of a key.
#[derive(Debug, Clone, Serialize)]
pub(super) struct KeyHistory {
    pub(super) key: String,
    pub(super) events: Vec<PastEvent>,
    /// Something is lost: this is what is intact.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) degraded: bool,
}

/// The history of a space.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SpaceHistory {
    pub(super) space: String,
    pub(super) commits: Vec<PastCommit>,
    /// Something is lost: this is what is intact.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) degraded: bool,
}

/// One commit of a space's history.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PastCommit {
    pub(super) commit: String,
    pub(super) parents: Vec<String>,
    pub(super) time: String,
    pub(super) author: String,
    pub(super) log: String,
    pub(super) seq: u64,
    pub(super) kind: &'static str,
    pub(super) events: usize,
    /// The first keys that it touches, each once.
    pub(super) keys: Vec<String>,
    #[serde(flatten)]
    pub(super) about: About,
    /// What its author acted under, in an owned space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<String>,
    /// What a grant or a revocation says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) act: Option<Map<String, Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inert: Option<Why>,
}

/// Returns what an act says.
pub(super) fn act(act: &Act) -> Option<Map<String, Json>> {
    match act {
        Act::Grant(grant) => Some(said(grant)),
        Act::Revoke(target) => {
            Some(Map::from_iter([("revokes".to_owned(), target.to_string().into())]))
        }
        _ => None,
    }
}

/// Returns the name of a kind of commit.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Genesis => "genesis",
        Kind::Data => "data",
        Kind::Ack => "ack",
        Kind::Tag => "tag",
        Kind::Grant => "grant",
        Kind::Revoke => "revoke",
        _ => "other",
    }
}

/// A key at two points, and what happened between.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Difference {
    pub(super) key: String,
    pub(super) from: Option<Got>,
    pub(super) to: Option<Got>,
    pub(super) changed: bool,
    pub(super) events: Vec<PastEvent>,
}

/// Why a key shows what it shows.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Explanation {
    pub(super) key: String,
    /// None if nothing is live.
    #[serde(rename = "type")]
    pub(super) ty: Option<&'static str>,
    pub(super) value: Option<Shown>,
    pub(super) rule: String,
    pub(super) type_conflict: bool,
    pub(super) live: Vec<Live>,
    /// The newest events that do not count.
    pub(super) inert: Vec<Inert>,
    /// There are more of those.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) inert_more: bool,
    /// The forked logs that wrote to the key beyond their forks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) forks: Vec<Forked>,
}

/// A log of which two commits under one number are known.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Forked {
    log: String,
    /// From where on only what others built upon counts.
    seq: u64,
    /// The ends of what does.
    branches: Vec<End>,
}

/// The end of a branch.
#[derive(Debug, Clone, Serialize)]
struct End {
    seq: u64,
    id: String,
}

impl Forked {
    pub(super) fn new(log: &LogId, seq: u64, branches: &[Tip]) -> Self {
        let end = |tip: &Tip| End { seq: tip.seq, id: tip.id.to_string() };
        Self { log: log.to_string(), seq, branches: branches.iter().map(end).collect() }
    }
}

/// An event that does not count, and why.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Inert {
    #[serde(flatten)]
    event: PastEvent,
    why: Option<Why>,
}

impl Inert {
    pub(super) fn new(event: &HistoryEvent, rights: Option<&Rights>) -> Self {
        let mut event = PastEvent::new(event, rights);
        let why = event.inert.take();
        Self { event, why }
    }
}

/// A live event and its part in the value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Live {
    version: String,
    #[serde(rename = "type")]
    ty: &'static str,
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Arc<str>>,
    value: Shown,
    time: String,
    author: String,
    log: String,
    seq: u64,
    /// How many events it stands for: the adds of one log to a counter are told together.
    #[serde(skip_serializing_if = "is_one")]
    count: u64,
    /// Whether it is part of the value that is shown.
    wins: bool,
    /// What its author acted under; null in a space that nobody owns.
    grant: Option<String>,
}

impl Live {
    pub(super) fn new(
        event: &LiveEvent,
        op: &'static str,
        wins: bool,
        grant: Option<GrantId>,
    ) -> Self {
        Self {
            version: event.stamp.event_id().to_string(),
            ty: event.ty.name(),
            op,
            field: event.field.clone(),
            value: Shown(event.value.clone()),
            time: time_text(event.stamp.hlc),
            author: author(&event.stamp.dot.log),
            log: event.stamp.dot.log.to_string(),
            seq: event.stamp.dot.seq,
            count: event.count,
            wins,
            grant: grant.map(|grant| grant.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::base::Key;
    use crate::engine::event::{Actions, Prefixes};

    #[test]
    fn nobody_learns_of_keys_beyond_their_rights_why_a_commit_does_not_count() {
        let reason = Reason::Key { key: Key::new("a/secret").unwrap() };
        let rights = |prefix: &str| Rights {
            grant: GrantId([1; 32]),
            actions: Actions::READ,
            prefixes: Prefixes::new([prefix.as_bytes()]).unwrap(),
            expiry_ms: None,
            depth: 0,
        };
        let told = |rights: Option<&Rights>| Why::new(&reason, rights).text;
        assert!(told(None).contains("a/secret"));
        assert!(told(Some(&rights("a/"))).contains("a/secret"));
        assert!(!told(Some(&rights("b/"))).contains("secret"));
    }

    #[test]
    fn the_end_of_a_grant_is_told_as_a_time() {
        let why = Why::new(&Reason::Expired { expiry_ms: 1_700_000_000_000 }, None);
        assert_eq!(why.text, "the grant expired at 2023-11-14T22:13:20.000Z");
    }
}
