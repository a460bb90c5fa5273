//! Owns what blocks and so needs a thread of its own, made fit for those who poll: for adapters without a runtime that has such
//! threads, and for transports that only block in every other; and the calls that wait, for who has threads to spare.
//! It must not know what the work is, nor what bytes mean.

mod aside;
mod gate;
mod halves;
mod handle;
mod helm;
mod streams;

pub use aside::aside;
pub use gate::Gate;
pub use halves::{Halves, Pair};
pub use handle::Handle;
pub use helm::Helm;
pub(crate) use helm::waited;
pub use streams::{Events, Requester, Subscription};
