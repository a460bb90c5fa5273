//! Owns the round trips of mqtt-machine on threads, and of a socket of the standard library.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mqtt_machine_blocking::{Client, Outcome};

use super::futures::job;
use super::{ANSWER, CONNECT, Job, Times, alternate, request};
use crate::{Failure, clients};

const PATIENCE: Duration = Duration::from_secs(60);

fn round_trip(stream: &mut TcpStream, request: &[u8]) -> Result<(), Failure> {
    stream.write_all(request)?;
    stream.read_exact(&mut [0; ANSWER])?;
    Ok(())
}

pub(super) fn run(told: Job) -> Result<Times, Failure> {
    let client = Client::connect(clients::tokio::options(job(told))?)?;
    let message = clients::tokio::message(job(told))?;
    let mut stream = TcpStream::connect(("127.0.0.1", told.port))?;
    stream.set_nodelay(true)?;
    round_trip(&mut stream, CONNECT)?;
    let request = request();
    let publish = || match client.publish(message.clone())?.wait(PATIENCE) {
        Ok(Outcome::Acknowledged(_)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    // Both wait within themselves.
    let times =
        ::smol::block_on(alternate(told, async || publish(), async || round_trip(&mut stream, &request)));
    client.disconnect()?;
    times
}
