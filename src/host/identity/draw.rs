//! Draws keys until one holds enough work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::{Identity, IdentityError};
use crate::engine::base::work;
use crate::host::locked;

/// A search for a key, as seen from outside.
#[derive(Debug, Default)]
pub struct Drawing {
    drawn: AtomicU64,
    stopped: AtomicBool,
}

impl Drawing {
    /// Returns how many keys were drawn so far, in whole handfuls.
    pub fn drawn(&self) -> u64 {
        self.drawn.load(Ordering::Relaxed)
    }

    /// Ends the search soon.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Draws keys on all cores until one has at least `bits` of work; none if the search was
    /// stopped. About 2^bits keys are drawn. Blocks the thread.
    ///
    /// # Errors
    /// [`IdentityError::Random`].
    pub fn search(&self, bits: u32) -> Result<Option<Identity>, IdentityError> {
        let found = Mutex::new(Ok(None));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    let outcome = self.part(bits);
                    if !matches!(outcome, Ok(None)) {
                        self.stop();
                        *locked(&found) = outcome;
                    }
                });
            }
        });
        let mut found = locked(&found);
        std::mem::replace(&mut *found, Ok(None))
    }

    /// What one core does.
    fn part(&self, bits: u32) -> Result<Option<Identity>, IdentityError> {
        let mut seeds = Zeroizing::new([[0; 32]; HANDFUL]);
        while !self.stopped.load(Ordering::Relaxed) {
            getrandom::fill(seeds.as_flattened_mut()).map_err(IdentityError::Random)?;
            for seed in seeds.iter() {
                let identity = Identity::from_seed(*seed);
                if work(&identity.replica()) >= bits {
                    return Ok(Some(identity));
                }
            }
            self.drawn.fetch_add(HANDFUL as u64, Ordering::Relaxed);
        }
        Ok(None)
    }
}

/// How many keys are drawn between two looks around.
const HANDFUL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_found_has_the_work() {
        for bits in [0, 1, 8] {
            let found = Drawing::default().search(bits).unwrap().unwrap();
            assert!(work(&found.replica()) >= bits, "{bits}");
        }
    }

    #[test]
    fn a_search_that_is_stopped_ends_without_a_key() {
        let drawing = Drawing::default();
        std::thread::scope(|scope| {
            let search = scope.spawn(|| drawing.search(256));
            while drawing.drawn() == 0 {
                std::thread::yield_now();
            }
            drawing.stop();
            assert!(search.join().unwrap().unwrap().is_none());
        });
    }
}
