//! The header of a commit: what is hashed into its id (FORMAT 3).
//!
//! A decoded header keeps every rule that can be checked without other commits and without the
//! leaves. Whether `root`, `count` and `size` agree with the leaves is checked where a
//! [`Commit`](super::Commit) is made.

use super::Measure;
use super::act::{Act, Grant};
use super::tip::{Dep, check_ascending};
use crate::base::{
    CodecError, CommitId, GrantId, Hash, Hlc, LogId, Reader, ReplicaId, SpaceId, Writer, sha256,
};
use crate::causal::check_seq;
use crate::limits;

/// The version of the commit format.
pub const VERSION: u8 = 1;
/// The suite of algorithms: SHA-256 and Ed25519.
pub const SUITE: u8 = 1;

/// What a commit is for.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Founds a space; its id is the space's id. No events.
    Genesis,
    /// Carries 1 to 4096 events.
    Data,
    /// Only takes note of heads. No events.
    Ack,
    /// Creates or deletes a tag, which is in its meta leaf. No events.
    Tag,
    /// Lets somebody do something, see [`Grant`]. No events.
    Grant,
    /// Takes a grant back. No events.
    Revoke,
}

impl Kind {
    /// Returns the number in the formats.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Genesis => 0,
            Self::Data => 1,
            Self::Ack => 2,
            Self::Tag => 3,
            Self::Grant => 4,
            Self::Revoke => 5,
        }
    }

    /// Reads the number in the formats.
    ///
    /// # Errors
    /// [`CodecError::Unknown`]: a newer version of kdelta wrote this.
    pub fn from_byte(byte: u8) -> Result<Self, CodecError> {
        Ok(match byte {
            0 => Self::Genesis,
            1 => Self::Data,
            2 => Self::Ack,
            3 => Self::Tag,
            4 => Self::Grant,
            5 => Self::Revoke,
            _ => return Err(CodecError::Unknown("commit kind")),
        })
    }

    /// Takes what only some kinds have: what a genesis says, or an act.
    pub(super) fn decode_rest(
        self,
        reader: &mut Reader<'_>,
    ) -> Result<(Option<Genesis>, Option<Act>), CodecError> {
        Ok(match self {
            Self::Genesis => (Some(Genesis::decode(reader)?), None),
            Self::Grant => (None, Some(Act::Grant(Grant::decode(reader)?))),
            Self::Revoke => (None, Some(Act::Revoke(GrantId(reader.hash()?)))),
            Self::Data | Self::Ack | Self::Tag => (None, None),
        })
    }
}

/// Who may write in a space.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Every correctly attested log counts.
    Open,
    /// Grants decide.
    Owned(Owned),
}

/// Who owns a space, and what else it asks of those who write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// How much work must be in the replica id of an author, in bits (see
    /// [`work`](crate::base::work())).
    pub difficulty: u8,
    /// Replicas that may do everything, the most senior first. No two are the same.
    pub roots: Vec<ReplicaId>,
}

/// What only a genesis commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Who may write.
    pub mode: Mode,
    /// Random, so that no two spaces share an id.
    pub nonce: [u8; 32],
}

impl Genesis {
    /// Appends the canonical form.
    pub(super) fn encode(&self, out: &mut impl Writer) {
        out.put_u8(match self.mode {
            Mode::Open => 0,
            Mode::Owned(_) => 1,
        });
        out.put(&self.nonce);
        if let Mode::Owned(owned) = &self.mode {
            owned.encode(out);
        }
    }

    /// Takes the canonical form.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (mode, nonce) = (reader.u8()?, reader.array()?);
        let mode = match mode {
            0 => Mode::Open,
            1 => Mode::Owned(Owned::decode(reader)?),
            _ => return Err(CodecError::Unknown("space mode")),
        };
        Ok(Self { mode, nonce })
    }

    fn check(&self) -> Result<(), CodecError> {
        match &self.mode {
            Mode::Open => Ok(()),
            Mode::Owned(owned) => owned.check(),
        }
    }
}

impl Owned {
    /// Appends the canonical form.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_u8(self.difficulty);
        out.put_len(self.roots.len());
        self.roots.iter().for_each(|root| out.put(&root.0));
    }

    /// Takes the canonical form.
    ///
    /// # Errors
    /// [`CodecError`] for any other form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let difficulty = reader.u8()?;
        let count = reader.count(limits::ROOTS_MAX, 32, "roots")?;
        let roots = (0..count).map(|_| reader.array().map(ReplicaId));
        let owned = Self { difficulty, roots: roots.collect::<Result<_, _>>()? };
        owned.check()?;
        Ok(owned)
    }

    fn check(&self) -> Result<(), CodecError> {
        let Self { difficulty, roots } = self;
        if *difficulty > limits::DIFFICULTY_MAX {
            return Err(CodecError::TooLarge("difficulty"));
        }
        if roots.len() > limits::ROOTS_MAX {
            return Err(CodecError::TooLarge("roots"));
        }
        let mut sorted = roots.clone();
        sorted.sort_unstable();
        if roots.is_empty() || !sorted.is_sorted_by(|a, b| a < b) {
            return Err(CodecError::NotCanonical("an owned space has roots, each once"));
        }
        Ok(())
    }
}

/// The header of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The space; all zero in a genesis commit, whose own id names the space.
    pub space: SpaceId,
    /// The log.
    pub log: LogId,
    /// The number in the log, from 1, without holes.
    pub seq: u64,
    /// The id of the commit before it in the log; all zero iff `seq` is 1.
    pub prev: CommitId,
    /// Greater than the stamp of `prev` and of every dep.
    pub hlc: Hlc,
    /// Heads of other logs seen since `prev`, strictly ascending by log.
    pub deps: Vec<Dep>,
    /// The grant that the author acts under; none in open spaces. Of a grant, its parent.
    pub grant: Option<GrantId>,
    /// What the commit is for.
    pub kind: Kind,
    /// Present iff `kind` is [`Kind::Genesis`].
    pub genesis: Option<Genesis>,
    /// Present iff `kind` is [`Kind::Grant`] or [`Kind::Revoke`], and of that kind.
    pub act: Option<Act>,
    /// How many events there are.
    pub count: u16,
    /// Whether a meta leaf follows the events.
    pub has_meta: bool,
    /// Sum of the canonical lengths of all leaves, in bytes, as they were when sealed.
    pub size: u32,
    /// The RFC 6962 root over the leaves.
    pub root: Hash,
}

impl Header {
    /// Appends the canonical form, the only one there is.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_u8(VERSION);
        out.put_u8(SUITE);
        out.put(&self.space.0);
        out.put_log(&self.log);
        out.put_varint(self.seq);
        out.put(&self.prev.0);
        out.put_u64(self.hlc.0);
        out.put_len(self.deps.len());
        for dep in &self.deps {
            dep.encode(out);
        }
        out.put_u8(u8::from(self.grant.is_some()));
        if let Some(grant) = &self.grant {
            out.put(&grant.0);
        }
        out.put_u8(self.kind.to_byte());
        if let Some(genesis) = &self.genesis {
            genesis.encode(out);
        }
        if let Some(act) = &self.act {
            act.encode(out);
        }
        out.put_varint(u64::from(self.count));
        out.put_u8(u8::from(self.has_meta));
        out.put_varint(u64::from(self.size));
        out.put(&self.root);
    }

    /// Reads a canonical header that takes all of `bytes`.
    ///
    /// # Errors
    /// [`CodecError`] for any other form and for a header that contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(CodecError::Unknown("commit version"));
        }
        if reader.u8()? != SUITE {
            return Err(CodecError::Unknown("commit suite"));
        }
        let space = SpaceId(reader.hash()?);
        let log = reader.log()?;
        let seq = reader.varint()?;
        let prev = reader.commit_id()?;
        let hlc = reader.hlc()?;
        let deps = reader.count(limits::DEPS_MAX, Dep::BYTES_MIN, "deps")?;
        let deps = (0..deps).map(|_| Dep::decode(&mut reader)).collect::<Result<_, _>>()?;
        let grant = if flag(&mut reader)? { Some(GrantId(reader.hash()?)) } else { None };
        let kind = Kind::from_byte(reader.u8()?)?;
        let (genesis, act) = kind.decode_rest(&mut reader)?;
        let count = u16::try_from(reader.varint()?).map_err(|_| CodecError::TooLarge("events"))?;
        let has_meta = flag(&mut reader)?;
        let size = u32::try_from(reader.varint()?).map_err(|_| CodecError::TooLarge("commit"))?;
        let root = reader.hash()?;
        reader.finish()?;
        let header = Self {
            space,
            log,
            seq,
            prev,
            hlc,
            deps,
            grant,
            kind,
            genesis,
            act,
            count,
            has_meta,
            size,
            root,
        };
        header.check()?;
        Ok(header)
    }

    /// Returns the commit's id: the hash of the canonical form.
    pub fn id(&self) -> CommitId {
        // Hashing one piece is faster than hashing its twenty fields one by one.
        let mut bytes = Vec::with_capacity(256 + self.deps.len() * (Dep::BYTES_MIN + 9));
        self.encode(&mut bytes);
        CommitId(sha256("kdelta/commit/1", &[&bytes]))
    }

    /// Returns the length of the canonical form, in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut measure = Measure(0);
        self.encode(&mut measure);
        measure.0
    }

    /// Checks every rule that needs neither leaves nor other commits (FORMAT 3.2).
    pub(super) fn check(&self) -> Result<(), CodecError> {
        let rule = |holds: bool, text| if holds { Ok(()) } else { Err(NotCanonical(text)) };
        use CodecError::NotCanonical;
        check_seq(self.seq)?;
        let first = self.seq == 1;
        rule(first == (self.prev == CommitId::ZERO), "only a log's first commit has no prev")?;
        if self.deps.len() > limits::DEPS_MAX {
            return Err(CodecError::TooLarge("deps"));
        }
        for dep in &self.deps {
            check_seq(dep.seq)?;
            rule(dep.log != self.log, "no dep is in the commit's own log")?;
        }
        check_ascending(&self.deps)?;
        let genesis = self.kind == Kind::Genesis;
        rule(genesis == (self.space == SpaceId::ZERO), "only genesis has no space")?;
        rule(genesis == self.genesis.is_some(), "only genesis has a mode and a nonce")?;
        self.genesis.as_ref().map_or(Ok(()), Genesis::check)?;
        match (self.kind, &self.act) {
            (Kind::Grant, Some(Act::Grant(grant))) => grant.check()?,
            (Kind::Revoke, Some(Act::Revoke(_))) => {}
            (Kind::Grant | Kind::Revoke, _) | (_, Some(_)) => {
                return Err(NotCanonical(
                    "grants and revocations have their act, no other kind has",
                ));
            }
            (_, None) => {}
        }
        rule(!genesis || first, "genesis is the first commit of its log")?;
        rule(
            !genesis || self.deps.is_empty() && self.grant.is_none(),
            "nothing is before genesis",
        )?;
        rule((self.kind == Kind::Data) == (self.count > 0), "data has events, no other kind has")?;
        rule(self.kind != Kind::Tag || self.has_meta, "a tag commit has a meta leaf")?;
        if usize::from(self.count) > limits::COMMIT_EVENTS_MAX {
            return Err(CodecError::TooLarge("events"));
        }
        if self.size as usize > limits::COMMIT_BYTES_MAX {
            return Err(CodecError::TooLarge("commit"));
        }
        rule((self.size == 0) == (self.count == 0 && !self.has_meta), "size is that of the leaves")
    }
}

/// Takes a byte that is 0 or 1.
fn flag(reader: &mut Reader<'_>) -> Result<bool, CodecError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::NotCanonical("a flag is 0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ReplicaId;
    use crate::event::arbitrary::{random_bytes, some_commit};
    use proptest::prelude::*;

    fn encoded(header: &Header) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_header_has_one_encoding(commit in some_commit()) {
            let bytes = encoded(commit.header());
            prop_assert_eq!(bytes.len(), commit.header().encoded_len());
            let header = Header::decode(&bytes).unwrap();
            prop_assert_eq!(header.id(), commit.id());
            prop_assert_eq!(&header, commit.header());
        }

        #[test]
        fn a_flipped_bit_or_a_cut_off_end_is_refused_or_gives_another_id(commit in some_commit()) {
            let bytes = encoded(commit.header());
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(header) = Header::decode(&bytes) {
                    prop_assert_ne!(header.id(), commit.id(), "bit {}", bit);
                    prop_assert_eq!(encoded(&header), bytes, "bit {}", bit);
                }
            }
            for len in 0..bytes.len() {
                prop_assert!(Header::decode(&bytes[..len]).is_err());
            }
            prop_assert!(Header::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in random_bytes(400)) {
            let bytes = [&[VERSION, SUITE][..], &bytes].concat();
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(encoded(&header), bytes);
            }
        }
    }

    fn data() -> Header {
        let log = |byte| LogId { replica: ReplicaId([byte; 32]), incarnation: 1 };
        let dep = |byte| Dep { log: log(byte), seq: 1, id: CommitId([1; 32]) };
        Header {
            space: SpaceId([1; 32]),
            log: log(5),
            seq: 2,
            prev: CommitId([2; 32]),
            hlc: Hlc(3),
            deps: vec![dep(4), dep(6)],
            grant: None,
            kind: Kind::Data,
            genesis: None,
            act: None,
            count: 1,
            has_meta: false,
            size: 25,
            root: [4; 32],
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        type Change = fn(&mut Header);
        let genesis = Genesis { mode: Mode::Open, nonce: [0; 32] };
        assert_eq!(Header::decode(&encoded(&data())), Ok(data()));
        let changes: [(&str, Change); 16] = [
            ("seq 0", |h| h.seq = 0),
            ("seq 1 with prev", |h| h.seq = 1),
            ("seq 2 without prev", |h| h.prev = CommitId::ZERO),
            ("seq over the limit", |h| h.seq = limits::SEQ_MAX + 1),
            ("no space", |h| h.space = SpaceId::ZERO),
            ("own log as dep", |h| h.deps[0].log = h.log),
            ("deps out of order", |h| h.deps.reverse()),
            ("one dep twice", |h| h.deps[0] = h.deps[1]),
            ("dep with seq 0", |h| h.deps[0].seq = 0),
            ("data without events", |h| h.count = 0),
            ("too many events", |h| h.count = 4097),
            ("ack with events", |h| h.kind = Kind::Ack),
            ("tag without meta", |h| (h.kind, h.count, h.size) = (Kind::Tag, 0, 0)),
            ("nothing of some size", |h| (h.kind, h.count) = (Kind::Ack, 0)),
            ("something of no size", |h| h.size = 0),
            ("too large", |h| h.size = u32::MAX),
        ];
        for (name, change) in changes {
            let mut header = data();
            change(&mut header);
            assert!(Header::decode(&encoded(&header)).is_err(), "{name}");
        }
        let founding = Header {
            space: SpaceId::ZERO,
            seq: 1,
            prev: CommitId::ZERO,
            deps: vec![],
            kind: Kind::Genesis,
            genesis: Some(genesis),
            count: 0,
            size: 0,
            ..data()
        };
        assert_eq!(Header::decode(&encoded(&founding)).as_ref(), Ok(&founding));
        let changes: [(&str, Change); 5] = [
            ("genesis in a space", |h| h.space = SpaceId([1; 32])),
            ("genesis later", |h| (h.seq, h.prev) = (2, CommitId([1; 32]))),
            ("genesis with deps", |h| h.deps = data().deps),
            ("genesis under a grant", |h| h.grant = Some(GrantId([1; 32]))),
            ("genesis with events", |h| (h.count, h.size) = (1, 25)),
        ];
        for (name, change) in changes {
            let mut header = founding.clone();
            change(&mut header);
            assert!(Header::decode(&encoded(&header)).is_err(), "{name}");
        }
    }

    #[test]
    fn acts_and_owners_that_break_a_rule_are_refused() {
        let act = Some(Act::Revoke(GrantId([1; 32])));
        let revoke = Header { kind: Kind::Revoke, act, count: 0, size: 0, ..data() };
        assert_eq!(Header::decode(&encoded(&revoke)).as_ref(), Ok(&revoke));
        assert_eq!(revoke.check(), Ok(()));
        type Change = fn(&mut Header);
        let changes: [(&str, Change); 4] = [
            ("an act of another kind", |h| h.kind = Kind::Grant),
            ("an act of no kind", |h| h.kind = Kind::Ack),
            ("no act", |h| h.act = None),
            ("events", |h| (h.count, h.size) = (1, 25)),
        ];
        for (name, change) in changes {
            let mut header = revoke.clone();
            change(&mut header);
            assert!(header.check().is_err(), "{name}");
        }
        let owned = |difficulty, roots: &[u8]| {
            let roots = roots.iter().map(|byte| ReplicaId([*byte; 32])).collect();
            let genesis =
                Genesis { mode: Mode::Owned(Owned { difficulty, roots }), nonce: [7; 32] };
            let mut bytes = Vec::new();
            genesis.encode(&mut bytes);
            Genesis::decode(&mut Reader::new(&bytes)).map(|read| assert_eq!(read, genesis))
        };
        let many: Vec<u8> = (0..17).collect();
        for (difficulty, roots) in [(0, &[1][..]), (40, &[2, 1, 3]), (1, &many[..16])] {
            assert_eq!(owned(difficulty, roots), Ok(()));
        }
        for (difficulty, roots) in [(41, &[1][..]), (0, &[]), (0, &[1, 2, 1]), (0, &many)] {
            assert!(owned(difficulty, roots).is_err(), "{difficulty} {roots:?}");
        }
    }

    #[test]
    fn more_deps_than_the_limit_are_refused() {
        let mut header = data();
        let dep = |n: usize| {
            let log = LogId { replica: ReplicaId([9; 32]), incarnation: n as u64 };
            Dep { log, seq: 1, id: CommitId([1; 32]) }
        };
        header.deps = (0..limits::DEPS_MAX).map(dep).collect();
        assert!(Header::decode(&encoded(&header)).is_ok());
        header.deps = (0..=limits::DEPS_MAX).map(dep).collect();
        assert_eq!(Header::decode(&encoded(&header)), Err(CodecError::TooLarge("deps")));
    }

    #[test]
    fn other_versions_suites_kinds_and_modes_are_unknown() {
        let bytes = encoded(&data());
        // Version, suite, and the kind, which stands before count, flag, size and root.
        for at in [0, 1, bytes.len() - 36] {
            for byte in 6..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                let error = Header::decode(&bytes).unwrap_err();
                assert!(matches!(error, CodecError::Unknown(_)), "{error} at {at}");
            }
        }
        let known: Vec<_> = (0..=255).filter_map(|byte| Kind::from_byte(byte).ok()).collect();
        assert_eq!(known.iter().map(|kind| kind.to_byte()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        for mode in 2..=255 {
            let bytes = [mode; 200];
            let error = Genesis::decode(&mut Reader::new(&bytes));
            assert_eq!(error, Err(CodecError::Unknown("space mode")), "{mode}");
        }
    }
}
