//! Owns the server's side of an exchange, for brokers and tests. It must not know how users are kept.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::{self, Key, Keys, Mechanism};
use crate::error::Error;
use crate::message::{self, HEADER, HEADER_BASE64, attribute};

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone)]
pub struct Verifier {
    mechanism: Mechanism,
    salt: Vec<u8>,
    iterations: u32,
    stored: Key,
    server: Key,
}

impl Verifier {
    /// What is kept of `password`. Takes as long as `iterations` demand; RFC 7677 wants at least 4,096.
    ///
    /// # Errors
    /// [`Error::Input`] for a password that SASLprep forbids, an empty salt, or no iterations.
    pub fn new(mechanism: Mechanism, password: &str, salt: &[u8], iterations: u32) -> Result<Self, Error> {
        let password = stringprep::saslprep(password).map_err(|_| Error::Input("password"))?;
        let password = Zeroizing::new(password.into_owned());
        if salt.is_empty() || iterations == 0 {
            return Err(Error::Input("an empty salt, or no iterations"));
        }
        let Keys { stored, server, .. } = Keys::derive(mechanism, password.as_bytes(), salt, iterations);
        Ok(Self { mechanism, salt: salt.to_vec(), iterations, stored, server })
    }

    /// The mechanism that it is for.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("mechanism", &self.mechanism)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// The server of one exchange, between its challenge and the client's proof.
pub struct Server {
    verifier: Verifier,
    username: String,
    nonce: String,
    /// The client's first message without its header, and the challenge.
    transcript: Zeroizing<String>,
}

impl Server {
    /// Takes the client's first message and gives the challenge. `user` finds what is kept of a user's password; `nonce` is
    /// the server's half, as random as the client's.
    ///
    /// # Errors
    /// An [`Error`]; [`Error::Proof`] for a user that `user` does not know.
    pub fn begin(
        first: &[u8],
        nonce: &str,
        user: impl FnOnce(&str) -> Option<Verifier>,
    ) -> Result<(Self, Vec<u8>), Error> {
        let bare = message::text(first)?.strip_prefix(HEADER);
        let bare = bare.ok_or(Error::NotSupported("channel binding or an authorization identity"))?;
        let (name, rest) = attribute(bare, 'n', "user name")?;
        let (theirs, _extensions) = attribute(rest, 'r', "nonce")?;
        if !message::is_nonce(theirs) || !message::is_nonce(nonce) {
            return Err(Error::Nonce);
        }
        let username = message::unescape(name)?;
        let verifier = user(&username).ok_or(Error::Proof)?;
        let nonce = format!("{theirs}{nonce}");
        let challenge = format!("r={nonce},s={},i={}", message::encode(&verifier.salt), verifier.iterations);
        let transcript = Zeroizing::new(format!("{bare},{challenge}"));
        Ok((Self { verifier, username, nonce, transcript }, challenge.into_bytes()))
    }

    /// Takes the client's proof and gives the last message, which proves the server.
    ///
    /// # Errors
    /// [`Error::Proof`] when the client does not know the password; else what is wrong with its message.
    pub fn finish(self, last: &[u8]) -> Result<Vec<u8>, Error> {
        let last = message::text(last)?;
        let (without, proof) = last.rsplit_once(",p=").ok_or(Error::Malformed("proof"))?;
        let (binding, rest) = attribute(without, 'c', "channel binding")?;
        let (nonce, _extensions) = attribute(rest, 'r', "nonce")?;
        if binding != HEADER_BASE64 {
            return Err(Error::NotSupported("channel binding"));
        }
        if nonce != self.nonce {
            return Err(Error::Nonce);
        }
        let proof = message::decode(proof, "proof")?;
        let Verifier { mechanism, stored, server, .. } = &self.verifier;
        let transcript = Zeroizing::new(format!("{},{without}", *self.transcript));
        if !crypto::proves(*mechanism, stored, transcript.as_bytes(), &proof) {
            return Err(Error::Proof);
        }
        let signature = crypto::signature(*mechanism, server, transcript.as_bytes());
        Ok(format!("v={}", message::encode(&signature)).into_bytes())
    }

    /// Who proves.
    pub fn username(&self) -> &str {
        &self.username
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("mechanism", &self.verifier.mechanism).finish_non_exhaustive()
    }
}
