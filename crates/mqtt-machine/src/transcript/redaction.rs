//! Owns the secrets of a redacted recording: which bytes are secret, what stands for them in the machine, and where
//! the real ones belong. It must not know what is recorded.
//!
//! A placeholder has the length of its secret, and U+0000 where a user name has it, so that every length, every limit
//! and every check of the machine comes to the same. Secrets are found by decoding the packet that carries them, and
//! are exchanged in place.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::config::{Authentication, Config, Credentials};
use crate::interface::{Action, Answer, EndReason, Ended, Event};
use crate::machine::Machine;
use crate::packet::{Packet, PacketType, Properties, PropertiesBuf, Property, PropertyId, Sender};
use crate::types::{MAX_FIELD, ProtocolVersion, Secret, TransportId};
use crate::wire;

/// What stands for every byte of a secret.
pub(super) const PLACEHOLDER: u8 = b'x';
/// Of the body of a frame whose end has not come, the machine is shown so many bytes at most: so many a replay makes up.
pub(super) const MOST_HIDDEN: usize = 256 << 10;

/// The real secrets, for as long as the machine may ask for them.
pub(super) struct Vault {
    /// The configurations that the machine holds, each with the one that it stands for.
    configs: Vec<(Arc<Config>, Arc<Config>)>,
    /// What an answer said about an attempt.
    prepared: Option<Prepared>,
    /// The transport whose CONNECT has left.
    connected: Option<TransportId>,
    /// The client's steps of an authentication, in the order of their AUTH packets.
    steps: VecDeque<(TransportId, Secret)>,
    /// The server's steps, in the order of their actions.
    challenges: VecDeque<Secret>,
    /// The server's data in CONNACK, until the event that has its properties.
    greetings: VecDeque<(TransportId, Secret)>,
}

impl core::fmt::Debug for Vault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// What [`Answer::Prepared`] said beyond the server.
struct Prepared {
    id: TransportId,
    credentials: Option<Credentials>,
    initial_data: Option<Secret>,
}

/// The server's secrets that were exchanged in the caller's input, until they are put back.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    frames: Vec<HiddenFrame>,
    /// The length of the input without `beyond`.
    length: usize,
    /// How many bytes of the input are the body of a last frame whose end has not come, and which may hold a secret. The machine reads
    /// no more of such a frame than its header, but counts these: that they come is a sign of life.
    behind: usize,
    /// What follows them, past [`MOST_HIDDEN`]. The machine asks for it again, which may be more to read at once.
    beyond: BytesMut,
    /// Server's steps that the machine had not handed over before.
    challenges: usize,
}

impl Hidden {
    /// How many bytes at the end of the input are not to be recorded.
    pub(super) const fn behind(&self) -> usize {
        self.behind
    }
}

#[derive(Debug)]
struct HiddenFrame {
    kind: Kind,
    /// Where the frame begins.
    start: usize,
    /// Where its secret stood, and what it was.
    at: usize,
    secret: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ConnAck,
    Auth,
}

/// What the caller decides.
impl Vault {
    /// The configuration for the machine, and the vault behind it if it is to be redacted.
    pub(super) fn lock(config: Arc<Config>, redacted: bool) -> (Arc<Config>, Option<Self>) {
        if !redacted {
            return (config, None);
        }
        let mut vault = Self {
            configs: Vec::new(),
            prepared: None,
            connected: None,
            steps: VecDeque::new(),
            challenges: VecDeque::new(),
            greetings: VecDeque::new(),
        };
        (vault.keep(config), Some(vault))
    }

    /// The configuration that stands for `config` in the machine.
    fn keep(&mut self, config: Arc<Config>) -> Arc<Config> {
        let redacted = Arc::new(redacted(&config));
        self.configs.push((Arc::clone(&redacted), config));
        redacted
    }

    pub(super) fn reconfigure(&mut self, machine: &Machine, config: Arc<Config>) -> Arc<Config> {
        // What the machine is about to exchange comes to nobody's mind again, what is in force does.
        self.configs.retain(|(redacted, _)| Arc::ptr_eq(redacted, machine.config()));
        self.keep(config)
    }

    pub(super) fn answer(&mut self, machine: &Machine, answer: Answer) -> Answer {
        match answer {
            Answer::Prepared { id, server, credentials, initial_data } => {
                let redacted = credentials.as_ref().map(redacted_credentials);
                let redacted_data = initial_data.as_ref().map(redacted_secret);
                if machine.is_preparing(id) {
                    self.prepared = Some(Prepared { id, credentials, initial_data });
                }
                Answer::Prepared { id, server, credentials: redacted, initial_data: redacted_data }
            }
            Answer::Authenticate { id, data: Some(data) } => {
                let redacted = redacted_secret(&data);
                if machine.takes_authentication(id) {
                    self.steps.push_back((id, data));
                }
                Answer::Authenticate { id, data: Some(redacted) }
            }
            answer @ (Answer::NotPrepared { .. } | Answer::Authenticate { data: None, .. }) => answer,
        }
    }

    pub(super) fn reauthenticate(&mut self, machine: &Machine, data: Option<Secret>) -> Option<Secret> {
        let redacted = data.as_ref().map(redacted_secret);
        let fits = data.as_ref().is_none_or(|data| data.expose().len() <= MAX_FIELD);
        if let Some(id) = machine.live()
            && fits
            && machine.may_reauthenticate().is_ok()
        {
            // The AUTH packet counts as a step also without data.
            self.steps.push_back((id, data.unwrap_or_default()));
        }
        redacted
    }
}

/// What goes to the server.
impl Vault {
    /// Whether a packet with a secret may be among the next of `id`.
    pub(super) fn owes(&self, id: TransportId) -> bool {
        self.connected != Some(id) || !self.steps.is_empty()
    }

    /// Puts the secrets into packets that were written for `id`.
    pub(super) fn reveal(&mut self, id: TransportId, machine: &Machine, mut bytes: &mut [u8]) {
        self.steps.retain(|(step, _)| *step == id);
        while let Ok(Some(header)) = wire::frame_header(bytes, u32::MAX)
            && let Some((frame, rest)) = bytes.split_at_mut_checked(header.frame_len())
        {
            match header.packet_type() {
                Some(PacketType::Connect) => self.reveal_connect(id, machine, frame),
                Some(PacketType::Auth) => self.reveal_auth(frame),
                _ => {}
            }
            bytes = rest;
        }
    }

    fn reveal_connect(&mut self, id: TransportId, machine: &Machine, frame: &mut [u8]) {
        self.connected = Some(id);
        let Ok(Packet::Connect(connect)) = wire::decode(frame, ProtocolVersion::V5, Sender::Client) else {
            return;
        };
        let username = connect.username.and_then(|part| range(frame, part.as_bytes()));
        let password = connect.password.and_then(|part| range(frame, part));
        let data = data_range(frame, connect.properties);
        let real = self.configs.iter().find(|(redacted, _)| Arc::ptr_eq(redacted, machine.config()));
        let Some((_, config)) = real else { return };
        let prepared = self.prepared.as_ref().filter(|prepared| prepared.id == id);
        let credentials = prepared.and_then(|prepared| prepared.credentials.as_ref());
        let credentials = credentials.unwrap_or(&config.credentials);
        let initial_data = match prepared.and_then(|prepared| prepared.initial_data.as_ref()) {
            Some(data) if !has_data(&config.user_properties) => Some(data.expose()),
            _ => initial_data(config),
        };
        put(frame, username, credentials.username.as_deref().map(str::as_bytes));
        put(frame, password, credentials.password.as_ref().map(Secret::expose));
        put(frame, data, initial_data);
    }

    fn reveal_auth(&mut self, frame: &mut [u8]) {
        let Ok(Packet::Auth(auth)) = wire::decode(frame, ProtocolVersion::V5, Sender::Client) else {
            return;
        };
        let data = data_range(frame, auth.properties);
        if let Some((_, secret)) = self.steps.pop_front() {
            put(frame, data, Some(secret.expose()));
        }
    }
}

/// What comes from the server.
impl Vault {
    /// Exchanges the authentication data in the packets of `input`.
    pub(super) fn hide(&self, machine: &Machine, input: &mut BytesMut) -> Hidden {
        let mut hidden = Hidden::default();
        let mut start = 0_usize;
        // Before 5.0 no server says any.
        while machine.config().version == ProtocolVersion::V5
            && let Some(rest) = input.get_mut(start..)
            && let Ok(Some(header)) = wire::frame_header(rest, u32::MAX)
        {
            let kind = match header.packet_type() {
                Some(PacketType::ConnAck) => Some(Kind::ConnAck),
                Some(PacketType::Auth) => Some(Kind::Auth),
                _ => None,
            };
            let Some(frame) = rest.get_mut(..header.frame_len()) else {
                if kind.is_some() {
                    let body = start.saturating_add(header.header_len).min(input.len());
                    let end = body.saturating_add(MOST_HIDDEN).min(input.len());
                    if end < input.len() {
                        #[expect(clippy::disallowed_methods, reason = "the place was bounded above")]
                        let beyond = input.split_off(end);
                        hidden.beyond = beyond;
                    }
                    hidden.behind = end.saturating_sub(body);
                }
                break;
            };
            if let Some(kind) = kind
                && let Some(at) = server_data(frame)
                && let Some(part) = frame.get_mut(at.clone())
            {
                let secret = Bytes::copy_from_slice(part);
                part.fill(PLACEHOLDER);
                hidden.frames.push(HiddenFrame { kind, start, at: start.saturating_add(at.start), secret });
            }
            start = start.saturating_add(header.frame_len());
        }
        hidden.length = input.len();
        if !hidden.frames.is_empty() {
            hidden.challenges = machine.authentications();
        }
        hidden
    }

    /// Puts the data back into what was left of `input`, and keeps what the machine took for its caller.
    pub(super) fn show(&mut self, hidden: Hidden, id: TransportId, machine: &Machine, input: &mut BytesMut) {
        let taken = hidden.length.saturating_sub(input.len());
        // A header that is not left was dropped, and its body with it.
        if !input.is_empty() && !hidden.beyond.is_empty() {
            input.unsplit(hidden.beyond);
        }
        if hidden.frames.is_empty() {
            return;
        }
        // A step that breaks a rule ends the connection, and with it those behind it: the first ones were handed over.
        let mut new = machine.authentications().saturating_sub(hidden.challenges);
        for HiddenFrame { kind, start, at, secret } in hidden.frames {
            if start >= taken {
                let at = at.saturating_sub(taken);
                put(input, Some(at..at.saturating_add(secret.len())), Some(&secret));
                continue;
            }
            match kind {
                Kind::Auth if new > 0 => {
                    new = new.saturating_sub(1);
                    self.challenges.push_back(Secret::new(secret));
                }
                Kind::ConnAck => {
                    let secret = Secret::new(secret);
                    if new > 0 {
                        new = new.saturating_sub(1);
                        self.challenges.push_back(secret.clone());
                    }
                    self.greetings.push_back((id, secret));
                }
                Kind::Auth => {}
            }
        }
    }

    pub(super) fn show_action(&mut self, action: &mut Action) {
        if let Action::Authenticate { data, .. } = action
            && let Some(secret) = self.challenges.pop_front()
        {
            *data = secret;
        }
    }

    pub(super) fn show_event(&mut self, event: &mut Event) {
        let (id, properties, over) = match event {
            Event::Connected(connected) => (connected.id, Some(&mut connected.properties), false),
            Event::ConnectFailed(Ended { id, reason, .. })
            | Event::Disconnected(Ended { id, reason, .. }) => {
                let properties = match reason {
                    EndReason::Refused { properties, .. } => Some(properties),
                    _ => None,
                };
                (*id, properties, true)
            }
            Event::Message { .. }
            | Event::Completed { .. }
            | Event::Resubscribed { .. }
            | Event::Auth { .. }
            | Event::Stalled { .. }
            | Event::Overrun { .. }
            | Event::FellBack { .. } => return,
        };
        let place = self.greetings.iter().position(|(greeting, _)| *greeting == id);
        if let (Some(place), Some(properties)) = (place, properties)
            && let Some((_, secret)) = self.greetings.remove(place)
        {
            *properties = with_data(properties, |_| secret.clone());
        }
        if over {
            self.greetings.retain(|(greeting, _)| *greeting > id);
        }
    }
}

/// The configuration with placeholders.
fn redacted(config: &Config) -> Config {
    let mut redacted = config.clone();
    redacted.credentials = redacted_credentials(&config.credentials);
    if let Some(Authentication { initial_data: Some(data), .. }) = &mut redacted.authentication {
        *data = redacted_secret(data);
    }
    redacted.user_properties = with_data(&config.user_properties, |data| redacted_secret(&data));
    redacted
}

fn redacted_credentials(credentials: &Credentials) -> Credentials {
    let Credentials { username, password } = credentials;
    let username = username.as_ref().map(|username| {
        let placeholder = |byte: u8| if byte == 0 { '\0' } else { char::from(PLACEHOLDER) };
        username.bytes().map(placeholder).collect::<String>()
    });
    Credentials { username, password: password.as_ref().map(redacted_secret) }
}

fn redacted_secret(secret: &Secret) -> Secret {
    Secret::new(alloc::vec![PLACEHOLDER; secret.expose().len()])
}

/// The same properties with other authentication data, if they have any.
fn with_data(properties: &PropertiesBuf, other: impl Fn(Secret) -> Secret) -> PropertiesBuf {
    if properties.as_properties().find(PropertyId::AuthenticationData).is_none() {
        return properties.clone();
    }
    let mut list = PropertiesBuf::new();
    for property in properties.as_properties() {
        // Each stood in a valid list, and data may have any bytes.
        let _ = match property {
            Property::AuthenticationData(data) => {
                let data = other(Secret::new(Bytes::copy_from_slice(data)));
                list.push(Property::AuthenticationData(data.expose()))
            }
            property => list.push(property),
        };
    }
    list
}

fn has_data(properties: &PropertiesBuf) -> bool {
    properties.as_properties().find(PropertyId::AuthenticationData).is_some()
}

/// The authentication data that CONNECT carries: what the caller put among the user properties goes first.
fn initial_data(config: &Config) -> Option<&[u8]> {
    match config.user_properties.as_properties().find(PropertyId::AuthenticationData) {
        Some(Property::AuthenticationData(data)) => Some(data),
        _ => config.authentication.as_ref()?.initial_data.as_ref().map(Secret::expose),
    }
}

/// Where a server's CONNACK or AUTH has its authentication data. One of an exchange without any has it nowhere, but has it.
fn server_data(frame: &[u8]) -> Option<Range<usize>> {
    match wire::decode(frame, ProtocolVersion::V5, Sender::Server).ok()? {
        Packet::ConnAck(connack) => {
            connack.properties.find(PropertyId::AuthenticationMethod)?;
            Some(data_range(frame, connack.properties).unwrap_or(0..0))
        }
        Packet::Auth(auth) => Some(data_range(frame, auth.properties).unwrap_or(0..0)),
        _ => None,
    }
}

fn data_range(frame: &[u8], properties: Properties<'_>) -> Option<Range<usize>> {
    match properties.find(PropertyId::AuthenticationData)? {
        Property::AuthenticationData(data) => range(frame, data),
        _ => None,
    }
}

/// Where `part`, which was decoded from `frame`, stands in it.
fn range(frame: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= frame.len()).then_some(start..end)
}

/// Overwrites what stands at `at` with a secret of the same length.
fn put(bytes: &mut [u8], at: Option<Range<usize>>, secret: Option<&[u8]>) {
    if let (Some(at), Some(secret)) = (at, secret)
        && let Some(place) = bytes.get_mut(at)
        && place.len() == secret.len()
    {
        place.copy_from_slice(secret);
    }
}
