//! A commit in the making.

use std::sync::Arc;

use super::act::Act;
use super::commit::Commit;
use super::header::{Genesis, Header, Kind, Mode, Owned};
use super::leaf::{Content, Event, Skeleton};
use super::meta::Meta;
use super::tip::Dep;
use crate::base::{CodecError, CommitId, GrantId, Hlc, Key, LogId, Rng, SpaceId};
use crate::crdt::{Delta, Supersedes};
use crate::limits;

/// What goes into a commit; [`Draft::seal`] salts, hashes and checks it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The space; [`SpaceId::ZERO`] for genesis.
    pub space: SpaceId,
    /// The author's log.
    pub log: LogId,
    /// One more than the log's last.
    pub seq: u64,
    /// The id of the log's last commit, or [`CommitId::ZERO`].
    pub prev: CommitId,
    /// Greater than the stamp of prev and of every dep; the caller sees to it.
    pub hlc: Hlc,
    /// Heads of other logs seen since prev, strictly ascending by log.
    pub deps: Vec<Dep>,
    /// The grant that the author acts under; none in open spaces.
    pub grant: Option<GrantId>,
    /// What the commit is for.
    pub kind: Kind,
    /// Of genesis: who owns the space; none if it is open.
    pub owned: Option<Owned>,
    /// What a grant or a revocation says.
    pub act: Option<Act>,
    /// Keys and their deltas, in order.
    pub events: Vec<(Key, Delta)>,
    /// What the commit says about itself; an empty one is left out.
    pub meta: Option<Meta>,
}

/// Why a draft cannot become a commit. Nothing was made; the draft is gone.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// More than [`limits::COMMIT_EVENTS_MAX`] events.
    #[error(
        "a commit has at most {max} events, this one has {count}: split it",
        max = limits::COMMIT_EVENTS_MAX
    )]
    TooManyEvents {
        /// How many there are.
        count: usize,
    },
    /// More than [`limits::DEPS_MAX`] deps.
    #[error(
        "a commit has at most {max} deps, this one has {count}: write acks first",
        max = limits::DEPS_MAX
    )]
    TooManyDeps {
        /// How many there are.
        count: usize,
    },
    /// An event lists more than [`limits::PREDS_MAX`] dots or [`limits::CUT_ENTRIES_MAX`] entries.
    #[error("event {index} supersedes too much by name: {count} entries")]
    TooManyPreds {
        /// The index of the event.
        index: usize,
        /// How many entries it lists.
        count: usize,
    },
    /// A payload is over [`limits::VALUE_BYTES_MAX`].
    #[error(
        "a value has at most {max} bytes, that of event {index} has {bytes}",
        max = limits::VALUE_BYTES_MAX
    )]
    ValueTooLarge {
        /// The index of the event.
        index: usize,
        /// The length of its payload.
        bytes: usize,
    },
    /// All leaves together are over [`limits::COMMIT_BYTES_MAX`].
    #[error("a commit has at most {max} bytes: split it", max = limits::COMMIT_BYTES_MAX)]
    TooLarge,
    /// A part of the meta leaf breaks a rule.
    #[error("note, tag or request id: {0}")]
    Meta(CodecError),
    /// The parts contradict each other; the caller put the draft together wrongly.
    #[error("the draft contradicts itself: {0}")]
    Contradiction(CodecError),
}

impl Draft {
    /// Starts the first commit of a new open space; of an owned one once [`Draft::owned`] is set.
    pub fn genesis(log: LogId, hlc: Hlc) -> Self {
        Self {
            space: SpaceId::ZERO,
            log,
            seq: 1,
            prev: CommitId::ZERO,
            hlc,
            deps: Vec::new(),
            grant: None,
            kind: Kind::Genesis,
            owned: None,
            act: None,
            events: Vec::new(),
            meta: None,
        }
    }

    /// Salts each leaf, computes root and id, and checks all limits.
    ///
    /// Costs three short hashes for a commit of one small event.
    ///
    /// # Errors
    /// [`DraftError`] names the limit or the contradiction.
    pub fn seal(self, rng: &mut Rng) -> Result<Commit, DraftError> {
        self.check_limits()?;
        let meta = match self.meta.filter(|meta| !meta.is_empty()) {
            None => None,
            Some(meta) => {
                let payload = meta.encode().map_err(DraftError::Meta)?.into();
                Some(Content::Present { salt: rng.bytes(), key: Arc::new([]), payload })
            }
        };
        let mode = self.owned.map_or(Mode::Open, Mode::Owned);
        let genesis = (self.kind == Kind::Genesis).then(|| Genesis { mode, nonce: rng.bytes() });
        let event = |(key, delta): (Key, Delta)| Event {
            skeleton: Skeleton { action: delta.action, supersedes: delta.supersedes },
            content: Content::Present {
                salt: rng.bytes(),
                key: key.into_bytes(),
                payload: delta.payload,
            },
        };
        let events = self.events.into_iter().map(event).collect();
        let header = Header {
            space: self.space,
            log: self.log,
            seq: self.seq,
            prev: self.prev,
            hlc: self.hlc,
            deps: self.deps,
            grant: self.grant,
            kind: self.kind,
            genesis,
            act: self.act,
            // The last four are filled in by `assemble`.
            count: 0,
            has_meta: false,
            size: 0,
            root: [0; 32],
        };
        Commit::assemble(header, events, meta, None).map_err(|error| match error {
            CodecError::TooLarge("commit") => DraftError::TooLarge,
            error => DraftError::Contradiction(error),
        })
    }

    fn check_limits(&self) -> Result<(), DraftError> {
        let count = self.events.len();
        if count > limits::COMMIT_EVENTS_MAX {
            return Err(DraftError::TooManyEvents { count });
        }
        let count = self.deps.len();
        if count > limits::DEPS_MAX {
            return Err(DraftError::TooManyDeps { count });
        }
        for (index, (_, delta)) in self.events.iter().enumerate() {
            let (count, max) = match &delta.supersedes {
                Supersedes::Dots(dots) => (dots.len(), limits::PREDS_MAX),
                Supersedes::Cut(cut) => (cut.len(), limits::CUT_ENTRIES_MAX),
            };
            if count > max {
                return Err(DraftError::TooManyPreds { index, count });
            }
            let bytes = delta.payload.len();
            if bytes > limits::VALUE_BYTES_MAX {
                return Err(DraftError::ValueTooLarge { index, bytes });
            }
        }
        if self.kind == Kind::Tag && self.meta.as_ref().is_none_or(|meta| meta.tag.is_none()) {
            return Err(DraftError::Contradiction(CodecError::NotCanonical(
                "a tag commit carries a tag",
            )));
        }
        if self.kind != Kind::Genesis && self.owned.is_some() {
            return Err(DraftError::Contradiction(CodecError::NotCanonical(
                "only genesis says who owns the space",
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Dot, ReplicaId};
    use crate::crdt::Action;
    use crate::event::Tag;

    fn put(bytes: usize, supersedes: Supersedes) -> (Key, Delta) {
        let payload = vec![b'1'; bytes].into();
        (Key::new("k").unwrap(), Delta { action: Action::RegisterPut, supersedes, payload })
    }

    fn draft(events: Vec<(Key, Delta)>) -> Draft {
        let log = LogId { replica: ReplicaId([3; 32]), incarnation: 1 };
        Draft { space: SpaceId([1; 32]), kind: Kind::Data, events, ..Draft::genesis(log, Hlc(1)) }
    }

    fn seal(draft: Draft) -> Result<Commit, DraftError> {
        draft.seal(&mut Rng::new([1; 32]))
    }

    #[test]
    fn a_sealed_commit_says_what_the_draft_said() {
        let meta = Meta { request_id: Some(b"r1".to_vec()), ..Meta::default() };
        let commit =
            seal(Draft { meta: Some(meta.clone()), ..draft(vec![put(2, Supersedes::NOTHING)]) });
        let commit = commit.unwrap();
        assert_eq!((commit.seq(), commit.kind(), commit.meta()), (1, Kind::Data, Some(meta)));
        let event = &commit.events()[0];
        let delta = event.delta().unwrap();
        assert_eq!((event.key_text().unwrap(), &*delta.payload), ("k", &b"11"[..]));
        assert_eq!(commit.header().count, 1);
        // Skeleton 4, salt 16, key 2, payload 2; skeleton 2, salt 16, key 1, meta 4.
        assert_eq!(commit.header().size, 24 + 23);
        assert_eq!(commit.event_id(0).commit, commit.id());
        assert_eq!(commit.tip(), Dep { log: commit.log(), seq: 1, id: commit.id() });
    }

    #[test]
    fn erasing_keeps_the_id() {
        let meta = Some(Meta { note: Some(b"1"[..].into()), ..Meta::default() });
        let events = vec![put(2, Supersedes::NOTHING), put(3, Supersedes::NOTHING)];
        let mut commit = seal(Draft { meta, ..draft(events) }).unwrap();
        let id = commit.header().id();
        commit.erase_event(1);
        commit.erase_meta();
        commit.erase_event(7);
        assert_eq!((commit.id(), commit.header().id()), (id, id));
        assert!(commit.events()[0].delta().is_some() && commit.events()[1].delta().is_none());
        assert_eq!(commit.meta(), None);
    }

    #[test]
    fn two_spaces_have_two_ids() {
        let mut rng = Rng::new([1; 32]);
        let log = LogId::default();
        let mut genesis = || Draft::genesis(log, Hlc(1)).seal(&mut rng).unwrap();
        let (a, b) = (genesis(), genesis());
        assert_ne!(a.space(), b.space());
        assert_eq!(a.space().0, a.id().0);
        assert_eq!(a.header().space, SpaceId::ZERO);
    }

    #[test]
    fn salts_differ_from_leaf_to_leaf() {
        let events = vec![put(2, Supersedes::NOTHING); 2];
        let commit = seal(draft(events)).unwrap();
        assert_ne!(commit.events()[0].leaf_hash(), commit.events()[1].leaf_hash());
    }

    #[test]
    fn every_limit_is_named() {
        let nothing = || Supersedes::NOTHING;
        let max = limits::COMMIT_EVENTS_MAX;
        assert!(seal(draft(vec![put(1, nothing()); max])).is_ok());
        let error = seal(draft(vec![put(1, nothing()); max + 1]));
        assert_eq!(error, Err(DraftError::TooManyEvents { count: max + 1 }));

        let max = limits::VALUE_BYTES_MAX;
        assert!(seal(draft(vec![put(max, nothing())])).is_ok());
        let error = seal(draft(vec![put(max + 1, nothing())]));
        assert_eq!(error, Err(DraftError::ValueTooLarge { index: 0, bytes: max + 1 }));
        let error = seal(draft(vec![put(max, nothing()), put(max, nothing())]));
        assert_eq!(error, Err(DraftError::TooLarge));

        let log = LogId::default();
        let dots = (1..=1025).map(|seq| Dot { log, seq, index: 0 }).collect();
        let error = seal(draft(vec![put(1, Supersedes::Dots(dots))]));
        assert_eq!(error, Err(DraftError::TooManyPreds { index: 0, count: 1025 }));

        let dep = |n| Dep { log: LogId { incarnation: n, ..log }, seq: 1, id: CommitId::ZERO };
        let error =
            seal(Draft { deps: (0..257).map(dep).collect(), ..draft(vec![put(1, nothing())]) });
        assert_eq!(error, Err(DraftError::TooManyDeps { count: 257 }));

        let meta = Meta { request_id: Some(vec![1; 129]), ..Meta::default() };
        let error = seal(Draft { meta: Some(meta), ..draft(vec![put(1, nothing())]) });
        assert_eq!(error, Err(DraftError::Meta(CodecError::TooLarge("request id"))));
    }

    #[test]
    fn contradictions_are_refused() {
        let put = || vec![put(1, Supersedes::NOTHING)];
        let owned = Owned { difficulty: 0, roots: vec![ReplicaId([1; 32])] };
        let twice = Owned { difficulty: 0, roots: vec![ReplicaId([1; 32]); 2] };
        let act = Act::Revoke(GrantId([1; 32]));
        let wrong = [
            draft(vec![]),
            Draft { kind: Kind::Ack, ..draft(put()) },
            Draft { kind: Kind::Tag, ..draft(vec![]) },
            Draft { seq: 2, ..draft(put()) },
            Draft { space: SpaceId::ZERO, ..draft(put()) },
            Draft { owned: Some(owned.clone()), ..draft(put()) },
            Draft { act: Some(act.clone()), ..draft(put()) },
            Draft { kind: Kind::Grant, act: Some(act.clone()), ..draft(vec![]) },
            Draft { kind: Kind::Revoke, ..draft(vec![]) },
            Draft { owned: Some(twice), ..Draft::genesis(LogId::default(), Hlc(1)) },
        ];
        for draft in wrong {
            let error = seal(draft).unwrap_err();
            assert!(matches!(error, DraftError::Contradiction(_)), "{error}");
        }
        let tag = Some(Tag::Delete { name: "v1".to_owned() });
        let meta = Some(Meta { tag, ..Meta::default() });
        assert!(seal(Draft { kind: Kind::Tag, meta, ..draft(vec![]) }).is_ok());
        assert!(seal(Draft { kind: Kind::Revoke, act: Some(act), ..draft(vec![]) }).is_ok());
        let genesis = Draft::genesis(LogId::default(), Hlc(1));
        assert!(seal(Draft { owned: Some(owned), ..genesis }).is_ok());
        // An empty meta is no meta.
        let ack = Draft { kind: Kind::Ack, meta: Some(Meta::default()), ..draft(vec![]) };
        assert!(!seal(ack).unwrap().header().has_meta);
    }
}
