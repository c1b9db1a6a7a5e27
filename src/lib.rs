//! Kdelta.
pub use kdelta_engine as engine;
pub use kdelta_sim as sim;

pub mod host;
