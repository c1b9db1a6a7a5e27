//! Scripts in which nobody is admitted without a ticket.

use kdelta_engine::log::{CrashMode, MemoryDisk};

use super::super::model::Act::{Count, Put};
use super::super::stage::PEER_KEY;
use super::{Done, Stage};

/// A replica is given a ticket for the peer's, takes it, and comes in.
pub(super) fn ticket_taken(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.start_peer(MemoryDisk::new(), PEER_KEY)?;
    stage.peer_joins()?;
    for i in 0..12 {
        stage.peer_puts(&[(&format!("key-{i}"), Put(i)), ("count", Count(1))])?;
    }
    stage.peer_issues([9; 32])?;
    stage.take_ticket()?;
    for round in 0..3 {
        let link = stage.connect()?;
        for i in 0..3 {
            stage.write(&[("count", Count(10)), ("mine", Put(i))])?;
            stage.peer_puts(&[("yours", Put(i + round))])?;
            stage.run()?;
        }
        stage.disconnect(link)?;
        stage.cut_power(CrashMode::LoseAll, 0);
        stage.open()?;
    }
    Ok(())
}

/// A replica issues a ticket, and the peer comes in by it.
pub(super) fn ticket_issued(stage: &mut Stage) -> Done {
    stage.open()?;
    stage.create("default")?;
    for i in 0..6 {
        stage.put(&[("key", Put(i)), ("count", Count(1))])?;
    }
    stage.start_peer(MemoryDisk::new(), PEER_KEY)?;
    stage.issue([9; 32])?;
    stage.peer_takes()?;
    for i in 0..6 {
        stage.write(&[("count", Count(1))])?;
        stage.peer_puts(&[("count", Count(10)), ("yours", Put(i))])?;
        stage.run()?;
    }
    stage.cut_power(CrashMode::LoseAll, 0);
    stage.open()?;
    stage.connect()?;
    stage.put(&[("key", Put(7))])?;
    stage.run()
}
