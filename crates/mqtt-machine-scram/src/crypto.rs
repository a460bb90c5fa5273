//! Owns the arithmetic of SCRAM: keys, proofs and signatures of one mechanism. It must not know messages.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Which hash the exchange uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512, registered beside it and built in the same way.
    Sha512,
}

impl Mechanism {
    /// The name: MQTT's Authentication Method.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A secret that is wiped when it is dropped, and never printed.
pub(crate) type Key = Zeroizing<Vec<u8>>;

impl Mechanism {
    fn hash(self, data: &[u8]) -> Key {
        Zeroizing::new(match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        })
    }

    fn sign(self, key: &[u8], data: &[u8]) -> Key {
        // A keyed hash takes keys of every length.
        Zeroizing::new(
            match self {
                Self::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                    .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()),
                Self::Sha512 => Hmac::<Sha512>::new_from_slice(key)
                    .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()),
            }
            .unwrap_or_default(),
        )
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Key {
        match self {
            Self::Sha256 => {
                let mut out = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
            Self::Sha512 => {
                let mut out = Zeroizing::new(vec![0; 64]);
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
        }
    }
}

/// What follows from a password: the keys of RFC 5802, section 3.
pub(crate) struct Keys {
    pub(crate) client: Key,
    pub(crate) stored: Key,
    pub(crate) server: Key,
}

impl Keys {
    /// Takes as long as `iterations` demand.
    pub(crate) fn derive(mechanism: Mechanism, password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = mechanism.salted(password, salt, iterations);
        let client = mechanism.sign(&salted, b"Client Key");
        let stored = mechanism.hash(&client);
        let server = mechanism.sign(&salted, b"Server Key");
        Self { client, stored, server }
    }
}

fn xor(left: &[u8], right: &[u8]) -> Key {
    Zeroizing::new(left.iter().zip(right).map(|(left, right)| left ^ right).collect())
}

/// What the client proves with.
pub(crate) fn proof(mechanism: Mechanism, keys: &Keys, transcript: &[u8]) -> Key {
    xor(&keys.client, &mechanism.sign(&keys.stored, transcript))
}

/// Whether a proof was made by one who knows the client key behind `stored`.
pub(crate) fn proves(mechanism: Mechanism, stored: &[u8], transcript: &[u8], proof: &[u8]) -> bool {
    let signature = mechanism.sign(stored, transcript);
    proof.len() == signature.len() && equal(&mechanism.hash(&xor(proof, &signature)), stored)
}

/// What the server proves with.
pub(crate) fn signature(mechanism: Mechanism, server: &[u8], transcript: &[u8]) -> Key {
    mechanism.sign(server, transcript)
}

/// Compares in constant time.
pub(crate) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
