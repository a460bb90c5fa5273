//! Owns TLS as a layer: records in, plaintext out, and back. It must not know sockets, nor what the plaintext means.
//!
//! rustls' own state machine does the protocol. It draws randomness and reads the clock (for the validity of
//! certificates) by the provider and the time source of its configuration, which are the system's unless a ready
//! [`rustls::ClientConfig`] brings others.

mod config;
mod keys;
mod map;

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
pub use config::{TlsClient, TlsOptions};
pub use keys::KeyError;
pub use rustls;
use rustls::HandshakeKind;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use crate::layer::{Layer, LayerError, LayerKind, LayerState, MARK, TlsError, move_bytes};

/// The most plaintext of one record.
const RECORD: usize = 16 << 10;
/// Room for what a record adds to its plaintext.
const OVERHEAD: usize = 64;
/// A chunk of at least this size, or the last one, is encrypted where it stands; smaller ones are gathered first.
const GATHER_BELOW: usize = 1 << 10;

/// The layer that speaks TLS as a client.
///
/// An end without `close_notify` is [`LayerError::Truncated`]. In TLS 1.3 a server may refuse the client certificate after
/// the handshake looks done here: the error comes from a later [`handle_input`](Layer::handle_input).
pub struct Tls {
    connection: UnbufferedClientConnection,
    /// Records that are not whole. rustls decrypts in it, so it stays between calls.
    input: BytesMut,
    phase: LayerState,
    certificate: ClientCertificate,
}

/// Whether the configuration has one to show, which tells what some alerts mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    None,
    Present,
}

impl Tls {
    /// A connection to the server of this name, or address.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(client: &TlsClient, server: ServerName<'static>) -> Result<Self, TlsError> {
        let config = Arc::clone(client.config());
        let certificate = if config.client_auth_cert_resolver.has_certs() {
            ClientCertificate::Present
        } else {
            ClientCertificate::None
        };
        let connection = UnbufferedClientConnection::new(config, server)
            .map_err(|error| map::error(error, certificate))?;
        Ok(Self { connection, input: BytesMut::new(), phase: LayerState::Handshaking, certificate })
    }

    /// Whether the handshake resumed an earlier session; `None` until it is done.
    pub fn is_resumed(&self) -> Option<bool> {
        self.connection.handshake_kind().map(|kind| kind == HandshakeKind::Resumed)
    }

    /// The protocol that ALPN agreed on.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Lets rustls go as far as it can. `write` is called once, where application data may be sent.
    fn drive(
        &mut self,
        above: &mut BytesMut,
        below: &mut BytesMut,
        mut write: impl FnMut(&mut WriteTraffic<'_, ClientConnectionData>, &mut BytesMut) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        loop {
            let there = self.input.len();
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.input);
            let next = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut failed = None;
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                // Room for all that is there at once: growing would copy what stands there.
                                above.reserve(
                                    there.saturating_sub(discard).saturating_add(record.payload.len()),
                                );
                                discard = discard.saturating_add(record.discard);
                                above.extend_from_slice(record.payload);
                            }
                            Err(error) => {
                                failed = Some(error);
                                break;
                            }
                        }
                    }
                    failed.map_or(Ok(Next::Again), Err)
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, below);
                    Ok(Next::Again)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It stands in `below`, which is as good as sent: order is kept from there on.
                    data.done();
                    Ok(Next::Again)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if self.phase == LayerState::Handshaking {
                        self.phase = LayerState::Open;
                    }
                    Ok(Next::Done(write(&mut traffic, below)))
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.phase = match self.phase {
                        LayerState::Closed => LayerState::Closed,
                        _ => LayerState::PeerClosed,
                    };
                    Ok(Next::Again)
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Next::Done(Ok(()))),
                // Early data is a server's state.
                Ok(_) => Ok(Next::Done(Ok(()))),
                Err(error) => Err(error),
            };
            self.input.advance(discard.min(self.input.len()));
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Done(result)) => return result,
                Err(error) => {
                    self.drain_alert(below);
                    return Err(map::error(error, self.certificate));
                }
            }
        }
    }

    /// After an error rustls still has the alert that tells the server. It is asked only while it has: any further it would
    /// look at the input again, of which nothing is certain any more.
    fn drain_alert(&mut self, below: &mut BytesMut) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, below),
                _ => break,
            }
        }
    }

    fn fail(&mut self, error: TlsError) -> LayerError {
        self.phase = LayerState::Closed;
        self.input = BytesMut::new();
        error.into()
    }
}

enum Next {
    Again,
    /// There is nothing more to do before something else comes.
    Done(Result<(), TlsError>),
}

/// How many bytes the record at the start still lacks; 0 when it is whole.
fn lacking(input: &[u8]) -> usize {
    const HEADER: usize = 5;
    match input {
        [_, _, _, high, low, rest @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(rest.len())
        }
        start => HEADER.saturating_sub(start.len()),
    }
}

/// Appends a record that is already encoded.
fn encode(data: &mut EncodeTlsData<'_, ClientConnectionData>, below: &mut BytesMut) {
    let start = below.len();
    let mut room = RECORD.saturating_add(OVERHEAD);
    // A record is never larger than a second try allows: it says itself what it needs.
    for _ in 0..2 {
        below.resize(start.saturating_add(room), 0);
        match data.encode(below.get_mut(start..).unwrap_or_default()) {
            Ok(length) => {
                below.truncate(start.saturating_add(length));
                return;
            }
            Err(EncodeError::InsufficientSize(error)) => room = error.required_size,
            Err(EncodeError::AlreadyEncoded) => break,
        }
    }
    below.truncate(start);
}

/// Appends what `seal` writes into the room that it is given, or asks for.
fn seal(
    below: &mut BytesMut,
    mut room: usize,
    mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let start = below.len();
    for _ in 0..2 {
        below.resize(start.saturating_add(room), 0);
        match seal(below.get_mut(start..).unwrap_or_default()) {
            Ok(length) => {
                below.truncate(start.saturating_add(length));
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(error)) => room = error.required_size,
            Err(EncryptError::EncryptExhausted) => break,
        }
    }
    below.truncate(start);
    Err(TlsError::Other("the keys of this connection are used up".to_owned()))
}

/// One record of what is there, straight from its place when that is worth it.
fn seal_record(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    plaintext: &mut dyn Buf,
    most: usize,
    below: &mut BytesMut,
) -> Result<(), TlsError> {
    let most = most.min(RECORD);
    let chunk = plaintext.chunk();
    let whole = chunk.len() >= GATHER_BELOW || chunk.len() == plaintext.remaining();
    let gathered;
    let record = if whole {
        chunk.get(..most).unwrap_or(chunk)
    } else {
        gathered = plaintext.copy_to_bytes(most.min(plaintext.remaining()));
        &gathered
    };
    let taken = if whole { record.len() } else { 0 };
    seal(below, record.len().saturating_add(OVERHEAD), |room| traffic.encrypt(record, room))?;
    plaintext.advance(taken);
    Ok(())
}

impl Layer for Tls {
    fn kind(&self) -> LayerKind {
        LayerKind::Tls
    }

    fn state(&self) -> LayerState {
        self.phase
    }

    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError> {
        self.drive(&mut BytesMut::new(), below, |_, _| Ok(())).map_err(|error| self.fail(error))
    }

    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), LayerError> {
        if matches!(self.phase, LayerState::PeerClosed | LayerState::Closed) {
            input.clear();
            return Ok(());
        }
        // What is left of an earlier read is made whole first, so that the rest of a large one is not copied behind it.
        while self.phase == LayerState::Open && !self.input.is_empty() && !input.is_empty() {
            let lacking = match lacking(&self.input) {
                0 => input.len(),
                lacking => lacking.min(input.len()),
            };
            self.input.extend_from_slice(&input.split_to(lacking));
            self.drive(above, below, |_, _| Ok(())).map_err(|error| self.fail(error))?;
        }
        if !input.is_empty() {
            move_bytes(input, &mut self.input);
            self.drive(above, below, |_, _| Ok(())).map_err(|error| self.fail(error))?;
        }
        if self.input.is_empty() || self.phase == LayerState::PeerClosed {
            // Its room serves the next read.
            self.input.clear();
            std::mem::swap(&mut self.input, input);
            self.input = BytesMut::new();
        }
        Ok(())
    }

    fn handle_end(&mut self, _below: &mut BytesMut) -> Result<(), LayerError> {
        match self.phase {
            LayerState::PeerClosed | LayerState::Closed => Ok(()),
            _ => {
                self.phase = LayerState::Closed;
                Err(LayerError::Truncated(LayerKind::Tls))
            }
        }
    }

    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError> {
        if !matches!(self.phase, LayerState::Open | LayerState::PeerClosed) || !plaintext.has_remaining() {
            return Ok(());
        }
        // Room for all of it at once: growing would copy what stands there.
        let most = MARK.saturating_sub(below.len()).min(plaintext.remaining());
        below.reserve(most.saturating_add(most.div_ceil(RECORD).saturating_mul(OVERHEAD)));
        // Everything whole was given up when it came, so nothing is read here.
        let result = self.drive(&mut BytesMut::new(), below, |traffic, below| {
            while plaintext.has_remaining() && below.len() < MARK {
                seal_record(traffic, plaintext, MARK.saturating_sub(below.len()), below)?;
            }
            Ok(())
        });
        result.map_err(|error| self.fail(error))
    }

    fn handle_close(&mut self, below: &mut BytesMut) {
        if matches!(self.phase, LayerState::Open | LayerState::PeerClosed) {
            // When it fails, the socket's end says the same.
            let _ = self.drive(&mut BytesMut::new(), below, |traffic, below| {
                seal(below, OVERHEAD, |room| traffic.queue_close_notify(room))
            });
        }
        self.phase = LayerState::Closed;
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("state", &self.phase).finish_non_exhaustive()
    }
}
