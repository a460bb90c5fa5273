//! Owns the table of reason codes: which packet says which, and who may.
//! It must not know what a code means.

use crate::packet::{PacketType, Sender};
use crate::reason::ReasonCode;
use crate::types::ProtocolVersion;

/// A set of reason codes: those below 0x40 as bits of one word, those from 0x80 to 0xBF as bits of another.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    successes: u64,
    failures: u64,
}

impl Codes {
    /// The set of `codes`. Takes numbers, so that the tables below read like those of the specification.
    const fn new(mut codes: &[u8]) -> Self {
        let mut set = Self { successes: 0, failures: 0 };
        while let Some((code, rest)) = codes.split_first() {
            if *code < 0x80 {
                set.successes |= 1_u64.wrapping_shl(*code as u32);
            } else {
                set.failures |= 1_u64.wrapping_shl((*code & 0x3F) as u32);
            }
            codes = rest;
        }
        set
    }

    /// True when `code` is in the set.
    pub(super) const fn has(self, code: u8) -> bool {
        let bit = 1_u64.wrapping_shl((code & 0x3F) as u32);
        match code >> 6 {
            0 => self.successes & bit != 0,
            2 => self.failures & bit != 0,
            _ => false,
        }
    }
}

const CONNACK: Codes = Codes::new(&[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
]);
const PUBACK: Codes = Codes::new(&[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]);
const PUBREL: Codes = Codes::new(&[0x00, 0x92]);
const SUBACK: Codes = Codes::new(&[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]);
const SUBACK_3_X: Codes = Codes::new(&[0x00, 0x01, 0x02, 0x80]);
const UNSUBACK: Codes = Codes::new(&[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]);
/// 0x8C is missing in section 3.14.2.1 and listed for DISCONNECT in section 2.4: it is taken from a server, and never sent.
const DISCONNECT: Codes = Codes::new(&[
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
    0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
]);
const DISCONNECT_FROM_CLIENT: Codes =
    Codes::new(&[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]);
const AUTH: Codes = Codes::new(&[0x00, 0x18, 0x19]);
const NONE: Codes = Codes::new(&[]);

/// The codes of a packet, from whichever side.
pub(super) const fn codes(packet: PacketType, version: ProtocolVersion) -> Codes {
    match (packet, version) {
        (PacketType::SubAck, ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1) => SUBACK_3_X,
        (PacketType::ConnAck, _) => CONNACK,
        (PacketType::PubAck | PacketType::PubRec, _) => PUBACK,
        (PacketType::PubRel | PacketType::PubComp, _) => PUBREL,
        (PacketType::SubAck, _) => SUBACK,
        (PacketType::UnsubAck, _) => UNSUBACK,
        (PacketType::Disconnect, _) => DISCONNECT,
        (PacketType::Auth, _) => AUTH,
        _ => NONE,
    }
}

/// True when `sender` may say a code that its packet has.
pub(crate) const fn may_say(sender: Sender, packet: PacketType, reason: ReasonCode) -> bool {
    match (packet, sender) {
        (PacketType::Disconnect, Sender::Client) => DISCONNECT_FROM_CLIENT.has(reason.to_u8()),
        (PacketType::Disconnect, Sender::Server) => !matches!(reason, ReasonCode::DisconnectWithWill),
        (PacketType::Auth, Sender::Client) => !matches!(reason, ReasonCode::Success),
        (PacketType::Auth, Sender::Server) => !matches!(reason, ReasonCode::ReAuthenticate),
        _ => true,
    }
}

/// What PUBACK and PUBREC of 5.0 say for `reason`: itself, or, where they do not have it, the one that says as little as can be said
/// of a failure or a success.
pub(crate) const fn of_acknowledgement(reason: ReasonCode) -> ReasonCode {
    if PUBACK.has(reason.to_u8()) {
        reason
    } else if reason.is_failure() {
        ReasonCode::UnspecifiedError
    } else {
        ReasonCode::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_packet_is_defined_and_every_defined_code_has_a_packet() {
        let mut homeless = ReasonCode::ALL.to_vec();
        for packet in PacketType::ALL {
            let set = codes(packet, ProtocolVersion::V5);
            for code in 0..=255 {
                if set.has(code) {
                    let reason = ReasonCode::from_u8(code).unwrap();
                    homeless.retain(|other| *other != reason);
                }
            }
        }
        assert_eq!(homeless, []);
    }
}
