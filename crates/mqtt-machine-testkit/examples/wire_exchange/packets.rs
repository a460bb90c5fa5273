//! Owns which packets the conversations have: every type, reason code, property and flag that a version knows, and the
//! lengths at which the header grows.
//! It must not know how they are written down. What a version or a sender does not allow our codec leaves out.

use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, Properties, PropertiesBuf, Property,
    PropertyId, Publish, ReasonCodes, Sender, SubAck, Subscribe, SubscribeFilter, Topic, UnsubAck,
    Unsubscribe, Will,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions};

use crate::exchange::Exchange;

const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];
const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const NONE: Properties<'static> = Properties::EMPTY;

/// Values of a property: its smallest and its largest, and text of one and of several bytes for a character.
fn samples(id: PropertyId) -> Vec<Property<'static>> {
    use Property as P;
    match id {
        PropertyId::PayloadFormatIndicator => {
            vec![P::PayloadFormatIndicator(false), P::PayloadFormatIndicator(true)]
        }
        PropertyId::MessageExpiryInterval => {
            vec![P::MessageExpiryInterval(0), P::MessageExpiryInterval(u32::MAX)]
        }
        PropertyId::ContentType => vec![P::ContentType(""), P::ContentType("text/plain")],
        PropertyId::ResponseTopic => vec![P::ResponseTopic("answers/ünï")],
        PropertyId::CorrelationData => vec![P::CorrelationData(b""), P::CorrelationData(&[0, 0xFF])],
        PropertyId::SubscriptionIdentifier => {
            [1, 127, 128, 16_384, 2_097_152, 268_435_455].map(P::SubscriptionIdentifier).to_vec()
        }
        PropertyId::SessionExpiryInterval => {
            vec![P::SessionExpiryInterval(1), P::SessionExpiryInterval(u32::MAX)]
        }
        PropertyId::AssignedClientIdentifier => vec![P::AssignedClientIdentifier("auto-1")],
        PropertyId::ServerKeepAlive => vec![P::ServerKeepAlive(0), P::ServerKeepAlive(u16::MAX)],
        PropertyId::AuthenticationMethod => vec![P::AuthenticationMethod("SCRAM-SHA-256")],
        PropertyId::AuthenticationData => {
            vec![P::AuthenticationData(b""), P::AuthenticationData(b"n,,n=user,r=abc")]
        }
        PropertyId::RequestProblemInformation => {
            vec![P::RequestProblemInformation(false), P::RequestProblemInformation(true)]
        }
        PropertyId::WillDelayInterval => vec![P::WillDelayInterval(0), P::WillDelayInterval(u32::MAX)],
        PropertyId::RequestResponseInformation => {
            vec![P::RequestResponseInformation(false), P::RequestResponseInformation(true)]
        }
        PropertyId::ResponseInformation => vec![P::ResponseInformation("answers/")],
        PropertyId::ServerReference => vec![P::ServerReference("[::1]:1883 other.example")],
        PropertyId::ReasonString => vec![P::ReasonString(""), P::ReasonString("ねむい")],
        PropertyId::ReceiveMaximum => vec![P::ReceiveMaximum(1), P::ReceiveMaximum(u16::MAX)],
        PropertyId::TopicAliasMaximum => vec![P::TopicAliasMaximum(0), P::TopicAliasMaximum(u16::MAX)],
        PropertyId::TopicAlias => vec![P::TopicAlias(1), P::TopicAlias(u16::MAX)],
        PropertyId::MaximumQoS => vec![P::MaximumQoS(0), P::MaximumQoS(1)],
        PropertyId::RetainAvailable => vec![P::RetainAvailable(false), P::RetainAvailable(true)],
        PropertyId::UserProperty => vec![P::UserProperty("", ""), P::UserProperty("name", "wért")],
        PropertyId::MaximumPacketSize => vec![P::MaximumPacketSize(1), P::MaximumPacketSize(u32::MAX)],
        PropertyId::WildcardSubscriptionAvailable => {
            vec![P::WildcardSubscriptionAvailable(false), P::WildcardSubscriptionAvailable(true)]
        }
        PropertyId::SubscriptionIdentifierAvailable => {
            vec![P::SubscriptionIdentifierAvailable(false), P::SubscriptionIdentifierAvailable(true)]
        }
        PropertyId::SharedSubscriptionAvailable => {
            vec![P::SharedSubscriptionAvailable(false), P::SharedSubscriptionAvailable(true)]
        }
    }
}

fn list(properties: &[Property<'_>]) -> PropertiesBuf {
    properties
        .iter()
        .fold(PropertiesBuf::new(), |list, property| list.with(*property).expect("a valid property"))
}

/// A list for each value of each property that `may` allows, then one of all of them; each begins with `base`.
fn lists(base: &[Property<'_>], may: impl Fn(Properties<'_>) -> bool) -> Vec<PropertiesBuf> {
    let base = list(base);
    let mut lists = vec![base.clone()];
    let mut all = base.clone();
    for sample in PropertyId::ALL.iter().flat_map(|id| samples(*id)) {
        let Ok(mut single) = base.clone().with(sample) else { continue };
        if sample.id() == PropertyId::AuthenticationData {
            // Data is never without a method; the base may have one.
            let _ = single.push(Property::AuthenticationMethod("PLAIN"));
        }
        if may(single.as_properties()) {
            lists.push(single);
            // What may stand only once stays with its first value.
            let before = all.clone();
            if all.push(sample).is_err() || !may(all.as_properties()) {
                all = before;
            }
        }
    }
    lists.push(all);
    lists
}

/// Says every form of one kind of packet from one side: with `base` alone, with each property that it may have, with all
/// of them. Nothing where the version or the side does not have it.
fn vary(
    exchange: &mut Exchange,
    sender: Sender,
    base: &[Property<'_>],
    packet: impl for<'a> Fn(Properties<'a>) -> Packet<'a>,
) {
    if exchange.version != ProtocolVersion::V5 {
        exchange.try_say(sender, &packet(NONE));
        return;
    }
    if !exchange.allows(sender, &packet(list(base).as_properties())) {
        return;
    }
    for properties in lists(base, |properties| exchange.allows(sender, &packet(properties))) {
        exchange.say(sender, &packet(properties.as_properties()));
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

fn connects(exchange: &mut Exchange) {
    let version = exchange.version;
    vary(exchange, Sender::Client, &[], |properties| {
        Packet::Connect(Connect { properties, ..Connect::new(version, "every") })
    });
    if version != ProtocolVersion::V3_1 {
        exchange.say(Sender::Client, &Packet::Connect(Connect::new(version, "")));
    }
    for qos in EVERY_QOS {
        for retain in [false, true] {
            vary(exchange, Sender::Client, &[], |properties| {
                let will = Will { topic: "will/wört", payload: &[0, 0xFF], qos, retain, properties };
                let (username, password) = (Some("user"), Some(&b"secret"[..]));
                let (clean_start, keep_alive) = (retain, if retain { 0 } else { u16::MAX });
                Packet::Connect(Connect {
                    will: Some(will),
                    username,
                    password,
                    clean_start,
                    keep_alive,
                    ..Connect::new(version, "willing")
                })
            });
        }
    }
    let will = Will { topic: "will", payload: b"", qos: QoS::AtMostOnce, retain: false, properties: NONE };
    for connect in [
        Connect { will: Some(will), ..Connect::new(version, "empty-will") },
        Connect { username: Some("only"), ..Connect::new(version, "user") },
        Connect { password: Some(b"only"), ..Connect::new(version, "password") },
        Connect { username: Some(""), password: Some(b""), ..Connect::new(version, "empty") },
    ] {
        exchange.try_say(Sender::Client, &Packet::Connect(connect));
    }
}

fn answers(exchange: &mut Exchange) {
    for reason in ReasonCode::ALL.iter().copied() {
        vary(exchange, Sender::Server, &[], |properties| {
            Packet::ConnAck(ConnAck { session_present: false, reason, properties })
        });
    }
    let resumed = ConnAck { session_present: true, reason: ReasonCode::Success, properties: NONE };
    exchange.say(Sender::Server, &Packet::ConnAck(resumed));
}

fn topic(text: &str) -> Topic<'_> {
    Topic::new(text).expect("a topic name")
}

fn publications(exchange: &mut Exchange, sender: Sender) {
    for qos in EVERY_QOS {
        for retain in [false, true] {
            for dup in [false, true] {
                let packet_id = (qos != QoS::AtMostOnce).then_some(id(u16::MAX));
                for payload in [&b""[..], b"text", &[0xFF, 0x00, 0xC0]] {
                    let publish = Publish {
                        dup,
                        qos,
                        retain,
                        topic: topic("a/wört//b"),
                        packet_id,
                        properties: NONE,
                        payload,
                    };
                    exchange.try_say(sender, &Packet::Publish(publish));
                }
            }
        }
        vary(exchange, sender, &[], |properties| {
            let packet_id = (qos != QoS::AtMostOnce).then_some(id(7));
            Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                topic: topic("all"),
                packet_id,
                properties,
                payload: b"{}",
            })
        });
    }
    if exchange.version == ProtocolVersion::V5 {
        // The aliases were given their topic by the properties above.
        for alias in [1, u16::MAX] {
            let properties = list(&[Property::TopicAlias(alias)]);
            let properties = properties.as_properties();
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: Topic::EMPTY,
                packet_id: None,
                properties,
                payload: b"by alias",
            };
            exchange.say(sender, &Packet::Publish(publish));
        }
    }
    for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp] {
        for reason in ReasonCode::ALL.iter().copied() {
            vary(exchange, sender, &[], |properties| {
                Packet::Ack(Ack { kind, packet_id: id(0x0102), reason, properties })
            });
        }
    }
}

fn requests(exchange: &mut Exchange) {
    let plain = |filter, qos| SubscribeFilter { filter, options: SubscriptionOptions::new(qos) };
    let filters: Vec<_> = ["#", "+/+/wört", "/", "$share/group/a/#"]
        .into_iter()
        .zip(EVERY_QOS.into_iter().cycle())
        .map(|(filter, qos)| plain(filter, qos))
        .collect();
    vary(exchange, Sender::Client, &[], |properties| {
        Packet::Subscribe(Subscribe { packet_id: id(10), properties, filters: filters.clone() })
    });
    let mut filters = Vec::new();
    for retain_handling in [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend] {
        for (no_local, retain_as_published) in [(false, false), (true, false), (false, true), (true, true)] {
            for qos in EVERY_QOS {
                let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
                filters.push(SubscribeFilter { filter: "options", options });
            }
        }
    }
    exchange
        .say(Sender::Client, &Packet::Subscribe(Subscribe { packet_id: id(11), properties: NONE, filters }));
    vary(exchange, Sender::Client, &[], |properties| {
        Packet::Unsubscribe(Unsubscribe { packet_id: id(12), properties, filters: vec!["#", "+/a", "wört"] })
    });

    let granted = ReasonCodes::from_bytes(&[0, 1, 2, 0x80]).expect("codes");
    vary(exchange, Sender::Server, &[], |properties| {
        Packet::SubAck(SubAck { packet_id: id(10), properties, codes: granted })
    });
    let removed = if exchange.version == ProtocolVersion::V5 { &[0, 0x11, 0x87][..] } else { &[] };
    let removed = ReasonCodes::from_bytes(removed).expect("codes");
    vary(exchange, Sender::Server, &[], |properties| {
        Packet::UnsubAck(UnsubAck { packet_id: id(12), properties, codes: removed })
    });
    for reason in ReasonCode::ALL {
        let code = [reason.to_u8()];
        let codes = ReasonCodes::from_bytes(&code).expect("a code");
        exchange
            .try_say(Sender::Server, &Packet::SubAck(SubAck { packet_id: id(13), properties: NONE, codes }));
        if exchange.version == ProtocolVersion::V5 {
            exchange.try_say(
                Sender::Server,
                &Packet::UnsubAck(UnsubAck { packet_id: id(14), properties: NONE, codes }),
            );
        }
    }
    exchange.say(Sender::Client, &Packet::PingReq);
    exchange.say(Sender::Server, &Packet::PingResp);
}

fn ends(exchange: &mut Exchange, sender: Sender) {
    for reason in ReasonCode::ALL.iter().copied() {
        vary(exchange, sender, &[], |properties| Packet::Disconnect(Disconnect { reason, properties }));
        let method = [Property::AuthenticationMethod("SCRAM-SHA-256")];
        vary(exchange, sender, &method, |properties| Packet::Auth(Auth { reason, properties }));
    }
}

/// A conversation with every form of every packet, each in a write of its own, then many in one.
pub(crate) fn every_packet(version: ProtocolVersion) -> Exchange {
    let mut exchange = Exchange::new(format!("{version}-every-packet"), version);
    connects(&mut exchange);
    answers(&mut exchange);
    for sender in SENDERS {
        publications(&mut exchange, sender);
    }
    requests(&mut exchange);
    for sender in SENDERS {
        ends(&mut exchange, sender);
    }
    exchange
}

/// A conversation with payloads around the lengths at which the remaining length takes another byte, and with many packets
/// in one write.
pub(crate) fn lengths(version: ProtocolVersion) -> Exchange {
    let mut exchange = Exchange::new(format!("{version}-lengths"), version);
    exchange.say(Sender::Client, &Packet::Connect(Connect::new(version, "lengths")));
    let accepted = ConnAck { session_present: false, reason: ReasonCode::Success, properties: NONE };
    exchange.say(Sender::Server, &Packet::ConnAck(accepted));
    let publish = |payload| {
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: topic("long"),
            packet_id: None,
            properties: NONE,
            payload,
        })
    };
    let zeros = vec![0_u8; 2_097_152];
    // The topic takes six bytes of the remaining length, and in 5.0 the property length takes one.
    let rest = if version == ProtocolVersion::V5 { 7 } else { 6 };
    for remaining in [127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        for sender in SENDERS {
            exchange.say(sender, &publish(&zeros[..remaining - rest]));
        }
    }
    for sender in SENDERS {
        let ping = if sender == Sender::Client { Packet::PingReq } else { Packet::PingResp };
        let ack = Packet::Ack(Ack::new(AckKind::PubRel, id(9)));
        let many: Vec<_> =
            core::iter::repeat_n([ping, publish(b""), ack, publish(b"x")], 100).flatten().collect();
        exchange.say_at_once(sender, &many);
    }
    exchange
}
