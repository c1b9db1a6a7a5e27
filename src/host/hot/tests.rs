use super::*;
use crate::engine::base::{CommitId, Dot, EventId, Hlc, LogId, ReplicaId};
use crate::engine::crdt::{Stamp, Type, Value};

const SPACE: SpaceId = SpaceId([7; 32]);

fn view(number: u64, bytes: usize) -> Arc<View> {
    let log = LogId { replica: ReplicaId([1; 32]), incarnation: 1 };
    let commit = CommitId([number.to_le_bytes()[0]; 32]);
    let stamp = Stamp { hlc: Hlc(number), dot: Dot { log, seq: number, index: 0 }, commit };
    Arc::new(View {
        ty: Type::Bytes,
        value: Value::Bytes(vec![0; bytes].into()),
        version: EventId { commit, index: 0 },
        stamp,
        context: [0; 32],
        conflicts: Vec::new(),
        type_conflict: false,
    })
}

fn key(number: usize) -> Key {
    Key::new(&format!("key-{number}")).unwrap()
}

/// What the entries take, counted one by one.
fn bytes(hot: &Hot) -> usize {
    let of_shard =
        |shard: &RwLock<Shard>| read(shard).entries.iter().map(|entry| entry.bytes).sum::<usize>();
    hot.shards.iter().map(of_shard).sum()
}

#[test]
fn the_table_keeps_its_budget_and_what_is_read_again_and_again() {
    let hot = Hot::new(1 << 20);
    hot.fill(&SPACE, &key(0), &view(0, 100));
    let (mut survived, mut most) = (0, 0);
    for number in 1..20_000 {
        hot.fill(&SPACE, &key(number), &view(number as u64, 100));
        survived += usize::from(hot.get(&SPACE, "key-0").is_some());
        most = most.max(bytes(&hot));
        assert_eq!(hot.bytes.load(Ordering::Relaxed), bytes(&hot));
        if number % 512 == 0 {
            hot.fill(&SPACE, &key(0), &view(0, 100));
        }
    }
    assert!(most <= 1 << 20, "{most} bytes");
    assert!(most > 1 << 19, "{most} bytes: the budget is for use");
    assert!(survived > 19_000, "a hot key was there {survived} times");
}

#[test]
fn a_view_that_is_too_large_for_the_table_is_not_kept() {
    let hot = Hot::new(1 << 20);
    hot.fill(&SPACE, &key(0), &view(0, 1 << 17));
    assert!(hot.get(&SPACE, "key-0").is_none());
    assert_eq!(bytes(&hot), 0);
}

#[test]
fn spaces_do_not_see_each_others_keys() {
    let hot = Hot::new(1 << 20);
    hot.fill(&SPACE, &key(0), &view(1, 1));
    assert!(hot.get(&SpaceId([8; 32]), "key-0").is_none());
    hot.changed(&SpaceId([8; 32]), key(0).as_str());
    assert!(hot.get(&SPACE, "key-0").is_some());
}

#[test]
fn what_changed_is_gone_and_costs_nothing() {
    let hot = Hot::new(1 << 20);
    hot.set_default_space(SPACE);
    for number in 0..100 {
        hot.fill(&SPACE, &key(number), &view(number as u64, 10));
    }
    hot.changed(&SPACE, key(3).as_str());
    assert!(hot.get(&SPACE, "key-3").is_none());
    assert!(hot.get_all(&SPACE, &[key(2), key(3)]).is_none());
    assert_eq!(hot.get_all(&SPACE, &[key(2), key(4)]).map(|all| all.len()), Some(2));
    assert_eq!(hot.bytes.load(Ordering::Relaxed), bytes(&hot));
    hot.cleared();
    assert_eq!((hot.bytes.load(Ordering::Relaxed), bytes(&hot)), (0, 0));
    assert_eq!(hot.default_space(), None);
}
