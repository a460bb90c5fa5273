//! Owns the dialling that all adapters share: it does the steps of a [`Dial`] on whatever network an adapter has. It must
//! not know a runtime.

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use mqtt_machine_transport::{
    Attempt, Authority, Dial, DialError, DialStep, Layers, Route, SrvQuestion, Target,
};

/// A future of an adapter's.
pub type NetworkFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an adapter's runtime can do to get to a server. Every future is dropped when it is not wanted any more, and must
/// then stop by itself.
pub trait Network {
    /// An open socket.
    type Socket;

    /// The addresses of a name, in the resolver's order.
    fn resolve(&self, name: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>>;

    /// Opens a socket.
    fn connect(&self, target: Target) -> NetworkFuture<io::Result<Self::Socket>>;

    /// Sends a question from a new socket, connected to the name server, and waits for one answer (without a length before
    /// it, which only TCP has).
    fn ask(&self, question: SrvQuestion) -> NetworkFuture<io::Result<Bytes>>;

    /// Waits until then.
    fn sleep_until(&self, then: Instant) -> NetworkFuture<()>;
}

/// Opens a socket to what `route` leads to, with the layers that lie on it: SRV records, names, proxies, and staggered
/// attempts at the addresses. It takes as long as it takes; dropping it ends it.
///
/// # Errors
/// The last thing that failed.
pub async fn dial<N: Network>(network: &N, route: Arc<Route>) -> Result<(N::Socket, Layers), DialError> {
    let random = RandomState::new().hash_one(0);
    let nameservers = nameservers(&route);
    let mut dialling = Dialling {
        dial: Dial::new(route, &nameservers, random),
        network,
        question: None,
        lookup: None,
        attempts: Vec::new(),
        timer: None,
    };
    poll_fn(|context| dialling.poll(context)).await
}

/// The system's name servers, for those who ask for SRV records. The file is small and local.
#[cfg(feature = "srv")]
fn nameservers(route: &Route) -> Vec<SocketAddr> {
    if route.service_name().is_none() || route.endpoint().options.nameserver.is_some() {
        return Vec::new();
    }
    mqtt_machine_transport::nameservers_in(&std::fs::read("/etc/resolv.conf").unwrap_or_default())
}

#[cfg(not(feature = "srv"))]
const fn nameservers(_: &Route) -> Vec<SocketAddr> {
    Vec::new()
}

/// What is under way.
struct Dialling<'a, N: Network> {
    dial: Dial,
    network: &'a N,
    question: Option<NetworkFuture<io::Result<Bytes>>>,
    lookup: Option<NetworkFuture<io::Result<Vec<SocketAddr>>>>,
    attempts: Vec<(Attempt, NetworkFuture<io::Result<N::Socket>>)>,
    timer: Option<(Instant, NetworkFuture<()>)>,
}

impl<N: Network> Dialling<'_, N> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(N::Socket, Layers), DialError>> {
        loop {
            while let Some(step) = self.dial.poll_step(Instant::now()) {
                self.begin(step);
            }
            if let Some(failure) = self.dial.failure() {
                return Poll::Ready(Err(failure));
            }
            if let Some((attempt, socket)) = self.poll_attempts(context) {
                return Poll::Ready(self.dial.handle_connected(attempt).map(|layers| (socket, layers)));
            }
            if !self.poll_answers(context) {
                return Poll::Pending;
            }
        }
    }

    fn begin(&mut self, step: DialStep) {
        match step {
            DialStep::Ask(question) => self.question = Some(self.network.ask(question)),
            DialStep::Resolve(name) => self.lookup = Some(self.network.resolve(name)),
            DialStep::Connect(attempt, target) => {
                self.attempts.push((attempt, self.network.connect(target)));
            }
            // There is no other kind of step.
            _ => {}
        }
    }

    /// The first attempt that has connected; those that failed are told.
    fn poll_attempts(&mut self, context: &mut Context<'_>) -> Option<(Attempt, N::Socket)> {
        let mut connected = None;
        let dial = &mut self.dial;
        self.attempts.retain_mut(|(attempt, future)| {
            if connected.is_some() {
                return true;
            }
            match future.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(socket)) => {
                    connected = Some((*attempt, socket));
                    false
                }
                Poll::Ready(Err(error)) => {
                    dial.handle_failed(*attempt, &error);
                    // The next one may be due.
                    context.waker().wake_by_ref();
                    false
                }
            }
        });
        connected
    }

    /// Tells what came of lookups and questions, and of time. True when there was something.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(lookup) = &mut self.lookup
            && let Poll::Ready(result) = lookup.as_mut().poll(context)
        {
            self.lookup = None;
            self.dial.handle_resolved(result);
            return true;
        }
        if let Some(question) = &mut self.question
            && let Poll::Ready(result) = question.as_mut().poll(context)
        {
            self.question = None;
            match result {
                Ok(answer) => self.dial.handle_answer(&answer),
                Err(_) => self.dial.handle_unasked(),
            }
            return true;
        }
        let Some(deadline) = self.dial.deadline() else { return false };
        match &mut self.timer {
            Some((then, _)) if *then == deadline => {}
            timer => *timer = Some((deadline, self.network.sleep_until(deadline))),
        }
        let struck = self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(context).is_ready());
        if struck {
            self.timer = None;
        }
        struck
    }
}

impl<N: Network> fmt::Debug for Dialling<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialling").field("dial", &self.dial).finish_non_exhaustive()
    }
}
