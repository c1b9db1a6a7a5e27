//! The sans-IO engine of kdelta: what a replica knows, decides and remembers, without a runtime.
//!
//! No thread, socket, file, clock, global or random source is in here. Time is an argument,
//! randomness is a seed, the disk is one small trait ([`log::Disk`]), and the network is plain
//! inputs and outputs. A host and a simulator run the very same code. Two features, both off by
//! default, serve simulations alone: see [`base::mutant`] and [`base::mark`].
//!
//! Floors, each of which names only those above it:
//! [`base`] → [`causal`] → [`crdt`] → [`event`] → [`log`] → [`store`], [`sync`] → [`node`].

// First: the others use its macros.
#[macro_use]
pub mod base;

pub mod causal;
pub mod crdt;
pub mod event;
pub mod limits;
pub mod log;
pub mod node;
pub mod store;
pub mod sync;
