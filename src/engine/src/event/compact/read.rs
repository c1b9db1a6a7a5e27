//! Compact bytes to commit, with or without hashing.

use super::body::{Body, LooseDep};
use crate::base::{CodecError, CommitId, GrantId, Hlc, LogId, SpaceId};
use crate::event::{Act, Commit, Content, Dep, Dictionary, Entry, Event, Header, Kind, Meta};

/// Why compact bytes are not a commit.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the one permitted form, or the commit breaks a rule: refuse them.
    #[error("not a valid commit: {0}")]
    Codec(#[from] CodecError),
    /// The dictionary has no entry under this index: the record that held it is damaged.
    #[error("the dictionary has no entry {ix}")]
    MissingEntry {
        /// The index.
        ix: u64,
    },
    /// The id of an earlier commit is left out, and nobody knows it: find it and decode again.
    #[error("the id of commit {seq} of log {log} is not known")]
    MissingId {
        /// The log.
        log: LogId,
        /// The seq of the earlier commit.
        seq: u64,
    },
    /// A genesis commit whose id is not the space that the dictionary names.
    #[error("the genesis commit founds space {found}, not {expected}")]
    OtherSpace {
        /// The space in the dictionary.
        expected: SpaceId,
        /// The space that the commit founds.
        found: SpaceId,
    },
}

/// A commit as its bytes say it: no hash is computed, and ids that were left out stay out.
///
/// Enough for reading values and history where a checksum protected the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loose {
    /// The space.
    pub space: SpaceId,
    /// The log.
    pub log: LogId,
    /// The number in the log.
    pub seq: u64,
    /// The stamp.
    pub hlc: Hlc,
    /// What the commit is for.
    pub kind: Kind,
    /// The grant that the author acts under.
    pub grant: Option<GrantId>,
    /// What a grant or a revocation says.
    pub act: Option<Act>,
    /// Heads of other logs: log and seq.
    pub deps: Vec<(LogId, u64)>,
    /// The events.
    pub events: Vec<Event>,
    /// The meta leaf as it is; see [`Loose::meta`].
    pub meta_content: Option<Content>,
}

impl Loose {
    /// Reads the meta leaf; none if there is none, or it is erased, or it breaks a rule.
    pub fn meta(&self) -> Option<Meta> {
        self.meta_content.as_ref().and_then(Meta::of)
    }
}

/// Reads a commit, computes all its hashes and checks all its rules.
///
/// `ids` is asked for the id of a commit (log and seq, in the same space) that was left out and
/// that the dictionary does not know.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(
    bytes: &[u8],
    dictionary: &Dictionary,
    base_ms: u64,
    ids: &dyn Fn(&LogId, u64) -> Option<CommitId>,
) -> Result<Commit, DecodeError> {
    let body = Body::read(bytes, dictionary, base_ms)?;
    let Entry { space, log, .. } = *body.entry;
    let find = |ix: u32, log: &LogId, seq: u64| {
        let id = dictionary.id(ix, seq).or_else(|| ids(log, seq));
        id.ok_or(DecodeError::MissingId { log: *log, seq })
    };
    let prev = match body.prev {
        Some(prev) => prev,
        None if body.seq == 1 => CommitId::ZERO,
        None => find(body.ix, &log, body.seq - 1)?,
    };
    let mut deps = Vec::with_capacity(body.deps.len());
    for LooseDep { ix, log, seq, id } in body.deps {
        let id = id.map_or_else(|| find(ix, &log, seq), Ok)?;
        deps.push(Dep { log, seq, id });
    }
    let header = Header {
        space: if body.kind == Kind::Genesis { SpaceId::ZERO } else { space },
        log,
        seq: body.seq,
        prev,
        hlc: body.hlc,
        deps,
        grant: body.grant,
        kind: body.kind,
        genesis: body.genesis,
        act: body.act,
        // The last four are filled in by `assemble`.
        count: 0,
        has_meta: false,
        size: 0,
        root: [0; 32],
    };
    let commit = Commit::assemble(header, body.events, body.meta, body.size)?;
    if commit.space() == space {
        Ok(commit)
    } else {
        Err(DecodeError::OtherSpace { expected: space, found: commit.space() })
    }
}

/// Reads a commit without hashing and without looking up ids.
///
/// # Errors
/// [`DecodeError`]: damage that no checksum found, or a dictionary with holes.
pub fn read(bytes: &[u8], dictionary: &Dictionary, base_ms: u64) -> Result<Loose, DecodeError> {
    let body = Body::read(bytes, dictionary, base_ms)?;
    Ok(Loose {
        space: body.entry.space,
        log: body.entry.log,
        seq: body.seq,
        hlc: body.hlc,
        kind: body.kind,
        grant: body.grant,
        act: body.act,
        deps: body.deps.iter().map(|dep| (dep.log, dep.seq)).collect(),
        events: body.events,
        meta_content: body.meta,
    })
}
