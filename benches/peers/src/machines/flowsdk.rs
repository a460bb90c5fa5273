//! Owns flowsdk: its engine with time that the caller supplies. It must not know what is counted.

use std::hint::black_box;

use flowsdk::mqtt_client::{MqttClientOptions, MqttEvent, PortableMqttEngine, PublishCommand};
use flowsdk::time::Timestamp;
use mqtt_machine::{PacketId, ProtocolVersion, QoS};

use super::Machine;
use crate::{Failure, PAYLOAD, TOPIC};

const NOW: Timestamp = Timestamp::ZERO;

/// An engine, and the message that is published.
pub(super) struct Peer {
    engine: PortableMqttEngine,
    command: PublishCommand,
    /// What would be written to the socket at once.
    output: Vec<u8>,
}

fn told(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}").into()
}

impl Peer {
    pub(super) fn connect(version: ProtocolVersion) -> Result<Self, Failure> {
        let is_v5 = version == ProtocolVersion::V5;
        let options = MqttClientOptions {
            client_id: "bench".to_owned(),
            mqtt_version: if is_v5 { 5 } else { 4 },
            ..MqttClientOptions::default()
        };
        let engine = PortableMqttEngine::try_new_at(options, NOW).map_err(told)?;
        let mut peer = Self {
            engine,
            command: PublishCommand::simple(TOPIC, PAYLOAD.to_vec(), 0, false),
            output: Vec::new(),
        };
        peer.engine.connect_at(NOW).map_err(told)?;
        peer.write()?;
        let connack: &[u8] = if is_v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        peer.receive(connack)?;
        if peer.engine.is_connected() { Ok(peer) } else { Err("it does not connect".into()) }
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.output = self.engine.take_outgoing_at(NOW).map_err(told)?;
        Ok(())
    }
}

fn count(events: Vec<MqttEvent>) -> Result<usize, Failure> {
    let mut count = 0;
    for event in events {
        match black_box(event) {
            MqttEvent::Published(_) | MqttEvent::MessageReceived(_) => count += 1,
            MqttEvent::Error(error) => return Err(told(error)),
            other @ MqttEvent::OperationFailed { .. } => return Err(told(other)),
            _ => {}
        }
    }
    Ok(count)
}

impl Machine for Peer {
    fn publish(&mut self, qos: QoS, count: u16) -> Result<PacketId, Failure> {
        self.command.qos = match qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        let mut first = None;
        for _ in 0..count {
            let id = self.engine.publish_at(self.command.clone(), NOW).map_err(told)?;
            first = first.or(id);
        }
        self.write()?;
        Ok(first.and_then(PacketId::new).unwrap_or(PacketId::MIN))
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut ended = 0;
        if !bytes.is_empty() {
            ended += count(self.engine.handle_incoming_at(bytes, NOW).map_err(told)?)?;
        }
        self.write()?;
        // What comes of writing.
        Ok(ended + count(self.engine.take_events())?)
    }

    fn written(&self) -> Option<&[u8]> {
        Some(&self.output)
    }
}
