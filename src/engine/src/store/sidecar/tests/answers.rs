//! Builder, reader and merge against the specification, and what questions cost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::Merge;
use super::*;
use crate::limits;

/// Two letters, so that prefixes are shared, and now and then a long key.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let letters = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..8);
    (letters, prop_oneof![9 => Just(0), 1 => 0..limits::SIDECAR_KEY_BYTES_MAX - 8]).prop_map(
        |(mut key, long)| {
            key.resize(key.len() + long, b'a');
            key
        },
    )
}

fn state() -> impl Strategy<Value = Option<Vec<u8>>> {
    let len = prop_oneof![8 => 0..40_usize, 2 => 2000..2100_usize, 1 => 0..6_000_usize];
    proptest::option::of((len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]))
}

fn offsets() -> impl Strategy<Value = Vec<u32>> {
    let offset = prop_oneof![any::<u32>(), 0..300_u32];
    let len = prop_oneof![8 => 0..5_usize, 1 => 0..300_usize];
    len.prop_flat_map(move |len| proptest::collection::btree_set(offset.clone(), 0..=len))
        .prop_map(|offsets| offsets.into_iter().collect())
}

/// Ids that often begin alike, as no hashes do.
fn id() -> impl Strategy<Value = CommitId> {
    (any::<Hash>(), 0..33_usize).prop_map(|(mut id, equal)| {
        id[..equal].fill(0);
        CommitId(id)
    })
}

fn model(size: usize) -> impl Strategy<Value = Model> {
    let seq = prop_oneof![4 => 1..400_u64, 1 => any::<u64>().prop_map(|seq| seq >> 1)];
    let commits =
        proptest::collection::btree_map((0..4_u32, seq), (any::<u32>(), id()), 0..size * 3);
    let keys = proptest::collection::btree_map(key(), (state(), offsets()), 0..size);
    let blobs = proptest::collection::btree_map(0..4_u8, any::<Vec<u8>>(), 0..4);
    let lineage = any::<(Hash, Hash)>().prop_map(|(own, upon)| Lineage { own, upon });
    (keys, commits, blobs, lineage).prop_map(|(keys, commits, blobs, lineage)| Model {
        keys,
        commits,
        blobs,
        lineage,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_answers_as_maps_do(
        model in model(100),
        absent in proptest::collection::vec(key(), 0..20),
        ixs in proptest::collection::vec((0..5_u32, 0..420_u64), 0..10),
        prefixes in proptest::collection::vec((id(), 0..33_usize, any::<bool>()), 0..20),
    ) {
        let sidecar = model.open();
        prop_assert!(!ask_all(&model, &sidecar, &absent));
        sidecar.check().unwrap();
        prop_assert_eq!(sidecar.key_count() as usize, model.keys.len());
        prop_assert_eq!(sidecar.commit_count() as usize, model.commits.len());
        let seqs: BTreeSet<u64> = model.commits.keys().map(|(_, seq)| *seq).collect();
        let stamps = seqs.first().zip(seqs.last()).map(|(min, max)| (Hlc(*min), Hlc(*max)));
        prop_assert_eq!(sidecar.stamps(), stamps);
        for from in &absent {
            for bound in [Bound::Included(from.as_slice()), Bound::Excluded(from)] {
                let range = (bound.map(<[u8]>::to_vec), Bound::Unbounded);
                let right: Vec<(Vec<u8>, Said)> =
                    model.keys.range(range).map(|(k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(walk(&sidecar, bound).unwrap(), right);
            }
        }
        for (ix, from) in ixs {
            let found: Vec<CommitAt> =
                sidecar.commits(ix, from).collect::<Result<_, _>>().unwrap();
            let right = model.commits.range((ix, from)..=(ix, u64::MAX));
            let right: Vec<_> = right.map(|((ix, s), _)| model.commit(*ix, *s).unwrap()).collect();
            prop_assert_eq!(found, right);
        }
        let known = model.commits.values().map(|(_, id)| *id);
        for (id, len, half) in prefixes.into_iter().chain(known.map(|id| (id, 32, false))) {
            let nibble = id.0.get(len).filter(|_| half).map(|byte| byte >> 4);
            let prefix = IdPrefix::new(&id.0[..len], nibble).unwrap();
            for max in [1, 3, 1000] {
                let right = model.find_ids(&prefix, max);
                prop_assert_eq!(sidecar.find_ids(&prefix, max).unwrap(), right);
            }
        }
    }

    #[test]
    fn a_merge_shows_each_key_once_with_all_that_is_known(
        models in proptest::collection::vec(model(20), 0..5),
        tail in proptest::collection::btree_map(key(), any::<u32>(), 0..30),
        from in key(),
    ) {
        let sidecars: Vec<Sidecar<File>> = models.iter().map(Model::open).collect();
        let walks = sidecars.iter().map(|s| s.range(Bound::Included(&from))).collect();
        let from_tail = tail.range(from.clone()..).map(|(key, value)| (key.clone(), *value));
        let mut keys: BTreeSet<&Vec<u8>> = tail.keys().collect();
        keys.extend(models.iter().flat_map(|model| model.keys.keys()));
        let mut right = keys.range::<Vec<u8>, _>(&from..);
        for merged in Merge::new(from_tail, walks) {
            let merged = merged.unwrap();
            prop_assert_eq!(Some(&&merged.key), right.next());
            prop_assert_eq!(merged.tail, tail.get(&merged.key).copied());
            let sources = merged.entries.iter().map(|(source, _)| *source);
            let holders = (0..models.len()).filter(|s| models[*s].keys.contains_key(&merged.key));
            prop_assert!(sources.eq(holders));
            for (source, entry) in &merged.entries {
                let (state, offsets) = &models[*source].keys[&merged.key];
                let found = sidecars[*source].state(entry).unwrap();
                prop_assert_eq!(found.as_deref(), state.as_deref());
                prop_assert_eq!(&sidecars[*source].offsets(entry).unwrap(), offsets);
            }
        }
        prop_assert_eq!(right.next(), None);
    }
}

#[test]
fn ids_that_begin_alike_over_several_pages_are_all_found() {
    let mut model = Model::default();
    for number in 0..2000_u32 {
        let mut id = sha256("", &[&number.to_le_bytes()]);
        id[..4].copy_from_slice(if number % 4 == 0 { &[1; 4] } else { &[2; 4] });
        model.commits.insert((number % 2, u64::from(number)), (number, CommitId(id)));
    }
    let sidecar = model.open();
    for digits in ["", "01", "0101010", "02020202", "020202020", "0202020280", "03", "00"] {
        let prefix = IdPrefix::from_hex(digits).unwrap();
        for max in [1, 10_000] {
            assert_eq!(sidecar.find_ids(&prefix, max).unwrap(), model.find_ids(&prefix, max));
        }
    }
}

#[test]
fn an_empty_sidecar_holds_nothing() {
    let model = Model::default();
    let sidecar = model.open();
    assert!(!ask_all(&model, &sidecar, &[b"x".to_vec(), Vec::new()]));
    assert!(!sidecar.may_contain(b"x").unwrap());
    assert_eq!(sidecar.stamps(), None);
    assert_eq!(sidecar.commit(0, 0).unwrap(), None);
    sidecar.check().unwrap();
}

#[test]
fn a_huge_state_is_read_only_when_it_is_asked_for() {
    let mut model = small();
    let huge = (Some(vec![9; 5 << 20]), (0..300_000).map(|n| n * 13).collect());
    model.keys.insert(b"a/huge".to_vec(), huge);
    let sidecar = model.open();
    let read = |sidecar: &Sidecar<File>| sidecar.source.disk.bytes_read.take();
    let _ = read(&sidecar);
    let entry = sidecar.lookup(b"a/huge").unwrap().unwrap();
    assert!(read(&sidecar) < 16 << 10, "a lookup reads neither part");
    assert_eq!(entry.state_bytes(), Some(5 << 20));
    assert_eq!(sidecar.offsets(&entry).unwrap().len(), 300_000);
    assert!(read(&sidecar) < 2 << 20, "the offsets alone");
    assert_eq!(sidecar.state(&entry).unwrap().unwrap().len(), 5 << 20);
    assert!(!ask_all(&model, &sidecar, &[]));
}

#[test]
fn a_state_above_the_limit_is_left_out() {
    let mut builder = Builder::new(STORE, SEGMENT, SEAL);
    builder.key(b"x", Some(&vec![0; limits::SIDECAR_STATE_BYTES_MAX + 1]), &[4]);
    let sidecar = open(builder.finish()).unwrap();
    let entry = sidecar.lookup(b"x").unwrap().unwrap();
    assert!(!entry.has_state());
    assert_eq!(sidecar.offsets(&entry).unwrap(), [4]);
}

#[test]
fn questions_cost_few_reads_however_many_keys_and_commits_there_are() {
    let mut model = Model::default();
    for number in 0..20_000_u32 {
        let key = format!("users/{number:08}/profile").into_bytes();
        model.keys.insert(key, (Some(vec![1; 50]), vec![number * 100, number * 100 + 40]));
        let id = CommitId(sha256("", &[&number.to_le_bytes()]));
        model.commits.insert((number % 3, u64::from(number)), (number * 100, id));
    }
    let sidecar = model.open();
    let reads = || sidecar.source.disk.reads.take();
    assert_eq!(reads(), 1, "opening");
    ask(&sidecar, b"users/00000001/profile").unwrap().unwrap();
    reads();
    for (key, right) in model.keys.iter().step_by(501) {
        let entry = sidecar.lookup(key).unwrap().unwrap();
        assert_eq!(sidecar.state(&entry).unwrap().as_deref(), right.0.as_deref());
        assert_eq!(sidecar.offsets(&entry).unwrap(), right.1);
        assert_eq!(reads(), 1, "a lookup");
    }
    sidecar.commit(0, 0).unwrap().unwrap();
    reads();
    for (ix, seq) in model.commits.keys().step_by(501) {
        assert_eq!(sidecar.commit(*ix, *seq).unwrap(), model.commit(*ix, *seq));
        assert!(reads() <= 2, "a commit");
    }
    sidecar.find_ids(&IdPrefix::from_hex("00").unwrap(), 1).unwrap();
    reads();
    for (_, id) in model.commits.values().step_by(501) {
        let prefix = IdPrefix::new(&id.0[..9], None).unwrap();
        assert_eq!(sidecar.find_ids(&prefix, 5).unwrap(), model.find_ids(&prefix, 5));
        assert!(reads() <= 6, "a search by id");
    }
    assert!(sidecar.resident_bytes() < sidecar.filter_bytes() + (64 << 10));
}

#[test]
fn long_keys_that_begin_alike_make_a_deeper_index() {
    let mut model = Model::default();
    for number in 0..3000_u32 {
        let mut key = vec![b'k'; 1060];
        key.extend(format!("{number:06}").bytes());
        model.keys.insert(key, (Some(vec![1; 1500]), vec![number]));
    }
    let sidecar = model.open();
    assert!(sidecar.footer.depth > 1, "the test is to see an inner node");
    assert!(!ask_all(&model, &sidecar, &[vec![b'k'; 1060], vec![b'k'; 1061], vec![b'l']]));
    let _ = sidecar.source.disk.reads.take();
    let middle = [vec![b'k'; 1060], b"001500".to_vec()].concat();
    sidecar.lookup(&middle).unwrap().unwrap();
    assert!(sidecar.source.disk.reads.get() <= 3);
    let walked = walk(&sidecar, Bound::Excluded(&middle)).unwrap();
    assert_eq!(walked.len(), 1499);
    sidecar.check().unwrap();
}

#[test]
#[should_panic(expected = "ascend strictly")]
fn keys_out_of_order_are_our_own_mistake() {
    let mut builder = Builder::new(STORE, SEGMENT, SEAL);
    builder.key(b"b", None, &[]);
    builder.key(b"b", None, &[]);
}

#[test]
#[should_panic(expected = "commits of a sidecar ascend")]
fn commits_out_of_order_are_our_own_mistake() {
    let mut builder = Builder::new(STORE, SEGMENT, SEAL);
    builder.commit(1, 5, 0, &CommitId::ZERO);
    builder.commit(1, 5, 0, &CommitId::ZERO);
}
