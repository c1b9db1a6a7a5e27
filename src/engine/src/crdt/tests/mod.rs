//! Facts about states, against an executable specification.

mod corpus;
mod laws;
mod ops;
mod spec;
