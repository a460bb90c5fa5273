//! A store in a file whose power is cut: everything after the last sync is lost, or torn, as chance has it. Under the simulator,
//! with all of its other faults. `POWER_CUTS` sets how many schedules are played, `POWER_CUTS_FROM` the first seed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use mqtt_machine::ProtocolVersion;
use mqtt_machine::journal::{self, Record};
use mqtt_machine_store::{ClientStore, StorageBackend, Store, StoreFile};
use mqtt_machine_testkit::Random;
use mqtt_machine_testkit::sim::{Report, Schedule, Storage};

/// The pieces in which a disk loses what was not synced.
const SECTOR: usize = 512;

/// What is on the disk for good, and what is on its way there.
#[derive(Clone, Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    seen: Vec<u8>,
    /// Places that were written since the last sync.
    late: Vec<(u64, Vec<u8>)>,
    /// How many more writes and syncs are carried out before the power is cut.
    left: Option<u64>,
    /// The power is off: a machine that still runs in a test sees errors.
    off: bool,
}

#[derive(Clone, Debug, Default)]
struct Backend {
    disk: Arc<Mutex<Disk>>,
}

impl Backend {
    fn with<T>(&self, f: impl FnOnce(&mut Disk) -> T) -> T {
        f(&mut self.disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn step(&self) -> io::Result<()> {
        self.with(|disk| match &mut disk.left {
            _ if disk.off => Err(io::Error::other("the power is off")),
            Some(0) => {
                disk.off = true;
                Err(io::Error::other("the power is off"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// What is there when the power comes back.
    fn after_the_cut(&self, random: &mut Random) -> Self {
        let disk = self.with(|disk| {
            let mut durable = disk.durable.clone();
            let longest = disk.late.iter().map(|(at, bytes)| *at as usize + bytes.len()).max().unwrap_or(0);
            durable.resize(durable.len().max(longest).min(disk.seen.len().max(durable.len())), 0);
            for (at, bytes) in &disk.late {
                // Each sector arrived, or did not, or is torn.
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    let from = *at as usize + number * SECTOR;
                    let kept = match random.range(0..=3) {
                        0 => 0,
                        1 => random.size(0..=sector.len()),
                        _ => sector.len(),
                    };
                    let to = (from + kept).min(durable.len());
                    if from < to {
                        durable[from..to].copy_from_slice(&sector[..to - from]);
                    }
                }
            }
            Disk { seen: durable.clone(), durable, ..Disk::default() }
        });
        Self { disk: Arc::new(Mutex::new(disk)) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|disk| disk.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|disk| {
            let from = offset as usize;
            let bytes = disk.seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.with(|disk| disk.seen.resize(len as usize, 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step()?;
        self.with(|disk| {
            disk.durable.clone_from(&disk.seen);
            disk.late.clear();
        });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.step();
        self.with(|disk| {
            // The write at which the power goes off may have reached the disk in part.
            disk.late.push((offset, data.to_vec()));
            if result.is_ok() {
                let from = offset as usize;
                disk.seen[from..from + data.len()].copy_from_slice(data);
            }
        });
        result
    }
}

struct InFile {
    backend: Backend,
    store: Option<ClientStore>,
}

impl fmt::Debug for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFile").finish_non_exhaustive()
    }
}

impl InFile {
    fn new() -> Self {
        Self { backend: Backend::default(), store: None }
    }

    fn store(&mut self) -> Result<&mut ClientStore, String> {
        if self.store.is_none() {
            let file = StoreFile::over(self.backend.clone()).map_err(|error| error.to_string())?;
            self.store = Some(file.client("client").map_err(|error| error.to_string())?);
        }
        self.store.as_mut().ok_or_else(String::new)
    }
}

impl Storage for InFile {
    fn apply(&mut self, records: &[Record]) -> Result<(), String> {
        let mut changes = Vec::new();
        records.iter().for_each(|record| journal::changes(record, &mut |change| changes.push(change)));
        self.store()?.apply(&changes, SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())
    }

    fn cut(&mut self, records: &[Record], random: &mut Random) {
        // A batch is a handful of writes and a sync or two, so the cut is before, within or behind it.
        let _ = self.store();
        let left = random.range(0..=12);
        self.backend.with(|disk| disk.left = Some(left));
        if !records.is_empty() {
            let _ = self.apply(records);
        }
        self.backend.with(|disk| disk.off = true);
        self.store = None;
        self.backend = self.backend.after_the_cut(random);
    }

    fn rows(&mut self) -> Result<BTreeMap<Bytes, Bytes>, String> {
        Ok(self.store()?.load().map_err(|error| error.to_string())?.rows.into_iter().collect())
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn no_power_cut_takes_what_was_durable_or_leaves_half_of_what_was_not() {
    let versions = [ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V3_1];
    let wanted = number("POWER_CUTS", 60);
    let mut report = Report::default();
    let mut seed = number("POWER_CUTS_FROM", 1);
    while report.schedules < wanted {
        let version = versions[(seed % 3) as usize];
        let schedule = Schedule::from_seed(version, seed).stored_in(|| Box::new(InFile::new()));
        seed += 1;
        if !schedule.is_durable() {
            continue;
        }
        match schedule.run() {
            Ok(one) => report += one,
            Err(failure) => panic!("{version}, seed {}:\n{failure}\n{schedule}", seed - 1),
        }
    }
    assert!(report.crashes >= wanted, "{report}");
    println!("{report}");
}
