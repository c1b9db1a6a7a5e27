//! What holds for whole messages and whole sessions.

mod bars;
mod codec;
mod convergence;
mod hostile;
mod world;
