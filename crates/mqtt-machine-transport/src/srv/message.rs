//! Owns DNS messages: the question for SRV records, and what an answer says. It must not know who is asked, nor when.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer};

use super::order::SrvRecord;
use crate::dial::SrvError;
use crate::endpoint::{Authority, Host};

/// The most records of one answer that are looked at.
const RECORDS: usize = 64;

/// What a message says about a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is none to this question.
    Foreign,
    /// It did not fit; ask again over TCP.
    Truncated,
    /// There are no such records.
    Nothing,
    /// There is decidedly no such service (RFC 2782: the target is the root).
    NotOffered,
    Records(Vec<SrvRecord>),
    /// The name server cannot, or will not, tell, with its response code.
    Failed(u8),
}

/// The question as a message.
pub(super) fn question(id: u16, name: &str) -> Result<Vec<u8>, SrvError> {
    let name = Name::new(name).map_err(|_| SrvError::BadName)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::SRV), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|_| SrvError::BadName)
}

/// Reads a message as the answer to the question with this `id` and `name`.
pub(super) fn answer(message: &[u8], id: u16, name: &str) -> Answer {
    let has = |flag| header_buffer::has_flags(message, flag).unwrap_or(false);
    if header_buffer::id(message) != Ok(id) || !has(PacketFlag::RESPONSE) {
        return Answer::Foreign;
    }
    if has(PacketFlag::TRUNCATION) {
        return Answer::Truncated;
    }
    let Ok(packet) = Packet::parse(message) else { return Answer::Foreign };
    let [asked] = packet.questions.as_slice() else { return Answer::Foreign };
    if asked.qtype != QTYPE::TYPE(TYPE::SRV) || !asked.qname.to_string().eq_ignore_ascii_case(name) {
        return Answer::Foreign;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Answer::Nothing,
        _ => return Answer::Failed(message.get(3).map_or(0, |flags| flags & 0x0F)),
    }
    let mut records = Vec::new();
    for record in packet.answers.iter().take(RECORDS) {
        let RData::SRV(srv) = &record.rdata else { continue };
        let target = srv.target.to_string();
        if target.is_empty() {
            return Answer::NotOffered;
        }
        if srv.port == 0 || !is_host(&target) {
            continue;
        }
        let target = Authority::new(Host::Domain(target.to_ascii_lowercase()), srv.port);
        records.push(SrvRecord { priority: srv.priority, weight: srv.weight, target });
    }
    if records.is_empty() { Answer::Nothing } else { Answer::Records(records) }
}

fn is_host(name: &str) -> bool {
    name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
