//! Makes a store ready to go on under another key.
//!
//! A replica signs its own logs whenever they are asked for, and keeps no signature. Under another
//! key it cannot: so what vouches for them is stored before the key is changed. And the life that
//! wrote them ends, for the key may be used elsewhere, now or later.

use super::{Damaged, ReadError, Store, WriteError};
use crate::base::LogId;
use crate::causal::Tip;
use crate::log::Disk;

impl<D: Disk + Clone> Store<D> {
    /// Stores what vouches for the own logs as they stand, and begins a new incarnation.
    ///
    /// Afterwards the store may be opened under any key. Nothing speaks against going on under
    /// this one. The vouchers are in the log's open group on return and not yet durable.
    ///
    /// # Errors
    /// [`WriteError`]. Of a store that is damaged nothing is handed over: what is lost of the own
    /// logs could not be vouched for when it comes again.
    pub fn hand_over(&mut self) -> Result<(), WriteError> {
        if let Some(&segment) = self.damaged_places.first() {
            return Err(ReadError::Damaged(Damaged { segment, offset: 0 }).into());
        }
        if self.local.generation == 0 {
            return Ok(());
        }
        let own = self.key.id();
        for space_ix in 0..self.tables.len() {
            let logs = self.table(space_ix)?.logs().filter(|log| log.tip().log.replica == own);
            let ends: Vec<(LogId, Tip)> = logs.map(|log| (log.log, log.tip())).collect();
            for (name, tip) in ends {
                let voucher = self.past_rot(WriteError::to_rebuild, |store| {
                    Ok(store.voucher(space_ix, &name, tip.seq)?)
                })?;
                self.append_voucher(space_ix, tip, voucher)?;
            }
        }
        self.new_life = true;
        self.own_log()?;
        Ok(())
    }
}
