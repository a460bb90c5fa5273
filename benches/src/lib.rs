//! Owns what is measured: the packets, and a connected machine with the least of a driver around it.
//! It must not know how it is measured.

mod packets;
mod rig;

pub use packets::{Case, cases};
pub use rig::Rig;
