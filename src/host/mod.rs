//! What runs a replica in the real world: sockets, files, clocks and keys.
//!
//! The engine decides; the host carries out. Nothing here knows commits, keys or sessions.

pub mod api;
pub mod backup;
pub mod bearer;
pub mod clock;
pub mod disk;
mod hot;
pub mod http;
pub mod identity;
pub mod lock;
pub mod metrics;
mod nearby;
mod net;
pub mod peers;
pub mod query;
pub mod quic;
mod reads;
pub mod rekey;
pub mod repair;
pub mod replica;
mod spaces;
mod spans;
mod tls;
pub mod token;
#[cfg(feature = "otlp")]
mod trace;
pub mod typed;
pub mod verify;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`; what a panicking thread left behind is used as it is.
///
/// The host's critical sections leave their data whole at every step that can panic.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a directory, and those above it, that only its owner may enter.
fn make_private_dir(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
