//! Owns the proof that this adapter does what every adapter does. It must not know what that is.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use mqtt_machine_blocking::{ConnectError, Connector, Options, Server};
use mqtt_machine_client::Client;
use mqtt_machine_testkit::adapters::{Adapter, Drip};

struct InThreads;

struct Dripping {
    stream: TcpStream,
    drip: Drip,
}

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(self.drip.read(buffer))
    }
}

impl Write for Dripping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(self.drip.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Adapter for InThreads {
    fn start(&self, options: Options) -> Result<Client, ConnectError> {
        mqtt_machine_blocking::Client::start(options).map(|client| client.handle().clone())
    }

    fn start_dripping(&self, options: Options, drip: Drip) -> Result<Client, ConnectError> {
        let connector = Connector::new(move |server: Server| {
            let stream = TcpStream::connect(server.as_str().trim_start_matches("mqtt://"))?;
            let halves = [stream.try_clone()?, stream.try_clone()?];
            let [reader, writer] = halves.map(|stream| Dripping { stream, drip: drip.clone() });
            Ok((reader, writer, move || drop(stream.shutdown(Shutdown::Both))))
        });
        mqtt_machine_blocking::Client::start_with(options, connector).map(|client| client.handle().clone())
    }

    fn threads_per_client(&self) -> usize {
        1
    }
}

mqtt_machine_testkit::adapter_conformance!(InThreads);

mqtt_machine_testkit::same_program!(mqtt_machine_blocking);
