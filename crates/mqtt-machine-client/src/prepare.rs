//! Owns the question that is asked before every attempt to connect: to which server, with which credentials. It must not know
//! how a server is reached, nor how a client proves who it is.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mqtt_machine::{Credentials, EndReason, Secret, Server, TransportId};

/// An attempt to connect that is about to begin.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attempt {
    /// The server whose turn it is: the next one of [`Config::servers`](mqtt_machine::Config), or where a server has sent the
    /// client. `None` when the configuration lists none.
    pub server: Option<Server>,
    /// How many attempts failed in a row before this one.
    pub failed: u32,
    /// Why the last attempt failed, or the last connection ended; `None` at the beginning and when the user asked to connect
    /// again after the client gave up.
    pub last: Option<EndReason>,
}

/// The answer to the question: what of the attempt is not as it is configured.
///
/// `Debug` prints no credentials.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "it is the answer"]
pub struct Prepared {
    server: Option<Server>,
    credentials: Option<Credentials>,
}

impl Prepared {
    /// Everything as it is configured: the server of [`Attempt::server`], the credentials of the configuration.
    pub fn as_configured() -> Self {
        Self::default()
    }

    /// To this server instead, named as in [`Config::servers`](mqtt_machine::Config).
    pub fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// With these credentials instead of the configured ones. When the server does not accept them, the client asks again after
    /// the back-off; a refusal of configured ones is for good.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// With this user name and password, as [`credentials`](Self::credentials).
    pub fn username_password(self, username: impl Into<String>, password: impl Into<bytes::Bytes>) -> Self {
        let password = Some(Secret::new(password.into()));
        self.credentials(Credentials { username: Some(username.into()), password })
    }
}

/// The other answer: not now. The attempt has failed with [`EndReason::NotPrepared`], and the next one follows the back-off. The
/// text is for people and must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotNow(pub String);

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotNow {}

type Preparing = Pin<Box<dyn Future<Output = Result<Prepared, NotNow>> + Send>>;

/// Whom some options ask.
#[derive(Clone)]
pub(crate) struct Prepare(Arc<dyn Fn(Attempt) -> Preparing + Send + Sync>);

impl Prepare {
    pub(crate) fn at_once(ask: impl Fn(Attempt) -> Result<Prepared, NotNow> + Send + Sync + 'static) -> Self {
        Self::slowly(move |attempt| ready(ask(attempt)))
    }

    pub(crate) fn slowly<F>(ask: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Prepared, NotNow>> + Send + 'static,
    {
        Self(Arc::new(move |attempt| Box::pin(ask(attempt))))
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

impl PartialEq for Prepare {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What an attempt was prepared with.
#[derive(Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) server: Server,
    pub(crate) credentials: Option<Credentials>,
}

/// The driver's side: the question that waits for its answer.
#[derive(Default)]
pub(crate) struct Preparer {
    question: Option<Box<Question>>,
    /// Questions that nobody waits for any more, to be dropped where no lock is held.
    stale: Vec<Question>,
}

struct Question {
    id: TransportId,
    /// The configured answer.
    server: Option<Server>,
    step: Step,
}

enum Step {
    /// Nobody was asked yet.
    Ask(Attempt),
    Wait(Preparing),
}

impl fmt::Debug for Preparer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asks = self.question.as_ref().map(|question| question.id);
        f.debug_struct("Preparer").field("asks", &asks).finish_non_exhaustive()
    }
}

impl Preparer {
    /// Whether there is a question to go on with.
    pub(crate) const fn has_question(&self) -> bool {
        self.question.is_some()
    }

    /// Notes the question about the attempt `id`; there is never more than one attempt.
    pub(crate) fn note(&mut self, id: TransportId, attempt: Attempt) {
        let question = Question { id, server: attempt.server.clone(), step: Step::Ask(attempt) };
        self.stale.extend(self.question.replace(Box::new(question)).map(|stale| *stale));
    }

    /// Goes on with the question, which `prepare` answers; its answer, when it is there. `waits` says whether the machine still waits for the answer about an
    /// attempt: if not, the question is dropped, and what was begun for it. Not to be called under a lock.
    pub(crate) fn poll(
        &mut self,
        prepare: Option<&Prepare>,
        waker: &Waker,
        waits: impl FnOnce(TransportId) -> bool,
    ) -> Option<(TransportId, Result<Choice, NotNow>)> {
        self.stale = Vec::new();
        let Question { id, server, step } = *self.question.take()?;
        if !waits(id) {
            return None;
        }
        let mut preparing = match (step, prepare) {
            (Step::Wait(preparing), _) => preparing,
            (Step::Ask(attempt), Some(Prepare(ask))) => ask(attempt),
            // No closure can be asked: go on with what is configured.
            (Step::Ask(_), None) => Box::pin(ready(Ok(Prepared::as_configured()))),
        };
        match preparing.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => {
                self.question = Some(Box::new(Question { id, server, step: Step::Wait(preparing) }));
                None
            }
            Poll::Ready(answer) => Some((id, answer.and_then(|prepared| chosen(prepared, server)))),
        }
    }
}

fn chosen(prepared: Prepared, configured: Option<Server>) -> Result<Choice, NotNow> {
    match prepared.server.or(configured) {
        Some(server) => Ok(Choice { server, credentials: prepared.credentials }),
        None => Err(NotNow("no server is configured, and none was named".to_owned())),
    }
}
