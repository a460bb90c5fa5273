//! Shows: the core on a pipe in memory, in forty lines; no socket, no clock, no thread, the same every time it runs.
//! `cargo run -p mqtt-machine-examples --example pipe`

use std::error::Error;

use bytes::{Buf, BytesMut};
use mqtt_machine::{
    Action, Config, Event, Instant, Machine, Message, Output, QoS, ReasonCode, Server, Subscribe,
    TopicFilter, TransportEvent,
};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};

fn main() -> Result<(), Box<dyn Error>> {
    let (now, conn) = (Instant::ZERO, ConnId::new(1));
    let mut broker = Broker::new(BrokerConfig::new(), 1);
    let mut machine = Machine::new(Config::new(Server::new("pipe")).into(), 7, now);
    let (mut output, mut input, mut link) = (Output::new(), BytesMut::new(), None);
    machine.subscribe(now, Subscribe::to(TopicFilter::new("greetings/#")?, QoS::ExactlyOnce))?;
    machine.publish(now, Message::to("greetings/you", "hello")?.qos(QoS::ExactlyOnce))?;
    machine.connect(now)?;
    loop {
        while let Some(action) = machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                link = Some(id);
                broker.open(now, conn);
                machine.handle_transport(now, id, TransportEvent::Opened);
            }
        }
        let id = link.ok_or("there is no transport")?;
        machine.transmit(now, &mut output);
        let sent = output.copy_to_bytes(output.remaining()); // What you would write.
        machine.handle_sent(now, id, sent.len());
        broker.handle_input(now, conn, &sent);
        input.extend_from_slice(&broker.poll_output(conn)); // What you would read.
        machine.handle_input(now, id, &mut input);
        while let Some(event) = machine.poll_event() {
            if let Event::Message { message, receipt } = event {
                println!("{} {}", message.topic, message.payload_lossy());
                machine.settle(now, receipt, ReasonCode::Success);
                return Ok(());
            }
        }
    }
}
