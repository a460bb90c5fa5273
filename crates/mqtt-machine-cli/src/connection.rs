//! Owns the options of a connection that `pub`, `sub` and `bench` share, and the client made of them. It must not know what
//! the client is for.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mqtt_machine::packet::Property;
use mqtt_machine_store::StoreFile;
use mqtt_machine_tokio::{
    Backoff, CleanStart, Client, ClientEvent, ConnectError, Message, Options, ProtocolVersion, Proxy, QoS,
    Record, RouteOptions, Secret, TlsOptions, WebSocketOptions, Will,
};

use crate::failure::{Failure, usage};
use crate::property::{Packet, PropertyArgument};

/// Where to, as whom, and over what. The names are those of mosquitto_pub and mosquitto_sub where they have one.
#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The server as a URL: mqtt, mqtts, ws, wss, unix, mqtt+srv or mqtts+srv, with its options in the query
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port", "unix", "ws", "srv"])]
    url: Option<String>,
    /// The server's name or address
    #[arg(short = 'h', long, default_value = "localhost")]
    host: String,
    /// Its port; 8883 and options of TLS mean TLS
    #[arg(short = 'p', long)]
    port: Option<u16>,
    /// Connect over the Unix socket of this path
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// Connect over WebSocket
    #[arg(long)]
    ws: bool,
    /// Look the servers up by the SRV records of the host
    #[arg(short = 'S', long)]
    srv: bool,
    /// A further server, tried when the others do not answer
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    /// The version of MQTT: 5, 3.1.1 or 3.1 (mqttv5, mqttv311, mqttv31)
    #[arg(short = 'V', long = "protocol-version", value_parser = version)]
    version: Option<ProtocolVersion>,
    /// Speak a lower version where the server does not know this one
    #[arg(long)]
    fallback: bool,
    /// The client identifier; the server chooses one otherwise
    #[arg(short = 'i', long = "id")]
    id: Option<String>,
    /// A client identifier of this prefix and the process number
    #[arg(short = 'I', long = "id-prefix", conflicts_with = "id")]
    id_prefix: Option<String>,
    /// The user name
    #[arg(short = 'u', long)]
    username: Option<String>,
    /// The password; others on this machine may see it: --password-file hides it
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD")]
    password: Option<String>,
    /// The file whose first line is the password
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// The keep alive in seconds, 0 for none
    #[arg(short = 'k', long = "keepalive", value_name = "SECONDS")]
    keep_alive: Option<u16>,
    /// Resume the session that the server has kept for the client identifier
    #[arg(short = 'c', long = "disable-clean-session", requires = "id")]
    resume: bool,
    /// How long the server keeps the session after the connection, in seconds (5.0)
    #[arg(short = 'x', long = "session-expiry-interval", value_name = "SECONDS")]
    session_expiry: Option<u32>,
    /// At most so many publications of QoS 1 and 2 in flight, beside what the server allows
    #[arg(short = 'M', long, value_name = "COUNT")]
    max_inflight: Option<u16>,
    /// The local address to connect from, with or without a port
    #[arg(short = 'A', value_name = "ADDRESS", value_parser = local)]
    bind: Option<SocketAddr>,
    /// How long to wait for the first connection, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    connect_deadline: u64,
    /// Give up when a connection fails or ends instead of connecting again
    #[arg(long)]
    no_reconnect: bool,
    /// A property of CONNECT or WILL (5.0): PACKET:NAME=VALUE, as in connect:user-property=room=kitchen
    #[arg(short = 'D', long = "property", value_name = "PROPERTY")]
    pub(crate) properties: Vec<PropertyArgument>,
    /// Keep the session in this file: what is not delivered now is, the next time it is given
    #[arg(long, value_name = "FILE", requires = "id")]
    store: Option<PathBuf>,
    /// Record everything that the client is told and answers into this file; see `replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Say what happens to the connection
    #[arg(short = 'd', long)]
    debug: bool,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    will: WillArguments,
    /// A header of the WebSocket request: NAME: VALUE
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A proxy on the way: http://, socks5:// or socks5h://; several are passed one after the other
    #[arg(long, value_name = "URL")]
    proxy: Vec<String>,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "TLS")]
struct Tls {
    /// Speak TLS, and trust what the operating system trusts
    #[arg(long = "tls", visible_alias = "tls-use-os-certs")]
    on: bool,
    /// Trust the roots of this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// The client certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The file whose first line is the password of the key
    #[arg(long, value_name = "FILE", requires = "key")]
    key_password_file: Option<PathBuf>,
    /// The application protocol to offer
    #[arg(long = "tls-alpn", value_name = "NAME")]
    alpn: Vec<String>,
    /// The name that the server's certificate must be for, instead of the host
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Accept any certificate: anybody may listen and speak for the server
    #[arg(long)]
    insecure: bool,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Will")]
struct WillArguments {
    /// The topic of the will
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Its payload
    #[arg(long, value_name = "TEXT", requires = "will_topic", default_value = "")]
    will_payload: String,
    /// Its QoS
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = qos)]
    will_qos: QoS,
    /// The server retains it
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
}

impl Connection {
    /// The options of the client.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::from_url(&self.endpoint()?).map_err(usage)?;
        for server in &self.also {
            options = options.server(server).map_err(usage)?;
        }
        options = self.identity(options)?;
        let will = self.will()?;
        let user_properties = self.connect_properties()?;
        options =
            options.connect_deadline(Duration::from_secs(self.connect_deadline)).configure(|mut config| {
                if let Some(version) = self.version {
                    config.version = version;
                }
                if self.fallback {
                    config = config.fallback_to(ProtocolVersion::V3_1);
                }
                if let Some(seconds) = self.keep_alive {
                    config.keep_alive = Duration::from_secs(seconds.into());
                }
                if let Some(count) = self.max_inflight {
                    config.limits.in_flight = count;
                }
                if self.no_reconnect {
                    config.backoff = Backoff::NEVER;
                }
                config.will = will.map(Will::new).or(config.will);
                config.user_properties = user_properties;
                config
            });
        options.socket.bind = self.bind;
        if let Some(path) = &self.record {
            let record =
                Record::to_file(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
            options = options.record(record);
        }
        if let (Some(path), Some(id)) = (&self.store, &self.id) {
            let store = StoreFile::open(path).and_then(|file| file.client(id));
            let store = store.map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
            options = options.store(store);
        }
        self.route(options)
    }

    /// Whether what is not delivered is kept.
    pub(crate) const fn is_stored(&self) -> bool {
        self.store.is_some()
    }

    /// Begins to connect, and waits for the first connection.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let client = self.start()?;
        connected(&client).await?;
        Ok(client)
    }

    /// Begins to connect, and says on standard error what happens to the connection, if that is wanted.
    pub(crate) fn start(&self) -> Result<Client, Failure> {
        let options = self.options()?;
        let client = Client::start(options)?;
        if self.debug {
            let mut events = client.events();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    eprintln!("{}", describe(&event));
                }
            });
        }
        Ok(client)
    }

    /// Whether there is a client identifier, which only one client can have.
    pub(crate) const fn is_named(&self) -> bool {
        self.id.is_some() || self.id_prefix.is_some()
    }

    fn endpoint(&self) -> Result<String, Failure> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        if let Some(path) = &self.unix {
            return Ok(format!("unix://{path}"));
        }
        let tls = &self.tls;
        let secure =
            tls.on || tls.insecure || tls.cafile.is_some() || tls.cert.is_some() || self.port == Some(8883);
        let scheme = match (self.srv, self.ws, secure) {
            (true, true, _) => return Err(usage("SRV records are for connections without WebSocket")),
            (true, _, false) => "mqtt+srv",
            (true, _, true) => "mqtts+srv",
            (_, true, false) => "ws",
            (_, true, true) => "wss",
            (_, _, false) => "mqtt",
            (_, _, true) => "mqtts",
        };
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(format!("{scheme}://{host}{port}"))
    }

    fn identity(&self, mut options: Options) -> Result<Options, Failure> {
        let config = &mut options.config;
        if let Some(id) = &self.id {
            config.client_id.clone_from(id);
        } else if let Some(prefix) = &self.id_prefix {
            config.client_id = format!("{prefix}{}", std::process::id());
        }
        if let Some(username) = &self.username {
            config.credentials.username = Some(username.clone());
        }
        let password = match &self.password_file {
            Some(path) => Some(first_line(path)?),
            None => self.password.clone(),
        };
        if let Some(password) = password {
            config.credentials.password = Some(Secret::new(password.into_bytes()));
        }
        config.clean_start = if self.resume { CleanStart::Never } else { CleanStart::FirstOnly };
        // Without a name of its own nobody comes back to the session.
        let default = if config.client_id.is_empty() { 0 } else { config.session_expiry.as_secs() };
        config.session_expiry = Duration::from_secs(self.session_expiry.map_or(default, u64::from));
        Ok(options)
    }

    fn route(&self, options: Options) -> Result<Options, Failure> {
        let mut tls = TlsOptions::new();
        let arguments = &self.tls;
        if let Some(path) = &arguments.cafile {
            tls = tls.ca_file(path);
        }
        if let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) {
            tls = tls.client_certificate_files(cert, key);
        }
        if let Some(path) = &arguments.key_password_file {
            tls = tls.key_password(mqtt_machine_transport::Password::new(first_line(path)?.into_bytes()));
        }
        if !arguments.alpn.is_empty() {
            tls = tls.alpn(arguments.alpn.iter().map(String::as_str));
        }
        if let Some(name) = &arguments.server_name {
            tls = tls.server_name(name);
        }
        if arguments.insecure {
            eprintln!("warning: any certificate is accepted; anybody on the way may read and answer");
            tls = tls.dangerous_accept_any_certificate();
        }
        let mut websocket = WebSocketOptions::new();
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| usage(format!("no colon in the header {header:?}")))?;
            websocket = websocket.header(name.trim(), value.trim());
        }
        let proxies =
            self.proxy.iter().map(|url| Proxy::parse(url)).collect::<Result<Vec<_>, _>>().map_err(usage)?;
        Ok(options.route(|route| {
            proxies.into_iter().fold(route.tls(tls).websocket(websocket), RouteOptions::proxy)
        }))
    }

    fn will(&self) -> Result<Option<Message>, Failure> {
        let will = &self.will;
        let Some(topic) = &will.will_topic else { return Ok(None) };
        let mut message = Message::to(topic, will.will_payload.clone().into_bytes())
            .map_err(usage)?
            .qos(will.will_qos)
            .retain(will.will_retain);
        for property in self.properties.iter().filter(|property| property.packet == Packet::Will) {
            message = message.property(property.as_property()).map_err(usage)?;
        }
        Ok(Some(message))
    }

    fn connect_properties(&self) -> Result<mqtt_machine::packet::PropertiesBuf, Failure> {
        let mut properties = mqtt_machine::packet::PropertiesBuf::new();
        for argument in self.properties.iter().filter(|property| property.packet == Packet::Connect) {
            let property = argument.as_property();
            if !matches!(property, Property::UserProperty(..)) {
                return Err(usage(
                    "of CONNECT only user properties are set here; other properties have options",
                ));
            }
            properties.push(property).map_err(usage)?;
        }
        Ok(properties)
    }
}

/// Waits for the first connection, as long as the options say.
pub(crate) async fn connected(client: &Client) -> Result<(), Failure> {
    match tokio::time::timeout(client.connect_deadline(), client.connected()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(client.connect_timeout().into()),
    }
}

/// A QoS as an argument.
pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    text.parse().ok().and_then(QoS::from_u8).ok_or_else(|| "0, 1 or 2".to_owned())
}

/// A version as an argument.
pub(crate) fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "5" | "5.0" | "mqttv5" => Ok(ProtocolVersion::V5),
        "3.1.1" | "311" | "mqttv311" => Ok(ProtocolVersion::V3_1_1),
        "3.1" | "31" | "mqttv31" => Ok(ProtocolVersion::V3_1),
        _ => Err("5, 3.1.1 or 3.1".to_owned()),
    }
}

fn local(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    text.parse().or_else(|_| bare()).map_err(|_| "an IP address, with or without a port".to_owned())
}

fn first_line(path: &PathBuf) -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What happened, in a line.
fn describe(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Connected(connected) => {
            let session = if connected.session_present { "resumed" } else { "new" };
            let id = &connected.client_id;
            format!(
                "connected to {} as {id:?}, {}, session {session}",
                connected.server.as_str(),
                connected.capabilities.version
            )
        }
        ClientEvent::ConnectFailed { reason, .. } => format!("not connected: {reason}"),
        ClientEvent::Disconnected { reason, .. } => format!("disconnected: {reason}"),
        other => format!("{other:?}"),
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Endpoint(error) => usage(error),
            error => Self::NotConnected(error.to_string()),
        }
    }
}
