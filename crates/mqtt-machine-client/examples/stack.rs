//! A driver of forty lines over `std::net` that does `mqtts://` and `wss://` as well as `mqtt://` and `ws://`:
//! `cargo run -p mqtt-machine-client --features tls,ring,native-roots,websocket --example stack -- wss://broker.example`.
//! It publishes one message and ends when the server has it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, BytesMut};
use mqtt_machine::{Action, Event, Instant, Message, Output, QoS, TransportEvent};
use mqtt_machine_client::{Options, Stack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".to_owned());
    let mut options = Options::from_url(&url)?;
    if let Some(ca) = std::env::args().nth(2) {
        options = trusting(options, &ca);
    }
    drive(options)
}

#[cfg(feature = "tls")]
fn trusting(options: Options, ca: &str) -> Options {
    options.route(|route| route.tls(mqtt_machine_client::TlsOptions::new().ca_file(ca)))
}

#[cfg(not(feature = "tls"))]
fn trusting(options: Options, _: &str) -> Options {
    options
}

fn drive(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let origin = Clock::now();
    let now = || Instant::ZERO + origin.elapsed();
    let mut stack = Stack::new(options, 1, now())?;
    let (mut socket, mut output, mut input) = (None, Output::new(), BytesMut::new());
    stack.connect(now())?;
    stack.publish(now(), Message::to("greetings", "hello")?.qos(QoS::AtLeastOnce))?;
    loop {
        while let Some(action) = stack.poll_action() {
            match action {
                Action::OpenTransport { id, server } => match TcpStream::connect(server.as_str()) {
                    Ok(stream) => {
                        (output, input) = (Output::new(), BytesMut::new());
                        socket = Some((id, stream));
                        stack.handle_transport(now(), id, TransportEvent::Opened);
                    }
                    Err(e) => stack.handle_transport(now(), id, TransportEvent::OpenFailed(e.to_string())),
                },
                Action::CloseTransport { .. } => {
                    stack.transmit(now(), &mut output); // The last words of the layers.
                    if let Some((_, mut stream)) = socket.take() {
                        let _ = stream.write_all(&output.copy_to_bytes(output.remaining()));
                    }
                }
                _ => {}
            }
        }
        while let Some(event) = stack.poll_event() {
            println!("{event:?}");
            match event {
                Event::Completed { .. } => return Ok(()),
                Event::ConnectFailed(_) => return Err(stack.take_error().ok_or("no connection")?.into()),
                _ => {}
            }
        }
        let Some((id, stream)) = &mut socket else { continue };
        stack.transmit(now(), &mut output);
        while output.has_remaining() {
            let sent = stream.write(output.chunk())?;
            output.advance(sent);
            stack.handle_sent(now(), *id, sent);
            stack.transmit(now(), &mut output);
        }
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut buffer = vec![0; stack.read_capacity().min(64 << 10)];
        match stream.read(&mut buffer) {
            Ok(0) if !buffer.is_empty() => stack.handle_transport(now(), *id, TransportEvent::Closed(None)),
            Ok(count) => {
                input.extend_from_slice(&buffer[..count]);
                stack.handle_input(now(), *id, &mut input);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => stack.handle_transport(now(), *id, TransportEvent::Closed(Some(e.to_string()))),
        }
        stack.handle_timeout(now());
    }
}
