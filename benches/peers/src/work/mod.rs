//! The work, part by part.

pub(crate) mod get;
pub(crate) mod growth;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod limits;
pub(crate) mod open;
pub(crate) mod put;
pub(crate) mod simulator;
pub(crate) mod space;
pub(crate) mod sync;

use crate::Outcome;

/// Takes everyone in turn in each round: forth in one, back in the next.
pub(crate) fn rounds<T: Copy>(
    count: usize,
    all: &[T],
    mut each: impl FnMut(T) -> Outcome,
) -> Outcome {
    for round in 0..count {
        for at in 0..all.len() {
            let at = if round % 2 == 0 { at } else { all.len() - 1 - at };
            each(all[at])?;
        }
    }
    Ok(())
}
