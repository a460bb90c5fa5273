//! Owns the proof that this adapter does what every adapter does, on both kinds of runtime. It must not know what that is.

use std::thread;

use mqtt_machine_client::Client;
use mqtt_machine_testkit::adapters::Adapter;
use mqtt_machine_tokio::{ConnectError, Options};
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
