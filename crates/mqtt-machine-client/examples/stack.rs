//! A driver of forty lines over `std::net` that does `mqtts://` and `wss://` as well as `mqtt://` and `ws://`:
//! `cargo run -p mqtt-machine-client --features tls,ring,native-roots,websocket --example stack -- wss://broker.example`.
//! It publishes one message, and ends when the server has it. A second argument names a file of certificates to trust.

use std::io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
use std::io::{Read, copy};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, BytesMut};
use mqtt_machine::{Action, Disconnect, Event, Instant, Message, Outcome, Output, QoS, TransportEvent};
use mqtt_machine_client::{Options, Stack};

const TICK: Duration = Duration::from_millis(1);

/// Drives `stack`, and tells all that happens and what time it is, until somebody has an answer.
fn drive<T>(stack: &mut Stack, mut tell: impl FnMut(&mut Stack, Instant, Event) -> Option<T>) -> T {
    let (start, mut buffer, mut input) = (Clock::now(), [0; 4096], BytesMut::new());
    let (mut socket, mut output) = (None, Output::new());
    let now = || Instant::ZERO + start.elapsed();
    loop {
        sleep(TICK);
        stack.handle_timeout(now());
        while let Some(action) = stack.poll_action() {
            if let Action::OpenTransport { id, server } = action {
                let opened = TcpStream::connect(server.as_str()).map(|stream| socket = Some((id, stream)));
                let failed = opened.err().map(|why| TransportEvent::OpenFailed(why.to_string()));
                (input, output) = (BytesMut::new(), Output::new());
                stack.handle_transport(now(), id, failed.unwrap_or(TransportEvent::Opened));
            } else if let (Action::CloseTransport { .. }, Some((_, mut stream))) = (action, socket.take()) {
                stack.transmit(now(), &mut output); // The last words of the layers.
                let _ = copy(&mut (&mut output).reader(), &mut stream);
            }
        }
        while let Some(event) = stack.poll_event() {
            if let Some(answer) = tell(stack, now(), event) {
                return answer;
            }
        }
        let Some((id, stream)) = &mut socket else { continue };
        stack.transmit(now(), &mut output);
        let moved = copy(&mut (&mut output).reader(), stream).and_then(|sent| {
            stack.handle_sent(now(), *id, sent as usize);
            stream.set_read_timeout(Some(TICK))?;
            let room = stack.read_capacity().min(4096);
            let count = stream.read(&mut buffer[..room])?;
            input.extend_from_slice(&buffer[..count]);
            stack.handle_input(now(), *id, &mut input);
            if count == 0 && room > 0 { Err(UnexpectedEof.into()) } else { Ok(()) }
        });
        if let Some(why) = moved.err().filter(|why| !matches!(why.kind(), WouldBlock | TimedOut)) {
            stack.handle_transport(now(), *id, TransportEvent::Closed(Some(why.to_string())));
            socket = None;
        }
    }
}

/// What becomes of one message of QoS 1, once the client has disconnected; or why there is no connection.
pub(crate) fn publish(options: Options, message: Message) -> Result<Outcome, Box<dyn std::error::Error>> {
    let mut stack = Stack::new(options, 1, Instant::ZERO)?;
    stack.connect(Instant::ZERO)?;
    let published = stack.publish(Instant::ZERO, message.qos(QoS::AtLeastOnce))?;
    let mut known = None;
    let ended = drive(&mut stack, |stack, now, event| match event {
        Event::ConnectFailed(ended) if ended.retry_at.is_none() => Some(Err(ended.reason)),
        Event::Completed { op, outcome } if op == published => {
            known = Some(outcome);
            stack.disconnect(now, Disconnect::new(Duration::ZERO)).err().map(|_| Ok(()))
        }
        Event::Completed { .. } => Some(Ok(())),
        _ => None,
    });
    match (ended, stack.take_error()) {
        (Ok(()), _) => Ok(known.unwrap_or(Outcome::Unknown)),
        (Err(_), Some(error)) => Err(error.into()),
        (Err(reason), None) => Err(reason.to_string().into()),
    }
}

#[cfg_attr(test, allow(dead_code, reason = "a test publishes"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".to_owned());
    let mut options = Options::from_url(&url)?;
    if let Some(ca) = std::env::args().nth(2) {
        options = trusting(options, &ca);
    }
    println!("{:?}", publish(options, Message::to("greetings", "hello")?)?);
    Ok(())
}

#[cfg(feature = "tls")]
fn trusting(options: Options, ca: &str) -> Options {
    options.route(|route| route.tls(mqtt_machine_client::TlsOptions::new().ca_file(ca)))
}

#[cfg(not(feature = "tls"))]
fn trusting(options: Options, _: &str) -> Options {
    options
}
