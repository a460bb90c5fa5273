//! Owns real brokers: finding one, starting it on a loopback port with a configuration and a folder of its own, ending it.
//! It must not know what is tested on them.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mqtt_machine::{ProtocolVersion, QoS};

use super::programs::{PATIENCE, folder, free_port, is_root, program, stop};

/// A broker that tests can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's `mosquitto`.
    Mosquitto,
    /// Debian's `ejabberd`: its module mod_mqtt.
    Ejabberd,
    /// Debian's `rabbitmq-server`: its plugin rabbitmq_mqtt.
    RabbitMq,
    /// npm's `aedes`, installed by `.ci/install-aedes`.
    Aedes,
}

impl Kind {
    /// Its name, as in `MQTT_MACHINE_BROKERS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Ejabberd => "ejabberd",
            Self::RabbitMq => "rabbitmq",
            Self::Aedes => "aedes",
        }
    }

    /// The versions that it speaks.
    pub const fn versions(self) -> &'static [ProtocolVersion] {
        use ProtocolVersion as V;
        match self {
            Self::Mosquitto => &[V::V3_1, V::V3_1_1, V::V5],
            Self::Ejabberd => &[V::V3_1_1, V::V5],
            Self::RabbitMq | Self::Aedes => &[V::V3_1, V::V3_1_1],
        }
    }

    /// What it grants a subscription that asks for `qos`.
    pub fn grants(self, qos: QoS) -> QoS {
        match self {
            Self::RabbitMq => qos.min(QoS::AtLeastOnce),
            Self::Mosquitto | Self::Ejabberd | Self::Aedes => qos,
        }
    }

    /// The QoS at which a message of `published` reaches a subscription that asked for `asked`. aedes sends at QoS 2 to a
    /// subscription of QoS 1, against `[MQTT-3.8.4-6]`.
    pub fn delivers(self, published: QoS, asked: QoS) -> QoS {
        match self {
            Self::Aedes if asked == QoS::AtLeastOnce => published,
            _ => published.min(self.grants(asked)),
        }
    }

    /// Whether messages keep their order when a session is resumed. aedes sends new ones between those that it had stored.
    pub const fn keeps_order(self) -> bool {
        !matches!(self, Self::Aedes)
    }

    /// Whether messages of `qos` reach a subscriber of a kept session although links are cut. At QoS 2 aedes repeats some and
    /// now and then loses one.
    pub fn survives_cuts(self, qos: QoS) -> bool {
        qos == QoS::AtLeastOnce || (qos == QoS::ExactlyOnce && self != Self::Aedes)
    }

    /// The highest QoS at which it takes messages as the specification says. RabbitMQ 3.10 answers QoS 2 with PUBACK.
    pub const fn takes(self) -> QoS {
        match self {
            Self::RabbitMq => QoS::AtLeastOnce,
            Self::Mosquitto | Self::Ejabberd | Self::Aedes => QoS::ExactlyOnce,
        }
    }

    /// Whether a test fails, and is not skipped, where it is not installed: with `CI` set those that `.ci/run` installs, and
    /// always those that `MQTT_MACHINE_BROKERS` names.
    fn is_wanted(self) -> bool {
        let named = std::env::var("MQTT_MACHINE_BROKERS").unwrap_or_default();
        let in_ci = std::env::var_os("CI").is_some() && matches!(self, Self::Mosquitto | Self::Ejabberd);
        in_ci || named.split(',').any(|name| name.trim() == self.name())
    }

    fn is_installed(self) -> bool {
        match self {
            Self::Mosquitto => program("mosquitto").is_some(),
            Self::Ejabberd => program("erl").is_some() && program("ejabberdctl").is_some(),
            Self::RabbitMq => program("epmd").is_some() && rabbitmq().is_file(),
            Self::Aedes => program("node").is_some() && aedes().join("node_modules/aedes").is_dir(),
        }
    }
}

/// The script itself: the wrapper in the path becomes another user.
fn rabbitmq() -> &'static Path {
    Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
}

/// Where `.ci/install-aedes` puts it.
fn aedes() -> PathBuf {
    if let Some(folder) = std::env::var_os("MQTT_MACHINE_AEDES") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("mqtt-machine/aedes")
}

/// A broker of the test's own on 127.0.0.1; it ends with this value.
#[derive(Debug)]
pub struct Broker {
    /// Which one.
    pub kind: Kind,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
    /// Its processes, in the order of their start.
    running: Vec<Child>,
}

impl Broker {
    /// Starts one that lets everybody in. `None` where it is not installed, which is a failure where it is wanted.
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, "allow_anonymous true")
    }

    /// As [`start`](Self::start); `lines` end the configuration of mosquitto, the others take no notice.
    pub fn start_with(kind: Kind, lines: &str) -> Option<Self> {
        if !kind.is_installed() {
            let name = kind.name();
            assert!(!kind.is_wanted(), "{name} is not installed: docs/brokers.md says how");
            eprintln!("skipped: {name} is not installed");
            return None;
        }
        let folder = folder();
        let mut broker = Self { kind, port: free_port(), folder, running: Vec::new() };
        broker.configure(lines);
        broker.run();
        Some(broker)
    }

    /// A mosquitto that lets in `user` with `password` only.
    pub fn with_password(user: &str, password: &str) -> Option<Self> {
        let hash = std::env::temp_dir().join(format!("mqtt-machine-{}-passwords", std::process::id()));
        let made = Command::new(program("mosquitto_passwd")?)
            .arg("-b")
            .arg("-c")
            .args([hash.as_path(), Path::new(user), Path::new(password)])
            .status()
            .unwrap();
        assert!(made.success());
        let lines = format!("allow_anonymous false\npassword_file {}", hash.to_str().unwrap());
        let broker = Self::start_with(Kind::Mosquitto, &lines);
        fs::remove_file(hash).unwrap();
        broker
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The URL of something before it that listens on `port` of 127.0.0.1.
    pub fn url_at(&self, port: u16) -> String {
        // ejabberd lets anybody in by any password, but not without a name.
        let user = if self.kind == Kind::Ejabberd { "anybody%40localhost:any@" } else { "" };
        format!("mqtt://{user}127.0.0.1:{port}")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    fn configure(&self, lines: &str) {
        let port = self.port;
        match self.kind {
            Kind::Mosquitto => {
                // Started by root it would become another user, who cannot read the folder.
                let user = if is_root() { "user root" } else { "" };
                let lines = lines.replace("FOLDER", self.folder.to_str().unwrap());
                let limits = "max_inflight_messages 0\nmax_queued_messages 0";
                self.write("conf", &format!("{user}\nlistener {port} 127.0.0.1\n{limits}\n{lines}\n"));
            }
            Kind::Ejabberd => {
                self.write("ejabberd.yml", &include_str!("ejabberd.yml").replace("PORT", &port.to_string()));
            }
            Kind::RabbitMq => {
                self.write("enabled_plugins", "[rabbitmq_mqtt].\n");
                let listen = format!("listeners.tcp = none\nmqtt.listeners.tcp.default = 127.0.0.1:{port}\n");
                let user =
                    "mqtt.allow_anonymous = true\nmqtt.default_user = guest\nmqtt.default_pass = guest\n";
                self.write("rabbitmq.conf", &format!("{listen}{user}log.console = true\nlog.file = false\n"));
            }
            Kind::Aedes => self.write("broker.mjs", include_str!("aedes.mjs")),
        }
    }

    /// What is to be started, in this order.
    fn commands(&self) -> Vec<Command> {
        let folder = &self.folder;
        let command = |name: &str| Command::new(program(name).expect("it was there before"));
        match self.kind {
            Kind::Mosquitto => {
                let mut mosquitto = command("mosquitto");
                mosquitto.arg("-c").arg(folder.join("conf"));
                vec![mosquitto]
            }
            Kind::Ejabberd => {
                // As ejabberdctl does, without becoming another user. Without a node name there is no epmd.
                let mut erl = command("erl");
                erl.args(["-noinput", "-mnesia", "dir"])
                    .arg(format!("\"{}\"", folder.join("spool").display()))
                    .args(["-s", "ejabberd"])
                    .env("ERL_LIBS", "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu")
                    .env("EJABBERD_CONFIG_PATH", folder.join("ejabberd.yml"))
                    .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
                    .env("ERL_CRASH_DUMP", folder.join("crash"))
                    .env("HOME", folder);
                vec![erl]
            }
            Kind::RabbitMq => {
                let names = free_port().to_string();
                let mut epmd = command("epmd");
                epmd.args(["-port", &names, "-address", "127.0.0.1"]);
                let mut server = Command::new(rabbitmq());
                for (name, file) in [
                    ("RABBITMQ_BASE", ""),
                    ("RABBITMQ_MNESIA_BASE", "mnesia"),
                    ("RABBITMQ_LOG_BASE", "logs"),
                    ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
                    ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
                    ("RABBITMQ_CONF_ENV_FILE", "none"),
                    ("HOME", ""),
                ] {
                    server.env(name, folder.join(file));
                }
                server
                    .env("RABBITMQ_NODENAME", format!("mqtt-machine-{}@localhost", self.port))
                    .env("RABBITMQ_DIST_PORT", free_port().to_string())
                    .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
                    .env("ERL_EPMD_PORT", names)
                    .env("ERL_EPMD_ADDRESS", "127.0.0.1");
                vec![epmd, server]
            }
            Kind::Aedes => {
                let mut node = command("node");
                node.arg(folder.join("broker.mjs")).arg(self.port.to_string()).arg(aedes());
                vec![node]
            }
        }
    }

    /// Starts it again after [`stop`](Self::stop).
    pub fn run(&mut self) {
        let log = self.folder.join("log");
        for mut command in self.commands() {
            let file = fs::File::create(&log).unwrap();
            command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
            self.running.push(command.spawn().unwrap());
        }
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.running.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || start.elapsed() > PATIENCE {
                panic!(
                    "{} does not start: {}",
                    self.kind.name(),
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            sleep(Duration::from_millis(10));
        }
        println!("{} listens after {:?}", self.kind.name(), start.elapsed());
    }

    /// Ends it in order, so that it keeps what it should.
    pub fn stop(&mut self) {
        while let Some(mut child) = self.running.pop() {
            stop(&mut child);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
