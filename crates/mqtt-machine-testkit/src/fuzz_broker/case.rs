//! Owns what one case is: bytes to send, when to send them, and what a broker owes in return; and its file format.
//! It must not know how a case was thought up, nor how it is run.

use core::fmt::{self, Write};
use core::str::FromStr;
use core::time::Duration;

use mqtt_machine::{ProtocolVersion, ReasonCode};

use crate::generate::Duty;

/// The first line of every file.
const HEAD: &str = "mqtt-machine fuzz-broker 1";

/// One conversation with a broker, on a connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it comes from.
    pub kind: Kind,
    /// What the connection speaks.
    pub version: ProtocolVersion,
    /// The name of the rule that is broken, or of what is tried; one word.
    pub name: String,
    /// The number of the rule in this version; may be empty.
    pub rule: String,
    /// What is tried, in words, on one line.
    pub what: String,
    /// What the broker owes.
    pub expect: Expect,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// How a case was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Everything in it is legal.
    Valid,
    /// One rule is broken by one packet, or by what came before it.
    Broken,
    /// Bytes were changed at random.
    Mutated,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes: packets, or a part of one.
    Send(Vec<u8>),
    /// Wait for the CONNACK.
    AwaitConnAck,
    /// Wait until everything that was asked for is answered.
    Settle,
    /// Wait for so long.
    Wait(Duration),
}

/// What a broker owes for a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Every request is answered as the standard says, and the connection goes on.
    Served,
    /// The connection is closed, in 5.0 perhaps with one of these codes; with [`Duty::Free`] it may also go on.
    Closed {
        /// What a DISCONNECT or CONNACK may say. `UnspecifiedError` always may.
        codes: Vec<ReasonCode>,
        /// Whether it must be closed.
        duty: Duty,
    },
    /// The broker lives on, and whatever it answers is well formed.
    Survived,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Valid, Self::Broken, Self::Mutated];

    /// Its name in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Broken => "broken",
            Self::Mutated => "mutated",
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served => f.write_str("served"),
            Self::Survived => f.write_str("survived"),
            Self::Closed { codes, duty } => {
                f.write_str(if *duty == Duty::Close { "closed" } else { "closed-or-served" })?;
                codes.iter().try_for_each(|code| write!(f, " {:02x}", code.to_u8()))
            }
        }
    }
}

impl FromStr for Expect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let duty = match words.next() {
            Some("served") => return Ok(Self::Served),
            Some("survived") => return Ok(Self::Survived),
            Some("closed") => Duty::Close,
            Some("closed-or-served") => Duty::Free,
            _ => return Err(format!("`{text}` is no expectation")),
        };
        let code = |word: &str| u8::from_str_radix(word, 16).ok().and_then(ReasonCode::from_u8);
        let codes = words.map(|word| code(word).ok_or_else(|| format!("`{word}` is no reason code")));
        Ok(Self::Closed { codes: codes.collect::<Result<_, _>>()?, duty })
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// The file format: see `docs/fuzzing-brokers.md`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        writeln!(f, "kind {}", self.kind.name())?;
        writeln!(f, "version {}", self.version)?;
        writeln!(f, "name {}", self.name)?;
        writeln!(f, "rule {}", self.rule)?;
        writeln!(f, "what {}", self.what)?;
        writeln!(f, "expect {}", self.expect)?;
        for step in &self.steps {
            match step {
                Step::Send(bytes) => writeln!(f, "> {}", hex(bytes))?,
                Step::AwaitConnAck => writeln!(f, "await connack")?,
                Step::Settle => writeln!(f, "await answers")?,
                Step::Wait(time) => writeln!(f, "wait {}", time.as_millis())?,
            }
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(HEAD) {
            return Err(format!("the first line is not `{HEAD}`"));
        }
        let mut case = Self {
            kind: Kind::Valid,
            version: ProtocolVersion::V5,
            name: String::new(),
            rule: String::new(),
            what: String::new(),
            expect: Expect::Served,
            steps: Vec::new(),
        };
        for (at, line) in lines.enumerate() {
            let line = line.trim_end();
            case.line(line).map_err(|error| format!("line {}: {error}", at + 2))?;
        }
        Ok(case)
    }
}

impl Case {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            // What was heard is for people.
            "" | "<" => {}
            _ if word.starts_with('#') => {}
            "kind" => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == rest);
                self.kind = kind.ok_or_else(|| format!("`{rest}` is no kind"))?;
            }
            "version" => {
                let version = ProtocolVersion::ALL.into_iter().find(|version| version.to_string() == rest);
                self.version = version.ok_or_else(|| format!("`{rest}` is no version"))?;
            }
            "name" => rest.clone_into(&mut self.name),
            "rule" => rest.clone_into(&mut self.rule),
            "what" => rest.clone_into(&mut self.what),
            "expect" => self.expect = rest.parse()?,
            ">" => {
                let bytes = from_hex(rest).ok_or_else(|| String::from("these are no hexadecimal digits"))?;
                self.steps.push(Step::Send(bytes));
            }
            "await" if rest == "connack" => self.steps.push(Step::AwaitConnAck),
            "await" if rest == "answers" => self.steps.push(Step::Settle),
            "wait" => {
                let millis = rest.parse().map_err(|_| format!("`{rest}` is no number of milliseconds"))?;
                self.steps.push(Step::Wait(Duration::from_millis(millis)));
            }
            _ => return Err(format!("`{line}` is no line of a case")),
        }
        Ok(())
    }

    /// All bytes that it sends.
    pub fn bytes(&self) -> Vec<u8> {
        let sends = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        sends.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_survives_its_file() {
        let case = Case {
            kind: Kind::Broken,
            version: ProtocolVersion::V3_1_1,
            name: "qos-3".into(),
            rule: "MQTT-3.3.1-4".into(),
            what: "a PUBLISH with both QoS bits set".into(),
            expect: Expect::Closed {
                codes: vec![ReasonCode::MalformedPacket, ReasonCode::ProtocolError],
                duty: Duty::Free,
            },
            steps: vec![
                Step::Send(vec![0x10, 0xFF]),
                Step::AwaitConnAck,
                Step::Wait(Duration::from_millis(20)),
                Step::Send(vec![]),
                Step::Settle,
            ],
        };
        let text = format!("{case}# a remark\n< d000\n\n");
        assert_eq!(text.parse(), Ok(case.clone()));
        assert_eq!(case.bytes(), [0x10, 0xFF]);
        for expect in [Expect::Served, Expect::Survived] {
            assert_eq!(expect.to_string().parse(), Ok(expect));
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_by_its_line() {
        let head = format!("{HEAD}\n");
        for (text, error) in [
            (String::from("hello"), "the first line"),
            (format!("{head}> 0g"), "line 2: these are no hexadecimal"),
            (format!("{head}> €0"), "line 2: these are no hexadecimal"),
            (format!("{head}kind x"), "line 2: `x` is no kind"),
            (format!("{head}\nexpect closed 03"), "line 3: `03` is no reason code"),
            (format!("{head}dance"), "line 2: `dance` is no line"),
        ] {
            let found = text.parse::<Case>().unwrap_err();
            assert!(found.starts_with(error), "{found}");
        }
    }
}
