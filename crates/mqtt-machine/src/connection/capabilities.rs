//! Owns what a server allows, read from its CONNACK. It must not know who asks.

use core::time::Duration;

use crate::config::Config;
use crate::interface::Capabilities;
use crate::packet::{ConnAck, Property};
use crate::reason::ReasonCode;
use crate::types::{ProtocolVersion, QoS, TopicFilter};
use crate::wire::MAX_REMAINING_LENGTH;

/// The longest packet of all: five bytes of fixed header and the longest rest.
const LONGEST_PACKET: u32 = MAX_REMAINING_LENGTH.saturating_add(5);

impl Capabilities {
    /// What a server of this version allows as long as its CONNACK says nothing: the defaults of 5.0 (section 3.2.2.3), which are
    /// also what every 3.x server is taken to allow. Keep alive and session expiry are zero.
    pub const fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            receive_maximum: u16::MAX,
            maximum_packet_size: LONGEST_PACKET,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscriptions: true,
            subscription_identifiers: matches!(version, ProtocolVersion::V5),
            shared_subscriptions: true,
            topic_alias_maximum: 0,
            keep_alive: Duration::ZERO,
            session_expiry: Duration::ZERO,
        }
    }

    /// What a client asks for, before the server answers.
    pub(crate) fn before_connack(config: &Config) -> Self {
        Self {
            keep_alive: Duration::from_secs(super::seconds_u16(config.keep_alive).into()),
            session_expiry: config.session_expiry,
            ..Self::new(config.version)
        }
    }

    /// With which code a server of these capabilities refuses `filter`, if it does.
    pub(crate) fn lacks(&self, filter: &TopicFilter) -> Option<ReasonCode> {
        if filter.shared().is_some() && !self.shared_subscriptions {
            return Some(ReasonCode::SharedSubscriptionsNotSupported);
        }
        (filter.has_wildcard() && !self.wildcard_subscriptions)
            .then_some(ReasonCode::WildcardSubscriptionsNotSupported)
    }

    /// Takes over what a CONNACK says.
    #[must_use]
    pub fn after_connack(self, connack: &ConnAck<'_>) -> Self {
        let mut capabilities = self;
        for property in connack.properties {
            match property {
                Property::ReceiveMaximum(value) => capabilities.receive_maximum = value,
                Property::MaximumPacketSize(value) => {
                    capabilities.maximum_packet_size = value.min(LONGEST_PACKET);
                }
                Property::MaximumQoS(value) => {
                    capabilities.maximum_qos = QoS::from_u8(value).unwrap_or_default();
                }
                Property::RetainAvailable(value) => capabilities.retain_available = value,
                Property::WildcardSubscriptionAvailable(value) => capabilities.wildcard_subscriptions = value,
                Property::SubscriptionIdentifierAvailable(value) => {
                    capabilities.subscription_identifiers = value;
                }
                Property::SharedSubscriptionAvailable(value) => capabilities.shared_subscriptions = value,
                Property::TopicAliasMaximum(value) => capabilities.topic_alias_maximum = value,
                // The client must use it `[MQTT-3.1.2-21]`.
                Property::ServerKeepAlive(value) => {
                    capabilities.keep_alive = Duration::from_secs(value.into());
                }
                Property::SessionExpiryInterval(value) => {
                    capabilities.session_expiry = Duration::from_secs(value.into());
                }
                _ => {}
            }
        }
        capabilities
    }
}
