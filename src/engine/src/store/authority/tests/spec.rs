//! The definitions of FORMAT 3.4, word for word: sets and recursion, and nothing that is clever.

use super::*;
use crate::base::work;

/// A grant, be it a root's or a commit's.
struct Held<'a> {
    grant: Grant,
    /// The commit, by its position; none of a root's.
    commit: Option<usize>,
    history: &'a History,
}

/// Returns the verdict on each of the commits that are `known`, in order of their positions.
pub(super) fn verdicts(history: &History, known: &BTreeSet<usize>) -> Vec<(usize, Verdict)> {
    known.iter().map(|at| (*at, verdict(history, known, *at))).collect()
}

pub(super) fn verdict(history: &History, known: &BTreeSet<usize>, at: usize) -> Verdict {
    sound(history, at)?;
    let judges: Vec<usize> = match history.commits[at].act {
        Some(Act::Revoke(_)) => more_senior(history, known, at),
        _ => known.iter().copied().collect(),
    };
    void(history, known, at, &judges)
}

/// Whether a commit is void, of all revocations only `judges` asked.
fn void(history: &History, known: &BTreeSet<usize>, at: usize, judges: &[usize]) -> Verdict {
    let mut judges = judges.to_vec();
    judges.retain(|judge| is_revocation(history, *judge) && *judge != at);
    judges.sort_by_key(|judge| seniority(history, *judge));
    let named = history.commits[at].standing.grant.unwrap();
    for grant in chain(history, named) {
        for &judge in &judges {
            let said = &history.commits[judge];
            let reaches = said.act == Some(Act::Revoke(grant)) && !said.past.contains(&at);
            if reaches && verdict(history, known, judge).is_ok() {
                return Err(Reason::Revoked { by: said.standing.id, grant });
            }
        }
    }
    // What acts under a void grant is void; the loop has found it already.
    for grant in chain(history, named) {
        if let Some(commit) = held(history, grant).and_then(|held| held.commit) {
            void(history, known, commit, &judges)?;
        }
    }
    Ok(())
}

fn is_revocation(history: &History, at: usize) -> bool {
    matches!(history.commits[at].act, Some(Act::Revoke(_))) && sound(history, at).is_ok()
}

fn more_senior(history: &History, known: &BTreeSet<usize>, at: usize) -> Vec<usize> {
    let own = seniority(history, at);
    let revocations = known.iter().copied().filter(|other| is_revocation(history, *other));
    revocations.filter(|other| seniority(history, *other) < own).collect()
}

fn seniority(history: &History, at: usize) -> ((usize, u8), GrantId, CommitId) {
    let standing = &history.commits[at].standing;
    let named = standing.grant.unwrap();
    (rank(history, named), named, standing.id)
}

fn roots(history: &History) -> impl Iterator<Item = (u8, ReplicaId)> {
    (0..).zip(history.owned.roots.iter().copied())
}

fn held(history: &History, id: GrantId) -> Option<Held<'_>> {
    if let Some((_, root)) = roots(history).find(|(index, _)| root(*index) == id) {
        let (audience, actions, depth) = (Audience::Replica(root), Actions::ALL, 8);
        let grant = Grant { audience, actions, prefixes: Prefixes::all(), expiry_ms: None, depth };
        return Some(Held { grant, commit: None, history });
    }
    let at = history.commits.iter().position(|said| said.grant_id() == id)?;
    match &history.commits[at].act {
        Some(Act::Grant(grant)) => Some(Held { grant: grant.clone(), commit: Some(at), history }),
        _ => None,
    }
}

impl Held<'_> {
    /// Whether a commit could act under it, or revoke it.
    fn is_seen(&self, by: usize) -> bool {
        let seen = |at: usize| {
            self.history.commits[by].past.contains(&at) && sound(self.history, at).is_ok()
        };
        self.commit.is_none_or(seen)
    }
}

fn chain(history: &History, id: GrantId) -> Vec<GrantId> {
    let commit = held(history, id).and_then(|held| held.commit);
    let parent = commit.and_then(|at| history.commits[at].standing.grant);
    let above = parent.map(|parent| chain(history, parent)).unwrap_or_default();
    [vec![id], above].concat()
}

fn rank(history: &History, id: GrantId) -> (usize, u8) {
    let index = roots(history).find(|(index, _)| root(*index) == id).map(|(index, _)| index);
    (chain(history, id).len() - 1, index.unwrap_or(0))
}

pub(super) fn sound(history: &History, at: usize) -> Result<(), Reason> {
    let said = &history.commits[at];
    let named = said.standing.grant.ok_or(Reason::NoGrant)?;
    let held = held(history, named).filter(|held| held.is_seen(at));
    let had = held.ok_or(Reason::UnknownGrant { grant: named })?.grant;
    if had.audience != Audience::Replica(said.standing.replica) {
        return Err(Reason::NotItsHolder { grant: named });
    }
    let (bits, needed) = (work(&said.standing.replica), history.owned.difficulty);
    if bits < u32::from(needed) {
        return Err(Reason::Work { bits, needed });
    }
    if let Some(expiry_ms) = had.expiry_ms
        && said.standing.hlc.0 >> 16 > expiry_ms
    {
        return Err(Reason::Expired { expiry_ms });
    }
    let needs = |action| {
        if had.actions.contains(action) { Ok(()) } else { Err(Reason::Action { action }) }
    };
    for event in &said.events {
        let delete = event.skeleton.action == Action::Delete;
        needs(if delete { Actions::DELETE } else { Actions::PUT })?;
        let Content::Present { key, .. } = &event.content else { continue };
        let Ok(key) = Key::from_bytes(key) else { continue };
        if !had.prefixes.iter().any(|prefix| key.as_bytes().starts_with(prefix)) {
            return Err(Reason::Key { key });
        }
    }
    if said.kind == Kind::Tag {
        needs(Actions::PUT)?;
        if had.prefixes != Prefixes::all() {
            return Err(Reason::AllKeys);
        }
    }
    match &said.act {
        None => return Ok(()),
        Some(Act::Grant(given)) => {
            needs(Actions::DELEGATE)?;
            within(&had, given)?;
        }
        Some(Act::Revoke(target)) => may_revoke(history, at, named, *target)?,
    }
    // No history here has 10,000 acts.
    Ok(())
}

fn within(had: &Grant, given: &Grant) -> Result<(), Reason> {
    let axis = if given.actions.to_byte() & !had.actions.to_byte() != 0 {
        Axis::Actions
    } else if !given.prefixes.iter().all(|p| had.prefixes.iter().any(|q| p.starts_with(q))) {
        Axis::Prefixes
    } else if had.expiry_ms.unwrap_or(u64::MAX) < given.expiry_ms.unwrap_or(u64::MAX) {
        Axis::Expiry
    } else if given.depth >= had.depth {
        Axis::Depth
    } else {
        return Ok(());
    };
    Err(Reason::NotWithinParent(axis))
}

fn may_revoke(history: &History, at: usize, named: GrantId, target: GrantId) -> Result<(), Reason> {
    let aim = held(history, target).filter(|held| held.is_seen(at));
    let aim = aim.ok_or(Reason::UnknownTarget { target })?;
    let had = held(history, named).unwrap().grant;
    let has = |action| had.actions.contains(action);
    if target == named {
        return if named == root(0) { Err(Reason::NotSenior { target }) } else { Ok(()) };
    }
    if chain(history, target).contains(&named) && (has(Actions::DELEGATE) || has(Actions::REVOKE)) {
        return Ok(());
    }
    if !has(Actions::REVOKE) && !has(Actions::ADMIN) {
        return Err(Reason::Action { action: Actions::REVOKE });
    }
    let covered = aim.grant.prefixes.iter().all(|p| had.prefixes.iter().any(|q| p.starts_with(q)));
    if rank(history, target) < rank(history, named) || !covered {
        return Err(Reason::NotSenior { target });
    }
    Ok(())
}
