//! Owns WebSocket as a layer (RFC 6455): the upgrade, frames, pings and closing. It must not know MQTT's packets, nor what
//! lies below.
//!
//! The headers of frames, the close codes and the accept key are tungstenite's; what passes between them is our own, for
//! three reasons. A frame's payload goes up as it comes, so no frame has to fit into memory and no limit stands between a
//! server and its packets. The bytes to mask are copied once. And masks come from a [`Randomness`] of the caller's choice, so
//! that a connection can be replayed byte for byte, which tungstenite's own masks would not allow.

mod random;
mod upgrade;

use std::fmt;
use std::io::Cursor;

use bytes::{Buf, BufMut, BytesMut};
pub use random::{NoRandomness, Randomness};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
pub use upgrade::{UpgradeRequest, WebSocketOptions};

use self::random::Masks;
use self::upgrade::Upgrade;
use crate::endpoint::Authority;
use crate::error::ConfigError;
use crate::http::{Head, HeadError};
use crate::layer::{Layer, LayerError, LayerKind, LayerState, MARK, WebSocketError, move_bytes, quoted};

/// The longest payload of a ping, pong or close frame.
const CONTROL_PAYLOAD: u64 = 125;
/// The longest header of a frame.
const HEADER: usize = 14;

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
/// What a close frame without a code stands for.
const NO_CODE: u16 = 1005;

/// The layer that speaks WebSocket.
///
/// Every call from above makes one binary frame of what is there, of at most 64 KiB; an MQTT packet may lie across
/// several frames and a frame may hold several. [MQTT-6.0.0-2] Pings are answered, except while 64 KiB wait to be sent.
pub struct WebSocket {
    phase: Phase,
    masks: Masks,
}

enum Phase {
    Upgrading(Box<(Upgrade, Head)>),
    Open(Reading),
    PeerClosed,
    Closed,
}

/// Where in the server's frames we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// Bytes of a data frame's payload that are still to come.
    left: u64,
    message: Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// Its last frame has begun, or none is there.
    Last,
    /// More frames of it follow.
    Continues,
}

impl WebSocket {
    /// Asks `server` for `target`, a path with an optional query; `secure` tells whether TLS lies below.
    ///
    /// # Errors
    /// A [`ConfigError`] when the request cannot be written or was not signed.
    pub fn new(
        options: &WebSocketOptions,
        server: &Authority,
        target: &str,
        secure: bool,
    ) -> Result<Self, ConfigError> {
        let upgrade = Upgrade::new(options, server, target, secure)?;
        let masks = Masks::new(options.source().clone());
        Ok(Self { phase: Phase::Upgrading(Box::new((upgrade, Head::default()))), masks })
    }

    /// Takes frames while they are whole enough.
    fn read_frames(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), WebSocketError> {
        while let Phase::Open(reading) = &mut self.phase {
            if reading.left > 0 {
                let here = usize::try_from(reading.left).unwrap_or(usize::MAX).min(input.len());
                if here == 0 {
                    break;
                }
                reading.left = reading.left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
                if here == input.len() {
                    move_bytes(input, above);
                } else {
                    above.extend_from_slice(&input.split_to(here));
                }
                continue;
            }
            let Some((header, length, payload)) = parse_header(input)? else { break };
            match header.opcode {
                OpCode::Data(kind) => {
                    *reading = begin_data(*reading, kind, &header, length)?;
                    input.advance(payload);
                }
                OpCode::Control(kind) => {
                    if length > CONTROL_PAYLOAD || !header.is_final {
                        return Err(WebSocketError::Protocol("a control frame is long or in fragments"));
                    }
                    let end = payload.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
                    if input.len() < end {
                        break;
                    }
                    let mut frame = input.split_to(end);
                    frame.advance(payload);
                    self.read_control(kind, &frame, below)?;
                }
            }
        }
        if !matches!(self.phase, Phase::Open(_)) {
            input.clear();
        }
        Ok(())
    }

    fn read_control(
        &mut self,
        kind: Control,
        payload: &[u8],
        below: &mut BytesMut,
    ) -> Result<(), WebSocketError> {
        match kind {
            Control::Ping if below.len() < MARK => self.write(Control::Pong, payload, below),
            Control::Ping | Control::Pong | Control::Reserved(_) => Ok(()),
            Control::Close => {
                let (code, reason) = match payload {
                    [] => (NO_CODE, ""),
                    [high, low, reason @ ..] => {
                        let reason = std::str::from_utf8(reason)
                            .map_err(|_| WebSocketError::Protocol("a close reason is not UTF-8"))?;
                        (u16::from_be_bytes([*high, *low]), reason)
                    }
                    [_] => return Err(WebSocketError::Protocol("a close frame holds half a code")),
                };
                self.write(Control::Close, payload.get(..2).unwrap_or_default(), below)?;
                self.phase = Phase::PeerClosed;
                match code {
                    NORMAL | GOING_AWAY | NO_CODE => Ok(()),
                    code => Err(WebSocketError::Closed { code, reason: quoted(reason) }),
                }
            }
        }
    }

    /// Writes a control frame.
    fn write(&mut self, kind: Control, payload: &[u8], below: &mut BytesMut) -> Result<(), WebSocketError> {
        self.write_frame(OpCode::Control(kind), payload.len(), &mut &*payload, below)
    }

    /// Writes a frame of `length` bytes of `payload`, masked as a client has to.
    fn write_frame(
        &mut self,
        opcode: OpCode,
        length: usize,
        payload: &mut dyn Buf,
        below: &mut BytesMut,
    ) -> Result<(), WebSocketError> {
        let mask = self.masks.next().map_err(|NoRandomness| WebSocketError::NoRandomness)?;
        let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
        below.reserve(length.saturating_add(HEADER));
        let wire_length = u64::try_from(length).unwrap_or(u64::MAX);
        header
            .format(wire_length, &mut below.writer())
            .map_err(|_| WebSocketError::Protocol("a frame header cannot be written"))?;
        let start = below.len();
        below.put(payload.take(length));
        apply_mask(below.get_mut(start..).unwrap_or_default(), mask);
        Ok(())
    }

    /// Fails with a close frame that says why.
    fn fail(&mut self, error: WebSocketError, below: &mut BytesMut) -> LayerError {
        let code = match &error {
            WebSocketError::Protocol(_) => Some(PROTOCOL_ERROR),
            WebSocketError::TextFrame => Some(UNSUPPORTED_DATA),
            _ => None,
        };
        if let (Some(code), Phase::Open(_)) = (code, &self.phase) {
            // There is nobody left to tell when this fails too.
            let _ = self.write(Control::Close, &code.to_be_bytes(), below);
        }
        self.phase = Phase::Closed;
        error.into()
    }
}

/// The header at the start of the input, the payload's length, and where the payload starts; `None` until it is whole.
fn parse_header(input: &BytesMut) -> Result<Option<(FrameHeader, u64, usize)>, WebSocketError> {
    let mut cursor = Cursor::new(input.get(..HEADER.min(input.len())).unwrap_or_default());
    let parsed = FrameHeader::parse(&mut cursor)
        .map_err(|_| WebSocketError::Protocol("a frame has a reserved opcode"))?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let size = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(WebSocketError::Protocol("a frame uses an extension that was not asked for"));
    }
    if header.mask.is_some() {
        return Err(WebSocketError::Protocol("a frame of the server is masked"));
    }
    if header.len(length) != size || length > u64::MAX >> 1 {
        return Err(WebSocketError::Protocol("a frame has its length in the wrong form"));
    }
    Ok(Some((header, length, size)))
}

fn begin_data(
    reading: Reading,
    kind: Data,
    header: &FrameHeader,
    length: u64,
) -> Result<Reading, WebSocketError> {
    match (kind, reading.message) {
        (Data::Text, _) => Err(WebSocketError::TextFrame),
        (Data::Binary, Message::Last) | (Data::Continue, Message::Continues) => Ok(Reading {
            left: length,
            message: if header.is_final { Message::Last } else { Message::Continues },
        }),
        (Data::Binary, Message::Continues) => {
            Err(WebSocketError::Protocol("a message begins within another"))
        }
        (Data::Continue, Message::Last) => {
            Err(WebSocketError::Protocol("a frame continues a message that has not begun"))
        }
        (Data::Reserved(_), _) => Err(WebSocketError::Protocol("a frame has a reserved opcode")),
    }
}

/// Eight bytes at a time; the mask has four.
fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

impl Layer for WebSocket {
    fn kind(&self) -> LayerKind {
        LayerKind::WebSocket
    }

    fn state(&self) -> LayerState {
        match self.phase {
            Phase::Upgrading(_) => LayerState::Handshaking,
            Phase::Open(_) => LayerState::Open,
            Phase::PeerClosed => LayerState::PeerClosed,
            Phase::Closed => LayerState::Closed,
        }
    }

    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError> {
        if let Phase::Upgrading(upgrading) = &mut self.phase {
            below.unsplit(std::mem::take(&mut upgrading.0.request));
        }
        Ok(())
    }

    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), LayerError> {
        if let Phase::Upgrading(upgrading) = &mut self.phase {
            let (upgrade, head) = &mut **upgrading;
            let answer = match head.handle_input(input) {
                Ok(None) => return Ok(()),
                Ok(Some(answer)) => upgrade.accepts(answer),
                Err(HeadError::TooLong) => Err(WebSocketError::HeadTooLong),
                Err(HeadError::NotHttp) => Err(WebSocketError::NotHttp),
            };
            if let Err(error) = answer {
                return Err(self.fail(error, below));
            }
            self.phase = Phase::Open(Reading { left: 0, message: Message::Last });
        }
        self.read_frames(input, above, below).map_err(|error| self.fail(error, below))
    }

    fn handle_end(&mut self, _below: &mut BytesMut) -> Result<(), LayerError> {
        match self.phase {
            Phase::PeerClosed | Phase::Closed => Ok(()),
            Phase::Upgrading(_) | Phase::Open(_) => {
                self.phase = Phase::Closed;
                Err(LayerError::Truncated(LayerKind::WebSocket))
            }
        }
    }

    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError> {
        if !matches!(self.phase, Phase::Open(_)) || !plaintext.has_remaining() {
            return Ok(());
        }
        let length = MARK.saturating_sub(below.len()).min(plaintext.remaining());
        if length == 0 {
            return Ok(());
        }
        self.write_frame(OpCode::Data(Data::Binary), length, plaintext, below)
            .map_err(|error| self.fail(error, below))
    }

    fn handle_close(&mut self, below: &mut BytesMut) {
        if matches!(self.phase, Phase::Open(_)) {
            // Without a mask there is no frame, and the socket's end says the same.
            let _ = self.write(Control::Close, &NORMAL.to_be_bytes(), below);
        }
        self.phase = Phase::Closed;
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The request holds tokens.
        f.debug_struct("WebSocket").field("state", &self.state()).finish_non_exhaustive()
    }
}
