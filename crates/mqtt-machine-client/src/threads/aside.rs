//! Owns work that blocks, on a short-lived thread beside the driver. It must not know what the work is.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// Nothing here needs much of a stack, but name services load what they like.
const STACK: usize = 512 << 10;

enum State<T> {
    Working(Option<Waker>),
    Done(io::Result<T>),
    /// The result was taken, or nobody wants it.
    Over,
}

struct Shared<T>(Mutex<State<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's end: what it does not deliver is an error, also when it panics.
struct Worker<T>(Arc<Shared<T>>);

impl<T> Worker<T> {
    fn deliver(&self, result: io::Result<T>) {
        let mut state = self.0.lock();
        let State::Working(waker) = &mut *state else {
            drop(state);
            // Nobody wants it; it may take its time to go.
            return drop(result);
        };
        let waker = waker.take();
        *state = State::Done(result);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.deliver(Err(io::Error::other("the thread that did it has panicked")));
    }
}

/// The other end.
struct Waiter<T>(Arc<Shared<T>>);

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let unwanted = std::mem::replace(&mut *self.0.lock(), State::Over);
        // Not under the lock.
        drop(unwanted);
    }
}

/// Begins `work` on a thread of its own, with a stack of 512 KiB; the future gives its result. When that is dropped the work still comes to
/// its end, and the result is dropped there.
///
/// # Errors
/// Those of `work`, that there is no thread left, or that `work` has panicked.
pub fn aside<T, W>(name: &str, work: W) -> impl Future<Output = io::Result<T>> + Send + use<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> io::Result<T> + Send + 'static,
{
    let shared = Arc::new(Shared(Mutex::new(State::Working(None))));
    let worker = Worker(Arc::clone(&shared));
    let waiter = Waiter(shared);
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    let spawned = thread.spawn(move || worker.deliver(work()));
    async move {
        spawned?;
        poll_fn(|context| {
            let mut state = waiter.0.lock();
            if let State::Working(waker) = &mut *state {
                *waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            match std::mem::replace(&mut *state, State::Over) {
                State::Done(result) => Poll::Ready(result),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use crate::wake::block_until;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn what_a_thread_does_is_waited_for_also_when_it_panics() {
        assert_eq!(block_until(aside("fine", || Ok(7)), soon()).unwrap().unwrap(), 7);
        let failing = aside("failing", || Err::<(), _>(io::ErrorKind::NotFound.into()));
        assert_eq!(block_until(failing, soon()).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        let panicking = aside("panicking", || -> io::Result<()> { panic!("on purpose") });
        assert!(block_until(panicking, soon()).unwrap().is_err());
    }

    #[test]
    fn what_nobody_waits_for_is_dropped_when_it_is_done() {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (dropped, told) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let working = aside("unwanted", move || {
            gate.recv().unwrap();
            Ok(Told(dropped))
        });
        drop(working);
        assert!(told.try_recv().is_err());
        go.send(()).unwrap();
        told.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}
