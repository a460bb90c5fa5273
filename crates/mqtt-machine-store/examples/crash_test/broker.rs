//! Owns the broker of the show: the model broker as a process of its own, or mosquitto behind a link that can be cut. It must not know who
//! talks to it.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mqtt_machine_testkit::real::{Broker as Real, Kind};

use crate::{Plan, Result};

/// What mosquitto needs to keep what it has acknowledged.
const PERSISTENCE: &str =
    "allow_anonymous true\npersistence true\npersistence_location FOLDER/\nautosave_interval 1";

pub(crate) enum Broker {
    /// It syncs before it answers, so it may be killed.
    Model(Child),
    /// It loses what it has acknowledged when it is killed, so it is told to end.
    Mosquitto(Box<Real>, Links),
}

impl Broker {
    /// Starts one, and gives the port to connect to.
    pub(crate) fn start(plan: &Plan) -> Result<(Self, u16)> {
        if plan.mosquitto {
            let real = Real::start_with(Kind::Mosquitto, PERSISTENCE).ok_or("mosquitto is not installed")?;
            let links = Links::start(real.port)?;
            let port = links.port;
            return Ok((Self::Mosquitto(Box::new(real), links), port));
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let plan = Plan { port, ..plan.clone() };
        Ok((Self::Model(plan.start("broker")?), port))
    }

    /// Ends it, as hard as it bears, and starts it again.
    pub(crate) fn restart(&mut self, plan: &Plan) -> Result<()> {
        match self {
            Self::Model(child) => {
                // On Unix this is SIGKILL: nothing is told, nothing is written.
                child.kill()?;
                child.wait()?;
                *child = plan.start("broker")?;
            }
            Self::Mosquitto(real, _) => {
                real.stop();
                real.run();
            }
        }
        Ok(())
    }

    /// Cuts every connection; only where there is a link. True when there was one.
    pub(crate) fn cut(&self) -> bool {
        match self {
            Self::Model(_) => false,
            Self::Mosquitto(_, links) => {
                links.cut();
                true
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Self::Model(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Carries bytes to a port, from one of its own.
pub(crate) struct Links {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Links {
    fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::clone(&open);
        // It ends with the process.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // Where nobody listens the connection ends as soon as it began.
                let _ = link(near, to, &streams);
            }
        });
        Ok(Self { port, open })
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn link(near: TcpStream, to: u16, open: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", to))?;
    let ways = [(near.try_clone()?, far.try_clone()?), (far.try_clone()?, near.try_clone()?)];
    open.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
    for (mut from, mut into) in ways {
        from.set_nodelay(true)?;
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut into);
            let _ = from.shutdown(Shutdown::Both);
            let _ = into.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
