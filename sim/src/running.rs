//! Whether a run is going on: where it is, clocks and the system's randomness are out of reach.
//!
//! A mark of the thread, for whoever watches from outside: the binary `kdelta-sim` ends a run that
//! reads a clock. Nothing in a run depends on the mark.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A run that goes on until this is dropped.
#[derive(Debug)]
pub struct Running {
    /// It ends on the thread on which it began.
    _on_this_thread: PhantomData<*const ()>,
}

/// Marks that a run begins on this thread. Runs may begin inside of others.
#[must_use]
pub fn begin() -> Running {
    DEPTH.set(DEPTH.get().saturating_add(1));
    Running { _on_this_thread: PhantomData }
}

/// Tells whether a run goes on on this thread.
pub fn is_running() -> bool {
    DEPTH.get() > 0
}

/// Does something, and lets assertions stop it without a word on stderr: it says what they said.
pub(crate) fn quietly<T>(act: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = act();
    std::panic::set_hook(hook);
    done
}

impl Drop for Running {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_until_the_last_that_began_has_ended() {
        assert!(!is_running());
        let outer = begin();
        drop(begin());
        assert!(is_running());
        drop(outer);
        assert!(!is_running());
    }
}
