//! Owns the thread that writes to a store, and what the driver and it tell each other. It must not know what records mean.
//!
//! The driver hands over what the machine recorded in a turn. Whatever has come while the store was writing is the next batch, so that
//! one sync serves all of it. What is queued is bounded by the machine's own caps: it sends nothing, and takes nothing more
//! in, than what waits for the store.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mqtt_machine::JournalSeq;
use mqtt_machine::journal::Record;

use super::batch::Batch;
use super::{Durability, Store, StoreError};

/// How long a driver that is dropped waits for its last records.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the store has done since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Records up to the first are durable as far as the machine is concerned, and up to the second in truth.
    Durable(JournalSeq, JournalSeq),
    Failed(StoreError),
}

#[derive(Debug)]
struct Desk {
    records: Vec<Record>,
    /// The newest record that was handed over.
    upto: JournalSeq,
    /// The newest record that is in the store.
    kept: JournalSeq,
    failed: Option<StoreError>,
    /// When the oldest of the records came.
    since: Option<Instant>,
    /// Nothing waits for more to come.
    hurry: bool,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Link {
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's end of the thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    link: Arc<Link>,
    durability: Durability,
    /// Collected in this turn.
    records: Vec<Record>,
    upto: JournalSeq,
    told: Option<News>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(store: Box<dyn Store>, durability: Durability, restored: usize) -> io::Result<Self> {
        let upto = JournalSeq::new(restored as u64);
        let desk = Desk {
            records: Vec::new(),
            upto,
            kept: upto,
            failed: None,
            since: None,
            hurry: false,
            closed: false,
            waker: None,
        };
        let link = Arc::new(Link { desk: Mutex::new(desk), changed: Condvar::new() });
        let theirs = Arc::clone(&link);
        thread::Builder::new()
            .name("mqtt-store".to_owned())
            .spawn(move || Writer { link: theirs, store, durability, batch: Batch::default() }.run())?;
        Ok(Self { link, durability, records: Vec::new(), upto, told: None })
    }

    /// Takes a record of this turn.
    pub(crate) fn take(&mut self, seq: JournalSeq, record: Record) {
        self.records.push(record);
        self.upto = seq;
    }

    /// Hands the records of a turn over. True when there is [`news`](Self::news) already: nobody is woken for it.
    pub(crate) fn hand_over(&mut self, waker: &Waker) -> bool {
        let mut desk = self.link.lock();
        if !self.records.is_empty() {
            if desk.failed.is_none() {
                desk.records.append(&mut self.records);
                desk.since.get_or_insert_with(Instant::now);
            }
            self.records.clear();
            desk.upto = self.upto;
            self.link.changed.notify_all();
        }
        match &mut desk.waker {
            Some(known) => known.clone_from(waker),
            None => desk.waker = Some(waker.clone()),
        }
        let news = self.read(&desk);
        drop(desk);
        self.told.as_ref() != Some(&news)
    }

    fn read(&self, desk: &Desk) -> News {
        match &desk.failed {
            Some(error) => News::Failed(error.clone()),
            None if self.durability == Durability::OnDrain && !desk.hurry => {
                News::Durable(desk.upto, desk.kept)
            }
            None => News::Durable(desk.kept, desk.kept),
        }
    }

    /// What has changed since this was last asked.
    pub(crate) fn news(&mut self) -> Option<News> {
        let news = self.read(&self.link.lock());
        if self.told.as_ref() == Some(&news) {
            return None;
        }
        self.told = Some(news.clone());
        Some(news)
    }

    /// The client is ending: from now on nothing counts as durable that is not. True when all that did is, by now.
    pub(crate) fn drain(&mut self) -> bool {
        let mut desk = self.link.lock();
        if !desk.hurry {
            desk.hurry = true;
            self.link.changed.notify_all();
        }
        desk.failed.is_some() || self.durability != Durability::OnDrain || desk.kept >= desk.upto
    }

    /// Waits until all that was handed over is durable, or the store has failed or takes too long.
    pub(crate) fn finish(&mut self) -> Option<News> {
        self.hand_over(Waker::noop());
        let deadline = Instant::now().checked_add(FAREWELL);
        let mut desk = self.link.lock();
        desk.hurry = true;
        desk.closed = true;
        self.link.changed.notify_all();
        while desk.failed.is_none() && desk.kept < desk.upto {
            let left =
                deadline.map_or(FAREWELL, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let waited = self.link.changed.wait_timeout(desk, left);
            desk = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(desk, _)| desk);
        }
        drop(desk);
        self.news()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.link.lock().closed = true;
        self.link.changed.notify_all();
    }
}

/// The thread's own.
struct Writer {
    link: Arc<Link>,
    store: Box<dyn Store>,
    durability: Durability,
    batch: Batch,
}

impl Writer {
    fn run(mut self) {
        while let Some((records, upto, writes)) = self.next() {
            records.iter().for_each(|record| self.batch.add(record));
            drop(records);
            if !writes {
                continue;
            }
            let changes = self.batch.take();
            let result = match changes.as_slice() {
                [] => Ok(()),
                changes => self.store.apply(changes, SystemTime::now()),
            };
            let mut desk = self.link.lock();
            match result {
                Ok(()) => desk.kept = upto,
                Err(error) => {
                    desk.failed = Some(error);
                    desk.records = Vec::new();
                }
            }
            let waker = desk.waker.take();
            let failed = desk.failed.is_some();
            drop(desk);
            self.link.changed.notify_all();
            if let Some(waker) = waker {
                waker.wake();
            }
            if failed {
                return;
            }
        }
    }

    /// The next records, up to where, and whether it is time to write; `None` when there will be none.
    fn next(&self) -> Option<(Vec<Record>, JournalSeq, bool)> {
        let mut desk = self.link.lock();
        loop {
            let lazy = self.durability == Durability::OnDrain && !desk.hurry && !desk.closed;
            let behind = desk.kept < desk.upto || !self.batch.is_empty();
            if !desk.records.is_empty() || (behind && !lazy) {
                let wait = match self.durability {
                    Durability::Within(time) if !desk.hurry && !desk.closed => {
                        time.saturating_sub(desk.since.map_or(time, |since| since.elapsed()))
                    }
                    _ => Duration::ZERO,
                };
                if wait.is_zero() {
                    desk.since = None;
                    return Some((std::mem::take(&mut desk.records), desk.upto, !lazy));
                }
                let waited = self.link.changed.wait_timeout(desk, wait);
                desk = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(desk, _)| desk);
                continue;
            }
            if desk.closed {
                return None;
            }
            desk = self.link.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
