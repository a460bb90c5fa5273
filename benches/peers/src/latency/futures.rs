//! Owns the round trips of mqtt-machine on the runtimes of futures, and of their sockets. It must not know how they are timed.

use ::smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::net::TcpStream;
use ::tokio::runtime::Builder;
use mqtt_machine_client::{Client, Message, Outcome};

use super::{ANSWER, CONNECT, Job, Times, alternate, request};
use crate::Failure;
use crate::clients::{self, Case, Direction};

/// What a client is told, and what it publishes.
pub(super) fn job(job: Job) -> clients::Job {
    let case = Case { direction: Direction::Publish, qos: 1 };
    clients::Job { case, port: job.port, count: job.count }
}

async fn publish(client: &Client, message: &Message) -> Result<(), Failure> {
    match client.publish(message.clone()).await?.await {
        Outcome::Acknowledged(_) => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}

/// A socket of tokio's. It reads into more room than it needs, so that tokio does not ask again whether more is there.
pub(super) struct Tokio {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: [u8; 256],
}

impl Tokio {
    pub(super) async fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, request: CONNECT.to_vec(), buffer: [0; 256] };
        socket.round_trip().await?;
        socket.request = request();
        Ok(socket)
    }

    pub(super) async fn round_trip(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.request).await?;
        let mut here = 0;
        while here < ANSWER {
            match self.stream.read(&mut self.buffer).await? {
                0 => return Err("the broker has closed".into()),
                count => here += count,
            }
        }
        Ok(())
    }
}

/// A socket of the runtimes with the traits of `futures`.
struct Futures<S> {
    stream: S,
    request: Vec<u8>,
    buffer: [u8; 256],
}

impl<S: ::smol::io::AsyncRead + ::smol::io::AsyncWrite + Unpin> Futures<S> {
    async fn over(stream: S) -> Result<Self, Failure> {
        let mut socket = Self { stream, request: CONNECT.to_vec(), buffer: [0; 256] };
        socket.round_trip().await?;
        socket.request = request();
        Ok(socket)
    }

    async fn round_trip(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.request).await?;
        let mut here = 0;
        while here < ANSWER {
            match self.stream.read(&mut self.buffer).await? {
                0 => return Err("the broker has closed".into()),
                count => here += count,
            }
        }
        Ok(())
    }
}

pub(super) fn tokio(told: Job) -> Result<Times, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = mqtt_machine_tokio::Client::connect(clients::tokio::options(job(told))?).await?;
        let message = clients::tokio::message(job(told))?;
        let mut raw = Tokio::connect(told.port).await?;
        let times =
            alternate(told, async || publish(&client, &message).await, async || raw.round_trip().await);
        let times = times.await?;
        client.disconnect().await?;
        Ok(times)
    })
}

pub(super) fn smol(told: Job) -> Result<Times, Failure> {
    let executor = ::smol::LocalExecutor::new();
    ::smol::block_on(executor.run(async {
        let options = clients::tokio::options(job(told))?;
        let (client, driver) = mqtt_machine_smol::Client::with_driver(options)?;
        let driving = executor.spawn(driver);
        client.connected().await?;
        let message = clients::tokio::message(job(told))?;
        let stream = ::smol::net::TcpStream::connect(("127.0.0.1", told.port)).await?;
        stream.set_nodelay(true)?;
        let mut raw = Futures::over(stream).await?;
        let times =
            alternate(told, async || publish(&client, &message).await, async || raw.round_trip().await);
        let times = times.await?;
        client.disconnect().await?;
        driving.await;
        Ok(times)
    }))
}

pub(super) fn async_std(told: Job) -> Result<Times, Failure> {
    ::async_std::task::block_on(async {
        let client = mqtt_machine_async_std::Client::connect(clients::tokio::options(job(told))?).await?;
        let message = clients::tokio::message(job(told))?;
        let stream = ::async_std::net::TcpStream::connect(("127.0.0.1", told.port)).await?;
        stream.set_nodelay(true)?;
        let mut raw = Futures::over(stream).await?;
        let times =
            alternate(told, async || publish(&client, &message).await, async || raw.round_trip().await);
        let times = times.await?;
        client.disconnect().await?;
        Ok(times)
    })
}
