//! Subscribes, publishes one message at QoS 1, waits for its outcome and receives it: by the machine alone, driven by hand over a
//! socket of the standard library.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, BytesMut};
use mqtt_machine::{
    Action, Config, Event, Instant, Machine, Message, Outcome, Output, ProtocolVersion, QoS, ReasonCode,
    Server, Subscribe, TopicFilter, TransportEvent,
};

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("a port is needed")?.parse()?;
    let origin = Clock::now();
    let now = || Instant::ZERO + origin.elapsed();
    let config = Config::new(Server::new(format!("127.0.0.1:{port}"))).version(ProtocolVersion::V3_1_1);
    let mut machine = Machine::new(Arc::new(config), 1, now());
    machine.connect(now())?;
    machine.subscribe(now(), Subscribe::to(TopicFilter::new(TOPIC)?, QoS::AtLeastOnce))?;
    let mut transport = None;
    let (mut output, mut input, mut buffer) = (Output::new(), BytesMut::new(), [0; 4_096]);
    let (mut acknowledged, mut received) = (false, false);
    loop {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::OpenTransport { id, server } => {
                    transport = Some((id, TcpStream::connect(server.as_str())?));
                    machine.handle_transport(now(), id, TransportEvent::Opened);
                }
                Action::CloseTransport { .. } => return Err("the machine closes".into()),
                _ => {}
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Completed { outcome: Outcome::Subscribed { .. }, .. } => {
                    machine.publish(now(), Message::to(TOPIC, &PAYLOAD[..])?.qos(QoS::AtLeastOnce))?;
                }
                Event::Completed { outcome: Outcome::Acknowledged(_), .. } => acknowledged = true,
                Event::Completed { outcome, .. } => return Err(format!("{outcome:?}").into()),
                Event::Message { message, receipt } => {
                    received = message.payload[..] == PAYLOAD;
                    machine.settle(now(), receipt, ReasonCode::Success);
                }
                _ => {}
            }
        }
        let Some((id, stream)) = &mut transport else { return Err("nothing to open".into()) };
        machine.transmit(now(), &mut output);
        while output.has_remaining() {
            let sent = stream.write(output.chunk())?;
            output.advance(sent);
            machine.handle_sent(now(), *id, sent);
        }
        if acknowledged && received {
            println!("published and received");
            return Ok(());
        }
        let wait = machine.poll_timeout().map_or(Duration::from_secs(1), |at| at - now());
        stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let room = machine.read_capacity().min(buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) if room > 0 => return Err("the server has closed".into()),
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        machine.handle_input(now(), *id, &mut input);
        machine.handle_timeout(now());
    }
}
