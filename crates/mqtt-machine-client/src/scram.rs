//! Owns SCRAM as an [`Authenticator`]: it draws nonces from the system and leaves all else to `mqtt-machine-scram`.
//! It must not know what carries the messages.

use std::fmt;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use mqtt_machine::Secret;
use mqtt_machine_scram::{Client, Error, Mechanism};

use crate::authenticate::{AuthenticationError, Authenticator, Exchange};

/// Random bytes in a nonce.
const NONCE: usize = 24;

/// SCRAM-SHA-256 or SCRAM-SHA-512 with a user name and a password, for [`Options::authenticator`](crate::Options::authenticator).
///
/// The server never sees the password, and must prove that it knows it: one that does not ends the connection as
/// [`EndReason::AuthenticationFailed`](mqtt_machine::EndReason::AuthenticationFailed) before anything was sent to it.
///
/// ```
/// use mqtt_machine_client::{Options, Scram};
///
/// let options = Options::from_url("mqtt://broker.example")?.authenticator(Scram::sha256("user", "pencil"));
/// assert!(!format!("{options:?}").contains("pencil"));
/// # Ok::<(), mqtt_machine_client::EndpointError>(())
/// ```
#[derive(Clone)]
pub struct Scram {
    mechanism: Mechanism,
    username: String,
    password: Secret,
    iterations: RangeInclusive<u32>,
}

impl Scram {
    /// SCRAM-SHA-256 (RFC 7677).
    pub fn sha256(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(Mechanism::Sha256, username.into(), password.into())
    }

    /// SCRAM-SHA-512.
    pub fn sha512(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(Mechanism::Sha512, username.into(), password.into())
    }

    fn new(mechanism: Mechanism, username: String, password: String) -> Self {
        let password = Secret::new(password.into_bytes());
        Self { mechanism, username, password, iterations: Client::ITERATIONS }
    }

    /// With other bounds on the iterations that a server may ask for; they are [`Client::ITERATIONS`] unless told otherwise.
    /// Fewer make a stolen exchange cheaper to search, more let a server keep this client busy.
    #[must_use]
    pub fn iterations(mut self, iterations: RangeInclusive<u32>) -> Self {
        self.iterations = iterations;
        self
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: Error) -> AuthenticationError {
    AuthenticationError(error.to_string())
}

impl Authenticator for Scram {
    fn method(&self) -> &str {
        self.mechanism.name()
    }

    fn begin(&self) -> Result<(Box<dyn Exchange>, Option<Secret>), AuthenticationError> {
        let mut random = [0; NONCE];
        getrandom::fill(&mut random)
            .map_err(|error| AuthenticationError(format!("no nonce from the system: {error}")))?;
        let mut nonce = String::with_capacity(NONCE.saturating_mul(2));
        for byte in random {
            let _ = write!(nonce, "{byte:02x}");
        }
        // It was made of text.
        let password = std::str::from_utf8(self.password.expose()).unwrap_or_default();
        let client = Client::new(self.mechanism, &self.username, password, &nonce).map_err(failed)?;
        let first = Secret::new(client.first());
        Ok((Box::new(client.iterations(self.iterations.clone())), Some(first)))
    }
}

impl Exchange for Client {
    fn step(&mut self, data: &[u8]) -> Result<Secret, AuthenticationError> {
        self.respond(data).map(Secret::new).map_err(failed)
    }

    fn finish(&mut self, data: &[u8]) -> Result<(), AuthenticationError> {
        self.verify(data).map_err(failed)
    }
}
