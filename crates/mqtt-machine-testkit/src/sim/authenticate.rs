//! Owns the client's side of enhanced authentication in a simulation: SCRAM above each machine whose configuration names it.
//! It must not know the broker's side, nor when an exchange is due.

use mqtt_machine::{Answer, Refused, Secret, TransportId};
use mqtt_machine_scram::{Client as Exchange, Mechanism};

use super::Sim;

/// The password of every client of a simulation.
pub(super) const PASSWORD: &str = "pencil";

/// Iterations of SCRAM in a simulation: what they protect from is not simulated.
pub(super) const ITERATIONS: u32 = 1;

impl Sim {
    /// A new exchange of this client, if it authenticates: the first message, for CONNECT or for AUTH.
    pub(super) fn begin_exchange(&mut self, client: usize) -> Option<Secret> {
        let method = &self.clients[client].config.authentication.as_ref()?.method;
        let mechanism = Mechanism::from_name(method)?;
        let nonce = format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64());
        let exchange = Exchange::new(mechanism, &self.client_ids[client], PASSWORD, &nonce).ok()?;
        let exchange = exchange.iterations(ITERATIONS..=ITERATIONS);
        let first = Secret::new(exchange.first());
        self.clients[client].exchange = Some(exchange);
        Some(first)
    }

    /// Lets a client that is connected prove itself again. False when it has not come to the end of the last exchange, or is
    /// not one that authenticates.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn reauthenticate(&mut self, client: usize) -> Result<bool, Refused> {
        self.clients[client].machine.machine().may_reauthenticate()?;
        let Some(first) = self.begin_exchange(client) else { return Ok(false) };
        self.note(|sim| format!("{}: authenticates again", sim.name(client)));
        self.clients[client].machine.reauthenticate(self.now, Some(first)).map(|()| true)
    }

    /// Answers a step of the server's.
    pub(super) fn prove(&mut self, client: usize, id: TransportId, finished: bool, data: &Secret) {
        let owner = &mut self.clients[client];
        let Some(exchange) = &mut owner.exchange else { return };
        let answer = if finished {
            let verified = exchange.verify(data.expose());
            owner.verified += u64::from(verified.is_ok());
            // Only a server that is not what it says needs an answer.
            verified.is_err().then_some(None)
        } else {
            Some(exchange.respond(data.expose()).ok().map(Secret::new))
        };
        if let Some(data) = answer {
            owner.machine.answer(self.now, Answer::Authenticate { id, data });
        }
    }
}
