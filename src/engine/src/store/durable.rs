//! Groups, syncs and the orderly end of a store.

use super::refusals::{Outcome, Receipt};
use super::{AppendError, Store, WriteError};
use crate::log::{Disk, DiskError, LogError, Position, SyncTicket};

impl<D: Disk + Clone> Store<D> {
    /// Closes the open group: writes all its records with one write.
    ///
    /// # Errors
    /// The log's. What was taken back is gone from the store too.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let flushed = self.log.flush();
        self.follow()?;
        Ok(flushed?)
    }

    /// Returns the file to sync, if anything written waits for it. One at a time.
    pub fn sync_due(&mut self) -> Option<SyncTicket> {
        self.log.sync_due()
    }

    /// Takes the result of a sync.
    ///
    /// # Errors
    /// The log's: nothing beyond [`durable`](Self::durable) will become durable.
    pub fn synced(
        &mut self,
        ticket: SyncTicket,
        result: Result<(), DiskError>,
    ) -> Result<(), WriteError> {
        let synced = self.log.synced(ticket, result);
        self.follow()?;
        synced?;
        Ok(self.seal_if_full()?)
    }

    /// Makes everything durable here and now; blocks for the disk.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush) and [`synced`](Self::synced), and [`LogError::SyncUnderWay`]
    /// if somebody else has a ticket for what is not durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        while let Some(ticket) = self.sync_due() {
            let result = self.disk.sync(ticket.file);
            self.synced(ticket, result)?;
        }
        if self.durable() < self.written() {
            return Err(LogError::SyncUnderWay.into());
        }
        Ok(())
    }

    /// Writes a mark that says what is durable, if nothing in the log says so yet.
    ///
    /// # Errors
    /// The log's; no record is concerned.
    pub fn idle_mark(&mut self) -> Result<bool, WriteError> {
        let marked = self.log.idle_mark();
        self.follow()?;
        Ok(marked?)
    }

    /// Ends the store in order: everything durable, and the next open finds nothing to replay.
    ///
    /// # Errors
    /// The log's, if something is not durable; what is durable stays so.
    pub fn close(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        match self.leave_marks() {
            // All is durable; the next open has more to do, that is all.
            Err(WriteError::Log(LogError::Full(_) | LogError::ReadOnly(_))) => Ok(()),
            left => left,
        }
    }

    /// Spares the next open work: seals what is long, and marks the end.
    fn leave_marks(&mut self) -> Result<(), WriteError> {
        let spared = self.sealed.len() * TAIL_BYTES_A_SEGMENT;
        let spared = spared.clamp(TAIL_BYTES_MIN, TAIL_BYTES_MAX);
        if self.log.active_bytes() as usize > spared {
            self.seal().map_err(WriteError::from)?;
        }
        let closed = self.log.close();
        self.follow()?;
        Ok(closed?)
    }

    /// Returns the end of the log as readers see it.
    pub fn written(&self) -> Position {
        self.log.written()
    }

    /// Returns the end of the log as a crash would leave it.
    pub fn durable(&self) -> Position {
        self.log.durable()
    }

    /// Returns what keeps the log from taking more, if something does.
    pub fn trouble(&self) -> Option<&DiskError> {
        self.log.trouble()
    }

    /// Returns what [`outcome`](Self::outcome) needs to tell what became of all that is written by
    /// now.
    pub fn receipt(&self) -> Receipt {
        Receipt { end: self.written(), refusals: self.refusals.count }
    }

    /// Tells whether what was written up to a receipt survives a crash.
    pub fn outcome(&self, receipt: Receipt) -> Outcome<'_> {
        match self.refused_since(receipt) {
            Some((kept, reason)) if receipt.end > kept => Outcome::TakenBack(reason),
            _ if receipt.end <= self.durable() => Outcome::Durable,
            _ => Outcome::Pending,
        }
    }

    /// Tells where the log ended, and why, when it ended furthest down since a receipt was drawn,
    /// if the disk took a group back since.
    pub(crate) fn refused_since(&self, receipt: Receipt) -> Option<(Position, &str)> {
        let refusal = self.refusals.since(receipt.refusals)?;
        Some((refusal.kept, &refusal.reason))
    }

    /// Follows the log after each call that may have met a failing disk: records that it wrote anew
    /// in another segment, and a group that it took back.
    ///
    /// All is read again then: the segment that ends early now needs tables as of that end, and
    /// what was taken back is gone from the store too. Tells whether there was anything.
    pub(crate) fn follow(&mut self) -> Result<bool, AppendError> {
        let mut changed = false;
        while self.log.take_moved().is_some() {
            changed = !mutant!("moved-records-not-followed");
            sometimes!("store-moved-records-followed");
        }
        if let Some((kept, error)) = self.log.take_refused() {
            self.refusals.note(kept, error.to_string());
            changed |= !mutant!("taken-back-but-shown");
        }
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }
}

/// How long a tail may be, for each sealed segment, that is left to the next open to replay, in
/// bytes.
///
/// Each segment is one more to ask for a key, so a tail is sealed the later the more there are:
/// writing a little, again and again, makes a number of them that grows with the root of what is
/// written.
const TAIL_BYTES_A_SEGMENT: usize = 256;

/// Below this, in bytes, a tail is cheaper to replay (0.3 ms) than to keep apart.
const TAIL_BYTES_MIN: usize = 16 << 10;

/// Above this, in bytes, replaying a tail (15 ms) is felt.
const TAIL_BYTES_MAX: usize = 1 << 20;
