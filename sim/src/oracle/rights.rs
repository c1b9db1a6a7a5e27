//! Which commits of an owned space are effective: FORMAT section 3.4, word for word.
//!
//! Everything is asked anew of the whole set each time; it shares nothing with the engine.

use std::collections::BTreeMap;

use kdelta_engine::base::{CommitId, Hash, ReplicaId, sha256};

use super::act::{Act, Grant};
use super::causes::{Causes, Set};
use super::commit::{Action, Commit, Content, Kind};
use super::fold::is_key;
use super::meta::{self, Tag};

/// Of a revocation, the most senior first: how far its grant is from the roots and which of them
/// it is, that grant, and its own commit.
type Seniority = ((usize, u8), Hash, CommitId);

const PUT: u8 = 2;
const DELETE: u8 = 4;
const DELEGATE: u8 = 16;
const REVOKE: u8 = 32;
const ADMIN: u8 = 128;

/// A grant that may be acted under.
struct Held {
    grant: Grant,
    /// The grant that it was given under; none of a root's.
    parent: Option<Hash>,
    /// Where its commit is; none of a root's, which nobody wrote.
    at: Option<usize>,
    /// How many are above it, and the index of the root.
    rank: (usize, u8),
}

/// The grants of a set of commits, by id, and the sound commits.
struct Rights<'a> {
    causes: &'a Causes,
    genesis: usize,
    difficulty: u8,
    held: BTreeMap<Hash, Held>,
    sound: Set,
    acts: Vec<usize>,
}

/// Returns the commits of `known` that are effective, by what is in `known` alone.
pub(super) fn effective(causes: &Causes, known: &Set) -> Set {
    let owned = causes.of(known).find_map(|(at, commit)| {
        let (difficulty, roots) = commit.genesis.as_ref()?.owned.clone()?;
        Some((at, difficulty, roots))
    });
    let Some((genesis, difficulty, roots)) = owned else { return known.clone() };
    let mut held = BTreeMap::new();
    for (index, root) in (0_u8..).zip(&roots) {
        let grant = Grant {
            bearer: false,
            audience: root.0,
            actions: u8::MAX,
            prefixes: vec![[].into()],
            expiry: None,
            depth: 8,
        };
        let id = sha256("kdelta/root/1", &[&causes.space.0, &[index]]);
        held.insert(id, Held { grant, parent: None, at: None, rank: (0, index) });
    }
    let (sound, acts) = (Set::default(), Vec::new());
    let mut rights = Rights { causes, genesis, difficulty, held, sound, acts };
    for (at, commit) in causes.of(known) {
        rights.judge(at, commit);
    }
    rights.effective(known)
}

impl Rights<'_> {
    fn judge(&mut self, at: usize, commit: &Commit) {
        if at == self.genesis {
            return self.sound.add(at);
        }
        let Some(named) = commit.grant.filter(|_| self.is_sound(at, commit)) else { return };
        self.sound.add(at);
        match &commit.act {
            Some(Act::Grant(grant)) => {
                let below = self.held.get(&named).map_or(0, |held| held.rank.0 + 1);
                let (grant, parent) = (grant.clone(), Some(named));
                let held = Held { grant, parent, at: Some(at), rank: (below, 0) };
                self.held.insert(commit.id.0, held);
                self.acts.push(at);
            }
            Some(Act::Revoke(_)) => self.acts.push(at),
            None => {}
        }
    }

    /// A grant that the commit at `at` has in its past, or that is a root's.
    fn seen(&self, id: &Hash, at: usize) -> Option<&Held> {
        let held = self.held.get(id)?;
        let seen = held.at.is_none_or(|of| of != at && self.causes.is_past(of, at));
        seen.then_some(held)
    }

    fn chain(&self, id: &Hash) -> Vec<Hash> {
        let mut chain = Vec::new();
        let mut next = Some(*id);
        while let Some(id) = next.filter(|id| self.held.contains_key(id)) {
            chain.push(id);
            next = self.held.get(&id).and_then(|held| held.parent);
        }
        chain
    }

    fn is_sound(&self, at: usize, commit: &Commit) -> bool {
        if !self.causes.is_past(self.genesis, at) {
            return false;
        }
        let Some(named) = commit.grant else { return false };
        let Some(held) = self.seen(&named, at) else { return false };
        let g = &held.grant;
        let holder = !g.bearer && g.audience == commit.log.replica.0;
        let worked = work(&commit.log.replica) >= u32::from(self.difficulty);
        let in_time = g.expiry.is_none_or(|expiry| commit.hlc >> 16 <= expiry);
        if !holder || !worked || !in_time || !may_write(g, commit) || !may_tag(g, commit) {
            return false;
        }
        let allowed = match &commit.act {
            None => return true,
            Some(Act::Grant(given)) => may_grant(g, given),
            Some(Act::Revoke(target)) => self.may_revoke(at, &named, held, target),
        };
        let bound = if held.at.is_none() { 20_000 } else { 10_000 };
        let before = self.acts.iter().filter(|act| self.causes.is_past(**act, at)).count();
        allowed && before < bound
    }

    fn may_revoke(&self, at: usize, named: &Hash, held: &Held, target: &Hash) -> bool {
        let Some(aim) = self.seen(target, at) else { return false };
        let can = |bits: u8| held.grant.actions & bits != 0;
        if target == named {
            return aim.at.is_some() || aim.rank != (0, 0);
        }
        let above = self.chain(target).contains(named) && can(DELEGATE | REVOKE);
        let covered = aim.grant.prefixes.iter().all(|prefix| covers(&held.grant, prefix));
        above || can(REVOKE | ADMIN) && aim.rank >= held.rank && covered
    }

    /// What some of these revocations make void: what acts under their targets and is not in their
    /// past.
    fn is_void(&self, at: usize, revocations: &[(usize, Hash)]) -> bool {
        let named = self.causes.commits.get(at).and_then(|commit| commit.grant);
        let chain = named.map_or_else(Vec::new, |named| self.chain(&named));
        revocations.iter().any(|(by, target)| {
            let knows = *by != at && self.causes.is_past(at, *by);
            chain.contains(target) && !knows
        })
    }

    fn effective(&self, known: &Set) -> Set {
        let mut order: Vec<(Seniority, usize, Hash)> = Vec::new();
        for at in &self.acts {
            let Some(commit) = self.causes.commits.get(*at) else { continue };
            if let (Some(Act::Revoke(target)), Some(named)) = (&commit.act, commit.grant)
                && let Some(held) = self.held.get(&named)
            {
                order.push(((held.rank, named, commit.id), *at, *target));
            }
        }
        order.sort_unstable();
        let mut revocations = Vec::new();
        for (_, at, target) in order {
            if !self.is_void(at, &revocations) {
                revocations.push((at, target));
            }
        }
        let mut effective = Set::default();
        for (at, _) in self.causes.of(known) {
            let stands = at == self.genesis || !self.is_void_now(at, &revocations);
            if self.sound.has(at) && stands {
                effective.add(at);
            }
        }
        effective
    }

    /// The same of any commit; a revocation is asked about those before it alone, and was found
    /// effective if it is among them.
    fn is_void_now(&self, at: usize, revocations: &[(usize, Hash)]) -> bool {
        let revokes = |commit: &std::sync::Arc<Commit>| commit.kind == Kind::Revoke;
        match self.causes.commits.get(at).is_some_and(revokes) {
            true => revocations.iter().all(|(by, _)| *by != at),
            false => self.is_void(at, revocations),
        }
    }
}

fn may_write(g: &Grant, commit: &Commit) -> bool {
    commit.events.iter().all(|event| {
        let bit = if event.action == Action::Delete { DELETE } else { PUT };
        let covered = match &event.content {
            Content::Full { key, .. } if is_key(key) => covers(g, key),
            _ => true,
        };
        g.actions & bit != 0 && covered
    })
}

fn may_tag(g: &Grant, commit: &Commit) -> bool {
    let tag: Option<Tag> = commit.meta.as_ref().and_then(meta::tag);
    let tags = tag.is_some() || commit.kind == Kind::Tag;
    !tags || g.actions & PUT != 0 && covers(g, &[])
}

fn may_grant(g: &Grant, given: &Grant) -> bool {
    let in_time = match (g.expiry, given.expiry) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(had), Some(given)) => given <= had,
    };
    g.actions & DELEGATE != 0
        && given.actions & !g.actions == 0
        && given.prefixes.iter().all(|prefix| covers(g, prefix))
        && in_time
        && given.depth < g.depth
}

fn covers(g: &Grant, key: &[u8]) -> bool {
    g.prefixes.iter().any(|prefix| key.starts_with(prefix))
}

/// How many zero bits the hash of a replica id begins with.
fn work(replica: &ReplicaId) -> u32 {
    let hash = sha256("kdelta/replica-work/1", &[&replica.0]);
    let mut bits = 0;
    for byte in hash {
        bits += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    bits
}
