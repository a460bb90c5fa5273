//! Owns the choice of the next attempt: whether there is one, at which server, in which version, after which wait.
//! It must not know how an attempt is made, nor what a connection did.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::config::{Backoff, Config, Redirection};
use crate::connection::{Identity, Presented, connect_packet_length};
use crate::interface::{EndReason, Event, Feature};
use crate::packet::{PacketType, Property, PropertyId};
use crate::reason::ReasonCode;
use crate::session::Ask;
use crate::time::Instant;
use crate::types::{ProtocolVersion, QoS, Server, Subscription, SubscriptionOptions};
use crate::wire::Fault;

use super::{Machine, State};

/// Servers that one reference may name; what it names beyond that is not looked at.
const MOST_REFERENCES: usize = 16;

/// Where the next attempts lead.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// Attempts that failed in a row.
    pub(super) failed: u32,
    /// Which of the servers' turn it is.
    turn: usize,
    /// None as long as no server has named another.
    references: Option<Box<References>>,
    /// References followed since a connection was stable.
    hops: u8,
    /// The credentials of the present attempt were given for it alone: the next one may have others.
    pub(super) own_credentials: bool,
    fallback: Fallback,
}

/// Servers that others have named.
#[derive(Clone, Debug, Default)]
struct References {
    /// To be used instead, as long as an attempt at the first of them does not fail.
    redirected: VecDeque<Server>,
    /// In the place of the configured ones.
    moved: Vec<Server>,
}

/// Whether the configuration in force speaks a lower version than the caller asked for.
#[derive(Clone, Debug, Default)]
enum Fallback {
    #[default]
    No,
    /// It does, and no server has accepted it yet. What the caller asked for is kept here.
    Trying(Arc<Config>),
    /// It does, and a server accepted it: it stays until the configuration is exchanged.
    Proven,
}

/// How far an attempt had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// No transport was open.
    Nothing,
    /// CONNECT was on its way, or waited for its answer.
    Handshake,
    /// CONNACK had accepted the client.
    Connection,
}

impl Route {
    /// A connection lasted: what failed before it no longer counts.
    pub(super) const fn stable(&mut self) {
        self.failed = 0;
        self.hops = 0;
    }

    /// A server accepted the client in the version of the present configuration.
    pub(super) fn accepted(&mut self) {
        if matches!(self.fallback, Fallback::Trying(_)) {
            self.fallback = Fallback::Proven;
        }
    }

    /// A new configuration begins: nothing that was learnt of its servers holds.
    pub(super) fn reconfigured(&mut self) {
        *self = Self { failed: self.failed, turn: self.turn, ..Self::default() };
    }

    /// The server of the next attempt.
    pub(super) fn server(&self, config: &Config) -> Option<Server> {
        let references = self.references.as_ref();
        if let Some(server) = references.and_then(|it| it.redirected.front()) {
            return Some(server.clone());
        }
        let moved = references.map(|it| &it.moved).filter(|moved| !moved.is_empty());
        let servers = moved.unwrap_or(&config.servers);
        let place = self.turn.checked_rem(servers.len())?;
        servers.get(place).cloned()
    }

    /// Takes the servers that a redirection names; false when there is none to be followed.
    fn follow(&mut self, config: &Config, reason: &EndReason) -> bool {
        let Redirection::Follow { hops } = config.redirection else { return false };
        let (EndReason::Refused { reason, properties } | EndReason::Disconnect { reason, properties }) =
            reason
        else {
            return false;
        };
        let moved = *reason == ReasonCode::ServerMoved;
        if self.hops >= hops || !(moved || *reason == ReasonCode::UseAnotherServer) {
            return false;
        }
        let Some(Property::ServerReference(reference)) =
            properties.as_properties().find(PropertyId::ServerReference)
        else {
            return false;
        };
        let servers: Vec<Server> =
            reference.split_whitespace().take(MOST_REFERENCES).map(Server::new).collect();
        if servers.is_empty() {
            return false;
        }
        self.hops = self.hops.saturating_add(1);
        let references = self.references.get_or_insert_default();
        if moved {
            references.redirected.clear();
            references.moved = servers;
            self.turn = 0;
        } else {
            references.redirected = servers.into();
        }
        true
    }

    /// Whether the next attempt leads to a server that another one has named.
    fn is_redirected(&self) -> bool {
        self.references.as_ref().is_some_and(|it| !it.redirected.is_empty())
    }
}

impl Machine {
    /// Decides when the next attempt begins, if at all.
    pub(super) fn schedule(&mut self, now: Instant, reason: &EndReason, reached: Reached) -> Option<Instant> {
        let backoff = self.config.backoff;
        let asked = matches!(reason, EndReason::Reconnect);
        let at_once = if asked {
            self.route.failed = 0;
            true
        } else {
            self.route.follow(&self.config, reason) || self.fall_back(reason, reached)
        };
        if at_once {
            self.state = State::Waiting { until: now };
            return Some(now);
        }
        if let Fallback::Trying(wanted) = core::mem::take(&mut self.route.fallback) {
            // No lower version helped: the next attempt begins from the top.
            self.config = wanted;
        }
        let passes = self.route.own_credentials && reason.refuses_credentials();
        if (reason.is_permanent() && !passes)
            || backoff.attempts.is_some_and(|most| self.route.failed >= most)
        {
            self.state = State::Idle;
            return None;
        }
        let redirected = self.route.is_redirected();
        if let Some(references) = &mut self.route.references
            && reached != Reached::Connection
        {
            references.redirected.pop_front();
        }
        let delay = if reached != Reached::Connection && self.route.is_redirected() {
            Duration::ZERO
        } else {
            let delay = self.delay(&backoff);
            self.route.failed = self.route.failed.saturating_add(1);
            self.route.turn = self.route.turn.wrapping_add(usize::from(!redirected));
            delay
        };
        let until = now + delay;
        self.state = State::Waiting { until };
        Some(until)
    }

    fn delay(&mut self, backoff: &Backoff) -> Duration {
        let factor = backoff.factor.max(1).checked_pow(self.route.failed).unwrap_or(u32::MAX);
        let bound = backoff.first.saturating_mul(factor).min(backoff.cap);
        if !backoff.jitter {
            return bound;
        }
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.up_to(micros))
    }

    /// Puts a configuration of a lower version into force, when the server does not speak this one and the caller
    /// allows it. False when there is nothing to fall back to.
    fn fall_back(&mut self, reason: &EndReason, reached: Reached) -> bool {
        let not_spoken = match reason {
            EndReason::Refused { reason, .. } => *reason == ReasonCode::UnsupportedProtocolVersion,
            // 3.x's "unacceptable protocol version" in the form of a 5.0 CONNACK, where it is no code.
            EndReason::Malformed(error) => {
                let unknown = error.fault() == Fault::ReasonCodeUnknown && error.value() == Some(1);
                unknown && error.packet() == Some(PacketType::ConnAck)
            }
            EndReason::Closed(_) => reached == Reached::Handshake,
            _ => false,
        };
        let Some(lowest) =
            self.config.fallback.filter(|_| not_spoken && self.config.authentication.is_none())
        else {
            return false;
        };
        let version = match self.config.version {
            ProtocolVersion::V5 => ProtocolVersion::V3_1_1,
            ProtocolVersion::V3_1_1 => ProtocolVersion::V3_1,
            ProtocolVersion::V3_1 => return false,
        };
        let lower = Config { version, ..Config::clone(&self.config) };
        let identity = Identity { client_id: &lower.client_id, clean_start: true };
        if version < lowest || connect_packet_length(&lower, &Presented::of(&lower), identity).is_err() {
            return false;
        }
        let without = self.unavailable_in(version);
        let wanted = core::mem::replace(&mut self.config, Arc::new(lower));
        if !matches!(self.route.fallback, Fallback::Trying(_)) {
            self.route.fallback = Fallback::Trying(wanted);
        }
        self.events.push(Event::FellBack { version, without });
        true
    }

    /// What the configuration and the session ask for and `version`, which is not 5.0, does not have.
    fn unavailable_in(&self, version: ProtocolVersion) -> Vec<Feature> {
        let silent = (version == ProtocolVersion::V3_1).then_some(Feature::SessionPresent);
        let config = &self.config;
        if config.version != ProtocolVersion::V5 {
            return silent.into_iter().collect();
        }
        let will = config.will.as_ref().is_some_and(|will| !will.message.properties.is_empty());
        let messages = self.session.outgoing.any_message(|message| !message.properties.is_empty());
        let has_options = |it: &Subscription| it.options != SubscriptionOptions::new(it.options.qos);
        let kept = self.session.snapshot().subscriptions;
        let subscriptions = kept.iter().any(|(kept, identifier)| identifier.is_some() || has_options(kept))
            || self.session.requests.any(|request| match &request.ask {
                Ask::Subscribe(asked) => {
                    request.properties.as_properties().subscription_identifiers().next().is_some()
                        || asked.iter().any(has_options)
                }
                Ask::Unsubscribe(_) => false,
            });
        [
            (!config.session_expiry.is_zero(), Feature::SessionExpiry),
            (config.receive_maximum != u16::MAX, Feature::ReceiveMaximum),
            (config.topic_alias_maximum > 0 || config.topic_aliases.automatic, Feature::TopicAliases),
            (!config.user_properties.is_empty(), Feature::UserProperties),
            (will, Feature::WillProperties),
            (messages, Feature::MessageProperties),
            (subscriptions, Feature::SubscriptionOptions),
            (config.request_response_information, Feature::ResponseInformation),
        ]
        .into_iter()
        .filter_map(|(is_lost, feature)| is_lost.then_some(feature))
        .chain(silent)
        .collect()
    }

    /// The QoS with which a message can be sent on the present connection, if it may be lowered.
    pub(super) fn highest_qos(&self) -> Option<QoS> {
        match &self.state {
            State::Live(connection) if connection.is_established() && connection.downgrades => {
                Some(connection.capabilities.maximum_qos)
            }
            _ => None,
        }
    }
}
