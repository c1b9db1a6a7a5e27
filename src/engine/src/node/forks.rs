//! What peers say to each other about forked logs: proofs, asked for or new.
//!
//! Two sides that hold different commits under one number each show theirs, and each makes the
//! proof of the two. Whoever learns of a proof closes the log and hands the proof on to all it
//! talks with, so that it reaches everybody who holds the space. What follows for commits comes by
//! ordinary sessions afterwards (PROTOCOL 5, 6).

use std::collections::BTreeSet;

use super::talk::Talk;
use super::{LinkId, Node, Problem};
use crate::base::{Instant, LogId, SpaceId};
use crate::event::{ForkError, ForkProof, ForkSide};
use crate::limits;
use crate::log::Disk;
use crate::sync::{Code, Message, Session};

/// What goes on about forks in the conversation about one space.
#[derive(Debug, Default)]
pub(crate) struct ForkTalk {
    /// How many more proofs are taken of those that were asked for; none if none were, or the last
    /// has come.
    asked: Option<usize>,
    /// How many sides of forks that both have found the peer has not shown yet.
    awaited: u32,
    /// How the last session ended, while a side is awaited.
    short: Option<Problem>,
    /// Whether a log was closed on the peer's word since the last session ended.
    closed: bool,
    /// How many sessions were begun again on account of that.
    rounds: u32,
    /// How many proofs came that were of no use, less one for each minute since.
    stray: u32,
    /// Up to when minutes are counted.
    stray_at: Instant,
}

impl ForkTalk {
    /// Forgets what the session before left open: the new one finds it again.
    pub(super) fn begin_session(&mut self) {
        (self.asked, self.awaited, self.short) = (None, 0, None);
    }

    /// Takes note that a session ended and nothing more is to come of it.
    pub(super) fn settled(&mut self) {
        self.begin_session();
        (self.closed, self.rounds) = (false, 0);
    }

    /// Takes note of a proof that was of no use; tells whether they are too many.
    ///
    /// Some cross those that were asked for, and a link may last for months: so the count goes down
    /// with time. What a peer can make this side check stays bounded.
    fn stray(&mut self, now: Instant) -> bool {
        let past = u32::try_from(now.0.saturating_sub(self.stray_at.0) / STRAY_NS);
        self.stray = self.stray.saturating_sub(past.unwrap_or(u32::MAX)) + 1;
        self.stray_at = now;
        self.stray > STRAY_MAX
    }

    /// Takes note that proofs were asked for.
    pub(super) fn ask(&mut self) {
        self.asked = Some(limits::CLOSED_LISTED_MAX);
    }
}

impl<D: Disk + Clone> Node<D> {
    /// Shows the peer this side's commit at a fork that both have found.
    pub(super) fn show_side(&mut self, id: LinkId, space: SpaceId, log: &LogId, seq: u64) {
        let mut bytes = Vec::new();
        let peer = self.links.get(&id).map(|link| link.peer);
        let serves = peer.is_some_and(|peer| self.serves(&peer, &space));
        // What cannot be read now is found again by the next session.
        if serves && let Ok(side) = self.store.fork_side(&space, log, seq) {
            side.encode(&mut bytes);
        }
        self.send(id, &Message::Proof { space, last: true, bytes });
        if let Some(talk) = self.talk(id, &space) {
            talk.forks.awaited += 1;
        }
    }

    /// Sends the proofs that a peer asks for; its session is over, and so is this side's.
    pub(super) fn proofs_asked(&mut self, id: LinkId, space: SpaceId, logs: &[LogId]) {
        if let Some(talk) = self.talk(id, &space) {
            talk.session = None;
        }
        for log in logs {
            self.send_proof(id, space, log);
        }
        self.send(id, &Message::Proof { space, last: true, bytes: Vec::new() });
    }

    /// Sends the proof that a log is forked, if there is one here.
    pub(super) fn send_proof(&mut self, id: LinkId, space: SpaceId, log: &LogId) {
        let Ok(proof) = self.store.fork_proof(&space, log) else { return };
        let mut bytes = Vec::new();
        proof.encode(&mut bytes);
        self.send(id, &Message::Proof { space, last: false, bytes });
    }

    /// Takes a proof, or the peer's side of one; with the last of those that were asked for the
    /// frontiers are compared.
    pub(super) fn proof_received(&mut self, id: LinkId, space: SpaceId, last: bool, bytes: &[u8]) {
        let Some(talk) = self.talk(id, &space) else { return };
        let (asked, awaited) = (talk.forks.asked.is_some(), talk.forks.awaited > 0);
        let wanted = talk.forks.asked.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left > 0
        });
        if !bytes.is_empty() {
            match self.read_proof(bytes, awaited) {
                // What was not asked for is about a log that is held here, or of no use.
                Ok(Read::Proof(proof))
                    if proof.space() == space
                        && (wanted || self.store.holds_log(&space, &proof.log())) =>
                {
                    self.proofs.push((id, *proof));
                }
                Ok(Read::Known) => {}
                // Each costs checks of signatures.
                Ok(Read::Proof(_) | Read::Stray) => {
                    let now = self.now.mono;
                    let Some(talk) = self.talk(id, &space) else { return };
                    sometimes!("node-stray-proof");
                    if talk.forks.stray(now) {
                        return self.close(id, Code::PROTOCOL, "proofs that nobody asked for");
                    }
                }
                Err(error) => return self.close(id, Code::PROTOCOL, &error.to_string()),
            }
        }
        if !last {
            return;
        }
        self.close_forked();
        if asked {
            return self.open_session(id, space);
        }
        let Some(talk) = self.talk(id, &space) else { return };
        talk.forks.awaited = talk.forks.awaited.saturating_sub(1);
        if talk.forks.awaited == 0
            && let Some(problem) = talk.forks.short.take()
        {
            self.talk_ended(id, space, Err(problem));
        }
    }

    /// Reads a proof, or a side of one, which makes a proof with this side's own if it is awaited.
    fn read_proof(&mut self, bytes: &[u8], awaited: bool) -> Result<Read, ForkError> {
        // What is known costs no check of a signature.
        if let Some((space, log, seq)) = ForkProof::place(bytes)
            && self.store.is_closed(&space, &log, seq)
        {
            return Ok(Read::Known);
        }
        if let Ok(proof) = ForkProof::decode(bytes) {
            return Ok(Read::Proof(Box::new(proof)));
        }
        let side = ForkSide::decode(bytes)?;
        let proof = if awaited { self.store.prove(side) } else { None };
        Ok(proof.map_or(Read::Stray, |proof| Read::Proof(Box::new(proof))))
    }

    /// Closes the logs that proofs came in for.
    pub(super) fn close_forked(&mut self) {
        if self.proofs.is_empty() {
            return;
        }
        let (links, proofs): (Vec<LinkId>, Vec<ForkProof>) =
            std::mem::take(&mut self.proofs).into_iter().unzip();
        // A disk that refuses leaves things as they were: the next session tries again.
        if self.store.close_forked(self.now, &proofs).unwrap_or(0) == 0 {
            return;
        }
        for (id, proof) in links.into_iter().zip(&proofs) {
            if let Some(talk) = self.talk(id, &proof.space()) {
                talk.forks.closed = true;
            }
        }
        let spaces: BTreeSet<SpaceId> = proofs.iter().map(ForkProof::space).collect();
        spaces.into_iter().for_each(|space| self.compare_again(space));
        self.watch_waiting();
    }

    /// Opens sessions about a space with all who are connected and are not in one.
    fn compare_again(&mut self, space: SpaceId) {
        let idle = |talk: &Talk| talk.session.as_ref().is_none_or(Session::is_over);
        let links = self.links.values().filter(|link| {
            link.talks.get(&space).is_some_and(|talk| idle(talk) && talk.forks.asked.is_none())
        });
        let links: Vec<LinkId> = links.map(|link| link.id).collect();
        for link in links {
            self.open_session(link, space);
        }
    }

    /// Tells whether more is to come of a session that ended short: the peer's side of a fork, or a
    /// new session if a log was closed since.
    pub(super) fn goes_on(&mut self, id: LinkId, space: SpaceId, problem: &Problem) -> bool {
        self.close_forked();
        let Some(talk) = self.talk(id, &space) else { return false };
        if talk.forks.awaited > 0 {
            talk.forks.short = Some(problem.clone());
            return true;
        }
        let closed = std::mem::take(&mut talk.forks.closed);
        let again = closed && talk.forks.rounds < ROUNDS_MAX;
        sometimes!("node-session-begun-again", again);
        talk.forks.rounds += u32::from(again);
        if again {
            self.open_session(id, space);
        }
        again
    }
}

/// What a peer sent about a fork.
enum Read {
    Proof(Box<ForkProof>),
    /// The log is closed there already.
    Known,
    /// A side that nothing here makes a proof of.
    Stray,
}

/// So many proofs or sides that are of no use are taken from a peer at once: some may have crossed.
const STRAY_MAX: u32 = 64;
/// After so long one of them is forgotten, in nanoseconds.
const STRAY_NS: u64 = 60_000_000_000;
/// How often a session is begun again because a log was closed.
const ROUNDS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_of_no_use_are_forgotten_with_time_and_too_many_are_not() {
        let minutes = |n: u64| Instant(n * STRAY_NS);
        let mut talk = ForkTalk::default();
        for n in 0..10_000 {
            assert!(!talk.stray(minutes(n)), "one a minute: {n}");
        }
        let allowed = (0..).take_while(|_| !talk.stray(minutes(10_100))).count();
        assert_eq!(allowed, STRAY_MAX as usize);
    }
}
