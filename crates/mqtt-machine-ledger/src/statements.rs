//! Owns the normative statements, as the tables of the core's conformance tests list them. It must not know any test.

use std::fmt;
use std::fs;
use std::path::Path;

/// Where the tables are, from the root of the repository.
const TABLES: &str = "crates/mqtt-machine/tests/conformance";

/// A version with numbered statements; 3.1 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V5,
    V3_1_1,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::V5, Self::V3_1_1];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.to_string() == text)
    }

    const fn table(self) -> &'static str {
        match self {
            Self::V5 => "mqtt5.tsv",
            Self::V3_1_1 => "mqtt311.tsv",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5 => "5.0",
            Self::V3_1_1 => "3.1.1",
        })
    }
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
    Both,
}

/// One statement, in our words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) version: Version,
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) paraphrase: String,
    /// How a client can be checked against it.
    pub(crate) check: String,
}

impl Statement {
    /// Whether a client must act on it: do it, reject what breaks it, or tolerate what it allows a server.
    pub(crate) fn binds_a_client(&self) -> bool {
        self.role != Role::Server || !self.check.starts_with("n/a for a client")
    }

    fn parse(version: Version, line: &str) -> Option<Self> {
        let [id, role, paraphrase, check] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
        let role = match role {
            "client" => Role::Client,
            "server" => Role::Server,
            "both" => Role::Both,
            _ => return None,
        };
        let (id, paraphrase, check) = (id.to_owned(), paraphrase.to_owned(), check.to_owned());
        Some(Self { version, id, role, paraphrase, check })
    }
}

/// Every statement of both tables, in their order.
pub(crate) fn all(root: &Path) -> Result<Vec<Statement>, Vec<String>> {
    let mut statements = Vec::new();
    for version in Version::ALL {
        let path = root.join(TABLES).join(version.table());
        let text = fs::read_to_string(&path).map_err(|error| vec![format!("{}: {error}", path.display())])?;
        for line in text.lines().skip(1) {
            let no_row = || vec![format!("{} has a line that is no row: {line}", version.table())];
            statements.push(Statement::parse(version, line).ok_or_else(no_row)?);
        }
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whom_it_binds() {
        let binds = |line| Statement::parse(Version::V5, line).unwrap().binds_a_client();
        assert!(binds("MQTT-1.5.4-1\tboth\twords\tn/a (design)"));
        assert!(binds("MQTT-1.5.4-1\tserver\twords\tcodec/reject"));
        assert!(!binds("MQTT-1.5.4-1\tserver\twords\tn/a for a client (interop)"));
        assert_eq!(Statement::parse(Version::V5, "MQTT-1.5.4-1\tnobody\twords\tcodec"), None);
        assert_eq!(Statement::parse(Version::V5, "MQTT-1.5.4-1\tboth\twords"), None);
    }
}
