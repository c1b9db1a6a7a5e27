//! Spaces that somebody owns: what counts there, whatever comes when.

use super::*;
use crate::base::{GrantId, HlcClock, LogId, ReplicaId};
use crate::event::{Act, Actions, Audience, Draft, Grant, Kind, Owned, Prefixes, root_grant};

/// A space of the first store's, known to all of them.
fn owned<const N: usize>() -> ([(Arc<MemoryDisk>, TestStore); N], SpaceId) {
    let disks: [Arc<MemoryDisk>; N] = std::array::from_fn(|_| Arc::new(MemoryDisk::new()));
    let mut seed = 0;
    let mut stores = disks.map(|disk| {
        seed += 1;
        let store = open(&disk, seed);
        (disk, store)
    });
    let root = stores[0].1.replica();
    let owned = Owned { difficulty: 0, roots: vec![root] };
    let space = stores[0].1.create_owned_space(now(1), "default", owned).unwrap();
    for at in 1..N {
        let [(_, first), .., (_, other)] = &mut stores[..=at] else { unreachable!() };
        other.join_space(space, "default").unwrap();
        pass(first, other, space);
    }
    (stores, space)
}

fn to(replica: ReplicaId, actions: Actions, prefix: &str) -> Grant {
    Grant {
        audience: Audience::Replica(replica),
        actions,
        prefixes: Prefixes::new([prefix.as_bytes()]).unwrap(),
        expiry_ms: None,
        depth: 0,
    }
}

fn try_put(store: &mut TestStore, ms: u64, name: &str, json: &str) -> Result<Written, WriteError> {
    let space = store.space_named("default").unwrap();
    let ops = vec![put(name, json)];
    store.write(now(ms), Write { space, ops, ..Write::default() })
}

fn lacks(written: Result<Written, WriteError>) -> Reason {
    match written {
        Err(WriteError::Unauthorised(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn hashes(store: &mut TestStore, space: SpaceId) -> (Option<Hash>, Hash) {
    (store.state_hash(&space).unwrap(), store.value_hash(&space).unwrap())
}

#[test]
fn a_replica_writes_what_it_was_granted_and_nothing_else() {
    let ([(_, mut a), (_, mut b)], space) = owned();
    assert_eq!(lacks(try_put(&mut b, 5, "b/x", "1")), Reason::NoGrant);
    let grant = to(b.replica(), Actions::PUT, "b/");
    let id = GrantId(a.grant(now(6), &space, grant, None).unwrap().tip.id.0);
    assert_eq!(lacks(try_put(&mut b, 7, "b/x", "1")), Reason::NoGrant, "it has not come yet");
    pass(&mut a, &mut b, space);
    try_put(&mut b, 8, "b/x", "1").unwrap();
    assert_eq!(lacks(try_put(&mut b, 9, "a/x", "1")), Reason::Key { key: key("a/x") });
    let delete = KeyOp { key: key("b/x"), op: Op::Delete, retype: false, expect: None };
    let deleted = b.write(now(9), Write { space, ops: vec![delete], ..Write::default() });
    assert_eq!(lacks(deleted), Reason::Action { action: Actions::DELETE });
    let passed_on = b.grant(now(9), &space, to(a.replica(), Actions::PUT, "b/"), None);
    assert_eq!(lacks(passed_on), Reason::Action { action: Actions::DELEGATE });
    pass(&mut b, &mut a, space);
    assert_eq!(text(&mut a, "b/x").as_deref(), Some("1"));
    assert_eq!(a.grants(&space).unwrap().iter().filter(|granted| granted.id == id).count(), 1);
    assert!(!a.may_read(&space, &b.replica(), now(9).wall), "to write is not to read");
    assert!(b.may_read(&space, &a.replica(), now(9).wall));
}

#[test]
fn what_a_revoker_had_not_seen_counts_nowhere_whatever_comes_first() {
    let ([(_, mut a), (disk, mut b), (_, mut early), (_, mut late)], space) = owned();
    let grant = to(b.replica(), Actions::PUT, "");
    let id = GrantId(a.grant(now(6), &space, grant, None).unwrap().tip.id.0);
    pass(&mut a, &mut b, space);
    try_put(&mut b, 8, "x", "1").unwrap();
    pass(&mut b, &mut a, space);
    pass(&mut b, &mut early, space);
    a.revoke(now(9), &space, id, None).unwrap();
    // It does not know yet, and dates the rest back too.
    try_put(&mut b, 10, "x", "2").unwrap();
    try_put(&mut b, 8, "y", "3").unwrap();
    assert_eq!(text(&mut b, "x").as_deref(), Some("2"));
    let seen_by_b = b.version(&space).unwrap();
    pass(&mut b, &mut early, space);
    assert_eq!(text(&mut early, "y").as_deref(), Some("3"));
    pass(&mut a, &mut early, space);
    pass(&mut a, &mut late, space);
    pass(&mut b, &mut late, space);
    pass(&mut a, &mut b, space);
    pass(&mut b, &mut a, space);
    let first = hashes(&mut a, space);
    for store in [&mut a, &mut b, &mut early, &mut late] {
        assert_eq!(text(store, "x").as_deref(), Some("1"));
        assert_eq!(text(store, "y"), None);
        assert_eq!(hashes(store, space), first);
        let page = store.list(&space, "", None, 9, None).unwrap();
        assert_eq!(page.keys.len(), 1);
        // What was true then is true of then.
        let then = store.get(&space, &key("y"), Some(&seen_by_b)).unwrap();
        assert!(then.is_some());
    }
    assert_eq!(lacks(try_put(&mut b, 20, "z", "1")), Reason::NoGrant);
    b.flush().unwrap();
    b.close().unwrap();
    let mut again = open(&disk, 2);
    assert_eq!(hashes(&mut again, space), first);
    assert_eq!(text(&mut again, "x").as_deref(), Some("1"));
}

#[test]
fn states_that_were_folded_before_a_revocation_came_are_folded_anew() {
    let ([(_, mut a), (disk, mut b), (_, mut c)], space) = owned();
    let grant = to(b.replica(), Actions::PUT, "");
    let id = GrantId(a.grant(now(6), &space, grant, None).unwrap().tip.id.0);
    pass(&mut a, &mut b, space);
    pass(&mut a, &mut c, space);
    a.revoke(now(7), &space, id, None).unwrap();
    let name = |at: u64| format!("key-{}", at % 40);
    for at in 0..600 {
        try_put(&mut b, 10 + at, &name(at), &at.to_string()).unwrap();
    }
    assert!(b.sealed.len() > 1, "some of it lies in sidecars, folded");
    pass(&mut a, &mut b, space);
    let first = hashes(&mut a, space);
    let nothing = |store: &mut TestStore| {
        assert!((0..40).all(|at| text(store, &name(at)).is_none()));
        assert!(store.list(&space, "", None, 9, None).unwrap().keys.is_empty());
    };
    nothing(&mut b);
    b.flush().unwrap();
    drop(b);
    // Killed: the newest sidecar is older than the revocation.
    let mut b = open(&disk, 2);
    nothing(&mut b);
    let segments: Vec<u64> = b.sealed.iter().map(|sealed| sealed.number).collect();
    for segment in segments {
        b.rebuild(segment).unwrap();
        nothing(&mut b);
    }
    pass(&mut b, &mut c, space);
    nothing(&mut c);
    pass(&mut b, &mut a, space);
    assert_eq!(a.state_hash(&space).unwrap(), c.state_hash(&space).unwrap());
    assert_eq!(a.value_hash(&space).unwrap(), first.1);
}

#[test]
fn what_was_written_before_the_genesis_came_is_inert() {
    let ([(_, mut a), (_, mut c)], space) = owned();
    let [mut b, mut d] = [7, 8].map(|seed| open(&Arc::new(MemoryDisk::new()), seed));
    for joined in [&mut b, &mut d] {
        joined.join_space(space, "default").unwrap();
        let grant = to(joined.replica(), Actions::PUT, "");
        let granted = joined.grant(now(3), &space, grant, None);
        assert!(matches!(granted, Err(WriteError::NotYetHere)), "{granted:?}");
        let written = try_put(joined, 3, "early", "1");
        assert!(matches!(written, Err(WriteError::NotYetHere)), "{written:?}");
    }
    forge(&mut b, 3, None, "early", None);
    assert_eq!(text(&mut b, "early"), None, "whose it is cannot be known");
    for other in [&mut c, &mut d] {
        pass(&mut b, other, space);
    }
    assert_eq!((d.counts(&space).unwrap(), d.waiting_len()), ((0, 0), 1));
    pass(&mut a, &mut b, space);
    pass(&mut a, &mut d, space);
    pass(&mut b, &mut a, space);
    let first = hashes(&mut a, space);
    for store in [&mut a, &mut b, &mut c, &mut d] {
        assert_eq!(text(store, "early"), None);
        assert_eq!(hashes(store, space), first);
        assert_eq!((store.waiting_len(), store.whose(&space).unwrap()), (0, Whose::Owned));
    }
}

#[test]
fn whose_a_space_is_outlives_its_genesis() {
    let mut founder = open(&Arc::new(MemoryDisk::new()), 1);
    let owned = Owned { difficulty: 0, roots: vec![founder.replica()] };
    let owned = founder.create_owned_space(now(1), "owned", owned).unwrap();
    let free = founder.create_space(now(1), "free").unwrap();
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 2);
    for (space, name) in [(owned, "owned"), (free, "default")] {
        store.join_space(space, name).unwrap();
        pass(&mut founder, &mut store, space);
        assert!(store.is_founded(&space).unwrap());
    }
    disk.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
    let mut store = open(&disk, 2);
    let seen = |space| (store.counts(&space).unwrap().0, store.whose(&space).unwrap());
    assert_eq!([owned, free].map(seen), [(0, Whose::Owned), (0, Whose::Open)]);
    let put_in = |store: &mut TestStore, space| {
        let ops = vec![put("k", "1")];
        store.write(now(5), Write { space, ops, ..Write::default() })
    };
    put_in(&mut store, free).unwrap();
    assert_eq!(text(&mut store, "k").as_deref(), Some("1"));
    let refused = put_in(&mut store, owned);
    assert!(matches!(refused, Err(WriteError::NotYetHere)), "{refused:?}");
    for space in [owned, free] {
        pass(&mut founder, &mut store, space);
        assert!(store.is_founded(&space).unwrap());
    }
    assert_eq!(lacks(put_in(&mut store, owned)), Reason::NoGrant);
}

/// Appends what a store would not write, as one that keeps no rules does: a put or an act.
fn forge(
    store: &mut TestStore,
    ms: u64,
    grant: Option<GrantId>,
    name: &str,
    act: Option<Act>,
) -> (LogId, u64) {
    let space = store.space_named("default").unwrap();
    let space_ix = store.space_index(&space).unwrap();
    let log = store.own_log().unwrap();
    let state = store.state(&space, &key(name)).unwrap();
    let deltas = state.deltas(&put(name, "0").op, false).unwrap();
    let (kind, events) = match &act {
        None => (Kind::Data, deltas.into_iter().map(|delta| (key(name), delta)).collect()),
        Some(Act::Grant(_)) => (Kind::Grant, Vec::new()),
        Some(_) => (Kind::Revoke, Vec::new()),
    };
    let (deps, own) = (store.foreign_heads(space_ix, log), store.tables[space_ix].log(&log));
    let draft = Draft {
        space,
        log,
        seq: own.map_or(0, |own| own.seq) + 1,
        prev: own.map_or(CommitId::ZERO, |own| own.id),
        hlc: HlcClock::resume(store.tables[space_ix].hlc).tick(now(ms).wall),
        deps,
        grant,
        kind,
        owned: None,
        act,
        events,
        meta: None,
    };
    let commit = draft.seal(&mut store.rng).unwrap();
    let at = (commit.log(), commit.seq());
    store.append_commit(space_ix, Arc::new(commit)).unwrap();
    at
}

#[test]
fn why_a_commit_does_not_count_is_told_wherever_it_is_asked() {
    let ([(_, mut a), (disk, mut b), (_, mut c)], space) = owned();
    let told = a.frontier(&space).unwrap()[0];
    let narrow = a.grant(now(6), &space, to(b.replica(), Actions::PUT, "b/"), None).unwrap();
    let narrow = GrantId(narrow.tip.id.0);
    let brief = Grant { expiry_ms: Some(now(9).wall.0), ..to(b.replica(), Actions::PUT, "") };
    let brief = GrantId(a.grant(now(7), &space, brief, None).unwrap().tip.id.0);
    pass(&mut a, &mut b, space);
    let (nobody, root) = (GrantId([7; 32]), root_grant(&space, 0));
    let more = Some(Act::Grant(to(b.replica(), Actions::ALL, "")));
    let cases = [
        (forge(&mut b, 20, Some(narrow), "b/x", None), Ok(Some(narrow))),
        (forge(&mut b, 20, None, "b/x", None), Err(Reason::NoGrant)),
        (forge(&mut b, 20, Some(nobody), "b/x", None), Err(Reason::UnknownGrant { grant: nobody })),
        (forge(&mut b, 20, Some(root), "b/x", None), Err(Reason::NotItsHolder { grant: root })),
        (
            forge(&mut b, 20, Some(brief), "b/x", None),
            Err(Reason::Expired { expiry_ms: now(9).wall.0 }),
        ),
        (forge(&mut b, 20, Some(narrow), "a/x", None), Err(Reason::Key { key: key("a/x") })),
        (
            forge(&mut b, 20, Some(narrow), "b/x", more),
            Err(Reason::Action { action: Actions::DELEGATE }),
        ),
        (
            forge(&mut b, 20, Some(narrow), "b/x", Some(Act::Revoke(nobody))),
            Err(Reason::UnknownTarget { target: nobody }),
        ),
        (
            forge(&mut b, 20, Some(narrow), "b/x", Some(Act::Revoke(root))),
            Err(Reason::Action { action: Actions::REVOKE }),
        ),
        ((told.log, 1), Ok(None)),
    ];
    pass(&mut b, &mut c, space);
    pass(&mut b, &mut a, space);
    let revoked = a.revoke(now(30), &space, narrow, None).unwrap();
    let late = forge(&mut b, 31, Some(narrow), "b/late", None);
    pass(&mut b, &mut c, space);
    pass(&mut a, &mut c, space);
    pass(&mut a, &mut b, space);
    pass(&mut b, &mut a, space);
    b.flush().unwrap();
    b.close().unwrap();
    let mut b = open(&disk, 2);
    let late = (late, Err(Reason::Revoked { by: revoked.tip.id, grant: narrow }));
    for store in [&mut a, &mut b, &mut c] {
        for (at, verdict) in cases.iter().chain([&late]) {
            assert_eq!(store.verdict(&space, *at, None).unwrap(), *verdict);
        }
        let events = |which| store.history_of(&space, &key("b/x"), which, 9).unwrap();
        let inert: Vec<_> = events(Which::Inert).into_iter().map(|event| event.inert).collect();
        let expected = [&cases[4].1, &cases[3].1, &cases[2].1, &cases[1].1];
        let expected = expected.map(|verdict| verdict.clone().err());
        assert_eq!(inert, expected);
        assert_eq!((events(Which::All).len(), events(Which::Effective).len()), (5, 1));
        assert_eq!(store.history(&space, &key("b/x"), 9).unwrap()[0].grant, Some(narrow));
        // What was so then is so of then.
        let before = cases[8].0;
        let event = EventId { commit: store.id_at(&space, &before.0, before.1).unwrap(), index: 0 };
        let then = store.resolve(&space, &Point::Event(event)).unwrap();
        assert_eq!(store.verdict(&space, late.0, Some(&then)).unwrap(), Ok(Some(narrow)));
    }
    let mut early = open(&Arc::new(MemoryDisk::new()), 7);
    early.join_space(space, "default").unwrap();
    forge(&mut early, 3, None, "early", None);
    pass(&mut a, &mut early, space);
    let at = (early.own_log().unwrap(), 1);
    assert_eq!(early.verdict(&space, at, None).unwrap(), Err(Reason::BeforeGenesis));
}

#[test]
fn a_revocation_reaches_what_came_before_it_and_it_had_not_seen() {
    let ([(_, mut a), (_, mut b), (_, mut c)], space) = owned();
    let grant = to(b.replica(), Actions::PUT, "");
    let id = GrantId(a.grant(now(6), &space, grant, None).unwrap().tip.id.0);
    pass(&mut a, &mut b, space);
    try_put(&mut b, 8, "seen", "1").unwrap();
    pass(&mut b, &mut a, space);
    a.revoke(now(9), &space, id, None).unwrap();
    for name in ["y", "x", "y"] {
        try_put(&mut b, 10, name, "2").unwrap();
    }
    pass(&mut b, &mut c, space);
    pass(&mut a, &mut c, space);
    try_put(&mut b, 11, "later", "3").unwrap();
    pass(&mut b, &mut c, space);
    let (all, _) = c.arrived(&space, Position::default(), c.written(), 1 << 20).unwrap();
    let by = all.iter().find(|arrived| arrived.commit.kind == Kind::Revoke).unwrap();
    let keys = |skip, max| c.reached(&space, by, skip, max).unwrap().keys;
    // What came later is counted, and has nothing to be told.
    assert_eq!(keys(0, 99), [vec![key("y")], vec![key("x")], vec![key("y")], vec![]]);
    assert_eq!(keys(1, 1), [vec![key("x")]]);
    assert!(keys(4, 99).is_empty());
    assert_eq!(c.reached(&space, by, 4, 99).unwrap().count, 4);
    let other = all.iter().find(|arrived| arrived.commit.kind == Kind::Grant).unwrap();
    assert_eq!(c.reached(&space, other, 0, 99).unwrap().count, 0);
}

#[test]
fn what_ended_long_ago_is_taken_back_by_who_gave_it() {
    let day = 24 * 3600 * 1000;
    let ([(_, mut a), (_, mut b), (_, mut c)], space) = owned();
    let end = Some(now(10 * day).wall.0);
    let give = Grant { expiry_ms: end, ..to(b.replica(), Actions::PUT, "b/") };
    a.grant(now(5), &space, give, None).unwrap();
    a.grant(now(6), &space, to(c.replica(), Actions::ALL, ""), None).unwrap();
    pass(&mut a, &mut b, space);
    pass(&mut a, &mut c, space);
    assert_eq!(a.seal_ended(now(40 * day)).unwrap(), 0, "what came late has time to arrive");
    assert_eq!(c.seal_ended(now(41 * day)).unwrap(), 0, "another one gave it");
    try_put(&mut b, 9 * day, "b/x", "1").unwrap();
    pass_at(50 * day, &mut b, &mut a, space);
    assert_eq!(a.seal_ended(now(41 * day)).unwrap(), 1);
    assert_eq!(a.seal_ended(now(42 * day)).unwrap(), 0, "once is enough");
    // It has not heard, and set its clock back.
    try_put(&mut b, 9 * day + 1, "b/x", "2").unwrap();
    pass_at(50 * day, &mut b, &mut a, space);
    pass_at(50 * day, &mut a, &mut b, space);
    for store in [&mut a, &mut b] {
        assert_eq!(text(store, "b/x").as_deref(), Some("1"));
    }
}

#[test]
fn a_space_asks_of_its_roots_the_work_that_it_asks_of_all() {
    let disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk, 1);
    let root = store.replica();
    let bits = u8::try_from(crate::base::work(&root)).unwrap();
    let owned = |difficulty| Owned { difficulty, roots: vec![root] };
    let refused = store.create_owned_space(now(1), "team", owned(bits + 1)).unwrap_err();
    assert_eq!(lacks(Err(refused)), Reason::Work { bits: bits.into(), needed: bits + 1 });
    assert_eq!(store.space_named("team"), None);
    store.create_owned_space(now(2), "team", owned(bits)).unwrap();
}
