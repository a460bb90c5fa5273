//! Owns the generator of packets that are valid but for one broken rule, and the table of those rules.
//! It must not know the decoder that it is there to contradict, nor what a connection was told before.

mod connect;
mod fields;
mod header;
mod properties;
mod requests;

use mqtt_machine::packet::{PacketType, Sender};
use mqtt_machine::{ProtocolVersion, ReasonCode};

use super::packets::{packet_of, packet_types, speaker};
use super::{Choices, Generate, OwnedPacket};
use crate::unchecked::{Form, Frame};

/// A packet that breaks exactly one rule, with its sibling that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearValid {
    /// What the connection speaks.
    pub version: ProtocolVersion,
    /// Who sends it.
    pub sender: Sender,
    /// The broken packet.
    pub bytes: Vec<u8>,
    /// The same packet with the rule kept.
    pub sibling: Vec<u8>,
    /// Which rule.
    pub rule: &'static BrokenRule,
}

/// A rule that the bytes of one packet can break, whatever came before them.
#[derive(Debug)]
pub struct BrokenRule {
    /// A name for tables and files.
    pub name: &'static str,
    /// What is broken, in words.
    pub what: &'static str,
    /// The number of the rule in 5.0, or its section; empty when 5.0 does not have the rule.
    pub id_5: &'static str,
    /// The number of the rule in 3.1.1, or its section; empty when 3.x does not have the rule.
    pub id_3: &'static str,
    /// The field to blame, in the words of the specification.
    pub field: &'static str,
    /// What a 5.0 DISCONNECT or CONNACK may say about it. `UnspecifiedError` is always allowed too (5.0, section 2.4).
    pub codes: &'static [ReasonCode],
    /// Whether the receiver must act on it.
    pub duty: Duty,
    break_it: fn(&mut Choices<'_>, Speaker) -> Option<Pair>,
}

/// What the standard asks of whoever receives the broken packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It closes the connection `[MQTT-4.13.1-1]`, `[MQTT-4.8.0-1]` of 3.1.1.
    Close,
    /// Only the sender is bound, or the receiver may answer in a milder way: it closes, or goes on.
    Free,
}

impl PartialEq for BrokenRule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for BrokenRule {}

/// A version and a side of the connection.
#[derive(Clone, Copy)]
struct Speaker {
    version: ProtocolVersion,
    sender: Sender,
}

/// A valid packet and what became of it.
struct Pair {
    valid: Frame,
    broken: Frame,
}

use ReasonCode::{MalformedPacket as Malformed, ProtocolError as Protocol};

/// Malformed, as most of what a parser trips over.
const MALFORMED: &[ReasonCode] = &[Malformed];
/// The standard leaves open which of the two.
const EITHER: &[ReasonCode] = &[Malformed, Protocol];

impl BrokenRule {
    /// Every rule.
    pub fn all() -> impl Iterator<Item = &'static Self> + Clone {
        [header::RULES, fields::RULES, properties::RULES, connect::RULES, requests::RULES]
            .into_iter()
            .flatten()
    }

    /// The rule of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|rule| rule.name == name)
    }

    /// The number or section of the rule in `version`; 3.1 had no numbers and goes by those of 3.1.1.
    pub const fn id(&self, version: ProtocolVersion) -> &'static str {
        match version {
            ProtocolVersion::V5 => self.id_5,
            _ => self.id_3,
        }
    }

    /// What a receiver of `version` owes: 3.1 asked nothing of one.
    pub fn duty_in(&self, version: ProtocolVersion) -> Duty {
        if version == ProtocolVersion::V3_1 { Duty::Free } else { self.duty }
    }

    /// Whether a 5.0 receiver may say this about the packet.
    pub fn allows_code(&self, code: ReasonCode) -> bool {
        code == ReasonCode::UnspecifiedError || self.codes.contains(&code)
    }

    /// A packet that breaks this rule and no other; `None` when this side has no such packet in this version, or the choices
    /// made one that cannot break it.
    pub fn break_it(
        &'static self,
        choices: &mut Choices<'_>,
        version: ProtocolVersion,
        sender: Sender,
    ) -> Option<NearValid> {
        if self.id(version).is_empty() {
            return None;
        }
        let Pair { valid, broken } = (self.break_it)(choices, Speaker { version, sender })?;
        Some(NearValid { version, sender, bytes: broken.to_bytes(), sibling: valid.to_bytes(), rule: self })
    }
}

impl NearValid {
    /// A packet that `sender` may not send in `version`.
    pub fn of(choices: &mut Choices<'_>, version: ProtocolVersion, sender: Sender) -> Self {
        let rules: Vec<&'static BrokenRule> = BrokenRule::all().collect();
        let first = choices.size(0..=rules.len() - 1);
        // Not every rule can be broken here; the first one can, by everyone.
        let mut order = rules.iter().cycle().skip(first);
        loop {
            let rule = order.next().expect("the rules go round");
            if let Some(broken) = rule.break_it(choices, version, sender) {
                return broken;
            }
        }
    }
}

impl Generate for NearValid {
    fn generate(choices: &mut Choices<'_>) -> Self {
        let (version, sender) = speaker(choices);
        Self::of(choices, version, sender)
    }
}

/// Whether this side may send the type in this version.
fn sends(speaker: Speaker, packet_type: PacketType) -> bool {
    packet_types(speaker.version, speaker.sender).contains(&packet_type)
}

/// A valid packet of this type, if this side sends it, in one of its forms.
fn valid(choices: &mut Choices<'_>, speaker: Speaker, packet_type: PacketType) -> Option<Frame> {
    if !sends(speaker, packet_type) {
        return None;
    }
    let packet = packet_of(choices, packet_type, speaker.version, speaker.sender);
    let form = choices.pick(&[Form::Shortest, Form::Full]);
    Some(Frame::of(&packet.packet(), speaker.version, form))
}

/// A valid packet of one of these types.
fn valid_of(choices: &mut Choices<'_>, speaker: Speaker, types: &[PacketType]) -> Option<Frame> {
    let types: Vec<PacketType> = types.iter().copied().filter(|it| sends(speaker, *it)).collect();
    if types.is_empty() {
        return None;
    }
    let packet_type = choices.pick(&types);
    valid(choices, speaker, packet_type)
}

/// A given packet, in its full form.
fn frame_of(packet: &OwnedPacket, speaker: Speaker) -> Frame {
    Frame::of(&packet.packet(), speaker.version, Form::Full)
}

/// `valid` and what `bend` makes of it.
fn bent(valid: Frame, bend: impl FnOnce(&mut Frame) -> Option<()>) -> Option<Pair> {
    let mut broken = valid.clone();
    bend(&mut broken)?;
    Some(Pair { valid, broken })
}
