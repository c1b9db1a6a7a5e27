//! Tickets in scripts: one of the two issues them, the other takes them, and only they admit.
//!
//! Who takes a ticket and falls before that is durable takes it again, as a user would who was not
//! told. One that was issued for one use admits nobody else, whatever falls when.

use std::rc::Rc;

use kdelta_engine::base::{ReplicaId, SpaceId};
use kdelta_engine::event::KeyPair;
use kdelta_engine::log::Disk;
use kdelta_engine::store::{Local, LocalTicket, Store, WriteError};

use super::stage::{Done, Halt, PEER_KEY, SUBJECT_KEY, Stage};

/// A ticket that was issued durably.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued {
    /// The seed of the key of who issued it.
    pub(crate) by: u8,
    pub(crate) space: SpaceId,
    pub(crate) secret: [u8; 32],
}

impl Issued {
    /// Joins the space and keeps the secret for whoever issued the ticket.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn take<D: Disk + Clone>(&self, store: &mut Store<D>) -> Result<(), WriteError> {
        if !store.has_space(&self.space) {
            store.join_space(self.space, NAME)?;
        }
        Ok(store.edit_local(|local| self.note(local))?)
    }

    fn note(&self, local: &mut Local) {
        let Some(peer) = local.peer_mut(replica(self.by)) else { return };
        if !peer.admitted.contains(&self.space) {
            peer.admitted.push(self.space);
            peer.secrets.push((self.space, self.secret));
        }
    }

    fn ticket(&self) -> LocalTicket {
        let Self { secret, space, .. } = *self;
        LocalTicket { secret, space, expires_ms: u64::MAX, uses_left: 1 }
    }
}

impl Stage {
    /// The peer issues a ticket for the space that it made.
    pub(crate) fn peer_issues(&mut self, secret: [u8; 32]) -> Done {
        let Some(peer) = &mut self.peer else { return Err(Halt("no peer".to_owned())) };
        let store = peer.node.store();
        let space = store.space_named(NAME).unwrap_or_default();
        let issued = Issued { by: PEER_KEY, space, secret };
        store.edit_local(|local| local.tickets.push(issued.ticket())).map_err(Halt::because)?;
        self.shared.borrow_mut().issued = Some(issued);
        Ok(())
    }

    /// The replica under test takes that ticket.
    pub(crate) fn take_ticket(&mut self) -> Done {
        let issued = self.issued()?;
        if !self.store()?.has_space(&issued.space) {
            self.join(NAME)?;
        }
        self.edit(move |local| issued.note(local))
    }

    /// The replica under test issues a ticket for its space; it can be given away once it is
    /// durable.
    pub(crate) fn issue(&mut self, secret: [u8; 32]) -> Done {
        let space = self.store()?.space_named(NAME).unwrap_or_default();
        let issued = Issued { by: SUBJECT_KEY, space, secret };
        self.edit(move |local| local.tickets.push(issued.ticket()))?;
        self.shared.borrow_mut().issued = Some(issued);
        Ok(())
    }

    /// The peer takes that ticket, and connects: the ticket is used, and not again after a crash.
    pub(crate) fn peer_takes(&mut self) -> Done {
        let issued = self.issued()?;
        let Some(peer) = &mut self.peer else { return Err(Halt("no peer".to_owned())) };
        issued.take(peer.node.store()).map_err(Halt::because)?;
        let mut after = self.store()?.local().clone();
        after.tickets.retain(|ticket| ticket.secret != issued.secret);
        if let Some(peer) = after.peer_mut(replica(PEER_KEY)) {
            peer.admitted.push(issued.space);
        }
        let shared = Rc::clone(&self.shared);
        shared.borrow_mut().model.local(&after, false);
        self.connect_as(false)?;
        let now = self.store()?.local().clone();
        shared.borrow_mut().model.local(&now, true);
        Ok(())
    }

    fn issued(&self) -> Result<Issued, Halt> {
        self.shared.borrow().issued.ok_or_else(|| Halt("no ticket".to_owned()))
    }
}

fn replica(key: u8) -> ReplicaId {
    KeyPair::from_seed([key; 32]).id()
}

/// What all call the space.
const NAME: &str = "default";
