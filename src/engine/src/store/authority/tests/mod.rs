//! A history of one owned space, and the engine and the specification told of it.

mod laws;
mod orders;
mod random;
mod small;
mod spec;

use std::collections::BTreeSet;

use super::*;
use crate::base::{Key, sha256};
use crate::crdt::{Action, Supersedes};
use crate::event::{Meta, Skeleton, Tag};

pub(super) const SPACE: SpaceId = SpaceId([9; 32]);

/// A commit of a history, with its whole past.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) standing: Standing,
    pub(super) kind: Kind,
    pub(super) act: Option<Act>,
    pub(super) events: Vec<Event>,
    pub(super) meta: Option<Content>,
    /// Positions in the history.
    pub(super) past: BTreeSet<usize>,
}

impl Said {
    fn demands(&self) -> Demands<'_> {
        let Self { kind, act, events, meta, .. } = self;
        Demands { kind: *kind, act: act.as_ref(), events, meta: meta.as_ref() }
    }

    pub(super) fn grant_id(&self) -> GrantId {
        GrantId(self.standing.id.0)
    }
}

/// What a commit does, in a history in the making.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Put(&'static str),
    Delete(&'static str),
    Tag,
    Nothing,
    Act(Act),
}

/// A history in the making: each commit after its past.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) owned: Owned,
    pub(super) commits: Vec<Said>,
}

pub(super) fn replica(number: u8) -> ReplicaId {
    ReplicaId([number; 32])
}

pub(super) fn root(index: u8) -> GrantId {
    root_grant(&SPACE, index)
}

/// Everything on all keys, to be passed on `depth` times.
pub(super) fn all_to(number: u8, depth: u8) -> Does {
    let (audience, actions) = (Audience::Replica(replica(number)), Actions::ALL);
    let grant = Grant { audience, actions, prefixes: Prefixes::all(), expiry_ms: None, depth };
    Does::Act(Act::Grant(grant))
}

pub(super) fn revoke(target: GrantId) -> Does {
    Does::Act(Act::Revoke(target))
}

impl History {
    /// Begins with replicas 0 to `roots` as the roots.
    pub(super) fn new(roots: u8) -> Self {
        let roots = (0..roots).map(replica).collect();
        Self { owned: Owned { difficulty: 0, roots }, commits: Vec::new() }
    }

    /// Adds a commit of a replica's log that has `seen` those, all that they have in their past,
    /// and its own log. Returns its position.
    pub(super) fn write(
        &mut self,
        (author, life): (u8, u64),
        seen: impl IntoIterator<Item = usize>,
        grant: Option<GrantId>,
        does: Does,
    ) -> usize {
        let log = LogId { replica: replica(author), incarnation: life };
        let own = self.commits.iter().rposition(|said| said.standing.at.0 == log);
        let mut past = BTreeSet::new();
        for position in seen.into_iter().chain(own) {
            past.insert(position);
            past.extend(&self.commits[position].past);
        }
        let seq = past.iter().filter(|at| self.commits[**at].standing.at.0 == log).count() as u64;
        let latest = past.iter().map(|at| self.commits[*at].standing.hlc).max();
        let hlc = Hlc(latest.unwrap_or_default().0 + (1 << 16));
        let position = self.commits.len();
        let id = CommitId(sha256("commit", &[&position.to_le_bytes()]));
        let at = (log, seq + 1);
        let standing = Standing { at, id, replica: log.replica, grant, hlc };
        let (kind, act, events, meta) = spelt(does);
        self.commits.push(Said { standing, kind, act, events, meta, past });
        position
    }

    pub(super) fn id(&self, position: usize) -> GrantId {
        self.commits[position].grant_id()
    }

    fn position(&self, at: At) -> usize {
        self.commits.iter().position(|said| said.standing.at == at).unwrap()
    }

    fn knows(&self, of: At, by: At) -> bool {
        self.commits[self.position(by)].past.contains(&self.position(of))
    }

    /// Tells the engine of the commits, in this order, and returns the verdicts at its end.
    pub(super) fn told(&self, order: &[usize]) -> (Authority, Vec<Verdict>) {
        let mut authority = Authority::new(&SPACE, &self.owned);
        let mut sound = vec![Ok(()); self.commits.len()];
        for &position in order {
            sound[position] = self.tell(&mut authority, position).sound;
        }
        let verdicts = self.judged(&authority, &sound);
        (authority, verdicts)
    }

    pub(super) fn tell(&self, authority: &mut Authority, position: usize) -> Admitted {
        let said = &self.commits[position];
        let knows = |of, by| self.knows(of, by);
        authority.admit(&said.standing, &said.demands(), &knows).unwrap()
    }

    /// Returns the verdict on each commit, of which it was said whether it is sound.
    pub(super) fn judged(
        &self,
        authority: &Authority,
        sound: &[Result<(), Reason>],
    ) -> Vec<Verdict> {
        let judge = |(said, sound): (&Said, &Result<(), Reason>)| {
            sound.clone()?;
            let knows = |of, by| self.knows(of, by);
            let Standing { at, grant, .. } = said.standing;
            authority.void(at, &grant.unwrap(), &knows).map_or(Ok(()), Err)
        };
        self.commits.iter().zip(sound).map(judge).collect()
    }
}

/// Effective, or why not.
pub(super) type Verdict = Result<(), Reason>;

fn spelt(does: Does) -> (Kind, Option<Act>, Vec<Event>, Option<Content>) {
    let event = |action, key: &str| Event {
        skeleton: Skeleton { action, supersedes: Supersedes::NOTHING },
        content: Content::Present {
            salt: [0; 16],
            key: key.as_bytes().into(),
            payload: b"1"[..].into(),
        },
    };
    match does {
        Does::Put(key) => (Kind::Data, None, vec![event(Action::BytesPut, key)], None),
        Does::Delete(key) => (Kind::Data, None, vec![event(Action::Delete, key)], None),
        Does::Tag => {
            let tag = Some(Tag::Delete { name: "t".to_owned() });
            let payload = Meta { tag, ..Meta::default() }.encode().unwrap().into();
            let meta = Content::Present { salt: [0; 16], key: [].into(), payload };
            (Kind::Tag, None, Vec::new(), Some(meta))
        }
        Does::Nothing => (Kind::Ack, None, Vec::new(), None),
        Does::Act(act @ Act::Grant(_)) => (Kind::Grant, Some(act), Vec::new(), None),
        Does::Act(act) => (Kind::Revoke, Some(act), Vec::new(), None),
    }
}
