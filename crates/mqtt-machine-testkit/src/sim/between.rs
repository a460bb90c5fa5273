//! Owns what lies between a machine and its link, and between the link and its broker: the two ends of the same layers, and
//! how bytes pass through them. It must not know which layers there are.

use core::fmt;

use bytes::{Bytes, BytesMut};
use mqtt_machine::{ProtocolVersion, TransportEvent};

use super::Sim;
use super::link::Phase;
use crate::invariants::{Invariant, Violation};

/// How much is read at once as long as the machine does not take bytes.
const HANDSHAKE_READ: usize = 16 << 10;

/// Makes the two ends for each link.
pub(super) trait Ways: fmt::Debug + Send {
    /// The ends of a link over which this version is spoken.
    fn link(&mut self, version: ProtocolVersion) -> (Box<dyn Near>, Box<dyn Far>);
}

/// What has changed at the client's end.
#[derive(Debug)]
#[cfg_attr(not(feature = "layers"), allow(dead_code, reason = "without layers, nobody says so"))]
pub(super) enum Turn {
    Nothing,
    /// Plaintext passes from now on.
    Opened,
    /// The server ended it properly.
    Ended,
    /// The link ended in the middle of it.
    Cut(String),
    /// A layer found something wrong, which an honest server gives no reason for.
    Failed(String),
}

/// The client's end, above the link and below the machine.
pub(super) trait Near: fmt::Debug + Send {
    /// The link is open.
    fn open(&mut self) -> Turn;
    /// Whether it takes plaintext now.
    fn is_ready(&self) -> bool;
    /// Whether plaintext passes.
    fn is_open(&self) -> bool;
    /// Whether plaintext ever passed.
    fn was_open(&self) -> bool;
    /// Whether there is nothing left to do, so that bytes may go past it.
    fn is_spent(&self) -> bool;
    /// Takes plaintext, and appends to `wire` what is for the link.
    fn sink(&mut self, plaintext: &[u8], wire: &mut BytesMut) -> Turn;
    /// So many bytes went on the link: how many bytes of plaintext have left with them.
    fn wrote(&mut self, count: usize) -> usize;
    /// Takes bytes from the link, and appends what they carry to `plaintext`.
    fn rise(&mut self, bytes: &[u8], plaintext: &mut BytesMut) -> Turn;
    /// The link has ended.
    fn end(&mut self) -> Turn;
    /// Ends it from here: the last bytes for the link.
    fn close(&mut self) -> Bytes;
}

/// The server's end, below the broker.
pub(super) trait Far: fmt::Debug + Send {
    /// Takes bytes from the link: what they carry for the broker.
    fn receive(&mut self, bytes: &[u8]) -> Bytes;
    /// Takes plaintext of the broker.
    fn send(&mut self, plaintext: &[u8]);
    /// Ends it properly.
    fn close(&mut self);
    /// What is for the link.
    fn output(&mut self) -> Bytes;
    /// What the client did wrong here.
    fn complaint(&self) -> Option<String>;
}

/// The client's end.
impl Sim {
    /// The link is open: the machine is told when what lies between is, too.
    pub(super) fn opened(&mut self, at: usize) {
        let (client, id) = (self.links[at].client, self.links[at].id);
        let client = &mut self.clients[client];
        match &mut client.near {
            None => client.machine.handle_transport(self.now, id, TransportEvent::Opened),
            Some(near) => {
                let turn = near.open();
                self.turn(at, turn);
            }
        }
    }

    /// Plaintext of a client goes down, and what is for the link to its driver's hands.
    pub(super) fn sink(&mut self, at: usize, plaintext: &[u8]) {
        let client = self.links[at].client;
        let client = &mut self.clients[client];
        match &mut client.near {
            None => client.pending.extend_from_slice(plaintext),
            Some(near) => {
                let turn = near.sink(plaintext, &mut client.pending);
                self.turn(at, turn);
            }
        }
    }

    fn turn(&mut self, at: usize, turn: Turn) {
        let (client, id) = (self.links[at].client, self.links[at].id);
        let client = &mut self.clients[client];
        match turn {
            Turn::Nothing => {}
            Turn::Opened => client.machine.handle_transport(self.now, id, TransportEvent::Opened),
            over => {
                client.ending.get_or_insert(over);
            }
        }
    }

    /// Whether what arrives on this link passes through layers.
    pub(super) fn is_layered(&self, at: usize) -> bool {
        let link = &self.links[at];
        let client = &self.clients[link.client];
        client.near.is_some() && client.transport == Some(link.id)
    }

    /// At most `most` bytes of what has arrived on a link with layers; false when nothing happened.
    pub(super) fn deliver_through(&mut self, at: usize, most: usize) -> bool {
        let link = &mut self.links[at];
        let (owner, id) = (link.client, link.id);
        let client = &mut self.clients[owner];
        if client.ending.is_some() {
            return self.near_is_over(at);
        }
        let Some(near) = &mut client.near else { return false };
        let capacity = if near.is_open() { client.machine.read_capacity() } else { HANDSHAKE_READ };
        if let Some(bytes) = link.down.take(self.now, most.min(capacity)) {
            let (arrive, breaks) = link.spend(bytes.len());
            let turn = near.rise(&bytes[..arrive], &mut client.input);
            if near.is_spent() {
                client.near = None;
            }
            self.turn(at, turn);
            self.note_input(owner);
            let client = &mut self.clients[owner];
            client.machine.handle_input(self.now, id, &mut client.input);
            if breaks {
                self.break_link(at);
            }
            return true;
        }
        let ended = link.down.has_ended(self.now);
        if ended {
            client.ending = Some(near.end());
        }
        ended
    }

    /// Tells the machine of the end, once it has taken what came before.
    fn near_is_over(&mut self, at: usize) -> bool {
        let (owner, id) = (self.links[at].client, self.links[at].id);
        let client = &mut self.clients[owner];
        if client.machine.is_paused() && !client.input.is_empty() {
            return false;
        }
        let was_open = client.near.as_ref().is_none_or(|near| near.was_open());
        let why = match client.ending.take() {
            Some(Turn::Cut(why)) => Some(why),
            Some(Turn::Failed(why)) => {
                let detail = format!("a layer failed with an honest server: {why}");
                self.stuck.get_or_insert(Violation::new(Invariant::Client, self.now, detail));
                Some(why)
            }
            _ => None,
        };
        self.farewell(owner, at);
        let client = &mut self.clients[owner];
        client.transport.take_if(|transport| *transport == id);
        let event = if was_open {
            TransportEvent::Closed(why)
        } else {
            TransportEvent::OpenFailed(why.unwrap_or_else(|| "the server closed the connection".into()))
        };
        client.machine.handle_transport(self.now, id, event);
        self.links[at].client_done = true;
        self.links[at].up.finish(self.now);
        true
    }

    /// What the layers of a client say last, unless its driver is still in the middle of something.
    pub(super) fn farewell(&mut self, client: usize, at: usize) {
        let due = self.now + self.latency();
        let client = &mut self.clients[client];
        client.ending = None;
        let Some(mut near) = client.near.take() else { return };
        let last = near.close();
        let link = &mut self.links[at];
        if client.pending.is_empty() && link.phase == Phase::Open && link.up.is_whole() && !last.is_empty() {
            link.up.push(due, last);
        }
    }
}

/// The server's end.
impl Sim {
    /// What arrived for a broker: what it carries.
    pub(super) fn inward(&mut self, at: usize, bytes: Bytes) -> Bytes {
        let Some(far) = &mut self.links[at].far else { return bytes };
        let plaintext = far.receive(&bytes);
        if let Some(complaint) = far.complaint() {
            let detail = format!("the server's layers complain: {complaint}");
            self.stuck.get_or_insert(Violation::new(Invariant::Client, self.now, detail));
        }
        self.answer_of_layers(at);
        plaintext
    }

    /// What a broker says, on the link.
    pub(super) fn outward(&mut self, at: usize, bytes: Bytes) {
        match &mut self.links[at].far {
            None => self.push_down(at, bytes),
            Some(far) => {
                far.send(&bytes);
                self.answer_of_layers(at);
            }
        }
    }

    /// A broker closes: one in two does it properly.
    pub(super) fn close_far(&mut self, at: usize) {
        let proper = self.links[at].far.is_some() && self.random.one_in(2);
        if let Some(far) = self.links[at].far.as_mut().filter(|_| proper) {
            far.close();
            self.answer_of_layers(at);
        }
    }

    fn answer_of_layers(&mut self, at: usize) {
        let bytes = self.links[at].far.as_mut().map(|far| far.output()).unwrap_or_default();
        if !bytes.is_empty() {
            self.push_down(at, bytes);
        }
    }

    fn push_down(&mut self, at: usize, bytes: Bytes) {
        let due = self.now + self.latency();
        // On a link that broke, what the broker still says is lost.
        if self.links[at].down.is_whole() {
            self.links[at].down.push(due, bytes);
        }
    }
}
