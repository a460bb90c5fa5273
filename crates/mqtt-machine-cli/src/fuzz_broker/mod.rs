//! Owns the command `fuzz-broker`: its options, the run, its files and its report.
//! It must not know which rules there are, nor how an answer is judged.

mod link;

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use mqtt_machine::ProtocolVersion;
use mqtt_machine_testkit::fuzz_broker::{Campaign, Case, Class, Ending, Finding, Verdict};
use mqtt_machine_transport::{Destination, Endpoint, Scheme};

use crate::demo::Version;
use link::{Target, Watchdog, is_silence};

/// After so many cases the broker must show all that it can do.
const HEALTH_EVERY: u64 = 32;

/// What the run is told.
#[derive(Args)]
pub(crate) struct FuzzBroker {
    /// The broker, such as mqtt://127.0.0.1:1883; it must let everybody in
    #[arg(long)]
    url: String,
    /// The same seed makes the same cases; without one the clock chooses
    #[arg(long)]
    seed: Option<u64>,
    /// How many cases at most
    #[arg(long, default_value_t = 5_000)]
    cases: u64,
    /// How many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// A version of MQTT to speak, may be given more than once; without it all that the broker speaks
    #[arg(long, value_enum)]
    version: Vec<Version>,
    /// Where findings are saved
    #[arg(long, value_name = "DIR", default_value = "fuzz-broker-findings")]
    save: PathBuf,
    /// How long the broker may take for an answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    patience: u64,
    /// Run one saved finding again instead
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Allow a broker that is not on this machine: only ever one of your own
    #[arg(long)]
    allow_remote: bool,
}

/// Why it could not run.
type Trouble = String;

/// Runs the command. The exit code is 0 without findings, 1 with some, 2 when it could not run.
pub(crate) fn run(arguments: &FuzzBroker) -> ExitCode {
    let done = addresses(arguments).and_then(|addresses| {
        let patience = Duration::from_millis(arguments.patience);
        let target = reachable(&addresses, patience)?;
        match &arguments.replay {
            Some(file) => replay(&target, file),
            None => Run::start(arguments, target)?.go(),
        }
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("error: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Where the URL points, refused unless it is this machine.
fn addresses(arguments: &FuzzBroker) -> Result<Vec<SocketAddr>, Trouble> {
    let endpoint = Endpoint::parse(&arguments.url).map_err(|error| error.to_string())?;
    // Cases are raw bytes over TCP.
    let (Scheme::Mqtt, Destination::Server(authority)) = (endpoint.scheme, &endpoint.destination) else {
        let scheme = endpoint.scheme.name();
        return Err(format!("brokers are fuzzed over `mqtt` (or `tcp`) only, not over `{scheme}`"));
    };
    let authority = authority.to_string();
    let addresses: Vec<SocketAddr> = authority
        .to_socket_addrs()
        .map_err(|error| format!("{authority} has no address: {error}"))?
        .collect();
    let remote = addresses.iter().find(|address| !address.ip().is_loopback());
    match remote {
        Some(address) if !arguments.allow_remote => Err(format!(
            "{address} is not on this machine; fuzz only brokers of your own, and then with --allow-remote"
        )),
        _ => Ok(addresses),
    }
}

/// The first address that takes a connection.
fn reachable(addresses: &[SocketAddr], patience: Duration) -> Result<Target, Trouble> {
    let mut trouble = String::from("the name has no address");
    for address in addresses {
        match std::net::TcpStream::connect_timeout(address, patience) {
            Ok(_) => return Ok(Target { address: *address, patience }),
            Err(error) => trouble = format!("nobody answers at {address}: {error}"),
        }
    }
    Err(trouble)
}

/// Runs the case of a file; the number of findings.
fn replay(target: &Target, file: &Path) -> Result<usize, Trouble> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let case: Case = text.parse().map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{} in {}: {} [{}], expected: {}", case.name, case.version, case.what, case.rule, case.expect);
    let verdict = target.run(&case).map_err(|error| format!("the broker took no connection: {error}"))?;
    println!("ended: {:?}", verdict.ending);
    let mut found = verdict.complaints.len();
    for complaint in &verdict.complaints {
        println!("found {}: {}", complaint.class, complaint.what);
    }
    let mut campaign = Campaign::new(0, &[case.version]);
    if let Err((class, what)) = check(target, &mut campaign, case.version) {
        println!("found {class}: {what}");
        found += 1;
    }
    if found == 0 {
        println!("nothing was wrong");
    }
    Ok(found)
}

/// Whether the broker serves a well-behaved client, and what it allows.
fn check(target: &Target, campaign: &mut Campaign, version: ProtocolVersion) -> Result<(), (Class, String)> {
    let case = campaign.health(version);
    let verdict = match target.run(&case) {
        Ok(verdict) => verdict,
        Err(error) if is_silence(&error) => return Err((Class::Hang, format!("no connection: {error}"))),
        Err(error) => return Err((Class::Crash, format!("no connection: {error}"))),
    };
    if let Some(capabilities) = verdict.capabilities {
        campaign.learn(capabilities);
    }
    match (verdict.complaints.first(), verdict.ending) {
        (None, _) => Ok(()),
        (Some(complaint), Ending::Silent) => {
            Err((Class::Hang, format!("a well-behaved client is not served: {}", complaint.what)))
        }
        (Some(complaint), _) => {
            Err((complaint.class, format!("a well-behaved client is not served: {}", complaint.what)))
        }
    }
}

/// A run of many cases.
struct Run<'a> {
    arguments: &'a FuzzBroker,
    target: Target,
    campaign: Campaign,
    watchdog: Watchdog,
    saved: usize,
}

impl<'a> Run<'a> {
    fn start(arguments: &'a FuzzBroker, target: Target) -> Result<Self, Trouble> {
        let seed = arguments.seed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(1, |since| since.as_millis() as u64)
        });
        let asked: Vec<ProtocolVersion> = arguments.version.iter().map(|version| (*version).into()).collect();
        let tried = if asked.is_empty() { ProtocolVersion::ALL.to_vec() } else { asked.clone() };
        let mut probe = Campaign::new(seed, &tried);
        let mut spoken = Vec::new();
        for version in tried {
            match check(&target, &mut probe, version) {
                Ok(()) => spoken.push(version),
                Err((_, what)) if asked.is_empty() => println!("MQTT {version} is left out: {what}"),
                Err((_, what)) => return Err(format!("the broker does not serve MQTT {version}: {what}")),
            }
        }
        let Some(first) = spoken.last().copied() else {
            return Err(String::from("the broker serves no version of MQTT to a client without a password"));
        };
        let mut campaign = Campaign::new(seed, &spoken);
        for version in spoken {
            check(&target, &mut campaign, version).map_err(|(_, what)| what)?;
        }
        let watchdog = Watchdog::start(&target, &campaign.watchdog(first))
            .map_err(|error| format!("the watchdog could not connect: {error}"))?;
        Ok(Self { arguments, target, campaign, watchdog, saved: 0 })
    }

    fn go(mut self) -> Result<usize, Trouble> {
        let start = Instant::now();
        let limit = Duration::from_secs(self.arguments.time);
        while self.campaign.cases() < self.arguments.cases && start.elapsed() < limit {
            let case = self.campaign.next_case();
            let Some(verdict) = self.run_case(&case)? else { break };
            if !self.outlives(&case, &verdict)? {
                break;
            }
        }
        print!("{}", self.campaign.summary());
        println!(
            "{} cases in {:.1} s, {} findings, {} saved{}",
            self.campaign.cases(),
            start.elapsed().as_secs_f64(),
            self.campaign.findings(),
            self.saved,
            if self.saved > 0 { format!(" in {}", self.arguments.save.display()) } else { String::new() },
        );
        Ok(self.campaign.findings())
    }

    /// Runs a case and keeps what it shows; `None` when the broker takes no connection any more.
    fn run_case(&mut self, case: &Case) -> Result<Option<Verdict>, Trouble> {
        let verdict = match self.target.run(case) {
            Ok(verdict) => verdict,
            Err(error) => {
                // The watchdog was served a moment ago: the broker is there and takes nobody.
                let what = format!("the broker took no connection before this case: {error}");
                let nothing = Verdict {
                    ending: Ending::Silent,
                    complaints: Vec::new(),
                    heard: Vec::new(),
                    capabilities: None,
                };
                let finding = self.campaign.blame(case, &nothing, Class::Hang, &what);
                self.keep(&finding)?;
                return Ok(self.target.comes_back().then_some(nothing));
            }
        };
        for finding in self.campaign.record(case, &verdict) {
            self.keep(&finding)?;
        }
        Ok(Some(verdict))
    }

    /// Whether the broker is well after a case; false ends the run.
    fn outlives(&mut self, case: &Case, verdict: &Verdict) -> Result<bool, Trouble> {
        let mut trouble = self.watchdog.ping().err().map(|error| {
            if is_silence(&error) {
                (Class::Hang, String::from("another connection is not answered any more"))
            } else {
                (Class::Crash, format!("another connection, which did nothing wrong, ended: {error}"))
            }
        });
        let is_due = verdict.ending == Ending::Silent || self.campaign.cases().is_multiple_of(HEALTH_EVERY);
        if trouble.is_none() && is_due {
            trouble = check(&self.target, &mut self.campaign, case.version).err();
        }
        let Some((class, what)) = trouble else { return Ok(true) };
        let finding = self.campaign.blame(case, verdict, class, &what);
        self.keep(&finding)?;
        if !self.target.comes_back() {
            println!("the broker is gone");
            return Ok(false);
        }
        let connect = self.campaign.watchdog(case.version);
        match Watchdog::start(&self.target, &connect) {
            Ok(watchdog) => {
                self.watchdog = watchdog;
                Ok(true)
            }
            Err(error) => {
                println!("the broker does not recover: {error}");
                Ok(false)
            }
        }
    }

    /// Says what was found, and saves it unless there are some like it.
    fn keep(&mut self, finding: &Finding) -> Result<(), Trouble> {
        if !finding.is_worth_keeping {
            return Ok(());
        }
        self.saved += 1;
        let Finding { complaint, case, file, .. } = finding;
        let name = format!("{:03}-{}-{}-{}.case", self.saved, complaint.class, case.name, case.version);
        let path = self.arguments.save.join(name);
        let failed = |error| format!("{}: {error}", path.display());
        fs::create_dir_all(&self.arguments.save).map_err(failed)?;
        fs::write(&path, file).map_err(failed)?;
        println!(
            "{}: {} in {}: {} [{}]: {}",
            complaint.class, case.name, case.version, case.what, case.rule, complaint.what
        );
        Ok(())
    }
}
