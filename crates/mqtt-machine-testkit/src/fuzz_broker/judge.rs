//! Owns what a broker owes on one connection, read from the bytes that it was sent, and compares it with what it says.
//! It must not know what a case expects, nor time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Connect, Packet, PacketType, Property, PropertyId, Publish, Sender, Subscribe,
    Unsubscribe,
};
use mqtt_machine::{
    Capabilities, PacketId, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions, TopicFilter, TopicName,
    wire,
};

use super::finding::{Class, Complaint};

/// The reader of both directions of one connection.
#[derive(Debug)]
pub(super) struct Judge {
    version: ProtocolVersion,
    /// What was sent and is no whole packet yet.
    asked: BytesMut,
    /// What came and is no whole packet yet.
    heard: BytesMut,
    /// What was sent can no longer be read: nothing is known of what is owed.
    lost: bool,
    pub(super) connack: Option<Answer>,
    /// A DISCONNECT was sent.
    pub(super) disconnected: bool,
    /// The session began empty, so that all subscriptions are known.
    is_fresh: bool,
    publishing: BTreeMap<PacketId, Stage>,
    subscribing: BTreeMap<PacketId, Vec<(String, QoS)>>,
    unsubscribing: BTreeMap<PacketId, usize>,
    pings: usize,
    aliases: BTreeMap<u16, String>,
    subscriptions: Vec<Subscribed>,
    owed: Vec<Owed>,
    incoming: BTreeSet<PacketId>,
    pub(super) complaints: Vec<Complaint>,
}

/// What the broker said to the CONNECT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) reason: ReasonCode,
    pub(super) capabilities: Capabilities,
}

/// What a publication waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "named like the packets")]
enum Stage {
    PubAck,
    PubRec,
    PubComp,
}

#[derive(Debug)]
struct Subscribed {
    filter: TopicFilter,
    options: SubscriptionOptions,
    identifier: Option<u32>,
    /// It was unsubscribed since, or replaced: late deliveries are still fine, none is owed.
    ended: bool,
}

/// A message that is to come back.
#[derive(Debug)]
struct Owed {
    topic: String,
    payload: Vec<u8>,
    /// The filters that ask for it.
    filters: Vec<String>,
    /// Exactly one filter asks for it, with QoS 2 both ways.
    exactly_once: bool,
    came: usize,
}

/// What the conversation does about a packet that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Send this acknowledgement.
    Acknowledge(Ack<'static>),
    /// The broker ends the connection with this code.
    Disconnected(ReasonCode),
}

impl Judge {
    pub(super) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            asked: BytesMut::new(),
            heard: BytesMut::new(),
            lost: false,
            connack: None,
            disconnected: false,
            is_fresh: true,
            publishing: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            pings: 0,
            aliases: BTreeMap::new(),
            subscriptions: Vec::new(),
            owed: Vec::new(),
            incoming: BTreeSet::new(),
            complaints: Vec::new(),
        }
    }

    /// The number of a rule in 5.0, or else before.
    fn rule(&self, id_5: &'static str, id_3: &'static str) -> &'static str {
        if self.version == ProtocolVersion::V5 { id_5 } else { id_3 }
    }

    /// Whether what was sent ends with a whole packet, so that another may follow.
    pub(super) fn is_between_packets(&self) -> bool {
        !self.lost && self.asked.is_empty()
    }

    /// Whether everything that was asked for is answered, as far as is known.
    pub(super) fn is_settled(&self) -> bool {
        self.missing().is_none()
    }

    /// Whether a PINGREQ is unanswered.
    pub(super) const fn awaits_pong(&self) -> bool {
        self.pings > 0
    }

    /// What is owed and did not come, in words.
    pub(super) fn missing(&self) -> Option<String> {
        let stage = self.publishing.iter().next().map(|(id, stage)| match stage {
            Stage::PubAck => {
                format!("no PUBACK for {id} [{}]", self.rule("MQTT-4.3.2-4", "MQTT-4.3.2-2"))
            }
            Stage::PubRec => {
                format!("no PUBREC for {id} [{}]", self.rule("MQTT-4.3.3-8", "MQTT-4.3.3-2"))
            }
            Stage::PubComp => {
                format!("no PUBCOMP for {id} [{}]", self.rule("MQTT-4.3.3-11", "MQTT-4.3.3-2"))
            }
        });
        let suback = || self.subscribing.keys().next().map(|id| format!("no SUBACK for {id} [MQTT-3.8.4-1]"));
        let unsuback =
            || self.unsubscribing.keys().next().map(|id| format!("no UNSUBACK for {id} [MQTT-3.10.4-4]"));
        let pong = || (self.pings > 0).then(|| String::from("no PINGRESP [MQTT-3.12.4-1]"));
        let message = || {
            let owed = self.owed.iter().find(|owed| owed.came == 0)?;
            Some(format!(
                "a message on {:?} was acknowledged and not delivered to its subscriber",
                owed.topic
            ))
        };
        stage.or_else(suback).or_else(unsuback).or_else(pong).or_else(message)
    }

    /// Bytes were sent to the broker.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        self.asked.extend_from_slice(bytes);
        while !self.lost {
            let header = match wire::frame_header(&self.asked, u32::MAX) {
                Ok(Some(header)) if self.asked.remaining() >= header.frame_len() => header,
                Ok(_) => return,
                Err(_) => return self.lose(),
            };
            let frame = self.asked.split_to(header.frame_len());
            match wire::decode(&frame, self.version, Sender::Client) {
                Ok(packet) => self.ask(&packet),
                Err(_) => return self.lose(),
            }
        }
    }

    /// A last PINGREQ was sent, whether or not it stands between two packets: an answer shows that the broker goes on.
    pub(super) const fn probed(&mut self) {
        self.pings += 1;
    }

    /// Nothing is known of what is owed from here on.
    fn lose(&mut self) {
        self.lost = true;
        self.asked.clear();
        self.publishing.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.owed.clear();
        self.is_fresh = false;
    }

    fn ask(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Connect(connect) => self.ask_connect(connect),
            Packet::Publish(publish) => self.ask_publish(publish),
            Packet::Subscribe(subscribe) => self.ask_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.ask_unsubscribe(unsubscribe),
            Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                self.publishing.insert(ack.packet_id, Stage::PubComp);
            }
            Packet::PingReq => self.pings += 1,
            Packet::Disconnect(_) => self.disconnected = true,
            _ => {}
        }
    }

    fn ask_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.is_fresh = connect.clean_start;
    }

    fn ask_publish(&mut self, publish: &Publish<'_>) {
        if let Some(id) = publish.packet_id {
            let stage = if publish.qos == QoS::ExactlyOnce { Stage::PubRec } else { Stage::PubAck };
            self.publishing.insert(id, stage);
        }
        let mut topic = publish.topic.to_string();
        if let Some(Property::TopicAlias(alias)) = publish.properties.find(PropertyId::TopicAlias) {
            if topic.is_empty() {
                topic = self.aliases.get(&alias).cloned().unwrap_or_default();
            } else {
                self.aliases.insert(alias, topic.clone());
            }
        }
        let Ok(name) = TopicName::new(&topic) else { return };
        // A message that expires may be gone at once.
        let expires = publish.properties.find(PropertyId::MessageExpiryInterval).is_some();
        let asking: Vec<&Subscribed> = self
            .subscriptions
            .iter()
            .filter(|it| !it.ended && !it.options.no_local && it.filter.shared().is_none())
            .filter(|it| it.filter.matches(&name) && it.options.qos.min(publish.qos) > QoS::AtMostOnce)
            .collect();
        let others = self.subscriptions.iter().filter(|it| it.filter.matches(&name)).count();
        if !asking.is_empty() && !expires && self.is_fresh {
            let both_2 = publish.qos == QoS::ExactlyOnce && asking[0].options.qos == QoS::ExactlyOnce;
            self.owed.push(Owed {
                filters: asking.iter().map(|it| it.filter.as_str().to_owned()).collect(),
                // A retained message comes again with every subscription.
                exactly_once: others == 1 && both_2 && !publish.retain,
                topic,
                payload: publish.payload.to_vec(),
                came: 0,
            });
        }
    }

    fn ask_subscribe(&mut self, subscribe: &Subscribe<'_>) {
        let identifier = subscribe.properties.subscription_identifiers().next();
        let mut asked = Vec::new();
        for filter in &subscribe.filters {
            asked.push((filter.filter.to_owned(), filter.options.qos));
            self.end(filter.filter);
            if let Ok(name) = TopicFilter::new(filter.filter) {
                let options = filter.options;
                self.subscriptions.push(Subscribed { filter: name, options, identifier, ended: false });
            }
        }
        self.subscribing.insert(subscribe.packet_id, asked);
    }

    fn ask_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) {
        unsubscribe.filters.iter().for_each(|filter| self.end(filter));
        self.unsubscribing.insert(unsubscribe.packet_id, unsubscribe.filters.len());
    }

    /// A filter asks for nothing more: what was on its way may or may not come.
    fn end(&mut self, filter: &str) {
        for subscribed in self.subscriptions.iter_mut().filter(|it| it.filter.as_str() == filter) {
            subscribed.ended = true;
        }
        self.owed.retain(|owed| owed.came > 0 || !owed.filters.iter().any(|it| it == filter));
    }

    fn complain(&mut self, class: Class, what: impl Into<String>) {
        self.complaints.push(Complaint { class, what: what.into() });
    }

    /// Bytes came from the broker.
    pub(super) fn came(&mut self, bytes: &[u8]) -> Vec<Reaction> {
        self.heard.extend_from_slice(bytes);
        let mut reactions = Vec::new();
        loop {
            let header = match wire::frame_header(&self.heard, u32::MAX) {
                Ok(Some(header)) if self.heard.remaining() >= header.frame_len() => header,
                Ok(_) => return reactions,
                Err(error) => {
                    self.garbled(&error.to_string());
                    return reactions;
                }
            };
            let frame = self.heard.split_to(header.frame_len());
            match wire::decode(&frame, self.version, Sender::Server) {
                Ok(packet) => self.hear(&packet, &mut reactions),
                Err(error) if self.is_old_refusal(&frame) => {
                    let _ = error;
                    self.connack = Some(Answer {
                        reason: ReasonCode::UnsupportedProtocolVersion,
                        capabilities: Capabilities::new(self.version),
                    });
                }
                Err(error) => {
                    self.garbled(&error.to_string());
                    return reactions;
                }
            }
        }
    }

    /// After a CONNECT that nobody could read, a broker answers in the form of whatever version it took it for.
    fn is_old_refusal(&self, frame: &[u8]) -> bool {
        let is_connack = frame.first() == Some(&0x20);
        self.connack.is_none()
            && self.lost
            && is_connack
            && ProtocolVersion::ALL.iter().any(|version| {
                matches!(wire::decode(frame, *version, Sender::Server),
                    Ok(Packet::ConnAck(connack)) if connack.reason.is_failure())
            })
    }

    fn garbled(&mut self, what: &str) {
        self.heard.clear();
        self.complain(Class::Malformed, format!("the broker sent what is no packet: {what}"));
    }

    fn hear(&mut self, packet: &Packet<'_>, reactions: &mut Vec<Reaction>) {
        if self.connack.is_none() && packet.packet_type() != PacketType::ConnAck {
            self.complain(
                Class::WrongAnswer,
                format!("a {} before CONNACK [MQTT-3.2.0-1]", packet.packet_type()),
            );
        }
        match packet {
            Packet::ConnAck(connack) => self.hear_connack(connack),
            Packet::Publish(publish) => self.hear_publish(publish, reactions),
            Packet::Ack(ack) => self.hear_ack(ack, reactions),
            Packet::SubAck(suback) => {
                let codes: Vec<ReasonCode> = suback.codes.iter().collect();
                self.hear_suback(suback.packet_id, &codes);
            }
            Packet::UnsubAck(unsuback) => self.hear_unsuback(unsuback.packet_id, unsuback.codes.len()),
            Packet::PingResp => match self.pings.checked_sub(1) {
                Some(left) => self.pings = left,
                None if self.lost => {}
                None => self.complain(Class::WrongAnswer, "a PINGRESP that nobody asked for"),
            },
            Packet::Disconnect(disconnect) => reactions.push(Reaction::Disconnected(disconnect.reason)),
            Packet::Auth(_) => {
                self.complain(Class::WrongAnswer, "an AUTH, though no method was named [MQTT-4.12.0-6]");
            }
            _ => {}
        }
    }

    fn hear_connack(&mut self, connack: &ConnAck<'_>) {
        if self.connack.is_some() {
            self.complain(Class::WrongAnswer, "a second CONNACK [MQTT-3.2.0-2]");
        }
        if connack.session_present && self.is_fresh {
            let rule = self.rule("MQTT-3.2.2-2", "MQTT-3.2.2-1");
            self.complain(Class::WrongAnswer, format!("session present after a clean start [{rule}]"));
        }
        let capabilities = Capabilities::new(self.version).after_connack(connack);
        self.connack = Some(Answer { reason: connack.reason, capabilities });
    }

    fn hear_publish(&mut self, publish: &Publish<'_>, reactions: &mut Vec<Reaction>) {
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => {
                reactions.push(Reaction::Acknowledge(Ack::new(AckKind::PubAck, id)));
            }
            (QoS::ExactlyOnce, Some(id)) => {
                reactions.push(Reaction::Acknowledge(Ack::new(AckKind::PubRec, id)));
                if !self.incoming.insert(id) {
                    // Sent again before its PUBREL: the same delivery.
                    return;
                }
            }
            _ => {}
        }
        if publish.properties.find(PropertyId::TopicAlias).is_some() {
            self.complain(Class::WrongAnswer, "a topic alias, though none was offered [MQTT-3.1.2-27]");
            return;
        }
        if !self.is_fresh {
            return;
        }
        let Ok(name) = TopicName::new(publish.topic.as_str()) else { return };
        let matching: Vec<&Subscribed> =
            self.subscriptions.iter().filter(|it| it.filter.matches(&name)).collect();
        let most = matching.iter().map(|it| it.options.qos).max();
        let has_identifier = |id: u32| matching.iter().any(|it| it.identifier == Some(id));
        let foreign = publish
            .properties
            .iter()
            .any(|property| matches!(property, Property::SubscriptionIdentifier(id) if !has_identifier(id)));
        let topic = publish.topic.as_str();
        let granted = self.rule("MQTT-3.8.4-8", "MQTT-3.8.4-6");
        match most {
            None => self.complain(
                Class::WrongAnswer,
                format!("a message on {topic:?}, which no filter matches [MQTT-3.3.2-3]"),
            ),
            Some(most) if publish.qos > most => self.complain(
                Class::WrongAnswer,
                format!("QoS {} for a subscription of QoS {most} at most [{granted}]", publish.qos),
            ),
            Some(_) if foreign => {
                self.complain(Class::WrongAnswer, "the Subscription Identifier of no matching subscription");
            }
            Some(_) => {}
        }
        let owed = self.owed.iter_mut().find(|it| it.topic == topic && it.payload == publish.payload);
        if let Some(owed) = owed {
            owed.came += 1;
            if owed.exactly_once && owed.came == 2 {
                self.complain(
                    Class::WrongAnswer,
                    format!("a message of QoS 2 on {topic:?} came twice [section 4.3.3]"),
                );
            }
        }
    }

    fn hear_ack(&mut self, ack: &Ack<'_>, reactions: &mut Vec<Reaction>) {
        let id = ack.packet_id;
        if ack.kind == AckKind::PubRel {
            self.incoming.remove(&id);
            reactions.push(Reaction::Acknowledge(Ack::new(AckKind::PubComp, id)));
            return;
        }
        let expected = match ack.kind {
            AckKind::PubAck => Stage::PubAck,
            AckKind::PubRec => Stage::PubRec,
            _ => Stage::PubComp,
        };
        if ack.kind == AckKind::PubRec && !ack.reason.is_failure() {
            reactions.push(Reaction::Acknowledge(Ack::new(AckKind::PubRel, id)));
        }
        if self.lost {
            return;
        }
        let name = ack.kind.packet_type();
        if self.publishing.get(&id) != Some(&expected) {
            let rule = self.rule("MQTT-2.2.1-5", "MQTT-2.3.1-6");
            let what = format!("a {name} for {id}, which waits for none [{rule}]");
            return self.complain(Class::WrongAnswer, what);
        }
        self.publishing.remove(&id);
        if ack.reason.is_failure() {
            let what = format!("a {name} with {} for a valid publication", ack.reason);
            self.complain(Class::Refused, what);
        } else if ack.kind == AckKind::PubRec {
            self.publishing.insert(id, Stage::PubComp);
        }
    }

    fn hear_suback(&mut self, id: PacketId, codes: &[ReasonCode]) {
        if self.lost {
            return;
        }
        let Some(asked) = self.subscribing.remove(&id) else {
            let rule = self.rule("MQTT-2.2.1-6", "MQTT-2.3.1-7");
            let what = format!("a SUBACK for {id}, which waits for none [{rule}]");
            return self.complain(Class::WrongAnswer, what);
        };
        if codes.len() != asked.len() {
            let what =
                format!("a SUBACK of {} codes for {} filters [MQTT-3.8.4-6]", codes.len(), asked.len());
            return self.complain(Class::WrongAnswer, what);
        }
        for ((filter, qos), code) in asked.into_iter().zip(codes) {
            if code.is_failure() {
                self.complain(
                    Class::Refused,
                    format!("a SUBACK with {code} for the valid filter {filter:?}"),
                );
                self.end(&filter);
            } else if code.to_u8() > qos.to_u8() {
                self.complain(Class::WrongAnswer, format!("{code} granted where QoS {qos} was asked for"));
            } else if code.to_u8() < qos.to_u8() {
                // Less was granted: what comes may come with QoS 0, and that may be lost.
                self.end(&filter);
            }
        }
    }

    fn hear_unsuback(&mut self, id: PacketId, codes: usize) {
        if self.lost {
            return;
        }
        match self.unsubscribing.remove(&id) {
            None => {
                let rule = self.rule("MQTT-2.2.1-6", "MQTT-2.3.1-7");
                let what = format!("an UNSUBACK for {id}, which waits for none [{rule}]");
                self.complain(Class::WrongAnswer, what);
            }
            Some(asked) if self.version == ProtocolVersion::V5 && codes != asked => {
                let what = format!("an UNSUBACK of {codes} codes for {asked} filters [MQTT-3.11.3-1]");
                self.complain(Class::WrongAnswer, what);
            }
            Some(_) => {}
        }
    }
}
