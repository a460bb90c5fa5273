//! Owns `sub`: filters in, printed or kept messages out. It must not know how a connection is made.

pub(crate) mod format;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::ZonedDateTime;
use mqtt_machine::packet::PropertiesBuf;
use mqtt_machine::{RetainHandling, Subscription};
use mqtt_machine_tokio::{Message, QoS, Subscribe, SubscribeError, TopicFilter, Unsubscribe};

use crate::connection::{Connection, qos};
use crate::failure::{Failure, usage};
use crate::property::Packet;
use crate::runtime::Interrupts;
use format::Format;

/// What `sub` is told.
#[derive(Args)]
#[command(group = ArgGroup::new("output"))]
#[command(disable_help_flag = true, after_help = format::FIELDS)]
pub(crate) struct SubscribeArguments {
    #[command(flatten)]
    connection: Connection,
    /// A topic filter; several may be given
    #[arg(short = 't', long = "topic", required = true, value_name = "FILTER")]
    topics: Vec<String>,
    /// The QoS
    #[arg(short = 'q', long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// End after so many messages
    #[arg(short = 'C', value_name = "COUNT")]
    count: Option<u64>,
    /// End after so many seconds: with 5 as exit code when fewer messages than -C asks for have come
    #[arg(short = 'W', value_name = "SECONDS")]
    timeout: Option<u64>,
    /// End when the server has granted the subscription
    #[arg(short = 'E')]
    end_after_subscribing: bool,
    /// Print topic and payload
    #[arg(short = 'v', long, group = "output")]
    verbose: bool,
    /// Print by this format
    #[arg(short = 'F', long, group = "output", value_name = "FORMAT")]
    format: Option<String>,
    /// Print each message as one line of JSON
    #[arg(long, group = "output")]
    json: bool,
    /// Print topic and payload in hexadecimal
    #[arg(long, group = "output")]
    hex: bool,
    /// Write each payload to a file of its own in this folder, named by its number and topic
    #[arg(long, group = "output", value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
    /// No line break behind each message
    #[arg(short = 'N')]
    no_line_break: bool,
    /// Leave out messages that were retained before the subscription
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Take only retained messages, and end with the first one that is none
    #[arg(long)]
    retained_only: bool,
    /// Make the server forget each retained message that comes
    #[arg(long)]
    remove_retained: bool,
    /// Leave out messages of this topic filter; several may be given
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER")]
    filter_out: Vec<String>,
    /// Unsubscribe from this filter first, in a session that is resumed; several may be given
    #[arg(short = 'U', long = "unsubscribe", value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Do not send back what this client publishes (5.0)
    #[arg(long)]
    no_local: bool,
    /// Keep the retain flag as it was published (5.0)
    #[arg(long)]
    retain_as_published: bool,
    /// When retained messages are sent (5.0)
    #[arg(long, value_enum, default_value = "always")]
    retain_handling: Retained,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// When retained messages are sent.
#[derive(Clone, Copy, ValueEnum)]
enum Retained {
    /// When subscribing
    Always,
    /// When the subscription is new
    New,
    /// Never
    Never,
}

/// Where messages go.
enum Output {
    Print { format: Format, line_break: bool },
    Folder { path: PathBuf, number: u64 },
}

/// Subscribes, and prints what comes.
pub(crate) async fn run(arguments: SubscribeArguments) -> Result<(), Failure> {
    let request = arguments.request()?;
    let (unwanted, unsubscribe) = (filters(&arguments.filter_out)?, filters(&arguments.unsubscribe)?);
    let wanted: Vec<TopicFilter> = request.subscriptions.iter().map(|one| one.filter.clone()).collect();
    let mut output = arguments.output()?;
    let mut interrupts = Interrupts::new();
    let client = interrupts.or_interrupted(arguments.connection.connect()).await?;
    let receiving = async {
        if !unsubscribe.is_empty() {
            let left = client.unsubscribe_with(Unsubscribe::new(unsubscribe)).await;
            left.map_err(|error| Failure::Refused(error.to_string()))?;
        }
        let granted = client.subscribe_with(request).await;
        let mut messages = granted.map_err(|error| match error {
            SubscribeError::Filter(error) => usage(error),
            error => Failure::Refused(error.to_string()),
        })?;
        let codes = messages.granted().map(|granted| granted.codes.clone()).unwrap_or_default();
        for (filter, code) in wanted.iter().zip(codes).filter(|(_, code)| code.is_failure()) {
            eprintln!("not subscribed to {}: {code}", filter.as_str());
        }
        let mut count = 0;
        while !arguments.end_after_subscribing && arguments.count.is_none_or(|wanted| count < wanted) {
            let Some(message) = messages.recv().await else {
                return Err(Failure::NotConnected("the client gave up connecting".to_owned()));
            };
            if arguments.retained_only && !message.retain {
                break;
            }
            let stale = arguments.no_retained && message.retain;
            if stale || unwanted.iter().any(|filter| filter.matches(&message.topic)) {
                continue;
            }
            if output.take(&message)?.is_closed() {
                break;
            }
            if arguments.remove_retained && message.retain {
                let forget = Message::new(message.topic.clone(), bytes::Bytes::new()).retain(true);
                client.publish(forget).await.map_err(|error| Failure::Refused(error.to_string()))?;
            }
            count += 1;
        }
        Ok(())
    };
    let deadline = arguments.timeout.map_or(Duration::MAX, Duration::from_secs);
    let result = tokio::select! {
        result = receiving => result,
        () = tokio::time::sleep(deadline) => Err(Failure::TimedOut),
        () = interrupts.next() => {
            eprintln!("interrupted: what was taken is acknowledged first");
            Ok(())
        }
    };
    let closed = interrupts.or_interrupted(async { Ok(client.disconnect().await) }).await?;
    result?;
    closed.map(|_| ()).map_err(|error| Failure::NotConnected(error.to_string()))
}

impl SubscribeArguments {
    fn request(&self) -> Result<Subscribe, Failure> {
        let subscriptions = filters(&self.topics)?
            .into_iter()
            .map(|filter| {
                let mut subscription = Subscription::new(filter, self.qos);
                subscription.options.no_local = self.no_local;
                subscription.options.retain_as_published = self.retain_as_published;
                subscription.options.retain_handling = match self.retain_handling {
                    Retained::Always => RetainHandling::Send,
                    Retained::New => RetainHandling::SendIfNew,
                    Retained::Never => RetainHandling::DoNotSend,
                };
                subscription
            })
            .collect();
        let mut properties = PropertiesBuf::new();
        for property in &self.connection.properties {
            match property.packet {
                Packet::Subscribe => properties.push(property.as_property()).map_err(usage)?,
                Packet::Connect | Packet::Will => {}
                other => return Err(usage(format!("`sub` sends no {other:?} with properties"))),
            }
        }
        Ok(Subscribe::new(subscriptions).properties(properties))
    }

    fn output(&self) -> Result<Output, Failure> {
        if let Some(path) = &self.output_dir {
            std::fs::create_dir_all(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
            return Ok(Output::Folder { path: path.clone(), number: 0 });
        }
        let format = match &self.format {
            Some(format) => Format::parse(format).map_err(usage)?,
            None if self.json => Format::json(),
            None if self.hex => Format::hex(),
            None if self.verbose => Format::verbose(),
            None => Format::payload(),
        };
        Ok(Output::Print { format, line_break: !self.no_line_break })
    }
}

/// Whether somebody still reads.
#[derive(PartialEq)]
enum Reader {
    There,
    Gone,
}

impl Reader {
    fn is_closed(&self) -> bool {
        *self == Self::Gone
    }
}

impl Output {
    fn take(&mut self, message: &Message) -> Result<Reader, Failure> {
        match self {
            Self::Print { format, line_break } => {
                let mut text = format.apply(message, &ZonedDateTime::now());
                if *line_break {
                    text.push(b'\n');
                }
                let mut out = std::io::stdout().lock();
                match out.write_all(&text).and_then(|()| out.flush()) {
                    Ok(()) => Ok(Reader::There),
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Folder { path, number } => {
                *number += 1;
                let file = path.join(format!("{number:06}-{}", file_name(message.topic.as_str())));
                write_new(&file, &message.payload)?;
                Ok(Reader::There)
            }
        }
    }
}

/// A topic as the name of a file: it stays in the folder whatever the topic is.
fn file_name(topic: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    topic.chars().take(100).map(safe).collect()
}

/// Never over a file that is there.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

fn filters(texts: &[String]) -> Result<Vec<TopicFilter>, Failure> {
    let read = |text: &String| TopicFilter::new(text).map_err(|error| usage(format!("{text:?}: {error}")));
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_never_leads_out_of_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), ".._.._etc_passwd");
        assert_eq!(file_name("a/b c\0"), "a_b_c_");
        assert_eq!(file_name(&"ä".repeat(300)).chars().count(), 100);
    }
}
