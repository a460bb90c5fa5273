//! Owns the questions of the machine that the user answers: before an attempt, and for authentication. It must not know bytes.

use std::task::Waker;

use mqtt_machine::Answer;

use super::Driver;
use crate::authenticate::{AuthenticationError, Question, Told};
use crate::events::ClientEvent;
use crate::reauthenticate::ReauthenticationError;

impl Driver {
    /// Goes on with the question before an attempt; when it is answered, the authenticator is next.
    pub(super) fn prepare(&mut self, waker: &Waker) {
        let waits = |id| self.shared.lock().machine.is_preparing(id);
        if let Some((id, prepared)) = self.preparer.poll(waker, waits) {
            self.asker.questions.push(Question::Connect { id, prepared });
        }
    }

    /// Asks the authenticator what was asked of the client, and tells the machine.
    pub(super) fn authenticate(&mut self) {
        for question in std::mem::take(&mut self.asker.questions) {
            let told = self.asker.ask(question);
            self.shared.with(|state, now, wakes| {
                let give_up = |id| Answer::Authenticate { id, data: None };
                match told {
                    Told::Answer(answer) => state.machine.answer(now, answer),
                    // The connection that it was meant for may have ended by now.
                    Told::Again(id, data) => {
                        let here = self.transport == Some(id);
                        if !here || state.machine.reauthenticate(now, data).is_err() {
                            let error = ReauthenticationError::NotConnected;
                            state.reauthentication.end(Err(error), wakes);
                        }
                    }
                    Told::Failed(id, AuthenticationError(why)) => {
                        let error = ReauthenticationError::Failed(why.clone());
                        state.reauthentication.end(Err(error), wakes);
                        state.tell(&ClientEvent::AuthenticationFailed { why }, wakes);
                        state.machine.answer(now, give_up(id));
                    }
                    Told::Reauthenticated => {
                        state.reauthentication.end(Ok(()), wakes);
                        state.tell(&ClientEvent::Reauthenticated, wakes);
                    }
                    Told::Nothing => {}
                }
            });
        }
    }
}
