//! Owns what is measured: the packets, and a connected machine with the least of a driver around it.
//! Neither knows how it is measured; beside them stands the one way to count instructions.

mod callgrind;
mod packets;
mod rig;

pub use callgrind::{Failure, instructions};
pub use packets::{Case, cases};
pub use rig::{Acknowledgements, Rig};
