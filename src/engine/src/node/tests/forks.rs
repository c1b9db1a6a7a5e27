//! Copied replicas that run in parallel: the log is closed, and nothing is lost or counted twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::{EventId, LogId, Rng};
use crate::crdt::{Action, Supersedes};
use crate::event::Commit;
use crate::log::CrashMode;
use crate::store::ReadError;

/// The executable specification: which commits count, and what is live, by walking the graph.
struct Model {
    commits: BTreeMap<CommitId, Commit>,
    counted: BTreeSet<CommitId>,
}

impl Model {
    /// Takes every commit that any node ever stored, and the forks that all know of.
    fn of(world: &mut World, space: &SpaceId) -> Self {
        let mut commits = BTreeMap::new();
        let mut closed: BTreeMap<LogId, u64> = BTreeMap::new();
        for node in &mut world.nodes {
            let all = node.store().all_commits().into_iter();
            commits.extend(all.map(|commit| (commit.id(), commit)));
            closed.extend(node.store().closed_logs(space).unwrap());
        }
        let mut model = Self { commits, counted: BTreeSet::new() };
        model.counted = model.count(&closed);
        model
    }

    fn past(&self, of: &CommitId) -> BTreeSet<CommitId> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![*of]);
        while let Some(id) = open.pop() {
            let Some(commit) = self.commits.get(&id) else { continue };
            if seen.insert(id) {
                open.push(commit.prev());
                open.extend(commit.deps().iter().map(|dep| dep.id));
            }
        }
        seen
    }

    /// A commit from a fork on counts iff it is in the past of one of another log that counts.
    fn count(&self, closed: &BTreeMap<LogId, u64>) -> BTreeSet<CommitId> {
        let suspect = |c: &Commit| closed.get(&c.log()).is_some_and(|seq| *seq <= c.seq());
        let plain = self.commits.values().filter(|c| !suspect(c)).map(Commit::id);
        let mut counted: BTreeSet<CommitId> = plain.collect();
        loop {
            let mut more = BTreeSet::new();
            for id in &counted {
                let log = self.commits[id].log();
                let past = self.past(id).into_iter();
                more.extend(past.filter(|p| self.commits[p].log() != log));
            }
            let before = counted.len();
            counted.extend(more);
            if counted.len() == before {
                return counted;
            }
        }
    }

    /// The live events of a key with their payloads: everything counted, each event dropping what
    /// it names in its past.
    fn live(&self, key: &str) -> BTreeMap<EventId, (Action, Arc<[u8]>)> {
        let mut order: Vec<&Commit> = self.counted.iter().map(|id| &self.commits[id]).collect();
        order.sort_by_key(|commit| (commit.hlc(), commit.id()));
        let mut live: BTreeMap<EventId, (Action, Arc<[u8]>)> = BTreeMap::new();
        for commit in order {
            let past = self.past(&commit.id());
            for (index, event) in (0_u16..).zip(commit.events()) {
                let delta = event.delta().filter(|_| event.is_of(key.as_bytes()));
                let Some(delta) = delta else { continue };
                live.retain(|id, _| {
                    let target = &self.commits[&id.commit];
                    let earlier = id.commit != commit.id() || id.index < index;
                    let named = match &event.skeleton.supersedes {
                        Supersedes::Dots(dots) => dots.contains(&target.dot(id.index)),
                        Supersedes::Cut(cut) => {
                            cut.iter().any(|(log, s)| *log == target.log() && target.seq() <= *s)
                        }
                    };
                    !(named && earlier && past.contains(&id.commit))
                });
                if delta.action.adds() {
                    let id = EventId { commit: commit.id(), index };
                    live.insert(id, (delta.action, delta.payload));
                }
            }
        }
        live
    }
}

impl World {
    /// Compares every node with the specification: commits that count, and each key's live events.
    #[track_caller]
    fn assert_as_specified(&mut self, keys: &[&str]) {
        let space = self.nodes[0].store().space_named("default").unwrap();
        let model = Model::of(self, &space);
        for n in 0..self.nodes.len() {
            let store = self.nodes[n].store();
            assert_eq!(store.counted_ids(&space), model.counted, "what counts on node {n}");
            for name in keys {
                let key = Key::new(name).unwrap();
                let state = store.state_at(&space, &key, None).unwrap();
                let live = model.live(name);
                let mut sum = 0_i128;
                let mut ids = BTreeSet::new();
                for event in state.events() {
                    match event.value {
                        Value::Counter(part) => sum += i128::from(part),
                        _ => drop(ids.insert(event.stamp.event_id())),
                    }
                }
                let adds = live.values().filter(|(action, _)| *action == Action::CounterAdd);
                let expected: i128 = adds
                    .map(|(_, payload)| i64::from_le_bytes(payload[..].try_into().unwrap()))
                    .map(i128::from)
                    .sum();
                assert_eq!(sum, expected, "{name} on node {n}");
                let others = live.iter().filter(|(_, (a, _))| *a != Action::CounterAdd);
                let expected: BTreeSet<EventId> = others.map(|(id, _)| *id).collect();
                assert_eq!(ids, expected, "live events of {name} on node {n}");
            }
        }
    }

    fn count(&mut self, n: usize, key: &str, by: i64) {
        self.ops(n, vec![(key, Op::CounterAdd(by))]);
        self.run();
    }

    fn closed(&mut self, n: usize) -> Vec<(LogId, u64)> {
        let store = self.nodes[n].store();
        let space = store.space_named("default").unwrap();
        store.closed_logs(&space).unwrap()
    }

    pub(super) fn reopen(&mut self, n: usize) {
        self.wires.clear();
        self.mail.clear();
        for other in 0..self.nodes.len() {
            for link in 1..self.next_link {
                self.input(other, Input::Closed { link: LinkId(link), reason: "cut".into() });
            }
        }
        let old = std::mem::replace(&mut self.nodes[n], {
            let placeholder = World::new(1);
            placeholder.nodes.into_iter().next().unwrap()
        });
        drop(old);
        self.nodes[n] = self.open(u8::try_from(n).unwrap());
        self.run();
    }
}

#[test]
fn twins_that_meet_close_their_log_and_lose_nothing() {
    let mut world = World::new(1);
    world.share();
    world.count(0, "count", 10);
    let twin = world.twin(0);
    world.count(0, "count", 5);
    world.put(0, "who", "\"original\"");
    world.count(twin, "count", 7);
    world.put(twin, "who", "\"copy\"");
    world.run();
    world.connect(0, twin);
    world.assert_equal();
    assert_eq!(world.closed(0).len(), 1);
    assert!(world.show(0, "count").unwrap().contains("22"), "{:?}", world.show(0, "count"));
    world.assert_as_specified(&["count", "who"]);
    // Both write on, under lives of their own.
    world.count(0, "count", 1);
    world.count(twin, "count", 1);
    world.assert_equal();
    assert!(world.show(twin, "count").unwrap().contains("24"));
    assert_eq!(world.closed(0).len(), 1);
    world.assert_as_specified(&["count", "who"]);
}

#[test]
fn the_parents_of_an_event_are_of_its_key_though_their_number_was_given_twice() {
    let mut world = World::new(1);
    let space = world.share();
    let twin = world.twin(0);
    world.put(0, "other", "1");
    let parent = world.put(twin, "key", "2");
    world.run();
    world.connect(0, twin);
    let child = world.put(0, "key", "3");
    world.run();
    for node in &mut world.nodes {
        let history = node.store().history(&space, &Key::new("key").unwrap(), 9).unwrap();
        let newest = &history[0];
        assert_eq!((history.len(), newest.stamp.commit), (2, child));
        assert_eq!(newest.parents, [EventId { commit: parent, index: 0 }]);
    }
}

#[test]
fn one_request_to_sync_ends_in_sync_in_spite_of_a_fork() {
    for longer in 0..2 {
        let mut world = World::new(2);
        world.share();
        let link = world.connect(0, 1);
        world.cut(link);
        let twin = world.twin(0);
        let link = world.connect(twin, 1);
        world.count(twin, "count", 7);
        world.cut(link);
        for _ in 0..=longer {
            world.count(0, "count", 5);
        }
        let (now, peer) = (world.now(), world.nodes[1].store().replica());
        let space = world.nodes[0].store().space_named("default").unwrap();
        let admit = |local: &mut crate::store::Local| {
            let known = local.peer_mut(peer).unwrap();
            known.admitted.push(space);
            known.addresses.push("there".to_owned());
        };
        world.nodes[0].store().edit_local(admit).unwrap();
        let job = world.nodes[0].sync_with(now, peer);
        world.connect(0, 1);
        let (_, report) = world.reports.pop().unwrap();
        assert!(report.in_sync, "{job:?}: {report:?}");
        assert_eq!(world.hashes(0), world.hashes(1));
    }
}

#[test]
fn a_fork_is_found_by_others_before_its_authors_meet() {
    let mut world = World::new(3);
    world.share();
    let links = [world.connect(0, 1), world.connect(0, 2)];
    world.count(0, "count", 10);
    links.into_iter().for_each(|link| world.cut(link));
    let twin = world.twin(0);
    // Each branch reaches one of the others, and one of those builds upon it.
    let link = world.connect(0, 1);
    world.count(0, "count", 5);
    world.cut(link);
    let link = world.connect(twin, 2);
    world.count(twin, "count", 7);
    world.count(2, "count", 100);
    world.cut(link);
    world.connect(1, 2);
    let (one, two) = (world.hashes(1), world.hashes(2));
    assert_eq!(one, two);
    assert!(world.show(1, "count").unwrap().contains("122"), "{:?}", world.show(1, "count"));
    world.connect(0, 1);
    world.connect(twin, 2);
    world.assert_equal();
    assert!(world.show(2, "count").unwrap().contains("122"), "{:?}", world.show(2, "count"));
    world.assert_as_specified(&["count"]);
}

#[test]
fn proofs_that_nobody_asked_for_end_the_connection_and_close_nothing() {
    let mut world = World::new(2);
    let space = world.share();
    let link = world.connect(0, 1);
    world.count(0, "count", 1);
    let log = world.nodes[0].store().frontier(&space).unwrap()[0].log;
    let side = world.nodes[0].store().fork_side(&space, &log, 2).unwrap();
    let mut bytes = Vec::new();
    side.encode(&mut bytes);
    let send = |world: &mut World, bytes: &[u8]| {
        let message = Message::Proof { space, last: true, bytes: bytes.to_vec() };
        world.input(1, Input::Received { link, bytes: crate::sync::encode(&message) });
        world.run();
    };
    for _ in 0..64 {
        send(&mut world, &bytes);
        assert_eq!(world.nodes[1].peers().len(), 1);
    }
    send(&mut world, &bytes);
    assert!(world.nodes[1].peers().is_empty(), "enough is enough");
    assert!(world.closed(1).is_empty());
    // And one that is none is the last thing that a peer says.
    let link = world.connect(0, 1);
    *bytes.last_mut().unwrap() ^= 1;
    let message = Message::Proof { space, last: true, bytes };
    world.input(1, Input::Received { link, bytes: crate::sync::encode(&message) });
    assert!(world.nodes[1].peers().is_empty() && world.closed(1).is_empty());
}

/// Goal: commits that stop counting leave states, hashes and history, and come back whole when they
/// count again.
///
/// Method: close a log without building upon what is held of it, then bring what builds upon it.
#[test]
fn commits_stop_counting_and_count_again() {
    let mut world = World::new(2);
    let space = world.share();
    let link = world.connect(0, 1);
    world.count(0, "count", 10);
    world.put(0, "reg", "1");
    world.cut(link);
    let twin = world.twin(0);
    world.count(twin, "count", 7);
    let link = world.connect(0, 1);
    world.count(0, "count", 5);
    world.put(0, "reg", "2");
    world.ops(0, vec![("other", Op::CounterAdd(1))]);
    world.run();
    world.cut(link);
    let (before, keys) = (world.hashes(1), ["count", "reg", "other"]);
    // The proof, made of both branches.
    let fork = {
        let log = world.nodes[1].store().frontier(&space).unwrap();
        let log = log.into_iter().max_by_key(|tip| tip.seq).unwrap().log;
        let seq = (1..).find(|seq| {
            let [a, b] = [0, twin].map(|n| world.nodes[n].store_ref().id_at(&space, &log, *seq));
            a != b
        });
        (log, seq.unwrap())
    };
    let side = world.nodes[twin].store().fork_side(&space, &fork.0, fork.1).unwrap();
    let proof = world.nodes[1].store().prove(side).unwrap();
    assert_eq!(world.nodes[1].store().close_logs(std::slice::from_ref(&proof)).unwrap(), 1);
    world.run();
    assert!(world.show(1, "count").unwrap().contains("10"), "{:?}", world.show(1, "count"));
    assert_eq!(world.show(1, "reg").as_deref(), Some("1"));
    assert_eq!(world.show(1, "other"), None);
    let key = Key::new("reg").unwrap();
    assert_eq!(world.nodes[1].store().history(&space, &key, 10).unwrap().len(), 1);
    let touched = world.nodes[1].store().forked_keys(&space, &fork.0).unwrap();
    assert_eq!(touched.iter().map(Key::as_str).collect::<Vec<_>>(), ["count", "other", "reg"]);
    assert_ne!(world.hashes(1), before);
    world.reopen(1);
    assert_eq!(world.show(1, "other"), None, "a replay comes to the same");
    // What the author of the branch does when it learns of the fork counts for all.
    let now = world.now();
    assert_eq!(world.nodes[0].store().close_forked(now, &[proof]).unwrap(), 1);
    world.run();
    world.connect(0, 1);
    world.connect(0, twin);
    world.connect(1, twin);
    world.assert_equal();
    assert!(world.show(1, "count").unwrap().contains("22"), "{:?}", world.show(1, "count"));
    assert_eq!(world.show(1, "reg").as_deref(), Some("2"));
    assert_eq!(world.nodes[1].store().history(&space, &key, 10).unwrap().len(), 2);
    world.assert_as_specified(&keys);
    for n in 0..3 {
        world.reopen(n);
    }
    world.assert_equal();
    world.assert_as_specified(&keys);
}

#[test]
fn a_fresh_replica_gets_forks_and_branches_from_anybody() {
    let mut world = World::new(3);
    world.share();
    world.count(0, "count", 1);
    let twin = world.twin(0);
    for i in 0..200 {
        world.count(0, "count", 1);
        world.put(twin, &format!("key-{}", i % 7), &i.to_string());
    }
    world.run();
    let link = world.connect(0, twin);
    world.cut(link);
    world.connect(twin, 1);
    world.connect(1, 2);
    world.assert_equal();
    let keys: Vec<String> = (0..7).map(|i| format!("key-{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["count"]).collect();
    world.assert_as_specified(&keys);
    assert_eq!(world.closed(2), world.closed(0));
    for n in 0..world.nodes.len() {
        world.reopen(n);
    }
    world.assert_equal();
    world.assert_as_specified(&keys);
}

#[test]
fn a_proof_that_the_disk_does_not_give_now_is_not_damaged() {
    let mut world = World::new(1);
    let space = world.share();
    world.count(0, "count", 1);
    let twin = world.twin(0);
    for n in [0, twin] {
        world.count(n, "count", 1);
    }
    world.connect(0, twin);
    let (log, _) = world.closed(0).pop().unwrap();
    let segments = world.disks[0].files(crate::log::FileKind::Segment).unwrap();
    let all = segments.into_iter().map(|file| (file, 0..u64::MAX)).collect();
    world.disks[0].faults(|faults| faults.unreadable = all);
    let read = world.nodes[0].store_ref().fork_proof(&space, &log);
    assert!(matches!(read, Err(ReadError::Disk(_))), "{read:?}");
    world.disks[0].faults(|faults| faults.unreadable.clear());
    world.nodes[0].store_ref().fork_proof(&space, &log).unwrap();
}

#[test]
fn proofs_and_branches_survive_a_reopening_without_derived_files() {
    let mut world = World::new(2);
    world.share();
    world.connect(0, 1);
    for i in 0..300 {
        world.put(0, &format!("key-{}", i % 30), &i.to_string());
    }
    world.run();
    let twin = world.twin(0);
    for i in 0..400 {
        world.count(0, "count", 1);
        world.count(twin, "count", 1);
        world.put(twin, &format!("key-{}", i % 30), &format!("{}", 1000 + i));
    }
    world.connect(0, twin);
    world.connect(1, twin);
    world.assert_equal();
    let whole = world.hashes(1);
    for n in 0..3 {
        for file in world.disks[n].files(crate::log::FileKind::Sidecar).unwrap() {
            world.disks[n].remove(file).unwrap();
        }
        world.reopen(n);
        assert_eq!(world.hashes(n), whole, "node {n}");
    }
    world.assert_as_specified(&["count", "key-3"]);
}

/// What happens in a random history with copies.
#[derive(Debug, Clone)]
enum Act {
    Write(usize, u8, u8),
    Twin(usize),
    Meet(usize, usize),
    /// Two meet, and the power of the first fails after that many changes to its disk.
    Crash(usize, usize, u64, usize),
    Reopen(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..6, 0u8..6, any::<u8>()).prop_map(|(n, what, by)| Act::Write(n, what, by)),
        1 => (0usize..6).prop_map(Act::Twin),
        3 => (0usize..6, 0usize..6).prop_map(|(a, b)| Act::Meet(a, b)),
        1 => (0usize..6, 0usize..6, 1u64..12, 0usize..11)
            .prop_map(|(a, b, after, mode)| Act::Crash(a, b, after, mode)),
        1 => (0usize..6).prop_map(Act::Reopen),
    ];
    prop::collection::vec(act, 4..40)
}

/// Plays a history; whoever is `absent` does not come to the last meetings.
fn play(acts: &[Act], absent: Option<usize>) {
    let mut world = World::new(2);
    world.share();
    let link = world.connect(0, 1);
    world.cut(link);
    for act in acts {
        let count = world.nodes.len();
        match *act {
            Act::Write(n, what, by) => {
                let json = |by: u8| Json::parse(by.to_string().as_bytes()).unwrap();
                let op = match what {
                    0 | 1 => ("count", Op::CounterAdd(i64::from(by))),
                    2 => ("set", Op::SetAdd(vec![json(by % 4)])),
                    3 => ("set", Op::SetRemove(vec![json(by % 4)])),
                    4 => ("reg", Op::Put(json(by))),
                    _ => ("count", Op::Delete),
                };
                let store = world.nodes[n % count].store();
                let space = store.space_named("default").unwrap();
                let key = Key::new(op.0).unwrap();
                let gone = store.get(&space, &key, None).unwrap().is_none();
                if !(matches!(op.1, Op::Delete) && gone) {
                    world.ops(n % count, vec![op]);
                    world.run();
                }
            }
            Act::Twin(n) if count < 5 => drop(world.twin(n % count)),
            Act::Twin(_) => {}
            Act::Meet(a, b) if a % count != b % count => {
                let link = world.connect(a % count, b % count);
                world.cut(link);
            }
            Act::Meet(..) => {}
            Act::Crash(a, b, after, mode) if a % count != b % count => {
                let (a, b) = (a % count, b % count);
                world.disks[a].faults(|faults| faults.power_off_in = Some(after));
                let link = world.connect(a, b);
                world.cut(link);
                let mut rng = Rng::new([u8::try_from(after).unwrap(); 32]);
                world.disks[a].crash(CrashMode::ALL[mode], &mut rng);
                world.reopen(a);
            }
            Act::Crash(..) => {}
            Act::Reopen(n) => world.reopen(n % count),
        }
    }
    if let Some(absent) = absent.filter(|absent| *absent > 0 && *absent < world.nodes.len()) {
        world.nodes.remove(absent);
        world.disks.remove(absent);
        world.keys.remove(absent);
    }
    // Everybody meets everybody until nothing is new. A fork that the last two of a round find is
    // news to all others in the next one.
    let count = world.nodes.len();
    for _ in 0..=count {
        for a in 0..count {
            for b in a + 1..count {
                let link = world.connect(a, b);
                world.cut(link);
            }
        }
        if (1..count).all(|n| world.hashes(n) == world.hashes(0)) {
            break;
        }
    }
    world.assert_equal();
    world.assert_as_specified(&["count", "set", "reg"]);
}

#[test]
fn a_fork_that_is_found_late_takes_one_more_round() {
    use Act::{Crash, Twin, Write};
    let acts = [
        Twin(2),
        Write(0, 0, 0),
        Twin(4),
        Crash(4, 2, 1, 0),
        Write(2, 0, 0),
        Write(5, 0, 0),
        Twin(2),
        Write(4, 0, 0),
        Write(3, 0, 0),
    ];
    play(&acts, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Goal: whatever is copied, and in whatever order replicas meet, all end equal, and as the
    /// specification says.
    #[test]
    fn replicas_that_were_copied_at_random_converge_as_specified(
        acts in acts(),
        absent in prop::option::of(0usize..5),
    ) {
        play(&acts, absent);
    }
}

#[test]
fn a_branch_that_is_larger_than_a_chunk_and_the_waiting_room_is_taken() {
    let mut world = World::new(2);
    world.share();
    let link = world.connect(0, 1);
    world.cut(link);
    let twin = world.twin(0);
    world.count(twin, "count", 1);
    let large = format!("\"{}\"", "x".repeat(100_000));
    (0..30).for_each(|n| _ = world.put(0, &format!("large-{n}"), &large));
    world.connect(0, twin);
    world.connect(0, 1);
    world.assert_equal();
}

#[test]
fn a_branch_is_not_pushed_again_by_each_who_comes_to_build_upon_it() {
    let mut world = World::new(2);
    world.share();
    let link = world.connect(0, 1);
    world.cut(link);
    let twin = world.twin(0);
    world.count(twin, "count", 1);
    world.put(0, "large", &format!("\"{}\"", "x".repeat(100_000)));
    world.run();
    world.connect(0, twin);
    // Here the fork is known before any of it comes: nothing has to be built upon.
    world.connect(0, 1);
    world.connect(1, twin);
    world.assert_equal();
    assert_eq!(world.closed(1).len(), 1);
    // Its first commit since builds upon the branches, which all hold.
    world.mail_max = Some(0);
    world.put(1, "small", "1");
    world.run();
    let bytes: usize = world.mail.iter().map(|(_, _, bytes)| bytes.len()).sum();
    assert!((1..5_000).contains(&bytes), "{} messages of {bytes} bytes", world.mail.len());
    world.mail_max = None;
    world.run();
    world.assert_equal();
    assert_eq!(world.show(0, "small").as_deref(), Some("1"));
}
