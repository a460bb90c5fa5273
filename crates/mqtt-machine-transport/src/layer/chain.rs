//! Owns the composition of layers into one, and every passing of bytes between them. It must not know which layers there
//! are.

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::{Layer, LayerError, LayerKind, LayerState, MARK};

/// An empty buffer that is larger is given back.
const IDLE_ROOM: usize = 4 << 10;

/// The layers between a socket and the core as one state machine.
///
/// 1. When the socket is open, [`handle_open`](Self::handle_open).
/// 2. Hand what was read to [`handle_input`](Self::handle_input); the plaintext goes to the core. An end of the socket
///    goes to [`handle_end`](Self::handle_end).
/// 3. Hand the core's output to [`handle_output`](Self::handle_output).
/// 4. After each of these, also after an error, write what [`transmit`](Self::transmit) gives: any input can produce
///    output.
///
/// The core hears that its transport is open once [`state`](Self::state) is [`LayersState::Open`], and that it is closed
/// once the state is [`LayersState::PeerClosed`], or an error came. There is no deadline: nothing here waits.
///
/// Without layers ([`is_plain`](Self::is_plain)) an adapter goes past all this and moves bytes between its socket and the
/// core's own buffers. Used nevertheless, the methods pass the bytes on.
///
/// The memory in use is bounded: for each layer, about 64 KiB towards the server and one record or header from it.
#[derive(Debug)]
pub struct Layers {
    /// The lowest first.
    stages: Vec<Stage>,
    /// What lies below each stage; there is one also when there is no stage.
    borders: Vec<Border>,
    phase: Phase,
}

#[derive(Debug)]
struct Stage {
    layer: Box<dyn Layer>,
    told: Told,
}

/// What a stage was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// To start.
    Start,
    /// That nothing more comes from below.
    End,
}

/// Bytes between a layer and the one below it, or the socket.
#[derive(Default)]
struct Border {
    /// On their way up; at the lowest border the caller holds them.
    input: BytesMut,
    /// On their way down.
    output: BytesMut,
}

impl fmt::Debug for Border {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials and payload pass here, so only how much of them.
        write!(f, "Border {{ input: {}, output: {} }}", self.input.len(), self.output.len())
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// The socket is not open yet.
    New,
    Running,
    /// The server ended its direction, without a layer that could tell.
    PlainEnd,
    Failed(LayerError),
    /// Closed from here.
    Closed,
}

/// Where the layers stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayersState {
    /// This layer's handshake is under way, or its turn comes when the socket is open.
    Handshaking(LayerKind),
    /// Every handshake is done: plaintext passes.
    Open,
    /// The server has properly ended its direction: no more plaintext comes.
    PeerClosed,
    /// Closed from here, or failed.
    Closed,
}

impl Layers {
    /// No layers: bytes pass as they are.
    pub fn new() -> Self {
        Self { stages: Vec::new(), borders: vec![Border::default()], phase: Phase::New }
    }

    /// With `layer` above those that are there; to be called before the socket is open.
    #[must_use]
    pub fn with(mut self, layer: Box<dyn Layer>) -> Self {
        if !self.stages.is_empty() {
            self.borders.reserve_exact(1);
            self.borders.push(Border::default());
        }
        // They are few, and no more come.
        self.stages.reserve_exact(1);
        self.stages.push(Stage { layer, told: Told::Nothing });
        self
    }

    /// Whether there is no layer, or none any more and nothing waits here: from then on, bytes may go past this.
    pub fn is_plain(&self) -> bool {
        self.stages.is_empty() && !self.wants_transmit()
    }

    /// Where they stand.
    pub fn state(&self) -> LayersState {
        match self.phase {
            Phase::Failed(_) | Phase::Closed => return LayersState::Closed,
            Phase::PlainEnd => return LayersState::PeerClosed,
            Phase::New | Phase::Running => {}
        }
        let mut state = LayersState::Open;
        for stage in &self.stages {
            match stage.layer.state() {
                LayerState::Handshaking => return LayersState::Handshaking(stage.layer.kind()),
                LayerState::Open | LayerState::Done => {}
                LayerState::PeerClosed => state = LayersState::PeerClosed,
                LayerState::Closed => return LayersState::Closed,
            }
        }
        state
    }

    /// The socket is open: the lowest layer begins.
    ///
    /// # Errors
    /// Why a layer cannot begin.
    pub fn handle_open(&mut self) -> Result<(), LayerError> {
        if matches!(self.phase, Phase::New) {
            self.phase = Phase::Running;
        }
        self.handle_input(&mut BytesMut::new(), &mut BytesMut::new())
    }

    /// Takes what was read from the socket and appends to `plaintext` what it carries for the core. Some bytes may stay in
    /// `input` until others came behind them: append to it what is read next.
    ///
    /// # Errors
    /// Why a layer failed; the same again at every later call. What stands in `plaintext` came before and counts, and
    /// [`transmit`](Self::transmit) may still have something for the server.
    pub fn handle_input(&mut self, input: &mut BytesMut, plaintext: &mut BytesMut) -> Result<(), LayerError> {
        match &self.phase {
            Phase::New => return Ok(()),
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Closed | Phase::PlainEnd => {
                input.clear();
                return Ok(());
            }
            Phase::Running => {}
        }
        let result = self.rise(input, plaintext, More::MayCome);
        self.finish(result)
    }

    /// The server has ended its direction of the socket.
    ///
    /// # Errors
    /// [`LayerError::Truncated`] with the layer that was not at its end.
    pub fn handle_end(&mut self) -> Result<(), LayerError> {
        match &self.phase {
            Phase::New | Phase::Closed | Phase::PlainEnd => return Ok(()),
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Running => {}
        }
        if self.stages.is_empty() {
            self.phase = Phase::PlainEnd;
            return Ok(());
        }
        let result = self.rise(&mut BytesMut::new(), &mut BytesMut::new(), More::Never);
        self.finish(result)
    }

    /// Takes bytes from the core. Takes nothing before the layers are open, while 64 KiB wait to be written, and after the
    /// end; what it does not take stays in `plaintext`.
    ///
    /// Many small packets at once cost less than each by itself: every call makes at least one frame or record.
    ///
    /// # Errors
    /// Why a layer failed.
    pub fn handle_output(&mut self, plaintext: &mut impl Buf) -> Result<(), LayerError> {
        match &self.phase {
            Phase::New | Phase::Closed => return Ok(()),
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Running | Phase::PlainEnd => {}
        }
        if !matches!(self.state(), LayersState::Open | LayersState::PeerClosed) {
            return Ok(());
        }
        let result = self.take(plaintext);
        self.finish(result)
    }

    /// Moves what is for the socket behind the end of `out`, without a copy when `out` is empty: a caller that has written
    /// everything before it asks again keeps `out` bounded.
    pub fn transmit(&mut self, out: &mut BytesMut) {
        if let Some(border) = self.borders.first_mut() {
            move_bytes(&mut border.output, out);
        }
        if matches!(self.phase, Phase::Running) {
            // What waited above for room here.
            let result = self.sink();
            let _ = self.finish(result);
        }
        for border in &mut self.borders {
            if border.output.is_empty() && border.output.capacity() > IDLE_ROOM {
                border.output = BytesMut::new();
            }
        }
    }

    /// Whether [`transmit`](Self::transmit) has something for the socket.
    pub fn wants_transmit(&self) -> bool {
        self.borders.first().is_some_and(|border| !border.output.is_empty())
    }

    /// Ends every layer properly, the highest first; after an error, those below the one that failed. After it, write what
    /// [`transmit`](Self::transmit) gives until nothing is left, then shut the socket down; nothing more is taken from either
    /// side.
    pub fn close(&mut self) {
        let top = match self.phase {
            Phase::Running => self.stages.len(),
            // It says itself that nothing passes it any more.
            Phase::Failed(_) => {
                let mut stages = self.stages.iter();
                stages.position(|stage| stage.layer.state() == LayerState::Closed).unwrap_or_default()
            }
            Phase::New | Phase::PlainEnd | Phase::Closed => 0,
        };
        for at in (0..top).rev() {
            if let (Some(stage), Some(border)) = (self.stages.get_mut(at), self.borders.get_mut(at)) {
                stage.layer.handle_close(&mut border.output);
            }
            // Little, so that it goes whatever already waits below.
            if self.sink_past_the_mark(at).is_err() {
                break;
            }
        }
        if !matches!(self.phase, Phase::Failed(_)) {
            self.phase = Phase::Closed;
        }
    }

    /// Gives the buffers back that nothing stands in: for when nothing comes for a while.
    pub fn shrink(&mut self) {
        for buffer in self.borders.iter_mut().flat_map(|border| [&mut border.input, &mut border.output]) {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// The memory of the buffers here, in bytes, without what the layers' own states need.
    pub fn memory_used(&self) -> usize {
        let used = |border: &Border| border.input.capacity().saturating_add(border.output.capacity());
        self.borders.iter().map(used).fold(0, usize::saturating_add)
    }

    fn finish(&mut self, result: Result<(), LayerError>) -> Result<(), LayerError> {
        if let Err(error) = &result {
            // An alert still has to get down.
            let _ = self.sink();
            self.phase = Phase::Failed(error.clone());
        }
        result
    }

    /// Bytes on their way up, then what they made the layers say on its way down.
    fn rise(
        &mut self,
        input: &mut BytesMut,
        plaintext: &mut BytesMut,
        mut more: More,
    ) -> Result<(), LayerError> {
        let mut at = 0_usize;
        while at < self.stages.len() {
            self.rise_through(at, input, plaintext)?;
            if more == More::Never {
                self.tell_end(at)?;
            }
            match self.stages.get(at).map(|stage| stage.layer.state()) {
                Some(LayerState::Done) if at == 0 => {
                    // The next layer begins in this very step.
                    self.stages.remove(0);
                    if self.borders.len() > 1 {
                        self.borders.remove(1);
                    }
                    continue;
                }
                Some(LayerState::Handshaking) => break,
                Some(LayerState::PeerClosed | LayerState::Closed) => more = More::Never,
                // Not the lowest, it stays and passes on, also what it left.
                Some(LayerState::Done) => self.rise_through(at, input, plaintext)?,
                Some(LayerState::Open) | None => {}
            }
            at = at.saturating_add(1);
        }
        if self.stages.is_empty() {
            move_bytes(input, plaintext);
        }
        self.sink()
    }

    /// Starts the layer `at` when its turn has come, and gives it what is there.
    fn rise_through(
        &mut self,
        at: usize,
        input: &mut BytesMut,
        plaintext: &mut BytesMut,
    ) -> Result<(), LayerError> {
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        let mut borders = self.borders.iter_mut().skip(at);
        let Some(Border { input: own, output: below }) = borders.next() else { return Ok(()) };
        let input = if at == 0 { input } else { own };
        let above = borders.next().map_or(plaintext, |border| &mut border.input);
        if stage.told == Told::Nothing {
            stage.told = Told::Start;
            stage.layer.start(below)?;
        }
        if input.is_empty() { Ok(()) } else { stage.layer.handle_input(input, above, below) }
    }

    /// Tells the layer `at`, once, that nothing more comes from below: then it has to be at its own end.
    fn tell_end(&mut self, at: usize) -> Result<(), LayerError> {
        let (Some(stage), Some(border)) = (self.stages.get_mut(at), self.borders.get_mut(at)) else {
            return Ok(());
        };
        if stage.told != Told::End {
            stage.told = Told::End;
            stage.layer.handle_end(&mut border.output)?;
        }
        match stage.layer.state() {
            LayerState::PeerClosed | LayerState::Closed => Ok(()),
            _ => Err(LayerError::Truncated(stage.layer.kind())),
        }
    }

    /// Bytes of the core on their way down.
    fn take(&mut self, plaintext: &mut impl Buf) -> Result<(), LayerError> {
        while plaintext.has_remaining() {
            let before = plaintext.remaining();
            let top = self.stages.len().saturating_sub(1);
            let Some(border) = self.borders.get_mut(top) else { break };
            match self.stages.get_mut(top) {
                Some(stage) => stage.layer.handle_output(plaintext, &mut border.output)?,
                None => {
                    let room = MARK.saturating_sub(border.output.len());
                    border.output.put(plaintext.take(room));
                }
            }
            self.sink()?;
            if plaintext.remaining() == before {
                break;
            }
        }
        Ok(())
    }

    /// What every layer has for the one below it, as far as that one has room.
    fn sink(&mut self) -> Result<(), LayerError> {
        (1..self.stages.len()).rev().try_for_each(|at| self.sink_from(at))
    }

    /// What the layer `at` has for the one below it.
    fn sink_from(&mut self, at: usize) -> Result<(), LayerError> {
        let lower = at.saturating_sub(1);
        let Some(stage) = self.stages.get_mut(lower) else { return Ok(()) };
        let mut borders = self.borders.iter_mut().skip(lower);
        let (Some(below), Some(border)) = (borders.next(), borders.next()) else { return Ok(()) };
        if border.output.is_empty() || stage.layer.state() == LayerState::Handshaking {
            return Ok(());
        }
        stage.layer.handle_output(&mut border.output, &mut below.output)
    }

    /// Everything from the layer `from` down, whatever waits below: what waits is set aside, so there is room.
    fn sink_past_the_mark(&mut self, from: usize) -> Result<(), LayerError> {
        for at in (1..=from).rev() {
            loop {
                let waiting = self.borders.get(at).map_or(0, |border| border.output.len());
                let lower = at.saturating_sub(1);
                let Some(border) = self.borders.get_mut(lower) else { break };
                let aside = std::mem::take(&mut border.output);
                let result = self.sink_from(at);
                if let Some(border) = self.borders.get_mut(lower) {
                    let new = std::mem::replace(&mut border.output, aside);
                    border.output.unsplit(new);
                }
                result?;
                let left = self.borders.get(at).map_or(0, |border| border.output.len());
                if left == 0 || left == waiting {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether more can come from below.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    MayCome,
    Never,
}

/// Moves `from` behind the end of `to`, without a copy when `to` is empty.
pub(crate) fn move_bytes(from: &mut BytesMut, to: &mut BytesMut) {
    if to.is_empty() {
        std::mem::swap(from, to);
    } else {
        to.extend_from_slice(from);
    }
    from.clear();
}
