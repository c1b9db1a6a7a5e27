//! An owned world: the first replica owns the space and lets others write, who may pass that on,
//! and take it back. All may read, as nobody else can sync.

use kdelta_engine::base::{GrantId, Now, ReplicaId};
use kdelta_engine::event::{Actions, Audience, Grant, Owned, Prefixes};
use kdelta_engine::store::{Store, WriteError, Written};

use super::seat::Request;
use super::{SeatDisk, World};
use crate::byzantine::Pass;
use crate::check::Broken;
use crate::scenario::Right;
use crate::trace::{Short, What};

impl World {
    /// Makes the space that all share; where somebody is to own it, with the grants by which all
    /// may read it.
    pub(super) fn found_space(&mut self, first: usize) -> Result<(), Broken> {
        let (now, owned) = (self.now(first), self.options.owned);
        let readers: Vec<ReplicaId> = self.seats.iter().map(super::seat::Seat::replica).collect();
        let Some(store) = self.store(first) else { return Ok(()) };
        let made = found(store, now, owned, &readers);
        self.space = made.map_err(|error| Broken::new("a space is made", error.to_string()))?;
        Ok(())
    }

    /// A user lets another replica do something.
    pub(super) fn grant(&mut self, from: usize, to: usize, right: Right) {
        let Some(to) = self.seats.get(to).map(super::seat::Seat::replica) else { return };
        let (actions, prefix, depth) = match right {
            Right::Write => (WRITE, "", 0),
            Right::Some => (WRITE, "r", 0),
            Right::Share => (WRITE.and(Actions::DELEGATE), "", 2),
            Right::All => (Actions::ALL, "", 4),
        };
        let grant = given(to, actions, prefix, depth);
        let space = self.space;
        self.decree(from, "grants", |store, now| store.grant(now, &space, grant.clone(), None));
    }

    /// The owner lets a hostile replica read, and write, and takes the latter back at once.
    pub(super) fn admit_trespasser(&mut self, to: ReplicaId) -> Option<Pass> {
        let space = self.space;
        let mut give = |actions| {
            let grant = given(to, actions, "", 0);
            self.decree(0, "grants", |store, now| store.grant(now, &space, grant.clone(), None))
        };
        let read = GrantId(give(Actions::READ)?.tip.id.0);
        let written = give(WRITE)?;
        let write = GrantId(written.tip.id.0);
        self.decree(0, "revokes", |store, now| store.revoke(now, &space, write, None))?;
        Some(Pass { read, write: (write, written.tip, written.hlc) })
    }

    /// A user takes back the newest grant that lets another replica write, if there is one.
    pub(super) fn revoke(&mut self, from: usize, of: usize) {
        let Some(of) = self.seats.get(of).map(super::seat::Seat::replica) else { return };
        let space = self.space;
        let newest = |store: &Store<SeatDisk>| -> Option<GrantId> {
            let mut grants = store.grants(&space).ok()?;
            grants.retain(|granted| {
                let theirs = granted.grant.audience == Audience::Replica(of);
                theirs && granted.revoked.is_none() && granted.grant.actions.contains(WRITE)
            });
            grants.last().map(|granted| granted.id)
        };
        self.decree(from, "revokes", |store, now| match newest(store) {
            Some(target) => store.revoke(now, &space, target, None),
            None => Err(WriteError::Empty),
        });
    }

    fn decree(
        &mut self,
        at: usize,
        what: &'static str,
        act: impl FnOnce(&mut Store<SeatDisk>, Now) -> Result<Written, WriteError>,
    ) -> Option<Written> {
        let now = self.now(at);
        let seat = self.seats.get_mut(at)?;
        let node = seat.node.as_mut()?;
        let written = act(node.store(), now);
        match &written {
            Ok(written) => {
                let receipt = node.store_ref().receipt();
                let (tip, stamp) = (written.tip, written.hlc);
                seat.requests.push_back(Request { tip, stamp, receipt });
                self.check_stamp(at, stamp);
                let commit = Some(Short::from(&tip.id));
                self.note(Some(at), What::Requested { op: what.into(), key: "".into(), commit });
            }
            Err(error) => {
                seat.refused |= seat.disk_faults;
                let reason = error.to_string().into();
                self.note(Some(at), What::Refused { op: what.into(), key: "".into(), reason });
            }
        }
        self.drain(at);
        self.mark_later(at);
        self.look(at);
        written.ok()
    }
}

fn found(
    store: &mut Store<SeatDisk>,
    now: Now,
    owned: bool,
    readers: &[ReplicaId],
) -> Result<kdelta_engine::base::SpaceId, WriteError> {
    if !owned {
        return store.create_space(now, "default");
    }
    let owner = store.replica();
    let space =
        store.create_owned_space(now, "default", Owned { difficulty: 0, roots: vec![owner] })?;
    for reader in readers.iter().filter(|reader| **reader != owner) {
        store.grant(now, &space, given(*reader, Actions::READ, "", 0), None)?;
    }
    Ok(space)
}

fn given(to: ReplicaId, actions: Actions, prefix: &str, depth: u8) -> Grant {
    let prefixes = Prefixes::new([prefix.as_bytes()]).unwrap_or_else(|_| Prefixes::all());
    Grant { audience: Audience::Replica(to), actions, prefixes, expiry_ms: None, depth }
}

const WRITE: Actions = Actions::PUT.and(Actions::DELETE);
