//! Damage concerns only what it may concern: every answer of a store with rotted bytes is that of
//! an undamaged twin, or says that it is damaged.

use super::*;
use crate::log::FileId;

const KEYS: u64 = 40;
const SPACES: [&str; 2] = ["default", "other"];

/// Fills a store of several segments: two spaces, two authors, registers and counters. The second
/// space lies in the first segments only. Returns the disk as the end in order left it.
fn sample(rounds: u64) -> MemoryDisk {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let (mut store, mut peer) = (open(&disk, 1), open(&other, 2));
    for name in SPACES {
        let id = store.create_space(now(1), name).unwrap();
        peer.join_space(id, name).unwrap();
    }
    let default = store.space_named("default").unwrap();
    pass(&mut store, &mut peer, default);
    for i in 0..rounds {
        let n = i * 7 % KEYS;
        let by = Op::CounterAdd(1);
        let add = KeyOp { key: key(&format!("count-{n:02}")), op: by, retype: false, expect: None };
        let ops = vec![put(&format!("key-{n:02}"), &i.to_string()), add];
        let space = store.space_named(SPACES[usize::from(i % 5 == 0 && i < rounds / 4)]).unwrap();
        store.write(now(10 + i), Write { space, ops, ..Write::default() }).unwrap();
        if i % 16 == 0 {
            write(&mut peer, 10 + i, vec![put(&format!("peer-{n:02}"), &i.to_string())]);
            pass(&mut peer, &mut store, default);
        }
        store.sync().unwrap();
    }
    // Nothing is folded into a sidecar at the end: what was not sealed stays to be replayed.
    store.log.close().unwrap();
    drop(store);
    disk.snapshot()
}

/// All that a store answers, each as one text: what a caller asked, and what came.
fn answers(store: &mut TestStore) -> BTreeMap<String, Result<String, String>> {
    let mut all = BTreeMap::new();
    for name in SPACES {
        let space = store.space_named(name).unwrap();
        for kind in ["key", "count", "peer", "none"] {
            for n in 0..KEYS {
                let key = key(&format!("{kind}-{n:02}"));
                let got = store.ask(|store| store.get(&space, &key, None));
                let got = got.map(|view| format!("{view:?}"));
                all.insert(format!("get {name} {key}"), told(got));
                let past = store.ask(|store| store.history(&space, &key, usize::MAX));
                all.insert(format!("history {name} {key}"), told(past.map(|p| format!("{p:?}"))));
            }
            let page = store.ask(|store| store.list(&space, kind, None, usize::MAX, None));
            all.insert(format!("list {name} {kind}"), told(page.map(|p| format!("{:?}", p.keys))));
        }
        let point = Point::Time(now(100).wall);
        let page = store.ask(|store| {
            let at = store.resolve(&space, &point)?;
            store.list(&space, "", None, usize::MAX, Some(&at))
        });
        all.insert(format!("past {name}"), told(page.map(|p| format!("{:?}", p.keys))));
        let values = store.ask(|store| store.value_hash(&space));
        all.insert(format!("hash {name}"), told(values.map(|h| format!("{h:?}"))));
        let commits = store.ask(|store| {
            let whole = (Position::default(), store.written());
            store.arrived(&space, whole.0, whole.1, usize::MAX)
        });
        // A repair may change their order.
        let ids = commits.map(|(commits, _)| {
            let mut ids: Vec<_> = commits.iter().map(|commit| commit.tip.id).collect();
            ids.sort_unstable();
            ids
        });
        all.insert(format!("arrived {name}"), told(ids.map(|ids| format!("{ids:?}"))));
    }
    all
}

/// Damage is an answer; anything else that fails is none.
fn told(answer: Result<String, ReadError>) -> Result<String, String> {
    answer.map_err(|error| match error {
        ReadError::Damaged(damaged) => damaged.to_string(),
        other => panic!("neither an answer nor damage: {other:?}"),
    })
}

/// Compares with the twin; returns how many answers tell of damage, by their first word.
fn compare(store: &mut TestStore, twin: &BTreeMap<String, Result<String, String>>) -> Told {
    let mut told = Told::default();
    for (question, answer) in answers(store) {
        match answer {
            Ok(_) => assert_eq!(Some(&answer), twin.get(&question), "{question}"),
            Err(_) => *told.entry(question.split('-').next().unwrap().to_owned()).or_default() += 1,
        }
    }
    told
}

type Told = BTreeMap<String, usize>;

fn segments(disk: &MemoryDisk) -> Vec<FileId> {
    disk.files(FileKind::Segment).unwrap()
}

#[test]
fn a_flipped_bit_gives_no_answer_that_the_undamaged_twin_does_not_give() {
    let pristine = sample(400);
    let twin = answers(&mut open(&Arc::new(pristine.snapshot()), 1));
    assert!(twin.values().all(Result::is_ok));
    let files = segments(&pristine);
    assert!(files.len() > 3, "several segments are sealed: {}", files.len());
    let mut rng = Rng::new([5; 32]);
    for round in 0..120 {
        let disk = Arc::new(pristine.snapshot());
        let file = files[round % files.len()];
        let bits = disk.len(file).unwrap() * 8;
        assert!(disk.flip_bit(file, rng.below(bits)));
        let sealed = file != files[files.len() - 1];
        if sealed && round % 3 == 0 {
            disk.remove(FileId { kind: FileKind::Sidecar, number: file.number }).unwrap();
        }
        let found = verify(&disk, false).unwrap();
        assert!(found.problems.iter().any(|p| p.kind != "derived"), "round {round} is found");
        let told = compare(&mut open(&disk, 1), &twin);
        if sealed && round % 3 != 0 {
            let count = |what: &str| told.get(what).copied().unwrap_or_default();
            assert!(count("get default key") + count("get default count") <= 2, "{told:?}");
            assert!(count("history default key") + count("history default count") <= 2, "{told:?}");
            let concerned = |space: &str| count(&format!("arrived {space}"));
            assert!(concerned("default") + concerned("other") <= 1, "{told:?}");
            assert_eq!(count("list default key"), 0, "{told:?}");
        }
        // Told a second time, after another opening, it is the same.
        assert_eq!(compare(&mut open(&disk, 1), &twin), told, "round {round}");
    }
}

#[test]
fn a_lost_segment_with_its_sidecar_costs_only_the_history_that_lies_in_it() {
    let pristine = sample(400);
    let twin = answers(&mut open(&Arc::new(pristine.snapshot()), 1));
    let files = segments(&pristine);
    for (at, file) in files.iter().enumerate().take(files.len() - 1) {
        let disk = Arc::new(pristine.snapshot());
        disk.remove(*file).unwrap();
        let mut store = open(&disk, 1);
        let told = compare(&mut store, &twin);
        assert!(!told.contains_key("list default key"), "segment {at}: {told:?}");
        assert!(!told.contains_key("hash default"), "segment {at}: {told:?}");
        assert!(told.contains_key("history default key"), "segment {at}: {told:?}");
        let space = store.space_named("default").unwrap();
        assert_eq!(store.state_hash(&space).unwrap(), None, "something is missing");
    }
}

#[test]
fn rot_in_the_growing_segment_leaves_spaces_alone_that_it_does_not_name() {
    let pristine = sample(400);
    let twin = answers(&mut open(&Arc::new(pristine.snapshot()), 1));
    let last = segments(&pristine).pop().unwrap();
    let (mut alone, mut all, mut none) = (0, 0, 0);
    let mut rng = Rng::new([6; 32]);
    for _ in 0..60 {
        let disk = Arc::new(pristine.snapshot());
        assert!(disk.flip_bit(last, (124 + rng.below(disk.len(last).unwrap() - 124)) * 8));
        let mut store = open(&disk, 1);
        let told = compare(&mut store, &twin);
        let concerns = |name: &str| told.keys().any(|question| question.contains(name));
        match (concerns("default"), concerns("other")) {
            (true, false) => alone += 1,
            (true, true) => all += 1,
            (false, false) => none += 1,
            (false, true) => panic!("the other space has nothing there: {told:?}"),
        }
        let named = verify(&disk, false).unwrap().problems.remove(0).affected;
        let expected: &[&str] = match (concerns("default"), concerns("other")) {
            (true, true) => &["space:default", "space:other"],
            (true, false) => &["space:default"],
            _ => &[],
        };
        assert_eq!(named, expected);
    }
    assert!(alone > all && none > 0, "most rot names its space: {alone} {all} {none}");
}

#[test]
fn verify_names_the_keys_whose_records_are_damaged() {
    let pristine = sample(400);
    let store = open(&Arc::new(pristine.snapshot()), 1);
    let space = store.space_named("default").unwrap();
    let whole = (Position::default(), store.written());
    let (arrived, _) = store.arrived(&space, whole.0, whole.1, usize::MAX).unwrap();
    let in_first = arrived.iter().filter(|a| a.position.segment == 2);
    for arrived in in_first.step_by(7) {
        let disk = Arc::new(pristine.snapshot());
        let file = segments(&disk)[1];
        assert!(disk.flip_bit(file, u64::from(arrived.next.offset - 1) * 8));
        let found = verify(&disk, false).unwrap();
        let mut keys: Vec<String> =
            arrived.commit.events.iter().map(|e| e.key().unwrap().to_string()).collect();
        keys.sort();
        assert_eq!(found.problems.len(), 1);
        assert_eq!(found.problems[0].affected, keys);
        assert_eq!(found.problems[0].affected_omitted, 0);
    }
}

#[test]
fn what_is_intact_behind_rot_is_shown_to_who_asks_for_it() {
    let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let (mut store, mut peer) = (open(&disk, 1), open(&other, 2));
    let space = store.create_space(now(1), "default").unwrap();
    peer.join_space(space, "default").unwrap();
    pass(&mut store, &mut peer, space);
    write(&mut store, 2, vec![put("before", "1")]);
    let lost = write(&mut store, 3, vec![put("lost", "2")]);
    store.sync().unwrap();
    // Of another author, who had not seen what is lost.
    write(&mut peer, 4, vec![put("behind", "3")]);
    pass(&mut peer, &mut store, space);
    write(&mut store, 5, vec![put("upon", "4")]);
    store.close().unwrap();
    let file = segments(&disk)[0];
    assert!(disk.flip_bit(file, u64::from(lost.position.unwrap().offset + 20) * 8));
    let mut store = open(&disk, 1);
    for name in ["before", "lost", "behind", "upon", "never"] {
        let got = store.get(&space, &key(name), None);
        assert!(matches!(got, Err(ReadError::Damaged(_))), "{name}: {got:?}");
    }
    let shown = |store: &mut TestStore, name: &str| {
        let (got, partial) = store.with_degraded(|store| store.get(&space, &key(name), None));
        assert!(partial, "{name} is marked");
        got.unwrap().is_some()
    };
    assert!(shown(&mut store, "before"));
    assert!(shown(&mut store, "behind"));
    assert!(!shown(&mut store, "lost"));
    assert!(!shown(&mut store, "upon"), "what builds upon it is not shown");
    let (page, partial) =
        store.with_degraded(|store| store.list(&space, "", None, usize::MAX, None));
    assert_eq!((page.unwrap().keys.len(), partial), (2, true));
    // What was shown that way is not taken for the truth afterwards.
    assert!(matches!(store.get(&space, &key("before"), None), Err(ReadError::Damaged(_))));
}

#[test]
fn what_a_disk_cannot_read_is_passed_over_where_that_is_asked_for() {
    let pristine = sample(400);
    let mut whole = open(&Arc::new(pristine.snapshot()), 1);
    let space = whole.space_named("default").unwrap();
    let all = whole.arrived(&space, Position::default(), whole.written(), usize::MAX).unwrap().0;
    for arrived in all.iter().skip(1).step_by(37) {
        let disk = Arc::new(pristine.snapshot());
        let mut store = open(&disk, 1);
        let file = store.log.file_of(arrived.position.segment).unwrap();
        let place = u64::from(arrived.position.offset);
        disk.faults(|faults| faults.unreadable = vec![(file, place..place + 8)]);
        let key = arrived.commit.events[0].key().unwrap();
        let history = |store: &mut TestStore| store.history(&space, &key, usize::MAX);
        let refused = history(&mut store);
        assert!(matches!(refused, Err(ReadError::Disk(_))), "{refused:?}");
        let (read, partial) = store.with_degraded(history);
        assert!(partial, "{key}");
        assert_eq!(read.unwrap().len() + 1, history(&mut whole).unwrap().len(), "{key}");
        let (page, partial) = store.with_degraded(|store| {
            let upto = store.written();
            store.arrived(&space, Position::default(), upto, usize::MAX)
        });
        let left = all.len() - page.unwrap().0.len();
        assert!(partial && (1..16).contains(&left), "{key}: {left}");
    }
}

#[test]
fn a_repair_without_help_changes_no_answer_and_one_with_help_makes_all_whole() {
    let pristine = sample(400);
    let mut whole = open(&Arc::new(pristine.snapshot()), 1);
    let twin = answers(&mut whole);
    let files = segments(&pristine);
    let mut rng = Rng::new([7; 32]);
    for round in 0..20 {
        let disk = Arc::new(pristine.snapshot());
        let file = files[round % files.len()];
        if round >= 12 {
            // The record that names the logs of the segment, and what else could name them.
            assert!(disk.flip_bit(file, (124 + 30) * 8));
            let _ = disk.remove(FileId { kind: FileKind::Sidecar, number: file.number });
        } else if round % 4 == 3 {
            disk.remove(file).unwrap();
        } else {
            assert!(disk.flip_bit(file, rng.below(disk.len(file).unwrap() * 8)));
        }
        let mut store = open(&disk, 1);
        let told = compare(&mut store, &twin);
        store.begin_repair().unwrap();
        store.end_repair().unwrap();
        assert_eq!(compare(&mut store, &twin), told, "round {round}: no peer");
        store.begin_repair().unwrap();
        for name in SPACES {
            let space = whole.space_named(name).unwrap();
            pass(&mut whole, &mut store, space);
        }
        let repaired = store.finish_repair().unwrap();
        assert_eq!(repaired.missing, Vec::<String>::new(), "round {round}");
        assert_eq!(compare(&mut store, &twin), Told::new(), "round {round}: whole");
        for name in SPACES {
            let space = whole.space_named(name).unwrap();
            let hash = whole.state_hash(&space).unwrap();
            assert!(hash.is_some() && store.state_hash(&space).unwrap() == hash, "round {round}");
        }
        store.close().unwrap();
        assert_eq!(verify(&disk, true).unwrap().problems, [], "round {round}");
    }
}

#[test]
fn a_repair_that_a_disk_breaks_off_anywhere_is_done_by_the_next() {
    let pristine = sample(200);
    let mut whole = open(&Arc::new(pristine.snapshot()), 1);
    let twin = answers(&mut whole);
    let mut help = |store: &mut TestStore| {
        store.begin_repair().unwrap();
        for name in SPACES {
            let space = whole.space_named(name).unwrap();
            pass(&mut whole, store, space);
        }
    };
    let mut broken_off = 0;
    for (round, passed) in (0..14).flat_map(|n| [(0, n), (1, n)]) {
        // What comes after the segment that is gone builds upon it.
        let disk = Arc::new(pristine.snapshot());
        disk.remove(segments(&pristine)[1]).unwrap();
        let mut store = open(&disk, 1);
        help(&mut store);
        disk.faults(|faults| match round {
            0 => (faults.writes_to_pass, faults.writes_to_fail) = (passed, 2),
            _ => (faults.syncs_to_pass, faults.syncs_to_fail) = (passed, 2),
        });
        broken_off += u32::from(store.finish_repair().is_err());
        disk.faults(|faults| *faults = Default::default());
        if passed % 2 == 1 || store.trouble().is_some() {
            store = open(&disk, 1);
        }
        let damaged = store.damage().is_some();
        let told = !verify(&disk, true).unwrap().problems.is_empty();
        assert!(told || !damaged, "{round}, after {passed}");
        help(&mut store);
        assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
        for _ in 0..2 {
            assert_eq!(compare(&mut store, &twin), Told::new(), "{round}, after {passed}");
            store.close().unwrap();
            assert_eq!(verify(&disk, true).unwrap().problems, []);
            store = open(&disk, 1);
        }
    }
    assert!(broken_off > 8, "{broken_off}");
}

#[test]
fn a_repair_ends_only_once_all_is_here_that_the_index_knows_of() {
    let pristine = sample(400);
    let disk = Arc::new(pristine.snapshot());
    let files = segments(&disk);
    disk.remove(files[files.len() - 2]).unwrap();
    let mut store = open(&disk, 1);
    store.begin_repair().unwrap();
    let repaired = store.finish_repair().unwrap();
    assert!(!repaired.missing.is_empty());
    assert!(!verify(&disk, false).unwrap().problems.is_empty());
}

#[test]
fn a_repair_writes_anew_whatever_list_is_damaged() {
    let kinds = [FileKind::Manifest, FileKind::Mark, FileKind::Local];
    let files = |disk: &MemoryDisk| {
        kinds.into_iter().flat_map(|kind| disk.files(kind).unwrap()).collect::<Vec<_>>()
    };
    for rounds in [0, 40] {
        let pristine = sample(rounds);
        for file in files(&pristine) {
            // Damaged before the store is opened, and behind its back.
            for opened in [false, true] {
                let disk = Arc::new(pristine.snapshot());
                let before = opened.then(|| open(&disk, 1));
                assert!(disk.flip_bit(file, 99));
                let mut store = before.unwrap_or_else(|| open(&disk, 1));
                store.begin_repair().unwrap();
                assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
                let found = verify(&disk, true).unwrap().problems;
                assert_eq!(found, [], "{file}, opened before: {opened}");
            }
        }
    }
}

/// Goal: where one list of segments rotted and the other cannot be read, or neither can, an open
/// store has them in memory and writes both anew.
#[test]
fn a_repair_writes_anew_what_no_list_tells_any_more() {
    let pristine = sample(400);
    let lists = pristine.files(FileKind::Manifest).unwrap();
    assert_eq!(lists.len(), 2);
    for (rotted, unread) in [(vec![0], vec![1]), (vec![1], vec![0]), (vec![], vec![0, 1])] {
        for opened in [false, true] {
            let disk = Arc::new(pristine.snapshot());
            let before = opened.then(|| open(&disk, 1));
            assert!(rotted.iter().all(|at| disk.flip_bit(lists[*at], 99)));
            let all = unread.iter().map(|at| (lists[*at], 0..64)).collect::<Vec<_>>();
            disk.faults(|faults| faults.unreadable.clone_from(&all));
            let problems = verify(&disk, true).unwrap().problems;
            let told = |file: FileId, kind| {
                problems.iter().any(|found| found.file == file.path() && found.kind == kind)
            };
            assert!(unread.iter().all(|at| told(lists[*at], "unreadable")), "{problems:?}");
            if !opened && rotted.is_empty() {
                let options =
                    Options { memory_bytes: 1 << 20, segment_bytes: 1 << 14, place: None };
                let key = KeyPair::from_seed([1; 32]);
                let refused = Store::open(Arc::clone(&disk), key, [1; 32], now(0), options);
                let error = refused.err().unwrap().to_string();
                assert!(error.contains("neither list") && error.contains("manifest"), "{error}");
                continue;
            }
            let mut store = before.unwrap_or_else(|| open(&disk, 1));
            store.begin_repair().unwrap();
            assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
            assert_eq!(verify(&disk, true).unwrap().problems, [], "{rotted:?} {unread:?} {opened}");
        }
    }
}

#[test]
fn verify_names_a_derived_file_that_cannot_be_read() {
    let disk = Arc::new(sample(400));
    let file = disk.files(FileKind::Sidecar).unwrap()[0];
    let len = disk.len(file).unwrap();
    for place in [0, len / 2, len - 1] {
        disk.faults(|faults| faults.unreadable = vec![(file, place..place + 1)]);
        let found = verify(&disk, false).unwrap().problems;
        assert!(found.iter().any(|p| p.file == file.path() && p.kind == "unreadable"), "{found:?}");
    }
}

#[test]
fn a_derived_file_that_cannot_be_read_is_built_anew() {
    let pristine = sample(400);
    let twin = answers(&mut open(&Arc::new(pristine.snapshot()), 1));
    for file in pristine.files(FileKind::Sidecar).unwrap() {
        let len = pristine.len(file).unwrap();
        for place in (0..len).step_by(2048).chain([len - 1]) {
            let disk = Arc::new(pristine.snapshot());
            let all = vec![(file, place / 512 * 512..(place / 512 + 1) * 512)];
            disk.faults(|faults| faults.unreadable.clone_from(&all));
            let mut store = open(&disk, 1);
            assert_eq!(compare(&mut store, &twin), Told::new(), "{file} at {place}");
            drop(store);
            disk.faults(|faults| faults.unreadable = all);
            let mut store = open(&disk, 1);
            write(&mut store, 9000, vec![put("later", "1")]);
            assert_eq!(text(&mut store, "later").as_deref(), Some("1"), "{file} at {place}");
        }
    }
}

#[test]
fn a_store_serves_from_one_local_file_and_goes_on_under_a_new_incarnation() {
    let pristine = sample(40);
    let before = open(&Arc::new(pristine.snapshot()), 1).own_log().unwrap();
    for number in 0..2 {
        for unreadable in [false, true] {
            let disk = Arc::new(pristine.snapshot());
            let file = FileId { kind: FileKind::Local, number };
            if unreadable {
                disk.faults(|faults| faults.unreadable = vec![(file, 0..512)]);
            } else {
                assert!(disk.flip_bit(file, 99));
            }
            let found = verify(&disk, false).unwrap().problems;
            let kind = if unreadable { "unreadable" } else { "rotted" };
            assert!(found.iter().any(|p| p.file == file.path() && p.kind == kind), "{found:?}");
            // The other may be the older one, and of a life that is over.
            let mut store = open(&disk, 1);
            let written = write(&mut store, 9000, vec![put("later", "1")]);
            assert_ne!(written.tip.log, before, "{file}, unreadable: {unreadable}");
            store.close().unwrap();
            // The write stored both facts, and the file is whole again.
            assert_eq!(verify(&disk, true).unwrap().problems, []);
            assert_eq!(open(&disk, 1).own_log().unwrap(), written.tip.log);
        }
    }
}

#[test]
fn what_could_not_be_read_at_one_opening_is_whole_at_the_next() {
    let pristine = sample(400);
    let twin = answers(&mut open(&Arc::new(pristine.snapshot()), 1));
    let last = segments(&pristine).pop().unwrap();
    for place in (0..pristine.len(last).unwrap()).step_by(384) {
        for asks in [false, true] {
            let disk = Arc::new(pristine.snapshot());
            disk.faults(|faults| faults.unreadable = vec![(last, place..place + 64)]);
            let mut store = open(&disk, 1);
            compare(&mut store, &twin);
            assert!(!verify(&disk, false).unwrap().problems.is_empty(), "{place}");
            disk.faults(|faults| faults.unreadable.clear());
            for name in SPACES {
                // Who has no state hash is told why.
                let space = store.space_named(name).unwrap();
                let hash = store.state_hash(&space).unwrap();
                assert_eq!(hash.is_none(), store.loss(&space).is_some(), "{place}");
            }
            assert_eq!(verify(&disk, true).unwrap().problems, [], "{place}");
            if asks {
                store.begin_repair().unwrap();
                assert_eq!(store.finish_repair().unwrap().repaired, Vec::<String>::new());
            } else {
                store = open(&disk, 1);
            }
            assert_eq!(compare(&mut store, &twin), Told::new(), "{place}, asks: {asks}");
        }
    }
}

#[test]
fn what_a_peer_sent_again_meanwhile_is_counted_once() {
    let pristine = sample(400);
    let mut whole = open(&Arc::new(pristine.snapshot()), 1);
    let last = segments(&pristine).pop().unwrap();
    let places = (128..pristine.len(last).unwrap()).step_by(640);
    for (place, asks) in places.flat_map(|place| [(place, false), (place, true)]) {
        let disk = Arc::new(pristine.snapshot());
        disk.faults(|faults| faults.unreadable = vec![(last, place..place + 64)]);
        let mut store = open(&disk, 1);
        for name in SPACES {
            let space = whole.space_named(name).unwrap();
            pass(&mut whole, &mut store, space);
        }
        store.sync().unwrap();
        disk.faults(|faults| faults.unreadable.clear());
        if asks {
            store.begin_repair().unwrap();
            assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new(), "{place}");
        } else {
            disk.crash(CrashMode::LoseAll, &mut Rng::new([1; 32]));
            store = open(&disk, 1);
        }
        assert_eq!(compare(&mut store, &answers(&mut whole)), Told::new(), "{place}, {asks}");
        for name in SPACES {
            let space = whole.space_named(name).unwrap();
            let hash = whole.state_hash(&space).unwrap();
            assert!(hash.is_some() && store.state_hash(&space).unwrap() == hash, "{place}, {asks}");
        }
        write(&mut store, 9000, vec![put("later", "1")]);
        store.close().unwrap();
        assert_eq!(verify(&disk, true).unwrap().problems, [], "{place}, {asks}");
    }
}
