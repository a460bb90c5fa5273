//! Owns what async-std is to the tests that the faces of `mqtt-machine-futures-io` share. It must not know what they hold.
#![cfg(unix)]

#[path = "../../mqtt-machine-futures-io/tests/face/mod.rs"]
mod face;

use mqtt_machine_async_std as adapter;

mod runtime {
    pub(crate) use async_std::net::TcpStream;
    pub(crate) use async_std::os::unix::net::UnixStream;
    pub(crate) use async_std::task::block_on;

    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(future);
    }

    pub(crate) fn unix_of_std(stream: std::os::unix::net::UnixStream) -> UnixStream {
        UnixStream::from(stream)
    }
}
