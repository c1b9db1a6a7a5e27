//! Two replicas in memory, and the stream between them.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{CommitId, Hash, LogId, Reader, ReplicaId, Rng, SpaceId, Writer, sha256};
use crate::sync::*;

pub(super) const SPACE: SpaceId = SpaceId([0x77; 32]);
/// About what a commit of one event takes.
pub(super) const COMMIT_BYTES: usize = 250;

pub(super) fn log(n: u64) -> LogId {
    LogId { replica: ReplicaId(sha256("log", &[&n.to_le_bytes()])), incarnation: n % 3 }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) tip: Tip,
    /// A linear extension of causality, as (hlc, log, seq) is.
    pub(super) order: u64,
    pub(super) deps: Vec<(LogId, u64)>,
    /// How many bytes it takes on the wire.
    pub(super) bytes: usize,
}

impl Commit {
    fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_log(&self.tip.log);
        out.put_u64(self.tip.seq);
        out.put(&self.tip.id.0);
        out.put_u64(self.order);
        out.put_u64(self.bytes as u64);
        out.put_len(self.deps.len());
        for (log, seq) in &self.deps {
            out.put_log(log);
            out.put_u64(*seq);
        }
        let filler = self.bytes.saturating_sub(out.len() - start);
        out.put_bytes(&vec![0; filler]);
    }

    fn read(r: &mut Reader<'_>) -> Option<Self> {
        let (log, seq, id, order) =
            (r.log().ok()?, r.u64().ok()?, r.commit_id().ok()?, r.u64().ok()?);
        let bytes = usize::try_from(r.u64().ok()?).ok()?;
        let count = r.count(1000, 48, "deps").ok()?;
        let deps = (0..count).map(|_| Some((r.log().ok()?, r.u64().ok()?)));
        let deps = deps.collect::<Option<Vec<_>>>()?;
        r.bytes(1 << 30, "filler").ok()?;
        Some(Self { tip: Tip { log, seq, id }, order, deps, bytes })
    }
}

/// A store of commits; what was lost is `None`.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) logs: BTreeMap<LogId, Vec<Option<Commit>>>,
    waiting: Vec<Commit>,
}

impl Store {
    pub(super) fn holds(&self, log: &LogId, seq: u64) -> bool {
        self.at(log, seq).is_some()
    }

    pub(super) fn at(&self, log: &LogId, seq: u64) -> Option<&Commit> {
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.logs.get(log)?.get(place)?.as_ref()
    }

    /// Applies a commit and those that waited for it.
    pub(super) fn apply(&mut self, commit: Commit) {
        self.waiting.push(commit);
        while let Some(next) = self.waiting.iter().position(|commit| self.ready(commit)) {
            let commit = self.waiting.swap_remove(next);
            let log = self.logs.entry(commit.tip.log).or_default();
            let place = usize::try_from(commit.tip.seq).expect("small") - 1;
            if place == log.len() {
                log.push(Some(commit));
            } else {
                log[place].get_or_insert(commit);
            }
        }
    }

    fn ready(&self, commit: &Commit) -> bool {
        let len = self.logs.get(&commit.tip.log).map_or(0, Vec::len) as u64;
        (1..=len + 1).contains(&commit.tip.seq)
            && commit.deps.iter().all(|(log, seq)| {
                // A lost commit was applied once.
                self.logs.get(log).is_some_and(|l| l.len() as u64 >= *seq)
            })
    }

    pub(super) fn frontier(&self) -> Vec<Tip> {
        let tips = self.logs.values().filter_map(|log| log.last().map(|tip| tip.as_ref()));
        tips.map(|tip| tip.expect("tests lose no tips").tip).collect()
    }

    fn missing(&self) -> Vec<Missing> {
        let mut list: Vec<Missing> = Vec::new();
        for (log, commits) in &self.logs {
            let lost = commits.iter().zip(1..).filter(|(commit, _)| commit.is_none());
            for (_, seq) in lost {
                match list.last_mut() {
                    Some(last) if last.log == *log && last.to + 1 == seq => last.to = seq,
                    _ => list.push(Missing { log: *log, from: seq, to: seq }),
                }
            }
        }
        list
    }

    /// Up to where there is no hole.
    pub(super) fn upto(&self, log: &LogId) -> u64 {
        let commits = self.logs.get(log).map_or(&[][..], Vec::as_slice);
        commits.iter().take_while(|commit| commit.is_some()).count() as u64
    }

    pub(super) fn digest(&self) -> Hash {
        let mut bytes = Vec::new();
        for tip in self.frontier() {
            bytes.put_log(&tip.log);
            bytes.put_u64(tip.seq);
            bytes.put(&tip.id.0);
        }
        sha256("digest", &[&bytes])
    }

    pub(super) fn pinned(&self) -> Pinned {
        let missing = self.missing();
        let digest = missing.is_empty().then(|| self.digest());
        Pinned { digest, frontier: self.frontier(), missing, closed: Vec::new() }
    }

    fn commits(&self, runs: &[Run]) -> Vec<Commit> {
        let mut found = Vec::new();
        for run in runs {
            let log = self.logs.get(&run.log()).map_or(&[][..], Vec::as_slice);
            let named = run.upto.id != CommitId::ZERO;
            let held = log.iter().flatten().find(|commit| commit.tip.seq == run.upto.seq);
            if held.is_some_and(|commit| named && commit.tip.id != run.upto.id) {
                continue;
            }
            let range = run.after + 1..=run.upto.seq;
            found.extend(log.iter().flatten().filter(|c| range.contains(&c.tip.seq)).cloned());
        }
        found.sort_by_key(|commit| commit.order);
        found
    }
}

/// One replica's end of the connection.
pub(super) struct End {
    pub(super) store: Store,
    pub(super) session: Session,
    decoder: Decoder,
    send_credit: SendCredit,
    receive_credit: ReceiveCredit,
    serving: VecDeque<VecDeque<Commit>>,
    chunk_bytes: usize,
    /// Applied, and to be made durable.
    dirty: bool,
    /// The parts of a chunk that is not complete.
    spool: Vec<u8>,
    /// What was requested and is left to another peer.
    pub(super) drop_runs: bool,
    pub(super) dropped: Vec<Run>,
    /// What is on its way to the other end.
    pub(super) wire: VecDeque<u8>,
    /// Bytes of credit messages, which are the connection's and not the session's.
    pub(super) grants: usize,
    pub(super) outcome: Vec<Step>,
    pub(super) steps: usize,
    /// How many questions about forks it sent.
    pub(super) questions: usize,
}

impl End {
    pub(super) fn new(store: Store, initiator: bool, chunk_bytes: usize) -> Self {
        let nonce = [if initiator { 1 } else { 2 }; 16];
        Self {
            session: Session::new(SPACE, store.pinned(), nonce, initiator),
            store,
            decoder: Decoder::default(),
            send_credit: SendCredit::default(),
            receive_credit: ReceiveCredit::default(),
            serving: VecDeque::new(),
            chunk_bytes,
            dirty: false,
            spool: Vec::new(),
            drop_runs: false,
            dropped: Vec::new(),
            wire: VecDeque::new(),
            grants: 0,
            outcome: Vec::new(),
            steps: 0,
            questions: 0,
        }
    }

    /// Takes bytes off the wire. Errors are the peer's fault.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.decoder.push(bytes);
        while let Some(message) = self.decoder.next().map_err(|e| e.to_string())? {
            self.receive_credit.received(message.commit_bytes()).map_err(|e| e.to_string())?;
            if let Message::Grant { bytes } = message {
                self.send_credit.granted(bytes).map_err(|e| e.to_string())?;
                continue;
            }
            let store = &self.store;
            let source = |log: &LogId, seq: u64| store.at(log, seq).map(|commit| commit.tip.id);
            let received = message.commit_bytes();
            self.session.handle(&source, message).map_err(|e| e.to_string())?;
            self.drain();
            if let Some(bytes) = self.receive_credit.applied(received) {
                let grant = encode(&Message::Grant { bytes });
                self.grants += grant.len();
                self.wire.extend(grant);
            }
        }
        Ok(())
    }

    /// Does what the session says.
    pub(super) fn drain(&mut self) {
        while let Some(step) = self.session.poll() {
            self.steps += 1;
            match step {
                Step::Send(message) => {
                    self.send_credit.sent(message.commit_bytes());
                    self.questions += usize::from(matches!(message, Message::AskId { .. }));
                    self.wire.extend(encode(&message));
                }
                Step::Request(runs) if self.drop_runs => {
                    let (kept, dropped) = runs.into_iter().partition(|run| run.after % 2 == 0);
                    self.dropped = dropped;
                    self.session.want(kept);
                    self.dirty = true;
                }
                Step::Request(runs) => {
                    self.session.want(runs);
                    self.dirty = true;
                }
                Step::Serve { runs } => {
                    self.serving.push_back(self.store.commits(&runs).into());
                }
                Step::Deliver(piece) => {
                    let (bytes, last) = match piece {
                        Piece::Whole(bytes) => (bytes, true),
                        Piece::Part { bytes, offset, last } => {
                            assert_eq!(offset, self.spool.len(), "parts come in order");
                            (bytes, last)
                        }
                    };
                    self.spool.extend(bytes);
                    if !last {
                        continue;
                    }
                    let bytes = std::mem::take(&mut self.spool);
                    let mut reader = Reader::new(&bytes);
                    while let Some(commit) = Commit::read(&mut reader) {
                        self.store.apply(commit);
                    }
                    self.dirty = true;
                }
                other => self.outcome.push(other),
            }
        }
    }

    /// Serves one more chunk, if it may. Tells whether it did.
    pub(super) fn serve(&mut self) -> bool {
        if !self.send_credit.is_open() || self.session.is_over() {
            return false;
        }
        let Some(commits) = self.serving.front_mut() else { return false };
        let mut bytes = Vec::new();
        while let Some(commit) = commits.front() {
            if !bytes.is_empty() && bytes.len() + commit.bytes > self.chunk_bytes {
                break;
            }
            commit.put(&mut bytes);
            commits.pop_front();
        }
        let last = commits.is_empty();
        if last {
            self.serving.pop_front();
        }
        self.session.chunk(bytes, last);
        self.drain();
        true
    }

    /// Makes what was applied durable. Tells whether there was something.
    pub(super) fn sync(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty {
            let store = &self.store;
            self.session.durable(&|log| store.upto(log));
            self.drain();
        }
        dirty
    }

    /// Gives up if nothing more will come.
    pub(super) fn give_up(&mut self) {
        if self.session.requests_open() == 0 && !self.dirty && self.dropped.is_empty() {
            self.session.give_up();
            self.drain();
        }
    }

    pub(super) fn in_sync(&self) -> bool {
        self.outcome.last() == Some(&Step::InSync)
    }
}

/// Two ends, and the half round trips that passed.
pub(super) struct World {
    pub(super) ends: [End; 2],
    pub(super) half_trips: u32,
    /// Of these, those until the first end was done.
    pub(super) initiator_half_trips: u32,
}

impl World {
    pub(super) fn new(a: Store, b: Store) -> Self {
        Self::with_chunks(a, b, 64 << 10)
    }

    pub(super) fn with_chunks(a: Store, b: Store, chunk_bytes: usize) -> Self {
        let ends = [End::new(a, true, chunk_bytes), End::new(b, false, chunk_bytes)];
        Self { ends, half_trips: 0, initiator_half_trips: 0 }
    }

    pub(super) fn over(&self) -> bool {
        self.ends.iter().all(|end| end.session.is_over())
    }

    /// Runs in lock step: what an end says arrives half a round trip later. The second end opens
    /// only once it hears of the first, as a listener does.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.ends[0].drain();
        for _ in 0..1000 {
            let idle = self.ends.iter().all(|end| end.wire.is_empty());
            if idle {
                self.ends.iter_mut().for_each(End::give_up);
                if self.ends.iter().all(|end| end.wire.is_empty()) {
                    return Ok(());
                }
            }
            self.half_trips += u32::from(!self.over());
            self.initiator_half_trips += u32::from(!self.ends[0].session.is_over());
            let bytes = [0, 1].map(|n: usize| Vec::from(std::mem::take(&mut self.ends[n].wire)));
            let [from_a, from_b] = bytes;
            for (end, bytes) in [(1, from_a), (0, from_b)] {
                if bytes.is_empty() {
                    continue;
                }
                let end = &mut self.ends[end];
                end.drain();
                end.receive(&bytes)?;
                while end.serve() {}
                end.sync();
            }
        }
        Err("it does not end".to_owned())
    }

    /// Runs with turns in any order, chosen by `rng`, and streams cut anywhere.
    pub(super) fn run_shuffled(&mut self, rng: &mut Rng) -> Result<(), String> {
        self.ends.iter_mut().for_each(End::drain);
        let mut idle = 0;
        for _ in 0..1_000_000 {
            let side = usize::from(rng.below(2) == 1);
            let [a, b] = &mut self.ends;
            let (end, other) = if side == 0 { (a, b) } else { (b, a) };
            let moved = match rng.below(4) {
                0 => end.serve(),
                1 => end.sync(),
                _ => {
                    let most = [7, 1000, 100_000][usize::try_from(rng.below(3)).expect("small")];
                    let len = other.wire.len().min(most);
                    let bytes: Vec<u8> = other.wire.drain(..len).collect();
                    end.receive(&bytes)?;
                    len > 0
                }
            };
            idle = if moved { 0 } else { idle + 1 };
            if idle == 100 {
                self.ends.iter_mut().for_each(End::give_up);
            }
            if idle > 200 {
                return Ok(());
            }
        }
        Err("it does not end".to_owned())
    }

    /// Bytes both ways, without commits.
    pub(super) fn bytes_besides_commits(&self) -> u64 {
        let cost = |end: &End| {
            let stats = end.session.stats();
            stats.bytes_sent - stats.commit_bytes_sent + end.grants as u64
        };
        self.ends.iter().map(cost).sum()
    }
}

/// Writes `commits` to random ones of `logs` logs, each on top of some others.
pub(super) fn history(rng: &mut Rng, logs: u64, commits: u64) -> Vec<Commit> {
    let mut heads: BTreeMap<LogId, u64> = BTreeMap::new();
    let mut history: Vec<Commit> = Vec::new();
    for order in 0..commits {
        // Each log is begun before one is written to at random.
        let log = log(if order < logs { order } else { rng.below(logs) });
        let mut deps = Vec::new();
        for _ in 0..rng.below(3) {
            if history.is_empty() {
                break;
            }
            let at = usize::try_from(rng.below(history.len() as u64)).expect("small");
            deps.push((history[at].tip.log, history[at].tip.seq));
        }
        let seq = heads.entry(log).or_default();
        *seq += 1;
        let id = CommitId(sha256("commit", &[&order.to_le_bytes()]));
        history.push(Commit { tip: Tip { log, seq: *seq, id }, order, deps, bytes: COMMIT_BYTES });
    }
    history
}

/// Returns a store with a causally closed part of `history`: each commit in `percent` of cases.
pub(super) fn part_of(history: &[Commit], rng: &mut Rng, percent: u64) -> Store {
    let mut store = Store::default();
    for commit in history {
        let prev = commit.tip.seq == 1 || store.holds(&commit.tip.log, commit.tip.seq - 1);
        let closed = prev && commit.deps.iter().all(|(log, seq)| store.holds(log, *seq));
        if closed && rng.below(100) < percent {
            store.apply(commit.clone());
        }
    }
    store
}
