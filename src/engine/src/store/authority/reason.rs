//! Why a commit is inert.

use crate::base::{CommitId, GrantId, Key};
use crate::event::Actions;

/// Why a commit of an owned space changes nothing.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its author could not know who owns the space: the genesis is not in its past.
    #[error("its author did not have the genesis of the space yet")]
    BeforeGenesis,
    /// It names no grant.
    #[error("it names no grant")]
    NoGrant,
    /// What it names is no grant in its past, or one that was not sound itself.
    #[error("there is no grant {grant} that it could act under")]
    UnknownGrant {
        /// What it names.
        grant: GrantId,
    },
    /// The grant means somebody else.
    #[error("the grant {grant} is for another replica")]
    NotItsHolder {
        /// The grant.
        grant: GrantId,
    },
    /// The space asks for more work in the id of a replica.
    #[error("the author's id has {bits} bits of work, the space asks for {needed}")]
    Work {
        /// What is there, in bits.
        bits: u32,
        /// What is asked for, in bits.
        needed: u8,
    },
    /// Its stamp is after the expiry of its grant.
    #[error("the grant expired at {expiry_ms} ms since 1970")]
    Expired {
        /// The expiry, in milliseconds since 1970.
        expiry_ms: u64,
    },
    /// It writes to a key that its grant does not cover.
    #[error("the grant does not cover the key {key:?}")]
    Key {
        /// The first such key.
        key: Key,
    },
    /// It tags, and its grant does not cover all keys.
    #[error("a tag needs a grant of all keys")]
    AllKeys,
    /// Its grant does not let it do what it does.
    #[error("the grant does not include {action}")]
    Action {
        /// What it lacks. Of several, one is enough.
        action: Actions,
    },
    /// It gives more than it has.
    #[error("it grants more than it has: {0}")]
    NotWithinParent(Axis),
    /// It revokes what is no grant in its past, or one that was not sound.
    #[error("there is no grant {target} that it could revoke")]
    UnknownTarget {
        /// What it would revoke.
        target: GrantId,
    },
    /// It revokes what it has no power over: more senior, or of other keys, or root 0.
    #[error("it has no power over the grant {target}")]
    NotSenior {
        /// What it would revoke.
        target: GrantId,
    },
    /// Its past is full of grants and revocations.
    #[error("the space has too many grants and revocations")]
    TooManyActs,
    /// Somebody who had not seen it revoked its grant, or one above that.
    #[error("the grant {grant} was revoked by {by}")]
    Revoked {
        /// The revocation.
        by: CommitId,
        /// What it took back.
        grant: GrantId,
    },
}

impl Reason {
    /// Returns its name in all JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BeforeGenesis => "before_genesis",
            Self::NoGrant => "no_grant",
            Self::UnknownGrant { .. } => "unknown_grant",
            Self::NotItsHolder { .. } => "not_its_holder",
            Self::Work { .. } => "work",
            Self::Expired { .. } => "expired",
            Self::Key { .. } => "key",
            Self::AllKeys => "all_keys",
            Self::Action { .. } => "action",
            Self::NotWithinParent(_) => "not_within_parent",
            Self::UnknownTarget { .. } => "unknown_target",
            Self::NotSenior { .. } => "not_senior",
            Self::TooManyActs => "too_many_acts",
            Self::Revoked { .. } => "revoked",
        }
    }
}

/// In what a grant goes beyond its parent.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Axis {
    /// What can be done.
    #[error("actions")]
    Actions,
    /// With which keys.
    #[error("keys")]
    Prefixes,
    /// Until when.
    #[error("expiry")]
    Expiry,
    /// How often it may be passed on.
    #[error("depth")]
    Depth,
}
