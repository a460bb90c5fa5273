//! Owns the join of statements and tests: what is wrong with it, and how it reads. It must not know where either is from.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::annotations::Annotated;
use crate::statements::{Role, Statement, Version};

/// The statements with the tests that hold them.
pub(crate) struct Ledger<'a> {
    statements: Vec<Statement>,
    /// By version and identifier, in the order in which they were found.
    tests: BTreeMap<(Version, &'a str), Vec<&'a Annotated>>,
    not_held: &'a [(Version, &'a str, &'a str)],
}

/// How a statement stands.
enum Standing<'a> {
    ServerOnly,
    Held(&'a [&'a Annotated]),
    /// Known not to be held, for this reason.
    NotYet(&'a str),
    Missing,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        statements: Vec<Statement>,
        annotated: &'a [Annotated],
        not_held: &'a [(Version, &'a str, &'a str)],
    ) -> Self {
        let mut tests: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for test in annotated {
            for (version, id) in &test.statements {
                tests.entry((*version, id.as_str())).or_default().push(test);
            }
        }
        Self { statements, tests, not_held }
    }

    fn standing<'b>(&'b self, statement: &'b Statement) -> Standing<'b> {
        let (version, id) = (statement.version, statement.id.as_str());
        if let Some(tests) = self.tests.get(&(version, id)) {
            Standing::Held(tests)
        } else if !statement.binds_a_client() {
            Standing::ServerOnly
        } else if let Some((.., why)) = self.not_held.iter().find(|entry| (entry.0, entry.1) == (version, id))
        {
            Standing::NotYet(why)
        } else {
            Standing::Missing
        }
    }

    /// Everything that makes the ledger no ledger.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let known = |version, id: &str| {
            self.statements.iter().any(|statement| statement.version == version && statement.id == id)
        };
        for ((version, id), tests) in &self.tests {
            if !known(*version, id) {
                let places = tests.iter().map(|test| format!("{} in {}", test.name, test.file));
                let places = places.collect::<Vec<_>>().join(", ");
                complaints.push(format!("{version} has no statement {id}, which {places} names"));
            }
        }
        for (version, id, _) in self.not_held {
            if !known(*version, id) {
                complaints.push(format!("{version} has no statement {id}, which is listed as not held"));
            } else if self.tests.contains_key(&(*version, *id)) {
                complaints.push(format!("{id} of {version} has a test and is still listed as not held"));
            }
        }
        for statement in &self.statements {
            if matches!(self.standing(statement), Standing::Missing) {
                let Statement { version, id, paraphrase, .. } = statement;
                complaints.push(format!("{id} of {version} has no test: {paraphrase}"));
            }
        }
        complaints
    }

    /// One line for each version.
    pub(crate) fn summary(&self) -> String {
        let lines = Version::ALL.map(|version| {
            let [all, binding, held, not_yet] = self.counts(version);
            format!("{version}: {all} statements, {binding} for a client, {held} held, {not_yet} not yet")
        });
        lines.join("\n")
    }

    /// All statements, those for a client, and of these the held ones and those that are not held yet.
    fn counts(&self, version: Version) -> [usize; 4] {
        let mut counts = [0; 4];
        let [all, binding, held, not_yet] = &mut counts;
        for statement in self.statements.iter().filter(|statement| statement.version == version) {
            *all += 1;
            if statement.binds_a_client() {
                *binding += 1;
                match self.standing(statement) {
                    Standing::Held(_) => *held += 1,
                    Standing::NotYet(_) => *not_yet += 1,
                    Standing::ServerOnly | Standing::Missing => {}
                }
            }
        }
        counts
    }

    /// The ledger as a page.
    pub(crate) fn render(&self) -> String {
        let mut page = String::from(HEAD);
        for version in Version::ALL {
            let [all, binding, held, not_yet] = self.counts(version);
            let server = all - binding;
            push(
                &mut page,
                format_args!("| {version} | {all} | {server} | {binding} | {held} | {not_yet} |\n"),
            );
        }
        for version in Version::ALL {
            push(&mut page, format_args!("\n## {version}\n\n{COLUMNS}"));
            for statement in self.statements.iter().filter(|statement| statement.version == version) {
                let Statement { id, paraphrase, check, .. } = statement;
                let role = match statement.role {
                    Role::Client => "client",
                    Role::Server => "server",
                    Role::Both => "both",
                };
                let standing = match self.standing(statement) {
                    Standing::Held(tests) => {
                        tests.iter().map(|test| link(test)).collect::<Vec<_>>().join("<br>")
                    }
                    Standing::ServerOnly => format!("server only: {check}"),
                    Standing::NotYet(why) => format!("**not yet**: {why}"),
                    Standing::Missing => "**no test**".to_owned(),
                };
                let paraphrase = escaped(paraphrase);
                push(&mut page, format_args!("| {id} | {role} | {paraphrase} | {standing} |\n"));
            }
        }
        page
    }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

fn link(test: &Annotated) -> String {
    let short = test.file.strip_prefix("crates/").unwrap_or(&test.file);
    format!("`{}` in [{short}](../{})", test.name, test.file)
}

/// Text that a table cell can hold.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

const HEAD: &str = "\
# Conformance

Every numbered statement of MQTT 5.0 and 3.1.1, in our words, and the tests that fail when it is broken. `.ci/ledger`
writes this page from the annotations above the tests and from the tables in `crates/mqtt-machine/tests/conformance/`; it is
not edited by hand. `.ci/ledger --check` fails when a statement that binds a client, or that says what a client rejects or
tolerates, has no test, when a test names what is no statement, and when this page is stale.

What binds a server alone says \"server only\". `docs/conformance-breaks.md` tells for which of the rules it was tried
that their tests fail when the code breaks them.

| version | statements | server only | for a client | held by tests | not yet |
| --- | --- | --- | --- | --- | --- |
";

const COLUMNS: &str = "\
| statement | binds | what it says | held by |
| --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(id: &str, check: &str) -> Statement {
        let (id, paraphrase, check) = (id.to_owned(), "a|b".to_owned(), check.to_owned());
        Statement { version: Version::V5, id, role: Role::Server, paraphrase, check }
    }

    fn annotated(id: &str) -> Annotated {
        let statements = vec![(Version::V5, id.to_owned())];
        Annotated { file: "crates/x/tests/y.rs".to_owned(), name: "holds".to_owned(), statements }
    }

    #[test]
    fn a_client_statement_without_a_test_is_a_complaint_unless_it_is_listed() {
        let statements = vec![statement("MQTT-1", "codec"), statement("MQTT-2", "n/a for a client")];
        let bare = Ledger::new(statements.clone(), &[], &[]).complaints();
        assert_eq!(bare, ["MQTT-1 of 5.0 has no test: a|b"]);
        let listed = [(Version::V5, "MQTT-1", "no such thing yet")];
        let ledger = Ledger::new(statements.clone(), &[], &listed);
        assert!(ledger.complaints().is_empty());
        assert!(ledger.render().contains("| MQTT-1 | server | a\\|b | **not yet**: no such thing yet |"));
        assert!(ledger.render().contains("| MQTT-2 | server | a\\|b | server only: n/a for a client |"));
        let tests = [annotated("MQTT-1")];
        let both = Ledger::new(statements.clone(), &tests, &listed).complaints();
        assert_eq!(both, ["MQTT-1 of 5.0 has a test and is still listed as not held"]);
        let held = Ledger::new(statements, &tests, &[]);
        assert!(held.complaints().is_empty());
        assert!(held.render().contains("`holds` in [x/tests/y.rs](../crates/x/tests/y.rs) |"));
        assert!(held.summary().starts_with("5.0: 2 statements, 1 for a client, 1 held, 0 not yet"));
    }

    #[test]
    fn what_is_no_statement_is_a_complaint_wherever_it_is_named() {
        let tests = [annotated("MQTT-9")];
        let complaints = Ledger::new(Vec::new(), &tests, &[(Version::V5, "MQTT-8", "why")]).complaints();
        assert_eq!(
            complaints,
            [
                "5.0 has no statement MQTT-9, which holds in crates/x/tests/y.rs names",
                "5.0 has no statement MQTT-8, which is listed as not held",
            ]
        );
    }
}
