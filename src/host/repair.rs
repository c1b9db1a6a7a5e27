//! Verifies and repairs a replica that is open.

use super::locked;
use super::peers::{NodeError, SyncReport, SyncTarget};
use super::replica::Replica;
use super::verify::Report;
use crate::engine::store::{self, Repaired, WriteError};

/// What a repair did.
#[derive(Debug)]
pub struct RepairReport {
    /// What was rewritten, rebuilt, and is still missing.
    pub repaired: Repaired,
    /// How the peers answered that were asked.
    pub peers: Vec<SyncReport>,
}

impl Replica {
    /// Reads all files as they lie there, and changes none.
    ///
    /// # Errors
    /// [`store::OpenError`] if they cannot be read at all.
    pub fn verify(&self, deep: bool) -> Result<Report, store::OpenError> {
        // What is in memory only is not yet to be found in the files.
        let _ = self.flush();
        Ok(Report::new(store::verify(&self.shared.disk, deep)?))
    }

    /// Makes a damaged store whole with what peers hold; without `from` all known ones are asked.
    ///
    /// # Errors
    /// [`NodeError`] if the disk refuses, a ticket is none, or no peer is known that could help.
    pub fn repair(&self, from: Vec<SyncTarget>) -> Result<RepairReport, NodeError> {
        self.read(|store| store.begin_repair())?;
        let (damaged, wants_help) =
            self.read(|store| (store.damage().is_some(), store.wants_help()));
        let mut peers = Vec::new();
        if wants_help {
            let targets = if from.is_empty() { vec![SyncTarget::All] } else { from };
            for target in targets {
                match self.sync(target, None) {
                    Ok(reports) => peers.extend(reports),
                    Err(_) if !damaged => break,
                    Err(error) => {
                        self.read(|store| store.end_repair()).map_err(WriteError::Read)?;
                        return Err(error);
                    }
                }
            }
        }
        let mut repaired = if damaged && !peers.iter().any(|peer| peer.in_sync) {
            self.read(|store| store.end_repair()).map_err(WriteError::Read)?;
            Repaired {
                missing: vec!["no peer was reached that holds what is lost".to_owned()],
                ..Repaired::default()
            }
        } else {
            self.read(|store| store.finish_repair())?
        };
        if let Some(damage) = locked(&self.shared.state).node.store_ref().damage() {
            repaired.missing.push(damage.to_string());
        }
        Ok(RepairReport { repaired, peers })
    }
}
