//! A second opinion on what a store holds and shows: the naive specification of kdelta.
//!
//! It is written from `docs/FORMAT.md` and `docs/CRDT.md`, and shares with the engine only ids,
//! SHA-256 and the check of a signature. [`read_image`] decodes the files of a store, [`Fold`]
//! says what the commits in them come to, and [`compare()`] holds a store against both. Everything
//! is computed anew, from the whole history, each time: it is short rather than fast, though
//! quick enough for a look at the end of every small run.

mod act;
mod bytes;
mod causes;
mod commit;
mod compact;
mod compare;
mod fold;
mod image;
mod json;
mod meta;
mod names;
mod rights;
mod segment;
mod show;
#[cfg(test)]
mod tests;
mod vouch;

pub use act::{Act, Genesis, Grant};
pub use causes::{Causes, Invalid, Set};
pub use commit::{Action, Commit, Content, Event, Kind, Supersedes, Tip};
pub use compare::{Difference, compare, compare_at, compare_space};
pub use fold::{Fold, Written};
pub use image::{Fault, History, Image, read_image};
pub use names::Local;
pub(crate) use names::{durable_by, generation, lists_the_end};
pub(crate) use segment::{Outline, outline};
pub use show::{Conflict, Shown, Stamp, Ty, Value};
pub use vouch::{Fork, Voucher};
