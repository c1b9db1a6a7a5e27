//! Attacks that need no real node: what is said when, and what of it is forged.

use std::collections::BTreeMap;

use kdelta_engine::base::{CommitId, Hlc, Now, ReplicaId, Rng, SpaceId, WallTime};
use kdelta_engine::causal::Tip;
use kdelta_engine::event::{Commit, KeyPair, Voucher};
use kdelta_engine::limits::{CHUNK_BYTES_MAX, RUNS_PER_MESSAGE_MAX, WANTS_PER_SESSION_MAX};
use kdelta_engine::node::LinkId;
use kdelta_engine::sync::{Message, Open, Run, encode};

use super::forge::{Author, Put, chunk, nowhere, proof};
use super::trespass::{Pass, Trespass};
use super::{Action, Attack, Line, words};

/// What a peer without a store of its own says.
#[derive(Debug)]
pub(super) struct Script {
    kind: Attack,
    rng: Rng,
    key: KeyPair,
    space: SpaceId,
    last: Hlc,
    wall: WallTime,
    ticks: u64,
    /// Counts the logs that were begun.
    logs: u64,
    /// The log whose branches are told, up to where they part.
    trunk: Option<(Author, Vec<Commit>)>,
    /// The branch that was told last.
    branch: Option<(Author, Commit)>,
    /// What it may do in an owned space, and could.
    pass: Option<Pass>,
    /// The branches, by peer, upon which something was built last that is not valid.
    refused: BTreeMap<ReplicaId, (Author, Vec<Commit>)>,
}

impl Script {
    pub(super) fn new(kind: Attack, rng: Rng, key: KeyPair) -> Self {
        Self {
            kind,
            rng,
            key,
            space: SpaceId::ZERO,
            last: Hlc::default(),
            wall: WallTime(0),
            ticks: 0,
            logs: 0,
            trunk: None,
            branch: None,
            pass: None,
            refused: BTreeMap::new(),
        }
    }

    pub(super) fn join(&mut self, now: Now, space: SpaceId) {
        (self.space, self.wall) = (space, now.wall);
    }

    /// Learns what it was granted.
    pub(super) fn granted(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    pub(super) fn connected(&mut self, link: LinkId) -> Vec<Action> {
        let rng = &mut self.rng;
        let bytes = match self.kind {
            Attack::Mute => return Vec::new(),
            Attack::Garbage => words::garbage(rng),
            Attack::UnknownVersion => words::strange_hello(rng),
            _ => words::hello(rng),
        };
        vec![Action::Send { link, bytes }]
    }

    pub(super) fn received(&mut self, link: LinkId, line: &mut Line, bytes: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        line.decoder.push(bytes);
        // Honest peers send frames; what else comes is of no interest.
        while let Ok(Some(message)) = line.decoder.next() {
            match message {
                Message::Hello(_) => {
                    line.greeted = true;
                    self.greeted(link, line, &mut actions);
                }
                Message::Open(open) if self.opens() => self.opened(link, line, &open, &mut actions),
                Message::Want { last: true, .. } if self.kind == Attack::InflatedFrontier => {
                    let bytes = Vec::new();
                    let (space, last_of_want, more) = (self.space, true, false);
                    let nothing = Message::Chunk { space, last_of_want, more, bytes };
                    actions.push(Action::Send { link, bytes: encode(&nothing) });
                }
                _ => {}
            }
        }
        actions
    }

    /// Tells whether sessions are taken part in: without one nothing that is pushed is looked at.
    fn opens(&self) -> bool {
        !matches!(
            self.kind,
            Attack::Mute
                | Attack::Garbage
                | Attack::UnknownVersion
                | Attack::Oversize
                | Attack::Trickle
                | Attack::LateGarbage
                | Attack::Truncated
        )
    }

    fn greeted(&mut self, link: LinkId, line: &mut Line, actions: &mut Vec<Action>) {
        let dials = self.opens() && line.outgoing;
        let rng = &mut self.rng;
        let bytes = match self.kind {
            Attack::Oversize => words::oversize(rng),
            Attack::Trickle => words::longest(self.space),
            Attack::LateGarbage => words::garbage(rng),
            Attack::Truncated => {
                let mut frame = words::open(rng, self.space, Vec::new());
                frame.truncate(frame.len() / 2);
                frame
            }
            _ if dials => {
                line.opened = true;
                words::open(rng, self.space, Vec::new())
            }
            _ => return,
        };
        actions.push(Action::Send { link, bytes });
        if self.kind == Attack::Truncated {
            actions.push(Action::Close { link });
        }
    }

    /// Answers an opening, if it is none itself, and goes on from what it says.
    fn opened(&mut self, link: LinkId, line: &mut Line, open: &Open, actions: &mut Vec<Action>) {
        let theirs: Vec<Tip> = open.frontier.iter().flatten().copied().collect();
        if !std::mem::take(&mut line.opened) {
            let claimed = match self.kind {
                Attack::InflatedFrontier => words::inflated(&mut self.rng, &theirs),
                _ => Vec::new(),
            };
            let bytes = words::open(&mut self.rng, self.space, claimed);
            actions.push(Action::Send { link, bytes });
        }
        match self.kind {
            Attack::Impersonate => {
                // The peer's own log last: its seq is taken by nobody else.
                let mut tips = theirs;
                tips.sort_by_key(|tip| tip.log.replica == line.peer);
                for tip in tips {
                    let mut author = Author::usurp(&self.key, self.space, tip);
                    let commit = self.write(&mut author, Vec::new(), 16);
                    self.push(link, &commit, &[author.voucher()], actions);
                }
            }
            Attack::RequestFlood => self.want_all(link, &theirs, actions),
            Attack::Greedy => {
                let (space, last, runs) = (self.space, true, Vec::new());
                let bytes = encode(&Message::Want { space, last, runs });
                let wants = (0..=WANTS_PER_SESSION_MAX).map(|_| bytes.clone());
                actions.extend(wants.map(|bytes| Action::Send { link, bytes }));
            }
            _ => {}
        }
    }

    /// Asks for all, commit by commit, as often as one may, and for proofs of nothing.
    fn want_all(&mut self, link: LinkId, theirs: &[Tip], actions: &mut Vec<Action>) {
        let single = |tip: &Tip| {
            // Only the last can be named; of the others whatever is there is meant.
            let (log, last) = (tip.log, *tip);
            (0..tip.seq).map(move |after| {
                let id = if after + 1 == last.seq { last.id } else { CommitId::ZERO };
                Run { after, upto: Tip { log, seq: after + 1, id } }
            })
        };
        let runs: Vec<Run> = theirs.iter().flat_map(single).take(RUNS_PER_MESSAGE_MAX).collect();
        for _ in 0..WANTS_AT_ONCE {
            let want = Message::Want { space: self.space, last: true, runs: runs.clone() };
            actions.push(Action::Send { link, bytes: encode(&want) });
        }
        let mut logs: Vec<_> = (0..256).map(|_| nowhere(&mut self.rng, 1).log).collect();
        logs.sort_unstable();
        let ask = Message::AskProofs { space: self.space, logs };
        actions.push(Action::Send { link, bytes: encode(&ask) });
    }

    /// Says a bounded amount on each link that is open.
    pub(super) fn tick(&mut self, now: Now, lines: &BTreeMap<LinkId, Line>) -> Vec<Action> {
        (self.wall, self.ticks) = (now.wall, self.ticks + 1);
        let mut actions = Vec::new();
        let greeted: Vec<LinkId> =
            lines.iter().filter(|(_, line)| line.greeted).map(|(link, _)| *link).collect();
        match self.kind {
            Attack::Garbage => {
                for link in lines.keys() {
                    let bytes = words::garbage(&mut self.rng);
                    actions.push(Action::Send { link: *link, bytes });
                }
            }
            Attack::LateInvalid => self.late_invalid(&greeted, &mut actions),
            Attack::Branches => self.tell_branches(lines, &mut actions),
            _ => greeted.into_iter().for_each(|link| self.on_link(link, &mut actions)),
        }
        actions
    }

    fn on_link(&mut self, link: LinkId, actions: &mut Vec<Action>) {
        let space = self.space;
        let mut say = |bytes| actions.push(Action::Send { link, bytes });
        match self.kind {
            Attack::LateGarbage => say(words::garbage(&mut self.rng)),
            Attack::Trickle => say(vec![0]),
            Attack::Oversize => say(words::oversize(&mut self.rng)),
            // One link at a time: it costs much to play.
            Attack::Endless if self.ticks % 3 == link.0 % 3 => {
                for _ in 0..PARTS_AT_ONCE {
                    let bytes = vec![0; CHUNK_BYTES_MAX];
                    say(encode(&Message::Push { space, more: true, bytes }));
                }
            }
            Attack::Impersonate | Attack::InflatedFrontier | Attack::RequestFlood => {
                // If a session is under way this breaks a rule, and the next one finds none.
                say(words::open(&mut self.rng, space, Vec::new()));
            }
            Attack::ProofFlood => {
                for _ in 0..PROOFS_AT_ONCE {
                    let bytes = self.stray_proof().unwrap_or_default();
                    let last = bytes.is_empty();
                    say(encode(&Message::Proof { space, last, bytes }));
                }
            }
            // Over one link, and not all at once.
            Attack::Crowd if self.logs < CROWD => {
                let (mut commits, mut vouchers) = (Vec::new(), Vec::new());
                for _ in 0..CROWD_AT_ONCE {
                    let mut author = self.author();
                    commits.extend(self.write(&mut author, Vec::new(), 8));
                    vouchers.push(author.voucher());
                }
                self.push(link, &commits, &vouchers, actions);
            }
            Attack::Trespass => {
                let trespass = Trespass {
                    key: &self.key,
                    space,
                    now: Hlc::from_wall(self.wall),
                    pass: self.pass.as_ref(),
                };
                self.logs += 1;
                let (commits, voucher) = trespass.commits(&mut self.rng, self.logs);
                self.push(link, &commits, &[voucher], actions);
            }
            Attack::WithheldDeps => {
                for n in 0..WITHHELD_AT_ONCE {
                    self.withhold(link, n % 4 == 3, actions);
                }
            }
            _ => {}
        }
    }

    /// Pushes a commit whose dep is nowhere, or whose predecessor is kept back.
    fn withhold(&mut self, link: LinkId, gap: bool, actions: &mut Vec<Action>) {
        let mut author = self.author();
        let deps = if gap { Vec::new() } else { vec![nowhere(&mut self.rng, 1)] };
        let first = self.write(&mut author, deps, WITHHELD_BYTES);
        let second = self.write(&mut author, Vec::new(), 16);
        let commits = if gap { second } else { first.into_iter().chain(second).collect() };
        self.push(link, &commits, &[author.voucher()], actions);
    }

    /// Lets a commit that is not valid wait at one peer, and gives its dep to another.
    fn late_invalid(&mut self, links: &[LinkId], actions: &mut Vec<Action>) {
        let count = links.len() as u64;
        let Some(turn) = self.ticks.checked_rem(count) else { return };
        let at = |turn: u64| links.get(usize::try_from(turn % count).unwrap_or(0)).copied();
        let (Some(one), Some(other)) = (at(turn), at(turn + 1)) else { return };
        let (mut needed, mut invalid) = (self.author(), self.author());
        let dep = self.write(&mut needed, Vec::new(), 16);
        // Not after the stamp of its dep, or not the dep that there is.
        self.last = Hlc(self.last.0.saturating_sub(4));
        let mut named = needed.tip();
        if self.ticks.is_multiple_of(2) {
            named.id = CommitId(self.rng.bytes());
            self.last = Hlc(self.last.0.saturating_add(8));
        }
        let waits = self.write(&mut invalid, vec![named], 16);
        self.last = Hlc(self.last.0.saturating_add(8));
        self.push(one, &waits, &[invalid.voucher()], actions);
        self.push(other, &dep, &[needed.voucher()], actions);
    }

    /// Tells each peer a branch of its own, and some of them commits that build upon it, and all of
    /// them proofs now and then.
    fn tell_branches(&mut self, lines: &BTreeMap<LinkId, Line>, actions: &mut Vec<Action>) {
        let (trunk, shared) = match self.trunk.take() {
            Some(trunk) => trunk,
            None => {
                let mut trunk = self.author();
                let mut shared = self.write(&mut trunk, Vec::new(), 16);
                shared.extend(self.write(&mut trunk, Vec::new(), 16));
                (trunk, shared)
            }
        };
        let greeted = lines.iter().filter(|(_, line)| line.greeted);
        for (n, (link, line)) in greeted.enumerate() {
            if self.ticks > BRANCH_TICKS {
                break;
            }
            let mut branch = trunk.clone();
            let mut commits = shared.clone();
            let tip = self.write(&mut branch, Vec::new(), 16);
            commits.extend(tip.iter().cloned());
            if let Some((branch, commits)) = self.refused.remove(&line.peer) {
                self.build_upon(*link, &branch, &commits, true, actions);
            }
            match (self.ticks + n as u64) % 4 {
                0 => self.build_upon(*link, &branch, &commits, true, actions),
                1 => {
                    // Nothing comes to count by what is not valid itself, now or later.
                    self.build_upon(*link, &branch, &commits, false, actions);
                    self.refused.insert(line.peer, (branch.clone(), commits));
                }
                _ => self.push(*link, &commits, &[branch.voucher()], actions),
            }
            let Some(tip) = tip.into_iter().next() else { continue };
            if let Some((other, its_tip)) = self.branch.replace((branch.clone(), tip.clone()))
                && self.ticks.is_multiple_of(3)
                && let Some(bytes) = proof((&tip, &branch), (&its_tip, &other))
            {
                let proof = Message::Proof { space: self.space, last: false, bytes };
                actions.push(Action::Send { link: *link, bytes: encode(&proof) });
            }
        }
        self.trunk = Some((trunk, shared));
    }

    /// Pushes a branch, and a commit that builds upon it and is valid or not.
    fn build_upon(
        &mut self,
        link: LinkId,
        branch: &Author,
        commits: &[Commit],
        valid: bool,
        actions: &mut Vec<Action>,
    ) {
        let (mut upon, last) = (self.author(), self.last);
        if !valid {
            // Not after what it builds upon.
            self.last = Hlc(last.0.saturating_sub(4));
        }
        let mut commits = commits.to_vec();
        commits.extend(self.write(&mut upon, vec![branch.tip()], 16));
        self.last = self.last.max(last);
        self.push(link, &commits, &[branch.voucher(), upon.voucher()], actions);
    }

    /// Makes the proof that a log was forked which nobody else has heard of.
    fn stray_proof(&mut self) -> Option<Vec<u8>> {
        let mut one = self.author();
        let mut other = one.clone();
        let (a, b) = (self.write(&mut one, Vec::new(), 16), self.write(&mut other, Vec::new(), 17));
        proof((a.first()?, &one), (b.first()?, &other))
    }

    fn author(&mut self) -> Author {
        self.logs += 1;
        Author::new(&self.key, self.space, self.logs)
    }

    /// Writes a commit in an author's log, stamped after all that were written before.
    fn write(&mut self, author: &mut Author, deps: Vec<Tip>, bytes: usize) -> Vec<Commit> {
        self.last = self.last.next().max(Hlc::from_wall(self.wall));
        let put = Put { hlc: self.last, deps, key: "forged", bytes, grant: None };
        author.write(&mut self.rng, put).into_iter().collect()
    }

    fn push(
        &self,
        link: LinkId,
        commits: &[Commit],
        vouchers: &[Voucher],
        actions: &mut Vec<Action>,
    ) {
        let bytes = chunk(self.space, commits, vouchers);
        let push = Message::Push { space: self.space, more: false, bytes };
        actions.push(Action::Send { link, bytes: encode(&push) });
    }
}

/// One less than the requests that may be open at once, so that none is too many.
const WANTS_AT_ONCE: usize = kdelta_engine::limits::WANTS_OPEN_MAX - 1;
const PARTS_AT_ONCE: u64 = 4;
const PROOFS_AT_ONCE: u64 = 8;
/// How many logs a crowd is at least, and how many of them are told of at once.
const CROWD: u64 = 280;
const CROWD_AT_ONCE: u64 = 70;
/// How many commits whose past is kept back are pushed at once, and the bytes of each.
const WITHHELD_AT_ONCE: u64 = 16;
const WITHHELD_BYTES: usize = 16 << 10;
/// How long new branches are told, in ticks.
const BRANCH_TICKS: u64 = 8;
