//! Scripts about ends and beginnings.

use kdelta_engine::base::ReplicaId;
use kdelta_engine::log::{CrashMode, Disk, FileKind};
use kdelta_engine::store::LocalTicket;

use super::super::model::Act::{Add, Count, Put};
use super::super::stage::Halt;
use super::{Done, Stage};

/// Peers that are admitted and sent away, tickets that are issued and used.
pub(super) fn admissions(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    for i in 0..40_u8 {
        let (replica, space) = (ReplicaId([i % 7; 32]), stage.store()?.space_named("default"));
        stage.edit(move |local| {
            if i % 3 == 2 {
                local.peers.retain(|peer| peer.replica != replica);
            } else if let Some(peer) = local.peer_mut(replica) {
                peer.admitted.extend(space);
                peer.addresses = vec![format!("[::1]:{i}")];
            }
        })?;
        stage.edit(move |local| {
            let (space, expires_ms) = (space.unwrap_or_default(), u64::from(i));
            local.tickets.retain(|ticket| ticket.expires_ms % 5 != expires_ms % 5);
            local.tickets.push(LocalTicket { secret: [i; 32], space, expires_ms, uses_left: 1 });
        })?;
        stage.put(&[("key", Put(u64::from(i)))])?;
    }
    Ok(())
}

/// Orderly ends, each followed by a beginning and a few writes.
pub(super) fn close_and_reopen(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..25 {
        stage.put(&[("key", Put(i)), ("count", Count(1))])?;
        stage.write(&[(&format!("key-{}", i % 9), Put(i))])?;
        stage.close()?;
        stage.open()?;
        if i % 4 == 0 {
            stage.close()?;
            stage.open()?;
        }
    }
    Ok(())
}

/// Crashes of every kind, each in the middle of something; the power is cut again in each recovery.
pub(super) fn crash_and_reopen(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    stage.sync()?;
    for round in 0..3 {
        for (i, mode) in (0_u8..).zip(CrashMode::ALL) {
            stage.put(&[("key", Put(u64::from(i))), ("count", Count(1))])?;
            for n in 0..3 + round {
                stage.write(&[(&format!("key-{n}"), Put(u64::from(i))), ("set", Add(n))])?;
                stage.flush()?;
            }
            stage.write(&[("never flushed", Count(1))])?;
            stage.cut_power(mode, i);
            stage.open()?;
        }
    }
    Ok(())
}

/// Derived files that are gone when the store is opened.
pub(super) fn lost_sidecars(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for round in 0..4_u64 {
        for i in 0..40 {
            stage.write(&[
                (&format!("key-{}", (i * 5 + round) % 30), Put(i)),
                ("count", Count(1)),
            ])?;
            if i % 4 == 0 {
                stage.sync()?;
            }
        }
        stage.close()?;
        let disk = stage.probe.disk();
        let sidecars = disk.files(FileKind::Sidecar).map_err(Halt::because)?;
        for (at, file) in (0..).zip(sidecars) {
            if round == 0 || at % round == 0 {
                disk.remove(file).map_err(Halt::because)?;
            }
        }
        stage.open()?;
    }
    Ok(())
}
