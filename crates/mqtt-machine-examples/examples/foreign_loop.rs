//! Shows: a client inside a loop that is not its own, here `poll` over standard input; every line is published.
//! `printf 'one\ntwo\n' | cargo run -p mqtt-machine-examples --example foreign_loop -- mqtt://localhost` prints what comes back.

use std::error::Error;
use std::io::{ErrorKind, Read, stdin};
use std::time::{Duration, Instant};

use mqtt_machine_blocking::{Client, Message, QoS, Runner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until standard input or the client has something to do, or the client's deadline has come. True for standard input.
fn wait(runner: &Runner, listening: bool) -> rustix::io::Result<bool> {
    let stdin = stdin();
    let mut ready = vec![PollFd::new(runner, PollFlags::IN)];
    if listening {
        ready.push(PollFd::new(&stdin, PollFlags::IN));
    }
    let left = runner.deadline().map(|then| then.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3_600, tv_nsec: 0 }));
    match poll(&mut ready, left.as_ref()) {
        Ok(_) => Ok(ready.get(1).is_some_and(|stdin| !stdin.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".to_owned());
    let (client, mut runner) = Client::with_driver(url)?;
    let subscribing = client.handle().subscribe("lines", QoS::ExactlyOnce);
    let limit = Duration::from_secs(10);
    let mut messages = runner.until(subscribing, limit)?.ok_or("no server within ten seconds")??;

    let (mut text, mut listening, mut published, mut received) = (Vec::new(), true, 0, 0);
    while listening || received < published {
        if wait(&runner, listening)? {
            let mut buffer = [0; 4096];
            match stdin().read(&mut buffer) {
                Ok(0) => listening = false,
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).take(end).collect();
            client.try_publish(Message::to("lines", line)?.qos(QoS::ExactlyOnce))?;
            published += 1;
        }
        runner.step(Duration::ZERO)?;
        while let Ok(message) = messages.try_recv() {
            println!("{}", message.payload_lossy());
            received += 1;
        }
    }
    runner.until(client.handle().disconnect(), limit)?;
    Ok(())
}
