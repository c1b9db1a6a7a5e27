//! Every small history, in every order.
//!
//! Each step one of three replicas acts under any grant that it holds and has seen, and does
//! anything: it grants all it has to one of the others, or revokes any grant that it has seen, a
//! root's included. What it has seen is its own log, and any set of the others' commits together
//! with their pasts.

use super::orders::every_order;
use super::*;

const REPLICAS: u8 = 3;

#[derive(Default)]
struct Count {
    histories: usize,
    orders: usize,
    /// How many verdicts name a revocation.
    revoked: usize,
}

/// Calls `each` with every history that goes on from this one by `steps` acts.
fn every_history(history: &mut History, steps: usize, each: &mut dyn FnMut(&History)) {
    if steps == 0 {
        return each(history);
    }
    for author in 0..REPLICAS {
        for seen in views(history, author) {
            for (named, depth) in held(history, author, &seen) {
                for does in choices(history, author, &seen, depth) {
                    let seen = seen.iter().copied();
                    history.write((author, 0), seen, Some(named), does);
                    every_history(history, steps - 1, each);
                    history.commits.pop();
                }
            }
        }
    }
}

/// Every set of commits that a replica can have seen: closed, and with its own.
fn views(history: &History, author: u8) -> BTreeSet<BTreeSet<usize>> {
    let count = history.commits.len();
    let own = (0..count).filter(|at| history.commits[*at].standing.replica == replica(author));
    let own: BTreeSet<usize> = own.collect();
    let mut views = BTreeSet::new();
    for set in 0..1_u32 << count {
        let mut view = own.clone();
        view.extend((0..count).filter(|at| set >> at & 1 == 1));
        let pasts: Vec<usize> =
            view.iter().flat_map(|at| history.commits[*at].past.iter().copied()).collect();
        view.extend(pasts);
        views.insert(view);
    }
    views
}

/// The grants of a replica, with how often each can be passed on.
fn held(history: &History, author: u8, seen: &BTreeSet<usize>) -> Vec<(GrantId, u8)> {
    let mut held: Vec<_> = seen
        .iter()
        .filter_map(|at| {
            let said = &history.commits[*at];
            match &said.act {
                Some(Act::Grant(grant)) if grant.audience == Audience::Replica(replica(author)) => {
                    Some((said.grant_id(), grant.depth))
                }
                _ => None,
            }
        })
        .collect();
    if usize::from(author) < history.owned.roots.len() {
        held.push((root(author), limits::GRANT_DEPTH_MAX));
    }
    held
}

fn choices(history: &History, author: u8, seen: &BTreeSet<usize>, depth: u8) -> Vec<Does> {
    let others = (0..REPLICAS).filter(|other| *other != author);
    let grants = others.map(|other| all_to(other, depth.saturating_sub(1)));
    let roots = (0..).zip(&history.owned.roots).map(|(index, _)| root(index));
    let acts = seen.iter().filter(|at| history.commits[**at].kind == Kind::Grant);
    let targets = roots.chain(acts.map(|at| history.id(*at)));
    grants.chain(targets.map(revoke)).collect()
}

/// The verdicts are those of the specification, and the same in every order.
fn check_all(roots: u8, steps: usize) -> Count {
    let mut count = Count::default();
    every_history(&mut History::new(roots), steps, &mut |history| {
        count.histories += 1;
        let known = (0..history.commits.len()).collect();
        let expected: Vec<_> =
            spec::verdicts(history, &known).into_iter().map(|(_, verdict)| verdict).collect();
        let revoked = |verdict: &&Verdict| matches!(verdict, Err(Reason::Revoked { .. }));
        count.revoked += expected.iter().filter(revoked).count();
        let mut first = None;
        every_order(history, &mut |order| {
            count.orders += 1;
            let (authority, verdicts) = history.told(order);
            assert_eq!(verdicts, expected, "{order:?} of {history:#?}");
            match &first {
                None => first = Some(authority),
                Some(first) => assert_eq!(&authority, first, "{order:?} of {history:#?}"),
            }
        });
    });
    count
}

/// 6,587 histories in 11,107 orders.
#[test]
fn all_histories_of_one_root_and_four_acts() {
    let count = check_all(1, 4);
    assert_eq!((count.histories, count.orders), (6_587, 11_107));
    assert!(count.revoked > 500, "{} verdicts were changed by a revocation", count.revoked);
}

/// 3,160 histories in 5,388 orders.
#[test]
fn all_histories_of_two_roots_and_three_acts() {
    let count = check_all(2, 3);
    assert_eq!((count.histories, count.orders), (3_160, 5_388));
    assert!(count.revoked > 200, "{} verdicts were changed by a revocation", count.revoked);
}

/// 127,596 histories in 331,736 orders.
#[test]
#[ignore = "takes ten seconds and more"]
fn all_histories_of_two_roots_and_four_acts() {
    let count = check_all(2, 4);
    assert_eq!((count.histories, count.orders), (127_596, 331_736));
}
