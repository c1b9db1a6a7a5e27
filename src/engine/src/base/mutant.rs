//! Bugs that are planted in this crate, of which one can be chosen at run time.
//!
//! A simulator is worth what it finds. Each mutant is one bug of a kind that real stores had, at
//! its true place in the code, and names the invariant that should catch it: a batch of seeds must
//! find each one, and nothing without one (mutation analysis: DeMillo, Lipton, Sayward 1978).
//!
//! Without the feature `mutants`, which is off by default, `mutant!` is the literal `false`: no
//! code is left, and nothing can be chosen. With it the choice is one number for the whole process,
//! so that worlds that run side by side all have it. Choose before a world begins; a choice in the
//! middle changes what code does that has begun already.

mod table;

pub use table::ALL;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, by which it is chosen.
    pub name: &'static str,
    /// The row of the table of mutants that it stands for, or `extra`.
    pub row: &'static str,
    /// What the code does wrong.
    pub what: &'static str,
    /// What should catch it: invariants by number.
    pub caught_by: &'static str,
}

/// Tells whether the mutant of that name is chosen. The name must be in the table.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:literal) => {{
        const PLACE: usize = $crate::base::mutant::place($name);
        const { assert!(PLACE < $crate::base::mutant::ALL.len(), "no such mutant") };
        $crate::base::mutant::is_chosen(PLACE)
    }};
}

/// Tells whether the mutant of that name is chosen: there are none in this build.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

#[cfg(feature = "mutants")]
pub use choice::{UnknownMutant, choose, chosen};
#[cfg(feature = "mutants")]
pub(crate) use choice::{is_chosen, place};

#[cfg(feature = "mutants")]
mod choice {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::named::same;
    use super::{ALL, Mutant};

    /// The place of the chosen one in the table; beyond its end if none is.
    static CHOSEN: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// No mutant has that name.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("there is no mutant {0:?}; there are: {names}", names = names())]
    pub struct UnknownMutant(pub String);

    /// Chooses a mutant for the whole process, or none.
    ///
    /// # Errors
    /// [`UnknownMutant`], which lists the known ones; the choice is as before then.
    pub fn choose(name: Option<&str>) -> Result<(), UnknownMutant> {
        let place = name.map_or(usize::MAX, place);
        if let Some(name) = name.filter(|_| place >= ALL.len()) {
            return Err(UnknownMutant(name.to_owned()));
        }
        CHOSEN.store(place, Ordering::SeqCst);
        Ok(())
    }

    /// Returns the mutant that is chosen.
    pub fn chosen() -> Option<&'static Mutant> {
        ALL.get(CHOSEN.load(Ordering::SeqCst))
    }

    /// Returns the place of a mutant in the table, or the table's length.
    pub(crate) const fn place(name: &str) -> usize {
        let (mut rest, mut at) = (ALL, 0);
        while let Some((first, others)) = rest.split_first() {
            if same(first.name, name) {
                return at;
            }
            (rest, at) = (others, at + 1);
        }
        at
    }

    pub(crate) fn is_chosen(place: usize) -> bool {
        CHOSEN.load(Ordering::Relaxed) == place
    }

    fn names() -> String {
        ALL.iter().map(|mutant| mutant.name).collect::<Vec<_>>().join(", ")
    }
}
