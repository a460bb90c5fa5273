//! Owns what a layer is: bytes from below in, bytes from above in, bytes for both out. It must not know what the bytes
//! mean, which layers there are, or what time it is.

mod chain;
mod error;

#[cfg(any(feature = "tls", feature = "websocket", feature = "proxy"))]
pub(crate) use chain::move_bytes;
pub use chain::{Layers, LayersState};
#[cfg(any(feature = "tls", feature = "websocket", feature = "proxy"))]
pub(crate) use error::quoted;
pub use error::{
    HttpProxyError, LayerError, LayerKind, Socks5Error, Socks5Reply, TlsAlert, TlsError, WebSocketError,
};

use std::fmt;

use bytes::{Buf, BytesMut};

/// A layer takes no more from above while this many bytes wait below it, so that nobody can make it grow.
pub(crate) const MARK: usize = 64 << 10;

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Its handshake is under way: it takes nothing from above and gives nothing to it.
    Handshaking,
    /// Bytes pass both ways.
    Open,
    /// Its handshake is done and it has nothing to do any more, as a proxy's: it is taken out, and the bytes that it
    /// left in its input are the next layer's.
    Done,
    /// The peer has properly ended its direction: nothing more comes from below.
    PeerClosed,
    /// Nothing passes any more in either direction.
    Closed,
}

/// One layer of bytes between a socket and the core, without a socket, a clock or a task.
///
/// Every method may produce bytes for below; they are appended to `below`, and whoever calls sends them. Nothing waits,
/// so there is no deadline either: a handshake that takes too long is cut off by the core's connect timeout.
///
/// [`Layers`] calls these methods in order: [`start`](Self::start) once, when everything below is open; then the others;
/// nothing more after an error, except that what stands in `below` is still sent (the alert that says why).
pub trait Layer: fmt::Debug + Send {
    /// Which layer it is, for errors.
    fn kind(&self) -> LayerKind;

    /// Where it stands now.
    fn state(&self) -> LayerState;

    /// Begins its handshake.
    ///
    /// # Errors
    /// Why it cannot.
    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError>;

    /// Takes bytes from below and appends what they carry to `above`, never more than a small multiple of the input.
    /// Bytes that need others behind them may stay in `input`; it is called again with them when there are more.
    ///
    /// # Errors
    /// Why the layer failed; what it appended to `above` before still counts.
    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), LayerError>;

    /// Everything from below has come: the peer ended its direction there, or the layer below told so.
    ///
    /// # Errors
    /// [`LayerError::Truncated`] when this layer was not at its own end.
    fn handle_end(&mut self, below: &mut BytesMut) -> Result<(), LayerError>;

    /// Takes bytes from above while the state allows it and fewer than 64 KiB wait in `below`; what it does not take
    /// stays in `plaintext`.
    ///
    /// # Errors
    /// Why the layer failed.
    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError>;

    /// Ends this direction properly: a close frame, a `close_notify`. The layer is closed after it.
    fn handle_close(&mut self, below: &mut BytesMut);
}
