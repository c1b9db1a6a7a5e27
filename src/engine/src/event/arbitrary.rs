//! Random commits for the tests of this floor.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::commit::measure;
use super::leaf::{Content, Event, Skeleton};
use super::{
    Act, Actions, Audience, Commit, Dep, Dictionary, Genesis, Grant, Header, Kind, Meta, Mode,
    Owned, Prefixes, Tag, compact,
};
use crate::base::{CommitId, Dot, GrantId, Hash, Hlc, LogId, ReplicaId, SpaceId, sha256};
use crate::causal::Tip;
use crate::crdt::{Action, Supersedes};
use crate::limits;

pub(crate) const ACTIONS: [Action; 8] = [
    Action::Delete,
    Action::RegisterPut,
    Action::BytesPut,
    Action::CounterAdd,
    Action::SetAdd,
    Action::SetRemove,
    Action::MapPut,
    Action::MapDelete,
];

/// One of a few logs, so that commits name each other's.
pub(crate) fn log(number: u64) -> LogId {
    let replica = ReplicaId(sha256("log", &[&(number / 2).to_le_bytes()]));
    LogId { replica, incarnation: number }
}

pub(crate) fn random_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=max)
}

/// Small seqs, large ones, and those where varints grow.
fn some_seq() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..5, 100u64..300, 16_000u64..17_000, any::<u64>().prop_map(|x| (x >> 1).max(1))]
}

fn some_tip() -> impl Strategy<Value = (u64, Hash)> {
    (some_seq(), any::<Hash>())
}

/// Commits of distinct logs, ascending by log.
pub(crate) fn some_tips(max: usize) -> impl Strategy<Value = Vec<Tip>> {
    (0..=max, prop::collection::vec(some_tip(), max)).prop_map(|(count, tips)| {
        let tips = tips.into_iter().take(count).zip(1..);
        let mut tips: Vec<_> =
            tips.map(|((seq, id), n)| Tip { log: log(n), seq, id: CommitId(id) }).collect();
        tips.sort();
        tips
    })
}

pub(crate) fn some_meta() -> impl Strategy<Value = Meta> {
    let tag = prop_oneof![
        ("[a-zé]{1,9}", prop::option::of(some_tips(4)))
            .prop_map(|(name, at)| Tag::Create { name, at }),
        "[a-z0-9 ]{1,20}".prop_map(|name| Tag::Delete { name }),
    ];
    let request_id = prop::collection::vec(any::<u8>(), 1..20);
    (prop::option::of(random_bytes(30)), prop::option::of(tag), prop::option::of(request_id))
        .prop_map(|(note, tag, request_id)| Meta { note: note.map(Into::into), tag, request_id })
        .prop_filter("a part is present", |meta| !meta.is_empty())
}

fn some_supersedes() -> impl Strategy<Value = Supersedes> {
    let dot =
        (0u64..5, some_seq(), 0u16..5).prop_map(|(n, seq, index)| Dot { log: log(n), seq, index });
    let dots = prop::collection::btree_set(dot, 0..4).prop_map(|dots| dots.into_iter().collect());
    let cut = prop::collection::btree_map((0u64..5).prop_map(log), some_seq(), 1..4);
    prop_oneof![
        3 => dots.prop_map(Supersedes::Dots),
        1 => cut.prop_map(|cut| Supersedes::Cut(cut.into_iter().collect())),
    ]
}

fn some_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => (any::<[u8; 16]>(), random_bytes(20), random_bytes(200)).prop_map(
            |(salt, key, payload)| {
                let (key, payload) = (key.into(), payload.into());
                Content::Present { salt, key, payload }
            }
        ),
        1 => any::<Hash>().prop_map(Content::Erased),
    ]
}

pub(crate) fn some_event() -> impl Strategy<Value = Event> {
    (prop::sample::select(&ACTIONS), some_supersedes(), some_content()).prop_map(
        |(action, supersedes, content)| Event {
            skeleton: Skeleton { action, supersedes },
            content,
        },
    )
}

fn some_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        1 => Just(Kind::Genesis),
        6 => Just(Kind::Data),
        1 => Just(Kind::Ack),
        1 => Just(Kind::Tag),
        2 => Just(Kind::Grant),
        1 => Just(Kind::Revoke),
    ]
}

pub(crate) fn some_grant() -> impl Strategy<Value = Grant> {
    let audience = (any::<bool>(), any::<Hash>()).prop_map(|(bearer, bytes)| match bearer {
        false => Audience::Replica(ReplicaId(bytes)),
        true => Audience::Bearer(bytes),
    });
    let prefixes = prop::collection::vec(random_bytes(4), 1..5)
        .prop_map(|prefixes| Prefixes::new(prefixes).unwrap());
    let expiry_ms = prop::option::of((0..=limits::EXPIRY_MS_MAX).boxed());
    (audience, 1..=u8::MAX, prefixes, expiry_ms, 0..=limits::GRANT_DEPTH_MAX).prop_map(
        |(audience, actions, prefixes, expiry_ms, depth)| {
            let actions = Actions::from_byte(actions).unwrap();
            Grant { audience, actions, prefixes, expiry_ms, depth }
        },
    )
}

fn some_mode() -> impl Strategy<Value = Mode> {
    let roots = prop::collection::btree_set(any::<Hash>(), 1..4)
        .prop_map(|roots| roots.into_iter().map(ReplicaId).collect::<Vec<_>>())
        .prop_shuffle();
    prop_oneof![
        1 => Just(Mode::Open),
        1 => (0..=limits::DIFFICULTY_MAX, roots)
            .prop_map(|(difficulty, roots)| Mode::Owned(Owned { difficulty, roots })),
    ]
}

/// Any structurally valid commit: all kinds, erased parts, cuts, deps, grants, broken contents.
pub(crate) fn some_commit() -> impl Strategy<Value = Commit> {
    let place = (some_seq(), any::<Hash>(), any::<u64>(), any::<Hash>());
    let rest = (
        some_tips(4),
        prop::option::weighted(0.2, any::<Hash>()),
        prop::collection::vec(some_event(), 1..4),
        prop_oneof![
            3 => Just(None),
            1 => some_meta().prop_map(|meta| Some(meta.encode().unwrap())),
            1 => random_bytes(20).prop_map(Some),
        ],
        any::<[u8; 16]>(),
        (any::<bool>(), 0u32..1000),
        (some_mode(), some_grant()),
    );
    (some_kind(), place, rest).prop_map(|(kind, (seq, prev, hlc, nonce), rest)| {
        let (deps, grant, mut events, meta, salt, (erase_meta, more), (mode, given)) = rest;
        let genesis = kind == Kind::Genesis;
        let seq = if genesis { 1 } else { seq };
        if kind != Kind::Data {
            events.clear();
        }
        let header = Header {
            space: if genesis { SpaceId::ZERO } else { SpaceId([7; 32]) },
            log: log(0),
            seq,
            prev: if seq == 1 { CommitId::ZERO } else { CommitId(prev) },
            hlc: Hlc(hlc),
            deps: if genesis { Vec::new() } else { deps },
            grant: grant.filter(|_| !genesis).map(GrantId),
            kind,
            genesis: genesis.then_some(Genesis { mode, nonce }),
            act: match kind {
                Kind::Grant => Some(Act::Grant(given)),
                Kind::Revoke => Some(Act::Revoke(GrantId(nonce))),
                _ => None,
            },
            count: 0,
            has_meta: false,
            size: 0,
            root: [0; 32],
        };
        for (index, event) in (0..).zip(&mut events) {
            keep_earlier(&mut event.skeleton.supersedes, &Dot { log: log(0), seq, index });
        }
        let meta = if kind == Kind::Tag { Some(meta.unwrap_or_default()) } else { meta };
        let meta = meta.map(|payload| {
            let content = Content::Present { salt, key: [].into(), payload: payload.into() };
            if erase_meta { content.erased() } else { content }
        });
        assemble(header, events, meta, more)
    })
}

/// Puts the parts together; where a part is erased the size is `more` above the least.
fn assemble(header: Header, events: Vec<Event>, meta: Option<Content>, more: u32) -> Commit {
    let (least, erased) = measure(&events, meta.as_ref());
    let size = erased.then(|| u32::try_from(least).unwrap() + more);
    Commit::assemble(header, events, meta, size).unwrap()
}

/// Drops what a valid event could not supersede.
fn keep_earlier(supersedes: &mut Supersedes, own: &Dot) {
    match supersedes {
        Supersedes::Dots(dots) => {
            dots.retain(|dot| dot.log != own.log || (dot.seq, dot.index) < (own.seq, own.index))
        }
        Supersedes::Cut(cut) => {
            cut.retain(|(log, seq)| *log != own.log || *seq <= own.seq);
            if cut.is_empty() {
                *supersedes = Supersedes::NOTHING;
            }
        }
    }
}

/// A commit and a dictionary with all its logs, of random bases, that knows some of the ids.
pub(crate) fn some_commit_in_dictionary() -> impl Strategy<Value = (Commit, Dictionary)> {
    let bases = prop::collection::vec(prop::option::of(some_tip()), 6);
    let known = prop::collection::vec(any::<bool>(), 6);
    let order = subsequence((0..6).collect::<Vec<u64>>(), 0..6);
    (some_commit(), bases, known, order).prop_map(|(commit, bases, known, order)| {
        let mut dictionary = Dictionary::default();
        let all = order.into_iter().map(log).chain(compact::logs(&commit));
        for (log, base) in all.zip(bases.into_iter().cycle()) {
            let (seq, id) = base.unwrap_or_default();
            let id = if seq == 0 { CommitId::ZERO } else { CommitId(id) };
            dictionary.intern(commit.space(), log, seq, id);
        }
        let prev = Dep { log: commit.log(), seq: commit.seq() - 1, id: commit.prev() };
        let near = commit.deps().iter().chain([&prev]).filter(|dep| dep.seq > 0);
        for (dep, known) in near.zip(known) {
            let ix = dictionary.find(&commit.space(), &dep.log).unwrap();
            if known {
                dictionary.note(ix, dep.seq, dep.id);
            }
        }
        (commit, dictionary)
    })
}
