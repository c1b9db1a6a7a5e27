//! What must hold, whatever happens.

use std::collections::BTreeMap;
use std::fmt;

use kdelta_engine::base::{EventId, Key};
use kdelta_engine::crdt::{Action, Value};
use kdelta_engine::store::Point;

use crate::world::World;

/// A promise that was broken, and where it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which promise, in a few words.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.seen)
    }
}

pub(crate) fn broken<T>(invariant: &'static str, seen: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { invariant, seen: seen.into() })
}

/// Brings all replicas together and checks what must hold then: what was acknowledged is on every
/// one, all show the same, and a counter is the sum of what its history says.
///
/// # Errors
/// [`Broken`], the first that is found.
pub fn at_the_end(world: &mut World) -> Result<(), Broken> {
    world.heal()?;
    let space = world.space();
    let (acknowledged, count) = (world.acknowledged().to_vec(), world.len());
    let mut first = None;
    for replica in 0..count {
        let store = world.store(replica)?;
        for id in &acknowledged {
            let point = Point::Event(EventId { commit: *id, index: 0 });
            if store.resolve(&space, &point).is_err() {
                return broken("acknowledged is durable", format!("{id:?} on replica {replica}"));
            }
        }
        let hashes = (store.state_hash(&space).ok().flatten(), store.value_hash(&space).ok());
        let expected = first.get_or_insert(hashes);
        if *expected != hashes || hashes.0.is_none() {
            return broken("all end equal", format!("replica {replica} differs from replica 0"));
        }
        for (name, sum) in sums(world, replica)? {
            let Ok(key) = Key::new(&name) else { continue };
            let view = world.store(replica)?.get(&space, &key, None).ok().flatten();
            let shown = match view.map(|view| view.value) {
                Some(Value::Counter(shown)) => i128::from(shown),
                other => return broken("a counter is a sum", format!("{name}: {other:?}")),
            };
            if shown != sum {
                return broken("a counter is a sum", format!("{name} is {shown}, not {sum}"));
            }
        }
    }
    Ok(())
}

/// Adds up, by its history, what each counter was given. No counter is ever deleted here.
fn sums(world: &mut World, replica: usize) -> Result<BTreeMap<String, i128>, Broken> {
    let space = world.space();
    let mut sums = BTreeMap::new();
    for name in ["count-0", "count-1", "count-2"] {
        let Ok(key) = Key::new(name) else { continue };
        let history = world.store(replica)?.history(&space, &key, usize::MAX);
        let Ok(history) = history else { return broken("history can be read", name) };
        let adds = history.iter().filter(|event| event.action == Action::CounterAdd);
        let amounts = adds.filter_map(|event| {
            let bytes: [u8; 8] = event.payload.as_deref()?.try_into().ok()?;
            Some(i128::from(i64::from_le_bytes(bytes)))
        });
        if !history.is_empty() {
            sums.insert(name.to_owned(), amounts.sum());
        }
    }
    Ok(sums)
}
