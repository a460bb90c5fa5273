//! Owns who drives a client: its own thread, the host, or a guest, which is a thread that calls it. It must not know MQTT.
//!
//! A thread that publishes writes by itself what it may write at once, and one that waits reads by itself what it waits for; else each
//! message would take a way through the host, and each hop of that costs more than the message. The host waits for the sockets while
//! no guest does, and sees to all that no guest sees to: it looks late by one [`DOZE`], and by another only after a guest has looked.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mqtt_machine_client::{Run, block_until, threads};

use crate::network::Threads;
use crate::notify::Notify;
use crate::wait::{CAN_LEAD, wait};

/// How soon the host looks again after it has found guests at work, who need not wake it then: it leaves to them what they are about to
/// do.
pub(crate) const DOZE: Duration = Duration::from_millis(1);
/// So often guests have asked for work, or waited for it, since the host was woken last when it takes them to be at work. One who publishes
/// now and then does it twice: first it writes by itself, then it wakes the host.
const AT_WORK: u64 = 3;
/// After so many turns of the machine the host looks whether guests are at work.
const TURNS: usize = 4;

/// What host and guests share.
pub(crate) struct Helm {
    work: Mutex<Work>,
    threads: Threads,
    notify: Arc<Notify>,
    /// That of the driver.
    waker: Waker,
    /// How often guests have asked for work, or waited for it.
    guests: AtomicU64,
    /// How often a guest has waited for the sockets.
    looks: AtomicU64,
    /// Nothing was written by a guest on its way since somebody has looked at the sockets: the next one may.
    direct: AtomicBool,
    /// The guest that waits for the sockets, of whom there is one at most.
    leader: Arc<Leader>,
    /// The host, while it waits for the leader to leave.
    parked: Mutex<Option<Thread>>,
    /// How many guests wait to be woken, since there is a leader.
    waiting: AtomicUsize,
}

struct Work {
    /// `None`: the client has ended.
    run: Option<Run<Threads>>,
    /// When the host looks by itself; `None`: never.
    host: Option<Instant>,
}

/// What the host knows of the guests.
#[derive(Default)]
pub(crate) struct Naps {
    /// How often guests had asked for work, or waited for it, when the host was woken last.
    seen: u64,
    /// How often one had waited for the sockets then.
    looks: u64,
}

/// What came of a guest's work.
struct Worked {
    /// It has left nothing to the host.
    able: bool,
    /// There is more to do.
    more: bool,
    /// A time at which somebody has to look, which the host does not know of.
    due: Option<Instant>,
}

/// The waker of the guest that waits for the sockets.
struct Leader {
    leads: AtomicBool,
    ready: AtomicBool,
    asleep: AtomicBool,
    notify: Arc<Notify>,
}

impl Wake for Leader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.notify.rouse();
        }
    }
}

impl Helm {
    pub(crate) fn new(run: Run<Threads>, threads: Threads, notify: Arc<Notify>) -> Self {
        let leader = Leader {
            leads: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            notify: Arc::clone(&notify),
        };
        Self {
            work: Mutex::new(Work { run: Some(run), host: Some(Instant::now()) }),
            threads,
            waker: Waker::from(Arc::clone(&notify)),
            notify,
            guests: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            direct: AtomicBool::new(true),
            leader: Arc::new(leader),
            parked: Mutex::new(None),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) const fn threads(&self) -> &Threads {
        &self.threads
    }

    /// That of the driver.
    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The work of the host: all that there is to do. When the next is due, and whether the client has ended.
    pub(crate) fn work(&self) -> (Option<Instant>, bool) {
        let work = &mut *lock(&self.work);
        let Some(run) = &mut work.run else { return (None, true) };
        self.notify.begin();
        let done = run.poll_turns(&mut Context::from_waker(&self.waker), TURNS).is_ready();
        let timer = self.threads.take_timer();
        let more = self.notify.end_or_go_on();
        self.direct.store(true, Ordering::Relaxed);
        work.host = if more { Some(Instant::now()) } else { timer }.filter(|_| !done);
        (work.host, done)
    }

    /// The client ends.
    pub(crate) fn end(&self) {
        let run = lock(&self.work).run.take();
        // Not under the lock: outcomes are told, and those whom they wake may look here.
        drop(run);
    }

    fn work_as_guest(&self, mut work: MutexGuard<'_, Work>) -> Worked {
        let Some(run) = &mut work.run else {
            return Worked { able: false, more: false, due: None };
        };
        self.notify.begin();
        let worked = AssertUnwindSafe(|| run.poll_as_guest(&mut Context::from_waker(&self.waker)));
        let able = match catch_unwind(worked) {
            Ok(able) => able,
            Err(panic) => {
                // Somebody's waker. The client ends as it does when its own thread panics, and nobody waits for it in vain.
                let run = work.run.take();
                drop(work);
                self.notify.end();
                self.notify.rouse();
                drop(run);
                resume_unwind(panic)
            }
        };
        let due = self.threads.take_timer();
        let more = self.notify.end();
        Worked { able, more, due: due.filter(|due| work.host.is_none_or(|host| *due < host)) }
    }

    /// Lets the host wait for at most so long while a guest waits for the sockets in its place, and a [`DOZE`] more; false when none does.
    /// Of those who wait for the sockets Linux wakes the one that has come last, which is to be the guest.
    pub(crate) fn yields(&self, timeout: Option<Duration>) -> bool {
        if !self.leader.leads.load(Ordering::SeqCst) {
            return false;
        }
        *lock(&self.parked) = Some(thread::current());
        if self.leader.leads.load(Ordering::SeqCst) {
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        *lock(&self.parked) = None;
        if !self.leader.leads.load(Ordering::SeqCst) && self.waiting.load(Ordering::SeqCst) == 0 {
            // It looks at what came, and is back soon.
            thread::sleep(timeout.map_or(DOZE, |timeout| timeout.min(DOZE)));
        }
        true
    }

    /// The host was woken: what for is told to the guest that waits for the sockets, if one does.
    pub(crate) fn passes_on(&self) -> bool {
        let is_led = self.leader.leads.load(Ordering::SeqCst);
        if is_led {
            self.notify.rouse();
        }
        is_led
    }

    /// Whether the host, which was woken, goes on to sleep, for a [`DOZE`], since guests are at work. It does so again only when one of them
    /// has looked at the sockets in its place, and when nothing `is_due`.
    pub(crate) fn dozes(&self, naps: &mut Naps, is_due: bool) -> bool {
        let (guests, looks) = (self.guests.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed));
        let begins = !self.is_dozing();
        let dozes =
            if begins { guests.wrapping_sub(naps.seen) >= AT_WORK } else { looks != naps.looks && !is_due };
        *naps = Naps { seen: guests, looks };
        self.notify.set_dozes(dozes);
        if dozes && (begins || self.notify.is_woken()) {
            // A guest that is asleep does not know.
            self.passes_on();
        }
        dozes
    }

    /// The host does not wait for the sockets, but looks soon.
    pub(crate) fn is_dozing(&self) -> bool {
        self.notify.dozes()
    }

    /// Waits for the sockets until `poll` is true or its time is up, and does what there is to do; `None` when that is the host's.
    fn lead(
        &self,
        mut lead: Lead<'_>,
        poll: &mut dyn FnMut(&mut Context<'_>) -> bool,
        deadline: Option<Instant>,
    ) -> Option<bool> {
        let leader = &self.leader;
        let waker = Waker::from(Arc::clone(leader));
        let mut context = Context::from_waker(&waker);
        self.guests.fetch_add(1, Ordering::Relaxed);
        // What a publisher left comes first: it may stand back until that has been written.
        let mut works = self.notify.is_woken();
        loop {
            if works && !self.work_as_leader(&mut lead) {
                return None;
            }
            leader.ready.store(false, Ordering::SeqCst);
            if poll(&mut context) {
                return Some(true);
            }
            works = true;
            let end = deadline.into_iter().chain(lead.due).min();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) && end == deadline {
                return Some(false);
            }
            if !self.notify.is_woken() {
                self.sleep(left).ok()?;
            }
        }
    }

    /// False when what there is to do is the host's.
    fn work_as_leader(&self, lead: &mut Lead<'_>) -> bool {
        let work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(work)) => work.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Who is at work looks once more, and is not waited for: it may be code of the user's that takes its time.
                lead.due = None;
                self.waker.wake_by_ref();
                thread::yield_now();
                return true;
            }
        };
        let worked = self.work_as_guest(work);
        self.direct.store(true, Ordering::Relaxed);
        lead.due = worked.due;
        if worked.more {
            self.waker.wake_by_ref();
        }
        worked.able
    }

    /// Waits for the sockets, or a wake-up, for at most so long.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.notify.set_led(true);
        self.leader.asleep.store(true, Ordering::SeqCst);
        let woken = self.notify.is_woken() || self.leader.ready.load(Ordering::SeqCst);
        let mut waited = Ok(());
        if !woken {
            waited = wait(&self.threads, timeout);
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        self.leader.asleep.store(false, Ordering::SeqCst);
        self.notify.set_led(false);
        waited
    }
}

/// The place of the leader, as long as it is taken.
struct Lead<'a> {
    helm: &'a Helm,
    /// When somebody has to look, if not the leader then the host.
    due: Option<Instant>,
}

impl<'a> Lead<'a> {
    fn take(helm: &'a Helm) -> Option<Self> {
        let is_free = CAN_LEAD && !helm.leader.leads.swap(true, Ordering::SeqCst);
        is_free.then(|| Self { helm, due: None })
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let Helm { leader, parked, notify, .. } = self.helm;
        leader.leads.store(false, Ordering::SeqCst);
        if let Some(host) = &*lock(parked) {
            host.unpark();
        }
        // What was told of something to do may have been told to this one, who found somebody at work.
        if (self.due.is_some() || notify.is_woken()) && !notify.dozes() {
            notify.rouse();
        }
    }
}

impl threads::Helm for Helm {
    fn attend(&self) {
        self.guests.fetch_add(1, Ordering::Relaxed);
        // One message at a time is written on its way. More are written together, by whoever looks next.
        let direct = !self.notify.dozes() && self.direct.swap(false, Ordering::Relaxed);
        let work = match self.work.try_lock() {
            Ok(work) if direct => work,
            Err(TryLockError::Poisoned(work)) if direct => work.into_inner(),
            _ => return self.waker.wake_by_ref(),
        };
        let worked = self.work_as_guest(work);
        if !worked.able || worked.more {
            self.waker.wake_by_ref();
        }
        if worked.due.is_some() {
            self.notify.rouse();
        }
    }

    fn wait(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> bool, deadline: Option<Instant>) -> bool {
        if let Some(lead) = Lead::take(self) {
            if let Some(ready) = self.lead(lead, poll, deadline) {
                return ready;
            }
            self.waker.wake_by_ref();
        }
        let ready = |context: &mut Context<'_>| if poll(context) { Poll::Ready(()) } else { Poll::Pending };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let output = block_until(poll_fn(ready), deadline);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        output.is_some()
    }
}

impl fmt::Debug for Helm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helm").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use crate::{Client, Runner};

    use super::*;

    /// The client is there as long as its handle.
    fn runner() -> (Client, Runner) {
        Client::with_driver("mqtt://127.0.0.1:1").unwrap()
    }

    fn is_roused(runner: &mut Runner) -> bool {
        runner.wait(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn the_host_lies_down_again_only_for_a_guest_that_looks_at_the_sockets() {
        let (_client, runner) = runner();
        let (helm, mut naps) = (runner.helm(), Naps::default());
        assert!(!helm.dozes(&mut naps, false));
        helm.guests.fetch_add(AT_WORK, Ordering::Relaxed);
        assert!(helm.dozes(&mut naps, false));
        helm.guests.fetch_add(AT_WORK, Ordering::Relaxed);
        assert!(!helm.dozes(&mut naps, false) && !helm.notify.dozes());

        helm.guests.fetch_add(AT_WORK, Ordering::Relaxed);
        assert!(helm.dozes(&mut naps, false));
        let mut lead = Lead::take(helm).unwrap();
        helm.sleep(Some(Duration::ZERO)).unwrap();
        assert!(helm.dozes(&mut naps, false));
        helm.sleep(Some(Duration::ZERO)).unwrap();
        assert!(!helm.dozes(&mut naps, true), "its own time has come");
        lead.due = None;
    }

    #[test]
    fn a_leader_that_leaves_work_undone_tells_the_host() {
        let (_client, mut runner) = runner();
        let helm = Arc::clone(runner.helm());
        assert!(!is_roused(&mut runner));
        let mut lead = Lead::take(&helm).unwrap();
        assert!(Lead::take(&helm).is_none());
        {
            // Somebody is at work, and has looked for what is to be done already.
            let _work = lock(&helm.work);
            helm.waker.wake_by_ref();
            assert!(is_roused(&mut runner), "the leader takes this");
            assert!(helm.work_as_leader(&mut lead));
        }
        assert!(!is_roused(&mut runner));
        drop(lead);
        assert!(is_roused(&mut runner));
    }
}
