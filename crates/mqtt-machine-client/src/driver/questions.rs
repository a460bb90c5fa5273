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
        let prepare = self.shared.prepare();
        let answer = self.preparer.get_mut().and_then(|preparer| preparer.poll(prepare, waker, waits));
        if let Some((id, prepared)) = answer {
            self.asker.make().questions.push(Question::Connect { id, prepared });
        }
    }

    /// Asks the authenticator what was asked of the client, and tells the machine.
    pub(super) fn authenticate(&mut self) {
        let Some(asker) = self.asker.get_mut() else { return };
        for question in std::mem::take(&mut asker.questions) {
            let told = asker.ask(self.shared.method(), question);
            self.shared.with(|state, now, wakes| {
                let give_up = |id| Answer::Authenticate { id, data: None };
                match told {
                    Told::Answer(answer) => state.machine.answer(now, answer),
                    // The connection that it was meant for may have ended by now.
                    Told::Again(id, data) => {
                        let here = self.transport == Some(id);
                        if !here || state.machine.reauthenticate(now, data).is_err() {
                            let error = ReauthenticationError::NotConnected;
                            state.reauthenticated(wakes, || Err(error));
                        }
                    }
                    Told::Failed(id, AuthenticationError(why)) => {
                        let error = ReauthenticationError::Failed(why.clone());
                        state.reauthenticated(wakes, || Err(error));
                        state.tell(&ClientEvent::AuthenticationFailed { why }, wakes);
                        state.machine.answer(now, give_up(id));
                    }
                    Told::Reauthenticated => {
                        state.reauthenticated(wakes, || Ok(()));
                        state.tell(&ClientEvent::Reauthenticated, wakes);
                    }
                    Told::Nothing => {}
                }
            });
        }
    }
}
