//! Owns mqtt-protocol-core: its connection, told to answer by itself. It must not know what is counted.

use std::sync::Arc;

use mqtt_machine::{PacketId, ProtocolVersion, QoS};
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{
    GenericPacketTrait as _, Packet, Property, Qos, SessionExpiryInterval, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::{Connection, Version, role};

use super::Machine;
use crate::{Failure, PAYLOAD, TOPIC};

/// A connection, and what a user of it has to have beside it.
pub(super) struct Peer {
    connection: Connection<role::Client>,
    version: ProtocolVersion,
    payload: Arc<[u8]>,
    /// What would be written to the socket at once.
    output: Vec<u8>,
}

fn told(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}").into()
}

impl Peer {
    /// Connects in this version. A connection that `keeps` has a session that outlasts it, and so remembers what is not acknowledged.
    pub(super) fn connect(version: ProtocolVersion, keeps: bool) -> Result<Self, Failure> {
        let is_v5 = version == ProtocolVersion::V5;
        let mut connection = Connection::new(if is_v5 { Version::V5_0 } else { Version::V3_1_1 });
        connection.set_auto_pub_response(true);
        let connect: Packet = if is_v5 {
            let mut connect = v5_0::Connect::builder().client_id("bench").map_err(told)?.keep_alive(60);
            if keeps {
                let expiry = SessionExpiryInterval::new(3_600).map_err(told)?;
                connect = connect.props(vec![Property::SessionExpiryInterval(expiry)]);
            }
            connect.clean_start(true).build().map_err(told)?.into()
        } else {
            let connect = v3_1_1::Connect::builder().client_id("bench").map_err(told)?.keep_alive(60);
            connect.clean_session(!keeps).build().map_err(told)?.into()
        };
        let mut peer = Self { connection, version, payload: Arc::from(&PAYLOAD[..]), output: Vec::new() };
        let events = peer.connection.send(connect);
        peer.handle(events)?;
        let connack: &[u8] = if is_v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        peer.receive(connack)?;
        Ok(peer)
    }

    fn packet(&self, qos: Qos, id: Option<u16>) -> Result<Packet, Failure> {
        let payload = Arc::clone(&self.payload);
        Ok(if self.version == ProtocolVersion::V5 {
            let publish = v5_0::Publish::builder().topic_name(TOPIC).map_err(told)?.qos(qos).payload(payload);
            let publish = if let Some(id) = id { publish.packet_id(id) } else { publish };
            publish.build().map_err(told)?.into()
        } else {
            let publish =
                v3_1_1::Publish::builder().topic_name(TOPIC).map_err(told)?.qos(qos).payload(payload);
            let publish = if let Some(id) = id { publish.packet_id(id) } else { publish };
            publish.build().map_err(told)?.into()
        })
    }

    /// What an application does with events: writes packets, hears of ends and messages; how many of these there were.
    fn handle(&mut self, events: Vec<Event>) -> Result<usize, Failure> {
        let mut count = 0;
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    packet.to_buffers().iter().for_each(|part| self.output.extend_from_slice(part));
                }
                Event::NotifyPacketReceived(packet) => match std::hint::black_box(packet) {
                    Packet::V3_1_1Publish(_) | Packet::V5_0Publish(_) => count += 1,
                    Packet::V3_1_1Puback(_) | Packet::V5_0Puback(_) => count += 1,
                    Packet::V3_1_1Pubcomp(_) | Packet::V5_0Pubcomp(_) => count += 1,
                    _ => {}
                },
                Event::NotifyError(error) => return Err(told(error)),
                Event::RequestClose => return Err("it closes".into()),
                // Timers do not run here.
                _ => {}
            }
        }
        Ok(count)
    }
}

impl Machine for Peer {
    fn publish(&mut self, qos: QoS, count: u16) -> Result<PacketId, Failure> {
        self.output.clear();
        let mut first = None;
        for _ in 0..count {
            let (qos, id) = match qos {
                QoS::AtMostOnce => (Qos::AtMostOnce, None),
                QoS::AtLeastOnce => {
                    (Qos::AtLeastOnce, Some(self.connection.acquire_packet_id().map_err(told)?))
                }
                QoS::ExactlyOnce => {
                    (Qos::ExactlyOnce, Some(self.connection.acquire_packet_id().map_err(told)?))
                }
            };
            first = first.or(id);
            let packet = self.packet(qos, id)?;
            let events = self.connection.send(packet);
            self.handle(events)?;
        }
        Ok(first.and_then(PacketId::new).unwrap_or(PacketId::MIN))
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.output.clear();
        let mut cursor = Cursor::new(bytes);
        let mut count = 0;
        while cursor.position() < bytes.len() as u64 {
            let events = self.connection.recv(&mut cursor);
            count += self.handle(events)?;
        }
        Ok(count)
    }

    fn written(&self) -> Option<&[u8]> {
        Some(&self.output)
    }
}
