//! Owns a whole run: which case is next, what was found, and the table at the end.
//! It must not know sockets, clocks or files.

use std::collections::BTreeMap;
use std::fmt::Write;

use mqtt_machine::{Capabilities, ProtocolVersion};

use super::case::{Case, hex};
use super::finding::{Class, Complaint, Ending, Verdict};
use super::plan::{self, Setting};
use crate::generate::Choices;
use crate::random::Random;

/// Findings of one class, rule and version that are kept whole; the others are counted.
const KEPT: usize = 3;

/// A run of many cases. Case `n` of a seed depends on the seed, `n` and what the broker allows, and on nothing else.
#[derive(Debug)]
pub struct Campaign {
    seed: u64,
    versions: Vec<ProtocolVersion>,
    capabilities: BTreeMap<u8, Capabilities>,
    next: u64,
    tried: BTreeMap<Row, usize>,
    found: BTreeMap<(Row, Class), usize>,
}

/// What the table counts by.
type Row = (&'static str, String, String, u8);

/// A case that showed something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub complaint: Complaint,
    /// The case.
    pub case: Case,
    /// The file: the case, and what was seen as comments.
    pub file: String,
    /// One like it is not kept yet, or only few are.
    pub is_worth_keeping: bool,
}

impl Campaign {
    /// A run of this seed in these versions, in turn.
    ///
    /// # Panics
    /// When there is no version.
    pub fn new(seed: u64, versions: &[ProtocolVersion]) -> Self {
        assert!(!versions.is_empty(), "a run needs a version");
        Self {
            seed,
            versions: versions.to_vec(),
            capabilities: BTreeMap::new(),
            next: 0,
            tried: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    /// The versions of the run.
    pub fn versions(&self) -> &[ProtocolVersion] {
        &self.versions
    }

    /// A case by which a broker shows that it serves a version; its verdict tells what the broker allows.
    pub fn health(&self, version: ProtocolVersion) -> Case {
        plan::health(&self.setting(version, "health"))
    }

    /// The CONNECT of a connection that does nothing but ping, to see that a case does not harm others.
    pub fn watchdog(&self, version: ProtocolVersion) -> Vec<u8> {
        plan::watchdog(&self.setting(version, "watch"))
    }

    /// What the broker allows in the version that it was asked in, from the verdict of [`health`](Self::health).
    pub fn learn(&mut self, capabilities: Capabilities) {
        self.capabilities.insert(capabilities.version.level(), capabilities);
    }

    fn setting(&self, version: ProtocolVersion, name: &str) -> Setting {
        Setting {
            version,
            capabilities: self
                .capabilities
                .get(&version.level())
                .copied()
                .unwrap_or(Capabilities::new(version)),
            prefix: format!("fz/{:x}/{name}", self.seed),
            client_id: format!("fz{:08x}{name}", self.seed as u32),
        }
    }

    /// The next case.
    pub fn next_case(&mut self) -> Case {
        let number = self.next;
        self.next += 1;
        let version = self.versions[number as usize % self.versions.len()];
        // Neighbouring numbers must not give neighbouring choices.
        let mut choices = Choices::from_seed(Random::new(self.seed ^ number.rotate_left(32)).next_u64());
        plan::case(&mut choices, &self.setting(version, &format!("{number:x}")))
    }

    /// How many cases were made.
    pub const fn cases(&self) -> u64 {
        self.next
    }

    /// Takes the verdict over a case; what is wrong comes back.
    pub fn record(&mut self, case: &Case, verdict: &Verdict) -> Vec<Finding> {
        *self.tried.entry(row(case)).or_default() += 1;
        // The first complaint is the cause, the others follow.
        verdict
            .complaints
            .first()
            .map(|complaint| self.finding(case, verdict, complaint))
            .into_iter()
            .collect()
    }

    /// A case after which the broker is gone, or does not answer on other connections.
    pub fn blame(&mut self, case: &Case, verdict: &Verdict, class: Class, what: &str) -> Finding {
        self.finding(case, verdict, &Complaint { class, what: what.to_owned() })
    }

    fn finding(&mut self, case: &Case, verdict: &Verdict, complaint: &Complaint) -> Finding {
        let count = self.found.entry((row(case), complaint.class)).or_default();
        *count += 1;
        Finding {
            complaint: complaint.clone(),
            case: case.clone(),
            file: file(case, verdict, complaint),
            is_worth_keeping: *count <= KEPT,
        }
    }

    /// How many findings there were.
    pub fn findings(&self) -> usize {
        self.found.values().sum()
    }

    /// A table of what was tried and found, by rule.
    pub fn summary(&self) -> String {
        let mut table = format!(
            "{:<8} {:<7} {:<36} {:<32} {:>6}  findings\n",
            "kind", "version", "tried", "rule", "cases"
        );
        for (row, cases) in &self.tried {
            let (kind, name, rule, level) = row;
            let version = ProtocolVersion::ALL.into_iter().find(|version| version.level() == *level);
            let version = version.map(|version| version.to_string()).unwrap_or_default();
            let found: Vec<String> = self
                .found
                .iter()
                .filter(|((other, _), _)| other == row)
                .map(|((_, class), count)| format!("{class} {count}"))
                .collect();
            let found = if found.is_empty() { String::from("-") } else { found.join(", ") };
            let _ = writeln!(table, "{kind:<8} {version:<7} {name:<36} {rule:<32} {cases:>6}  {found}");
        }
        table
    }
}

fn row(case: &Case) -> Row {
    (case.kind.name(), case.name.clone(), case.rule.clone(), case.version.level())
}

fn file(case: &Case, verdict: &Verdict, complaint: &Complaint) -> String {
    let mut file = case.to_string();
    let _ = writeln!(file, "# found {}: {}", complaint.class, complaint.what);
    if !verdict.heard.is_empty() {
        let _ = writeln!(file, "< {}", hex(&verdict.heard));
    }
    let ending = match verdict.ending {
        Ending::Alive => String::from("the connection went on"),
        Ending::Silent => String::from("the broker said nothing more"),
        Ending::Closed(None) => String::from("the broker closed the connection"),
        Ending::Closed(Some(code)) => format!("the broker closed the connection with {code}"),
    };
    let _ = writeln!(file, "# {ending}");
    file
}
