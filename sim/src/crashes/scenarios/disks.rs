//! Scripts about disks that fail or fill up while the replica runs.

use kdelta_engine::store::WriteError;

use super::super::model::Act::{Bytes, Count, Put};
use super::super::stage::Halt;
use super::{Done, Stage};

/// Syncs that fail now and then: what was not durable goes to a new segment.
pub(super) fn failing_syncs(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    for i in 0..60 {
        stage.write(&[(&format!("key-{}", i % 9), Put(i)), ("count", Count(1))])?;
        stage.flush()?;
        stage.write(&[("late", Put(i))])?;
        if i % 5 == 0 {
            stage.probe.disk().faults(|faults| {
                (faults.syncs_to_pass, faults.syncs_to_fail) = (i % 3, 1);
            });
        }
        stage.sync()?;
        stage.put(&[("after", Count(1))])?;
    }
    Ok(())
}

/// Writes that fail half done.
pub(super) fn failing_writes(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    for i in 0..60 {
        stage.write(&[(&format!("key-{}", i % 9), Put(i)), ("count", Count(1))])?;
        stage.write(&[("late", Put(i))])?;
        if i % 5 == 0 {
            stage.probe.disk().faults(|faults| {
                (faults.writes_to_pass, faults.writes_to_fail) = (i % 2, 1);
            });
        }
        stage.sync()?;
        stage.put(&[("after", Count(1))])?;
    }
    Ok(())
}

/// A disk that fills up, refuses, and has room again.
pub(super) fn full_disk(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    for round in 0..10_u64 {
        let disk = stage.probe.disk();
        let used: usize = disk
            .all_files()
            .into_iter()
            .filter_map(|file| disk.content(file))
            .map(|c| c.len())
            .sum();
        let room = used as u64 + 900 + round * 250;
        disk.faults(|faults| faults.space = Some(room));
        let refused = (0..200).find_map(|i| {
            let acts = [("key", Put(i)), ("big", Bytes(3, 100)), ("count", Count(1))];
            stage.put(&acts).err()
        });
        if refused.is_none() {
            return Err(Halt("the disk never was full".to_owned()));
        }
        // What is not on the disk was taken back.
        stage.settle(false)?;
        match stage.store()?.sync() {
            Ok(()) | Err(WriteError::Log(_)) => stage.note(),
            Err(error) => return Err(Halt::because(error)),
        }
        if round % 3 == 2 {
            stage.cut_power(kdelta_engine::log::CrashMode::KeepAll, 0);
            stage.probe.disk().faults(|faults| faults.space = Some(room));
            stage.open()?;
        }
        stage.probe.disk().faults(|faults| faults.space = None);
        stage.put(&[("room", Put(round)), ("count", Count(1))])?;
    }
    Ok(())
}
