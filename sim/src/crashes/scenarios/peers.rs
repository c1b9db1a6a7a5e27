//! Scripts in which a peer takes part.

use kdelta_engine::base::Rng;
use kdelta_engine::log::{CrashMode, Disk, FileKind, MemoryDisk};
use kdelta_engine::store::{Run, Serving};

use super::super::model::Act::{Add, Bytes, Count, Delete, Put};
use super::super::stage::{Halt, PEER_KEY, SUBJECT_KEY};
use super::{Done, Stage};

/// Opens both, with the space of the peer, in which it wrote a little.
fn with_peer(stage: &mut Stage, commits: u64) -> Done {
    stage.open()?;
    stage.start_peer(MemoryDisk::new(), PEER_KEY)?;
    stage.peer_joins()?;
    for i in 0..commits {
        stage.peer_puts(&[(&format!("key-{}", i % 11), Put(i)), ("count", Count(1))])?;
    }
    stage.join("default")
}

/// A fresh replica takes a history in, breaks off, and takes the rest.
pub(super) fn sync_in(stage: &mut Stage) -> Done {
    with_peer(stage, 60)?;
    for round in 0..6 {
        let link = stage.connect()?;
        for i in 0..5 {
            stage.peer_puts(&[("live", Put(i)), ("set", Add(i + round))])?;
            stage.run()?;
        }
        stage.disconnect(link)?;
        for i in 0..20 {
            stage.peer_puts(&[(&format!("key-{i}"), Put(round))])?;
        }
    }
    stage.close()
}

/// Both write, together and apart.
pub(super) fn both_ways(stage: &mut Stage) -> Done {
    with_peer(stage, 3)?;
    for round in 0..8 {
        let link = stage.connect()?;
        for i in 0..4 {
            stage.write(&[("count", Count(1)), ("mine", Put(i))])?;
            stage.peer_puts(&[("count", Count(10)), ("yours", Put(i))])?;
            stage.run()?;
        }
        stage.disconnect(link)?;
        for i in 0..4 {
            stage.put(&[("both", Put(round)), ("set", Add(i))])?;
            stage.peer_puts(&[("both", Put(round + 100)), ("set", Add(i + 2))])?;
        }
        stage.write(&[("set", Delete)])?;
        stage.flush()?;
        if round % 3 == 2 {
            stage.cut_power(CrashMode::KeepAll, 0);
            stage.open()?;
        }
    }
    Ok(())
}

/// Commits that travel in parts and wait on disk for the last one.
pub(super) fn large_chunk(stage: &mut Stage) -> Done {
    with_peer(stage, 1)?;
    stage.peer_puts(&[("asked", Bytes(1, 2_200_000))])?;
    stage.connect()?;
    stage.peer_puts(&[("pushed", Bytes(2, 1_200_000))])?;
    stage.run()?;
    stage.put(&[("mine", Put(1))])?;
    stage.run()
}

/// What another store holds is put into a new one, chunk by chunk, as a restore does.
pub(super) fn copy_in(stage: &mut Stage) -> Done {
    with_peer(stage, 120)?;
    let Some(peer) = &mut stage.peer else { return Err(Halt("no peer".to_owned())) };
    let store = peer.node.store();
    let space = store.space_named("default").unwrap_or_default();
    let frontier = store.frontier(&space).map_err(Halt::because)?;
    let runs = frontier.iter().map(|tip| Run { log: tip.log, after: 0, upto: tip.seq });
    let (mut serving, mut chunks) = (Serving::new(runs), Vec::new());
    while let Some(chunk) = store.next_chunk(&space, &mut serving, 600).map_err(Halt::because)? {
        chunks.push(chunk.bytes);
    }
    for chunk in chunks {
        let now = stage.now();
        stage.store()?.insert_chunk(now, &chunk).map_err(Halt::because)?;
        stage.sync()?;
    }
    stage.close()
}

/// A sealed segment rots; the peer brings back what was in it.
pub(super) fn repair(stage: &mut Stage) -> Done {
    with_peer(stage, 30)?;
    let link = stage.connect()?;
    for i in 0..30 {
        stage.write(&[(&format!("own-{}", i % 5), Put(i)), ("count", Count(1))])?;
        stage.run()?;
    }
    stage.disconnect(link)?;
    stage.close()?;
    let disk = stage.probe.disk();
    let segments = disk.files(FileKind::Segment).map_err(Halt::because)?;
    for file in segments.iter().skip(1).step_by(3).take(2) {
        disk.flip_bit(*file, Disk::len(&disk, *file).map_err(Halt::because)? * 3);
    }
    stage.open()?;
    stage.store()?.begin_repair().map_err(Halt::because)?;
    stage.connect()?;
    let repaired = stage.store()?.finish_repair().map_err(Halt::because)?;
    if !repaired.missing.is_empty() || repaired.repaired.is_empty() {
        return Err(Halt(format!("it was not repaired: {repaired:?}")));
    }
    stage.run()?;
    stage.close()
}

/// An old state of the disk is put back; the peer knows more than it says.
pub(super) fn set_back(stage: &mut Stage) -> Done {
    with_peer(stage, 3)?;
    for round in 0..4 {
        let link = stage.connect()?;
        stage.write(&[("count", Count(1)), ("key", Put(round))])?;
        stage.run()?;
        let old = stage.probe.disk().snapshot();
        old.crash(CrashMode::LoseAll, &mut Rng::new([0; 32]));
        for i in 0..10 {
            stage.write(&[("count", Count(1)), (&format!("key-{i}"), Put(round))])?;
            stage.run()?;
        }
        stage.disconnect(link)?;
        stage.set_back(old)?;
        stage.open()?;
        // It learns what it forgot, and writes under another incarnation from then on.
        let link = stage.connect()?;
        for _ in 0..3 {
            stage.write(&[("count", Count(1))])?;
            stage.run()?;
        }
        stage.disconnect(link)?;
    }
    Ok(())
}

/// Two that go on from one disk meet: their log is closed, and both branches count.
pub(super) fn fork(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for _ in 0..5 {
        stage.put(&[("count", Count(1))])?;
    }
    let twin = stage.probe.disk().snapshot();
    stage.start_peer(twin, SUBJECT_KEY)?;
    for _ in 0..6 {
        stage.put(&[("count", Count(100))])?;
        stage.peer_puts(&[("count", Count(10_000))])?;
    }
    stage.connect()?;
    for _ in 0..4 {
        stage.put(&[("count", Count(1))])?;
        stage.run()?;
        stage.peer_puts(&[("count", Count(10_000))])?;
        stage.run()?;
    }
    Ok(())
}
