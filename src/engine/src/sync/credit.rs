//! Bytes of commits in flight between two peers.
//!
//! The sender of commits begins a chunk only while it has credit, and may overdraw by the rest of
//! that one chunk; so the largest commit passes through the smallest window. The receiver gives
//! credit back when it has applied a chunk or put it into its waiting room (durable is not
//! required), in steps of a quarter of the window. When all is applied the sender has more than
//! three quarters of the window, so nobody waits for ever (compare RFC 9000, section 4).

use crate::limits::{CHUNK_WHOLE_BYTES_MAX, CREDIT_WINDOW_BYTES};

/// The peer does not keep to the rules of credit; close the connection.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// It gave back more than it was sent.
    #[error("the peer granted more than it was sent")]
    OverGranted,
    /// It sent on without credit.
    #[error("the peer sent without credit")]
    Overrun,
}

/// The sending side of one connection.
#[derive(Debug, Clone, Default)]
pub struct SendCredit {
    in_flight: u64,
}

impl SendCredit {
    /// Tells whether another chunk may be begun.
    pub fn is_open(&self) -> bool {
        let open = self.in_flight < CREDIT_WINDOW_BYTES;
        sometimes!("sync-credit-used-up", !open);
        open || mutant!("credit-ignored")
    }

    /// Returns how many bytes of commits are sent and not given back.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Counts what was sent: [`Message::commit_bytes`](super::Message::commit_bytes).
    pub fn sent(&mut self, commit_bytes: usize) {
        self.in_flight = self.in_flight.saturating_add(commit_bytes as u64);
    }

    /// Takes a [`Message::Grant`](super::Message::Grant) of the peer.
    ///
    /// # Errors
    /// [`CreditError::OverGranted`].
    pub fn granted(&mut self, bytes: u64) -> Result<(), CreditError> {
        self.in_flight = self.in_flight.checked_sub(bytes).ok_or(CreditError::OverGranted)?;
        Ok(())
    }
}

/// The receiving side of one connection.
#[derive(Debug, Clone, Default)]
pub struct ReceiveCredit {
    held: u64,
    applied: u64,
}

impl ReceiveCredit {
    /// Counts what came in: [`Message::commit_bytes`](super::Message::commit_bytes).
    ///
    /// # Errors
    /// [`CreditError::Overrun`].
    pub fn received(&mut self, commit_bytes: usize) -> Result<(), CreditError> {
        self.held = self.held.saturating_add(commit_bytes as u64);
        if self.held > CREDIT_WINDOW_BYTES + CHUNK_WHOLE_BYTES_MAX as u64 {
            return Err(CreditError::Overrun);
        }
        Ok(())
    }

    /// Counts what was applied, or was dropped on purpose, and returns the grant to send, if any.
    pub fn applied(&mut self, commit_bytes: usize) -> Option<u64> {
        self.applied = self.applied.saturating_add(commit_bytes as u64);
        assert!(self.applied <= self.held, "only what came in can be applied");
        if self.applied < CREDIT_WINDOW_BYTES / 4 {
            return None;
        }
        self.held -= self.applied;
        Some(std::mem::take(&mut self.applied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn credit_never_deadlocks(
            sizes in proptest::collection::vec(
                prop_oneof![1usize..2000, 1usize..CHUNK_WHOLE_BYTES_MAX], 1..200),
            turns in proptest::collection::vec(0u8..3, 0..2000),
        ) {
            let (mut sender, mut receiver) = (SendCredit::default(), ReceiveCredit::default());
            let mut to_send: VecDeque<usize> = sizes.into();
            let (mut wire, mut waiting, mut grants) =
                (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let mut turns = turns.into_iter();
            while !to_send.is_empty() || !waiting.is_empty() || !wire.is_empty() {
                // Scripted turns first, then whatever is possible: something must always be.
                let turn = turns.next();
                let mut moved = turn.is_some();
                if turn.is_none_or(|t| t == 0) && sender.is_open()
                    && let Some(size) = to_send.pop_front()
                {
                    sender.sent(size);
                    wire.push_back(size);
                    moved = true;
                }
                if turn.is_none_or(|t| t == 1) && let Some(size) = wire.pop_front() {
                    prop_assert_eq!(receiver.received(size), Ok(()));
                    waiting.push_back(size);
                    moved = true;
                }
                if turn.is_none_or(|t| t == 2) && let Some(size) = waiting.pop_front() {
                    grants.extend(receiver.applied(size));
                    moved = true;
                }
                if let Some(bytes) = grants.pop_front() {
                    prop_assert_eq!(sender.granted(bytes), Ok(()));
                    moved = true;
                }
                prop_assert!(moved, "stuck with {} in flight", sender.in_flight());
            }
        }
    }

    #[test]
    fn who_breaks_the_rules_is_found_out() {
        let mut sender = SendCredit::default();
        sender.sent(10);
        assert_eq!(sender.granted(11), Err(CreditError::OverGranted));
        let mut receiver = ReceiveCredit::default();
        let sent = (0..100u64).find(|_| receiver.received(1 << 20).is_err());
        assert_eq!(
            sent,
            Some(CREDIT_WINDOW_BYTES.div_ceil(1 << 20) + (CHUNK_WHOLE_BYTES_MAX as u64 >> 20))
        );
    }
}
