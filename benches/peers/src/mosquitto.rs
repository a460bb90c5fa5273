//! Owns mosquitto as the sink: a broker as people run it, with every client in every case. It must not know how a client works.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::clients::{CLIENTS, Case, Direction, Job, Used, raw};

/// Runs, of which the one with the median of processor time counts.
const RUNS: usize = 3;
/// What a run may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// What does not come to an end with it: ntex-mqtt stops in the middle.
const WITHOUT: [(&str, &str); 1] = [("ntex-mqtt", "receive-2")];

/// Messages of one run.
const fn messages(case: Case) -> u64 {
    match case.qos {
        0 => 100_000,
        1 => 50_000,
        _ => 20_000,
    }
}

/// A mosquitto of our own on a free port, which ends with this.
struct Mosquitto {
    process: Child,
    /// What it says: who subscribes to what.
    lines: BufReader<ChildStderr>,
    port: u16,
    file: PathBuf,
}

impl Mosquitto {
    /// `None` where there is none.
    fn start() -> Result<Option<Self>, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = std::env::temp_dir().join(format!("mqtt-machine-mosquitto-{}.conf", std::process::id()));
        // As much on its way and waiting as the clients ask for, so that it loses nothing.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 1000\n\
             max_queued_messages 0\nset_tcp_nodelay true\nlog_dest stderr\nlog_type subscribe\n"
        );
        std::fs::write(&file, config)?;
        for program in PROGRAMS {
            let started = Command::new(program).arg("-c").arg(&file).stderr(Stdio::piped()).spawn();
            let mut process = match started {
                Ok(process) => process,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let lines = BufReader::new(process.stderr.take().ok_or("no output")?);
            let broker = Self { process, lines, port, file };
            let begin = Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                if begin.elapsed() > Duration::from_secs(5) {
                    return Err("mosquitto does not listen".into());
                }
                thread::sleep(Duration::from_millis(20));
            }
            return Ok(Some(broker));
        }
        let _ = std::fs::remove_file(&file);
        Ok(None)
    }

    /// Waits until somebody has subscribed to this.
    fn subscribed(&mut self, topic: &str) -> Result<(), Failure> {
        let mut line = String::new();
        while !line.trim_end().ends_with(topic) {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 {
                return Err("mosquitto has ended".into());
            }
        }
        Ok(())
    }

    /// One run of a client in a process of its own. What it is to receive comes from here.
    fn run(&mut self, client: &str, case: Case, count: u64) -> Result<Used, Failure> {
        let (port, text) = (self.port.to_string(), count.to_string());
        let mut process = Command::new(std::env::current_exe()?)
            .args(["client", client, &case.name(), &port, &text])
            .stdout(Stdio::piped())
            .spawn()?;
        let told = (|| {
            if case.direction == Direction::Receive {
                let topic = case.blast(count);
                self.subscribed(&topic)?;
                raw::feed(Job { case, port: self.port, count }, &topic)?;
            }
            let begin = Instant::now();
            loop {
                match process.try_wait()? {
                    Some(status) if status.success() => return Ok(()),
                    Some(status) => return Err(Failure::from(status.to_string())),
                    None if begin.elapsed() > PATIENCE => return Err("it does not end".into()),
                    None => thread::sleep(Duration::from_millis(5)),
                }
            }
        })();
        if let Err(error) = told {
            let _ = process.kill();
            let _ = process.wait();
            return Err(format!("{client}, {}, mosquitto: {error}", case.name()).into());
        }
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Used::parse(&line).ok_or("a client told nothing")?)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn each(
    mut cell: impl FnMut(&mut Mosquitto, &str, Case) -> Result<String, Failure>,
) -> Result<Vec<String>, Failure> {
    let Some(mut broker) = Mosquitto::start()? else {
        eprintln!(
            "mosquitto is not there (Debian: apt-get install mosquitto), so nothing is measured with it"
        );
        return Ok(Vec::new());
    };
    let mut rows = Vec::new();
    for (client, _, without) in CLIENTS {
        let mut row = format!("| {client} |");
        for case in Case::ALL {
            let name = case.name();
            let is_asked = !without.contains(&name.as_str()) && !WITHOUT.contains(&(client, &name));
            row += &if is_asked { cell(&mut broker, client, case)? } else { " – |".to_owned() };
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The table: messages per second, and processor time of the client.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    let rows = each(|broker, client, case| {
        let count = messages(case);
        let mut runs = (0..RUNS).map(|_| broker.run(client, case, count)).collect::<Result<Vec<_>, _>>()?;
        runs.sort_by_key(|used| used.processor);
        let used = runs[RUNS / 2];
        let speed = count as f64 / used.wall.as_secs_f64();
        Ok(format!(" {speed:.0} / {:.2} |", used.processor.as_secs_f64() * 1e6 / count as f64))
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let names: String = Case::ALL.iter().map(|case| format!(" {} |", case.name())).collect();
    println!("\n| mosquitto: messages/s / CPU s per million |{names}");
    println!("|---|{}", "---:|".repeat(Case::ALL.len()));
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// That every client does every case with it, with few messages.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    let rows = each(|broker, client, case| broker.run(client, case, 500).map(|_| String::new()))?;
    println!("{} clients work with mosquitto", rows.len());
    Ok(())
}
