//! Owns the annotations: which statements the comment above a test names. It must not know which statements there are.

use crate::statements::Version;

/// A test that names statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotated {
    /// Its file, from the root of the repository.
    pub(crate) file: String,
    /// Its function.
    pub(crate) name: String,
    /// What it names.
    pub(crate) statements: Vec<(Version, String)>,
}

/// An annotation whose test has not been seen yet.
struct Open {
    line: usize,
    statements: Vec<(Version, String)>,
    is_test: bool,
    is_ignored: bool,
}

/// Finds every annotated test of one file.
///
/// A scenario of the conformance suite for adapters is a test too, since every adapter runs all of them.
///
/// Between an annotation and its function stand attributes and nothing else. What only looks like an annotation is a complaint:
/// nobody would notice that it holds nothing.
pub(crate) fn scan(file: &str, text: &str, tests: &mut Vec<Annotated>, complaints: &mut Vec<String>) {
    let mut open: Option<Open> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        let mut complain = |what: &str| complaints.push(format!("{file}:{number}: {what}"));
        match annotation(line) {
            Some(Ok(statements)) => {
                let open = open.get_or_insert(Open {
                    line: number,
                    statements: Vec::new(),
                    is_test: false,
                    is_ignored: false,
                });
                open.statements.extend(statements);
                continue;
            }
            Some(Err(what)) => {
                complain(&what);
                continue;
            }
            None => {}
        }
        let Some(mut annotated) = open.take() else { continue };
        if let Some(attribute) = line.strip_prefix("#[") {
            annotated.is_test |= is_test_attribute(attribute);
            annotated.is_ignored |= attribute.starts_with("ignore") || attribute.contains(" ignore");
            open = Some(annotated);
        } else if let Some(name) = function(line) {
            if !annotated.is_test && !is_scenario(line) {
                complain(&format!("{name} is annotated and no test"));
            } else if annotated.is_ignored {
                complain(&format!("{name} is annotated and ignored"));
            } else {
                let (file, name) = (file.to_owned(), name.to_owned());
                tests.push(Annotated { file, name, statements: annotated.statements });
            }
        } else {
            complain(&format!("the annotation of line {} stands above no test", annotated.line));
        }
    }
    if let Some(open) = open {
        complaints.push(format!("{file}:{}: the annotation stands above no test", open.line));
    }
}

/// The statements that a comment names; `None` when it is no annotation and does not look like one.
fn annotation(line: &str) -> Option<Result<Vec<(Version, String)>, String>> {
    let comment = line.strip_prefix("//").filter(|rest| !rest.starts_with(['/', '!']))?.trim_start();
    if !comment.starts_with(|first: char| first.is_ascii_digit()) || !comment.contains("MQTT-") {
        return None;
    }
    let Some((version, ids)) = comment.split_once(": ") else {
        return Some(Err(format!("an annotation reads `// 5.0: MQTT-1.5.4-1, ...`, not {line:?}")));
    };
    let Some(version) = Version::parse(version) else {
        return Some(Err(format!("{version:?} is no version with numbered statements")));
    };
    let ids = ids.split(',').map(str::trim).filter(|id| !id.is_empty());
    Some(
        ids.map(|id| {
            if id.starts_with("MQTT-") && !id.contains(char::is_whitespace) {
                Ok((version, id.to_owned()))
            } else {
                Err(format!("{id:?} is no statement"))
            }
        })
        .collect(),
    )
}

/// `test]`, `tokio::test]`, `tokio::test(...)]`.
fn is_test_attribute(attribute: &str) -> bool {
    let end = attribute.find([']', '(']).unwrap_or(attribute.len());
    attribute.get(..end).is_some_and(|path| path == "test" || path.ends_with("::test"))
}

/// What the testkit's list of scenarios takes, and nothing else has.
fn is_scenario(line: &str) -> bool {
    line.starts_with("pub(super) fn ") && line.ends_with("(bench: &Bench) {")
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(super) ").unwrap_or(line);
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<Vec<Annotated>, Vec<String>> {
        let (mut tests, mut complaints) = (Vec::new(), Vec::new());
        scan("file.rs", text, &mut tests, &mut complaints);
        if complaints.is_empty() { Ok(tests) } else { Err(complaints) }
    }

    #[test]
    fn annotations_of_both_versions_belong_to_the_test_below_them() {
        let lines = [
            "    // 5.0: MQTT-1.5.4-1, MQTT-1.5.4-2",
            "    // 3.1.1: MQTT-1.5.3-1",
            "    #[tokio::test(flavor = \"current_thread\")]",
            "    async fn text_is_checked() {}",
            "    // 5.0 has no such rule.",
            "    #[test]",
            "    fn another() {}",
        ];
        let tests = scanned(&lines.join("\n")).unwrap();
        let (v5, v3) = (Version::V5, Version::V3_1_1);
        let statements = [(v5, "MQTT-1.5.4-1"), (v5, "MQTT-1.5.4-2"), (v3, "MQTT-1.5.3-1")];
        let statements = statements.map(|(version, id)| (version, id.to_owned())).to_vec();
        let name = "text_is_checked".to_owned();
        assert_eq!(tests, [Annotated { file: "file.rs".to_owned(), name, statements }]);
    }

    #[test]
    fn a_scenario_of_the_adapter_suite_is_a_test() {
        let tests = scanned("// 5.0: MQTT-4.2.0-1\npub(super) fn all_arrive(bench: &Bench) {").unwrap();
        assert_eq!(tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>(), ["all_arrive"]);
    }

    #[test]
    fn what_holds_nothing_is_a_complaint() {
        for (text, complaint) in [
            ("// 5.0: MQTT-1.5.4-1\nfn helper() {}", "helper is annotated and no test"),
            ("// 5.0: MQTT-1.5.4-1\npub(super) fn helper(at: u8) {}", "helper is annotated and no test"),
            ("// 5.0: MQTT-1.5.4-1\n#[test]\n#[ignore]\nfn later() {}", "later is annotated and ignored"),
            ("// 5.0: MQTT-1.5.4-1\n#[test]\n#[ignore = \"slow\"]\nfn later() {}", "ignored"),
            ("// 5.0: MQTT-1.5.4-1\n\n#[test]\nfn apart() {}", "line 1 stands above no test"),
            ("// 5.0: MQTT-1.5.4-1", "stands above no test"),
            ("// 5.0 MQTT-1.5.4-1\n#[test]\nfn colon() {}", "an annotation reads"),
            ("// 3.1: MQTT-1.5.4-1\n#[test]\nfn old() {}", "\"3.1\" is no version"),
            ("// 5.0: MQTT-1.5.4-1 and 2\n#[test]\nfn words() {}", "is no statement"),
        ] {
            let complaints = scanned(text).unwrap_err();
            assert!(complaints.iter().any(|told| told.contains(complaint)), "{complaints:?}");
        }
    }
}
