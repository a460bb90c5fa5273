//! Owns real proxies: Debian's microsocks and tinyproxy. It must not know what goes through them.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::programs::{PATIENCE, folder, free_port, program, stop};

/// A proxy of the test's own on 127.0.0.1, with credentials; it ends with this value.
#[derive(Debug)]
pub struct ProxyServer {
    /// Where it listens.
    pub port: u16,
    folder: PathBuf,
    child: Child,
}

impl ProxyServer {
    /// microsocks: SOCKS5. `None` where it is not installed, which with `CI` set is a failure.
    ///
    /// # Panics
    /// When it does not start.
    pub fn socks5(user: &str, password: &str) -> Option<Self> {
        let mut command = found("microsocks")?;
        let port = free_port();
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-u", user, "-P", password]);
        Some(Self::run(command, port, folder()))
    }

    /// tinyproxy: HTTP CONNECT. `None` where it is not installed, which with `CI` set is a failure.
    ///
    /// # Panics
    /// When it does not start.
    pub fn http(user: &str, password: &str) -> Option<Self> {
        let mut command = found("tinyproxy")?;
        let (port, folder) = (free_port(), folder());
        let lines = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth {user} {password}\nTimeout 600\nMaxClients 100\n"
        );
        let file = folder.join("tinyproxy.conf");
        fs::write(&file, lines).unwrap();
        command.arg("-d").arg("-c").arg(file);
        Some(Self::run(command, port, folder))
    }

    fn run(mut command: Command, port: u16, folder: PathBuf) -> Self {
        let log = folder.join("log");
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut proxy = Self { port, child: command.spawn().unwrap(), folder };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = !matches!(proxy.child.try_wait(), Ok(None));
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(!ended && start.elapsed() < PATIENCE, "{command:?} does not start: {}", said());
            sleep(Duration::from_millis(10));
        }
        proxy
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        stop(&mut self.child);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn found(name: &str) -> Option<Command> {
    let Some(program) = program(name) else {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "{name} is not installed: apt-get install {name}");
        eprintln!("skipped: {name} is not installed");
        return None;
    };
    Some(Command::new(program))
}
