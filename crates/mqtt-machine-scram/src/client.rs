//! Owns the client's side of an exchange. It must not know where nonces come from, nor what carries the messages.

use std::fmt;
use std::mem;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::crypto::{self, Key, Keys, Mechanism};
use crate::error::Error;
use crate::message::{self, HEADER, HEADER_BASE64, attribute};

/// The client of one exchange.
pub struct Client {
    mechanism: Mechanism,
    password: Zeroizing<String>,
    /// The first message without its header.
    bare: Zeroizing<String>,
    nonce: String,
    iterations: RangeInclusive<u32>,
    state: State,
}

enum State {
    /// Waits for the server's challenge.
    Begun,
    /// The proof is made; the server must sign with this.
    Proved(Key),
    /// The server's signature was right.
    Verified,
    Failed,
}

impl Client {
    /// Iterations that are taken unless told otherwise: from RFC 7677's minimum to what takes a second or so.
    pub const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;

    /// A client that knows `password`. The nonce must be of at least 18 random bytes, written in printable ASCII without a
    /// comma, and never used again.
    ///
    /// # Errors
    /// [`Error::Input`] for what SASLprep forbids in a user name or password (RFC 4013), or that is empty.
    pub fn new(mechanism: Mechanism, username: &str, password: &str, nonce: &str) -> Result<Self, Error> {
        let username = stringprep::saslprep(username).map_err(|_| Error::Input("user name"))?;
        let password = stringprep::saslprep(password).map_err(|_| Error::Input("password"))?;
        let password = Zeroizing::new(password.into_owned());
        if username.is_empty() {
            return Err(Error::Input("an empty user name"));
        }
        if password.is_empty() {
            return Err(Error::Input("an empty password"));
        }
        if !message::is_nonce(nonce) {
            return Err(Error::Input("a nonce that is empty or not printable"));
        }
        let bare = Zeroizing::new(format!("n={},r={nonce}", message::escape(&username)));
        let nonce = nonce.to_owned();
        Ok(Self { mechanism, password, bare, nonce, iterations: Self::ITERATIONS, state: State::Begun })
    }

    /// With other bounds on the iterations that a server may ask for.
    #[must_use]
    pub fn iterations(mut self, iterations: RangeInclusive<u32>) -> Self {
        self.iterations = iterations;
        self
    }

    /// The first message.
    pub fn first(&self) -> Vec<u8> {
        [HEADER.as_bytes(), self.bare.as_bytes()].concat()
    }

    /// The answer to the server's challenge. Takes as long as its iterations demand.
    ///
    /// # Errors
    /// An [`Error`]; the exchange has failed then.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Error> {
        let State::Begun = mem::replace(&mut self.state, State::Failed) else { return Err(Error::OutOfTurn) };
        let challenge = message::text(challenge)?;
        if challenge.starts_with("m=") {
            return Err(Error::NotSupported("a mandatory extension"));
        }
        if let Some(error) = challenge.strip_prefix("e=") {
            return Err(server_error(error));
        }
        let (nonce, rest) = attribute(challenge, 'r', "nonce")?;
        let (salt, rest) = attribute(rest, 's', "salt")?;
        let (asked, _extensions) = attribute(rest, 'i', "iterations")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) || !message::is_nonce(nonce) {
            return Err(Error::Nonce);
        }
        let salt = message::decode(salt, "salt")?;
        if salt.is_empty() {
            return Err(Error::Malformed("an empty salt"));
        }
        let plain = asked.bytes().all(|byte| byte.is_ascii_digit()) && !asked.starts_with('0');
        let asked: u32 = asked.parse().ok().filter(|_| plain).ok_or(Error::Malformed("iterations"))?;
        if !self.iterations.contains(&asked) {
            let (minimum, maximum) = (*self.iterations.start(), *self.iterations.end());
            return Err(Error::Iterations { asked, minimum, maximum });
        }
        let keys = Keys::derive(self.mechanism, self.password.as_bytes(), &salt, asked);
        let last = format!("c={HEADER_BASE64},r={nonce}");
        let transcript = Zeroizing::new(format!("{},{challenge},{last}", *self.bare));
        let proof = crypto::proof(self.mechanism, &keys, transcript.as_bytes());
        self.state = State::Proved(crypto::signature(self.mechanism, &keys.server, transcript.as_bytes()));
        Ok(format!("{last},p={}", message::encode(&proof)).into_bytes())
    }

    /// Holds the server's last message against the signature that only one who knows the password can make.
    ///
    /// # Errors
    /// An [`Error`]; whoever sent the message is not to be trusted then.
    pub fn verify(&mut self, last: &[u8]) -> Result<(), Error> {
        let State::Proved(expected) = mem::replace(&mut self.state, State::Failed) else {
            return Err(Error::OutOfTurn);
        };
        let last = message::text(last)?;
        if let Some(error) = last.strip_prefix("e=") {
            return Err(server_error(error));
        }
        let (signature, _extensions) = attribute(last, 'v', "server signature")?;
        let signature = message::decode(signature, "server signature")?;
        if !crypto::equal(&signature, &expected) {
            return Err(Error::ServerSignature);
        }
        self.state = State::Verified;
        Ok(())
    }

    /// Whether the server has proved that it knows the password.
    pub const fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }
}

/// The server's error, if it is one of RFC 5802's names or looks like one; what else it says is not repeated.
fn server_error(error: &str) -> Error {
    let error = error.split(',').next().unwrap_or_default();
    let is_name = error.len() <= 40 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    Error::Server(if is_name { error.to_owned() } else { "other-error".to_owned() })
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}
