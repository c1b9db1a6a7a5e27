//! Whether a commit had the rights that it needed (FORMAT 3.4, sound).
//!
//! A function of the commit and its past alone: it is asked once, and its answer holds for ever.

use super::{Authority, Demands, Held, Knows, Rank, Reason, Standing};
use crate::base::{GrantId, Key, work};
use crate::crdt::Action;
use crate::event::{Act, Actions, Audience, Content, Event, Grant, Kind, Meta};
use crate::limits;
use crate::store::authority::Axis;

impl Authority {
    /// Returns the grant that a sound commit names, and its rank; of another, what it lacks first.
    pub(super) fn sound(
        &self,
        commit: &Standing,
        demands: &Demands<'_>,
        knows: Knows<'_>,
    ) -> Result<(GrantId, Rank), Reason> {
        let named = commit.grant.ok_or(Reason::NoGrant)?;
        let held = self.seen(&named, commit, knows).ok_or(Reason::UnknownGrant { grant: named })?;
        if held.grant.audience != Audience::Replica(commit.replica) {
            return Err(Reason::NotItsHolder { grant: named });
        }
        if self.difficulty > 0 {
            let (bits, needed) = (work(&commit.replica), self.difficulty);
            if bits < u32::from(needed) {
                return Err(Reason::Work { bits, needed });
            }
        }
        let had = &held.grant;
        if let Some(expiry_ms) = had.expiry_ms.filter(|expiry_ms| commit.hlc.wall().0 > *expiry_ms)
        {
            return Err(Reason::Expired { expiry_ms });
        }
        demands.events.iter().try_for_each(|event| may_write(had, event))?;
        if demands.kind == Kind::Tag
            || demands.meta.and_then(Meta::of).is_some_and(|m| m.tag.is_some())
        {
            may_tag(had)?;
        }
        match demands.act {
            None => return Ok((named, held.rank)),
            Some(Act::Grant(grant)) => may_grant(had, grant)?,
            Some(Act::Revoke(target)) => self.may_revoke(&named, held, *target, commit, knows)?,
        }
        let root = held.written.is_none();
        let max = if root { limits::ROOT_ACTS_MAX } else { limits::ACTS_MAX };
        if self.acts_seen(commit, max, knows) >= max {
            return Err(Reason::TooManyActs);
        }
        Ok((named, held.rank))
    }

    /// Returns a grant that the commit has in its past, or that is a root's.
    fn seen(&self, grant: &GrantId, commit: &Standing, knows: Knows<'_>) -> Option<&Held> {
        let held = self.grants.get(grant)?;
        let seen = held.written.as_ref().is_none_or(|written| knows(written.at, commit.at));
        seen.then_some(held)
    }

    fn may_revoke(
        &self,
        named: &GrantId,
        held: &Held,
        target: GrantId,
        commit: &Standing,
        knows: Knows<'_>,
    ) -> Result<(), Reason> {
        let aim = self.seen(&target, commit, knows).ok_or(Reason::UnknownTarget { target })?;
        let had = &held.grant;
        if target == *named {
            // Giving up one's own takes no right; but somebody must stay.
            let first = Rank { below: 0, root: 0 };
            let last = held.written.is_none() && held.rank == first;
            return if last { Err(Reason::NotSenior { target }) } else { Ok(()) };
        }
        let above = self.chain(&target).any(|above| above == *named);
        if above && had.actions.meets(Actions::DELEGATE.and(Actions::REVOKE)) {
            return Ok(());
        }
        if !had.actions.meets(Actions::REVOKE.and(Actions::ADMIN)) {
            return Err(Reason::Action { action: Actions::REVOKE });
        }
        if aim.rank < held.rank || !aim.grant.prefixes.within(&had.prefixes) {
            return Err(Reason::NotSenior { target });
        }
        Ok(())
    }

    /// Counts the acts in the past of a commit; looks no further if there cannot be `enough`.
    fn acts_seen(&self, commit: &Standing, enough: usize, knows: Knows<'_>) -> usize {
        let all: usize = self.acts.values().map(Vec::len).sum();
        if all < enough {
            return all;
        }
        // Of each log it has a prefix in its past.
        let seen = self.acts.iter().map(|(log, numbers)| {
            numbers.partition_point(|(seq, _)| knows((*log, *seq), commit.at))
        });
        seen.sum()
    }
}

/// What an event does is never erased, so that much is always asked for; a key that is erased or
/// breaks a rule is none.
fn may_write(had: &Grant, event: &Event) -> Result<(), Reason> {
    let action = match event.skeleton.action {
        Action::Delete => Actions::DELETE,
        _ => Actions::PUT,
    };
    if !had.actions.contains(action) {
        return Err(Reason::Action { action });
    }
    match &event.content {
        Content::Present { key, .. } if !had.prefixes.cover(key) && !mutant!("prefixes-unread") => {
            Key::from_bytes(key).map_or(Ok(()), |key| Err(Reason::Key { key }))
        }
        _ => Ok(()),
    }
}

/// A tag is of the space, not of a key.
fn may_tag(had: &Grant) -> Result<(), Reason> {
    if !had.actions.contains(Actions::PUT) {
        return Err(Reason::Action { action: Actions::PUT });
    }
    if had.prefixes.cover(&[]) { Ok(()) } else { Err(Reason::AllKeys) }
}

fn may_grant(had: &Grant, given: &Grant) -> Result<(), Reason> {
    if !had.actions.contains(Actions::DELEGATE) {
        return Err(Reason::Action { action: Actions::DELEGATE });
    }
    let in_time = match (had.expiry_ms, given.expiry_ms) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(had), Some(given)) => given <= had,
    };
    let axes = [
        (Axis::Actions, had.actions.contains(given.actions)),
        (Axis::Prefixes, given.prefixes.within(&had.prefixes)),
        (Axis::Expiry, in_time),
        (Axis::Depth, given.depth < had.depth),
    ];
    match axes.iter().find(|(_, within)| !within) {
        Some((axis, _)) => Err(Reason::NotWithinParent(*axis)),
        None => Ok(()),
    }
}
