//! Owns the way from a route to an open socket: which name is looked up when, and which address is tried beside which. It
//! must not look up, open or wait itself.

mod error;
mod question;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::DialError;
pub use question::{SrvError, SrvOver, SrvQuestion, next_framed};

use crate::address::AddressSequence;
use crate::attempts::AddressAttempts;
use crate::endpoint::{Authority, Destination, Host};
use crate::layer::Layers;
use crate::route::Route;
#[cfg(feature = "srv")]
use crate::srv::{SrvLookup, SrvOutcome};

/// How long the last address of a server is waited for before the next server is tried beside it.
const SERVER_DELAY: Duration = Duration::from_secs(2);
/// How many servers of one service are tried in one go.
#[cfg(feature = "srv")]
const MAX_SERVERS: usize = 16;

/// What to do next; see [`Dial`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialStep {
    /// Send this question to a name server, from a socket of its own, and tell
    /// [`handle_answer`](Dial::handle_answer) or [`handle_unasked`](Dial::handle_unasked). It replaces the one before it.
    Ask(SrvQuestion),
    /// Look up the addresses of this name, and tell [`handle_resolved`](Dial::handle_resolved).
    Resolve(Authority),
    /// Begin to connect, beside the attempts that are under way, and tell
    /// [`handle_connected`](Dial::handle_connected) or [`handle_failed`](Dial::handle_failed).
    Connect(Attempt, Target),
}

/// Names one attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt(usize);

/// What a socket is opened to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// One dialling of a [`Route`]: SRV records, names, proxies, and the staggered attempts at the addresses (RFC 8305), until
/// one socket is open.
///
/// Do every [`poll_step`](Self::poll_step), tell what came of each, call again, and call again at the
/// [`deadline`](Self::deadline) too. The first attempt that connects wins: [`handle_connected`](Self::handle_connected)
/// gives the layers that lie on its socket, and the other attempts are dropped. When none is left,
/// [`failure`](Self::failure) tells why. There is no limit of time in here: whoever asked for the connection has one.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
/// use mqtt_machine_transport::{Dial, DialStep, Endpoint, Route, RouteOptions, Target};
///
/// let route = Route::new(Endpoint::parse("mqtt://127.0.0.1")?, &RouteOptions::new())?;
/// let mut dial = Dial::new(Arc::new(route), &[], 0);
/// let Some(DialStep::Connect(attempt, target)) = dial.poll_step(Instant::now()) else { panic!("an address is at hand") };
/// assert_eq!(target, Target::Tcp("127.0.0.1:1883".parse()?));
/// assert!(dial.handle_connected(attempt)?.is_plain());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Dial {
    route: Arc<Route>,
    /// Those whose turn has not come.
    servers: VecDeque<Authority>,
    stage: Stage,
    /// Under way, for whichever server.
    running: Vec<Running>,
    next_attempt: usize,
    last_error: Option<DialError>,
}

#[derive(Debug)]
enum Stage {
    /// The service's records are asked for.
    #[cfg(feature = "srv")]
    Service(SrvLookup),
    /// The next server's turn.
    Next,
    /// This server's addresses are awaited, for a proxy that is to be told one of them.
    Server(Authority),
    /// The addresses of what stands first on the way to this server are awaited.
    Hop(Authority),
    /// The Unix socket is to be tried.
    Unix(String),
    /// The addresses of what stands first on the way to this server are tried.
    Connect { server: Authority, attempts: AddressAttempts, patience: Option<Instant> },
    /// No server is left.
    Exhausted,
}

#[derive(Debug)]
struct Running {
    attempt: Attempt,
    /// `None` for a Unix socket.
    server: Option<Authority>,
    target: Target,
}

impl Dial {
    /// A dialling of `route`. With SRV records the endpoint's own name server is asked, or else `nameservers`
    /// (`nameservers_in` reads those of the system); `random` should be unpredictable.
    pub fn new(route: Arc<Route>, nameservers: &[SocketAddr], random: u64) -> Self {
        let mut servers = VecDeque::new();
        let mut last_error = None;
        let stage = match route.destination() {
            Destination::Unix(path) => Stage::Unix(path.clone()),
            Destination::Server(authority) => {
                servers.push_back(authority.clone());
                Stage::Next
            }
            Destination::Service(_) => Self::service(&route, nameservers, random).unwrap_or_else(|error| {
                last_error = Some(error);
                Stage::Exhausted
            }),
        };
        Self { route, servers, stage, running: Vec::new(), next_attempt: 0, last_error }
    }

    #[cfg(feature = "srv")]
    fn service(route: &Route, nameservers: &[SocketAddr], random: u64) -> Result<Stage, DialError> {
        let name = route.service_name().unwrap_or_default();
        let own = route.endpoint().options.nameserver;
        let nameservers = own.map_or_else(|| nameservers.to_vec(), |own| vec![own]);
        match SrvLookup::new(&name, nameservers, random) {
            Ok(lookup) => Ok(Stage::Service(lookup)),
            Err(error) => Err(DialError::Service { name, error }),
        }
    }

    #[cfg(not(feature = "srv"))]
    fn service(route: &Route, _: &[SocketAddr], _: u64) -> Result<Stage, DialError> {
        // A route to a service is not made without the feature.
        Err(DialError::NotOffered { name: route.service_name().unwrap_or_default() })
    }

    /// The next thing to do; `None`: wait for what was begun, or for the [`deadline`](Self::deadline).
    #[must_use]
    pub fn poll_step(&mut self, now: Instant) -> Option<DialStep> {
        loop {
            match &mut self.stage {
                #[cfg(feature = "srv")]
                Stage::Service(lookup) => {
                    lookup.handle_timeout(now);
                    if let Some(question) = lookup.poll_question(now) {
                        return Some(DialStep::Ask(question));
                    }
                    lookup.outcome()?;
                    self.take_records();
                }
                Stage::Next => {
                    let Some(server) = self.servers.pop_front() else {
                        self.stage = Stage::Exhausted;
                        return None;
                    };
                    if self.route.wants_address() && matches!(server.host, Host::Domain(_)) {
                        self.stage = Stage::Server(server.clone());
                        return Some(DialStep::Resolve(server));
                    }
                    let hop = self.route.first_hop(&server).clone();
                    match address_of(&hop) {
                        Some(address) => self.connect(server, [address]),
                        None => {
                            self.stage = Stage::Hop(server);
                            return Some(DialStep::Resolve(hop));
                        }
                    }
                }
                Stage::Unix(path) => {
                    let target = Target::Unix(std::mem::take(path));
                    self.stage = Stage::Next;
                    return Some(self.begin(None, target));
                }
                Stage::Connect { server, attempts, patience } => {
                    if let Some(address) = attempts.poll_attempt(now) {
                        let server = server.clone();
                        return Some(self.begin(Some(server), Target::Tcp(address)));
                    }
                    if attempts.is_exhausted() {
                        self.stage = Stage::Next;
                        continue;
                    }
                    // Every address of this one is under way.
                    if self.servers.is_empty() || attempts.deadline().is_some() {
                        return None;
                    }
                    let until = *patience.get_or_insert(now.checked_add(SERVER_DELAY).unwrap_or(now));
                    if now < until {
                        return None;
                    }
                    self.stage = Stage::Next;
                }
                Stage::Server(_) | Stage::Hop(_) | Stage::Exhausted => return None,
            }
        }
    }

    /// When to call [`poll_step`](Self::poll_step) again if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            #[cfg(feature = "srv")]
            Stage::Service(lookup) => lookup.deadline(),
            Stage::Connect { attempts, patience, .. } => attempts.deadline().or(*patience),
            _ => None,
        }
    }

    /// A name server's message came, without a length before it.
    pub fn handle_answer(&mut self, message: &[u8]) {
        #[cfg(feature = "srv")]
        if let Stage::Service(lookup) = &mut self.stage {
            lookup.handle_answer(message);
        }
        let _ = message;
    }

    /// The question could not be sent, or its connection broke.
    pub fn handle_unasked(&mut self) {
        #[cfg(feature = "srv")]
        if let Stage::Service(lookup) = &mut self.stage {
            lookup.handle_failed();
        }
    }

    /// What the lookup of a name gave.
    pub fn handle_resolved(&mut self, result: io::Result<Vec<SocketAddr>>) {
        match std::mem::replace(&mut self.stage, Stage::Next) {
            Stage::Server(server) => {
                if let Some(found) = self.found(&server, result) {
                    // Each goes to the proxy as a server of its own, in the order of RFC 8305.
                    let addresses: Vec<_> = AddressSequence::new(found).collect();
                    for address in addresses.into_iter().rev() {
                        self.servers.push_front(Authority::new(Host::from(address.ip()), server.port));
                    }
                }
            }
            Stage::Hop(server) => {
                let hop = self.route.first_hop(&server).clone();
                if let Some(found) = self.found(&hop, result) {
                    self.connect(server, found);
                }
            }
            stage => self.stage = stage,
        }
    }

    /// This attempt has connected: the layers that lie on its socket, not begun. The other attempts are worth nothing any
    /// more.
    ///
    /// # Errors
    /// [`DialError::Config`] when the layers cannot be made, as when a WebSocket request is not signed.
    pub fn handle_connected(&mut self, attempt: Attempt) -> Result<Layers, DialError> {
        let server = self.take(attempt).and_then(|running| running.server);
        self.running.clear();
        self.stage = Stage::Exhausted;
        match server {
            Some(server) => self.route.layers_to(&server),
            None => self.route.layers(),
        }
        .map_err(DialError::Config)
    }

    /// This attempt has failed.
    pub fn handle_failed(&mut self, attempt: Attempt, error: &io::Error) {
        let Some(running) = self.take(attempt) else { return };
        let to = running.target.to_string();
        self.last_error = Some(DialError::Connect { to, kind: error.kind(), why: error.to_string() });
        if let (Stage::Connect { server, attempts, .. }, Target::Tcp(address)) =
            (&mut self.stage, running.target)
            && Some(&*server) == running.server.as_ref()
        {
            attempts.handle_failed(address);
        }
    }

    /// Why there is no connection, once nothing is left to try.
    pub fn failure(&self) -> Option<DialError> {
        if !matches!(self.stage, Stage::Exhausted) || !self.running.is_empty() {
            return None;
        }
        let name = || self.route.destination().to_string();
        Some(self.last_error.clone().unwrap_or_else(|| DialError::NoAddress { name: name() }))
    }

    #[cfg(feature = "srv")]
    fn take_records(&mut self) {
        let Stage::Service(lookup) = std::mem::replace(&mut self.stage, Stage::Next) else { return };
        let name = || self.route.service_name().unwrap_or_default();
        match lookup.outcome() {
            Some(Ok(SrvOutcome::Servers(found))) => {
                self.servers.extend(found.iter().take(MAX_SERVERS).cloned());
            }
            Some(Ok(SrvOutcome::NoRecords)) => {
                if let Destination::Service(authority) = self.route.destination() {
                    self.servers.push_back(authority.clone());
                }
            }
            Some(Ok(SrvOutcome::NotOffered)) => {
                self.last_error = Some(DialError::NotOffered { name: name() });
            }
            Some(Err(error)) => {
                self.last_error = Some(DialError::Service { name: name(), error: *error });
            }
            None => {}
        }
    }

    fn found(&mut self, name: &Authority, result: io::Result<Vec<SocketAddr>>) -> Option<Vec<SocketAddr>> {
        let name = name.host.name();
        match result {
            Ok(found) if found.is_empty() => self.last_error = Some(DialError::NoAddress { name }),
            Ok(found) => return Some(found),
            Err(error) => {
                self.last_error =
                    Some(DialError::Resolve { name, kind: error.kind(), why: error.to_string() });
            }
        }
        None
    }

    fn connect(&mut self, server: Authority, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.stage = Stage::Connect { server, attempts: AddressAttempts::new(addresses), patience: None };
    }

    fn begin(&mut self, server: Option<Authority>, target: Target) -> DialStep {
        let attempt = Attempt(self.next_attempt);
        self.next_attempt = self.next_attempt.wrapping_add(1);
        self.running.push(Running { attempt, server, target: target.clone() });
        DialStep::Connect(attempt, target)
    }

    fn take(&mut self, attempt: Attempt) -> Option<Running> {
        let at = self.running.iter().position(|running| running.attempt == attempt)?;
        Some(self.running.remove(at))
    }
}

/// The address that a host is, where no lookup is needed.
fn address_of(authority: &Authority) -> Option<SocketAddr> {
    let ip = match authority.host {
        Host::Domain(_) => return None,
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
    };
    Some(SocketAddr::new(ip, authority.port))
}
