//! Owns what the faces of all polling adapters have in common, as one macro: the same names and behaviour in each. It must
//! not know a runtime: how a future is spawned is the adapter's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use crate::client::Client;
use crate::dial::Network;
use crate::error::ConnectError;

/// Waits for the first connection of a client that runs, for at most its connect deadline.
///
/// # Errors
/// As [`Client::connected`], and [`ConnectError::Timeout`] at the deadline.
pub async fn first_connection<N: Network>(client: &Client, network: &N) -> Result<(), ConnectError> {
    let deadline = Instant::now().checked_add(client.connect_deadline());
    let mut timer = deadline.map(|deadline| network.sleep_until(deadline));
    let mut connected = pin!(client.connected());
    poll_fn(|context| {
        if let Poll::Ready(result) = connected.as_mut().poll(context) {
            return Poll::Ready(result.map(|_| ()));
        }
        match timer.as_mut().map(|timer| timer.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(client.connect_timeout())),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Writes the face of an adapter that polls: `Client` with its ways to begin, and the one-shot helpers.
///
/// `crate_name` is the adapter's, for examples; `runtime` its [`Runtime`](crate::Runtime), a struct with the fields `options` and
/// `connector`; `spawn` a function that runs a future in the background, or tells why it cannot.
#[macro_export]
macro_rules! face {
    (crate_name: $name:literal, runtime: $runtime:ident, spawn: $spawn:path $(,)?) => {
        /// A client on this runtime: [`mqtt_machine_client::Client`](::mqtt_machine_client::Client), and the ways to begin.
        #[derive(Clone, Debug)]
        pub struct Client($crate::Client);

        impl Client {
            /// Connects, and returns after the first CONNACK. Failures that may pass are retried until the connect deadline
            /// (30 s unless [`Options::connect_deadline`](::mqtt_machine_client::Options) says otherwise). The client runs in a task of its own.
            ///
            /// # Errors
            /// [`ConnectError::Endpoint`](::mqtt_machine_client::ConnectError) for a URL that is none, `GaveUp` for a permanent
            /// refusal, `Transport` for a way to the server that cannot work (a file that is missing, a certificate that is not
            /// trusted), `Timeout` at the deadline, `Runtime` where no task can be spawned.
            pub async fn connect<O: $crate::IntoOptions>(options: O) -> Result<Self, $crate::ConnectError> {
                Self::first(options, None).await
            }

            /// As [`connect`](Self::connect), over transports of your own.
            ///
            /// # Errors
            /// As [`connect`](Self::connect).
            pub async fn connect_with<O: $crate::IntoOptions>(
                options: O,
                connector: Connector,
            ) -> Result<Self, $crate::ConnectError> {
                Self::first(options, Some(connector)).await
            }

            /// Returns at once and connects in the background, in a task of its own, without an end of attempts.
            ///
            /// # Errors
            /// As [`connect`](Self::connect), for what can be known at once.
            pub fn start<O: $crate::IntoOptions>(options: O) -> Result<Self, $crate::ConnectError> {
                Ok(Self::spawned(options, None)?.0)
            }

            /// As [`start`](Self::start), over transports of your own.
            ///
            /// # Errors
            /// As [`start`](Self::start).
            pub fn start_with<O: $crate::IntoOptions>(
                options: O,
                connector: Connector,
            ) -> Result<Self, $crate::ConnectError> {
                Ok(Self::spawned(options, Some(connector))?.0)
            }

            /// For those who do not want a task to be spawned: nothing happens unless the future is polled, within this
            /// runtime, until it ends with the client.
            ///
            /// # Errors
            /// As [`start`](Self::start), but for the runtime.
            pub fn with_driver<O: $crate::IntoOptions>(
                options: O,
            ) -> Result<(Self, impl ::std::future::Future<Output = ()> + Send + use<O>), $crate::ConnectError>
            {
                let (client, run, _) = Self::parts(options, None)?;
                Ok((client, run))
            }

            /// As [`with_driver`](Self::with_driver), over transports of your own.
            ///
            /// # Errors
            /// As [`with_driver`](Self::with_driver).
            pub fn with_driver_and_connector<O: $crate::IntoOptions>(
                options: O,
                connector: Connector,
            ) -> Result<(Self, impl ::std::future::Future<Output = ()> + Send + use<O>), $crate::ConnectError>
            {
                let (client, run, _) = Self::parts(options, Some(connector))?;
                Ok((client, run))
            }

            async fn first<O: $crate::IntoOptions>(
                options: O,
                connector: Option<Connector>,
            ) -> Result<Self, $crate::ConnectError> {
                let (client, runtime) = Self::spawned(options, connector)?;
                $crate::first_connection(&client.0, &runtime).await?;
                Ok(client)
            }

            fn spawned<O: $crate::IntoOptions>(
                options: O,
                connector: Option<Connector>,
            ) -> Result<(Self, $runtime), $crate::ConnectError> {
                let (client, run, runtime) = Self::parts(options, connector)?;
                $spawn(run)?;
                Ok((client, runtime))
            }

            fn parts<O: $crate::IntoOptions>(
                options: O,
                connector: Option<Connector>,
            ) -> Result<(Self, $crate::Run<$runtime>, $runtime), $crate::ConnectError> {
                let (client, driver) = $crate::Client::new(options.into_options()?)?;
                let runtime = $runtime { options: driver.socket_options().into(), connector };
                let run = $crate::Run::new(driver, runtime.clone());
                Ok((Self(client), run, runtime))
            }
        }

        impl ::std::ops::Deref for Client {
            type Target = $crate::Client;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        async fn connect_once<O: $crate::IntoOptions>(options: O) -> Result<Client, $crate::OneShotError> {
            let options = options.into_options()?;
            Ok(Client::connect::<$crate::Options>($crate::one_shot::options(options)).await?)
        }

        /// Connects, publishes one message, waits for its outcome and disconnects. Without a client identifier no session is
        /// left behind.
        ///
        /// ```no_run
        /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
        #[doc = concat!("use ", $name, "::{Message, QoS, publish_single};")]
        ///
        /// let message = Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce);
        /// println!("{:?}", publish_single("mqtt://localhost", message).await?);
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// # Errors
        /// `Connect`, or `Command` when the message can never be accepted. What the server says to it is the outcome.
        pub async fn publish_single<O: $crate::IntoOptions>(
            options: O,
            message: $crate::Message,
        ) -> Result<$crate::Outcome, $crate::OneShotError> {
            let outcomes = publish_multiple(options, [message]).await?;
            Ok(outcomes.into_iter().next().unwrap_or($crate::Outcome::Unknown))
        }

        /// Connects, publishes every message, waits for all outcomes and disconnects. The outcomes stand in the order of the
        /// messages.
        ///
        /// # Errors
        /// As [`publish_single`]; messages before one that can never be accepted are published all the same.
        pub async fn publish_multiple<O: $crate::IntoOptions>(
            options: O,
            messages: impl IntoIterator<Item = $crate::Message>,
        ) -> Result<Vec<$crate::Outcome>, $crate::OneShotError> {
            $crate::one_shot::publish(&*connect_once(options).await?, messages).await
        }

        /// Connects, subscribes to the filters, waits for so many messages and disconnects.
        ///
        /// ```no_run
        /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
        #[doc = concat!("use ", $name, "::{QoS, subscribe_simple};")]
        ///
        /// for message in subscribe_simple("mqtt://localhost", ["sensors/#"], QoS::AtLeastOnce, 3).await? {
        ///     println!("{} {}", message.topic, message.payload_lossy());
        /// }
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// # Errors
        /// `Connect`, `Subscribe` when no filter is granted, `Ended` when the client gives up connecting again.
        pub async fn subscribe_simple<O: $crate::IntoOptions, F: $crate::IntoFilter>(
            options: O,
            filters: impl IntoIterator<Item = F>,
            qos: $crate::QoS,
            count: usize,
        ) -> Result<Vec<$crate::Message>, $crate::OneShotError> {
            $crate::one_shot::take(&*connect_once(options).await?, filters, qos, count).await
        }

        /// Connects, subscribes to the filters, hands each message to `take` until that breaks, and disconnects. A message is
        /// acknowledged when `take` has returned.
        ///
        /// # Errors
        /// As [`subscribe_simple`].
        pub async fn subscribe_callback<O: $crate::IntoOptions, F: $crate::IntoFilter>(
            options: O,
            filters: impl IntoIterator<Item = F>,
            qos: $crate::QoS,
            take: impl FnMut($crate::Incoming) -> ::std::ops::ControlFlow<()>,
        ) -> Result<(), $crate::OneShotError> {
            $crate::one_shot::receive(&*connect_once(options).await?, filters, qos, take).await
        }
    };
}
