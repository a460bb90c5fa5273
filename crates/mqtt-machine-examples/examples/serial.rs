//! Shows: the core over a serial line, here a pseudo-terminal with the model broker at its other end.
//! `cargo run -p mqtt-machine-examples --example serial`

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, BytesMut};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, Machine, Message, Outcome, Output, QoS, ReasonCode, Server,
    Subscribe, TopicFilter, TransportEvent,
};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

/// A line has no room for more in one go.
const CHUNK: usize = 256;

/// A terminal that changes no byte. A read returns with what is there, or with nothing after a tenth of a second.
fn raw(line: &File) -> rustix::io::Result<()> {
    let mut settings = tcgetattr(line)?;
    settings.make_raw();
    settings.special_codes[SpecialCodeIndex::VMIN] = 0;
    settings.special_codes[SpecialCodeIndex::VTIME] = 1;
    tcsetattr(line, OptionalActions::Now, &settings)
}

/// What stands at the other end of the line, until that is closed.
fn serve(mut line: File) {
    let (begin, conn, mut buffer) = (Clock::now(), ConnId::new(1), [0; CHUNK]);
    let mut broker = Broker::new(BrokerConfig::new(), 1);
    let now = || Instant::ZERO + begin.elapsed();
    broker.open(now(), conn);
    while let Ok(count @ 1..) = line.read(&mut buffer) {
        broker.handle_input(now(), conn, &buffer[..count]);
        if line.write_all(&broker.poll_output(conn)).is_err() {
            return;
        }
    }
}

/// Publishes and receives over `line` until the client has disconnected.
fn talk(machine: &mut Machine, mut line: File) -> Result<(), Box<dyn Error>> {
    let (begin, mut output, mut input) = (Clock::now(), Output::with_mark(CHUNK), BytesMut::new());
    let (mut link, mut buffer) = (None, [0; CHUNK]);
    let now = || Instant::ZERO + begin.elapsed();
    loop {
        machine.handle_timeout(now());
        while let Some(action) = machine.poll_action() {
            match action {
                Action::OpenTransport { id, .. } => {
                    // A line is always open: there is nothing to do but to forget what was on it.
                    (link, input, output) = (Some(id), BytesMut::new(), Output::with_mark(CHUNK));
                    machine.handle_transport(now(), id, TransportEvent::Opened);
                }
                Action::CloseTransport { .. } => link = None,
                _ => {}
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Message { message, receipt } => {
                    println!("{} {}", message.topic, message.payload_lossy());
                    machine.settle(now(), receipt, ReasonCode::Success);
                    machine.disconnect(now(), Disconnect::new(Duration::from_secs(1)))?;
                }
                Event::Completed { outcome: Outcome::Disconnected { .. }, .. } => return Ok(()),
                Event::ConnectFailed(ended) => return Err(ended.reason.to_string().into()),
                _ => {}
            }
        }
        let Some(id) = link else { continue };
        machine.transmit(now(), &mut output);
        while output.has_remaining() {
            let sent = line.write(output.chunk())?;
            output.advance(sent);
            machine.handle_sent(now(), id, sent);
        }
        let room = machine.read_capacity().min(CHUNK);
        let count = line.read(&mut buffer[..room])?;
        input.extend_from_slice(&buffer[..count]);
        machine.handle_input(now(), id, &mut input);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&far)?;
    unlockpt(&far)?;
    let name = ptsname(&far, Vec::new())?;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let near = OpenOptions::new().read(true).write(true).open(path)?;
    raw(&near)?;
    let broker = thread::spawn(move || serve(File::from(far)));

    let mut machine = Machine::new(Config::new(Server::new("line")).into(), 7, Instant::ZERO);
    let filter = TopicFilter::new("meters/#")?;
    machine.subscribe(Instant::ZERO, Subscribe::to(filter, QoS::AtLeastOnce))?;
    machine.publish(Instant::ZERO, Message::to("meters/7", "21.5")?.qos(QoS::ExactlyOnce))?;
    machine.connect(Instant::ZERO)?;
    talk(&mut machine, near)?;
    broker.join().map_err(|_| "the broker panicked")?;
    Ok(())
}
