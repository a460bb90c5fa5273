//! Owns the proof that what pages of the repository refer to is there: files, headings, and the code that compiles as a test. It must
//! not know what the pages say. No network is asked: links to other places are not followed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The Markdown files of the repository.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut folders = vec![root.clone(), root.join("docs"), root.join("fuzz"), root.join("benches")];
    folders.extend(std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path()));
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut pages: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// The lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        (!inside && !fence).then_some((number + 1, line))
    })
}

/// The names by which the headings of a page are linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let letters = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            letters.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
        })
        .collect()
}

/// The targets of a line's links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// What a line names between backticks and looks like a file of this repository.
fn named_files(line: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let begins =
            ["crates/", "docs/", "fuzz/", "benches/", ".ci/"].iter().any(|start| word.starts_with(start));
        begins && !word.starts_with("fuzz/artifacts") && !word.contains(['*', ' ', '<', '…', '{'])
    };
    line.split('`').skip(1).step_by(2).filter(is_path)
}

#[test]
fn every_link_leads_somewhere_and_every_named_file_is_there() {
    let root = root();
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let folder = page.parent().unwrap();
        let name = page.strip_prefix(&root).unwrap().display().to_string();
        for (number, line) in prose(&text) {
            for target in links(line).filter(|target| !target.contains("://")) {
                count += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { page.clone() } else { folder.join(file) };
                let found = path.exists()
                    && (anchor.is_empty()
                        || std::fs::read_to_string(&path).is_ok_and(|text| anchors(&text).contains(anchor)));
                if !found {
                    broken.push(format!("{name}:{number}: {target}"));
                }
            }
            for file in named_files(line) {
                count += 1;
                if !root.join(file).exists() {
                    broken.push(format!("{name}:{number}: {file}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 50, "{count} were looked at");
}

#[test]
fn the_code_of_every_page_is_compiled() {
    let listed = concat!(include_str!("../src/lib.rs"), include_str!("../../mqtt-machine-tokio/src/lib.rs"));
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy();
        let has_code = text.lines().any(|line| line.starts_with("```rust"));
        assert!(!text.contains("```rust,ignore"), "{name} has code that nobody compiles");
        assert!(!has_code || listed.contains(&format!("/{name}\")")), "{name} is listed nowhere");
    }
}

#[test]
fn headings_are_linked_to_as_the_web_sites_of_repositories_do() {
    let anchors = anchors("# What `it` is, and why\n```\n# no heading\n```\n## MQTT 5.0\n");
    assert_eq!(anchors, ["mqtt-50", "what-it-is-and-why"].map(str::to_owned).into());
}
