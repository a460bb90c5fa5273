//! Owns how a second thread waits for the sockets that the host waits for too. It must not know what it waits for.

use std::io;
use std::time::Duration;

use crate::network::Threads;

/// Whether it can.
pub(crate) const CAN_LEAD: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The longest wait that every Linux takes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// Waits until something happens to a socket or somebody is roused, for at most so long, and tells either as news of the sockets: a read
/// that blocks is the price of not knowing whose event it was.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn wait(threads: &Threads, timeout: Option<Duration>) -> io::Result<()> {
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::event::Timespec;
    use rustix::event::epoll::{self, Event, EventFlags};

    const MILLI: u32 = 1_000_000;

    let timeout = timeout.map(|timeout| {
        let timeout = timeout.min(LONGEST);
        // Whole milliseconds, and none less.
        let millis = timeout.as_nanos().div_ceil(u128::from(MILLI));
        let (secs, rest) = (millis / 1_000, millis % 1_000);
        Timespec {
            tv_sec: secs.try_into().unwrap_or_default(),
            tv_nsec: (rest as u32).saturating_mul(MILLI).into(),
        }
    });
    let mut room = [MaybeUninit::<Event>::uninit(); 8];
    match epoll::wait(threads.registry().as_fd(), &mut room, timeout.as_ref()) {
        Ok((happened, _)) => {
            let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
            let ended = happened.iter().any(|event| { event.flags }.intersects(end));
            if !happened.is_empty() {
                threads.stir(ended);
            }
            Ok(())
        }
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Nobody is to call this.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn wait(_: &Threads, _: Option<Duration>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
