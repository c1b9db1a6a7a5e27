//! What holds whatever happens, and what was thought of.

use proptest::prelude::*;

use super::random::{play, script};
use super::*;
use crate::base::Rng;
use crate::crdt::Delta;
use crate::event::Draft;
use crate::limits;

fn in_order(history: &History) -> (Authority, Vec<Verdict>) {
    history.told(&(0..history.commits.len()).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_grant_never_exceeds_those_above_it(script in script(40)) {
        let (authority, _) = in_order(&play(4, 2, 0, &script));
        for granted in authority.list() {
            let chain: Vec<_> = authority.chain(&granted.id).collect();
            prop_assert!(chain.len() <= 1 + usize::from(limits::GRANT_DEPTH_MAX));
            for above in &chain[1..] {
                let (above, own) = (authority.granted(above).unwrap().grant, &granted.grant);
                prop_assert!(above.actions.contains(own.actions));
                prop_assert!(own.prefixes.within(&above.prefixes));
                prop_assert!(above.depth > own.depth);
                let end = |grant: &Grant| grant.expiry_ms.unwrap_or(u64::MAX);
                prop_assert!(end(own) <= end(&above));
            }
        }
    }

    #[test]
    fn the_first_root_is_never_revoked(script in script(40)) {
        let mut history = play(4, 3, 0, &script);
        let all = 0..history.commits.len();
        let last = history.write((0, 9), all, Some(root(0)), Does::Put("a"));
        let alone = history.write((0, 10), [], Some(root(0)), Does::Put("a"));
        let (authority, verdicts) = in_order(&history);
        prop_assert_eq!(&verdicts[last], &Ok(()));
        prop_assert_eq!(&verdicts[alone], &Ok(()));
        prop_assert_eq!(authority.granted(&root(0)).unwrap().revoked, None);
    }

    /// A revoked writer may say that it is any time: what the revoker had not seen is inert.
    #[test]
    fn no_stamp_gets_a_revoked_writer_heard(script in script(24), stamps: [u64; 3]) {
        let mut history = play(4, 1, 0, &script);
        let all = 0..history.commits.len();
        let given = history.write((0, 9), all, Some(root(0)), all_to(3, 2));
        let grant = Some(history.id(given));
        let seen = history.write((3, 9), [given], grant, Does::Put("a"));
        let taken = history.write((0, 9), [seen], Some(root(0)), revoke(history.id(given)));
        let late = [
            history.write((3, 9), [], grant, Does::Put("a")),
            history.write((3, 10), [given], grant, Does::Put("a")),
            history.write((3, 11), [taken], grant, Does::Put("a")),
        ];
        for (at, stamp) in late.iter().zip(stamps) {
            history.commits[*at].standing.hlc = Hlc(stamp);
        }
        let (authority, verdicts) = in_order(&history);
        prop_assert_eq!(&verdicts[seen], &Ok(()));
        for at in late {
            let by = history.commits[taken].standing.id;
            let revoked = Err(Reason::Revoked { by, grant: history.id(given) });
            prop_assert_eq!(&verdicts[at], &revoked);
        }
        let rights = authority.rights(&Audience::Replica(replica(3)), WallTime(0));
        prop_assert!(rights.iter().all(|rights| Some(rights.grant) != grant));
    }

    /// What was said of a commit when it came can be found out again whenever somebody asks.
    #[test]
    fn why_a_commit_was_not_sound_is_known_for_ever(script in script(40)) {
        let history = play(4, 2, 0, &script);
        let (authority, _) = in_order(&history);
        let knows = |of, by| history.knows(of, by);
        for (at, said) in history.commits.iter().enumerate() {
            let again = authority.check(&said.standing, &said.demands(), &knows);
            prop_assert_eq!(again, spec::sound(&history, at));
        }
    }

    /// Whatever verdict a revocation changes when it comes, the commit is among those it reaches.
    #[test]
    fn a_revocation_reaches_all_whose_verdict_it_changes(script in script(40)) {
        let history = play(4, 2, 0, &script);
        let knows = |of, by| history.knows(of, by);
        let (mut authority, mut sound) = (Authority::new(&SPACE, &history.owned), Vec::new());
        for position in 0..history.commits.len() {
            let verdicts = |authority: &Authority, sound: &Vec<_>| {
                let told = history.commits.iter().zip(sound);
                told.map(|(said, sound): (&Said, &Result<(), Reason>)| {
                    let Standing { at, grant, .. } = said.standing;
                    let void = |grant| authority.void(at, &grant, &knows).is_some();
                    sound.is_ok() && !grant.is_some_and(void)
                })
                .collect::<Vec<bool>>()
            };
            let before = verdicts(&authority, &sound);
            let admitted = history.tell(&mut authority, position).sound;
            let reach = authority.reach(history.commits[position].standing.at);
            let after = verdicts(&authority, &sound);
            for (at, _) in before.iter().zip(&after).enumerate().filter(|(_, (a, b))| a != b) {
                let Standing { at, grant, .. } = history.commits[at].standing;
                let named = grant.unwrap();
                let mut chain = authority.chain(&named);
                let judged = |by: &At| !history.knows(at, *by);
                let reached = chain.any(|id| reach.get(&id).is_some_and(|v| v.iter().any(judged)));
                prop_assert!(reached, "{:?} by {}", at, position);
            }
            sound.push(admitted);
        }
    }

    /// Only revocations change a verdict that was given.
    #[test]
    fn what_is_not_in_the_past_and_revokes_nothing_changes_no_verdict(
        script in script(24), more in prop::collection::vec(any::<[u8; 8]>(), 1..12),
    ) {
        let before = play(4, 2, 0, &script);
        let mut longer = play(4, 2, 0, &[&script[..], &more[..]].concat());
        for said in &mut longer.commits[before.commits.len()..] {
            if let Some(Act::Revoke(_)) = said.act {
                (said.kind, said.act) = (Kind::Ack, None);
            }
        }
        let (old, new) = (in_order(&before).1, in_order(&longer).1);
        prop_assert_eq!(&old[..], &new[..old.len()]);
    }
}

/// The third speaks against the second, which has seen it and speaks against the third, while the
/// first, which has seen nothing, speaks against the second.
#[test]
fn three_that_revoke_each_other_in_a_ring_are_judged_by_seniority() {
    let mut history = History::new(3);
    let third = history.write((2, 0), [], Some(root(2)), revoke(root(1)));
    let second = history.write((1, 0), [third], Some(root(1)), revoke(root(2)));
    let first = history.write((0, 0), [], Some(root(0)), revoke(root(1)));
    let (authority, verdicts) = in_order(&history);
    // A higher index revokes no lower one at all; root 0 had not seen what the second did.
    assert_eq!(verdicts[third], Err(Reason::NotSenior { target: root(1) }));
    let by = history.commits[first].standing.id;
    assert_eq!(verdicts[second], Err(Reason::Revoked { by, grant: root(1) }));
    assert_eq!(verdicts[first], Ok(()));
    assert_eq!(authority.granted(&root(2)).unwrap().revoked, None);
}

#[test]
fn of_two_equals_that_revoke_each_other_one_holds() {
    let mut history = History::new(1);
    let one = history.write((0, 0), [], Some(root(0)), all_to(1, 3));
    let two = history.write((0, 0), [], Some(root(0)), all_to(2, 3));
    let (one, two) = (history.id(one), history.id(two));
    let a = history.write((1, 0), [1], Some(one), revoke(two));
    let b = history.write((2, 0), [1], Some(two), revoke(one));
    let (authority, verdicts) = in_order(&history);
    let holds = if one < two { a } else { b };
    for at in [a, b] {
        assert_eq!(verdicts[at].is_ok(), at == holds, "{at}");
    }
    let standing = [one, two].map(|grant| authority.granted(&grant).unwrap().revoked.is_none());
    assert_eq!(standing, [one < two, two < one]);
}

#[test]
fn what_a_revoked_holder_had_granted_falls_with_it_and_what_was_seen_stays() {
    let mut history = History::new(1);
    let bob = history.write((0, 0), [], Some(root(0)), all_to(1, 3));
    let eve = history.write((1, 0), [bob], Some(history.id(bob)), all_to(2, 2));
    let seen = history.write((2, 0), [eve], Some(history.id(eve)), Does::Put("a"));
    let taken = history.write((0, 0), [seen], Some(root(0)), revoke(history.id(bob)));
    let unseen = history.write((2, 0), [], Some(history.id(eve)), Does::Put("a"));
    let after = history.write((1, 0), [taken], Some(history.id(bob)), all_to(3, 2));
    let under = history.write((3, 0), [after], Some(history.id(after)), Does::Put("a"));
    let (authority, verdicts) = in_order(&history);
    for at in [bob, eve, seen, taken] {
        assert_eq!(verdicts[at], Ok(()), "{at}");
    }
    let by = history.commits[taken].standing.id;
    for at in [unseen, after, under] {
        let revoked = Reason::Revoked { by, grant: history.id(bob) };
        assert_eq!(verdicts[at], Err(revoked), "{at}");
    }
    let listed = authority.list().filter(|granted| granted.revoked.is_some()).count();
    assert_eq!(listed, 3, "the grants of 1, 2 and 3");
    let all = Audience::Replica(replica(2));
    assert_eq!(authority.rights(&all, WallTime(0)), []);
    // The revocation comes last: it says what was written under which grants it may concern.
    let (mut authority, _) = history.told(&[bob, eve, seen, unseen]);
    let changed = history.tell(&mut authority, taken).changed;
    assert_eq!(changed, BTreeSet::from([history.id(bob), history.id(eve)]));
}

#[test]
fn a_stamp_at_the_expiry_is_in_time_and_one_after_it_is_not() {
    let mut history = History::new(1);
    let (audience, prefixes) = (Audience::Replica(replica(1)), Prefixes::all());
    let expiry_ms = Some(7);
    let grant = Grant { audience, actions: Actions::PUT, prefixes, expiry_ms, depth: 0 };
    let given = history.write((0, 0), [], Some(root(0)), Does::Act(Act::Grant(grant)));
    for (ms, verdict) in [(7, Ok(())), (8, Err(Reason::Expired { expiry_ms: 7 }))] {
        let at = history.write((1, ms), [given], Some(history.id(given)), Does::Put("a"));
        history.commits[at].standing.hlc = Hlc(ms << 16 | 0xffff);
        assert_eq!(in_order(&history).1[at], verdict, "{ms}");
    }
}

#[test]
fn rights_end_with_their_grant() {
    let mut history = History::new(1);
    let audience = Audience::bearer(&[5; 32]);
    let prefixes = Prefixes::new([&b"a/"[..]]).unwrap();
    let grant = Grant { audience, actions: Actions::READ, prefixes, expiry_ms: Some(7), depth: 0 };
    let given = history.write((0, 0), [], Some(root(0)), Does::Act(Act::Grant(grant)));
    let (authority, _) = in_order(&history);
    let rights = authority.rights(&audience, WallTime(7));
    assert_eq!(rights.len(), 1);
    assert_eq!((rights[0].grant, rights[0].actions), (history.id(given), Actions::READ));
    assert!(rights[0].prefixes.cover(b"a/1") && !rights[0].prefixes.cover(b"b"));
    assert_eq!(authority.rights(&audience, WallTime(8)), []);
    let own = authority.rights(&Audience::Replica(replica(0)), WallTime(u64::MAX));
    assert_eq!((own.len(), own[0].actions, own[0].depth), (1, Actions::ALL, 8));
    // A bearer has no log: nobody writes under its grant.
    let at = history.write((1, 0), [given], Some(history.id(given)), Does::Nothing);
    let not = Err(Reason::NotItsHolder { grant: history.id(given) });
    assert_eq!(in_order(&history).1[at], not);
    assert_eq!(authority.difficulty(), 0);
}

/// Whoever may only revoke some keys has no say over others.
#[test]
fn a_right_over_some_keys_gives_no_power_over_others() {
    let mut history = History::new(1);
    let over = |number, prefix: &[u8], actions| {
        let prefixes = Prefixes::new([prefix]).unwrap();
        let audience = Audience::Replica(replica(number));
        Does::Act(Act::Grant(Grant { audience, actions, prefixes, expiry_ms: None, depth: 3 }))
    };
    let warden = history.write((0, 0), [], Some(root(0)), over(1, b"a/", Actions::REVOKE));
    let inside = history.write((0, 0), [], Some(root(0)), over(2, b"a/b", Actions::PUT));
    let beside = history.write((0, 0), [], Some(root(0)), over(2, b"b/", Actions::PUT));
    let named = Some(history.id(warden));
    let may = history.write((1, 0), [beside], named, revoke(history.id(inside)));
    let may_not = history.write((1, 0), [beside], named, revoke(history.id(beside)));
    let own = history.write((1, 0), [], named, revoke(history.id(warden)));
    let (_, verdicts) = in_order(&history);
    assert_eq!(verdicts[may], Ok(()));
    let target = history.id(beside);
    assert_eq!(verdicts[may_not], Err(Reason::NotSenior { target }));
    assert_eq!(verdicts[own], Ok(()));
}

/// Grants and revocations by others fill their room; that of the roots is apart.
#[test]
fn a_root_can_revoke_whoever_filled_the_space() {
    let owned = Owned { difficulty: 0, roots: vec![replica(0)] };
    let mut authority = Authority::new(&SPACE, &owned);
    // One flooder's log, and the root's, which has seen all of it.
    let knows = |of: At, by: At| of.0 != by.0 || of.1 < by.1;
    let mut say = |author: u8, seq: u64, grant, act: &Act| {
        let log = LogId { replica: replica(author), incarnation: 0 };
        let id = CommitId(sha256("commit", &[&[author], &seq.to_le_bytes()]));
        let (at, kind) = ((log, seq), Kind::Grant);
        let standing = Standing { at, id, replica: log.replica, grant: Some(grant), hlc: Hlc(0) };
        let demands = Demands { kind, act: Some(act), events: &[], meta: None };
        (GrantId(id.0), authority.admit(&standing, &demands, &knows).unwrap().sound)
    };
    let Does::Act(given) = all_to(1, 2) else { unreachable!() };
    let (grant, sound) = say(0, 1, root(0), &given);
    assert_eq!(sound, Ok(()));
    let Does::Act(act) = all_to(2, 1) else { unreachable!() };
    for seq in 1..limits::ACTS_MAX as u64 {
        assert_eq!(say(1, seq, grant, &act).1, Ok(()), "{seq}");
    }
    let full = limits::ACTS_MAX as u64;
    assert_eq!(say(1, full, grant, &act).1, Err(Reason::TooManyActs));
    assert_eq!(say(0, 2, root(0), &Act::Revoke(grant)).1, Ok(()));
}

/// Commits as they are sealed; what was erased is asked for no key, but for its action.
#[test]
fn sealed_commits_are_judged_by_what_they_do() {
    let mut rng = Rng::new([2; 32]);
    let log = |number| LogId { replica: replica(number), incarnation: 1 };
    let owned = Owned { difficulty: 0, roots: vec![replica(0)] };
    let genesis = Draft { owned: Some(owned.clone()), ..Draft::genesis(log(0), Hlc(1)) };
    let genesis = genesis.seal(&mut rng).unwrap();
    let space = genesis.space();
    let (audience, prefixes) = (Audience::Replica(replica(1)), Prefixes::new([&b"a/"[..]]));
    let (actions, prefixes) = (Actions::PUT, prefixes.unwrap());
    let grant = Grant { audience, actions, prefixes, expiry_ms: None, depth: 0 };
    let given = Draft {
        space,
        seq: 2,
        prev: genesis.id(),
        grant: Some(root_grant(&space, 0)),
        kind: Kind::Grant,
        act: Some(Act::Grant(grant)),
        ..Draft::genesis(log(0), Hlc(2))
    };
    let given = given.seal(&mut rng).unwrap();
    let mut write = |action, key: &str| {
        let delta = Delta { action, supersedes: Supersedes::NOTHING, payload: [][..].into() };
        let draft = Draft {
            space,
            deps: vec![given.tip()],
            grant: Some(GrantId(given.id().0)),
            kind: Kind::Data,
            events: vec![(Key::new(key).unwrap(), delta)],
            ..Draft::genesis(log(1), Hlc(3))
        };
        draft.seal(&mut rng).unwrap()
    };
    let mut authority = Authority::new(&space, &owned);
    let mut judge = |commit: &Commit| {
        let standing = Standing::of(commit, (commit.log(), commit.seq()));
        let knows = |of: At, by: At| of.0 == log(0) && by.0 == log(1);
        authority.admit(&standing, &Demands::of(commit), &knows).unwrap().sound
    };
    assert_eq!(judge(&given), Ok(()));
    assert_eq!(judge(&write(Action::BytesPut, "a/1")), Ok(()));
    let mut outside = write(Action::BytesPut, "b");
    assert_eq!(judge(&outside), Err(Reason::Key { key: Key::new("b").unwrap() }));
    outside.erase_event(0);
    assert_eq!(judge(&outside), Ok(()));
    let mut delete = write(Action::Delete, "a/1");
    delete.erase_event(0);
    assert_eq!(judge(&delete), Err(Reason::Action { action: Actions::DELETE }));
}
