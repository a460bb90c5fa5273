//! Owns how a TCP socket is made and begins to connect: the same in every adapter. It must not wait, read or write.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// What is set on every TCP socket of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Small writes leave at once (`TCP_NODELAY`). Default true: the machine already gathers what leaves together.
    pub no_delay: bool,
    /// How long a connection is silent before TCP itself asks whether the peer is there. Default `None`: MQTT's own keep
    /// alive does.
    pub keep_alive: Option<Duration>,
    /// The local address to connect from; port 0 is any. Default `None`: the system's choice. Addresses of the other family
    /// are not reached from it.
    pub bind: Option<SocketAddr>,
}

impl SocketOptions {
    /// The defaults.
    pub const DEFAULT: Self = Self { no_delay: true, keep_alive: None, bind: None };

    /// A socket for a connection to `to`, non-blocking and not connected.
    ///
    /// # Errors
    /// What the system says, as when the local address is not there or of another family.
    pub fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(self.no_delay)?;
        if let Some(after) = self.keep_alive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
        }
        if let Some(local) = self.bind {
            if local.port() != 0 {
                // A reconnect must not wait until the last connection has left the table.
                #[cfg(not(windows))]
                socket.set_reuse_address(true)?;
            }
            socket.bind(&local.into())?;
        }
        Ok(socket)
    }

    /// A [`socket`](Self::socket) that connects to `to`, and may do so still: it has when it can be written to, has no
    /// [`take_error`](Socket::take_error) and knows its peer.
    ///
    /// # Errors
    /// As [`socket`](Self::socket), and what is known at once.
    pub fn connect(&self, to: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(to)?;
        match socket.connect(&to.into()) {
            Err(error) if !is_under_way(&error) => Err(error),
            _ => Ok(socket),
        }
    }
}

/// Whether a connect that does not wait has only not come to its end yet.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_what_was_asked_for() {
        let to = "127.0.0.1:1883".parse().unwrap();
        let plain = SocketOptions::DEFAULT.socket(to).unwrap();
        assert!(plain.tcp_nodelay().unwrap() && !plain.keepalive().unwrap());
        let bind = Some("127.0.0.1:0".parse().unwrap());
        let options = SocketOptions { no_delay: false, keep_alive: Some(Duration::from_secs(7)), bind };
        let socket = options.socket(to).unwrap();
        assert!(!socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(local.ip().is_loopback() && local.port() != 0);
    }

    #[test]
    fn a_connect_does_not_wait() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = SocketOptions::DEFAULT.connect(listener.local_addr().unwrap()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(listener.accept().unwrap().1, local);
        assert!(socket.take_error().unwrap().is_none());
        let nowhere = "255.255.255.255:1".parse().unwrap();
        assert!(SocketOptions::DEFAULT.connect(nowhere).is_err(), "known at once");
    }

    #[test]
    fn an_address_of_the_other_family_is_refused() {
        let bind = Some("127.0.0.1:0".parse().unwrap());
        let options = SocketOptions { bind, ..SocketOptions::DEFAULT };
        assert!(options.socket("[::1]:1883".parse().unwrap()).is_err());
    }
}
