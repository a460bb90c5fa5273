//! Owns the lookup of SRV records: which name server is asked when, over what, and what its answer means. It must not send
//! anything itself.

mod message;
mod order;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
pub use order::{SrvRecord, order_records};

use self::message::Answer;
use crate::dial::{SrvError, SrvOver, SrvQuestion};
use crate::endpoint::Authority;

/// How long one question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each name server is asked.
const ROUNDS: usize = 2;
/// How many name servers are asked at most; as many as a resolver of the system takes.
const NAMESERVERS: usize = 3;

/// A lookup of SRV records: who has to be asked now, and what came of it.
///
/// Send what [`poll_question`](Self::poll_question) gives, hand what comes back to [`handle_answer`](Self::handle_answer), and
/// call [`handle_timeout`](Self::handle_timeout) at the [`deadline`](Self::deadline), until [`outcome`](Self::outcome) tells.
/// A new question ends the one before it. An answer is believed when it comes to this question with this number: send each
/// question from a new, connected socket, so that nobody else's datagrams come in.
///
/// ```
/// use std::time::Instant;
/// use mqtt_machine_transport::{SrvLookup, SrvOver};
///
/// let random = 0x1234_5678_9ABC_DEF0; // From the system: it protects from forged answers.
/// let nameservers = ["127.0.0.1:53".parse()?];
/// let mut lookup = SrvLookup::new("_mqtt._tcp.example.org", nameservers, random)?;
/// let question = lookup.poll_question(Instant::now()).expect("the first one");
/// assert_eq!(question.over, SrvOver::Udp);
/// assert!(lookup.deadline().is_some() && lookup.outcome().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SrvLookup {
    name: String,
    nameservers: Vec<SocketAddr>,
    id: u16,
    seed: u64,
    message: Bytes,
    /// Questions that were asked; it tells who is next.
    asked: usize,
    phase: Phase,
    last_error: SrvError,
}

#[derive(Clone, Debug)]
enum Phase {
    Ask(SrvOver),
    Wait { over: SrvOver, until: Instant },
    Done(Result<SrvOutcome, SrvError>),
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SrvOutcome {
    /// These servers, to be tried in this order.
    Servers(Vec<Authority>),
    /// There are no records: try the domain itself at the scheme's port.
    NoRecords,
    /// The domain says that it does not have this service.
    NotOffered,
}

impl SrvLookup {
    /// A lookup of `name` (as `Route::service_name` gives it) by these name servers, the first three of which are asked in
    /// turn, twice. `random` gives the question its number and draws among weights; it should be unpredictable.
    ///
    /// # Errors
    /// [`SrvError::BadName`] or [`SrvError::NoNameserver`].
    pub fn new(
        name: &str,
        nameservers: impl IntoIterator<Item = SocketAddr>,
        random: u64,
    ) -> Result<Self, SrvError> {
        let nameservers: Vec<_> = nameservers.into_iter().take(NAMESERVERS).collect();
        if nameservers.is_empty() {
            return Err(SrvError::NoNameserver);
        }
        let [high, low, ..] = random.to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        let name = name.trim_end_matches('.').to_owned();
        let message = message::question(id, &name)?.into();
        Ok(Self {
            name,
            nameservers,
            id,
            seed: random,
            message,
            asked: 0,
            phase: Phase::Ask(SrvOver::Udp),
            last_error: SrvError::NoAnswer,
        })
    }

    /// The question to send now, if one is due. It ends the one before it.
    #[must_use]
    pub fn poll_question(&mut self, now: Instant) -> Option<SrvQuestion> {
        let Phase::Ask(over) = self.phase else { return None };
        let turn = self.asked.checked_rem(self.nameservers.len()).unwrap_or_default();
        let to = *self.nameservers.get(turn)?;
        self.phase = Phase::Wait { over, until: now.checked_add(PATIENCE).unwrap_or(now) };
        Some(SrvQuestion { to, over, message: self.message.clone() })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Wait { until, .. } => Some(until),
            Phase::Ask(_) | Phase::Done(_) => None,
        }
    }

    /// What came of it; `None` while it goes on.
    pub const fn outcome(&self) -> Option<&Result<SrvOutcome, SrvError>> {
        match &self.phase {
            Phase::Done(outcome) => Some(outcome),
            Phase::Ask(_) | Phase::Wait { .. } => None,
        }
    }

    /// A message came, without a length before it. One that is no answer to this question changes nothing.
    pub fn handle_answer(&mut self, message: &[u8]) {
        let Phase::Wait { over, .. } = self.phase else { return };
        match (message::answer(message, self.id, &self.name), over) {
            (Answer::Foreign, _) => {}
            (Answer::Truncated, SrvOver::Udp) => self.phase = Phase::Ask(SrvOver::Tcp),
            (Answer::Truncated, SrvOver::Tcp) => self.next(),
            (Answer::Failed(code), _) => {
                self.last_error = SrvError::Failed(code);
                self.next();
            }
            (Answer::Nothing, _) => self.phase = Phase::Done(Ok(SrvOutcome::NoRecords)),
            (Answer::NotOffered, _) => self.phase = Phase::Done(Ok(SrvOutcome::NotOffered)),
            (Answer::Records(records), _) => {
                let servers = order_records(records, self.seed);
                self.phase = Phase::Done(Ok(SrvOutcome::Servers(servers)));
            }
        }
    }

    /// The question could not be sent, or its connection broke.
    pub fn handle_failed(&mut self) {
        if matches!(self.phase, Phase::Wait { .. }) {
            self.next();
        }
    }

    /// Time has passed. Early and repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Wait { until, .. } if until <= now) {
            self.next();
        }
    }

    fn next(&mut self) {
        self.asked = self.asked.saturating_add(1);
        self.phase = if self.asked < self.nameservers.len().saturating_mul(ROUNDS) {
            Phase::Ask(SrvOver::Udp)
        } else {
            Phase::Done(Err(self.last_error))
        };
    }
}

/// The name servers that the text of a `resolv.conf` names, at most three, at port 53; the one of this machine when it names
/// none, as the system's own resolver does. What is unreadable in it is passed over.
pub fn nameservers_in(resolv_conf: &[u8]) -> Vec<SocketAddr> {
    let (config, _) = resolv_conf::Config::parse_with_errors(resolv_conf);
    let mut found: Vec<_> = (config.nameservers.iter().take(NAMESERVERS))
        .map(|address| SocketAddr::new(IpAddr::from(address), 53))
        .collect();
    if found.is_empty() {
        found.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    found
}
