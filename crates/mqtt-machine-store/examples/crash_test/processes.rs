//! Owns the three processes, each of which may be killed at any moment. It must not know that they are.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mqtt_machine_store::StoreFile;
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Backoff, CleanStart, Client, Message, Options, Outcome, PublishKey, QoS, Subscription,
};

use crate::{Plan, Result, store, verdict};

/// Publications that the publisher has open at once.
const WINDOW: usize = 500;

pub(crate) fn broker(plan: &Plan) -> Result<()> {
    let _broker = Broker::start_journaled(BrokerConfig::new(), plan.port, &plan.file("broker.diary"))?;
    loop {
        std::thread::park();
    }
}

fn options(plan: &Plan, part: &str) -> Result<Options> {
    let file = StoreFile::open(store(&plan.folder, part))?;
    let url = format!("mqtt://127.0.0.1:{}?client_id={part}", plan.port);
    let backoff =
        Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200), ..Backoff::DEFAULT };
    let options = Options::from_url(&url)?.store(file.client(part)?);
    // mosquitto 2.0.11 does not keep, across its restart, a session that began with Clean Start.
    Ok(options.configure(|config| {
        config.clean_start(CleanStart::OwnOnly).session_expiry(Duration::from_secs(86_400)).backoff(backoff)
    }))
}

fn qos(plan: &Plan) -> QoS {
    if plan.qos == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }
}

/// How many messages had ended when this was written; 0 without a file.
pub(crate) fn progress(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A number in a file, which is there as a whole or not.
fn note(path: &Path, number: u64) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    write!(file, "{number}")?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    Ok(())
}

fn run<F: Future<Output = Result<()>>>(future: F) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Publishes the messages in order, each under its number as key, so that one that was published before a crash is not published
/// again. What has ended is noted, and only then forgotten.
pub(crate) fn publisher(plan: &Plan) -> Result<()> {
    let done = plan.file("publisher.done");
    run(async {
        while progress(&plan.file("subscriber.ready")) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let client = Client::start(options(plan, "publisher")?)?;
        let (mut ended, mut next) = (progress(&done), progress(&done));
        let mut noted = ended;
        let mut open = VecDeque::new();
        while ended < plan.messages {
            while open.len() < WINDOW && next < plan.messages {
                let message =
                    Message::to(&format!("crash/{}", next % plan.topics), next.to_string())?.qos(qos(plan));
                open.push_back(client.publish_keyed(PublishKey::new(next.to_string())?, message).await?);
                next += 1;
            }
            let Some(delivery) = open.pop_front() else { break };
            match delivery.await {
                Outcome::Acknowledged(_) => ended += 1,
                outcome => return Err(format!("message {ended} ended as {outcome:?}").into()),
            }
            if ended - noted >= 100 || ended == plan.messages {
                note(&done, ended)?;
                for number in noted..ended {
                    client.forget(&PublishKey::new(number.to_string())?);
                }
                noted = ended;
            }
        }
        client.disconnect().await?;
        Ok(())
    })
}

/// Takes messages, keeps each with its key in its own record, and acknowledges it when that is on the disk. A key that is in the
/// record already is acknowledged and not kept again.
pub(crate) fn subscriber(plan: &Plan) -> Result<()> {
    let path = plan.file("consumer");
    let known = verdict::lines(&path)?;
    let whole: usize = known.iter().map(|line| line.len() + 1).sum();
    let mut record = OpenOptions::new().create(true).append(true).open(&path)?;
    // A line that a crash cut off is as if it never was: its message was not acknowledged.
    record.set_len(whole as u64)?;
    let mut keys: BTreeSet<String> =
        known.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    run(async {
        let client = Client::start(options(plan, "subscriber")?)?;
        let mut messages = client.messages();
        let mut subscribing = std::pin::pin!(client.subscribe("crash/+", qos(plan)));
        let mut subscription: Option<Subscription> = None;
        loop {
            let first = tokio::select! {
                biased;
                granted = &mut subscribing, if subscription.is_none() => {
                    subscription = Some(granted?);
                    // From now on nothing that is published may be missed.
                    note(&plan.file("subscriber.ready"), 1)?;
                    continue;
                }
                message = messages.recv() => message,
                message = async {
                    match &mut subscription {
                        Some(subscription) => subscription.recv().await,
                        None => std::future::pending().await,
                    }
                } => message,
            };
            let Some(first) = first else { return Err("the client has ended".into()) };
            let mut batch = vec![first];
            while batch.len() < 100
                && let Some(Ok(more)) = subscription.as_mut().map(Subscription::try_recv)
            {
                batch.push(more);
            }
            let mut lines = String::new();
            for message in &batch {
                let key = message.delivery_key().ok_or("a message without a key")?.to_string();
                if keys.insert(key.clone()) {
                    lines.push_str(&format!("{key} {} {}\n", message.topic, message.payload_lossy()));
                }
            }
            record.write_all(lines.as_bytes())?;
            record.sync_data()?;
            // Dropped messages are acknowledged.
            drop(batch);
        }
    })
}
