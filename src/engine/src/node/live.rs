//! New commits, pushed to peers as soon as they are durable, or named to them.
//!
//! To whom which is the business of [`spread`](super::spread). Each conversation is a position in
//! the log that moves forward: there is no queue to overflow. A peer that is slow simply lies
//! further behind, and catches up from the log.

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

    /// Pushes what came to the log since the last time, as far as credit goes, or has the peer told
    /// of it.
    pub(super) fn pump_live(&mut self, id: LinkId, space: SpaceId) {
        while self.push_on(id, space) || self.look_for_news(id, space) {}
    }

    /// Sends the next chunk of what is being pushed; tells whether there was something to do.
    fn push_on(&mut self, id: LinkId, space: SpaceId) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let open = link.credit_out.is_open();
        let Some(talk) = link.talks.get_mut(&space) else { return false };
        if talk.pushing.is_none() && !talk.spread.grafted.is_empty() {
            let runs = std::mem::take(&mut talk.spread.grafted).into_values();
            let held = self.store.branches_below(&space, &talk.acked);
            talk.pushing = Some(Serving::beyond(runs, &held));
        }
        if !open {
            return false;
        }
        let Some(mut serving) = talk.pushing.take() else { return false };
        if let Ok(Some(chunk)) = self.store.next_chunk(&space, &mut serving, CHUNK_BYTES) {
            talk.sent_events += chunk.events;
            if !serving.is_done() {
                talk.pushing = Some(serving);
            }
            for (bytes, more) in parts(chunk.bytes) {
                self.send(id, &Message::Push { space, more, bytes });
            }
        }
        true
    }

    /// Finds the next commits that came to the log; tells whether there were any to look at.
    fn look_for_news(&mut self, id: LinkId, space: SpaceId) -> bool {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return false };
        let open = link.credit_out.is_open();
        let Some(talk) = link.talks.get_mut(&space) else { return false };
        let Some(from) = talk.live.filter(|from| *from < self.store.written()) else {
            return false;
        };
        let waits = talk.spread.eager && !open;
        if talk.spread.is_stalled(now, waits) {
            // It is told what there is, and asks for that when it can take it.
            talk.spread.eager = false;
            self.spreading.stats.stalls += 1;
        } else if waits || talk.spread.eager && talk.pushing.is_some() {
            return false;
        }
        // What is damaged is no news, and after a repair records lie elsewhere than they did:
        // what comes after is pushed all the same.
        let arrived =
            |store: &mut Store<D>| store.arrived(&space, from, store.written(), CHUNK_BYTES);
        let (arrived, _) = self.store.with_degraded(arrived);
        let Ok((mut arrived, next)) = arrived else { return false };
        let Some(talk) = self.talk(id, &space) else { return false };
        talk.live = Some(next);
        if mutant!("not-passed-on") {
            let own = self.store.replica();
            arrived.retain(|arrived| arrived.tip.log.replica == own);
        }
        let closed = self.store.closed_between(&space, from, next);
        for (log, _) in closed {
            self.send_proof(id, space, &log);
        }
        // Branches go along with what builds upon them.
        let tips = arrived.into_iter().filter(|arrived| !arrived.is_branch);
        self.spread_tips(id, space, tips.map(|arrived| arrived.tip));
        true
    }

    /// Has new commits pushed to a peer, or has it told of them.
    fn spread_tips(&mut self, id: LinkId, space: SpaceId, tips: impl Iterator<Item = Tip>) {
        let Some(talk) = self.links.get_mut(&id).and_then(|link| link.talks.get_mut(&space)) else {
            return;
        };
        // A branch goes to nobody twice, though each log may come to build upon it.
        let held = self.store.branches_below(&space, &talk.theirs);
        let mut runs: BTreeMap<LogId, Run> = BTreeMap::new();
        let mut told = BTreeMap::new();
        for tip in tips {
            if talk.spread.knows(&tip) {
                continue;
            }
            let (log, seq) = (tip.log, tip.seq);
            if talk.spread.eager && !talk.theirs.contains(&log, seq) {
                let run = runs.entry(log).or_insert(Run { log, after: seq - 1, upto: seq });
                run.upto = seq;
                talk.theirs.advance(log, seq);
                talk.spread.sent(&tip);
            } else {
                told.insert(log, tip);
            }
        }
        if !runs.is_empty() {
            sometimes!("node-pushed-live");
            talk.pushing = Some(Serving::beyond(runs.into_values(), &held));
        }
        for tip in told.into_values() {
            self.tell_later(id, space, tip);
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
                Some(inserted) => {
                    self.push_came(id, space, &inserted);
                    self.tell(id, space, inserted.tips);
                }
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
