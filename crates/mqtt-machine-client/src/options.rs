//! Owns what a caller decides before a client runs: the core's configuration, and what only the handle and the
//! adapter read. It must not know how a server is reached.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_machine::{Authentication, CleanStart, Config, ProtocolVersion, Secret, Server};
use mqtt_machine_transport::{self as transport, Destination, Endpoint, EndpointError, Scheme};

use crate::authenticate::{Authenticator, Method};
use crate::prepare::{Attempt, NotNow, Prepare, Prepared};
use crate::record::Record;

/// Everything that a client is told before it runs: a URL makes them, setters refine them.
///
/// ```
/// use std::time::Duration;
/// use mqtt_machine_client::Options;
///
/// let options = Options::from_url("mqtt://user:secret@broker.example?client_id=kitchen&version=3.1.1")?
///     .connect_deadline(Duration::from_secs(5))
///     .configure(|config| config.keep_alive(Duration::from_secs(20)));
/// assert_eq!(options.config.servers[0].as_str(), "broker.example:1883");
/// assert_eq!(options.config.client_id, "kitchen");
/// # Ok::<(), mqtt_machine_client::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// What the core is told. Each server is `host:port`, an IPv6 address in brackets; port 1883 may be left out.
    ///
    /// A handle asks nobody but whom it was given, and keeps no records: `prepare` without a closure
    /// ([`prepare`](Self::prepare), [`prepare_with`](Self::prepare_with)) goes on with the configured server, an enhanced
    /// `authentication` without an [`authenticator`](Self::authenticator) is given up when the server continues it, and
    /// `durable` is taken as false.
    pub config: Config,
    /// How long [`connected`](crate::Client::connected) waits for the first CONNACK. Default 30 s.
    pub connect_deadline: Duration,
    /// What jitter and generated client identifiers are drawn from. Default `None`: from the system.
    pub seed: Option<u64>,
    /// Who speaks for the client in an enhanced authentication.
    pub(crate) method: Option<Method>,
    /// Who is asked before every attempt.
    pub(crate) prepare: Option<Prepare>,
    /// Where everything that the machine is told and answers is recorded. Default `None`: nowhere.
    pub record: Option<Record>,
}

impl Options {
    /// The options of `config`.
    pub const fn new(config: Config) -> Self {
        let connect_deadline = Duration::from_secs(30);
        Self { config, connect_deadline, seed: None, record: None, method: None, prepare: None }
    }

    /// The options that a URL carries: `mqtt://[user[:password]@]host[:port][?option=value&...]` with the options of
    /// [`EndpointOptions`](mqtt_machine_transport::EndpointOptions).
    ///
    /// # Errors
    /// An [`EndpointError`], which never holds credentials; [`EndpointError::SchemeNotSupported`] for every scheme but
    /// `mqtt`, which is the only one that adapters open so far.
    pub fn from_url(url: &str) -> Result<Self, EndpointError> {
        Self::try_from(Endpoint::parse(url)?)
    }

    /// With the configuration that `change` makes of the present one.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }

    /// With this deadline for the first CONNACK.
    #[must_use]
    pub const fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// With this seed: the same seed gives the same jitter.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With a recording of everything that the machine is told and answers.
    #[must_use]
    pub fn record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// With enhanced authentication (5.0) by this method: `authentication` of the configuration is taken from it. Every
    /// connection begins an exchange of its own, and [`reauthenticate`](crate::Client::reauthenticate) another.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.method = Some(Method(Arc::new(authenticator)));
        self
    }

    /// Asks this closure before every attempt to connect: for a server, for credentials, or to be told "not now". It must answer at
    /// once, since the driver waits for it; [`prepare_with`](Self::prepare_with) is for what takes its time. No lock is held.
    ///
    /// ```
    /// use mqtt_machine_client::{NotNow, Options, Prepared};
    ///
    /// # fn token() -> Option<String> { None }
    /// let options = Options::from_url("mqtt://broker.example")?.prepare(|attempt| {
    ///     let Some(token) = token() else { return Err(NotNow("there is no token yet".to_owned())) };
    ///     println!("attempt after {} failures, the last: {:?}", attempt.failed, attempt.last);
    ///     Ok(Prepared::as_configured().username_password("me", token))
    /// });
    /// # Ok::<(), mqtt_machine_client::EndpointError>(())
    /// ```
    #[must_use]
    pub fn prepare(
        mut self,
        ask: impl Fn(Attempt) -> Result<Prepared, NotNow> + Send + Sync + 'static,
    ) -> Self {
        self.prepare = Some(Prepare::at_once(ask));
        self
    }

    /// As [`prepare`](Self::prepare), with an answer that takes its time: a token that is fetched, an endpoint that is looked
    /// up. The driver polls the future as part of itself, so all else of the client goes on, and it may use what the adapter's
    /// runtime offers. The connect timeout of the configuration covers it together with the rest of the attempt. When the attempt
    /// is over before the answer is there, the future is dropped.
    ///
    /// ```
    /// use mqtt_machine_client::{Options, Prepared, Server};
    ///
    /// # async fn nearest() -> String { String::new() }
    /// let options = Options::from_url("mqtt://broker.example")?
    ///     .prepare_with(|_| async { Ok(Prepared::as_configured().server(Server::new(nearest().await))) });
    /// # Ok::<(), mqtt_machine_client::EndpointError>(())
    /// ```
    #[must_use]
    pub fn prepare_with<F>(mut self, ask: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Prepared, NotNow>> + Send + 'static,
    {
        self.prepare = Some(Prepare::slowly(ask));
        self
    }

    pub(crate) fn seed_or_random(&self) -> u64 {
        self.seed.unwrap_or_else(|| RandomState::new().hash_one(0))
    }
}

/// What the machine is told: a handle keeps no records, and asks the closure and the authenticator before every attempt.
pub(crate) fn for_handle(config: Config, method: Option<&Method>, asks: bool) -> Config {
    let mut config = config.durable(false);
    config.prepare |= asks;
    if let Some(Method(method)) = method {
        config.prepare = true;
        config.authentication =
            Some(Authentication { method: method.method().to_owned(), initial_data: None });
    }
    config
}

impl From<Config> for Options {
    fn from(config: Config) -> Self {
        Self::new(config)
    }
}

impl From<&Self> for Options {
    fn from(options: &Self) -> Self {
        options.clone()
    }
}

impl TryFrom<Endpoint> for Options {
    type Error = EndpointError;

    fn try_from(endpoint: Endpoint) -> Result<Self, EndpointError> {
        // Nobody may believe that this connection is encrypted.
        let (Scheme::Mqtt, Destination::Server(authority)) = (endpoint.scheme, endpoint.destination) else {
            return Err(EndpointError::SchemeNotSupported { scheme: endpoint.scheme.name() });
        };
        let mut config = Config::new(Server::new(authority.to_string()));
        config.credentials.username = endpoint.username;
        config.credentials.password =
            endpoint.password.map(|password| Secret::new(Bytes::copy_from_slice(password.as_bytes())));
        let options = endpoint.options;
        if let Some(client_id) = options.client_id {
            config.client_id = client_id;
        }
        match options.version {
            Some(transport::Version::V3_1) => config.version = ProtocolVersion::V3_1,
            Some(transport::Version::V3_1_1) => config.version = ProtocolVersion::V3_1_1,
            _ => {}
        }
        if let Some(seconds) = options.keep_alive_seconds {
            config.keep_alive = Duration::from_secs(seconds.into());
        }
        if let Some(clean_start) = options.clean_start {
            config.clean_start = match clean_start {
                transport::CleanStart::Always => CleanStart::Always,
                transport::CleanStart::Never => CleanStart::Never,
                transport::CleanStart::First => CleanStart::FirstOnly,
            };
        }
        if let Some(seconds) = options.connect_timeout_seconds {
            config.connect_timeout = Duration::from_secs(seconds.get().into());
        }
        Ok(Self::new(config))
    }
}

impl TryFrom<&str> for Options {
    type Error = EndpointError;

    fn try_from(url: &str) -> Result<Self, EndpointError> {
        Self::from_url(url)
    }
}

impl TryFrom<&String> for Options {
    type Error = EndpointError;

    fn try_from(url: &String) -> Result<Self, EndpointError> {
        Self::from_url(url)
    }
}

impl TryFrom<String> for Options {
    type Error = EndpointError;

    fn try_from(url: String) -> Result<Self, EndpointError> {
        Self::from_url(&url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_fills_the_configuration() {
        let url = "mqtt://me:p%40ss@[::1]:1884?version=3.1&keep_alive=7&clean_start=never&connect_timeout=3";
        let options = Options::from_url(url).unwrap();
        let config = &options.config;
        assert_eq!(config.servers, [Server::new("[::1]:1884")]);
        assert_eq!(config.credentials.username.as_deref(), Some("me"));
        assert_eq!(config.credentials.password, Some(Secret::new(&b"p@ss"[..])));
        assert_eq!(config.version, ProtocolVersion::V3_1);
        assert_eq!(config.keep_alive, Duration::from_secs(7));
        assert_eq!(config.clean_start, CleanStart::Never);
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert!(!format!("{options:?}").contains("p@ss"));
    }

    #[test]
    fn a_scheme_that_no_adapter_opens_is_refused_rather_than_opened_in_plain() {
        for scheme in ["mqtts", "ws", "wss", "mqtt+srv", "mqtts+srv"] {
            let refused = Options::from_url(&format!("{scheme}://host")).unwrap_err();
            assert_eq!(refused, EndpointError::SchemeNotSupported { scheme });
        }
    }
}
