//! Owns what holds for topic names, topic filters and the map that routes by them.

use arbitrary::{Arbitrary, Unstructured};
use mqtt_machine::{TopicFilter, TopicName};
use mqtt_machine_client::FilterMap;

/// One thing done to a map.
#[derive(Arbitrary, Debug)]
enum Step {
    Insert(Levels),
    Remove(Levels),
    Match(Levels),
    Text(String),
}

/// A text of few different levels, so that filters and topics meet.
#[derive(Arbitrary, Debug)]
struct Levels(Vec<Level>);

#[derive(Arbitrary, Debug)]
enum Level {
    A,
    B,
    Empty,
    Plus,
    Hash,
    Dollar,
    Share,
}

impl Levels {
    fn text(&self) -> String {
        let levels = self.0.iter().take(12).map(|level| match level {
            Level::A => "a",
            Level::B => "b",
            Level::Empty => "",
            Level::Plus => "+",
            Level::Hash => "#",
            Level::Dollar => "$SYS",
            Level::Share => "$share",
        });
        levels.collect::<Vec<_>>().join("/")
    }
}

/// The map finds what a list of filters, each asked alone, finds.
pub(crate) fn map(data: &[u8]) {
    let mut choices = Unstructured::new(data);
    let mut map = FilterMap::new();
    let mut list: Vec<(TopicFilter, usize)> = Vec::new();
    for serial in 0..200 {
        if choices.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut choices) else { break };
        match step {
            Step::Insert(levels) => {
                let Ok(filter) = TopicFilter::new(&levels.text()) else { continue };
                let before = position(&list, &filter).map(|at| list.remove(at).1);
                assert_eq!(map.insert(filter.clone(), serial), before);
                list.push((filter, serial));
            }
            Step::Remove(levels) => {
                let Ok(filter) = TopicFilter::new(&levels.text()) else { continue };
                let before = position(&list, &filter).map(|at| list.remove(at).1);
                assert_eq!(map.remove(&filter), before);
            }
            Step::Match(levels) => {
                let Ok(topic) = TopicName::new(&levels.text()) else { continue };
                let mut found = Vec::new();
                map.matches(&topic, |value| found.push(*value));
                let mut expected: Vec<_> = list
                    .iter()
                    .filter(|(filter, _)| filter.matches(&topic))
                    .map(|(_, value)| *value)
                    .collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "{topic:?}");
            }
            Step::Text(text) => check_text(&text),
        }
        assert_eq!(map.len(), list.len());
    }
}

fn position(list: &[(TopicFilter, usize)], filter: &TopicFilter) -> Option<usize> {
    list.iter().position(|(other, _)| other == filter)
}

/// A topic name is a filter that matches itself; what holds a wildcard is never a name.
fn check_text(text: &str) {
    let name = TopicName::new(text);
    let filter = TopicFilter::new(text);
    if let Ok(name) = &name {
        assert!(
            !text.contains(['+', '#', '\0']) && !text.is_empty() && text.len() <= mqtt_machine::MAX_FIELD
        );
        if let Ok(filter) = &filter
            && filter.shared().is_none()
        {
            assert!(filter.matches(name));
        }
    }
    if let Ok(filter) = &filter {
        assert_eq!(filter.has_wildcard(), filter.pattern().contains(['+', '#']));
    }
}
