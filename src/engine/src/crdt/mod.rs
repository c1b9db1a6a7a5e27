//! Floor 2: join semilattices.
//!
//! The state of a key is the set of its live events, of every type; a [`Delta`] is what one event
//! does to it. Equal sets of commits give equal states, whatever the order, duplication or batching
//! of arrival, as long as each commit comes after its past. `docs/CRDT.md` has the laws and why
//! they hold. Nothing here reads a commit, a log or a clock.

mod codec;
mod delta;
mod json;
mod live;
mod op;
mod payload;
mod stamp;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod view;

pub use delta::{Action, Delta, Supersedes, Type};
pub use json::{Json, JsonError, JsonReason, canonical, is_canonical};
pub use op::{Op, OpError};
pub use payload::Payload;
pub use stamp::Stamp;
pub(crate) use state::counts_again;
pub use state::{Applied, LiveEvent, State};
pub use view::{Conflict, Value, View};
