//! Who may do what in an owned space (FORMAT 3.4).
//!
//! Told of each commit in causal order, it says whether the commit had the rights that it needed,
//! which never changes, and whether a revocation makes it void, which does as revocations come to
//! be known. Both depend on what is known and not on the order in which it came: seniority decides
//! between revocations, so that they can be judged one after the other (as in Keyhive, where the
//! lower distance from the root wins).
//!
//! It is pure: no disk, no tables, no clock. Whether one commit is in the past of another it asks
//! its caller. Of commits without an act it keeps nothing, and of acts only those that are sound.

mod bytes;
mod reason;
mod sound;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{CommitId, GrantId, Hlc, LogId, ReplicaId, SpaceId, WallTime};
use crate::event::{Act, Actions, Audience, Commit, Content, Event, Grant, Kind, Owned, Prefixes};
use crate::event::{Header, root_grant};
use crate::limits;

pub use reason::{Axis, Reason};

/// Where a commit is: its log, under its inner name if it has one, and its number there.
pub(crate) type At = (LogId, u64);

/// Tells whether the first commit is in the past of the second, and is not the same.
pub(crate) type Knows<'a> = &'a dyn Fn(At, At) -> bool;

/// Who wrote a commit, when, and under which grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) at: At,
    pub(crate) id: CommitId,
    pub(crate) replica: ReplicaId,
    pub(crate) grant: Option<GrantId>,
    pub(crate) hlc: Hlc,
}

impl Standing {
    /// Returns that of a commit which the store keeps at `at`.
    pub(crate) fn of(commit: &Commit, at: At) -> Self {
        let Header { log, grant, hlc, .. } = *commit.header();
        Self { at, id: commit.id(), replica: log.replica, grant, hlc }
    }
}

/// What a commit does, and so needs the right to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demands<'a> {
    pub(crate) kind: Kind,
    pub(crate) act: Option<&'a Act>,
    pub(crate) events: &'a [Event],
    pub(crate) meta: Option<&'a Content>,
}

impl<'a> Demands<'a> {
    /// Returns what a commit does.
    pub(crate) fn of(commit: &'a Commit) -> Self {
        let (kind, act) = (commit.kind(), commit.header().act.as_ref());
        Self { kind, act, events: commit.events(), meta: commit.meta_content() }
    }
}

/// What comes of a commit that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Whether it is sound; if not, why. Never changes.
    pub(crate) sound: Result<(), Reason>,
    /// What was written under these may have become void, or count again; nothing else has.
    pub(crate) changed: BTreeSet<GrantId>,
}

/// The acts of a space take more memory than there may be. The one at hand was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the grants and revocations of the space take more than {max} bytes",
    max = limits::AUTHORITY_BYTES_MAX
)]
pub(crate) struct TooMuch;

/// What somebody may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The grant to act under.
    pub grant: GrantId,
    /// What.
    pub actions: Actions,
    /// With which keys.
    pub prefixes: Prefixes,
    /// Until when, in milliseconds since 1970.
    pub expiry_ms: Option<u64>,
    /// How many more times it may be passed on.
    pub depth: u8,
}

impl Rights {
    /// Tells whether everything in the space may be read.
    pub fn reads_all(&self) -> bool {
        self.actions.contains(Actions::READ) && self.prefixes.cover(&[])
    }
}

/// A grant as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub id: GrantId,
    /// The grant that it was given under; none of a root's.
    pub parent: Option<GrantId>,
    /// What it says.
    pub grant: Grant,
    /// Of the revocations that reach it, or a grant above it, the first by seniority.
    pub revoked: Option<CommitId>,
}

/// The grants and revocations of one owned space that are sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    difficulty: u8,
    grants: BTreeMap<GrantId, Held>,
    /// Whom they mean.
    heard: BTreeMap<Audience, BTreeSet<GrantId>>,
    /// Which were given under which.
    children: BTreeMap<GrantId, BTreeSet<GrantId>>,
    revocations: BTreeMap<Seniority, Revocation>,
    /// Which of them were written under which grant.
    under: BTreeMap<GrantId, BTreeSet<Seniority>>,
    /// Which of them are effective, by what they take back.
    effective: BTreeMap<GrantId, BTreeSet<Seniority>>,
    /// Per log, the numbers of the acts, ascending, and which revocation each is, if it is one.
    acts: BTreeMap<LogId, Vec<(u64, Option<Seniority>)>>,
    bytes: usize,
}

/// A grant that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    /// None of a root's, which nobody wrote.
    written: Option<Written>,
    rank: Rank,
    grant: Grant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    at: At,
    parent: GrantId,
}

/// How senior a grant is; the less, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// How many grants are above it.
    below: u8,
    /// The index of the root if it is one's, else 0.
    root: u8,
}

/// The order in which revocations are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seniority {
    rank: Rank,
    /// The grant that it was written under.
    named: GrantId,
    id: CommitId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Revocation {
    at: At,
    target: GrantId,
    effective: bool,
}

impl Authority {
    /// Begins with what the genesis of a space says.
    pub(crate) fn new(space: &SpaceId, owned: &Owned) -> Self {
        let mut authority = Self {
            difficulty: owned.difficulty,
            grants: BTreeMap::new(),
            heard: BTreeMap::new(),
            children: BTreeMap::new(),
            revocations: BTreeMap::new(),
            under: BTreeMap::new(),
            effective: BTreeMap::new(),
            acts: BTreeMap::new(),
            bytes: 0,
        };
        for (index, root) in (0..).zip(&owned.roots) {
            let grant = Grant {
                audience: Audience::Replica(*root),
                actions: Actions::ALL,
                prefixes: Prefixes::all(),
                expiry_ms: None,
                depth: limits::GRANT_DEPTH_MAX,
            };
            let held = Held { written: None, rank: Rank { below: 0, root: index }, grant };
            authority.hold(root_grant(space, index), held);
        }
        authority
    }

    /// Takes note of a commit, and says whether it is sound.
    ///
    /// Call it once for each commit but genesis, each after all of its past, which `knows` must be
    /// able to tell of. Whether a sound one counts is then [`void`](Self::void)'s to say.
    ///
    /// # Errors
    /// [`TooMuch`]: the commit is a sound act, and there is no room for it.
    pub(crate) fn admit(
        &mut self,
        commit: &Standing,
        demands: &Demands<'_>,
        knows: Knows<'_>,
    ) -> Result<Admitted, TooMuch> {
        let changed = BTreeSet::new();
        let under = match self.sound(commit, demands, knows) {
            Ok(under) => under,
            Err(reason) => return Ok(Admitted { sound: Err(reason), changed }),
        };
        let Some(act) = demands.act else { return Ok(Admitted { sound: Ok(()), changed }) };
        if !self.has_room_for(act) {
            return Err(TooMuch);
        }
        let (log, seq) = commit.at;
        let numbers = self.acts.entry(log).or_default();
        if numbers.last().is_some_and(|(last, _)| *last >= seq) {
            // It was here before.
            return Ok(Admitted { sound: Ok(()), changed });
        }
        let (named, rank) = under;
        let seniority = Seniority { rank, named, id: commit.id };
        numbers.push((seq, matches!(act, Act::Revoke(_)).then_some(seniority)));
        self.bytes += act_bytes(act);
        let changed = match act {
            Act::Grant(grant) => {
                let rank = Rank { below: rank.below.saturating_add(1), root: 0 };
                let written = Some(Written { at: commit.at, parent: named });
                let held = Held { written, rank, grant: grant.clone() };
                self.hold(GrantId(commit.id.0), held);
                changed
            }
            Act::Revoke(target) => {
                let (at, target) = (commit.at, *target);
                self.under.entry(named).or_default().insert(seniority);
                let revocation = Revocation { at, target, effective: false };
                self.revocations.insert(seniority, revocation);
                self.settle(seniority, knows)
            }
        };
        Ok(Admitted { sound: Ok(()), changed })
    }

    /// Says whether a commit would be sound, as [`admit`](Self::admit) does, and is not admitted.
    pub(crate) fn check(
        &self,
        commit: &Standing,
        demands: &Demands<'_>,
        knows: Knows<'_>,
    ) -> Result<(), Reason> {
        self.sound(commit, demands, knows)?;
        match demands.act {
            Some(act) if !self.has_room_for(act) => Err(Reason::TooManyActs),
            _ => Ok(()),
        }
    }

    /// Tells whether an act can be taken in: memory for them is bounded, whoever writes them.
    pub(crate) fn has_room_for(&self, act: &Act) -> bool {
        self.bytes + act_bytes(act) <= limits::AUTHORITY_BYTES_MAX
    }

    /// Says whether a sound commit counts no more, and why; `named` is the grant that it names.
    ///
    /// Costs one comparison where nothing is revoked.
    pub(crate) fn void(&self, at: At, named: &GrantId, knows: Knows<'_>) -> Option<Reason> {
        if self.effective.is_empty() {
            return None;
        }
        self.voided(at, named, self.revocation_at(at).as_ref(), knows)
    }

    /// Returns the revocations whose effect may depend on the one at `at`, by what they take back;
    /// that one too. Nothing if there is none.
    ///
    /// Those written under a grant that another takes back, or one below that, do.
    pub(crate) fn reach(&self, at: At) -> BTreeMap<GrantId, Vec<At>> {
        let (mut reached, mut seen) = (BTreeMap::<GrantId, Vec<At>>::new(), BTreeSet::new());
        let mut pending: BTreeSet<Seniority> = self.revocation_at(at).into_iter().collect();
        let mut done = BTreeSet::new();
        while let Some(next) = pending.pop_first() {
            let Some(revocation) = self.revocations.get(&next).filter(|_| done.insert(next)) else {
                continue;
            };
            reached.entry(revocation.target).or_default().push(revocation.at);
            for grant in self.subtree(revocation.target) {
                if seen.insert(grant) {
                    pending.extend(self.under.get(&grant).into_iter().flatten());
                }
            }
        }
        reached
    }

    /// Returns the authority as of an earlier time: revocations that are not `within` what was
    /// known then are left out. Costs a copy, and a judgement of each that is left.
    pub(crate) fn within(&self, within: &dyn Fn(At) -> bool, knows: Knows<'_>) -> Self {
        let mut earlier = Self {
            revocations: BTreeMap::new(),
            under: BTreeMap::new(),
            effective: BTreeMap::new(),
            ..self.clone()
        };
        // In the order in which they are judged, so that each is judged once.
        for (seniority, revocation) in self.revocations.iter().filter(|(_, r)| within(r.at)) {
            let Revocation { at, target, .. } = *revocation;
            earlier.under.entry(seniority.named).or_default().insert(*seniority);
            earlier.revocations.insert(*seniority, Revocation { at, target, effective: false });
            if earlier.voided(at, &seniority.named, Some(seniority), knows).is_none() {
                earlier.mark(*seniority, target, true);
            }
        }
        earlier
    }

    /// Returns what somebody may do at a time, by grants that were not revoked, ascending by id.
    pub(crate) fn rights(&self, audience: &Audience, now: WallTime) -> Vec<Rights> {
        let ids = self.heard.get(audience).into_iter().flatten();
        let granted = ids.filter_map(|id| self.granted(id));
        let holds = |granted: &Granted| {
            let in_time = granted.grant.expiry_ms.is_none_or(|expiry_ms| now.0 <= expiry_ms);
            in_time && granted.revoked.is_none()
        };
        let rights = granted.filter(holds).map(|Granted { id: grant, grant: said, .. }| {
            let Grant { actions, prefixes, expiry_ms, depth, .. } = said;
            Rights { grant, actions, prefixes, expiry_ms, depth }
        });
        rights.collect()
    }

    /// Tells whether anything was ever granted to somebody.
    pub(crate) fn has_heard_of(&self, audience: &Audience) -> bool {
        self.heard.get(audience).is_some_and(|grants| !grants.is_empty())
    }

    /// Returns the grants that a replica gave to others, that ended before a time, and that nobody
    /// took back.
    pub(crate) fn ended(&self, giver: &ReplicaId, before: WallTime) -> Vec<GrantId> {
        let gave = |held: &Held| {
            let parent = held.written.as_ref().and_then(|written| self.grants.get(&written.parent));
            parent.is_some_and(|parent| parent.grant.audience == Audience::Replica(*giver))
        };
        let ended = |held: &Held| {
            // A bearer's door goes by the clock, and nothing is written under its grant.
            let writes = matches!(held.grant.audience, Audience::Replica(_));
            writes && held.grant.expiry_ms.is_some_and(|end| end < before.0) && gave(held)
        };
        let those = self.grants.iter().filter(|(_, held)| ended(held)).map(|(id, _)| *id);
        let stands = |id: &GrantId| self.granted(id).is_some_and(|it| it.revoked.is_none());
        those.filter(stands).collect()
    }

    /// Returns how much work must be in the id of a replica that writes, in bits.
    pub(crate) fn difficulty(&self) -> u8 {
        self.difficulty
    }

    /// Returns a grant as it stands, be it a root's; none if it is not known, or not sound.
    pub(crate) fn granted(&self, id: &GrantId) -> Option<Granted> {
        let held = self.grants.get(id)?;
        let parent = held.written.as_ref().map(|written| written.parent);
        let mut revocations = self.chain(id).filter_map(|above| self.effective.get(&above));
        let revoked = revocations.find_map(|those| those.first()).map(|first| first.id);
        Some(Granted { id: *id, parent, grant: held.grant.clone(), revoked })
    }

    /// Returns all grants, those of the roots too, ascending by id.
    pub(crate) fn list(&self) -> impl Iterator<Item = Granted> {
        self.grants.keys().filter_map(|id| self.granted(id))
    }

    /// Returns a grant and those above it, up to a root's; nothing if it is not known.
    pub(crate) fn chain(&self, id: &GrantId) -> impl Iterator<Item = GrantId> {
        let known = |id: &GrantId| self.grants.contains_key(id);
        let parent = |id: &GrantId| Some(self.grants.get(id)?.written.as_ref()?.parent);
        std::iter::successors(Some(*id).filter(known), parent)
    }

    fn hold(&mut self, id: GrantId, held: Held) {
        self.heard.entry(held.grant.audience).or_default().insert(id);
        if let Some(written) = &held.written {
            self.children.entry(written.parent).or_default().insert(id);
        }
        self.grants.insert(id, held);
    }

    /// Returns a grant and all that were given under it, at any distance.
    fn subtree(&self, id: GrantId) -> BTreeSet<GrantId> {
        let mut all = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            all.insert(id);
            open.extend(self.children.get(&id).into_iter().flatten());
        }
        all
    }

    fn revocation_at(&self, (log, seq): At) -> Option<Seniority> {
        let numbers = self.acts.get(&log)?;
        let found = numbers.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        numbers.get(found)?.1
    }

    /// Judges a revocation, and those anew that depend on it. Returns what it came to concern.
    fn settle(&mut self, first: Seniority, knows: Knows<'_>) -> BTreeSet<GrantId> {
        let (mut pending, mut changed) = (BTreeSet::from([first]), BTreeSet::new());
        while let Some(next) = pending.pop_first() {
            let Some(revocation) = self.revocations.get(&next) else { continue };
            let target = revocation.target;
            let effective = self.voided(revocation.at, &next.named, Some(&next), knows).is_none();
            if effective == revocation.effective {
                continue;
            }
            self.mark(next, target, effective);
            let reached = self.subtree(target);
            // Only those that are less senior ask for this one: each is judged once.
            let under = reached.iter().filter_map(|grant| self.under.get(grant)).flatten();
            pending.extend(under.filter(|other| **other > next));
            changed.extend(reached);
        }
        changed
    }

    fn mark(&mut self, seniority: Seniority, target: GrantId, effective: bool) {
        if let Some(revocation) = self.revocations.get_mut(&seniority) {
            revocation.effective = effective;
        }
        let those = self.effective.entry(target).or_default();
        if effective {
            those.insert(seniority);
        } else {
            those.remove(&seniority);
        }
        if those.is_empty() {
            self.effective.remove(&target);
        }
    }

    /// Looks for an effective revocation, of those before `limit`, that reaches the grant and does
    /// not know the commit.
    ///
    /// The grants above are in the past of the commit: had one been written too late, so had this.
    fn voided(
        &self,
        at: At,
        named: &GrantId,
        limit: Option<&Seniority>,
        knows: Knows<'_>,
    ) -> Option<Reason> {
        for grant in self.chain(named) {
            let those = self.effective.get(&grant).into_iter().flatten();
            for seniority in those.take_while(|those| limit.is_none_or(|limit| *those < limit)) {
                let known = self.revocations.get(seniority).is_some_and(|r| knows(at, r.at));
                if !known || mutant!("revoked-from-the-beginning") {
                    return Some(Reason::Revoked { by: seniority.id, grant });
                }
            }
        }
        None
    }
}

/// What an act takes in memory, about.
fn act_bytes(act: &Act) -> usize {
    match act {
        Act::Grant(grant) => {
            limits::ACT_BYTES + grant.prefixes.iter().map(<[u8]>::len).sum::<usize>()
        }
        _ => limits::ACT_BYTES,
    }
}
