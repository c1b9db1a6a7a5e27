//! Floor 1: who had seen what.
//!
//! Version vectors, the ancestry index of one space and its heads. All of it is an index over the
//! hash DAG of commits: the hashes are the truth, and one log id never names two histories (a fork
//! closes the log, which is decided elsewhere).

mod clocks;
mod heads;
mod tip;
mod vector;

pub use clocks::{Clocks, RecordError};
pub use heads::Heads;
pub use tip::Tip;
pub(crate) use tip::check_seq;
pub use vector::{Causality, VersionVector};
