//! New commits, pushed to peers as soon as they are durable.
//!
//! Each conversation is a position in the log that moves forward: there is no queue to overflow. A
//! peer that is slow simply lies further behind, and catches up from the log.

use std::collections::{BTreeMap, BTreeSet};

use super::link::Link;
use super::spool::Stream;
use super::talk::CHUNK_BYTES;
use super::{LinkId, Node};
use crate::base::{LogId, ReplicaId, SpaceId};
use crate::causal::Tip;
use crate::log::Disk;
use crate::store::{Run, Serving, Store};
use crate::sync::{Code, Message, parts};

impl<D: Disk + Clone> Node<D> {
    /// Returns how many peers that are connected said that they hold a commit durably; a peer with
    /// several links counts once.
    pub fn holders(&self, space: &SpaceId, tip: &Tip) -> usize {
        let holds = |link: &&Link| {
            link.talks.get(space).is_some_and(|talk| talk.acked.contains(&tip.log, tip.seq))
        };
        let peers = self.links.values().filter(holds).map(|link| link.peer);
        peers.collect::<BTreeSet<ReplicaId>>().len()
    }

    /// Says what was taken of a push. What waits or is suspected is not held.
    fn send_acked(&mut self, id: LinkId, space: SpaceId, mut tips: Vec<Tip>) {
        tips.retain(|tip| self.store.id_at(&space, &tip.log, tip.seq) == Some(tip.id));
        for message in Message::acked(space, &tips) {
            self.send(id, &message);
        }
    }

    /// Pushes what came to the log since the last time, as far as credit goes.
    pub(super) fn pump_live(&mut self, id: LinkId, space: SpaceId) {
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            if !link.credit_out.is_open() {
                return;
            }
            let Some(talk) = link.talks.get_mut(&space) else { return };
            if let Some(mut serving) = talk.pushing.take() {
                if let Ok(Some(chunk)) = self.store.next_chunk(&space, &mut serving, CHUNK_BYTES) {
                    talk.sent_events += chunk.events;
                    if !serving.is_done() {
                        talk.pushing = Some(serving);
                    }
                    for (bytes, more) in parts(chunk.bytes) {
                        self.send(id, &Message::Push { space, more, bytes });
                    }
                }
                continue;
            }
            let Some(from) = talk.live.filter(|from| *from < self.store.written()) else { return };
            // What is damaged is no news, and after a repair records lie elsewhere than they did:
            // what comes after is pushed all the same.
            let arrived =
                |store: &mut Store<D>| store.arrived(&space, from, store.written(), CHUNK_BYTES);
            let (arrived, _) = self.store.with_degraded(arrived);
            let Ok((mut arrived, next)) = arrived else { return };
            talk.live = Some(next);
            if mutant!("not-passed-on") {
                let own = self.store.replica();
                arrived.retain(|arrived| arrived.tip.log.replica == own);
            }
            let closed = self.store.closed_between(&space, from, next);
            for (log, _) in closed {
                self.send_proof(id, space, &log);
            }
            let Some(talk) = self.links.get_mut(&id).and_then(|link| link.talks.get_mut(&space))
            else {
                return;
            };
            // A branch goes to nobody twice, though each log may come to build upon it.
            let held = self.store.branches_below(&space, &talk.theirs);
            let mut runs: BTreeMap<LogId, Run> = BTreeMap::new();
            for arrived in arrived {
                let (log, seq) = (arrived.tip.log, arrived.tip.seq);
                // Branches go along with what builds upon them.
                if arrived.is_branch {
                    continue;
                }
                if !talk.theirs.contains(&log, seq) {
                    let run = runs.entry(log).or_insert(Run { log, after: seq - 1, upto: seq });
                    run.upto = seq;
                    talk.theirs.advance(log, seq);
                }
            }
            if !runs.is_empty() {
                sometimes!("node-pushed-live");
                talk.pushing = Some(Serving::beyond(runs.into_values(), &held));
            }
        }
    }

    /// Takes a part of a chunk that was not asked for.
    pub(super) fn pushed(&mut self, id: LinkId, space: SpaceId, more: bool, bytes: Vec<u8>) {
        let len = bytes.len();
        let Some(talk) = self.talk(id, &space) else { return self.give_credit(id, len) };
        let piece = match talk.reassembly.part(bytes, more) {
            Ok(piece) => piece,
            Err(error) => return self.close(id, Code::PROTOCOL, &error.to_string()),
        };
        // A disk that refuses now is asked again by the next session.
        if let Ok(Some(chunk)) = self.spool((id, space, Stream::Pushed), piece) {
            match self.deliver(id, space, &chunk) {
                // It leaves once they are durable, as every output does.
                Some(tips) => self.send_acked(id, space, tips),
                None => {
                    // Something before it is missing here: ask for all that is.
                    sometimes!("node-push-cannot-be-taken");
                    self.open_session(id, space);
                }
            }
        }
        self.give_credit(id, len);
    }
}
