//! Owns the servers of the scenarios: mosquitto with a listener for every transport, proxies before it, certificates good and
//! bad, and the ways there. It must not know what is tested.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mqtt_machine_client::{Options, Proxy, TlsOptions};

use super::{PATIENCE, Relay};
use crate::layers::{Authority, Leaf};
use crate::real::{Broker, Kind, ProxyServer, folder, free_port};

/// User name and password of the proxies.
pub(super) const CREDENTIALS: (&str, &str) = ("proxy-user", "proxy-secret");

/// A way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// TLS, and the server asks for a client certificate.
    MutualTls,
    /// WebSocket.
    WebSocket,
    /// WebSocket over TLS.
    SecureWebSocket,
    /// A Unix socket.
    Unix,
}

/// The ports of mosquitto's listeners.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) tcp: u16,
    pub(super) tls: u16,
    pub(super) mutual: u16,
    pub(super) ws: u16,
    pub(super) wss: u16,
    /// With an expired certificate.
    pub(super) expired: u16,
    /// With a certificate for `service.test`.
    pub(super) other: u16,
    /// With a certificate of somebody's whom nobody knows.
    pub(super) unknown: u16,
}

/// Everything that a client may be led to, on loopback; it ends with this value.
#[derive(Debug)]
pub struct Site {
    pub(super) ports: Ports,
    pub(super) ca: Authority,
    pub(super) client: Leaf,
    pub(super) folder: PathBuf,
    _broker: Broker,
}

impl Site {
    /// Starts it. `None` where mosquitto is not installed, which with `CI` set is a failure.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let folder = folder();
        let ca = Authority::new("mqtt-machine tests");
        let write = |name: &str, leaf: &Leaf| {
            write(&folder, &format!("{name}.pem"), &leaf.certificate.pem());
            write(&folder, &format!("{name}.key"), &leaf.key.serialize_pem());
        };
        write_ca(&folder, &ca);
        write("good", &ca.server(&["localhost", "127.0.0.1"]));
        write("expired", &ca.server_between(&["localhost"], 2000, 2001));
        write("other", &ca.server(&["service.test"]));
        write("unknown", &Authority::new("nobody").server(&["localhost"]));
        let ports = Ports {
            tcp: free_port(),
            tls: free_port(),
            mutual: free_port(),
            ws: free_port(),
            wss: free_port(),
            expired: free_port(),
            other: free_port(),
            unknown: free_port(),
        };
        let broker = Broker::start_with(Kind::Mosquitto, &listeners(&folder, &ports));
        let Some(_broker) = broker else {
            let _ = std::fs::remove_dir_all(&folder);
            return None;
        };
        // The first listener is there; the others come after it, those of WebSocket last.
        let Ports { tcp, tls, mutual, ws, wss, expired, other, unknown } = ports;
        for port in [tcp, tls, mutual, ws, wss, expired, other, unknown] {
            let begin = Instant::now();
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(begin.elapsed() < PATIENCE, "mosquitto does not listen on {port}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let client = ca.client("client");
        Some(Self { ports, ca, client, folder, _broker })
    }

    /// A relay on the way, whose [port](Relay::port) is to be given to [`options`](Self::options).
    pub fn relay(&self, way: Way) -> Relay {
        match way {
            #[cfg(unix)]
            Way::Unix => Relay::unix(&self.folder.join("relay"), &self.folder.join("socket")),
            way => Relay::tcp(self.port(way)),
        }
    }

    /// The listener of a way.
    pub(super) fn port(&self, way: Way) -> u16 {
        match way {
            Way::Tcp | Way::Unix => self.ports.tcp,
            Way::Tls => self.ports.tls,
            Way::MutualTls => self.ports.mutual,
            Way::WebSocket => self.ports.ws,
            Way::SecureWebSocket => self.ports.wss,
        }
    }

    /// Options of a client that goes this way to `port` of `localhost`, and trusts the site.
    ///
    /// # Panics
    /// Never: what it is made of is right.
    pub fn options(&self, way: Way, port: u16) -> Options {
        let scheme = match way {
            Way::Tcp => "mqtt",
            Way::Tls | Way::MutualTls => "mqtts",
            Way::WebSocket => "ws",
            Way::SecureWebSocket => "wss",
            Way::Unix => {
                let url = format!("unix://{}", self.folder.join("relay").display());
                return Options::from_url(&url).unwrap();
            }
        };
        let host = match way {
            Way::WebSocket | Way::SecureWebSocket => "127.0.0.1",
            _ => "localhost",
        };
        let options = Options::from_url(&format!("{scheme}://{host}:{port}")).unwrap();
        let client = (way == Way::MutualTls).then_some(&self.client);
        options.route(|route| route.tls(self.tls(client)))
    }

    /// Trusting the site, with a certificate of the client's if there is one.
    pub fn tls(&self, client: Option<&Leaf>) -> TlsOptions {
        let tls = TlsOptions::new().ca_pem(self.ca.pem().as_bytes());
        match client {
            Some(leaf) => tls.client_certificate_pem(
                leaf.certificate.pem().as_bytes(),
                leaf.key.serialize_pem().as_bytes(),
            ),
            None => tls,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Through a proxy at `port`.
pub(super) fn through(options: Options, scheme: &str, port: u16) -> Options {
    let (user, password) = CREDENTIALS;
    let proxy = Proxy::parse(&format!("{scheme}://{user}:{password}@127.0.0.1:{port}")).unwrap();
    options.route(|route| route.proxy(proxy))
}

pub(super) fn socks5() -> Option<ProxyServer> {
    ProxyServer::socks5(CREDENTIALS.0, CREDENTIALS.1)
}

pub(super) fn http() -> Option<ProxyServer> {
    ProxyServer::http(CREDENTIALS.0, CREDENTIALS.1)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn write_ca(folder: &Path, ca: &Authority) {
    write(folder, "ca.pem", &ca.pem());
}

fn listeners(folder: &Path, ports: &Ports) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let certificate = |name: &str| {
        format!("certfile {}\nkeyfile {}\n", at(&format!("{name}.pem")), at(&format!("{name}.key")))
    };
    let ca = format!("cafile {}\n", at("ca.pem"));
    // By name: a proxy may resolve it to any of its addresses. mosquitto's WebSocket takes an address only.
    let at_name = |host: &str, port: u16, lines: &str| format!("listener {port} {host}\n{lines}\n");
    let listener = |port, lines: &str| at_name("localhost", port, lines);
    let websocket = |port, lines: &str| at_name("127.0.0.1", port, &format!("protocol websockets\n{lines}"));
    let mut lines = "allow_anonymous true\nlog_type all\n".to_owned();
    lines += &listener(ports.tcp, "");
    lines += &listener(ports.tls, &certificate("good"));
    lines += &listener(ports.mutual, &format!("{}{ca}require_certificate true\n", certificate("good")));
    lines += &websocket(ports.ws, "");
    lines += &websocket(ports.wss, &certificate("good"));
    lines += &listener(ports.expired, &certificate("expired"));
    lines += &listener(ports.other, &certificate("other"));
    lines += &listener(ports.unknown, &certificate("unknown"));
    if cfg!(unix) {
        lines += &format!("listener 0 {}\n", at("socket"));
    }
    lines
}
