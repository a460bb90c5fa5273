//! Owns what smol is to the tests that the faces of `mqtt-machine-futures-io` share. It must not know what they hold.
#![cfg(unix)]

#[path = "../../mqtt-machine-futures-io/tests/face/mod.rs"]
mod face;

use mqtt_machine_smol as adapter;

mod runtime {
    pub(crate) use smol::block_on;
    pub(crate) use smol::net::TcpStream;
    pub(crate) use smol::net::unix::UnixStream;

    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(future).detach();
    }

    pub(crate) fn unix_of_std(stream: std::os::unix::net::UnixStream) -> UnixStream {
        UnixStream::try_from(stream).unwrap()
    }
}
