//! Owns the runtime that commands run on, and the interrupts that end them. It must not know any command.

use std::future::{Future, pending};

use crate::failure::Failure;

/// Runs a command to its end on this thread.
pub(crate) fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime did not start: {error}")))?;
    runtime.block_on(future)
}

/// Ends at the first SIGINT or SIGTERM.
pub(crate) async fn interrupted() {
    Interrupts::new().next().await;
}

/// SIGINT and SIGTERM, none of which is missed from when this is made.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    signals: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Interrupts {
    #[cfg(unix)]
    pub(crate) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = [signal(SignalKind::interrupt()), signal(SignalKind::terminate())];
        let [Ok(interrupt), Ok(terminate)] = signals else { return Self { signals: None } };
        Self { signals: Some([interrupt, terminate]) }
    }

    #[cfg(not(unix))]
    pub(crate) const fn new() -> Self {
        Self {}
    }

    /// Ends at the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some([interrupt, terminate]) = &mut self.signals {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can interrupt then.
            pending::<()>().await;
        }
    }

    /// What `work` gives, unless an interrupt comes first: then it is over at once.
    pub(crate) async fn or_interrupted<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.next() => Err(Failure::Interrupted),
        }
    }
}
