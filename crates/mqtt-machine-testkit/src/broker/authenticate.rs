//! Owns enhanced authentication: the broker's side of SCRAM, for CONNECT and for clients that authenticate again.
//! It must not know the arithmetic, nor what follows when a client has proved who it is.

use bytes::BytesMut;
use mqtt_machine::packet::{Auth, Connect, Packet, Properties, PropertiesBuf, Property, PropertyId, Sender};
use mqtt_machine::{ProtocolVersion, ReasonCode, wire};
use mqtt_machine_scram::{Error, Mechanism, Server, Verifier};

use super::connection::{Connection, Exchange, State};
use super::{Broker, ConnId, Failure};

fn data_of<'a>(properties: Properties<'a>) -> &'a [u8] {
    match properties.find(PropertyId::AuthenticationData) {
        Some(Property::AuthenticationData(data)) => data,
        _ => &[],
    }
}

fn mechanism_named(properties: Properties<'_>) -> Option<Mechanism> {
    match properties.find(PropertyId::AuthenticationMethod)? {
        Property::AuthenticationMethod(name) => Mechanism::from_name(name),
        _ => None,
    }
}

impl Broker {
    /// The mechanism that a packet names, if it is spoken here.
    pub(super) fn mechanism_of(&self, properties: Properties<'_>) -> Option<Mechanism> {
        mechanism_named(properties).filter(|_| !self.config.scram_users.is_empty())
    }

    /// Takes the client's first message; the challenge.
    fn begin_exchange(
        &mut self,
        mechanism: Mechanism,
        properties: Properties<'_>,
        connect: BytesMut,
    ) -> Result<(Box<Exchange>, Vec<u8>), Error> {
        // A model need not be hard to guess, but it must be repeatable.
        let nonce = format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64());
        let salt = self.random.next_u64().to_le_bytes();
        let (users, iterations) = (&self.config.scram_users, self.config.scram_iterations);
        let verifier = |name: &str| Verifier::new(mechanism, users.get(name)?, &salt, iterations).ok();
        let (server, challenge) = Server::begin(data_of(properties), &nonce, verifier)?;
        Ok((Box::new(Exchange { connect, mechanism, server }), challenge))
    }

    /// The last message, signed as this broker signs.
    fn finish_exchange(&self, server: Server, proof: &[u8]) -> Result<Vec<u8>, Error> {
        let mut last = server.finish(proof)?;
        if self.config.scram_impostor
            && let Some(first) = last.get_mut(2)
        {
            *first = if *first == b'A' { b'B' } else { b'A' };
        }
        Ok(last)
    }

    fn send_auth(&mut self, conn: ConnId, reason: ReasonCode, mechanism: Mechanism, data: &[u8]) {
        let properties = PropertiesBuf::new()
            .with(Property::AuthenticationMethod(mechanism.name()))
            .and_then(|list| list.with(Property::AuthenticationData(data)))
            .unwrap_or_default();
        let auth = Auth { reason, properties: properties.as_properties() };
        self.send_as(conn, ProtocolVersion::V5, &Packet::Auth(auth));
    }

    /// Answers a CONNECT that begins an exchange.
    pub(super) fn challenge(&mut self, conn: ConnId, mechanism: Mechanism, connect: &Connect<'_>) {
        let mut kept = BytesMut::new();
        let encoded = wire::encode(&Packet::Connect(connect.clone()), connect.version, &mut kept);
        let begun = match encoded {
            Ok(()) => self.begin_exchange(mechanism, connect.properties, kept).ok(),
            Err(_) => None,
        };
        let Some((exchange, challenge)) = begun else {
            self.refuse(conn, connect.version, ReasonCode::NotAuthorized);
            return;
        };
        let deadline = self.now + self.config.connect_timeout;
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.state = State::Authenticating { deadline, exchange };
        }
        self.send_auth(conn, ReasonCode::ContinueAuthentication, mechanism, &challenge);
    }

    /// AUTH before CONNACK: the client's proof.
    pub(super) fn handle_proof(&mut self, conn: ConnId, auth: &Auth<'_>) -> Result<(), Failure> {
        let Some(connection) = self.conns.get_mut(&conn) else { return Ok(()) };
        let State::Authenticating { exchange, .. } =
            core::mem::replace(&mut connection.state, State::Closing)
        else {
            return Ok(());
        };
        let Exchange { connect, mechanism, server } = *exchange;
        let version = ProtocolVersion::V5;
        let expected = auth.reason == ReasonCode::ContinueAuthentication
            && mechanism_named(auth.properties) == Some(mechanism);
        if !expected {
            self.violation(conn, ReasonCode::ProtocolError, "AUTH of another exchange [MQTT-4.12.0-5]");
            self.refuse(conn, version, ReasonCode::ProtocolError);
            return Ok(());
        }
        match (
            self.finish_exchange(server, data_of(auth.properties)),
            wire::decode(&connect, version, Sender::Client),
        ) {
            (Ok(last), Ok(Packet::Connect(connect))) => {
                self.accept_connect(conn, &connect, Some((mechanism, &last)));
            }
            _ => self.refuse(conn, version, ReasonCode::NotAuthorized),
        }
        Ok(())
    }

    /// AUTH on a connection that was accepted: the client authenticates again.
    pub(super) fn handle_auth(&mut self, conn: ConnId, auth: &Auth<'_>) -> Result<(), Failure> {
        let running = self.conns.get_mut(&conn).and_then(Connection::running_mut);
        let Some(mechanism) = running.as_ref().and_then(|running| running.mechanism) else {
            return Err(Failure::new(
                ReasonCode::ProtocolError,
                "AUTH without an authentication method in CONNECT [MQTT-4.12.0-6]",
            ));
        };
        if mechanism_named(auth.properties) != Some(mechanism) {
            return Err(Failure::new(
                ReasonCode::ProtocolError,
                "AUTH with another method than CONNECT [MQTT-4.12.0-5] [MQTT-4.12.1-1]",
            ));
        }
        let waiting = running.and_then(|running| running.exchange.take());
        let said = match (auth.reason, waiting) {
            (ReasonCode::ReAuthenticate, None) => self
                .begin_exchange(mechanism, auth.properties, BytesMut::new())
                .map(|(exchange, challenge)| {
                    if let Some(running) = self.conns.get_mut(&conn).and_then(Connection::running_mut) {
                        running.exchange = Some(exchange);
                    }
                    (ReasonCode::ContinueAuthentication, challenge)
                }),
            (ReasonCode::ContinueAuthentication, Some(exchange)) => self
                .finish_exchange(exchange.server, data_of(auth.properties))
                .map(|last| (ReasonCode::Success, last)),
            _ => return Err(Failure::new(ReasonCode::ProtocolError, "AUTH out of turn")),
        };
        match said {
            Ok((reason, data)) => self.send_auth(conn, reason, mechanism, &data),
            Err(_) => {
                // A client that cannot prove itself breaks no rule.
                self.send_disconnect(conn, ReasonCode::NotAuthorized);
                self.shut(conn);
            }
        }
        Ok(())
    }
}
