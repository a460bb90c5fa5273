//! Owns why an exchange failed. It must not know what was in it: errors hold no part of a message.

use std::fmt;

/// Why an exchange cannot go on. It is over then: every further step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A user name, password or nonce that cannot be used: SASLprep forbids it, or it is empty.
    Input(&'static str),
    /// The peer's message is not of the form that RFC 5802 gives it.
    Malformed(&'static str),
    /// The server's nonce does not begin with the client's, or the client's last one is not the server's.
    Nonce,
    /// The server asks for fewer iterations than are safe, or for so many that the client would hang.
    Iterations {
        /// What it asks for.
        asked: u32,
        /// The fewest that are taken.
        minimum: u32,
        /// The most that are taken.
        maximum: u32,
    },
    /// The server has ended the exchange with an error of RFC 5802, such as `invalid-proof`.
    Server(String),
    /// The server's signature is not that of one who knows the password.
    ServerSignature,
    /// The client's proof is not that of one who knows the password, or the user is not known.
    Proof,
    /// The peer asks for what is not supported: channel binding, an extension, an authorization identity.
    NotSupported(&'static str),
    /// A step out of turn, or after the exchange has failed.
    OutOfTurn,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(what) => write!(f, "cannot be used with SCRAM: {what}"),
            Self::Malformed(what) => write!(f, "malformed SCRAM message: {what}"),
            Self::Nonce => f.write_str("the nonce is not the one that this exchange began with"),
            Self::Iterations { asked, minimum, maximum } => {
                write!(f, "the server asks for {asked} iterations; {minimum} to {maximum} are taken")
            }
            Self::Server(error) => write!(f, "the server ended the exchange: {error}"),
            Self::ServerSignature => f.write_str("the server does not know the password"),
            Self::Proof => f.write_str("the client does not know the password"),
            Self::NotSupported(what) => write!(f, "not supported: {what}"),
            Self::OutOfTurn => f.write_str("a step out of turn"),
        }
    }
}

impl std::error::Error for Error {}
