//! Scripts through a machine: whatever happens to it, it keeps its promises.

use mqtt_machine::Event;
use mqtt_machine_testkit::generate::{Any, Generate, strategy};
use mqtt_machine_testkit::script::{Script, Step, run};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_script_runs_to_its_end_and_every_command_ends_once(script in strategy::<Script>()) {
        run(&script);
    }

    #[test]
    fn the_same_script_gives_the_same_outputs(script in strategy::<Script>()) {
        prop_assert_eq!(run(&script), run(&script));
    }

    #[test]
    fn pieces_make_no_difference(script in strategy::<Script>(), size in 1_usize..9) {
        let mut whole = script.clone();
        whole.steps.retain(|step| !matches!(step, Step::Chunk(_)));
        let mut pieces = whole.clone();
        pieces.steps.insert(0, Step::Chunk(size));
        prop_assert_eq!(run(&whole), run(&pieces));
    }
}

#[test]
fn seeds_reach_everything_that_can_happen() {
    let (mut connected, mut messages, mut completed, mut failed, mut sent) = (0, 0, 0, 0, 0);
    for seed in 0..4_000 {
        let report = run(&Script::from_seed(seed));
        for event in &report.events {
            match event {
                Event::Connected(_) => connected += 1,
                Event::Message { .. } => messages += 1,
                Event::Completed { .. } => completed += 1,
                Event::ConnectFailed(_) => failed += 1,
                _ => {}
            }
        }
        sent += report.sent.len();
    }
    for (what, count) in
        [("connected", connected), ("messages", messages), ("completed", completed), ("failed", failed)]
    {
        assert!(count > 1_000, "{what}: {count}");
    }
    assert!(sent > 100_000, "{sent} bytes");
}

#[test]
fn a_fuzzers_bytes_are_a_script() {
    let bytes: Vec<u8> = (0..2_000_u32).map(|at| (at * 97 % 251) as u8).collect();
    let mut unstructured = arbitrary::Unstructured::new(&bytes);
    let Any(script) = arbitrary::Arbitrary::arbitrary(&mut unstructured).unwrap();
    run(&script);
    let mut nothing = arbitrary::Unstructured::new(&[]);
    let Any(simplest): Any<Script> = arbitrary::Arbitrary::arbitrary(&mut nothing).unwrap();
    assert!(
        run(&simplest).events.iter().any(|event| matches!(event, Event::Connected(_))),
        "it connects, at least"
    );
}
