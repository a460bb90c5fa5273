//! Owns what is measured: the packets, a connected machine with the least of a driver around it, and maps of topic filters.
//! Neither knows how it is measured; beside them stands the one way to count instructions.

mod callgrind;
mod filters;
mod packets;
mod rig;

pub use callgrind::{Failure, instructions};
pub use filters::{Filters, SIZES};
pub use packets::{Case, cases};
pub use rig::{Acknowledgements, Rig};
