//! Owns what a caller decides before a client runs: the core's configuration, and what only the handle and the
//! adapter read. It must not know how a server is reached.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqtt_machine::{Authentication, CleanStart, Config, ProtocolVersion, Secret, Server};
use mqtt_machine_transport::{self as transport, Destination, Endpoint, EndpointError, RouteOptions};

use crate::authenticate::{Authenticator, Method};
use crate::error::ConnectError;
use crate::prepare::{Attempt, NotNow, Prepare, Prepared};
use crate::record::Record;
use crate::socket::SocketOptions;
use crate::store::{Choice, Durability, Store};

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
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What the core is told. Each server is a URL without credentials, or `host:port`, an IPv6 address in brackets: then it is
    /// reached as the URL of these options says, and over TCP where there is none. The port may be left out. With a
    /// connector of your own a server's name may be anything.
    ///
    /// A handle asks nobody but whom it was given, and keeps no records: `prepare` without a closure
    /// ([`prepare`](Self::prepare), [`prepare_with`](Self::prepare_with)) goes on with the configured server, an enhanced
    /// `authentication` without an [`authenticator`](Self::authenticator) is given up when the server continues it, and
    /// `durable` is taken to be whether there is a [`store`](Self::store).
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
    /// TLS, WebSocket and proxies, beside what the URL says of them.
    pub routes: RouteOptions,
    /// What is set on TCP sockets.
    pub socket: SocketOptions,
    /// When what is accepted counts as durable, with a [`store`](Self::store). Default [`Durability::Each`].
    pub durability: Durability,
    /// Where the session is kept.
    pub(crate) store: Option<Choice>,
    /// How a server is reached that is named as `host:port`.
    pub(crate) like: Option<Endpoint>,
}

impl Options {
    /// The options of `config`.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            connect_deadline: Duration::from_secs(30),
            seed: None,
            method: None,
            prepare: None,
            record: None,
            routes: RouteOptions::new(),
            socket: SocketOptions::DEFAULT,
            durability: Durability::Each,
            store: None,
            like: None,
        }
    }

    /// The options that a URL carries: `scheme://[user[:password]@]host[:port][/path][?option=value&...]`, with the schemes
    /// of [`Endpoint`] and the options of [`EndpointOptions`](mqtt_machine_transport::EndpointOptions).
    ///
    /// # Errors
    /// An [`EndpointError`], which never holds credentials.
    pub fn from_url(url: &str) -> Result<Self, EndpointError> {
        Ok(Self::from(Endpoint::parse(url)?))
    }

    /// With another server, whose turn comes after those that are there: a URL with its own scheme and options of
    /// transport, or `host:port` for a server that is reached as the URL of these options says.
    ///
    /// # Errors
    /// An [`EndpointError`]: [`EndpointError::CredentialsNotAllowed`] since all servers get the same credentials (answer
    /// `Prepare` for others).
    pub fn server(mut self, server: &str) -> Result<Self, EndpointError> {
        let server = Server::new(server);
        endpoint_of(&server, self.like.as_ref())?;
        self.config.servers.push(server);
        Ok(self)
    }

    /// With what `change` makes of the present [`routes`](Self::routes): TLS, WebSocket, proxies.
    ///
    /// ```
    /// use mqtt_machine_client::Options;
    ///
    /// let options = Options::from_url("mqtts://broker.example")?;
    /// # #[cfg(feature = "tls")]
    /// let options = options.route(|route| route.tls(mqtt_machine_client::TlsOptions::new().ca_file("ca.pem")));
    /// # Ok::<(), mqtt_machine_client::EndpointError>(())
    /// ```
    #[must_use]
    pub fn route(mut self, change: impl FnOnce(RouteOptions) -> RouteOptions) -> Self {
        self.routes = change(self.routes);
        self
    }

    /// With these options of TCP sockets.
    #[must_use]
    pub const fn socket(mut self, socket: SocketOptions) -> Self {
        self.socket = socket;
        self
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

    /// With a store: what is owed survives the process, and the client begins with what it finds there. It serves the first
    /// client that is made with these options, which reads it at once, before there is a connection.
    ///
    /// The session of the server goes with it. So name the client (`client_id`), give it a
    /// [`session_expiry`](Config::session_expiry) that is longer than it may be away, and leave
    /// [`clean_start`](Config::clean_start) as it is: with [`CleanStart::FirstOnly`] a client that finds a session in its store resumes
    /// that of the server, and only one with an empty store begins anew.
    ///
    /// ```
    /// use mqtt_machine_client::store::MemoryStore;
    /// use mqtt_machine_client::{Client, Options};
    ///
    /// let store = MemoryStore::new();
    /// let options = Options::from_url("mqtt://broker.example?client_id=meter-7")?.store(store.clone());
    /// let (client, driver) = Client::new(options)?;
    /// # drop((client, driver));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Some(Choice::new(store));
        self
    }

    /// With another rule for when what is accepted counts as durable.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
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

/// The endpoint that a server's name stands for: a URL itself, or `host:port`, which is reached as `like` is.
pub(crate) fn endpoint_of(server: &Server, like: Option<&Endpoint>) -> Result<Endpoint, EndpointError> {
    let name = server.as_str();
    if name.contains("://") {
        let endpoint = Endpoint::parse(name)?;
        let has_credentials = endpoint.username.is_some() || endpoint.password.is_some();
        return if has_credentials { Err(EndpointError::CredentialsNotAllowed) } else { Ok(endpoint) };
    }
    match like {
        Some(like) => like.at(name),
        None => Endpoint::parse("mqtt://localhost")?.at(name),
    }
}

/// What the machine is told: a handle keeps records where it has a store, and asks the closure and the authenticator before
/// every attempt.
pub(crate) fn for_handle(config: Config, method: Option<&Method>, asks: bool, durable: bool) -> Config {
    let mut config = config.durable(durable);
    config.prepare |= asks;
    if let Some(Method(method)) = method {
        config.prepare = true;
        config.authentication =
            Some(Authentication { method: method.method().to_owned(), initial_data: None });
    }
    config
}

/// What options are made of: a URL, an [`Endpoint`], a [`Config`] or [`Options`].
pub trait IntoOptions {
    /// The options.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] for a text that is no URL of a server.
    fn into_options(self) -> Result<Options, ConnectError>;
}

impl<O> IntoOptions for O
where
    O: TryInto<Options>,
    ConnectError: From<O::Error>,
{
    fn into_options(self) -> Result<Options, ConnectError> {
        Ok(self.try_into()?)
    }
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

impl From<Endpoint> for Options {
    fn from(mut endpoint: Endpoint) -> Self {
        let server = match &endpoint.destination {
            Destination::Server(authority) => authority.to_string(),
            // Another kind of server is named by its whole URL, which has no credentials as it prints.
            _ => endpoint.to_string(),
        };
        let mut config = Config::new(Server::new(server));
        config.credentials.username = endpoint.username.take();
        config.credentials.password =
            endpoint.password.take().map(|password| Secret::new(Bytes::copy_from_slice(password.as_bytes())));
        let options = endpoint.options.clone();
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
        Self { like: Some(endpoint), ..Self::new(config) }
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
    fn a_url_says_how_every_server_is_reached() {
        let servers = |options: &Options| {
            options.config.servers.iter().map(|server| server.as_str().to_owned()).collect::<Vec<_>>()
        };
        let options = Options::from_url("wss://u:p@one.example/path").unwrap();
        let options = options.server("two.example:444").unwrap().server("mqtt://three.example").unwrap();
        assert_eq!(servers(&options), ["one.example:443", "two.example:444", "mqtt://three.example"]);
        let unix = Options::from_url("unix://u:p@/run/broker.sock").unwrap();
        assert_eq!(servers(&unix), ["unix:///run/broker.sock"]);
        let service = Options::from_url("mqtts+srv://u:p@example.org").unwrap();
        assert_eq!(servers(&service), ["mqtts+srv://example.org"]);
        assert!(service.config.credentials.password.is_some());

        let with = |server: &str| Options::from_url("mqtt://host").unwrap().server(server).map(|_| ());
        assert_eq!(with("mqtt://u:p@host"), Err(EndpointError::CredentialsNotAllowed));
        assert_eq!(with("u:p@host"), Err(EndpointError::UnencodedCredentials));
        assert_eq!(with("nonsense://host"), Err(EndpointError::UnknownScheme { scheme: "nonsense".into() }));
    }
}
