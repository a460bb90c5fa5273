//! Owns the generators of text, of topic names and topic filters, and of payloads.
//! It must not know packets.

use mqtt_machine::{TopicFilter, TopicName};

use super::{Choices, Generate};

/// Characters of one to four bytes, the borders of each length among them; never U+0000, a wildcard or `/`.
const CHARACTERS: [char; 24] = [
    'a',
    'b',
    'c',
    'x',
    '0',
    '9',
    ' ',
    '-',
    '$',
    '\u{1}',
    '\u{1F}',
    '\u{7F}',
    '\u{80}',
    'é',
    '\u{7FF}',
    '\u{800}',
    '€',
    '\u{D7FF}',
    '\u{E000}',
    '\u{FEFF}',
    '\u{FFFD}',
    '\u{FFFF}',
    '𝄞',
    '\u{10FFFF}',
];

/// A character that may stand in any topic level.
fn character(choices: &mut Choices<'_>) -> char {
    // Plain letters most of the time, so that a wild one stands among tame ones.
    if choices.one_in(4) { choices.pick(&CHARACTERS) } else { choices.pick(&CHARACTERS[..8]) }
}

/// Up to `most` characters of a topic level.
fn level(choices: &mut Choices<'_>, most: usize) -> String {
    let count = choices.size(0..=most);
    (0..count).map(|_| character(choices)).collect()
}

/// Any text that MQTT allows: no U+0000. Once in a while it is as long as a field can be.
pub fn text(choices: &mut Choices<'_>) -> String {
    if choices.one_in(128) {
        return "t".repeat(choices.size(65_533..=65_535));
    }
    let count = choices.size(0..=12);
    (0..count)
        .map(|_| if choices.one_in(8) { choices.pick(&['/', '+', '#']) } else { character(choices) })
        .collect()
}

/// Whether every receiver must take this text: control characters and code points that are no characters are legal, and a
/// receiver may still refuse them as malformed (5.0, section 1.5.4; 3.1.1, section 1.5.3).
pub fn is_tame(text: &str) -> bool {
    text.chars().all(|character| {
        let code = u32::from(character);
        let is_noncharacter = (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE;
        !character.is_control() && !is_noncharacter
    })
}

/// Binary data as a field holds it, mostly short.
pub fn blob(choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.one_in(128) { vec![choices.byte(); 65_535] } else { choices.bytes(0..=24) }
}

/// A payload, mostly short, sometimes around the lengths at which the remaining length takes another byte.
pub fn payload(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.byte() {
        0..=199 => choices.bytes(0..=24),
        200..=243 => {
            let length = choices.size(100..=140);
            vec![choices.byte(); length]
        }
        _ => {
            let length = choices.size(16_360..=16_400);
            vec![choices.byte(); length]
        }
    }
}

/// The text of a topic name: 1 to 65,535 bytes without wildcards or U+0000 `[MQTT-4.7.1-1] [MQTT-4.7.3-1]`. Levels may be
/// empty, and the first may begin with `$`.
pub fn topic_name(choices: &mut Choices<'_>) -> String {
    if choices.one_in(128) {
        return "/t".repeat(32_767) + &"/"[..choices.size(0..=1)];
    }
    let mut levels = vec![if choices.one_in(16) { String::from("$SYS") } else { level(choices, 6) }];
    for _ in 0..choices.size(0..=3) {
        levels.push(level(choices, 6));
    }
    let topic = levels.join("/");
    if topic.is_empty() { String::from("a") } else { topic }
}

/// The text of a topic filter: wildcards where they may stand, shared subscriptions `[MQTT-4.8.2-1]`, `$` topics.
pub fn topic_filter(choices: &mut Choices<'_>) -> String {
    if choices.one_in(128) {
        return "+/".repeat(32_767) + &"+"[..choices.size(0..=1)];
    }
    let mut levels = Vec::new();
    if choices.one_in(16) {
        levels.push(String::from("$SYS"));
    }
    for _ in 0..choices.size(0..=4) {
        levels.push(if choices.one_in(4) { String::from("+") } else { level(choices, 6) });
    }
    if choices.one_in(3) {
        levels.push(String::from("#"));
    }
    let mut filter = levels.join("/");
    if filter.is_empty() {
        filter.push('a');
    }
    if filter.starts_with("$share/") {
        filter.insert(0, '/');
    }
    if choices.one_in(6) {
        let mut name = level(choices, 5);
        if name.is_empty() {
            name.push('g');
        }
        filter = format!("$share/{name}/{filter}");
    }
    filter
}

impl Generate for TopicName {
    fn generate(choices: &mut Choices<'_>) -> Self {
        Self::new(&topic_name(choices)).expect("only topic names are generated")
    }
}

impl Generate for TopicFilter {
    fn generate(choices: &mut Choices<'_>) -> Self {
        Self::new(&topic_filter(choices)).expect("only topic filters are generated")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_filters_are_valid_and_of_every_kind() {
        let mut choices = Choices::from_seed(3);
        let names: Vec<TopicName> = (0..3_000).map(|_| TopicName::generate(&mut choices)).collect();
        assert!(names.iter().any(|name| name.as_bytes().len() == 65_535));
        assert!(names.iter().any(|name| name.as_str().starts_with('$')));
        assert!(names.iter().any(|name| name.as_str().contains("//")));
        assert!(names.iter().any(|name| name.as_str().contains('\u{10FFFF}')));
        let filters: Vec<TopicFilter> = (0..3_000).map(|_| TopicFilter::generate(&mut choices)).collect();
        assert!(filters.iter().any(|filter| filter.as_str().len() == 65_535));
        assert!(filters.iter().any(|filter| filter.shared().is_some() && filter.has_wildcard()));
        assert!(filters.iter().any(|filter| filter.pattern() == "#"));
        assert!(filters.iter().any(|filter| !filter.has_wildcard()));
    }

    #[test]
    fn the_simplest_name_and_filter_are_a_single_letter() {
        assert_eq!(topic_name(&mut Choices::from_bytes(&[])), "a");
        assert_eq!(topic_filter(&mut Choices::from_bytes(&[])), "a");
    }
}
