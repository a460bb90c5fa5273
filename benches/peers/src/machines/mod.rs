//! Owns what a whole machine costs beside peers that are machines without a socket too: publications with their complete exchange,
//! and messages received. It must not know how a machine works.
//!
//! Every machine is connected, has no clock that runs, and gets what the server says as bytes made beforehand.

mod flowsdk;
mod protocol_core;

use std::hint::black_box;

use mqtt_machine::{PacketId, ProtocolVersion, QoS};
use mqtt_machine_benches::{Acknowledgements, Rig, instructions};

use crate::process::per_message;
use crate::{Failure, PAYLOAD};

/// Messages of a batch: of so many calls, so many packets in one chunk of input.
const BATCH: u16 = 50;
/// Messages of the two runs whose difference is counted.
const COUNTED: [u64; 2] = [2_000, 12_000];

/// One machine that is connected.
trait Machine {
    /// Publishes so many messages and writes them out; the identifier of the first, which those of the others follow.
    fn publish(&mut self, qos: QoS, count: u16) -> Result<PacketId, Failure>;

    /// Takes what the server says, answers it, and hears of everything that has happened: how many publications have ended and
    /// messages come.
    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Failure>;

    /// What it has written since the last call of one of these, when it does not tell that a publication of QoS 0 has ended.
    fn written(&self) -> Option<&[u8]> {
        None
    }
}

/// Connects a machine.
type Connect = fn(ProtocolVersion) -> Result<Box<dyn Machine>, Failure>;

/// Every machine by its name.
const MACHINES: &[(&str, Connect)] = &[
    ("mqtt-machine, `publish_into`", |version| Ok(Ours::boxed(version, Rig::forward))),
    ("mqtt-machine, `publish`", |version| Ok(Ours::boxed(version, Rig::publish))),
    ("mqtt-protocol-core", |version| Ok(Box::new(protocol_core::Peer::connect(version, false)?))),
    ("mqtt-protocol-core, which keeps", |version| Ok(Box::new(protocol_core::Peer::connect(version, true)?))),
    ("flowsdk", |version| Ok(Box::new(flowsdk::Peer::connect(version)?))),
];

/// mqtt-machine, by one of its ways to publish.
struct Ours {
    rig: Rig,
    next: PacketId,
    publish: fn(&mut Rig, QoS, u16),
}

impl Ours {
    fn boxed(version: ProtocolVersion, publish: fn(&mut Rig, QoS, u16)) -> Box<dyn Machine> {
        Box::new(Self { rig: Rig::new(version), next: PacketId::MIN, publish })
    }
}

impl Machine for Ours {
    fn publish(&mut self, qos: QoS, count: u16) -> Result<PacketId, Failure> {
        let first = self.next;
        (self.publish)(&mut self.rig, qos, count);
        if qos != QoS::AtMostOnce {
            self.next = (0..count).fold(first, |id, _| id.next());
        }
        Ok(first)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Ok(self.rig.receive(bytes))
    }
}

/// What is done in one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    version: ProtocolVersion,
    publish: bool,
    qos: QoS,
}

impl Case {
    /// In the order of the table.
    fn all() -> impl Iterator<Item = Self> {
        let ways = [
            (true, QoS::AtMostOnce),
            (true, QoS::AtLeastOnce),
            (true, QoS::ExactlyOnce),
            (false, QoS::AtMostOnce),
            (false, QoS::AtLeastOnce),
        ];
        let versions = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];
        versions
            .into_iter()
            .flat_map(move |version| ways.map(|(publish, qos)| Self { version, publish, qos }))
    }

    fn name(self) -> String {
        let verb = if self.publish { "publish" } else { "receive" };
        format!("{verb}, QoS {}, {}", self.qos, self.version)
    }

    /// So many messages in batches, each of which has to come to its end.
    fn run(self, machine: &mut dyn Machine, count: u64) -> Result<(), Failure> {
        let batches = count / u64::from(BATCH);
        if !self.publish {
            let bytes = Rig::new(self.version).publications(self.qos, BATCH);
            for _ in 0..batches {
                ended(machine.receive(black_box(&bytes))?)?;
            }
            return Ok(());
        }
        let answers = Acknowledgements::new(self.qos, self.version, BATCH);
        for _ in 0..batches {
            let first = machine.publish(self.qos, BATCH)?;
            let mut count = 0;
            if self.qos == QoS::AtMostOnce {
                // It ends with its bytes, and some machines tell.
                count = match machine.written() {
                    Some(bytes) if bytes.len() > usize::from(BATCH) * PAYLOAD.len() => BATCH.into(),
                    Some(_) => 0,
                    None => machine.receive(&[])?,
                };
            }
            for bytes in answers.of(first, BATCH) {
                count += machine.receive(black_box(bytes))?;
            }
            ended(count)?;
        }
        Ok(())
    }
}

fn ended(count: usize) -> Result<(), Failure> {
    if count == usize::from(BATCH) {
        Ok(())
    } else {
        Err(format!("{count} of {BATCH} messages ended").into())
    }
}

/// So many messages of one case through one machine.
///
/// # Errors
/// When there is no such machine or case, or not all of the messages come to their end.
pub fn run(name: &str, case: &str, count: &str) -> Result<(), Failure> {
    let (_, connect) = MACHINES.iter().find(|(known, _)| *known == name).ok_or("there is no such machine")?;
    let case = Case::all().find(|known| known.name() == case).ok_or("there is no such case")?;
    case.run(&mut *connect(case.version)?, count.parse()?)
}

/// The table.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    let names: String = MACHINES.iter().map(|(name, _)| format!(" {name} |")).collect();
    println!("\n| machine, instructions of one message |{names}");
    println!("|---|{}", "---:|".repeat(MACHINES.len()));
    for case in Case::all() {
        let mut row = format!("| {} |", case.name());
        for (name, _) in MACHINES {
            let cost = per_message(COUNTED, |count| {
                instructions(&["machine", name, &case.name(), &count.to_string()])
            })?;
            row += &format!(" {cost:.0} |");
        }
        println!("{row}");
    }
    Ok(())
}

/// That every machine does every case, with few messages.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    for (name, _) in MACHINES {
        for case in Case::all() {
            run(name, &case.name(), "500").map_err(|error| format!("{name}, {}: {error}", case.name()))?;
        }
    }
    println!("{} machines do {} cases", MACHINES.len(), Case::all().count());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::frame;

    #[test]
    fn every_machine_does_every_case() {
        try_all().expect("every machine");
    }

    #[test]
    fn what_is_published_is_written() {
        for (name, connect) in MACHINES {
            for case in Case::all().filter(|case| case.publish) {
                let mut machine = connect(case.version).expect("connected");
                machine.publish(case.qos, 3).expect("published");
                let Some(mut rest) = machine.written() else { continue };
                for _ in 0..3 {
                    let (head, length) = frame(rest).expect("a whole frame");
                    let (packet, behind) = rest.split_at(head + length);
                    assert!(packet[0] >> 4 == 3 && packet.ends_with(&PAYLOAD), "{name}, {}", case.name());
                    rest = behind;
                }
                assert!(rest.is_empty(), "{name}, {}", case.name());
            }
        }
    }

    #[test]
    fn a_message_that_does_not_end_is_no_result() {
        struct Deaf;
        impl Machine for Deaf {
            fn publish(&mut self, _: QoS, _: u16) -> Result<PacketId, Failure> {
                Ok(PacketId::MIN)
            }
            fn receive(&mut self, _: &[u8]) -> Result<usize, Failure> {
                Ok(0)
            }
        }
        for case in Case::all() {
            assert!(case.run(&mut Deaf, BATCH.into()).is_err(), "{}", case.name());
        }
    }
}
