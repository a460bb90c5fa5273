//! Receipts that are given back together do what they do one by one.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::{Bench, config, incoming};
use mqtt_machine::{ProtocolVersion, QoS, ReasonCode, Receipt};
use proptest::prelude::*;

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![2 => Just(QoS::AtMostOnce), 6 => Just(QoS::AtLeastOnce), 1 => Just(QoS::ExactlyOnce)]
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V3_1_1), Just(ProtocolVersion::V5)]
}

/// A client that has these messages, and their receipts; the connection is another one by now if it `cut`.
fn holding(version: ProtocolVersion, messages: &[QoS], cut: bool) -> (Bench, Vec<Option<Receipt>>) {
    let mut bench = Bench::connected(config(version));
    for (qos, id) in messages.iter().zip(1..) {
        bench.receive(&incoming(*qos, if *qos == QoS::AtMostOnce { 0 } else { id }));
    }
    let receipts = bench.receipts().into_iter().map(Some).collect();
    if cut {
        bench.reconnect(true);
    }
    bench.sent();
    (bench, receipts)
}

proptest! {
    #[test]
    fn receipts_that_are_merged_acknowledge_what_they_do_one_by_one(
        version in version(),
        messages in prop::collection::vec(qos(), 1..30),
        cut in prop::bool::weighted(0.2),
        order in prop::collection::vec((0_usize..30, 1_usize..12, prop::bool::weighted(0.9)), 0..12),
    ) {
        let (mut single, mut receipts) = holding(version, &messages, cut);
        let (mut merged, mut together) = holding(version, &messages, cut);
        prop_assert_eq!(receipts.len(), messages.len());
        for (from, count, succeeds) in order.into_iter().chain([(0, messages.len(), true)]) {
            let reason = if succeeds { ReasonCode::Success } else { ReasonCode::QuotaExceeded };
            let places = from.min(messages.len())..messages.len().min(from + count);
            let mut sum: Option<Receipt> = None;
            for place in places {
                if let Some(receipt) = receipts[place].take() {
                    single.machine.settle(single.now, receipt, reason);
                }
                let Some(receipt) = together[place].take() else { continue };
                let Some(before) = &mut sum else {
                    sum = Some(receipt);
                    continue;
                };
                let bytes = before.bytes() + receipt.bytes();
                match before.merge(receipt) {
                    Ok(()) => prop_assert_eq!(before.bytes(), bytes),
                    Err(receipt) => {
                        let before = std::mem::replace(before, receipt);
                        merged.machine.settle(merged.now, before, reason);
                    }
                }
            }
            if let Some(sum) = sum {
                merged.machine.settle(merged.now, sum, reason);
            }
            prop_assert_eq!(single.machine.metrics().incoming_bytes, merged.machine.metrics().incoming_bytes);
            prop_assert_eq!(single.sent(), merged.sent());
        }
        prop_assert_eq!(merged.machine.metrics().incoming_bytes, 0);
        prop_assert_eq!(single.machine.session(), merged.machine.session());
    }
}

#[test]
fn only_receipts_of_messages_that_follow_each_other_can_be_merged() {
    let messages = [QoS::AtLeastOnce, QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce];
    let (mut bench, mut receipts) = holding(ProtocolVersion::V5, &messages, false);
    let mut take = |place: usize| receipts[place].take().expect("it is there");
    let (first, mut plain, second, third) = (take(0), take(1), take(2), take(3));
    let name = second.key();
    let mut second = {
        plain.merge(second).expect("one of QoS 0 holds bytes alone");
        assert!(
            name.is_some() && plain.acknowledges() && plain.key().is_none(),
            "it names no message any more"
        );
        plain
    };
    let first = second.merge(first).expect_err("it came before");
    second.merge(third).expect("it came next");
    bench.machine.settle(bench.now, second, ReasonCode::Success);
    assert_eq!(bench.sent(), [""; 0], "the first is not settled");
    bench.machine.settle(bench.now, first, ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubAck id1", "PubAck id3", "PubAck id4"]);
}
