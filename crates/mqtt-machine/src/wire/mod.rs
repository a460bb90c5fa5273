//! Owns the wire: is this well formed? One decoder and one encoder for 3.1, 3.1.1 and 5.0, both directions.
//! It must not know whether a packet is legal at this moment, nor what it does to the session.
//!
//! A version difference is a `match version` in here or a capability of the connection, and nowhere else.

mod check;
mod decode;
mod encode;
mod error;
mod frame;
mod primitives;
pub(crate) mod property;
pub(crate) mod reasons;

pub use decode::decode;
pub(crate) use decode::{bare_ack, decode_publish};
pub(crate) use encode::{AROUND_PUBLISH, Delivery, encode_bare_ack, encode_plain_head};
pub use encode::{encode, encode_publish_head, encoded_len};
pub use error::{DecodeError, EncodeError, Fault};
pub use frame::{FrameHeader, MAX_REMAINING_LENGTH, frame_header};
