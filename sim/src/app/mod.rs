//! The simulator for apps: what an offline-first app promises, under the same faults.
//!
//! An author says what the app does on events and what must hold ([`App`]); a [`Sim`] plays it on
//! replicas that are parted, crash, are copied, have bad disks and wrong clocks. A seed that breaks
//! a promise is cut down to what it takes, and the [`Failure`] tells the story. The same seed gives
//! the same run, on every machine, as long as the app takes its randomness from
//! [`Replica::draws`] and its time from [`Replica::now`](Reader::now), and iterates over nothing
//! that has no order.
//!
//! What an app keeps in itself is lost when its replica stops or falls; what it wrote to its
//! replica is not. What it promised its users it writes down in a [`Witness`](App::Witness), which
//! is never lost, and which only checks may read.
//!
//! # Example
//! Two clerks sell from one stock. Each looks before it sells, and still they oversell: what the
//! other sold is not here yet. The simulator finds out in a few seeds:
//! ```
//! use kdelta_engine::crdt::Op;
//! use kdelta_sim::app::{App, Done, Event, Reader, Replica, Sim, holds};
//!
//! struct Clerk {
//!     seat: usize,
//! }
//!
//! impl App for Clerk {
//!     type Witness = ();
//!
//!     fn start(seat: usize) -> Self {
//!         Self { seat }
//!     }
//!
//!     fn on_event(&mut self, event: &Event, replica: &mut Replica<'_>, _: &mut ()) -> Done {
//!         match event {
//!             Event::Started if self.seat == 0 && replica.get("stock")?.is_none() => {
//!                 replica.write([("stock", Op::CounterAdd(5))])?;
//!             }
//!             Event::User if replica.counter("stock")? > 0 => {
//!                 replica.write([("stock", Op::CounterAdd(-1))])?;
//!             }
//!             _ => {}
//!         }
//!         Ok(())
//!     }
//!
//!     fn check(&self, replica: &mut Reader<'_>, _: &()) -> Done {
//!         let stock = replica.counter("stock")?;
//!         holds(stock >= 0, "the stock is never negative", || format!("it is {stock}"))
//!     }
//! }
//!
//! let failure = Sim::<Clerk>::new().seeds(0..50).run().unwrap_err();
//! assert_eq!(failure.broken.invariant, "the stock is never negative");
//! // Prints the seed, the story, and a test that plays it again.
//! println!("{failure}");
//! // What is left of the scenario breaks the same promise, each time.
//! let again = Sim::<Clerk>::new().replay(&failure.scenario).unwrap_err();
//! assert_eq!(again.broken, failure.broken);
//! ```

mod replica;
mod stage;
pub(crate) mod story;
mod trial;

use std::fmt;

use kdelta_engine::base::{CommitId, Key};
use kdelta_engine::crdt::Json;
use kdelta_engine::store::{ReadError, WriteError};

use crate::check::Broken;

pub use replica::{Reader, Replica};
pub use trial::{Failure, Faults, Passed, Sim};

/// An app: one for each replica that is awake.
pub trait App: Sized + 'static {
    /// What is known of an app's promises outside of all replicas, so that checks can hold it to
    /// them. It outlives crashes. The app writes it; nothing that the app does may depend on it.
    type Witness: Default + 'static;

    /// Starts the app at a seat. The first replicas sit on seats 0, 1 and so on; the copy of a
    /// replica has a seat of its own, after all that are there.
    fn start(seat: usize) -> Self;

    /// Does what follows from an event.
    ///
    /// # Errors
    /// What a read or a write said, or a promise that is broken. What a faulty disk refused is
    /// taken as if the app had told its user so; anything else ends the run.
    fn on_event(
        &mut self,
        event: &Event,
        replica: &mut Replica<'_>,
        witness: &mut Self::Witness,
    ) -> Done;

    /// Checks what must hold at all times at a replica: after each event, and each time that its
    /// store changed.
    ///
    /// # Errors
    /// The promise that is broken, or what a read said.
    fn check(&self, replica: &mut Reader<'_>, witness: &Self::Witness) -> Done {
        let _ = (replica, witness);
        Ok(())
    }

    /// Checks what must hold at each replica at the end, when all is mended, all hold the same and
    /// nobody waits for an answer. An app must come to rest for that: a world in which somebody
    /// always writes has no end.
    ///
    /// # Errors
    /// The promise that is broken, or what a read said.
    fn check_end(&self, replica: &mut Reader<'_>, witness: &Self::Witness) -> Done {
        let _ = (replica, witness);
        Ok(())
    }

    /// Returns what a user sees. At the end it must be the same at all replicas.
    ///
    /// # Errors
    /// What a read said.
    fn shows(&self, replica: &mut Reader<'_>) -> Result<String, Failed> {
        let _ = replica;
        Ok(String::new())
    }
}

/// What an app is told.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has just started, for the first time or after a stop or a crash.
    Started,
    /// Its user does something. What, the app decides by [`Replica::draws`].
    User,
    /// The time is over that it asked for with [`Replica::wake_in`].
    Woken,
    /// Commits of others are here, and durable. They are about these keys; some came more than
    /// once.
    Changed(Vec<Key>),
    /// What it wrote is durable here: no crash takes it back.
    Durable(CommitId),
    /// The disk did not take what it wrote: it is not here any more.
    TakenBack(CommitId),
}

/// Why an app could not go on.
#[non_exhaustive]
#[derive(Debug)]
pub enum Failed {
    /// A promise is broken.
    Broken(Broken),
    /// Something could not be read.
    Read(ReadError),
    /// Something could not be written. After a disk was lost this is so until the space has come
    /// again from somebody ([`WriteError::NotYetHere`]), and no fault of the app's.
    Write(WriteError),
}

/// What comes of an event or a check.
pub type Done = Result<(), Failed>;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for Failed {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Checks a promise: its name, and what is seen if it does not hold. The name decides what counts
/// as the same failure when a scenario is cut down.
///
/// # Errors
/// The promise, if it does not hold.
pub fn holds(ok: bool, invariant: &'static str, seen: impl FnOnce() -> String) -> Done {
    if ok { Ok(()) } else { Err(Broken::new(invariant, seen()).into()) }
}

/// Returns a text as a value.
///
/// # Errors
/// The text is too long to be one.
pub fn text(text: &str) -> Result<Json, Failed> {
    Json::string(text).map_err(|error| Broken::new(VALID, error.to_string()).into())
}

/// Returns a number as a value.
pub fn number(number: i64) -> Result<Json, Failed> {
    let json = Json::parse(number.to_string().as_bytes());
    json.map_err(|error| Broken::new(VALID, error.to_string()).into())
}

/// What every app promises.
pub(crate) const VALID: &str = "what an app asks for is valid";

#[cfg(test)]
mod tests;
