//! Owns a connected machine, and the server's part as bytes made beforehand.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{Ack, AckKind, ConnAck, Packet, Properties, Publish};
use mqtt_machine::{
    Action, Config, Event, Instant, Machine, Message, Output, PacketId, ProtocolVersion, QoS, ReasonCode,
    Receipt, Server, TransportEvent, TransportId, wire,
};

/// A machine that is connected.
#[derive(Debug)]
pub struct Rig {
    machine: Machine,
    transport: TransportId,
    version: ProtocolVersion,
    output: Output,
    input: BytesMut,
    message: Message,
    /// Of messages that were taken and are settled next, but for the last.
    receipts: Vec<Receipt>,
}

fn write(packet: &Packet<'_>, version: ProtocolVersion, out: &mut BytesMut) {
    wire::encode(packet, version, out).expect("a packet that can be written");
}

impl Rig {
    /// Connects in this version.
    ///
    /// # Panics
    /// When the machine does not connect.
    pub fn new(version: ProtocolVersion) -> Self {
        let now = Instant::ZERO;
        let config = Config::new(Server::new("bench")).client_id("bench").version(version);
        let mut machine = Machine::new(Arc::new(config), 1, now);
        machine.connect(now).expect("an idle machine connects");
        let Some(Action::OpenTransport { id, .. }) = machine.poll_action() else { panic!("no transport") };
        machine.handle_transport(now, id, TransportEvent::Opened);
        let message = Message::to("sensors/kitchen/1/tmp", &[0; 64][..]).expect("a topic");
        let (output, input, receipts) = (Output::new(), BytesMut::new(), Vec::new());
        let mut rig = Self { machine, transport: id, version, output, input, message, receipts };
        rig.flush();
        let (session_present, reason, properties) = (false, ReasonCode::Success, Properties::EMPTY);
        let mut connack = BytesMut::new();
        write(&Packet::ConnAck(ConnAck { session_present, reason, properties }), version, &mut connack);
        rig.receive(&connack);
        assert!(rig.machine.is_connected());
        rig
    }

    fn flush(&mut self) {
        self.machine.transmit(Instant::ZERO, &mut self.output);
        let sent = self.output.remaining();
        self.output.advance(sent);
        self.machine.handle_sent(Instant::ZERO, self.transport, sent);
    }

    /// Gives the machine these bytes, settles what they deliver, and takes every event; how many there were.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        self.input.extend_from_slice(bytes);
        self.machine.handle_input(Instant::ZERO, self.transport, &mut self.input);
        let mut count = 0;
        loop {
            while let Some(completions) = self.machine.poll_completions() {
                count += completions.ops().count();
            }
            count += self.take_messages();
            if self.machine.poll_event().is_none() {
                break;
            }
            count += 1;
        }
        self.flush();
        count
    }

    /// Takes the messages that come next, and settles as many together as can be. Returns how many there were.
    fn take_messages(&mut self) -> usize {
        let mut count = 0;
        let mut together: Option<Receipt> = None;
        let others = &mut self.receipts;
        self.machine.poll_messages(|message, receipt| {
            black_box(&message);
            count += 1;
            let Some(before) = &mut together else {
                together = Some(receipt);
                return;
            };
            if let Err(receipt) = before.merge(receipt) {
                others.push(std::mem::replace(before, receipt));
            }
        });
        for receipt in self.receipts.drain(..).chain(together) {
            self.machine.settle(Instant::ZERO, receipt, ReasonCode::Success);
        }
        count
    }

    /// Gives the machine these bytes and takes every event, without settling: the receipts of the messages go behind `receipts`.
    pub fn hold(&mut self, bytes: &[u8], receipts: &mut VecDeque<Receipt>) {
        self.input.extend_from_slice(bytes);
        self.machine.handle_input(Instant::ZERO, self.transport, &mut self.input);
        while let Some(event) = self.machine.poll_event() {
            if let Event::Message { receipt, .. } = event {
                receipts.push_back(receipt);
            }
        }
    }

    /// Settles one message, and writes its acknowledgement out.
    pub fn settle(&mut self, receipt: Receipt) {
        self.machine.settle(Instant::ZERO, receipt, ReasonCode::Success);
        self.flush();
    }

    /// Publishes `count` messages of 64 bytes and writes them out.
    ///
    /// # Panics
    /// When the machine refuses one.
    pub fn publish(&mut self, qos: QoS, count: u16) {
        for _ in 0..count {
            self.machine.publish(Instant::ZERO, self.message.clone().qos(qos)).expect("room");
        }
        self.flush();
    }

    /// Publishes `count` messages of 64 bytes into the output, from one that stays.
    ///
    /// # Panics
    /// When the machine refuses one.
    pub fn forward(&mut self, qos: QoS, count: u16) {
        self.message.qos = qos;
        for _ in 0..count {
            self.machine.publish_into(Instant::ZERO, &self.message, &mut self.output).expect("room");
        }
        self.flush();
    }

    /// `count` publications of 64 bytes from the server; those of QoS 1 and 2 have the identifiers from 1 on.
    pub fn publications(&self, qos: QoS, count: u16) -> BytesMut {
        let mut bytes = BytesMut::new();
        let mut id = PacketId::MIN;
        for _ in 0..count {
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            id = id.next();
            let publish = Publish {
                dup: false,
                qos,
                retain: false,
                topic: (&self.message.topic).into(),
                packet_id,
                properties: Properties::EMPTY,
                payload: &[0; 64],
            };
            write(&Packet::Publish(publish), self.version, &mut bytes);
        }
        bytes
    }
}

/// What a server says to publications of one QoS, whatever their identifiers are: made beforehand, since it is no work of a client's.
#[derive(Debug)]
pub struct Acknowledgements {
    /// PUBACK, or PUBREC and PUBCOMP: of every identifier, and those of the first again behind the last, for batches that go round.
    kinds: Vec<BytesMut>,
}

/// All identifiers.
const IDS: usize = u16::MAX as usize;
/// The bytes of one acknowledgement that says success.
const ACK: usize = 4;

impl Acknowledgements {
    /// For publications of this QoS, in batches of `most` at most.
    ///
    /// # Panics
    /// When an acknowledgement is longer than it needs to be.
    pub fn new(qos: QoS, version: ProtocolVersion, most: u16) -> Self {
        let kinds: &[AckKind] = match qos {
            QoS::AtMostOnce => &[],
            QoS::AtLeastOnce => &[AckKind::PubAck],
            QoS::ExactlyOnce => &[AckKind::PubRec, AckKind::PubComp],
        };
        let frames = |kind: &AckKind| {
            let mut bytes = BytesMut::new();
            let mut packet_id = PacketId::MIN;
            for _ in 0..IDS + usize::from(most) {
                write(&Packet::Ack(Ack::new(*kind, packet_id)), version, &mut bytes);
                packet_id = packet_id.next();
            }
            assert_eq!(bytes.len(), (IDS + usize::from(most)) * ACK);
            bytes
        };
        Self { kinds: kinds.iter().map(frames).collect() }
    }

    /// What ends `count` publications whose identifiers begin at `first`, packet by packet: PUBACK, or all PUBRECs and then all PUBCOMPs.
    pub fn of(&self, first: PacketId, count: u16) -> impl Iterator<Item = &[u8]> {
        let start = (usize::from(first.to_u16()) - 1) * ACK;
        let end = start + usize::from(count) * ACK;
        self.kinds.iter().map(move |bytes| &bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_go_round_as_identifiers_do() {
        let answers = Acknowledgements::new(QoS::ExactlyOnce, ProtocolVersion::V5, 3);
        let said: Vec<&[u8]> = answers.of(PacketId::new(65_534).expect("not zero"), 3).collect();
        let of = |first: u8| [[first, 2, 0xFF, 0xFE], [first, 2, 0xFF, 0xFF], [first, 2, 0, 1]].concat();
        assert_eq!(said, [of(0x50), of(0x70)]);
    }

    #[test]
    fn what_is_measured_happens() {
        for version in ProtocolVersion::ALL {
            let mut rig = Rig::new(version);
            let ways = [Rig::publish, Rig::forward].into_iter().zip([1, 21]);
            for ((publish, start), qos) in ways
                .flat_map(|way| [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (way, qos)))
            {
                let start = start + if qos == QoS::ExactlyOnce { 10 } else { 0 };
                let first = PacketId::new(start).expect("not zero");
                publish(&mut rig, qos, 10);
                let answers = Acknowledgements::new(qos, version, 10);
                let ended: usize = answers.of(first, 10).map(|bytes| rig.receive(bytes)).sum();
                // QoS 0 ends with the next reading of events.
                let ended = ended + rig.receive(&[]);
                assert_eq!(ended, 10, "{qos}");
            }
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                assert_eq!(rig.receive(&rig.publications(qos, 10)), 10);
            }
        }
    }
}
