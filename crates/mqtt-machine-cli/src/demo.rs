//! Owns the demonstration: two clients, five messages, and connections that break in the middle. It must not know how a
//! client does it.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp;
use mqtt_machine_tokio::{
    Backoff, CleanStart, Client, ClientEvent, Message, Options, Outcome, ProtocolVersion, QoS, Subscription,
};
use tokio::time::timeout;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Everything is over by then, well or not.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long the demonstration's broker turns everyone away after it cut the connections.
const OUTAGE: Duration = Duration::from_millis(1_200);
/// Messages to send.
const COUNT: usize = 5;

/// What the demonstration is told.
#[derive(Args)]
pub(crate) struct Demo {
    /// A broker to use, such as mqtt://host:1883; its connections are left alone
    #[arg(long)]
    url: Option<String>,
    /// The version of MQTT to speak
    #[arg(long, value_enum, default_value = "5")]
    version: Version,
    /// The QoS to publish and subscribe with
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2), default_value_t = 2)]
    qos: u8,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Version {
    /// MQTT 3.1
    #[value(name = "3.1")]
    V3_1,
    /// MQTT 3.1.1
    #[value(name = "3.1.1")]
    V3_1_1,
    /// MQTT 5.0
    #[value(name = "5", alias = "5.0")]
    V5,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V3_1 => Self::V3_1,
            Version::V3_1_1 => Self::V3_1_1,
            Version::V5 => Self::V5,
        }
    }
}

/// Prints lines with the time since the start.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn say(self, who: &str, what: impl std::fmt::Display) {
        println!("{:6.3}s  {who:<10}  {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the demonstration.
///
/// # Errors
/// Why it did not end as it should.
pub(crate) async fn run(demo: &Demo) -> Result<()> {
    let clock = Clock(Instant::now());
    timeout(DEADLINE, steps(demo, clock))
        .await
        .map_err(|_| format!("not done within {} s", DEADLINE.as_secs()))?
}

async fn steps(demo: &Demo, clock: Clock) -> Result<()> {
    let broker = match &demo.url {
        Some(_) => None,
        None => Some(tcp::Broker::start(BrokerConfig::default())?),
    };
    let url = match (&broker, &demo.url) {
        (Some(broker), _) => {
            clock.say("broker", format_args!("the model broker listens on {}", broker.url()));
            broker.url()
        }
        (None, url) => url.clone().unwrap_or_default(),
    };
    let qos = QoS::from_u8(demo.qos).unwrap_or_default();
    // Client identifiers and the topic are this run's own: a broker may serve several.
    let run = std::process::id();
    let topic = format!("mqtt-machine/demo/{run}");
    let subscriber = connect(&url, demo, &format!("demo-subscriber-{run}"), "subscriber", clock).await?;
    let publisher = connect(&url, demo, &format!("demo-publisher-{run}"), "publisher", clock).await?;
    let mut messages = subscriber.subscribe(topic.as_str(), qos).await?;
    clock.say("subscriber", format_args!("subscribed to {topic} with QoS {qos}"));
    let mut sent = Vec::new();
    let mut received = Received::default();
    for number in 1..=COUNT {
        let message = Message::to(&topic, format!("messages: {number}"))?.qos(qos);
        sent.push(publisher.publish(message).await?);
        clock.say("publisher", format_args!("sent messages: {number}"));
        let Some(broker) = broker.as_ref().filter(|_| number == COUNT / 2) else {
            // Around the cut messages are left to themselves; before and after they are awaited one by one.
            if number != COUNT / 2 + 1 || broker.is_none() || qos == QoS::AtMostOnce {
                received.next(&mut messages, clock).await?;
            }
            continue;
        };
        if qos != QoS::ExactlyOnce {
            // Only QoS 2 promises that nothing is doubled, or lost, by a cut in mid-flight.
            received.next(&mut messages, clock).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        broker.refuse_for(OUTAGE);
        broker.cut_all();
        clock.say("broker", "cut both connections, and turns everyone away for a while");
        if qos == QoS::AtMostOnce {
            wait_for_reconnection([&subscriber, &publisher]).await;
        }
    }
    while received.count < COUNT {
        received.next(&mut messages, clock).await?;
    }
    for (number, delivery) in (1..).zip(sent) {
        match delivery.await {
            Outcome::Sent | Outcome::Acknowledged(_) => {}
            outcome => return Err(format!("messages: {number} ended as {outcome:?}").into()),
        }
    }
    publisher.disconnect().await?;
    // One that comes twice would be here by now.
    if let Ok(Some(extra)) = timeout(Duration::from_millis(200), messages.recv()).await {
        return Err(format!("received {} once more", extra.payload_lossy()).into());
    }
    subscriber.disconnect().await?;
    clock.say("demo", format_args!("all {COUNT} messages arrived exactly once and in order"));
    Ok(())
}

/// What the subscriber has got.
#[derive(Default)]
struct Received {
    count: usize,
}

impl Received {
    /// The next message, which must be the next in order.
    async fn next(&mut self, messages: &mut Subscription, clock: Clock) -> Result<()> {
        let message = messages.recv().await.ok_or("the subscription ended")?;
        let text = message.payload_lossy();
        clock.say("subscriber", format_args!("received {text}"));
        self.count += 1;
        let expected = format!("messages: {}", self.count);
        if text == expected { Ok(()) } else { Err(format!("expected {expected}, received {text}").into()) }
    }
}

async fn connect(url: &str, demo: &Demo, client_id: &str, who: &'static str, clock: Clock) -> Result<Client> {
    let mut backoff = Backoff::DEFAULT;
    backoff.first = Duration::from_millis(500);
    backoff.cap = Duration::from_secs(2);
    let options = Options::from_url(url)?.connect_deadline(Duration::from_secs(8)).configure(|config| {
        config
            .client_id(client_id)
            .version(demo.version.into())
            .clean_start(CleanStart::Never)
            .session_expiry(Duration::from_secs(60))
            .backoff(backoff)
    });
    let client = Client::connect(options).await?;
    clock.say(who, format_args!("connected"));
    let mut events = client.events();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            tell(&event, who, clock);
        }
    });
    Ok(client)
}

/// Shows disconnection, back-off and reconnection as they happen.
fn tell(event: &ClientEvent, who: &str, clock: Clock) {
    match event {
        ClientEvent::Connected(connected) => {
            let session =
                if connected.session_present { "its session was kept" } else { "with a new session" };
            clock.say(who, format_args!("connected again, {session}"));
        }
        ClientEvent::Disconnected { reason, retry_at, .. } => {
            clock.say(who, format_args!("disconnected: {reason}{}", Next(*retry_at)));
        }
        ClientEvent::ConnectFailed { reason, retry_at, .. } => {
            clock.say(who, format_args!("not connected: {reason}{}", Next(*retry_at)));
        }
        _ => {}
    }
}

/// Prints the back-off.
struct Next(Option<Instant>);

impl std::fmt::Display for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                write!(f, "; next attempt in {:.3} s", wait.as_secs_f64())
            }
            None => Ok(()),
        }
    }
}

/// Waits until both have noticed the cut and are connected again. The outage outlasts the pauses in here, so that no
/// reconnection is overlooked.
async fn wait_for_reconnection(clients: [&Client; 2]) {
    for wanted in [false, true] {
        for client in clients {
            while client.is_connected() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
