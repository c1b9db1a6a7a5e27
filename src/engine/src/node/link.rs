//! One connection to a peer: greetings, admission, and which space a message belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::talk::Talk;
use super::{LinkId, Node, Output, Problem};
use crate::base::{Instant, Now, ReplicaId, SpaceId, WallTime};
use crate::log::Disk;
use crate::sync::{
    Agreed, Code, Decoder, Message, PeerText, Place, ReceiveCredit, SendCredit, admission_proof,
};

/// What a node knows of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) peer: ReplicaId,
    pub(crate) outgoing: bool,
    decoder: Decoder,
    pub(crate) agreed: Option<Agreed>,
    process: [u8; 16],
    pub(crate) credit_out: SendCredit,
    pub(crate) credit_in: ReceiveCredit,
    pub(crate) talks: BTreeMap<SpaceId, Talk>,
    admitted: bool,
    /// Spaces for which a ticket was shown that admits nobody.
    refused: BTreeSet<SpaceId>,
    next_check: Instant,
    /// Where replicas are as the peer was told last.
    pub(super) told: Vec<Place>,
    /// Whether it was remembered where the peer says that it is.
    pub(super) remembered: bool,
    /// Whether it was in sync when that was looked at last, and since when.
    in_sync: (bool, WallTime),
}

impl Link {
    /// Tells whether everything that both sides held lately is on both sides.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.talks.values().any(|talk| talk.in_sync) && self.talks.values().all(|t| t.in_sync)
    }

    /// Returns the spaces of which a session was brought to its end: both sides hold them.
    pub(super) fn synced_spaces(&self) -> impl Iterator<Item = SpaceId> {
        let talks = self.talks.iter().filter(|(_, talk)| talk.live.is_some());
        talks.map(|(space, _)| *space)
    }

    /// Returns since when that has been so.
    pub(crate) fn since(&self) -> WallTime {
        self.in_sync.1
    }

    /// Takes note of whether it is so now.
    pub(super) fn note_in_sync(&mut self, now: WallTime) {
        let is = self.is_in_sync();
        if self.in_sync.0 != is {
            self.in_sync = (is, now);
        }
    }
}

impl<D: Disk + Clone> Node<D> {
    pub(super) fn connected(&mut self, id: LinkId, peer: ReplicaId, outgoing: bool) {
        let link = Link {
            id,
            peer,
            outgoing,
            decoder: Decoder::default(),
            agreed: None,
            process: [0; 16],
            credit_out: SendCredit::default(),
            credit_in: ReceiveCredit::default(),
            talks: BTreeMap::new(),
            admitted: false,
            refused: BTreeSet::new(),
            next_check: self.now.mono.plus(CHECK_EVERY),
            told: Vec::new(),
            remembered: false,
            in_sync: (false, self.now.wall),
        };
        self.links.insert(id, link);
        self.dialing_done(peer);
        self.send(id, &Message::Hello(self.hello.clone()));
        self.wake_at(self.now.mono.plus(CHECK_EVERY));
    }

    pub(super) fn received(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.decoder.push(bytes);
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            match link.decoder.next() {
                Ok(Some(message)) => self.message(id, message),
                Ok(None) => return,
                Err(error) => return self.close(id, Code::PROTOCOL, &error.to_string()),
            }
        }
    }

    pub(super) fn closed(&mut self, id: LinkId, reason: &str) {
        self.forget(id, Problem::Broken(reason.to_owned()));
    }

    /// Drops a link; what was under way on it ends with `problem`.
    pub(super) fn forget(&mut self, id: LinkId, problem: Problem) {
        let Some(link) = self.links.remove(&id) else { return };
        self.drop_spools(id);
        self.fail_jobs_of(&link, problem);
        if !self.links.values().any(|other| other.peer == link.peer) {
            self.places.forget_said_by(&link.peer);
            self.redial_later(link.peer);
        }
    }

    fn message(&mut self, id: LinkId, message: Message) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.agreed.is_none() && !matches!(message, Message::Hello(_) | Message::Close { .. }) {
            return self.close(id, Code::PROTOCOL, "the first message is a hello");
        }
        if link.credit_in.received(message.commit_bytes()).is_err() {
            return self.close(id, Code::PROTOCOL, "more was sent than was granted");
        }
        match message {
            Message::Hello(hello) => self.greeted(id, &hello),
            Message::Admit { space, proof } => self.admit(id, space, proof),
            Message::Grant { bytes } => {
                if link.credit_out.granted(bytes).is_err() {
                    return self.close(id, Code::PROTOCOL, "more was given back than was sent");
                }
                let now = self.now.mono;
                link.talks.values_mut().for_each(|talk| talk.pace.granted(now, bytes));
                self.pump(id);
            }
            Message::Addresses { places } => self.told(id, places),
            Message::Close { code, text } => {
                let problem = Problem::Refused(code, text.as_str().to_owned());
                self.forget(id, problem);
                let text = "the peer said goodbye".to_owned();
                self.urgent.push_back(Output::Close { link: id, code: Code::DONE, text });
            }
            message => match message.space() {
                Some(space) => self.space_message(id, space, message),
                None => self.close(id, Code::PROTOCOL, "a message out of place"),
            },
        }
    }

    fn greeted(&mut self, id: LinkId, hello: &crate::sync::Hello) {
        let agreed = match self.hello.agree(hello) {
            Ok(agreed) => agreed,
            Err(error) => {
                sometimes!("node-no-version-in-common");
                return self.close(id, Code::VERSION, &error.to_string());
            }
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.agreed.is_some() {
            return self.close(id, Code::PROTOCOL, "a second hello");
        }
        if hello.process == self.hello.process {
            return self.close(id, Code::DONE, "both ends are the same process");
        }
        link.agreed = Some(agreed);
        link.process = hello.process;
        let (peer, process, outgoing) = (link.peer, link.process, link.outgoing);
        // Two connections of one pair: both sides keep the one that the lesser key dialled.
        let twin = self
            .links
            .values()
            .find(|other| other.id != id && other.peer == peer && other.process == process);
        if let Some(twin) = twin {
            let by_lesser = outgoing == (self.store.replica() < peer);
            let loser = if by_lesser && twin.outgoing != outgoing { twin.id } else { id };
            if twin.outgoing != outgoing {
                sometimes!("node-twin-connection-closed");
                self.close(loser, Code::SUPERSEDED, "another connection serves this pair");
                if loser == id {
                    return;
                }
            }
        }
        self.use_secrets(id, peer, &process);
        self.start_jobs(id);
        if outgoing {
            self.open_talks(id);
        }
        self.admit_link(id);
    }

    /// Shows the tickets of a peer on the connections to it that stand, and opens the sessions.
    ///
    /// For who has taken one just now; where the peer is not connected nothing happens.
    pub fn show_tickets(&mut self, now: Now, peer: ReplicaId) {
        self.now = now;
        let greeted = |link: &&Link| link.peer == peer && link.agreed.is_some();
        let links: Vec<_> =
            self.links.values().filter(greeted).map(|link| (link.id, link.process)).collect();
        for (id, process) in links {
            self.use_secrets(id, peer, &process);
            if let Some(link) = self.links.get_mut(&id) {
                link.talks.values_mut().for_each(Talk::begin_again_if_refused);
            }
            self.open_talks(id);
        }
    }

    /// Shows the tickets that this replica holds from that peer.
    fn use_secrets(&mut self, id: LinkId, peer: ReplicaId, process: &[u8; 16]) {
        let known = self.store.local().peer(&peer);
        for (space, secret) in known.map(|known| known.secrets.clone()).unwrap_or_default() {
            let own = self.store.replica();
            let proof = admission_proof(&secret, &space, &own, &peer, process);
            self.send(id, &Message::Admit { space, proof });
        }
    }

    /// Admits a peer that proves to hold a ticket of ours.
    fn admit(&mut self, id: LinkId, space: SpaceId, proof: [u8; 32]) {
        let Some(link) = self.links.get(&id) else { return };
        let (peer, own, now_ms) = (link.peer, self.store.replica(), self.now.wall.0);
        if self.store.local().admits(&peer, &space) {
            return self.admit_link(id);
        }
        let ticket = self.store.local().tickets.iter().position(|ticket| {
            ticket.space == space
                && ticket.expires_ms > now_ms
                && ticket.uses_left > 0
                && admission_proof(&ticket.secret, &space, &peer, &own, &self.hello.process)
                    == proof
        });
        let Some(at) = ticket else {
            sometimes!("node-ticket-refused");
            // Told in answer to an opening: the next ticket may be a good one, and a refusal now
            // would end the session that it opens.
            if let Some(link) = self.links.get_mut(&id)
                && link.refused.len() < TICKETS_REFUSED_MAX
            {
                link.refused.insert(space);
            }
            return;
        };
        let saved = self.store.edit_local(|local| {
            if let Some(ticket) = local.tickets.get_mut(at) {
                ticket.uses_left -= 1;
            }
            local.tickets.retain(|ticket| ticket.uses_left > 0 && ticket.expires_ms > now_ms);
            if let Some(known) = local.peer_mut(peer) {
                known.admitted.push(space);
            }
        });
        sometimes!("node-admitted-by-ticket", saved.is_ok());
        match saved {
            Ok(()) => self.admit_link(id),
            Err(error) => self.close(id, Code::TROUBLE, &error.to_string()),
        }
    }

    /// Answers an opening of a space that the peer may not sync here.
    pub(super) fn refuse_stranger(&mut self, id: LinkId, space: SpaceId) {
        sometimes!("node-session-not-admitted");
        let Some(link) = self.links.get(&id) else { return };
        let (code, text) = if self.is_let_in(&link.peer, &space) {
            let text = "no grant lets this replica read all of that space: ask who owns it";
            (Code::NOT_GRANTED, text)
        } else if link.refused.contains(&space) {
            (Code::NOT_ADMITTED, "the ticket is not known, used up, or has expired")
        } else {
            (Code::NOT_ADMITTED, "not admitted to that space here: use a ticket")
        };
        self.send(id, &Message::Refuse { space, code, text: PeerText::new(text) });
    }

    /// Lifts a stranger's limits once the peer may sync something here.
    fn admit_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let known = self.store.local().is_admitted(&link.peer);
        if !link.admitted && (known || self.config.open || link.outgoing) {
            self.urgent.push_back(Output::Admit { link: id });
            if let Some(link) = self.links.get_mut(&id) {
                link.admitted = true;
            }
        }
    }

    /// Opens a session of every space that the peer is served.
    pub(super) fn open_talks(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let peer = link.peer;
        let spaces: Vec<SpaceId> =
            self.store.local().spaces.iter().filter(|s| !s.retired).map(|s| s.id).collect();
        for space in spaces {
            if self.serves(&peer, &space) {
                self.open_session(id, space);
            }
        }
    }

    /// Compares notes with peers now and then, so that nothing that was missed stays missed.
    pub(super) fn tick_links(&mut self) {
        let due = self.links.values().filter(|link| link.next_check <= self.now.mono);
        let due: Vec<(LinkId, bool)> = due.map(|link| (link.id, link.agreed.is_some())).collect();
        for (id, greeted) in due {
            if !greeted {
                self.close(id, Code::TIMEOUT, "no hello came");
                continue;
            }
            self.expire_sessions(id);
            self.open_talks(id);
            self.tell_places(id);
            if let Some(link) = self.links.get_mut(&id) {
                link.next_check = self.now.mono.plus(CHECK_EVERY);
            }
        }
        if let Some(at) = self.links.values().map(|link| link.next_check).min() {
            self.wake_at(at.max(self.now.mono));
        }
    }
}

/// Of so many tickets of a link that admit nobody its peer is told as much. It may invent others.
const TICKETS_REFUSED_MAX: usize = 64;
/// How often digests are compared with a peer that is connected, and how long a hello may take.
const CHECK_EVERY: Duration = Duration::from_secs(60);
