//! Owns the running of a simulation: what happens now, in which order, and when something happens next.
//! It must not know why a test does what it does.

use core::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::packet::{Packet, Sender};
use mqtt_machine::{
    Action, Answer, Instant, Output, ProtocolVersion, Server, TransportEvent, TransportId, wire,
};

use super::client::{Client, Process};
use super::link::{Link, Phase, Pipe};
use super::{Sim, options};
use crate::broker::{Broker, ConnId};
use crate::invariants::{Invariant, Violation};

/// Running.
impl Sim {
    /// Does everything that can happen now, then jumps to the earliest wake-up. False when there is none.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        let mut rounds = 0_u32;
        while self.drive() {
            rounds += 1;
            if rounds > 100_000 {
                let detail = "there is always more to do and time stands still";
                self.stuck.get_or_insert(Violation::new(Invariant::Progress, self.now, detail));
                return false;
            }
        }
        let Some(next) = self.next_wake() else { return false };
        self.now = self.now.max(next);
        true
    }

    /// Runs for so long.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until `is_true`, or for `at_most`; whether it came true. The clock ends at the earlier of the two.
    pub fn run_until(&mut self, at_most: Duration, mut is_true: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + at_most;
        loop {
            let mut rounds = 0_u32;
            while self.drive() && rounds < 100_000 {
                rounds += 1;
                if is_true(self) {
                    return true;
                }
            }
            if is_true(self) {
                return true;
            }
            self.steps += 1;
            match self.next_wake() {
                Some(next) if next <= end && rounds < 100_000 => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return false;
                }
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let clients = self.clients.iter().flat_map(Client::deadlines);
        let links = self.links.iter().flat_map(Link::due);
        // What has arrived and is not read waits for the client, not for time.
        let later = clients.chain(links).filter(|at| *at > self.now);
        let brokers = core::iter::once(&self.broker).chain(&self.others);
        let brokers = brokers.filter_map(Broker::poll_timeout);
        later.chain(brokers).min().filter(|at| *at < Instant::from_micros(u64::MAX))
    }

    pub(super) fn link_of(&self, client: usize) -> Option<usize> {
        let id = self.clients[client].transport?;
        self.links.iter().position(|link| link.client == client && link.id == id)
    }

    pub(super) fn latency(&mut self) -> Duration {
        self.random.duration(self.options.latency.clone())
    }

    /// Everything that can happen now, once; false when nothing did.
    fn drive(&mut self) -> bool {
        let mut any = false;
        for broker in core::iter::once(&mut self.broker).chain(&mut self.others) {
            if broker.poll_timeout().is_some_and(|at| at <= self.now) {
                broker.handle_timeout(self.now);
            }
        }
        for client in 0..self.clients.len() {
            any |= self.wake(client);
            if !self.clients[client].is_running() {
                continue;
            }
            any |= self.clients[client].take_timeout(self.now);
            any |= self.clients[client].come_back(self.now);
            any |= self.clients[client].take_due(self.now);
            any |= self.do_actions(client);
            any |= self.write(client);
            any |= self.clients[client].take_events(self.now, &mut self.random);
        }
        for at in 0..self.links.len() {
            any |= self.open(at);
            any |= self.deliver_up(at);
            any |= self.deliver_down(at);
        }
        any |= self.broker_output();
        self.links.retain(|link| !(link.client_done && link.broker_done));
        any
    }

    /// A process that was suspended goes on, one that crashed begins again, when it is time.
    fn wake(&mut self, client: usize) -> bool {
        match self.clients[client].process {
            Process::Suspended { until } if until <= self.now => {
                self.note(|sim| format!("{}: wakes", sim.name(client)));
                self.clients[client].process = Process::Running;
                self.excuse(|link| link.client == client);
                true
            }
            Process::Down { since, until } if until <= self.now => {
                self.clients[client].restart(self.now, since, &mut self.random);
                self.note(|sim| format!("{}: begins again", sim.name(client)));
                true
            }
            _ => false,
        }
    }

    fn do_actions(&mut self, client: usize) -> bool {
        let mut any = false;
        while let Some(action) = self.clients[client].machine.poll_action() {
            any = true;
            match action {
                Action::Prepare { id, server, .. } => {
                    let server = server.unwrap_or_else(|| options::server(0));
                    let initial_data = self.begin_exchange(client);
                    let answer = Answer::Prepared { id, server, credentials: None, initial_data };
                    self.clients[client].machine.answer(self.now, answer);
                }
                Action::OpenTransport { id, server } => self.begin_open(client, id, &server),
                Action::CloseTransport { id } => self.close_link(client, id),
                Action::Store { seq, record } => {
                    let due = self.now + self.random.duration(self.options.store.clone());
                    let last = self.clients[client].records.last().map_or(due, |(last, ..)| *last);
                    self.clients[client].records.push((due.max(last), seq, record));
                }
                Action::Authenticate { id, finished, data } => self.prove(client, id, finished, &data),
                // An action that the simulation does not know yet.
                _ => {}
            }
        }
        any
    }

    fn close_link(&mut self, client: usize, id: TransportId) {
        let due = self.now + self.latency() + self.random.duration(self.options.straggle.clone());
        let late = self.options.late_input;
        // What it still says may come too late to keep the connection alive.
        self.excuse(|link| link.client == client && link.id == id);
        let own = |link: &Link| link.client == client && link.id == id;
        if let Some(at) = self.links.iter().position(own) {
            if self.is_layered(at) {
                self.farewell(client, at);
            }
            let link = &mut self.links[at];
            link.client_done = true;
            link.broker_done |= link.phase != Phase::Open;
            link.up.delay(due);
            link.up.finish(due);
            // What the driver had read, or still reads, under a name that is over.
            let client = &mut self.clients[client];
            let rest = link.down.take(Instant::from_micros(u64::MAX), usize::MAX).filter(|_| late);
            if let Some(rest) = rest {
                client.machine.handle_input(self.now, id, &mut BytesMut::from(&rest[..]));
                client.machine.handle_sent(self.now, id, rest.len());
                client.machine.handle_transport(self.now, id, TransportEvent::Closed(None));
            }
        }
        self.clients[client].transport.take_if(|transport| *transport == id);
    }

    fn begin_open(&mut self, client: usize, id: TransportId, server: &Server) {
        let door = options::place_of(server, self.doors.len());
        let down = self.doors.get(door).is_some_and(|until| *until > self.now);
        self.note(|sim| format!("{}: opens a link to server {door}", sim.name(client)));
        let fails = down || self.refuse > 0 || self.random.one_in(self.options.refuse_one_in);
        self.refuse = self.refuse.saturating_sub(1);
        let at = self.now + self.latency() + self.latency();
        let budget = match &self.options.break_after {
            Some(range) if self.options.breaks > 0 => {
                self.options.breaks -= 1;
                Some(self.random.range(range.clone()))
            }
            _ => None,
        };
        let conn = ConnId::new(self.next_conn);
        self.next_conn += 1;
        let version = self.clients[client].config.version;
        let (near, far) = self.ways.as_mut().map(|ways| ways.link(version)).unzip();
        self.links.push(Link {
            client,
            id,
            conn,
            door,
            phase: Phase::Opening { at, fails },
            up: Pipe::default(),
            down: Pipe::default(),
            client_done: false,
            broker_done: false,
            budget,
            far,
        });
        let mark = self.random.size(self.options.mark.clone());
        let client = &mut self.clients[client];
        client.transport = Some(id);
        client.output = Output::with_mark(mark);
        client.pending.clear();
        client.input.clear();
        client.near = near;
        client.ending = None;
    }

    fn open(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        let Phase::Opening { at: when, fails } = link.phase else { return false };
        if when > self.now || link.client_done || !self.clients[link.client].is_running() {
            return false;
        }
        link.phase = Phase::Open;
        if fails {
            link.client_done = true;
            link.broker_done = true;
            let machine = &mut self.clients[link.client].machine;
            machine.handle_transport(self.now, link.id, TransportEvent::OpenFailed("refused".into()));
            return true;
        }
        let (client, conn, door, now) = (link.client, link.conn, link.door, self.now);
        self.opened(at);
        if self.random.one_in(self.options.forget_one_in) {
            let client_id = self.client_ids[client].clone();
            self.note(|_| format!("the broker forgets the session of {client_id}"));
            self.broker_at(door).forget_session(&client_id);
        }
        self.broker_at(door).open(now, conn);
        true
    }

    /// Fills the client's output and puts a part of it on the link.
    fn write(&mut self, client: usize) -> bool {
        let Some(at) = self.link_of(client) else { return false };
        if !self.links[at].takes_output() {
            return false;
        }
        let owner = &mut self.clients[client];
        if owner.pending.is_empty() {
            if owner.near.as_ref().is_none_or(|near| near.is_ready()) {
                owner.machine.transmit(self.now, &mut owner.output);
            }
            let bytes = owner.output.copy_to_bytes(owner.output.remaining());
            let version = owner.config.version;
            self.note_packets(client, "->", version, Sender::Client, &bytes);
            self.sink(at, &bytes);
        }
        let room = self.options.capacity.saturating_sub(self.links[at].up.len());
        let chunk = self.random.size(self.options.chunk.clone());
        let owner = &mut self.clients[client];
        let count = chunk.min(room).min(owner.pending.len());
        if count == 0 {
            return false;
        }
        let bytes = owner.pending.split_to(count).freeze();
        let own = owner.near.as_mut().map_or(count, |near| near.wrote(count));
        owner.machine.handle_sent(self.now, self.links[at].id, own);
        let due = self.now + self.latency();
        // On a link that broke, what the client still says is lost.
        if self.links[at].up.is_whole() {
            self.links[at].up.push(due, bytes);
        }
        true
    }

    /// Writes down what whole packets there are at the front of some bytes.
    fn note_packets(
        &mut self,
        client: usize,
        arrow: &str,
        version: ProtocolVersion,
        sender: Sender,
        mut bytes: &[u8],
    ) {
        if self.trace.is_none() {
            return;
        }
        while let Ok(Some(header)) = wire::frame_header(bytes, u32::MAX) {
            let Some((frame, rest)) = bytes.split_at_checked(header.frame_len()) else { return };
            match wire::decode(frame, version, sender) {
                Ok(packet) => {
                    let packet = describe(&packet);
                    self.note(|sim| format!("{} {arrow} {packet}", sim.name(client)));
                }
                Err(error) => self.note(|sim| format!("{} {arrow} {error}", sim.name(client))),
            }
            bytes = rest;
        }
    }

    fn deliver_up(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        if link.broker_done || link.phase != Phase::Open {
            return false;
        }
        let (conn, door, now) = (link.conn, link.door, self.now);
        if self.broker_at(door).is_congested(conn) {
            return false;
        }
        let link = &mut self.links[at];
        if let Some(bytes) = link.up.take(now, usize::MAX) {
            let (arrive, breaks) = link.spend(bytes.len());
            let bytes = self.inward(at, bytes.slice(..arrive));
            self.broker_at(door).handle_input(now, conn, &bytes);
            if breaks {
                self.break_link(at);
            }
            return true;
        }
        let ended = link.up.has_ended(now);
        if ended {
            link.broker_done = true;
            self.broker_at(door).closed(now, conn);
        }
        ended
    }

    fn deliver_down(&mut self, at: usize) -> bool {
        let most = self.random.size(self.options.chunk.clone());
        let link = &mut self.links[at];
        if link.client_done || link.phase != Phase::Open {
            return false;
        }
        let client = &mut self.clients[link.client];
        if !client.is_running() {
            return false;
        }
        let capacity = client.machine.read_capacity();
        if capacity > 0 && !client.input.is_empty() && client.transport == Some(link.id) {
            let before = client.input.len();
            client.machine.handle_input(self.now, link.id, &mut client.input);
            if client.input.len() != before {
                return true;
            }
        }
        if self.is_layered(at) {
            return self.deliver_through(at, most);
        }
        let link = &mut self.links[at];
        let client = &mut self.clients[link.client];
        if let Some(bytes) = link.down.take(self.now, most.min(capacity)) {
            let (arrive, breaks) = link.spend(bytes.len());
            client.input.extend_from_slice(&bytes[..arrive]);
            let (owner, id) = (link.client, link.id);
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
            link.client_done = true;
            client.transport.take_if(|transport| *transport == link.id);
            link.up.finish(self.now);
            let event = TransportEvent::Closed(Some("the link is gone".into()));
            client.machine.handle_transport(self.now, link.id, event);
        }
        ended
    }

    /// Writes down what a client has read.
    pub(super) fn note_input(&mut self, client: usize) {
        if self.trace.is_some() {
            let (bytes, version) = (self.clients[client].input.clone(), self.clients[client].config.version);
            self.note_packets(client, "<-", version, Sender::Server, &bytes);
        }
    }

    pub(super) fn break_link(&mut self, at: usize) {
        let (client_notice, broker_notice) = (
            self.random.duration(self.options.notice.clone()),
            self.random.duration(self.options.notice.clone()),
        );
        let link = &mut self.links[at];
        self.broken.insert(link.conn);
        link.up.break_off(self.now + broker_notice);
        link.down.break_off(self.now + client_notice);
    }

    fn broker_output(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.links.len() {
            let link = &self.links[at];
            if link.broker_done || link.phase != Phase::Open || link.down.len() >= self.options.capacity {
                continue;
            }
            let (conn, door) = (link.conn, link.door);
            let bytes: Bytes = self.broker_at(door).poll_output(conn);
            if !bytes.is_empty() {
                any = true;
                self.outward(at, bytes);
            }
        }
        for door in 0..=self.others.len() {
            any |= self.broker_closes(door);
        }
        any
    }

    fn broker_closes(&mut self, door: usize) -> bool {
        let mut any = false;
        while let Some(conn) = self.broker_at(door).poll_close() {
            any = true;
            let due = self.now + self.latency();
            if let Some(at) = self.links.iter().position(|link| link.conn == conn) {
                self.close_far(at);
                self.links[at].broker_done = true;
                self.links[at].down.finish(due);
            }
        }
        any
    }
}

/// A packet in a few words.
fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(publish) => {
            let text = String::from_utf8_lossy(publish.payload);
            let dup = if publish.dup { ", DUP" } else { "" };
            let id = publish.packet_id.map(|id| format!(" {id}")).unwrap_or_default();
            let (qos, text) = (publish.qos, text.trim_end_matches('.').trim_end());
            format!("PUBLISH{id} {text:?} QoS {qos} on {}{dup}", publish.topic)
        }
        Packet::Ack(ack) => format!("{} {} {:?}", ack.kind.packet_type(), ack.packet_id, ack.reason),
        Packet::Connect(connect) => format!("CONNECT clean start {}", connect.clean_start),
        Packet::ConnAck(connack) => {
            format!("CONNACK {:?}, session present {}", connack.reason, connack.session_present)
        }
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
        other => other.packet_type().to_string(),
    }
}
