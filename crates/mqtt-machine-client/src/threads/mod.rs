//! Owns what blocks and so needs a thread of its own, made fit for those who poll: for adapters without a runtime that has such
//! threads, and for transports that only block in every other.
//! It must not know what the work is, nor what bytes mean.

mod aside;
mod gate;
mod halves;

pub use aside::aside;
pub use gate::Gate;
pub use halves::{Halves, Pair};
