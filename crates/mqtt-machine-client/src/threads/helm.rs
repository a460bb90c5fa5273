//! Owns what a client asks of an adapter that lets the threads of its users drive it. It must not know how it is driven.

use std::fmt;
use std::task::Context;
use std::time::Instant;

/// Lets threads that call a client do for it what else its own thread would have to be woken for; see
/// [`Handle::steered_by`](super::Handle::steered_by).
pub trait Helm: fmt::Debug + Send + Sync {
    /// A thread has given the client something to do, and goes on with its own. The driver was to be woken for it, and was not: either
    /// what there is to do is done now, or it is woken.
    fn attend(&self);

    /// Waits until `poll` is true, which is polled as a future is, for as long as `deadline` lets it; false when it was not. The
    /// thread that waits may drive the client meanwhile.
    fn wait(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> bool, deadline: Option<Instant>) -> bool;
}
