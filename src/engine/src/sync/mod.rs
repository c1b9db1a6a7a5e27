//! Floor 6: two replicas converge.
//!
//! Frames and messages of the peer protocol, and the conversations that are held in them, without
//! a socket, a store or a clock. Commits are opaque bytes here: the node makes chunks of them and
//! applies them. Promises: every message has one encoding and a limit that is checked before
//! memory is taken; whatever a peer sends costs bounded effort and never panics; a [`Session`]
//! that ends in [`Step::InSync`] saw both sides report everything in the frontiers pinned at its
//! start as durable. Not done here: admission, timeouts, choosing peers, checking commits.
//!
//! The bytes are specified in `docs/PROTOCOL.md`. Sources: Meyer, "Range-Based Set Reconciliation"
//! (2022); RFC 9000 for credit.

mod batch;
mod credit;
mod error;
mod fingerprint;
mod fork;
mod frame;
mod hello;
mod message;
mod parts;
mod plan;
mod reconcile;
mod session;
mod wire;

#[cfg(test)]
mod tests;

use crate::causal::Tip;

pub use credit::{CreditError, ReceiveCredit, SendCredit};
pub use error::{Shortfall, SyncError};
pub use frame::{Decoder, FrameError, encode, encode_into, frame_name};
pub use hello::{Agreed, Hello, NoCommonVersion, admission_proof};
pub use message::{Code, Message, Missing, Open, PeerText, Place, RangeBody, RangeItem, Run};
pub use parts::{PartsError, Piece, Reassembly, parts};
pub use session::{Pinned, Session, Source, Stats, Step};
pub(crate) use wire::place_bytes;
