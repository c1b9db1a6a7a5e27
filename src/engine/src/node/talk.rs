//! The conversation with one peer about one space: sessions, chunks in and chunks out.

use std::collections::VecDeque;

use super::forks::ForkTalk;
use super::pace::Pace;
use super::spool::Stream;
use super::spread::Spread;
use super::{Ended, LinkId, Node, Output, Problem};
use crate::base::{CommitId, LogId, Now, SpaceId};
use crate::causal::{Tip, VersionVector};
use crate::log::{Disk, Position};
use crate::store::{InsertError, Inserted, ReadError, Run, Serving};
use crate::sync::{
    Code, Message, Missing, Open, Piece, Pinned, Reassembly, Session, Source, Stats, Step,
    SyncError,
};

/// What is said with one peer about one space.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) session: Option<Session>,
    /// The nonce of the peer's last opening.
    opening: Option<[u8; 16]>,
    /// How many answers to openings are on their way whose sessions this side has ended since.
    late_answers: u32,
    /// Requests of the peer, in order; the first is being answered. Whether all of it was asked
    /// for the first time in the session.
    serving: VecDeque<(Serving, bool)>,
    /// What the peer is known to hold, or to be about to: it need not be sent.
    pub(crate) theirs: VersionVector,
    /// What the peer says that it holds durably.
    pub(crate) acked: VersionVector,
    /// What this side held when the session began, and the end of the log then.
    pinned: Option<(VersionVector, Position)>,
    /// From where in the log new commits are pushed; none before the first session is through.
    pub(crate) live: Option<Position>,
    pub(crate) pushing: Option<Serving>,
    pub(super) spread: Spread,
    pub(crate) reassembly: Reassembly,
    pub(crate) in_sync: bool,
    pub(super) pace: Pace,
    pub(crate) received_events: u64,
    pub(crate) sent_events: u64,
    pub(crate) forks: ForkTalk,
    /// A ticket was shown since the session began: if it is refused another one follows.
    again_if_refused: bool,
}

impl Talk {
    /// Returns the end of the log when the session began that is under way.
    pub(super) fn pinned_at(&self) -> Option<Position> {
        self.session.as_ref().filter(|session| !session.is_over())?;
        self.pinned.as_ref().map(|(_, position)| *position)
    }

    /// Has another session follow the one that is under way if that is refused.
    pub(super) fn begin_again_if_refused(&mut self) {
        self.again_if_refused = self.session.as_ref().is_some_and(|session| !session.is_over());
    }

    fn note_unanswered(&mut self) {
        let unanswered = self.session.as_mut().is_some_and(Session::take_unanswered);
        self.late_answers += u32::from(unanswered);
    }

    /// Tells whether an answer to an opening is for a session that has ended.
    fn takes_late_answer(&mut self) -> bool {
        self.note_unanswered();
        let late = self.late_answers > 0;
        self.late_answers -= u32::from(late);
        late
    }
}

impl<D: Disk + Clone> Node<D> {
    /// Begins a session unless one is under way.
    pub(super) fn open_session(&mut self, id: LinkId, space: SpaceId) {
        let (Ok(frontier), Ok(version)) = (self.store.frontier(&space), self.store.version(&space))
        else {
            return;
        };
        let closed = self.store.closed_logs(&space).unwrap_or_default();
        // What nothing vouches for any more is asked for again, as if it were lost.
        let unvouched = self.store.unvouched(&space).unwrap_or_default();
        let lost = |tip: Tip| Missing { log: tip.log, from: tip.seq, to: tip.seq };
        let missing: Vec<Missing> = unvouched.into_iter().map(lost).collect();
        let digest = self.store.state_hash(&space).ok().flatten().filter(|_| missing.is_empty());
        let pinned = Pinned { digest, frontier, missing, closed };
        let written = self.store.written();
        let (mut nonce, now) = (self.rng.bytes(), self.now.mono);
        if mutant!("address-in-the-nonce") {
            // Stands for whatever differs from run to run, the order of a hash map above all.
            nonce = (std::ptr::from_ref(self).addr() as u128).to_le_bytes();
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let known = link.talks.len();
        link.talks.entry(space).or_default();
        if known < link.talks.len() {
            link.note_in_sync(self.now.wall);
        }
        let Some(talk) = link.talks.get_mut(&space) else { return };
        if talk.session.as_ref().is_some_and(|session| !session.is_over()) {
            return;
        }
        talk.note_unanswered();
        talk.session = Some(Session::new(space, pinned, nonce, link.outgoing));
        talk.forks.begin_session();
        talk.serving.clear();
        talk.pace.begin(now);
        talk.pinned = Some((version, written));
        self.urgent.push_back(Output::SessionBegan { link: id, space });
        self.drain(id, space);
    }

    /// Takes a message about a space.
    pub(super) fn space_message(&mut self, id: LinkId, space: SpaceId, message: Message) {
        let Some(link) = self.links.get(&id) else { return };
        let peer = link.peer;
        let talk = self.talk(id, &space);
        if message.answers_an_open() && talk.is_some_and(Talk::takes_late_answer) {
            // To answer it in turn would be answered too, and so on for ever.
            return;
        }
        if let Message::Refuse { code, text, .. } = &message {
            let session = self.talk(id, &space).and_then(|talk| talk.session.as_ref());
            if session.is_none_or(Session::is_over) {
                let problem = Problem::Refused(*code, text.as_str().to_owned());
                return self.talk_ended(id, space, Err(problem));
            }
        }
        let serves = self.serves(&peer, &space);
        if !serves && !self.hears(&peer, &space) {
            if matches!(message, Message::Open(_)) {
                self.refuse_stranger(id, space);
            }
            return self.give_credit(id, message.commit_bytes());
        }
        match message {
            // Who may not read is told of what there is only if it has something to tell.
            Message::Open(open) if !serves && !self.is_news(&space, &open) => {
                self.shut_out(id, space, Problem::NotGranted);
            }
            Message::AskProofs { .. } if !serves => self.proofs_asked(id, space, &[]),
            Message::Graft { .. } if !serves => {}
            Message::Push { more, bytes, .. } => self.pushed(id, space, more, bytes),
            Message::AskProofs { logs, .. } => self.proofs_asked(id, space, &logs),
            Message::Proof { last, bytes, .. } => self.proof_received(id, space, last, &bytes),
            Message::Acked { tips, .. } => self.heard(id, space, &tips),
            Message::Prune { .. } => self.pruned(id, space),
            Message::Graft { runs, .. } => self.grafted(id, space, &runs),
            message => self.session_message(id, space, message),
        }
    }

    /// Tells whether a peer that opens a session has anything of a space that is not here.
    fn is_news(&self, space: &SpaceId, open: &Open) -> bool {
        let digest = self.store.state_hash(space).ok().flatten();
        let here = |tip: &Tip| self.store.id_at(space, &tip.log, tip.seq) == Some(tip.id);
        match &open.frontier {
            Some(frontier) => digest.is_none() || !frontier.iter().all(here),
            None => digest.is_none() || open.digest != digest,
        }
    }

    fn session_message(&mut self, id: LinkId, space: SpaceId, message: Message) {
        if let Message::Open(open) = &message {
            let last = self.talk(id, &space).and_then(|talk| talk.opening);
            if last == Some(open.nonce) {
                // A transport that repeats messages would have it answered on and on.
                return;
            }
            self.open_session(id, space);
            if let Some(talk) = self.talk(id, &space) {
                talk.opening = Some(open.nonce);
                for tip in open.frontier.iter().flatten() {
                    talk.theirs.advance(tip.log, tip.seq);
                    talk.acked.advance(tip.log, tip.seq);
                }
            }
        }
        let bytes = message.commit_bytes();
        let answered = matches!(message, Message::Chunk { last_of_want: true, more: false, .. });
        let now = self.now.mono;
        let store = &self.store;
        let ids = |log: &LogId, seq: u64| store.id_at(&space, log, seq);
        let source: &dyn Source = &ids;
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(talk) = link.talks.get_mut(&space)
            && let Some(session) = talk.session.as_mut()
        {
            // The error comes again as a step.
            let _ = session.handle(source, message);
            talk.pace.stepped(now, session.steps_forward());
        }
        self.drain(id, space);
        if answered {
            self.nothing_more(id, space);
        }
        self.give_credit(id, bytes);
        self.pump(id);
    }

    /// Does what the session asks for, until it asks for nothing.
    pub(super) fn drain(&mut self, id: LinkId, space: SpaceId) {
        loop {
            let Some(talk) = self.talk(id, &space) else { return };
            let Some(step) = talk.session.as_mut().and_then(Session::poll) else { return };
            match step {
                Step::Send(message) => self.send(id, &message),
                Step::Request(runs) => {
                    if let Some(session) = talk.session.as_mut() {
                        session.want(runs);
                    }
                    // Some of it may have come from elsewhere since the session began.
                    self.report_durable(&space);
                }
                Step::Serve { runs } => {
                    // What is held under another id is not what was asked for.
                    let store = &self.store;
                    let held = |tip: &Tip| {
                        tip.id == CommitId::ZERO && store.holds_log(&space, &tip.log)
                            || store.id_at(&space, &tip.log, tip.seq) == Some(tip.id)
                    };
                    let runs = runs.iter().filter(|run| held(&run.upto)).map(|run| Run {
                        log: run.upto.log,
                        after: run.after,
                        upto: run.upto.seq,
                    });
                    let runs: Vec<Run> = runs.collect();
                    if let Some(talk) = self.talk(id, &space) {
                        let new = talk.pace.asks_for_new(&runs);
                        talk.serving.push_back((Serving::new(runs), new));
                    }
                }
                Step::Deliver(piece) => self.delivery(id, space, piece),
                Step::InSync => self.talk_ended(id, space, Ok(())),
                Step::Ended(short) => {
                    let problem = Problem::Short(format!("{short:?}"));
                    self.talk_ended(id, space, Err(problem));
                }
                Step::Failed(error) => {
                    let problem = match error {
                        SyncError::Refused { code, text } => {
                            Problem::Refused(code, text.as_str().to_owned())
                        }
                        SyncError::BrokenOff { text, .. } => {
                            Problem::Short(text.as_str().to_owned())
                        }
                        error => Problem::Broken(error.to_string()),
                    };
                    self.talk_ended(id, space, Err(problem));
                }
                Step::ForkFound { log, seq } => self.show_side(id, space, &log, seq),
                Step::Unproven => talk.forks.ask(),
                Step::Diverged { .. } => {}
            }
        }
    }

    /// Takes a chunk that was asked for, or a part of it.
    fn delivery(&mut self, id: LinkId, space: SpaceId, piece: Piece) {
        let now = self.now.mono;
        if let Piece::Part { bytes, .. } = &piece
            && let Some(talk) = self.talk(id, &space)
        {
            talk.pace.part_came(now, bytes.len());
        }
        match self.spool((id, space, Stream::Asked), piece) {
            Ok(Some(chunk)) => {
                let inserted = self.deliver(id, space, &chunk);
                let mut tips = inserted.map(|inserted| inserted.tips).unwrap_or_default();
                // What waits may be anything.
                tips.retain(|tip| self.store.id_at(&space, &tip.log, tip.seq) == Some(tip.id));
                if let Some(talk) = self.talk(id, &space) {
                    talk.pace.delivered(now, tips.into_iter());
                }
            }
            Ok(None) => {}
            Err(error) => self.refuse(id, space, Code::TROUBLE, &error.to_string()),
        }
    }

    /// Ends a session that got all it asked for, be it enough or not.
    fn nothing_more(&mut self, id: LinkId, space: SpaceId) {
        let Some(session) = self.talk(id, &space).and_then(|talk| talk.session.as_mut()) else {
            return;
        };
        if session.requests_open() == 0 && !session.is_over() {
            session.give_up();
            self.drain(id, space);
        }
    }

    /// Breaks off the sessions of a link that did not come forward for too long.
    pub(super) fn expire_sessions(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut expired = Vec::new();
        for (space, talk) in &mut link.talks {
            if let Some(session) = talk.session.as_mut()
                && !session.is_over()
                && talk.pace.is_lost(now)
            {
                session.refuse(Code::TIMEOUT, "nothing came forward for too long");
                sometimes!("node-session-fell-silent");
                expired.push(*space);
            }
        }
        for space in expired {
            self.drain(id, space);
        }
    }

    /// Applies a chunk; returns what came of it if it was taken whole.
    pub(super) fn deliver(&mut self, id: LinkId, space: SpaceId, bytes: &[u8]) -> Option<Inserted> {
        let result = self.store.insert_chunk(self.now, bytes);
        match result {
            Ok(inserted) => {
                if let Some(talk) = self.talk(id, &space) {
                    talk.received_events += inserted.events;
                    for tip in &inserted.tips {
                        talk.theirs.advance(tip.log, tip.seq);
                    }
                }
                self.watch_waiting();
                self.report_durable(&space);
                Some(inserted)
            }
            Err(InsertError::Gap { .. } | InsertError::WaitingRoom | InsertError::Early { .. }) => {
                // What came before the culprit stays applied.
                self.watch_waiting();
                self.report_durable(&space);
                None
            }
            Err(
                error @ (InsertError::Read(_)
                | InsertError::Log(_)
                | InsertError::Unwritten(_)
                | InsertError::Quota(_)),
            ) => {
                sometimes!("node-cannot-take-a-chunk");
                self.refuse(id, space, Code::TROUBLE, &error.to_string());
                None
            }
            // Of what is held under another id a report would say that it is here.
            Err(InsertError::Fork { .. }) => None,
            Err(error) => {
                self.close(id, Code::PROTOCOL, &error.to_string());
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, id: LinkId, space: SpaceId, code: Code, text: &str) {
        if let Some(session) = self.talk(id, &space).and_then(|talk| talk.session.as_mut()) {
            session.refuse(code, text);
        }
    }

    /// Tells all sessions about a space how far this side has come, whoever helped it there. What
    /// they say of it leaves only once it is durable: every output waits for that.
    fn report_durable(&mut self, space: &SpaceId) {
        let Ok(version) = self.store.version(space) else { return };
        let unvouched = self.store.unvouched(space).unwrap_or_default();
        let lacks = |log: &LogId| unvouched.binary_search_by_key(log, |tip| tip.log).is_ok();
        let upto = |log: &LogId| version.get(log).saturating_sub(u64::from(lacks(log)));
        let mut changed = Vec::new();
        for link in self.links.values_mut() {
            let session = link.talks.get_mut(space).and_then(|talk| talk.session.as_mut());
            if let Some(session) = session.filter(|session| !session.is_over()) {
                session.durable(&upto);
                changed.push(link.id);
            }
        }
        self.urge.extend(changed.into_iter().map(|link| (link, *space)));
    }

    /// Drains the sessions that have something to say since the last time.
    pub(super) fn drain_urged(&mut self) {
        while let Some((link, space)) = self.urge.pop_first() {
            self.drain(link, space);
        }
    }

    /// Gives back the credit of what was applied or dropped.
    pub(super) fn give_credit(&mut self, id: LinkId, bytes: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(bytes) = link.credit_in.applied(bytes) {
            self.send(id, &Message::Grant { bytes });
        }
    }

    /// Sends what was asked for and what is new, as far as credit goes.
    pub(super) fn pump(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let peer = link.peer;
        let mut spaces: Vec<SpaceId> = link.talks.keys().copied().collect();
        spaces.retain(|space| {
            let serves = self.serves(&peer, space);
            let session = self.talk(id, space).and_then(|talk| talk.session.as_ref());
            if !serves && !session.is_some_and(Session::may_bring) {
                sometimes!("node-shut-out");
                self.shut_out(id, *space, Problem::NotGranted);
            }
            serves
        });
        // A chunk of each in turn: a session is not to stand still because another has much to get.
        let mut asking = spaces.clone();
        while !asking.is_empty() {
            asking.retain(|space| self.pump_request(id, *space));
        }
        for space in spaces {
            self.pump_live(id, space);
        }
    }

    /// Ends the conversations about a space that was left.
    pub fn part_from(&mut self, now: Now, space: SpaceId) {
        self.now = now;
        let about = self.links.values().filter(|link| link.talks.contains_key(&space));
        let about: Vec<LinkId> = about.map(|link| link.id).collect();
        for link in about {
            self.shut_out(link, space, Problem::NothingInCommon);
        }
    }

    /// Ends the conversation about a space with a peer that may not have it: any more or, as turns
    /// out when the genesis of an owned space comes, at all.
    fn shut_out(&mut self, id: LinkId, space: SpaceId, problem: Problem) {
        self.refuse_stranger(id, space);
        self.talk_ended(id, space, Err(problem));
        if let Some(link) = self.links.get_mut(&id) {
            link.talks.remove(&space);
        }
    }

    pub(super) fn pump_all(&mut self) {
        let mut links: Vec<LinkId> = self.links.keys().copied().collect();
        if mutant!("push-skips-a-link") {
            links.pop();
        }
        for link in links {
            self.pump(link);
        }
    }

    /// Sends the next chunk that was asked for, if credit is left; tells whether there was one.
    fn pump_request(&mut self, id: LinkId, space: SpaceId) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        if !link.credit_out.is_open() {
            return false;
        }
        let Some(talk) = link.talks.get_mut(&space) else { return false };
        if talk.session.as_ref().is_none_or(Session::is_over) {
            talk.serving.clear();
            return false;
        }
        let Some((serving, new)) = talk.serving.front_mut() else { return false };
        let mut chunk = Vec::new();
        let mut trouble = None;
        match self.store.next_chunk(&space, serving, CHUNK_BYTES) {
            Ok(Some(next)) => {
                talk.sent_events += next.events;
                chunk = next.bytes;
            }
            // The rest is not to be had here yet; what is asked of the peer may bring it.
            Ok(None) | Err(ReadError::Unvouched) => sometimes!("node-request-ends-early"),
            Err(error) => {
                trouble = Some(error.to_string());
                if let Some(segment) = error.to_rebuild() {
                    // For the next session.
                    let _ = self.store.rebuild(segment);
                }
            }
        }
        if *new {
            talk.pace.sent(chunk.len());
        }
        let last = serving.is_done() || (chunk.is_empty() && trouble.is_none());
        if last {
            talk.serving.pop_front();
        }
        if let Some(session) = talk.session.as_mut() {
            match trouble {
                Some(text) => session.refuse(Code::TROUBLE, &text),
                None => session.chunk(chunk, last),
            }
        }
        self.drain(id, space);
        true
    }

    /// Ends a session: what both sides pinned is on both, or there is a problem.
    pub(super) fn talk_ended(&mut self, id: LinkId, space: SpaceId, result: Result<(), Problem>) {
        if let Err(problem) = &result
            && self.goes_on(id, space, problem)
        {
            return;
        }
        let Some(talk) = self.talk(id, &space) else {
            return self.job_space_done(id, space, Stats::default(), (0, 0), result);
        };
        talk.forks.settled();
        let refused = matches!(&result, Err(Problem::Refused(Code::NOT_ADMITTED, _)));
        if std::mem::take(&mut talk.again_if_refused) && refused {
            return self.open_session(id, space);
        }
        let stats = talk.session.as_ref().map(Session::stats).unwrap_or_default();
        let events = (talk.received_events, talk.sent_events);
        talk.in_sync = result.is_ok();
        if result.is_ok()
            && let Some((version, position)) = talk.pinned.take()
        {
            talk.theirs.join(&version);
            talk.acked.join(&version);
            talk.spread.both_hold(&version);
            self.choose_eager(id, space);
            if let Some(talk) = self.talk(id, &space) {
                talk.live.get_or_insert(position);
            }
            self.tell_places(id);
        }
        let now = self.now.wall;
        if let Some(link) = self.links.get_mut(&id) {
            link.note_in_sync(now);
        }
        let ended = Ended { problem: result.as_ref().err().cloned(), stats };
        self.urgent.push_back(Output::SessionEnded { link: id, space, ended });
        self.job_space_done(id, space, stats, events, result);
    }

    pub(super) fn talk(&mut self, id: LinkId, space: &SpaceId) -> Option<&mut Talk> {
        self.links.get_mut(&id)?.talks.get_mut(space)
    }
}

/// About how many bytes of commits go into one chunk.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
