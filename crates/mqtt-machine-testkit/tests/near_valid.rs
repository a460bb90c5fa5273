//! Near-valid packets against the codec: the broken one is refused for the broken rule, its sibling is not.

use std::collections::BTreeMap;

use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::Sender;
use mqtt_machine::wire::{decode, frame_header};
use mqtt_machine_testkit::generate::{Any, BrokenRule, Choices, Generate, NearValid, strategy};
use proptest::prelude::*;

const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

/// What the decoder makes of both, in words; empty when all is as it should be.
fn complaint(case: &NearValid) -> Option<String> {
    let NearValid { version, sender, bytes, sibling, rule } = case;
    let told = |what: &str| Some(format!("{} ({version}, {sender:?}): {what}\n{bytes:02x?}", rule.name));
    if let Err(error) = decode(sibling, *version, *sender) {
        return told(&format!("the valid sibling is refused: {error}"));
    }
    let Err(error) = decode(bytes, *version, *sender) else { return told("the broken packet is accepted") };
    if error.fault().field() != rule.field {
        return told(&format!("blamed on {} instead of {}: {error}", error.fault().field(), rule.field));
    }
    if *version == ProtocolVersion::V5 && !rule.allows_code(error.reason()) {
        return told(&format!("the rule does not allow {}", error.reason()));
    }
    // The reader of a stream must not wait for more than what is there, or it never looks.
    match frame_header(bytes, u32::MAX) {
        Ok(Some(header)) if header.frame_len() == bytes.len() => None,
        Err(_) => None,
        other => told(&format!("its frame does not end where it ends: {other:?}")),
    }
}

#[test]
fn every_rule_is_broken_thousands_of_times_and_named_each_time() {
    let mut choices = Choices::from_seed(1);
    let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut complaints: BTreeMap<&str, String> = BTreeMap::new();
    let mut total = 0;
    for rule in BrokenRule::all() {
        for version in ProtocolVersion::ALL {
            for sender in SENDERS {
                for _ in 0..1_000 {
                    let Some(case) = rule.break_it(&mut choices, version, sender) else { continue };
                    *broken.entry(rule.name).or_default() += 1;
                    total += 1;
                    if let Some(complaint) = complaint(&case) {
                        complaints.entry(rule.name).or_insert(complaint);
                    }
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.into_values().collect::<Vec<_>>().join("\n"));
    let rare: Vec<_> =
        BrokenRule::all().filter(|rule| broken.get(rule.name).is_none_or(|count| *count < 10)).collect();
    assert!(
        rare.is_empty(),
        "hardly ever broken: {:?}",
        rare.iter().map(|rule| rule.name).collect::<Vec<_>>()
    );
    assert!(total > 50_000, "{total}");
}

#[test]
fn rules_have_names_of_their_own_and_numbers_that_the_catalogue_knows() {
    const CATALOGUES: [&str; 2] = [
        include_str!("../../mqtt-machine/tests/conformance/mqtt5.tsv"),
        include_str!("../../mqtt-machine/tests/conformance/mqtt311.tsv"),
    ];
    let mut names: Vec<_> = BrokenRule::all().map(|rule| rule.name).collect();
    for rule in BrokenRule::all() {
        assert_eq!(BrokenRule::named(rule.name), Some(rule));
        for (ids, catalogue) in [rule.id_5, rule.id_3].into_iter().zip(CATALOGUES) {
            for id in ids.split(", ").filter(|id| id.starts_with("MQTT-")) {
                let known = catalogue.lines().any(|line| line.split('\t').next() == Some(id));
                assert!(known, "{}: {id} is no rule of that version", rule.name);
            }
        }
        assert!(!rule.id_5.is_empty() || !rule.id_3.is_empty());
        assert!(!rule.codes.is_empty() && rule.codes.iter().all(|code| code.is_failure()));
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two rules of one name");
}

#[test]
fn every_rule_of_the_decoder_is_broken_by_some_near_valid_packet() {
    use mqtt_machine::wire::Fault;
    let mut choices = Choices::from_seed(2);
    let mut seen = Vec::new();
    for rule in BrokenRule::all() {
        for version in ProtocolVersion::ALL {
            for sender in SENDERS {
                for _ in 0..300 {
                    let case = rule.break_it(&mut choices, version, sender);
                    seen.extend(case.and_then(|case| decode(&case.bytes, version, sender).err()));
                }
            }
        }
    }
    // How large a packet may be is the receiver's own rule.
    let missed: Vec<_> = Fault::ALL
        .iter()
        .filter(|fault| **fault != Fault::PacketTooLarge && !seen.iter().any(|it| it.fault() == **fault))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_near_valid_packet_is_refused_whatever_the_choices(case in strategy::<NearValid>()) {
        prop_assert_eq!(complaint(&case), None);
    }

    #[test]
    fn a_fuzzers_bytes_and_the_same_choices_make_the_same_value(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut unstructured = arbitrary::Unstructured::new(&bytes);
        let fuzzed: Any<NearValid> = arbitrary::Arbitrary::arbitrary(&mut unstructured).unwrap();
        prop_assert_eq!(fuzzed.0, NearValid::generate(&mut Choices::from_bytes(&bytes)));
    }
}
