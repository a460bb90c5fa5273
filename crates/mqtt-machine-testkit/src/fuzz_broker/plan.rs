//! Owns how cases are thought up: legal sequences, packets and sequences that break one rule, mutations.
//! It must not know how a case is run or judged.

use core::time::Duration;

use mqtt_machine::packet::{PacketType, PropertiesBuf, Property, PropertyId, Sender};
use mqtt_machine::{Capabilities, PacketId, ProtocolVersion, QoS, ReasonCode};

use super::case::{Case, Expect, Kind, Step};
use super::state_rules::{self, StateRule};
use crate::generate::{
    BrokenRule, Choices, Duty, NearValid, OwnedConnect, OwnedPacket, OwnedPublish, OwnedWill, Spot, encoded,
    is_tame, packet, payload, properties, qos, subscription_options, topic_filter, topic_name,
};

/// What a case may count on, and the names that it uses.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) version: ProtocolVersion,
    pub(super) capabilities: Capabilities,
    /// The first topic levels, which no other case uses.
    pub(super) prefix: String,
    pub(super) client_id: String,
}

/// Any case.
pub(super) fn case(choices: &mut Choices<'_>, setting: &Setting) -> Case {
    match choices.byte() {
        0..=79 => valid(choices, setting),
        80..=159 => broken(choices, setting),
        160..=183 => broken_state(choices, setting),
        _ => mutated(choices, setting),
    }
}

/// The case by which a broker shows that it still serves: subscribe, publish to itself, ping, leave.
pub(super) fn health(setting: &Setting) -> Case {
    let mut steps = vec![Step::Send(write(&OwnedPacket::Connect(Box::new(connect(setting))), setting))];
    steps.push(Step::AwaitConnAck);
    let topic = format!("{}/health", setting.prefix);
    let subscribe = OwnedPacket::Subscribe {
        packet_id: PacketId::MIN,
        properties: PropertiesBuf::new(),
        filters: vec![(topic.clone(), mqtt_machine::SubscriptionOptions::new(QoS::AtLeastOnce))],
    };
    let publish = OwnedPacket::Publish(OwnedPublish {
        dup: false,
        qos: setting.capabilities.maximum_qos.min(QoS::AtLeastOnce),
        retain: false,
        topic,
        packet_id: (setting.capabilities.maximum_qos > QoS::AtMostOnce).then_some(PacketId::MAX),
        properties: PropertiesBuf::new(),
        payload: b"alive".to_vec(),
    });
    let disconnect =
        OwnedPacket::Disconnect { reason: ReasonCode::Success, properties: PropertiesBuf::new() };
    for packet in [subscribe, publish, OwnedPacket::PingReq] {
        steps.push(Step::Send(write(&packet, setting)));
        steps.push(Step::Settle);
    }
    steps.push(Step::Send(write(&disconnect, setting)));
    Case {
        kind: Kind::Valid,
        version: setting.version,
        name: "health".into(),
        rule: String::new(),
        what: "subscribe, publish to oneself, ping, disconnect".into(),
        expect: Expect::Served,
        steps,
    }
}

/// The CONNECT of a client that may stay silent for ever.
pub(super) fn watchdog(setting: &Setting) -> Vec<u8> {
    write(&OwnedPacket::Connect(Box::new(OwnedConnect { keep_alive: 0, ..connect(setting) })), setting)
}

fn write(packet: &OwnedPacket, setting: &Setting) -> Vec<u8> {
    encoded(&packet.packet(), setting.version)
}

/// A plain CONNECT.
fn connect(setting: &Setting) -> OwnedConnect {
    OwnedConnect {
        version: setting.version,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        client_id: setting.client_id.clone(),
        will: None,
        username: None,
        password: None,
        properties: PropertiesBuf::new(),
    }
}

/// A CONNECT with whatever a broker without users must take.
fn rich_connect(choices: &mut Choices<'_>, setting: &Setting, may_be_kept: bool) -> OwnedConnect {
    let mut connect = connect(setting);
    connect.keep_alive = choices.pick(&[60, 0, 10, 600, u16::MAX]);
    if choices.one_in(4) {
        connect.will = Some(OwnedWill {
            topic: format!("{}/will", setting.prefix),
            payload: payload(choices),
            qos: qos(choices).min(setting.capabilities.maximum_qos),
            retain: false,
            properties: PropertiesBuf::new(),
        });
    }
    if setting.version == ProtocolVersion::V5 {
        // A session that outlives its connection, so that there are some to take up again; not for long.
        let is_kept = may_be_kept && choices.one_in(6);
        if is_kept {
            connect.clean_start = choices.flag();
            connect.client_id = format!("fz-kept-{}", choices.size(0..=3));
        }
        let mut list = PropertiesBuf::new();
        let mut push = |property: Property<'_>| {
            let _ = list.push(property);
        };
        if is_kept {
            push(Property::SessionExpiryInterval(1));
        }
        if choices.one_in(3) {
            push(Property::ReceiveMaximum(choices.pick(&[1, 2, 10, u16::MAX])));
        }
        if choices.one_in(4) {
            push(Property::RequestProblemInformation(choices.flag()));
        }
        if choices.one_in(4) {
            push(Property::UserProperty("fuzz", "broker"));
        }
        if choices.one_in(8) {
            push(Property::MaximumPacketSize(choices.pick(&[1 << 20, u32::MAX])));
        }
        connect.properties = list;
    }
    connect
}

/// A legal sequence, pipelined or step by step, in one piece or in many.
fn valid(choices: &mut Choices<'_>, setting: &Setting) -> Case {
    let mut steps = Vec::new();
    let connect = OwnedPacket::Connect(Box::new(rich_connect(choices, setting, true)));
    send(choices, write(&connect, setting), &mut steps);
    steps.push(Step::AwaitConnAck);
    let mut sequence = Sequence { setting, ids: 0, aliases: Vec::new(), retained: Vec::new(), unsettled: 0 };
    for _ in 0..choices.size(1..=12) {
        let packet = sequence.next(choices);
        send(choices, write(&packet, setting), &mut steps);
        let room = usize::from(setting.capabilities.receive_maximum.min(10));
        if sequence.unsettled >= room || choices.one_in(4) {
            sequence.unsettled = 0;
            steps.push(Step::Settle);
        }
    }
    for topic in core::mem::take(&mut sequence.retained) {
        let clear = OwnedPacket::Publish(OwnedPublish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic,
            packet_id: None,
            properties: PropertiesBuf::new(),
            payload: Vec::new(),
        });
        steps.push(Step::Send(write(&clear, setting)));
    }
    if choices.flag() {
        steps.push(Step::Settle);
        let list = PropertiesBuf::new();
        let disconnect = OwnedPacket::Disconnect { reason: ReasonCode::Success, properties: list };
        steps.push(Step::Send(write(&disconnect, setting)));
    }
    Case {
        kind: Kind::Valid,
        version: setting.version,
        name: "sequence".into(),
        rule: String::new(),
        what: format!("a legal sequence of {} steps", steps.len()),
        expect: Expect::Served,
        steps,
    }
}

/// Sends bytes in one piece, mostly.
fn send(choices: &mut Choices<'_>, bytes: Vec<u8>, steps: &mut Vec<Step>) {
    if !choices.one_in(6) || bytes.len() < 2 {
        return steps.push(Step::Send(bytes));
    }
    let cut = choices.size(1..=bytes.len() - 1);
    let (head, tail) = bytes.split_at(cut);
    steps.push(Step::Send(head.to_vec()));
    steps.push(Step::Wait(Duration::from_millis(choices.size(0..=10) as u64)));
    steps.push(Step::Send(tail.to_vec()));
}

/// What a legal sequence has used so far.
struct Sequence<'a> {
    setting: &'a Setting,
    ids: u16,
    aliases: Vec<u16>,
    retained: Vec<String>,
    unsettled: usize,
}

impl Sequence<'_> {
    /// A legal packet that every broker must take.
    fn next(&mut self, choices: &mut Choices<'_>) -> OwnedPacket {
        let (aliases, retained) = (self.aliases.clone(), self.retained.clone());
        let packet = self.any(choices);
        if is_tame_packet(&packet) {
            return packet;
        }
        (self.aliases, self.retained) = (aliases, retained);
        OwnedPacket::PingReq
    }

    fn any(&mut self, choices: &mut Choices<'_>) -> OwnedPacket {
        match choices.byte() {
            0..=69 => self.subscribe(choices),
            70..=209 => OwnedPacket::Publish(self.publish(choices)),
            210..=235 => {
                let packet_id = self.packet_id();
                let properties = properties(choices, self.setting.version, Spot::Unsubscribe);
                OwnedPacket::Unsubscribe { packet_id, properties, filters: vec![self.filter(choices)] }
            }
            _ => OwnedPacket::PingReq,
        }
    }

    /// Identifiers are never used twice in a sequence.
    fn packet_id(&mut self) -> PacketId {
        self.ids += 1;
        PacketId::new(self.ids).unwrap_or(PacketId::MIN)
    }

    /// One of few topics most of the time, so that publications meet subscriptions.
    fn topic(&self, choices: &mut Choices<'_>) -> String {
        let own = match choices.byte() {
            0..=199 => choices.pick(&["a", "b", "a/b", "a/b/c", "é"]).to_owned(),
            _ => {
                let topic = topic_name(choices);
                if topic.len() > 60_000 { String::from("long") } else { topic }
            }
        };
        format!("{}/{own}", self.setting.prefix)
    }

    fn filter(&self, choices: &mut Choices<'_>) -> String {
        let own = match choices.byte() {
            0..=199 => choices.pick(&["a", "b", "#", "+", "a/#", "a/+", "+/b/c", "é"]).to_owned(),
            _ => {
                let mut filter = topic_filter(choices);
                if filter.starts_with("$share/") || filter.len() > 60_000 {
                    filter = String::from("+/+");
                }
                filter
            }
        };
        let has_wildcard = own.contains(['+', '#']);
        if has_wildcard && !self.setting.capabilities.wildcard_subscriptions {
            return format!("{}/a", self.setting.prefix);
        }
        format!("{}/{own}", self.setting.prefix)
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) -> OwnedPacket {
        let version = self.setting.version;
        let mut filters = Vec::new();
        // In 3.x they are something that some servers have.
        let shared = self.setting.capabilities.shared_subscriptions && version == ProtocolVersion::V5;
        for _ in 0..choices.size(1..=3) {
            let mut filter = self.filter(choices);
            let mut options = subscription_options(choices, version);
            if choices.one_in(8) && shared {
                filter = format!("$share/g/{filter}");
                options.no_local = false;
            }
            if filters.iter().all(|(other, _)| *other != filter) {
                filters.push((filter, options));
            }
        }
        let mut properties = properties(choices, version, Spot::Subscribe);
        if !self.setting.capabilities.subscription_identifiers {
            properties = PropertiesBuf::new();
        }
        OwnedPacket::Subscribe { packet_id: self.packet_id(), properties, filters }
    }

    fn publish(&mut self, choices: &mut Choices<'_>) -> OwnedPublish {
        let capabilities = self.setting.capabilities;
        let qos = qos(choices).min(capabilities.maximum_qos);
        let is_acknowledged = qos != QoS::AtMostOnce;
        let mut topic = self.topic(choices);
        let mut list = without(
            &properties(choices, self.setting.version, Spot::Publish(Sender::Client)),
            &[PropertyId::TopicAlias, PropertyId::PayloadFormatIndicator],
        );
        let retain = choices.one_in(8) && capabilities.retain_available;
        if capabilities.topic_alias_maximum > 0 && choices.one_in(4) && !retain {
            let alias = choices.size(1..=usize::from(capabilities.topic_alias_maximum.min(5))) as u16;
            if self.aliases.contains(&alias) && choices.flag() {
                topic.clear();
            } else {
                self.aliases.push(alias);
            }
            let _ = list.push(Property::TopicAlias(alias));
        }
        if retain {
            self.retained.push(topic.clone());
        }
        self.unsettled += usize::from(is_acknowledged);
        let packet_id = is_acknowledged.then(|| self.packet_id());
        // Every message of a sequence is unlike the others, so that each can be recognised.
        self.ids += u16::from(!is_acknowledged);
        let payload = [format!("{}:", self.ids).as_bytes(), &payload(choices)].concat();
        OwnedPublish { dup: false, qos, retain, topic, packet_id, properties: list, payload }
    }
}

/// Whether the text of a request or publication may not be refused by anyone.
fn is_tame_packet(packet: &OwnedPacket) -> bool {
    let (properties, texts): (&PropertiesBuf, Vec<&str>) = match packet {
        OwnedPacket::Publish(publish) => (&publish.properties, vec![&publish.topic]),
        OwnedPacket::Subscribe { properties, filters, .. } => {
            (properties, filters.iter().map(|(filter, _)| filter.as_str()).collect())
        }
        OwnedPacket::Unsubscribe { properties, filters, .. } => {
            (properties, filters.iter().map(String::as_str).collect())
        }
        _ => return true,
    };
    texts.into_iter().all(is_tame)
        && properties.as_properties().iter().all(|property| match property {
            Property::ContentType(text) | Property::ResponseTopic(text) => is_tame(text),
            Property::UserProperty(name, value) => is_tame(name) && is_tame(value),
            _ => true,
        })
}

/// A list without some properties.
fn without(list: &PropertiesBuf, ids: &[PropertyId]) -> PropertiesBuf {
    let mut kept = PropertiesBuf::new();
    for property in list.as_properties() {
        if !ids.contains(&property.id()) {
            let _ = kept.push(property);
        }
    }
    kept
}

/// One packet that breaks one rule, behind a plain CONNECT unless it is the CONNECT.
fn broken(choices: &mut Choices<'_>, setting: &Setting) -> Case {
    let NearValid { bytes, rule, .. } = loop {
        let near = NearValid::of(choices, setting.version, Sender::Client);
        if is_servable(&near, setting) {
            break near;
        }
    };
    of_rule(choices, setting, rule, bytes)
}

/// The case of a packet that breaks `rule`.
fn of_rule(choices: &mut Choices<'_>, setting: &Setting, rule: &'static BrokenRule, bytes: Vec<u8>) -> Case {
    let mut steps = Vec::new();
    let packet_type = bytes.first().and_then(|byte| PacketType::from_first_byte(*byte));
    if packet_type != Some(PacketType::Connect) {
        let connect = OwnedPacket::Connect(Box::new(connect(setting)));
        steps.extend([Step::Send(write(&connect, setting)), Step::AwaitConnAck]);
    }
    send(choices, bytes, &mut steps);
    let mut codes = rule.codes.to_vec();
    // What these packets answer, or ask for, never happened: a protocol error in its own right.
    let needs_a_past = |it| {
        matches!(
            it,
            PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::Auth
        )
    };
    if packet_type.is_some_and(needs_a_past) && !codes.contains(&ReasonCode::ProtocolError) {
        codes.push(ReasonCode::ProtocolError);
    }
    Case {
        kind: Kind::Broken,
        version: setting.version,
        name: rule.name.into(),
        rule: rule.id(setting.version).into(),
        what: rule.what.into(),
        expect: Expect::Closed { codes, duty: rule.duty_in(setting.version) },
        steps,
    }
}

/// Whether a broker would serve the sibling, so that the broken rule is all that is wrong.
fn is_servable(near: &NearValid, setting: &Setting) -> bool {
    let capabilities = setting.capabilities;
    let size = near.bytes.len().max(near.sibling.len());
    if size > capabilities.maximum_packet_size as usize {
        return false;
    }
    let Ok(packet) = mqtt_machine::wire::decode(&near.sibling, near.version, Sender::Client) else {
        return false;
    };
    use mqtt_machine::packet::Packet;
    match packet {
        Packet::Connect(connect) => {
            let has = |id| connect.properties.find(id).is_some();
            !connect.bridge
                && !connect.client_id.is_empty()
                && connect.client_id.len() <= 23
                && connect.client_id.is_ascii()
                && !has(PropertyId::AuthenticationMethod)
                && !has(PropertyId::MaximumPacketSize)
                && connect.will.as_ref().is_none_or(|will| {
                    will.qos <= capabilities.maximum_qos
                        && (capabilities.retain_available || !will.retain)
                        && !will.topic.starts_with('$')
                })
        }
        Packet::Publish(publish) => {
            let alias = publish.properties.find(PropertyId::TopicAlias);
            // What is accepted by mistake and retained would turn up in other cases.
            publish.qos <= capabilities.maximum_qos
                && !publish.retain
                && !publish.topic.as_bytes().starts_with(b"$")
                && !publish.topic.is_empty()
                && matches!(alias, None | Some(Property::TopicAlias(0)))
        }
        Packet::Auth(_) => false,
        _ => true,
    }
}

/// A sequence that breaks a rule by what came before.
fn broken_state(choices: &mut Choices<'_>, setting: &Setting) -> Case {
    let rules: Vec<&StateRule> = state_rules::RULES.iter().collect();
    let first = choices.size(0..=rules.len() - 1);
    let connect = write(&OwnedPacket::Connect(Box::new(connect(setting))), setting);
    let found = rules
        .iter()
        .cycle()
        .skip(first)
        .take(rules.len())
        .find_map(|rule| Some((rule, (rule.make)(choices, setting, connect.clone())?)));
    let Some((rule, steps)) = found else { return valid(choices, setting) };
    let is_v5 = setting.version == ProtocolVersion::V5;
    let duty = if setting.version == ProtocolVersion::V3_1 { Duty::Free } else { rule.duty };
    Case {
        kind: Kind::Broken,
        version: setting.version,
        name: rule.name.into(),
        rule: if is_v5 { rule.id_5 } else { rule.id_3 }.into(),
        what: rule.what.into(),
        expect: Expect::Closed { codes: rule.codes.to_vec(), duty },
        steps,
    }
}

/// A legal sequence whose bytes were changed, behind a CONNECT that was not, mostly.
fn mutated(choices: &mut Choices<'_>, setting: &Setting) -> Case {
    let mut steps = Vec::new();
    let mut bytes = Vec::new();
    // What is cut short would leave its packet identifiers in use for whoever takes the session up again.
    let connect = OwnedPacket::Connect(Box::new(rich_connect(choices, setting, false)));
    let connect = write(&connect, setting);
    if choices.one_in(4) {
        bytes.extend(connect);
    } else {
        steps.extend([Step::Send(connect), Step::AwaitConnAck]);
    }
    let mut sequence = Sequence { setting, ids: 0, aliases: Vec::new(), retained: Vec::new(), unsettled: 0 };
    for _ in 0..choices.size(1..=6) {
        let packet = match choices.byte() {
            0..=199 => sequence.next(choices),
            _ => packet(choices, setting.version, Sender::Client),
        };
        bytes.extend(write(&packet, setting));
    }
    for _ in 0..choices.size(1..=4) {
        mutate(choices, &mut bytes);
    }
    bytes.truncate(80_000);
    send(choices, bytes, &mut steps);
    Case {
        kind: Kind::Mutated,
        version: setting.version,
        name: "mutation".into(),
        rule: String::new(),
        what: "a sequence whose bytes were changed".into(),
        expect: Expect::Survived,
        steps,
    }
}

/// Changes bytes in one way: flips, sets, cuts, repeats, removes, moves.
pub(super) fn mutate(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(choices.byte());
    }
    // Most of what matters stands at the front of a packet, and packets are short.
    let at = choices.size(0..=bytes.len() - 1);
    let end = (at + choices.size(1..=16)).min(bytes.len());
    match choices.size(0..=6) {
        0 => bytes[at] ^= 1 << choices.size(0..=7),
        1 => bytes[at] = choices.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
        2 => bytes.truncate(at),
        3 => {
            let again = bytes[at..end].to_vec();
            let to = choices.size(0..=bytes.len());
            bytes.splice(to..to, again);
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let other = choices.bytes(1..=8);
            bytes.splice(at..at, other);
        }
        _ => {
            let taken: Vec<u8> = bytes.drain(at..end).collect();
            let to = choices.size(0..=bytes.len());
            bytes.splice(to..to, taken);
        }
    }
}
