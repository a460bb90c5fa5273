//! Owns one transport's layers and the bytes on both sides of them: what was read and is not plaintext yet, and what is
//! plaintext and not written yet. It must not know the machine, sockets or locks.

use std::fmt;

use bytes::{Buf, BytesMut};
use mqtt_machine::Output;
use mqtt_machine_transport::{LayerError, Layers, LayersState};

/// How much is read at once as long as the machine does not take bytes: records of a handshake.
pub const HANDSHAKE_READ: usize = 16 << 10;

/// Layers with their buffers. Plaintext goes in below the machine and comes out above the socket.
///
/// [`Driver`](crate::Driver) and [`Stack`](crate::Stack) have one inside; it is here for those who drive a machine of another
/// kind, as a simulator does.
pub struct Pipe {
    layers: Layers,
    /// From the socket, not yet taken by the layers.
    pub raw: BytesMut,
    /// From the machine, not yet taken by the layers.
    pub plain: Output,
    /// What the layers have for the socket, on its way to the output.
    wire: BytesMut,
    /// How many bytes of the output have not been written.
    unwritten: usize,
    /// How many bytes of plaintext stand for them.
    taken: usize,
    stage: Stage,
    /// Whether plaintext has ever passed.
    was_open: bool,
}

/// What the one who holds a pipe was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshaking,
    Open,
    Over,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    Nothing,
    /// The handshakes are done.
    Opened,
    /// The server has properly ended its direction.
    Ended,
    /// A layer failed.
    Failed(LayerError),
}

impl Pipe {
    /// The socket is open, and the layers begin.
    pub fn new(layers: Layers) -> Self {
        Self {
            layers,
            raw: BytesMut::new(),
            plain: Output::new(),
            wire: BytesMut::new(),
            unwritten: 0,
            taken: 0,
            stage: Stage::Handshaking,
            was_open: false,
        }
    }

    /// Begins the handshake.
    pub fn open(&mut self) -> News {
        let result = self.layers.handle_open();
        self.news(result)
    }

    /// Whether plaintext passes.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether plaintext has ever passed.
    pub fn was_open(&self) -> bool {
        self.was_open
    }

    /// Whether the layers have gone and nothing waits in here: bytes may go past this from now on.
    pub fn is_spent(&self) -> bool {
        self.is_open()
            && self.unwritten == 0
            && self.layers.is_plain()
            && self.raw.is_empty()
            && !self.plain.has_remaining()
    }

    /// Lets what was read through to `plaintext`.
    pub fn rise(&mut self, plaintext: &mut BytesMut) -> News {
        if self.raw.is_empty() {
            return News::Nothing;
        }
        let result = self.layers.handle_input(&mut self.raw, plaintext);
        self.news(result)
    }

    /// The server has ended its direction of the socket.
    pub fn end(&mut self) -> News {
        match self.layers.handle_end() {
            // Without a layer that could tell, the end of the socket is the end.
            Ok(()) if self.stage != Stage::Over => {
                self.stage = Stage::Over;
                News::Ended
            }
            result => self.news(result),
        }
    }

    /// Lets plaintext and what the layers themselves have through to `output`, when all of it that was there before is
    /// written: so nobody can make it grow.
    pub fn sink(&mut self, output: &mut Output) -> News {
        if self.unwritten > 0 {
            return News::Nothing;
        }
        let before = self.plain.remaining();
        let result = self.layers.handle_output(&mut self.plain);
        self.taken = self.taken.saturating_add(before.saturating_sub(self.plain.remaining()));
        self.transmit();
        self.unwritten = self.wire.len();
        output.put(&mut self.wire);
        self.news(result)
    }

    /// Takes everything out of the layers: what they took from above stands in the output then, to the last byte.
    fn transmit(&mut self) {
        self.layers.transmit(&mut self.wire);
        while self.layers.wants_transmit() {
            self.layers.transmit(&mut self.wire);
        }
    }

    /// `count` bytes of the output were handed to the socket: how many bytes of plaintext have left with them.
    pub fn wrote(&mut self, count: usize) -> usize {
        self.unwritten = self.unwritten.saturating_sub(count);
        if self.unwritten == 0 { std::mem::take(&mut self.taken) } else { 0 }
    }

    /// Ends every layer properly; what is still to be written goes to `output`.
    pub fn close(&mut self, output: &mut Output) {
        self.stage = Stage::Over;
        self.layers.close();
        self.transmit();
        output.put(&mut self.wire);
    }

    /// Gives the buffers back that nothing stands in.
    pub fn shrink(&mut self) {
        if self.raw.is_empty() {
            self.raw = BytesMut::new();
        }
        self.wire = BytesMut::new();
        if !self.plain.has_remaining() {
            self.plain = Output::new();
        }
        self.layers.shrink();
    }

    fn news(&mut self, result: Result<(), LayerError>) -> News {
        if self.stage == Stage::Over {
            return News::Nothing;
        }
        if let Err(error) = result {
            self.stage = Stage::Over;
            return News::Failed(error);
        }
        match (self.layers.state(), self.stage) {
            (LayersState::Open, Stage::Handshaking) => {
                self.stage = Stage::Open;
                self.was_open = true;
                News::Opened
            }
            (LayersState::PeerClosed | LayersState::Closed, _) => {
                self.stage = Stage::Over;
                News::Ended
            }
            _ => News::Nothing,
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What passes may be secret, so only how much of it.
        f.debug_struct("Pipe")
            .field("layers", &self.layers)
            .field("stage", &self.stage)
            .field("raw", &self.raw.len())
            .field("plain", &self.plain)
            .field("unwritten", &self.unwritten)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
