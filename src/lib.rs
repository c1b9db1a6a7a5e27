//! Kdelta.
pub use kdelta_engine as engine;

pub mod host;
