//! Owns the questions of a lookup of SRV records, as they are sent, and why a lookup fails; they are there whether the lookup
//! is compiled in or not. It must not know what an answer means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a question is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrvOver {
    /// One datagram, one answer.
    Udp,
    /// A connection; messages stand behind their length ([`SrvQuestion::framed`], [`next_framed`]).
    Tcp,
}

/// A question to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvQuestion {
    /// The name server.
    pub to: SocketAddr,
    /// How.
    pub over: SrvOver,
    /// The message, without a length before it.
    pub message: Bytes,
}

impl SrvQuestion {
    /// The local address for a socket that asks: any of the name server's family.
    pub const fn local_address(&self) -> SocketAddr {
        let any = match self.to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(any, 0)
    }

    /// The message behind its length in two bytes, as it goes over TCP.
    pub fn framed(&self) -> Bytes {
        let mut framed = BytesMut::new();
        framed.put_u16(u16::try_from(self.message.len()).unwrap_or(u16::MAX));
        framed.put_slice(&self.message);
        framed.freeze()
    }
}

/// The next message in what was read from TCP, without its length; `None` until it is whole. At most 64 KiB are ever needed.
pub fn next_framed(input: &mut BytesMut) -> Option<Bytes> {
    let length = usize::from(u16::from_be_bytes([*input.first()?, *input.get(1)?]));
    if input.len() < length.saturating_add(2) {
        return None;
    }
    input.advance(2);
    Some(input.split_to(length).freeze())
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SrvError {
    /// The name is no domain name.
    BadName,
    /// There is no name server to ask.
    NoNameserver,
    /// No name server answered.
    NoAnswer,
    /// A name server could not, or would not, tell; this is its response code (2: failure, 5: refused).
    Failed(u8),
}

impl fmt::Display for SrvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("the name has no form that DNS could look up"),
            Self::NoNameserver => f.write_str("there is no name server to ask"),
            Self::NoAnswer => f.write_str("no name server answered"),
            Self::Failed(code) => write!(f, "the name server could not tell (response code {code})"),
        }
    }
}

impl std::error::Error for SrvError {}
