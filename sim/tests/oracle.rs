//! The oracle against the engine: real nodes write, meet, crash and are copied; what their disks
//! hold is decoded and folded anew, and must be what their stores show.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure here is a failed test"
)]

mod oracle_net;

use std::sync::Arc;

use kdelta_engine::base::{Key, Rng};
use kdelta_engine::log::{CrashMode, Disk as _, FileKind, MemoryDisk};
use kdelta_sim::oracle::{
    Content, Fold, Image, Supersedes, compare, compare_at, compare_space, read_image,
};

use oracle_net::{Net, files};

fn image(disk: &MemoryDisk) -> Image {
    read_image(&files(disk)).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Holds every store of a net against its own disk, now and at some earlier points.
fn check(net: &mut Net, rng: &mut Rng, note: &str) {
    let space = net.space;
    for n in 0..net.nodes.len() {
        let store = net.nodes[n].store();
        store.sync().unwrap();
        let image = image(&net.disks[n]);
        compare(&image, store).unwrap_or_else(|found| panic!("{note}, node {n}: {found}"));
        assert_eq!(image.check_signatures(), Ok(()), "{note}, node {n}");
        let Some(history) = image.spaces.get(&space) else { continue };
        let fold = Fold::new(space, [history]).unwrap();
        for _ in 0..4 {
            let at = usize::try_from(rng.below(history.commits.len() as u64)).unwrap();
            let id = history.commits[at].id;
            compare_at(&fold, store, id)
                .unwrap_or_else(|found| panic!("{note}, node {n}: {found}"));
        }
    }
}

fn play(seed: u64, steps: u64, copies: bool) -> (Net, Rng) {
    let mut rng = Rng::new(kdelta_engine::base::sha256("oracle", &[&seed.to_le_bytes()]));
    let mut net = Net::new(2 + u8::try_from(rng.below(3)).unwrap());
    for step in 0..steps {
        let a = usize::try_from(rng.below(net.nodes.len() as u64)).unwrap();
        let b = usize::try_from(rng.below(net.nodes.len() as u64)).unwrap();
        match rng.below(40) {
            0..=3 => net.connect(a, b),
            4 | 5 => net.cut(a),
            6 => {
                let mode = CrashMode::ALL[usize::try_from(rng.below(11)).unwrap()];
                net.crash(a, mode, &mut rng);
                // What a crash leaves is read as it is, before anybody mends it.
                net.restart(a);
            }
            7 if copies && net.nodes.len() < 6 => net.copy(a),
            8 => net.wait(1 + rng.below(5_000)),
            _ => net.write(a, &mut rng),
        }
        if step % 50 == 49 {
            check(&mut net, &mut rng, &format!("seed {seed}, step {step}"));
        }
    }
    (net, rng)
}

#[test]
fn a_store_shows_what_the_oracle_folds_from_its_disk() {
    for seed in 0..12 {
        let (mut net, mut rng) = play(seed, 200, false);
        check(&mut net, &mut rng, &format!("seed {seed}, at the end"));
    }
}

#[test]
fn copies_and_forks_count_for_the_oracle_as_for_the_engine() {
    let (mut closed, mut met) = (0, 0);
    for seed in 100..112 {
        let (mut net, mut rng) = play(seed, 160, true);
        net.meet();
        check(&mut net, &mut rng, &format!("seed {seed}, after all have met"));
        let space = net.space;
        let images: Vec<Image> = net.disks.iter().map(|disk| image(disk)).collect();
        let all = Fold::new(space, images.iter().filter_map(|i| i.spaces.get(&space))).unwrap();
        for (n, node) in net.nodes.iter_mut().enumerate() {
            // Who holds what all hold together shows what that comes to.
            if node.store().state_hash(&space).unwrap() != Some(all.state_hash()) {
                continue;
            }
            let found = compare_space(&all, node.store());
            found.unwrap_or_else(|found| panic!("seed {seed}, node {n} and all: {found}"));
            met += 1;
        }
        closed += all.causes.closed().len();
    }
    assert!(closed > 3, "logs were forked: {closed}");
    assert!(met > 12, "some came to hold what all hold: {met}");
}

#[test]
fn what_a_crash_leaves_is_read_and_is_no_damage() {
    let mut torn = 0;
    for seed in 200..230 {
        let (mut net, mut rng) = play(seed, 60, false);
        for n in 0..net.nodes.len() {
            for _ in 0..3 {
                net.write(n, &mut rng);
                net.nodes[n].store().flush().unwrap();
            }
            for mode in CrashMode::ALL {
                let disk = net.disks[n].snapshot();
                disk.crash(mode, &mut rng);
                let read = read_image(&files(&disk));
                let image = read.unwrap_or_else(|f| panic!("seed {seed}, {mode:?}: {f}"));
                torn += usize::from(image.torn);
                // The engine, which cuts what is torn, comes to the same.
                let (mut store, _) = net.open(n, &Arc::new(disk));
                let found = compare(&image, &mut store);
                found.unwrap_or_else(|found| panic!("seed {seed}, {mode:?}: {found}"));
            }
        }
    }
    assert!(torn > 10, "tails were torn: {torn}");
}

/// A disk with several segments, closed in order.
fn closed_disk() -> Arc<MemoryDisk> {
    let (mut net, mut rng) = play(7, 0, false);
    for _ in 0..150 {
        net.write(0, &mut rng);
    }
    net.connect(0, 1);
    net.write(1, &mut rng);
    net.meet();
    for _ in 0..30 {
        net.write(0, &mut rng);
    }
    let (space, store) = (net.space, net.nodes[0].store());
    store.set_quota(&space, Some(1 << 30)).unwrap();
    store.close().unwrap();
    Arc::clone(&net.disks[0])
}

#[test]
fn every_flipped_bit_is_found() {
    let disk = closed_disk();
    let whole = image(&disk);
    assert!(whole.segments > 2 && !whole.torn);
    let kinds = [FileKind::Segment, FileKind::Manifest, FileKind::Mark, FileKind::Local];
    let mut rng = Rng::new([9; 32]);
    for file in kinds.into_iter().flat_map(|kind| disk.files(kind).unwrap()) {
        for _ in 0..150 {
            let bad = disk.snapshot();
            let bit = rng.below(disk.len(file).unwrap() * 8);
            assert!(bad.flip_bit(file, bit));
            match read_image(&files(&bad)) {
                Err(fault) => assert!(fault.wrong.len() > 5, "{fault}"),
                Ok(image) => {
                    // The reserved space behind the end: as if a write were torn there.
                    let behind = bit / 8 >= image.end.1 as u64;
                    assert!(image.torn && behind, "{file}, bit {bit}");
                    assert_eq!(image.end, whole.end, "{file}, bit {bit}");
                }
            }
        }
    }
}

#[test]
fn a_missing_or_short_segment_is_found() {
    let disk = closed_disk();
    for file in disk.files(FileKind::Segment).unwrap() {
        let mut without = files(&disk);
        without.remove(&file);
        assert!(read_image(&without).is_err(), "without {file}");
        let mut short = files(&disk);
        short.get_mut(&file).unwrap().truncate(400);
        assert!(read_image(&short).is_err(), "short {file}");
    }
}

#[test]
fn a_store_that_shows_something_else_is_caught() {
    let (mut net, mut rng) = play(3, 120, false);
    net.meet();
    check(&mut net, &mut rng, "untouched");
    let space = net.space;
    let image = image(&net.disks[0]);
    let mut caught = [0; 3];
    for (way, caught) in caught.iter_mut().enumerate() {
        for at in 0..image.spaces[&space].commits.len() {
            // One fact of the history is changed, as if the store had got it wrong.
            let mut history = image.spaces[&space].clone();
            let commit = Arc::make_mut(&mut history.commits[at]);
            let Some(event) = commit.events.first_mut() else { continue };
            let Content::Full { key, payload, .. } = &mut event.content else { continue };
            let name = Key::from_bytes(key).unwrap();
            match way {
                0 => *payload = b"8888888"[..].into(),
                1 if event.supersedes != Supersedes::Dots(vec![]) => {
                    event.supersedes = Supersedes::Dots(vec![]);
                }
                2 => *key = b"elsewhere"[..].into(),
                _ => continue,
            }
            let fold = Fold::new(space, [&history]).unwrap();
            let found = compare_space(&fold, net.nodes[0].store());
            let found = found.err().map(|difference| difference.to_string());
            let found = found.unwrap_or_else(|| panic!("way {way} at {at} is not found"));
            assert!(!found.contains('\n'), "one line: {found}");
            let named = found.contains(name.as_str());
            assert!(named || found.contains("elsewhere"), "{found} names not {name}");
            *caught += 1;
        }
    }
    assert!(caught.iter().all(|caught| *caught > 10), "each way was tried: {caught:?}");
}

#[test]
fn an_image_from_before_the_last_write_is_told_apart() {
    let mut net = Net::new(2);
    let mut rng = Rng::new([4; 32]);
    net.write(0, &mut rng);
    net.nodes[0].store().sync().unwrap();
    let before = image(&net.disks[0]);
    while image(&net.disks[0]).end == before.end {
        net.write(0, &mut rng);
        net.nodes[0].store().sync().unwrap();
    }
    let found = compare(&before, net.nodes[0].store()).unwrap_err();
    assert_eq!(found.about, "the end of the log");
}

/// Run it under a stopwatch to know what a look costs.
#[test]
#[ignore = "looks 200 times at one store of 500 commits"]
fn looks_at_one_store_agree_with_each_other() {
    let mut net = Net::new(3);
    let mut rng = Rng::new([5; 32]);
    let space = net.space;
    while net.nodes[0].store().counts(&space).unwrap().0 < 500 {
        let n = usize::try_from(rng.below(3)).unwrap();
        net.write(n, &mut rng);
        net.connect(n, (n + 1) % 3);
    }
    let store = net.nodes[0].store();
    store.sync().unwrap();
    for _ in 0..200 {
        assert_eq!(compare(&image(&net.disks[0]), net.nodes[0].store()), Ok(()));
    }
}
