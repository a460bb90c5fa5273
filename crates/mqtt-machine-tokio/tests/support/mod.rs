//! Owns what tests of this adapter share: time limits, a real broker, a link that can be cut.
//! It must not know what any test is about.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mqtt_machine_tokio::{Backoff, Config, Options, ProtocolVersion};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Fails the test when `future` takes longer than so many seconds.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(seconds), future).await.expect("the test takes too long")
}

/// Options that reconnect quickly.
pub(crate) fn options(url: &str, client_id: &str, version: ProtocolVersion) -> Options {
    let backoff =
        Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200), ..Backoff::DEFAULT };
    Options::from_url(url)
        .unwrap()
        .configure(|config: Config| config.client_id(client_id).version(version).backoff(backoff))
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

/// A mosquitto of the test's own on 127.0.0.1; it ends with this value.
pub(crate) struct Mosquitto {
    program: PathBuf,
    folder: PathBuf,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one with these lines in its configuration. `None` where mosquitto is not installed, unless `CI` is set:
    /// then that is a failure.
    pub(crate) fn start(lines: &str) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let Some(program) = program("mosquitto") else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is not installed");
            eprintln!("skipped: mosquitto is not installed");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mqtt-machine-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        // Started by root it would become another user, who cannot read the folder.
        let user = if is_root() { "user root" } else { "" };
        let config = format!(
            "{user}\nlistener {port} 127.0.0.1\nmax_inflight_messages 0\nmax_queued_messages 0\n{lines}\n"
        );
        let config = config.replace("FOLDER", folder.to_str().unwrap());
        fs::write(folder.join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { program, folder, port, child: None };
        broker.run();
        Some(broker)
    }

    /// One that lets everybody in.
    pub(crate) fn open() -> Option<Self> {
        Self::start("allow_anonymous true")
    }

    /// One that lets in `user` with `password` only.
    pub(crate) fn with_password(user: &str, password: &str) -> Option<Self> {
        let hash = std::env::temp_dir().join(format!("mqtt-machine-{}-passwords", std::process::id()));
        let made = Command::new(program("mosquitto_passwd")?)
            .arg("-b")
            .arg("-c")
            .args([hash.as_path(), Path::new(user), Path::new(password)])
            .status()
            .unwrap();
        assert!(made.success());
        let broker = Self::start(&format!("allow_anonymous false\npassword_file {}", hash.to_str().unwrap()));
        fs::remove_file(hash).unwrap();
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(crate) fn run(&mut self) {
        let file = self.folder.join("mosquitto.conf");
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child =
            Command::new(&self.program).arg("-c").arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
        let start = Instant::now();
        while StdStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(10), "mosquitto does not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it in order, so that it keeps what it should.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let told = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
            if !told.is_ok_and(|status| status.success()) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"0"))
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A TCP relay whose links can be cut. It ends with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Relays to this port of 127.0.0.1.
    pub(crate) async fn start(to: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, to, cuts.clone()));
            }
        });
        Ok(Self { port, cut })
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Cuts every link abruptly, whatever is on its way.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn relay(mut near: TcpStream, to: u16, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = cuts.changed() => {
            // A reset, not an end.
            let _ = near.set_zero_linger();
            let _ = far.set_zero_linger();
        }
    }
}
