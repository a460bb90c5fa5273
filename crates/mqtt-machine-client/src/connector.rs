//! Owns the type by which users of a polling adapter bring a transport of their own, as one macro: it is the adapter's, so that it
//! names the runtime's streams and can have more ways to be made, and its text is here. It must not know a runtime.

/// Writes an adapter's `Connector`, with its documentation before it.
///
/// `stream` are the traits that a stream of this runtime has; `socket` is the adapter's [`Socket`](crate::Network::Socket), and `own` makes
/// one of such a stream.
#[macro_export]
macro_rules! connector {
    ($(#[$about:meta])* stream: $read:ident + $write:ident, socket: $socket:ident, own: $own:path $(,)?) => {
        $(#[$about])*
        #[derive(Clone)]
        pub struct Connector(
            ::std::sync::Arc<
                dyn Fn($crate::Server) -> $crate::NetworkFuture<::std::io::Result<$socket>> + Send + Sync,
            >,
        );

        impl Connector {
            /// Opens by `open`, which is given the server whose turn it is. The machine's connect timeout bounds it: then the
            /// future is dropped.
            pub fn new<F, S>(open: impl Fn($crate::Server) -> F + Send + Sync + 'static) -> Self
            where
                F: ::std::future::Future<Output = ::std::io::Result<S>> + Send + 'static,
                S: $read + $write + Send + Unpin + 'static,
            {
                Self(::std::sync::Arc::new(move |server| {
                    let opening = open(server);
                    Box::pin(async move { Ok($own(opening.await?)) })
                }))
            }

            /// A stream that is open already. There is no other one: further attempts fail, so [`Backoff::NEVER`] goes well with
            /// it.
            ///
            /// [`Backoff::NEVER`]: ::mqtt_machine_client::Backoff::NEVER
            pub fn once(stream: impl $read + $write + Send + Unpin + 'static) -> Self {
                let stream = ::std::sync::Mutex::new(Some(stream));
                Self::new(move |_| {
                    let stream = stream.lock().unwrap_or_else(::std::sync::PoisonError::into_inner).take();
                    async move {
                        let used = "the stream was used before";
                        stream.ok_or_else(|| ::std::io::Error::new(::std::io::ErrorKind::NotConnected, used))
                    }
                })
            }

            pub(crate) fn open(
                &self,
                server: $crate::Server,
            ) -> $crate::NetworkFuture<::std::io::Result<$socket>> {
                (self.0)(server)
            }
        }

        impl ::std::fmt::Debug for Connector {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str("Connector(..)")
            }
        }
    };
}
