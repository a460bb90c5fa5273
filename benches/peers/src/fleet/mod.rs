//! Owns what a message costs among many clients of mqtt-machine-tokio in one process, beside one client that does the same: the
//! same messages in all, on one thread, and each client in bursts of the same size. It must not know how a client works.
//!
//! A burst of publications begins when all of the one before it have ended. A burst of messages to receive is asked for with one
//! publication of QoS 0, when all of the one before it have come, so that one client cannot read many bursts at once. Processor time is
//! also that of bare sockets, since what it costs the system and its caches to serve many sockets is no client's.

mod socket;

use std::time::Duration;

use mqtt_machine_benches::instructions;
use mqtt_machine_tokio::{Client, Message};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use self::socket::Socket;
use crate::Failure;
use crate::clients::tokio::{message, options, qos};
use crate::clients::{Case, Direction, Job, Meter, Used};
use crate::process::{Broker, per_message, system_calls, told};

/// Clients of the two sides.
const CLIENTS: [u64; 2] = [1, 1_000];
/// Runs that are timed, of which the one with the median of processor time counts.
const RUNS: usize = 3;

/// Who moves the messages.
const SIDES: [&str; 2] = ["client", "socket"];

/// How many messages, in bursts of one size.
struct Burst {
    size: u64,
    /// Of a run that is timed.
    timed: u64,
    /// Of the two runs whose difference is counted.
    counted: [u64; 2],
}

/// One message at a time costs more, so fewer are measured.
const BURSTS: [Burst; 2] = [
    Burst { size: 1, timed: 200_000, counted: [10_000, 30_000] },
    Burst { size: 100, timed: 1_000_000, counted: [100_000, 300_000] },
];

/// Lets this process have as many sockets as it may.
///
/// # Errors
/// When the system refuses.
pub fn allow_sockets() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// What each client does.
#[derive(Clone, Copy)]
struct Part {
    job: Job,
    burst: u64,
}

/// What is subscribed to, for bursts; as long as the topic of publications.
fn filter(part: Part) -> String {
    format!("burst/{}/{:013}", part.job.case.qos, part.burst)
}

impl Part {
    /// All messages of one client.
    async fn run(self, client: Client) -> Result<Client, Failure> {
        let bursts = self.job.count / self.burst;
        match self.job.case.direction {
            Direction::Publish => {
                let message = message(self.job)?;
                let mut open = Vec::with_capacity(self.burst as usize);
                for _ in 0..bursts {
                    for _ in 0..self.burst {
                        open.push(client.publish(message.clone()).await?);
                    }
                    for delivery in open.drain(..) {
                        delivery.await;
                    }
                }
            }
            Direction::Receive => {
                let ask = Message::to("more", &b""[..])?;
                let mut messages = client.subscribe(filter(self), qos(self.job)).await?;
                for _ in 0..bursts {
                    client.publish(ask.clone()).await?;
                    for _ in 0..self.burst {
                        messages.recv().await.ok_or("the client has ended")?;
                    }
                }
            }
        }
        Ok(client)
    }
}

/// So many clients, or sockets, which share the messages; prints what the process has used for them.
///
/// # Errors
/// When a client fails.
pub fn run(
    side: &str,
    case: &str,
    clients: &str,
    burst: &str,
    port: &str,
    count: &str,
) -> Result<(), Failure> {
    let case = Case::named(case).ok_or("there is no such case")?;
    let (clients, burst): (u64, u64) = (clients.parse()?, burst.parse()?);
    let count: u64 = count.parse()?;
    if clients == 0 || burst == 0 || !count.is_multiple_of(clients * burst) {
        return Err("every client has the same whole bursts".into());
    }
    let part = Part { job: Job { case, port: port.parse()?, count: count / clients }, burst };
    allow_sockets()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let used = match side {
        "client" => runtime.block_on(all(
            clients,
            async || Ok(Client::connect(options(part.job)?).await?),
            |client| part.run(client),
            async |client| {
                client.disconnect().await?;
                Ok(())
            },
        )),
        "socket" => runtime.block_on(all(
            clients,
            async || Socket::connect(part.job.port).await,
            |socket| socket.run(part),
            Socket::close,
        )),
        _ => Err("there is no such side".into()),
    };
    used?.print();
    Ok(())
}

/// Connects them all, lets each of them do its part in a task of its own, and measures that.
async fn all<C: Send + 'static, W: Future<Output = Result<C, Failure>> + Send + 'static>(
    clients: u64,
    connect: impl AsyncFn() -> Result<C, Failure>,
    work: impl Fn(C) -> W,
    close: impl AsyncFn(C) -> Result<(), Failure>,
) -> Result<Used, Failure> {
    let mut ready = Vec::new();
    for _ in 0..clients {
        ready.push(connect().await?);
    }
    let meter = Meter::start()?;
    let mut tasks = JoinSet::new();
    for client in ready {
        let work = work(client);
        tasks.spawn(async move { work.await.map_err(|error| error.to_string()) });
    }
    let done = tasks.join_all().await;
    let used = meter.stop()?;
    for client in done {
        close(client?).await?;
    }
    Ok(used)
}

/// One side of a row, with a broker that is its own.
struct Side<'a> {
    broker: Broker,
    case: Case,
    clients: u64,
    burst: &'a Burst,
}

impl Side<'_> {
    fn measure<T>(
        &mut self,
        side: &str,
        count: u64,
        how: impl FnOnce(&[&str]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let [case, clients, burst, count_text] =
            [self.case.name(), self.clients.to_string(), self.burst.size.to_string(), count.to_string()];
        let measured =
            how(&["fleet-clients", side, &case, &clients, &burst, &self.broker.port, &count_text])?;
        let mut received = 0;
        for _ in 0..self.clients {
            received += self.broker.received()?;
        }
        let expected =
            if self.case.direction == Direction::Publish { count } else { count / self.burst.size };
        if received == expected {
            Ok(measured)
        } else {
            Err(format!("{received} of {expected} arrived").into())
        }
    }

    fn processor(&mut self, side: &str) -> Result<f64, Failure> {
        let mut runs: Vec<Duration> = Vec::new();
        for _ in 0..RUNS {
            let told = self.measure(side, self.burst.timed, told)?;
            runs.push(Used::parse(&told).ok_or("a client told nothing")?.processor);
        }
        runs.sort();
        Ok(runs[RUNS / 2].as_secs_f64() * 1e6 / self.burst.timed as f64)
    }

    fn counted(&mut self, how: fn(&[&str]) -> Result<u64, Failure>) -> Result<f64, Failure> {
        per_message(self.burst.counted, |count| self.measure(SIDES[0], count, how))
    }
}

fn cases() -> impl Iterator<Item = Case> {
    Case::ALL.into_iter().filter(|case| case.qos < 2)
}

/// The table.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    let [few, many] = CLIENTS;
    println!(
        "\n| case, messages of a burst | user instructions, {few} client | {many} | ratio | system calls, {few} | {many} | \
         CPU s per million, {few} | {many} | ratio | sockets alone, {few} | {many} | ratio |"
    );
    println!("|---|{}", "---:|".repeat(11));
    for case in cases() {
        for burst in &BURSTS {
            let mut costs = Vec::new();
            for clients in CLIENTS {
                let mut side = Side { broker: Broker::start("mqtt")?, case, clients, burst };
                let counted = [side.counted(instructions)?, side.counted(system_calls)?];
                costs.push((counted, [side.processor(SIDES[0])?, side.processor(SIDES[1])?]));
            }
            let (one, all) = (costs[0], costs[1]);
            let [instructions, calls] = [0, 1].map(|which| (one.0[which], all.0[which]));
            let mut row = format!("| {}, {} |", case.name(), burst.size);
            row += &format!(
                " {:.0} | {:.0} | {:.2} |",
                instructions.0,
                instructions.1,
                instructions.1 / instructions.0
            );
            row += &format!(" {:.3} | {:.3} |", calls.0, calls.1);
            for (one, all) in one.1.into_iter().zip(all.1) {
                row += &format!(" {one:.3} | {all:.3} | {:.2} |", all / one);
            }
            println!("{row}");
        }
    }
    Ok(())
}

/// That one client and many do every case, with few messages.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    for case in cases() {
        for burst in &BURSTS {
            for clients in [CLIENTS[0], 20] {
                let mut broker = Side { broker: Broker::start("mqtt")?, case, clients, burst };
                for side in SIDES {
                    broker
                        .measure(side, 20 * burst.size, told)
                        .map_err(|error| format!("{clients} of {side}, {}: {error}", case.name()))?;
                }
            }
        }
    }
    println!("one client and many do {} cases in bursts", cases().count());
    Ok(())
}
