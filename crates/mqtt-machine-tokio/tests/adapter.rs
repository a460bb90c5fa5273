//! Owns the proof that this adapter does what every adapter does, on both kinds of runtime. It must not know what that is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use mqtt_machine_client::Client;
use mqtt_machine_testkit::adapters::{Adapter, Drip};
use mqtt_machine_tokio::{ConnectError, Connector, Options, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime with a thread that runs it, until this is dropped.
struct OnTokio {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl OnTokio {
    fn new(mut builder: Builder) -> Self {
        let runtime = builder.enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            let _ = runtime.block_on(ended);
            // The lookup of a name that nobody has may still be going on.
            runtime.shutdown_background();
        });
        Self { handle, _end: end }
    }
}

impl Adapter for OnTokio {
    fn start(&self, options: Options) -> Result<Client, ConnectError> {
        let _runtime = self.handle.enter();
        mqtt_machine_tokio::Client::start(options).map(|client| (*client).clone())
    }

    fn start_dripping(&self, options: Options, drip: Drip) -> Result<Client, ConnectError> {
        let _runtime = self.handle.enter();
        let connector = Connector::new(move |server: Server| {
            let drip = drip.clone();
            async move {
                let address = server.as_str().trim_start_matches("mqtt://");
                Ok(Dripping { stream: TcpStream::connect(address).await?, drip })
            }
        });
        mqtt_machine_tokio::Client::start_with(options, connector).map(|client| (*client).clone())
    }
}

struct Dripping {
    stream: TcpStream,
    drip: Drip,
}

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.drip.read_waits() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(self.drip.read(&mut byte));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Dripping {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.drip.write_waits() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = self.drip.write(bytes);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

mod on_one_thread {
    mqtt_machine_testkit::adapter_conformance!(super::OnTokio::new(super::Builder::new_current_thread()));
}

mod on_two_threads {
    mqtt_machine_testkit::adapter_conformance!(super::OnTokio::new({
        let mut builder = super::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    }));
}

mqtt_machine_testkit::same_program!(async mqtt_machine_tokio, |program| {
    tokio::runtime::Runtime::new().unwrap().block_on(program)
});
