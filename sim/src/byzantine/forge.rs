//! Makes commits, what vouches for them, and chunks, without a store: so they may say anything.
//!
//! An [`Author`] is a log in the making. Its copy that writes on is a fork.

use kdelta_engine::base::{CommitId, GrantId, Hash, Hlc, Key, LogId, Reader, Rng, SpaceId, Writer};
use kdelta_engine::causal::Tip;
use kdelta_engine::crdt::{Action, Delta, Supersedes};
use kdelta_engine::event::tree::Tree;
use kdelta_engine::event::{
    Act, Attestation, Commit, Dictionary, Draft, ForkProof, ForkSide, KeyPair, Kind, Voucher,
    compact,
};

/// A log in the making.
#[derive(Debug, Clone)]
pub(super) struct Author {
    key: KeyPair,
    space: SpaceId,
    log: LogId,
    tree: Tree,
    seq: u64,
    id: CommitId,
}

impl Author {
    /// Begins a log of a key's.
    pub(super) fn new(key: &KeyPair, space: SpaceId, incarnation: u64) -> Self {
        let log = LogId { replica: key.id(), incarnation };
        let (tree, id) = (Tree::default(), CommitId::ZERO);
        Self { key: key.clone(), space, log, tree, seq: 0, id }
    }

    /// Goes on from somebody's tip, as if its log were one's own.
    pub(super) fn usurp(key: &KeyPair, space: SpaceId, tip: Tip) -> Self {
        Self { log: tip.log, seq: tip.seq, id: tip.id, ..Self::new(key, space, 0) }
    }

    /// Returns the last commit's name.
    pub(super) fn tip(&self) -> Tip {
        Tip { log: self.log, seq: self.seq, id: self.id }
    }

    /// Writes a commit of one put; none if a limit forbids it.
    pub(super) fn write(&mut self, rng: &mut Rng, what: Put<'_>) -> Option<Commit> {
        let Put { hlc, deps, key, bytes, grant } = what;
        let payload = vec![b'1'; bytes].into();
        let delta = Delta { action: Action::BytesPut, supersedes: Supersedes::NOTHING, payload };
        let events = vec![(Key::new(key).ok()?, delta)];
        self.append(rng, Draft { deps, grant, events, ..self.draft(Kind::Data, hlc) })
    }

    /// Writes a commit that grants or takes back, whoever may.
    pub(super) fn decree(
        &mut self,
        rng: &mut Rng,
        hlc: Hlc,
        deps: Vec<Tip>,
        (grant, act): (GrantId, Act),
    ) -> Option<Commit> {
        let kind = if matches!(act, Act::Revoke(_)) { Kind::Revoke } else { Kind::Grant };
        let (grant, act) = (Some(grant), Some(act));
        self.append(rng, Draft { deps, grant, act, ..self.draft(kind, hlc) })
    }

    fn draft(&self, kind: Kind, hlc: Hlc) -> Draft {
        let (space, seq, prev) = (self.space, self.seq + 1, self.id);
        Draft { space, seq, prev, kind, ..Draft::genesis(self.log, hlc) }
    }

    fn append(&mut self, rng: &mut Rng, draft: Draft) -> Option<Commit> {
        let commit = draft.seal(rng).ok()?;
        self.tree.append(&commit.id());
        (self.seq, self.id) = (commit.seq(), commit.id());
        Some(commit)
    }

    /// Signs the log as it stands. Of somebody else's log the signature is one's own, and wrong.
    pub(super) fn voucher(&self) -> Voucher {
        let own = LogId { replica: self.key.id(), ..self.log };
        let (tip, root) = (Tip { log: own, ..self.tip() }, self.tree.root());
        let mut attestation = Attestation::sign(&self.key, self.space, tip, root);
        attestation.log = self.log;
        Voucher { attestation, proof: Vec::new() }
    }
}

/// What a forged commit says.
pub(super) struct Put<'a> {
    pub(super) hlc: Hlc,
    /// Ascending by log.
    pub(super) deps: Vec<Tip>,
    pub(super) key: &'a str,
    /// How long the value is.
    pub(super) bytes: usize,
    /// The grant that it names.
    pub(super) grant: Option<GrantId>,
}

/// Puts commits, each after those it follows, and vouchers into a chunk (FORMAT, chunks).
pub(super) fn chunk(space: SpaceId, commits: &[Commit], vouchers: &[Voucher]) -> Vec<u8> {
    let mut dictionary = Dictionary::default();
    for commit in commits {
        dictionary.intern(space, commit.log(), commit.seq() - 1, commit.prev());
        for log in compact::logs(commit) {
            dictionary.intern(space, log, 0, CommitId::ZERO);
        }
    }
    let base_ms = commits.first().map_or(0, |commit| commit.hlc().wall().0);
    let mut out = vec![1];
    out.put(&space.0);
    out.put_u64(base_ms);
    let mut entries = Vec::new();
    dictionary.put_entries(0, &mut entries);
    out.put_bytes(&entries);
    out.put_len(commits.len());
    for commit in commits {
        let mut body = Vec::new();
        // All that it names is in the dictionary.
        let _ = compact::encode(commit, &dictionary, base_ms, &mut body);
        if let Some(ix) = dictionary.find(&space, &commit.log()) {
            dictionary.note(ix, commit.seq(), commit.id());
        }
        out.put_bytes(&body);
    }
    out.put_len(vouchers.len());
    vouchers.iter().for_each(|voucher| voucher.encode(&mut out));
    out
}

/// Leaves out what the commits of a chunk say: their ids, and what vouches for them, stay. None if
/// it is not a whole chunk.
pub(super) fn hollow(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut chunk = Reader::new(bytes);
    let (version, space, base_ms) = (chunk.u8().ok()?, chunk.hash().ok()?, chunk.u64().ok()?);
    let names = chunk.bytes(bytes.len(), "dictionary").ok()?;
    let mut dictionary = Dictionary::default();
    dictionary.read_entries(names).ok()?;
    let mut out = vec![version];
    out.put(&space);
    out.put_u64(base_ms);
    out.put_bytes(names);
    let count = chunk.count(bytes.len(), 1, "commits").ok()?;
    out.put_len(count);
    for _ in 0..count {
        let body = chunk.bytes(bytes.len(), "commit").ok()?;
        let mut commit = compact::decode(body, &dictionary, base_ms, &|_, _| None).ok()?;
        (0..commit.events().len())
            .for_each(|at| commit.erase_event(u16::try_from(at).unwrap_or(0)));
        commit.erase_meta();
        let mut body = Vec::new();
        compact::encode(&commit, &dictionary, base_ms, &mut body).ok()?;
        let ix = dictionary.find(&SpaceId(space), &commit.log())?;
        dictionary.note(ix, commit.seq(), commit.id());
        out.put_bytes(&body);
    }
    let count = chunk.count(bytes.len(), 1, "vouchers").ok()?;
    out.put_len(count);
    for _ in 0..count {
        Voucher::decode(&mut chunk).ok()?.encode(&mut out);
    }
    Some(out)
}

/// Makes the proof that two ends of one log are a fork; none if they are not.
pub(super) fn proof(a: (&Commit, &Author), b: (&Commit, &Author)) -> Option<Vec<u8>> {
    let side = |(commit, author): (&Commit, &Author)| {
        ForkSide::new(commit.header().clone(), author.voucher()).ok()
    };
    let mut bytes = Vec::new();
    ForkProof::new(side(a)?, side(b)?).ok()?.encode(&mut bytes);
    Some(bytes)
}

/// Returns a name that nothing has.
pub(super) fn nowhere(rng: &mut Rng, seq: u64) -> Tip {
    let replica = kdelta_engine::base::ReplicaId(rng.bytes::<32>());
    let id: Hash = rng.bytes();
    Tip { log: LogId { replica, incarnation: rng.u64() }, seq, id: CommitId(id) }
}
