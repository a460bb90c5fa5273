//! Layers of somebody's own, and what holds for their composition whatever they are.

use bytes::{Buf, BufMut, BytesMut};
use mqtt_machine_transport::{Layer, LayerError, LayerKind, LayerState, Layers, LayersState};

/// Greets, waits for a greeting, then turns every byte round. Ends at a zero.
#[derive(Debug)]
struct Mirror {
    name: &'static str,
    state: LayerState,
}

impl Mirror {
    fn boxed(name: &'static str) -> Box<dyn Layer> {
        Box::new(Self { name, state: LayerState::Handshaking })
    }
}

impl Layer for Mirror {
    fn kind(&self) -> LayerKind {
        LayerKind::Custom(self.name)
    }

    fn state(&self) -> LayerState {
        self.state
    }

    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError> {
        below.put_u8(!b'?');
        Ok(())
    }

    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), LayerError> {
        while input.has_remaining() {
            match (self.state, !input.get_u8()) {
                (LayerState::Handshaking, b'!') => self.state = LayerState::Open,
                (LayerState::Open, 0) => self.state = LayerState::PeerClosed,
                (LayerState::Open, b'#') => below.put_u8(!b'#'),
                (LayerState::Open, byte) => above.put_u8(byte),
                (_, byte) => return Err(LayerError::Custom(format!("{}: {byte}", self.name))),
            }
        }
        Ok(())
    }

    fn handle_end(&mut self, _below: &mut BytesMut) -> Result<(), LayerError> {
        Ok(())
    }

    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError> {
        while self.state == LayerState::Open && plaintext.has_remaining() && below.len() < 100 {
            below.put_u8(!plaintext.get_u8());
        }
        Ok(())
    }

    fn handle_close(&mut self, below: &mut BytesMut) {
        below.put_u8(!0);
        self.state = LayerState::Closed;
    }
}

fn read(layers: &mut Layers, bytes: &[u8]) -> (Result<(), LayerError>, BytesMut) {
    let (mut input, mut plaintext) = (BytesMut::from(bytes), BytesMut::new());
    (layers.handle_input(&mut input, &mut plaintext), plaintext)
}

fn written(layers: &mut Layers) -> Vec<u8> {
    let mut out = BytesMut::new();
    layers.transmit(&mut out);
    out.to_vec()
}

fn two() -> Layers {
    let mut layers = Layers::new().with(Mirror::boxed("lower")).with(Mirror::boxed("upper"));
    assert_eq!(layers.state(), LayersState::Handshaking(LayerKind::Custom("lower")));
    assert!(!layers.wants_transmit(), "nothing before the socket is open");
    layers.handle_open().unwrap();
    layers
}

#[test]
fn the_next_layer_begins_in_the_step_that_finishes_the_one_below() {
    let mut layers = two();
    assert_eq!(written(&mut layers), [!b'?']);
    let (result, _) = read(&mut layers, &[!b'!']);
    assert_eq!((result, layers.state()), (Ok(()), LayersState::Handshaking(LayerKind::Custom("upper"))));
    assert_eq!(written(&mut layers), [b'?'], "turned round twice");
    // Its answer, with the first plaintext behind it and a question for each layer, in one read.
    let (result, plaintext) = read(&mut layers, &[b'!', b'x', b'#', !b'#', b'y']);
    assert_eq!((result, layers.state()), (Ok(()), LayersState::Open));
    assert_eq!(plaintext, &b"xy"[..]);
    let mut answers = written(&mut layers);
    answers.sort_unstable();
    assert_eq!(answers, [b'#', !b'#']);
}

#[test]
fn nothing_is_taken_before_all_are_open_and_no_more_than_they_have_room_for() {
    let mut layers = two();
    let mut early = &b"early"[..];
    layers.handle_output(&mut early).unwrap();
    assert_eq!(early, b"early");
    read(&mut layers, &[!b'!', b'!']).0.unwrap();
    written(&mut layers);

    let many = vec![7; 1_000];
    let mut rest = &many[..];
    let mut arrived = Vec::new();
    while arrived.len() < many.len() {
        layers.handle_output(&mut rest).unwrap();
        let now = written(&mut layers);
        assert!((1..=300).contains(&now.len()), "{}", now.len());
        arrived.extend(now);
    }
    assert_eq!(arrived, many);
    assert!(!layers.wants_transmit());
}

#[test]
fn closing_ends_every_layer_behind_everything_that_was_taken() {
    let mut layers = two();
    read(&mut layers, &[!b'!', b'!']).0.unwrap();
    written(&mut layers);
    let mut bytes = &[7; 150][..];
    layers.handle_output(&mut bytes).unwrap();
    let taken = 150 - bytes.len();
    layers.close();
    let mut all = Vec::new();
    while layers.wants_transmit() {
        all.extend(written(&mut layers));
    }
    assert_eq!(all, [&vec![7; taken][..], &[0, !0]].concat());
    assert_eq!(layers.state(), LayersState::Closed);
    layers.handle_output(&mut bytes).unwrap();
    layers.close();
    let (result, plaintext) = read(&mut layers, b"late");
    assert_eq!((result, plaintext.len(), layers.wants_transmit()), (Ok(()), 0, false));
}

#[test]
fn an_end_is_proper_only_when_every_layer_is_at_its_own() {
    let open = || {
        let mut layers = two();
        read(&mut layers, &[!b'!', b'!']).0.unwrap();
        layers
    };
    let mut layers = open();
    // The last plaintext, the upper layer's end and the lower's, in one read.
    let (result, plaintext) = read(&mut layers, &[b'z', 0, !0]);
    assert_eq!((result, plaintext, layers.state()), (Ok(()), BytesMut::from("z"), LayersState::PeerClosed));
    layers.handle_end().unwrap();

    let mut layers = open();
    let (result, plaintext) = read(&mut layers, &[b'z', !0]);
    let cut = LayerError::Truncated(LayerKind::Custom("upper"));
    assert_eq!((result, plaintext), (Err(cut.clone()), BytesMut::from("z")));
    assert_eq!(layers.handle_end(), Err(cut.clone()), "an error stays");
    assert_eq!(read(&mut layers, b"x").0, Err(cut));

    let mut layers = open();
    assert_eq!(layers.handle_end(), Err(LayerError::Truncated(LayerKind::Custom("lower"))));
    let mut layers = two();
    assert_eq!(layers.handle_end(), Err(LayerError::Truncated(LayerKind::Custom("lower"))));
    assert_eq!(
        two().with(Mirror::boxed("late")).state(),
        LayersState::Handshaking(LayerKind::Custom("lower"))
    );
}

#[test]
fn without_layers_bytes_pass_as_they_are() {
    let mut layers = Layers::default();
    assert!(layers.is_plain());
    layers.handle_open().unwrap();
    assert_eq!(layers.state(), LayersState::Open);
    let mut bytes = &b"out"[..];
    layers.handle_output(&mut bytes).unwrap();
    assert_eq!(written(&mut layers), b"out");
    let (result, plaintext) = read(&mut layers, b"in");
    assert_eq!((result, plaintext), (Ok(()), BytesMut::from("in")));
    let (mut input, mut plaintext) = (BytesMut::from("in its place"), BytesMut::new());
    let place = input.as_ptr();
    layers.handle_input(&mut input, &mut plaintext).unwrap();
    assert_eq!((&plaintext[..], plaintext.as_ptr()), (&b"in its place"[..], place));
    layers.handle_end().unwrap();
    assert_eq!(layers.state(), LayersState::PeerClosed);
    let mut last = &b"half-closed"[..];
    layers.handle_output(&mut last).unwrap();
    assert_eq!(written(&mut layers), b"half-closed");
}
