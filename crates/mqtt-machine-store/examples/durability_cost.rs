//! What durability costs: messages a second at QoS 1 under each policy, and what is written to the file for each message. The broker is
//! the model broker, in the same process.
//!
//! ```sh
//! cargo run --release -p mqtt-machine-store --example durability_cost -- 20000 100
//! ```
//!
//! The arguments are how many messages, and the bytes of their payload. The file is in the temporary folder, `TMPDIR` moves it.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mqtt_machine_store::{StorageBackend, StoreFile};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{Client, Delivery, Durability, Message, Options, Outcome, QoS};
use redb::backends::FileBackend;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

/// A file that counts what is written to it.
#[derive(Debug)]
struct Counting {
    file: FileBackend,
    counts: Arc<Counts>,
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// One line of the table.
struct Case {
    name: &'static str,
    policy: Option<Durability>,
    /// Publications that are open at once.
    window: usize,
}

async fn take(open: &mut VecDeque<Delivery>) -> Result<()> {
    let Some(delivery) = open.pop_front() else { return Ok(()) };
    match delivery.await {
        Outcome::Acknowledged(_) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn run(case: &Case, path: &Path, messages: u64, payload: usize) -> Result<String> {
    let broker = Broker::start(BrokerConfig::new())?;
    let counts = Arc::new(Counts::default());
    let mut options = Options::from_url(&format!("{}?client_id=cost", broker.url()))?;
    if let Some(policy) = case.policy {
        let _ = fs::remove_file(path);
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let backend = Counting { file: FileBackend::new(file)?, counts: Arc::clone(&counts) };
        options = options.store(StoreFile::over(backend)?.client("cost")?).durability(policy);
    }
    let client = Client::connect(options).await?;
    let message = Message::to("cost", vec![b'x'; payload])?.qos(QoS::AtLeastOnce);
    let before = [&counts.bytes, &counts.syncs].map(|count| count.load(Ordering::Relaxed));
    let begin = Instant::now();
    let mut open = VecDeque::new();
    for _ in 0..messages {
        if open.len() >= case.window {
            take(&mut open).await?;
        }
        open.push_back(client.publish(message.clone()).await?);
    }
    while !open.is_empty() {
        take(&mut open).await?;
    }
    client.disconnect().await?;
    let took = begin.elapsed().as_secs_f64();
    let [bytes, syncs] = [&counts.bytes, &counts.syncs].map(|count| count.load(Ordering::Relaxed));
    let each = |count: u64| count as f64 / messages as f64;
    Ok(format!(
        "| {} | {} | {:.0} | {:.0} | {:.4} |",
        case.name,
        case.window,
        messages as f64 / took,
        each(bytes - before[0]),
        each(syncs - before[1])
    ))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let messages: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let payload: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let path = std::env::temp_dir().join(format!("mqtt-machine-cost-{}", std::process::id()));
    let within = |milliseconds| Some(Durability::Within(Duration::from_millis(milliseconds)));
    let cases = [
        Case { name: "no store", policy: None, window: 500 },
        Case { name: "`OnDrain`", policy: Some(Durability::OnDrain), window: 500 },
        Case { name: "`Within(20 ms)`", policy: within(20), window: 500 },
        Case { name: "`Within(5 ms)`", policy: within(5), window: 500 },
        Case { name: "`Each`", policy: Some(Durability::Each), window: 500 },
        Case { name: "`Each`", policy: Some(Durability::Each), window: 10 },
        Case { name: "`Each`", policy: Some(Durability::Each), window: 1 },
        Case { name: "no store", policy: None, window: 1 },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{messages} messages of {payload} bytes, a tenth of them where one or ten are open at once");
    println!("| policy | open at once | messages/s | bytes written per message | syncs per message |");
    println!("| --- | --- | --- | --- | --- |");
    for case in &cases {
        let messages = if case.window < 100 { messages / 10 } else { messages };
        println!("{}", runtime.block_on(run(case, &path, messages.max(1), payload))?);
    }
    let _ = fs::remove_file(&path);
    Ok(())
}
