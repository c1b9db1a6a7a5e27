//! One conversation of anti-entropy about one space with one peer, as a pure state machine.
//!
//! Both sides open with the frontier that they durably hold, find the logs in which the two differ,
//! ask for the runs that they lack, and say when they hold them durably. Commits that come into
//! being meanwhile are none of its business. It keeps no time: whoever drives it ends it when the
//! peer falls silent. A session that failed or ended is dropped; a new one may be opened on the
//! same connection as soon as this one is over.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{LogId, SpaceId};
use crate::limits;
use crate::sync::batch::{Batch, Incoming};
use crate::sync::fork::ForkSearch;
use crate::sync::frame::frame_bytes;
use crate::sync::message::{Code, Message, Missing, Open, PeerText, Run};
use crate::sync::parts::{Reassembly, parts};
use crate::sync::reconcile::Reconciler;
use crate::sync::wire::follows;
use crate::sync::{Shortfall, SyncError, Tip};

mod exchange;
mod step;

pub use step::{Pinned, Source, Stats, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Our hello is out, the peer's is not in.
    Opening,
    /// A batch of reconciliation is the peer's to send.
    TheirTurn,
    /// It is known what differs.
    Settled,
    Over,
}

/// One conversation of anti-entropy. After each call drain [`Session::poll`].
#[derive(Debug)]
pub struct Session {
    space: SpaceId,
    initiator: bool,
    nonce: [u8; 16],
    own: Pinned,
    phase: Phase,
    /// Whether the peer's opening came, or its refusal in place of it.
    answered: bool,
    steps: VecDeque<Step>,
    stats: Stats,

    reconciler: Option<Reconciler>,
    incoming: Incoming,
    reply: Batch,
    batches: u32,
    /// What the peer was found to hold otherwise than we.
    theirs: BTreeMap<LogId, Tip>,
    peer_missing: Vec<Missing>,

    /// What we have to hold durably before we are done: the last seq of each log.
    targets: BTreeMap<LogId, u64>,
    /// What we had lost and still lack.
    unfilled: Vec<Missing>,
    diverged: BTreeMap<LogId, ForkState>,
    left_out: u64,
    forks: ForkSearch,
    gave_up: bool,
    own_have: Option<bool>,
    peer_have: Option<bool>,

    /// Requests of ours that are not answered to the end.
    wants_open: usize,
    reassembly: Reassembly,
    /// The runs of a request that is still coming in.
    asked_for: Vec<Run>,
    /// Requests of the peer's that are not answered to the end.
    serving: usize,
    served: u32,
    /// Openings, batches, answers to the end, forks and farewells that came in.
    forward: u64,
}

/// What is known of a log whose chains part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForkState {
    Reported,
    Found,
}

impl Session {
    /// Begins a session; the hello is the first step.
    ///
    /// `nonce` is random and new in each session. `initiator` is true on the side that dialled the
    /// connection, whoever wants the session: so two hellos that cross open one session.
    pub fn new(space: SpaceId, pinned: Pinned, nonce: [u8; 16], initiator: bool) -> Self {
        let ascends = pinned.frontier.is_sorted_by(|a, b| a.log < b.log);
        assert!(ascends, "a pinned frontier is sorted by log and names each log once");
        assert!(
            pinned.missing.is_empty() || pinned.digest.is_none(),
            "there is no state hash while commits are missing"
        );
        let mut session = Self {
            space,
            initiator,
            nonce,
            unfilled: pinned.missing.clone(),
            own: pinned,
            phase: Phase::Opening,
            answered: false,
            steps: VecDeque::new(),
            stats: Stats::default(),
            reconciler: None,
            incoming: Incoming::default(),
            reply: Batch::default(),
            batches: 0,
            theirs: BTreeMap::new(),
            peer_missing: Vec::new(),
            targets: BTreeMap::new(),
            diverged: BTreeMap::new(),
            left_out: 0,
            forks: ForkSearch::default(),
            gave_up: false,
            own_have: None,
            peer_have: None,
            wants_open: 0,
            reassembly: Reassembly::default(),
            asked_for: Vec::new(),
            serving: 0,
            served: 0,
            forward: 0,
        };
        session.own.missing.truncate(limits::MISSING_RANGES_MAX);
        let open = session.hello();
        session.send(Message::Open(open));
        session
    }

    /// Returns the space that the session is about.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Returns what the session cost so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Returns how far the session has come in its own steps, commits aside. Never goes down, and
    /// has an end whatever the peer sends.
    pub fn steps_forward(&self) -> u64 {
        self.forward + self.theirs.len() as u64 / ENTRIES_A_STEP
    }

    /// Tells whether the session is over. Steps may be left to poll.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Tells, once, whether the session ended before the peer answered its opening. That answer is
    /// still on its way then, and belongs to no other session.
    pub fn take_unanswered(&mut self) -> bool {
        self.is_over() && !std::mem::replace(&mut self.answered, true)
    }

    /// Returns the next thing to do, or none until something happens.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Takes a message of the peer's about this space (pushes and acknowledgements aside, which are
    /// not part of a session). What comes after the end is ignored.
    ///
    /// # Errors
    /// [`SyncError`]: the session is over. The same error comes as [`Step::Failed`], after the
    /// refusal that is to be sent.
    pub fn handle(&mut self, source: &dyn Source, message: Message) -> Result<(), SyncError> {
        if self.is_over() {
            return Ok(());
        }
        self.stats.bytes_received += frame_bytes(&message) as u64;
        self.stats.commit_bytes_received += message.commit_bytes() as u64;
        self.answered |= message.answers_an_open();
        let result = self.dispatch(source, message);
        if let Err(error) = &result {
            self.fail(error.clone());
        } else {
            self.advance();
        }
        result
    }

    /// Asks the peer for runs: those of [`Step::Request`], or some of them, or what turned out to
    /// be needed later. Does nothing for none, and once this side has said that it is done.
    pub fn want(&mut self, mut runs: Vec<Run>) {
        if runs.is_empty() || self.phase != Phase::Settled || self.own_have.is_some() {
            return;
        }
        runs.retain(|run| !self.diverged.contains_key(&run.log()));
        runs.sort_unstable_by_key(|run| (run.log(), run.after));
        let sound = runs.iter().all(|run| run.after < run.upto.seq) && runs.is_sorted_by(follows);
        assert!(sound, "runs are not empty and do not overlap");
        let mut pieces = runs.chunks(limits::RUNS_PER_MESSAGE_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let (space, last) = (self.space, pieces.peek().is_none());
            self.wants_open += usize::from(last);
            self.send(Message::Want { space, last, runs: piece.to_vec() });
        }
    }

    /// Sends a chunk for the request that is being served, the earliest that is not answered to
    /// the end; `last` ends it, and may come with no bytes. Does nothing once the session is over.
    ///
    /// Commits must be durable here before they are handed over. Call it only while
    /// [`SendCredit`](super::SendCredit) is open.
    pub fn chunk(&mut self, bytes: Vec<u8>, last: bool) {
        if self.is_over() {
            return;
        }
        assert!(self.serving > 0, "chunks answer requests");
        let space = self.space;
        if !bytes.is_empty() || last {
            for (bytes, more) in parts(bytes) {
                self.send(Message::Chunk { space, last_of_want: last && !more, more, bytes });
            }
        }
        self.serving -= usize::from(last);
        self.advance();
    }

    /// Learns how far the own store is durable: `upto` returns, for a log, the last seq up to which
    /// *every* commit is durably held (0 for none). Call it whenever that grew, and after
    /// [`Step::Request`]. One call of `upto` for each log that is still lacking.
    pub fn durable(&mut self, upto: &dyn Fn(&LogId) -> u64) {
        self.targets.retain(|log, target| upto(log) < *target);
        self.unfilled.retain(|lost| upto(&lost.log) < lost.to);
        self.advance();
    }

    /// Returns how many requests of ours the peer has not answered to the end.
    pub fn requests_open(&self) -> usize {
        self.wants_open
    }

    /// Tells whether the peer may still bring something in this session, as far as is known.
    pub fn may_bring(&self) -> bool {
        match self.phase {
            Phase::Opening | Phase::TheirTurn => true,
            Phase::Settled => self.wants_open > 0,
            Phase::Over => false,
        }
    }

    /// Learns that nothing more will come: no request is open, here or at another peer, and what
    /// was delivered is durable, waits for a later time, or was refused.
    ///
    /// If something is lacking the session then ends short of being in sync. Does nothing before
    /// frontiers have been compared.
    pub fn give_up(&mut self) {
        self.gave_up = self.phase == Phase::Settled;
        self.advance();
    }

    /// Breaks the session off from this side, for example because the store refuses to write.
    /// [`SyncError::BrokenOff`] comes as [`Step::Failed`], after the refusal that is to be sent.
    pub fn refuse(&mut self, code: Code, text: &str) {
        if !self.is_over() {
            let text = PeerText::new(text);
            self.send(Message::Refuse { space: self.space, code, text: text.clone() });
            self.end(Step::Failed(SyncError::BrokenOff { code, text }));
        }
    }

    fn dispatch(&mut self, source: &dyn Source, message: Message) -> Result<(), SyncError> {
        if let Some(other) = message.space().filter(|space| *space != self.space) {
            return Err(SyncError::WrongSpace(other));
        }
        let name = message.name();
        match (self.phase, message) {
            (_, Message::Refuse { code, text, .. }) => Err(SyncError::Refused { code, text }),
            (Phase::Opening, Message::Open(open)) => {
                self.on_open(source, open);
                Ok(())
            }
            (Phase::TheirTurn, Message::Ranges { last, items, .. }) => {
                self.on_ranges(source, last, &items)
            }
            (Phase::Settled, message) => self.on_settled(source, message),
            (Phase::Opening, _) => out_of_turn(name, "the peer has not opened the session"),
            (Phase::TheirTurn, _) => out_of_turn(name, "frontiers are being compared"),
            (Phase::Over, _) => Ok(()),
        }
    }

    /// Says that this side is done, once it is, and ends the session when both are.
    fn advance(&mut self) {
        if self.phase != Phase::Settled {
            return;
        }
        let done = self.targets.is_empty() || self.gave_up;
        if self.own_have.is_none() && done && self.forks.is_idle() {
            let all = self.shortfall() == Shortfall::default() || mutant!("short-is-in-sync");
            self.own_have = Some(all);
            self.send(Message::Have { space: self.space, all });
        }
        let (Some(own), Some(peer)) = (self.own_have, self.peer_have) else { return };
        if self.wants_open > 0 || self.serving > 0 {
            return;
        }
        let shortfall = Shortfall { peer_short: !peer, ..self.shortfall() };
        sometimes!("sync-ended-short", !(own && peer));
        self.end(if own && peer { Step::InSync } else { Step::Ended(shortfall) });
    }

    /// Returns what this side is short of now.
    fn shortfall(&self) -> Shortfall {
        Shortfall {
            diverged: self.diverged.keys().copied().collect(),
            lacking: self.targets.len() as u64,
            missing: self.unfilled.len() as u64,
            left_out: self.left_out,
            peer_short: false,
        }
    }

    fn hello(&self) -> Open {
        let frontier = &self.own.frontier;
        let whole = frontier.len() <= limits::FRONTIER_WHOLE_LOGS_MAX;
        Open {
            space: self.space,
            nonce: self.nonce,
            digest: self.own.digest,
            logs: frontier.len() as u64,
            frontier: whole.then(|| frontier.clone()),
            missing: self.own.missing.clone(),
            closed: self.listed(),
        }
    }

    /// Returns the closed logs that the hello lists: of too many, those from a random one on.
    fn listed(&self) -> Vec<(LogId, u64)> {
        let closed = &self.own.closed;
        if closed.len() <= limits::CLOSED_LISTED_MAX {
            return closed.clone();
        }
        let [a, b, c, d, ..] = self.nonce;
        let from = u32::from_le_bytes([a, b, c, d]) as usize % closed.len();
        let from_there = closed.iter().cycle().skip(from).take(limits::CLOSED_LISTED_MAX);
        let mut listed: Vec<_> = from_there.copied().collect();
        listed.sort_unstable();
        listed
    }

    fn send(&mut self, message: Message) {
        self.stats.bytes_sent += frame_bytes(&message) as u64;
        self.stats.commit_bytes_sent += message.commit_bytes() as u64;
        self.steps.push_back(Step::Send(message));
    }

    fn end(&mut self, step: Step) {
        self.phase = Phase::Over;
        self.steps.push_back(step);
    }

    fn fail(&mut self, error: SyncError) {
        sometimes!("sync-refused-by-peer", matches!(error, SyncError::Refused { .. }));
        sometimes!("sync-limit-met", matches!(error, SyncError::TooMany(_)));
        if !matches!(error, SyncError::Refused { .. }) {
            let text = PeerText::new(&error.to_string());
            self.send(Message::Refuse { space: self.space, code: Code::PROTOCOL, text });
        }
        self.end(Step::Failed(error));
    }
}

/// So many entries of the peer's that differ from ours count as one step forward.
const ENTRIES_A_STEP: u64 = 1024;

fn out_of_turn(message: &'static str, state: &'static str) -> Result<(), SyncError> {
    Err(SyncError::OutOfTurn { message, state })
}
