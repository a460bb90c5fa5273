//! Owns enhanced authentication as a client sees it (5.0, section 4.12): whom the driver asks, and what it does with the
//! answers. It must not know any method.

use std::fmt;
use std::sync::Arc;

use mqtt_machine::{Answer, Secret, TransportId};

use crate::prepare::{Choice, NotNow};

/// Why an authentication cannot go on. The text is for people and must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationError(pub String);

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthenticationError {}

/// A method of enhanced authentication: begins an exchange for every connection, and for every
/// [`reauthenticate`](crate::Client::reauthenticate).
///
/// It is asked between two turns of the driver, outside of every lock, and should answer within milliseconds: the connection
/// waits.
pub trait Authenticator: Send + Sync {
    /// The name that CONNECT gives as Authentication Method.
    fn method(&self) -> &str;

    /// A new exchange, and the client's first data if the method begins with the client.
    ///
    /// # Errors
    /// When there can be none now: the attempt to connect has failed, and the next one follows the back-off; on a connection
    /// that was to be authenticated again, it ends.
    fn begin(&self) -> Result<(Box<dyn Exchange>, Option<Secret>), AuthenticationError>;
}

/// One exchange of an [`Authenticator`].
pub trait Exchange: Send {
    /// The answer to the server's next data, which are empty if there are none.
    ///
    /// # Errors
    /// The connection ends with [`EndReason::AuthenticationFailed`](mqtt_machine::EndReason::AuthenticationFailed), and there is
    /// no next attempt.
    fn step(&mut self, data: &[u8]) -> Result<Secret, AuthenticationError>;

    /// The server accepts the client; its last data are empty if there are none. Nothing is sent before this has returned.
    ///
    /// # Errors
    /// As [`step`](Self::step): here a method finds out a server that has not proved who it is.
    fn finish(&mut self, data: &[u8]) -> Result<(), AuthenticationError>;
}

/// The authenticator of some options.
#[derive(Clone)]
pub(crate) struct Method(pub(crate) Arc<dyn Authenticator>);

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Method").field(&self.0.method()).finish()
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What the machine asks, or the user for it.
#[derive(Debug)]
pub(crate) enum Question {
    /// About an attempt, and what it was prepared with.
    Connect {
        id: TransportId,
        prepared: Result<Choice, NotNow>,
    },
    Again {
        id: TransportId,
    },
    Step {
        id: TransportId,
        data: Secret,
    },
    Finish {
        id: TransportId,
        data: Secret,
    },
}

/// What is to be told about it.
#[derive(Debug)]
pub(crate) enum Told {
    Answer(Answer),
    /// Begin again with this.
    Again(TransportId, Option<Secret>),
    /// Give the connection up.
    Failed(TransportId, AuthenticationError),
    /// An exchange has ended well on a connection that was there before.
    Reauthenticated,
    Nothing,
}

/// The exchange that goes on.
struct Current {
    id: TransportId,
    exchange: Box<dyn Exchange>,
    again: bool,
}

/// The driver's side: what was asked, and the exchange that goes on.
#[derive(Default)]
pub(crate) struct Asker {
    current: Option<Current>,
    pub(crate) questions: Vec<Question>,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("questions", &self.questions.len()).finish_non_exhaustive()
    }
}

impl Asker {
    /// Whether questions wait for an answer.
    pub(crate) const fn is_asking(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Puts the question to the method. Not to be called under a lock.
    pub(crate) fn ask(&mut self, method: Option<&Method>, question: Question) -> Told {
        match question {
            Question::Connect { id, prepared: Err(NotNow(why)) } => {
                Told::Answer(Answer::NotPrepared { id, why })
            }
            Question::Connect { id, prepared: Ok(Choice { server, credentials }) } => {
                Told::Answer(match self.begin(method, id, false) {
                    Ok(initial_data) => Answer::Prepared { id, server, credentials, initial_data },
                    Err(AuthenticationError(why)) => Answer::NotPrepared { id, why },
                })
            }
            Question::Again { id } => match self.begin(method, id, true) {
                Ok(data) => Told::Again(id, data),
                Err(error) => Told::Failed(id, error),
            },
            Question::Step { id, data } => {
                match self.current_of(id).map(|it| it.exchange.step(data.expose())) {
                    Some(Ok(data)) => Told::Answer(Answer::Authenticate { id, data: Some(data) }),
                    Some(Err(error)) => self.fail(id, error),
                    None => self.fail(id, out_of_turn()),
                }
            }
            Question::Finish { id, data } => {
                match self.current_of(id).map(|it| (it.again, it.exchange.finish(data.expose()))) {
                    Some((again, Ok(()))) => {
                        self.current = None;
                        if again { Told::Reauthenticated } else { Told::Nothing }
                    }
                    Some((_, Err(error))) => self.fail(id, error),
                    None => self.fail(id, out_of_turn()),
                }
            }
        }
    }

    fn begin(
        &mut self,
        method: Option<&Method>,
        id: TransportId,
        again: bool,
    ) -> Result<Option<Secret>, AuthenticationError> {
        let Some(Method(method)) = method else { return Ok(None) };
        self.current = None;
        let (exchange, data) = method.begin()?;
        self.current = Some(Current { id, exchange, again });
        Ok(data)
    }

    fn current_of(&mut self, id: TransportId) -> Option<&mut Current> {
        self.current.as_mut().filter(|current| current.id == id)
    }

    fn fail(&mut self, id: TransportId, error: AuthenticationError) -> Told {
        self.current = None;
        Told::Failed(id, error)
    }
}

fn out_of_turn() -> AuthenticationError {
    AuthenticationError("the server takes a step of an exchange that has ended or never begun".to_owned())
}
