//! The bytes of records, the rows of a store, and the two keys by which an application and a session agree.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

#[path = "bench/mod.rs"]
mod bench;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, config, incoming};
use bytes::Bytes;
use mqtt_machine::journal::{
    DeliveryKey, KeyError, PublishKey, Record, RecordError, RowError, changes, decode, encode, records,
};
use mqtt_machine::packet::{Ack, AckKind, Packet, Properties};
use mqtt_machine::{
    Acknowledgement, Action, DropReason, Event, Instant, KeyedPublication, LostSession, Machine, Message,
    OpId, Outcome, PacketId, ProtocolVersion, QoS, ReasonCode, Refused, Subscription, TopicFilter,
};
use proptest::prelude::*;

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn key(text: &str) -> PublishKey {
    PublishKey::new(text).unwrap()
}

fn durable() -> mqtt_machine::Config {
    config(ProtocolVersion::V5).durable(true)
}

/// One of each kind, with the bytes that version 1 has for it. They are never written anew: a store of today is read for ever.
fn version_1() -> Vec<(Record, &'static str)> {
    let message = Message::to("a/b", "x").unwrap().qos(QoS::ExactlyOnce).retain(true);
    let filter = TopicFilter::new("a/#").unwrap();
    let subscription = Subscription::new(filter.clone(), QoS::AtLeastOnce);
    let op = OpId::new(300);
    let acknowledged = Outcome::Acknowledged(Acknowledgement::new(ReasonCode::Success, Default::default()));
    vec![
        (Record::ClientId("me".into()), "01016d6524f4eb6a"),
        (Record::SessionBegan { identity: 7 }, "0102000000000000000711d03544"),
        (Record::Queued { op, message }, "0103ac020603612f62007822d15ef3"),
        (Record::Assigned { op, packet_id: id(9) }, "0104ac0200096761af43"),
        (
            Record::Released { op, packet_id: id(9), after: OpId::new(301), turn: 2 },
            "0105ac020009ad02025b5c5918",
        ),
        (Record::Ended { op, packet_id: id(9) }, "0106ac0200091743701b"),
        (Record::Discarded { op }, "0107ac02573f4e7e"),
        (Record::Downgraded { op, qos: QoS::AtLeastOnce }, "0108ac020192e5df1a"),
        (Record::Keyed { op, key: key("k"), outcome: None }, "0109ac02016b003f6a1f51"),
        (Record::Keyed { op, key: key("k"), outcome: Some(acknowledged) }, "0109ac02016b0100e2aef8e9"),
        (Record::Forgotten { op }, "010aac0254f146df"),
        (Record::Received { packet_id: id(9), generation: 4 }, "010b00090000000409d0b484"),
        (Record::Completed { packet_id: id(9), generation: 5 }, "010c000900000005e65e870e"),
        (Record::Subscribed { subscription, identifier: Some(3) }, "010d010100000003612f23641efb25"),
        (Record::Unsubscribed { filter }, "010e612f23671d156b"),
        (Record::Reserved { op }, "010fac026f6e70bb"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_have_the_bytes_that_they_have_had_since_version_1() {
    let written: Vec<String> = version_1().iter().map(|(record, _)| hex(&encode(record))).collect();
    let known: Vec<&str> = version_1().iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(written, known);
    for (record, _) in version_1() {
        assert_eq!(decode(&encode(&record)), Ok(record));
    }
}

#[test]
fn every_outcome_of_a_publication_is_kept() {
    let refused = Outcome::Refused(Acknowledgement::new(ReasonCode::QuotaExceeded, Default::default()));
    let dropped = [
        DropReason::Offline,
        DropReason::ConnectionLost,
        DropReason::PacketTooLarge,
        DropReason::NotSupported,
    ];
    let outcomes = dropped.map(Outcome::Dropped).into_iter().chain([
        refused,
        Outcome::Expired,
        Outcome::NotSent,
        Outcome::Unknown,
        Outcome::Sent,
    ]);
    for outcome in outcomes {
        let record = Record::Keyed { op: OpId::new(1), key: key("k"), outcome: Some(outcome) };
        assert_eq!(decode(&encode(&record)), Ok(record));
    }
}

#[test]
fn what_is_wrong_with_bytes_is_named() {
    let good = encode(&Record::Assigned { op: OpId::new(1), packet_id: id(1) });
    assert_eq!(decode(&[]), Err(RecordError::Truncated));
    assert_eq!(decode(&good[..4]), Err(RecordError::Truncated));
    assert_eq!(decode(&good[..good.len() - 1]), Err(RecordError::Checksum));
    let mut newer = good.to_vec();
    newer[0] = 2;
    assert_eq!(decode(&newer), Err(RecordError::Version(2)));
    for at in 1..good.len() {
        let mut flipped = good.to_vec();
        flipped[at] ^= 0x10;
        assert_eq!(decode(&flipped), Err(RecordError::Checksum), "byte {at}");
    }
    let sealed = |body: &[u8]| [body, &crc(body).to_be_bytes()].concat();
    assert_eq!(decode(&sealed(&[1, 99])), Err(RecordError::Kind(99)));
    assert_eq!(decode(&sealed(&[1, 4, 1, 0, 0])), Err(RecordError::Field("packet identifier")));
    assert_eq!(decode(&sealed(&[1, 4, 1, 0])), Err(RecordError::Truncated));
    assert_eq!(decode(&sealed(&[1, 4, 1, 0, 1, 7])), Err(RecordError::Trailing(1)));
    assert_eq!(decode(&sealed(&[1, 4, 0x81, 0, 0, 1])), Err(RecordError::Field("number")));
    assert_eq!(decode(&sealed(&[1, 3, 1, 3, 1, b'a', 0])), Err(RecordError::Field("flags")));
    assert_eq!(decode(&sealed(&[1, 3, 1, 1, 1, b'#', 0])), Err(RecordError::Field("topic name")));
    assert_eq!(decode(&sealed(&[1, 3, 1, 1, 1, b'a', 1, 0xFF])), Err(RecordError::Field("properties")));
    assert_eq!(decode(&sealed(&[1, 9, 1, 0, 0])), Err(RecordError::Field("key")));
    assert_eq!(decode(&sealed(&[1, 13, 3, 0, b'a'])), Err(RecordError::Field("options")));
}

/// CRC32C, a bit at a time: not the code that is tested.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_that_is_written_the_same_or_an_error(
        body in proptest::collection::vec(any::<u8>(), 0..60),
        kind in 0_u8..20,
        sealed in any::<bool>(),
    ) {
        let mut bytes = [&[1, kind][..], &body].concat();
        if sealed {
            bytes.extend_from_slice(&crc(&bytes).to_be_bytes());
        }
        if let Ok(record) = decode(&bytes) {
            prop_assert_eq!(encode(&record), bytes);
        }
    }
}

#[test]
fn rows_that_are_no_session_are_named() {
    let wrong = |rows: [(&[u8], Bytes); 1]| records(rows).unwrap_err();
    let error = wrong([(&[1], Bytes::from_static(b"\x01torn!"))]);
    let key = Bytes::from_static(&[1]);
    assert_eq!(error, RowError::Record { key, error: RecordError::Checksum });
    let error = wrong([(&[2], encode(&Record::ClientId("me".into())))]);
    assert_eq!(error, RowError::Misplaced { key: Bytes::from_static(&[2]) });
    assert_eq!(error.to_string(), "row 02: its record does not belong there");
    // The end of something is no row.
    let error = wrong([(&[3], encode(&Record::Discarded { op: OpId::new(1) }))]);
    assert!(matches!(error, RowError::Misplaced { .. }));
}

#[test]
fn a_change_of_state_repeats_no_payload_and_what_has_ended_leaves_no_row() {
    let mut bench = Bench::connected(durable());
    let payload = vec![7; 10_000];
    let mut table = BTreeMap::new();
    let mut bytes = Vec::new();
    for count in 0..100 {
        let message = Message::to("t", payload.clone()).unwrap().qos(QoS::ExactlyOnce);
        bench.machine.publish(bench.now, message).unwrap();
        store(&mut bench, &mut table, &mut bytes);
        bench.sent();
        bench.ack(AckKind::PubRec, count + 1);
        store(&mut bench, &mut table, &mut bytes);
        bench.sent();
        bench.ack(AckKind::PubComp, count + 1);
        store(&mut bench, &mut table, &mut bytes);
        let written: usize = bytes.drain(..).sum();
        assert!(written < 10_000 + 150, "{written} bytes for a message");
    }
    let kinds: Vec<u8> = table.keys().map(|key: &Bytes| key[0]).collect();
    assert_eq!(kinds, [9], "the reserved names are all that is left of 100 messages");
}

/// Carries out what the machine wants stored, in a table, and tells that it is durable.
fn store(bench: &mut Bench, table: &mut BTreeMap<Bytes, Bytes>, bytes: &mut Vec<usize>) {
    while let Some(action) = bench.machine.poll_action() {
        let Action::Store { seq, record } = action else { continue };
        changes(&record, &mut |change| {
            bytes.push(change.len());
            change.apply(table);
        });
        bench.machine.handle_stored(bench.now, Ok(seq));
    }
}

fn restored(config: mqtt_machine::Config, records: Vec<Record>) -> Bench {
    let mut bench = Bench::new(config.clone());
    bench.machine =
        Machine::restore(Arc::new(config), 7, Instant::ZERO, Duration::ZERO, records).expect("a session");
    bench
}

/// A client that keeps its records, and another one that begins with them.
fn records_of(bench: &mut Bench) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(action) = bench.machine.poll_action() {
        if let Action::Store { seq, record } = action {
            records.push(record);
            bench.machine.handle_stored(bench.now, Ok(seq));
        }
    }
    records
}

fn begin(config: mqtt_machine::Config) -> (Bench, Vec<Record>) {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    let mut records = Vec::new();
    while let Some(action) = bench.machine.poll_action() {
        match action {
            Action::OpenTransport { id, .. } => {
                bench.transport = Some(id);
                bench.machine.handle_transport(bench.now, id, mqtt_machine::TransportEvent::Opened);
            }
            Action::Store { seq, record } => {
                records.push(record);
                bench.machine.handle_stored(bench.now, Ok(seq));
            }
            _ => {}
        }
    }
    assert_eq!(bench.sent().len(), 1);
    bench.accept(false, Properties::EMPTY);
    (bench, records)
}

#[test]
fn connect_waits_for_the_name_of_the_session() {
    let mut bench = Bench::new(durable());
    bench.machine.connect(bench.now).unwrap();
    let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { panic!() };
    bench.transport = Some(id);
    bench.machine.handle_transport(bench.now, id, mqtt_machine::TransportEvent::Opened);
    assert!(bench.sent().is_empty());
    records_of(&mut bench);
    assert_eq!(bench.sent(), ["Connect clean=true id=test"]);
}

#[test]
fn to_publish_again_under_a_key_is_not_to_publish_again() {
    let mut bench = Bench::connected(durable());
    let now = bench.now;
    let message = bench::message(QoS::AtLeastOnce);
    let publish =
        |bench: &mut Bench| bench.machine.publish_keyed(now, key("k"), bench::message(QoS::AtLeastOnce));
    let Ok(KeyedPublication::Accepted(op)) = publish(&mut bench) else { panic!() };
    assert_eq!(publish(&mut bench), Ok(KeyedPublication::Open(op)));
    records_of(&mut bench);
    assert_eq!(bench.sent().len(), 1);
    bench.ack(AckKind::PubAck, 1);
    records_of(&mut bench);
    assert_eq!(bench.outcomes().len(), 1);
    let Ok(KeyedPublication::Ended(ended, Outcome::Acknowledged(_))) = publish(&mut bench) else { panic!() };
    assert_eq!(ended, op);
    bench.machine.forget(now, &key("k"));
    assert!(matches!(publish(&mut bench), Ok(KeyedPublication::Accepted(_))));
    let refused = bench.machine.publish_keyed(now, key("q"), message.qos(QoS::AtMostOnce));
    assert!(matches!(refused, Err(Refused::Misuse(_))));
    assert_eq!(PublishKey::new(""), Err(KeyError { bytes: 0 }));
    assert!(PublishKey::new([0; 129]).is_err());
}

#[test]
fn an_outcome_that_a_crash_kept_from_being_told_is_told_to_who_asks_by_the_key() {
    let (mut bench, mut all) = begin(durable());
    let now = bench.now;
    for (name, qos) in [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce), ("three", QoS::AtLeastOnce)] {
        bench.machine.publish_keyed(now, key(name), bench::message(qos)).unwrap();
    }
    all.extend(records_of(&mut bench));
    bench.sent();
    bench.ack(AckKind::PubAck, 1);
    bench.ack(AckKind::PubRec, 2);
    all.extend(records_of(&mut bench));
    // The process dies here.
    for records in [all.clone(), rows(&all)] {
        let mut again = restored(durable(), records);
        let mut ask =
            |name| again.machine.publish_keyed(now, key(name), bench::message(QoS::AtLeastOnce)).unwrap();
        assert!(matches!(ask("one"), KeyedPublication::Ended(_, Outcome::Acknowledged(_))));
        assert_eq!(ask("two"), KeyedPublication::Open(OpId::new(2)));
        assert_eq!(ask("three"), KeyedPublication::Open(OpId::new(3)));
        assert_eq!(ask("four"), KeyedPublication::Accepted(OpId::new(4_097)), "no name comes again");
    }
}

/// The same session as rows and back.
fn rows(all: &[Record]) -> Vec<Record> {
    let mut table = BTreeMap::new();
    for record in all {
        changes(record, &mut |change| change.apply(&mut table));
    }
    records(&table).unwrap()
}

#[test]
fn a_key_whose_publication_was_never_kept_is_free() {
    let keyed = Record::Keyed { op: OpId::new(1), key: key("k"), outcome: None };
    let mut bench = restored(durable(), vec![keyed]);
    let result = bench.machine.publish_keyed(bench.now, key("k"), bench::message(QoS::AtLeastOnce));
    assert!(matches!(result, Ok(KeyedPublication::Accepted(_))), "{result:?}");
}

fn delivery(bench: &mut Bench) -> (mqtt_machine::Receipt, DeliveryKey) {
    let told = bench.events().into_iter().find_map(|event| match event {
        Event::Message { receipt, .. } => Some(receipt),
        _ => None,
    });
    let receipt = told.expect("a message");
    let key = receipt.key().expect("a key");
    (receipt, key)
}

#[test]
fn a_message_that_comes_again_after_a_crash_has_its_key_and_the_next_one_another() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut bench, mut all) = begin(durable());
        bench.receive(&incoming(qos, 9));
        let (_, first) = delivery(&mut bench);
        // The process dies before the receipt came back, and the server sends the message again.
        let mut bench = restored(durable(), rows(&all));
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(true, Properties::EMPTY);
        bench.receive(&incoming(qos, 9));
        let (receipt, again) = delivery(&mut bench);
        assert_eq!(again, first, "QoS {qos}");
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        assert!(bench.sent().is_empty(), "the acknowledgement waits for its record");
        all.extend(records_of(&mut bench));
        assert_eq!(bench.sent().len(), 1);
        if qos == QoS::ExactlyOnce {
            bench.receive(&Packet::Ack(Ack::new(AckKind::PubRel, id(9))));
            all.extend(records_of(&mut bench));
        }
        // The identifier is free, and another message comes under it: at once, and to the next process.
        bench.receive(&incoming(qos, 9));
        let (_, next) = delivery(&mut bench);
        assert_ne!(next, first, "QoS {qos}");
        let mut bench = restored(durable(), rows(&all));
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(true, Properties::EMPTY);
        bench.receive(&incoming(qos, 9));
        assert_eq!(delivery(&mut bench).1, next, "QoS {qos}");
    }
}

#[test]
fn a_message_of_another_session_has_another_key() {
    let (mut bench, all) = begin(durable());
    bench.receive(&incoming(QoS::ExactlyOnce, 9));
    let (_, first) = delivery(&mut bench);
    let mut bench = restored(durable(), rows(&all));
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    // The server has lost the session: what it sends under this identifier is another message.
    bench.accept(false, Properties::EMPTY);
    bench.receive(&incoming(QoS::ExactlyOnce, 9));
    let (_, other) = delivery(&mut bench);
    assert_ne!(other, first);
    assert_ne!(other.to_bytes(), first.to_bytes());
    assert_ne!(other.to_string(), first.to_string());
}

#[test]
fn a_message_of_qos_1_under_the_identifier_of_an_abandoned_one_has_a_key_of_its_own() {
    for settled in [false, true] {
        let (mut bench, mut all) = begin(durable());
        bench.receive(&incoming(QoS::ExactlyOnce, 9));
        let (receipt, first) = delivery(&mut bench);
        if settled {
            bench.machine.settle(bench.now, receipt.clone(), ReasonCode::Success);
            all.extend(records_of(&mut bench));
        }
        // The server loses the session, and the CONNACK that says so is lost with its connection: the next one resumes what began then.
        for accepts in [false, true] {
            bench.cut();
            bench.wake();
            bench.open();
            bench.events();
            if accepts {
                bench.accept(true, Properties::EMPTY);
            }
        }
        bench.receive(&incoming(QoS::AtLeastOnce, 9));
        let (_, other) = delivery(&mut bench);
        assert_ne!(other, first, "settled: {settled}");
        assert_eq!(bench.machine.session().received, []);
        // A process that dies before, or after, that is durable names it the same when it comes again.
        let before = restored(durable(), rows(&all));
        all.extend(records_of(&mut bench));
        let after = restored(durable(), rows(&all));
        for (mut bench, what) in [(before, "before"), (after, "after")] {
            if !settled && what == "before" {
                // Nothing is known of a message whose receipt had not come back.
                continue;
            }
            bench.machine.connect(bench.now).unwrap();
            bench.open();
            bench.accept(true, Properties::EMPTY);
            bench.receive(&incoming(QoS::AtLeastOnce, 9));
            assert_eq!(delivery(&mut bench).1, other, "settled: {settled}, restored from {what}");
        }
        // The receipt of the abandoned one acknowledges nothing.
        bench.sent();
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        assert!(bench.sent().is_empty());
    }
}

/// A server may not use one identifier for two messages at once; one that does loses none of them by it.
#[test]
fn a_message_of_qos_1_does_not_end_one_of_qos_2_that_the_same_connection_brought() {
    for config in [durable(), config(ProtocolVersion::V3_1)] {
        let (mut bench, _) = begin(config);
        bench.receive(&incoming(QoS::AtLeastOnce, 4));
        bench.receive(&incoming(QoS::ExactlyOnce, 4));
        bench.settle_all(ReasonCode::Success);
        bench.receive(&incoming(QoS::AtLeastOnce, 4));
        bench.settle_all(ReasonCode::Success);
        records_of(&mut bench);
        assert_eq!(bench.machine.session().received, [PacketId::new(4).unwrap()]);
        assert_eq!(bench.sent(), ["PubAck id4", "PubRec id4", "PubAck id4"]);
        // It was told, and is not told again.
        bench.receive(&incoming(QoS::ExactlyOnce, 4));
        assert!(bench.events().is_empty());
        assert_eq!(bench.sent(), ["PubRec id4"]);
        bench.ack(AckKind::PubRel, 4);
        records_of(&mut bench);
        assert_eq!(bench.sent(), ["PubComp id4"]);
        assert_eq!(bench.machine.session().received, []);
    }
}

#[test]
fn nothing_is_subscribed_to_before_the_name_of_the_session_is_durable() {
    let (mut bench, _) = begin(durable());
    bench.cut();
    bench.wake();
    bench.open();
    bench.accept_after_events(false);
    let filter = TopicFilter::new("a").unwrap();
    bench.machine.subscribe(bench.now, mqtt_machine::Subscribe::to(filter, QoS::AtLeastOnce)).unwrap();
    assert!(bench.sent().is_empty());
    records_of(&mut bench);
    assert_eq!(bench.sent(), ["Subscribe id1 a"]);
}

#[test]
fn pubrels_go_out_in_the_order_of_their_pubrecs_after_a_restart_too() {
    let (mut bench, mut all) = begin(durable());
    for _ in 0..3 {
        bench.machine.publish(bench.now, bench::message(QoS::ExactlyOnce)).unwrap();
    }
    all.extend(records_of(&mut bench));
    bench.sent();
    for number in [3, 1] {
        bench.ack(AckKind::PubRec, number);
    }
    all.extend(records_of(&mut bench));
    for records in [all.clone(), rows(&all)] {
        let mut bench = restored(durable(), records);
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(true, Properties::EMPTY);
        assert_eq!(bench.sent(), ["Publish a/b qos2 dup id2 x", "PubRel id3", "PubRel id1"]);
    }
}

#[test]
fn a_lost_session_gives_up_by_the_policy_and_the_rows_say_the_same() {
    for (policy, left) in [(LostSession::SendAgain, 2), (LostSession::Report, 1)] {
        let config = durable().lost_session(policy);
        let (mut bench, mut all) = begin(config.clone());
        for qos in [QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            bench.machine.publish(bench.now, bench::message(qos)).unwrap();
        }
        all.extend(records_of(&mut bench));
        bench.sent();
        bench.ack(AckKind::PubRec, 1);
        all.extend(records_of(&mut bench));
        bench.cut();
        bench.wake();
        bench.open();
        bench.accept_after_events(false);
        all.extend(records_of(&mut bench));
        let session = bench.machine.session();
        assert_eq!(session.publications.len(), left);
        assert_eq!(restored(config.clone(), rows(&all)).machine.session(), session);
        let unknown = bench.outcomes().into_iter().filter(|(_, outcome)| *outcome == Outcome::Unknown);
        assert_eq!(unknown.count(), 3 - left);
    }
}

#[test]
fn a_failed_store_ends_every_command_and_writes_nothing_more() {
    let mut bench = Bench::connected(durable());
    let now = bench.now;
    bench.machine.publish(now, bench::message(QoS::AtLeastOnce)).unwrap();
    bench.machine.publish(now, bench::message(QoS::AtMostOnce)).unwrap();
    let filter = TopicFilter::new("a").unwrap();
    bench.machine.subscribe(now, mqtt_machine::Subscribe::to(filter, QoS::AtLeastOnce)).unwrap();
    while bench.machine.poll_action().is_some() {}
    bench.machine.handle_stored(now, Err(mqtt_machine::StoreError("disk full".into())));
    let outcomes: Vec<Outcome> = bench.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::StoreFailed, Outcome::StoreFailed, Outcome::StoreFailed]);
    bench.machine.disconnect(now, mqtt_machine::Disconnect::new(Duration::ZERO)).unwrap();
    assert!(!std::iter::from_fn(|| bench.machine.poll_action()).any(|it| matches!(it, Action::Store { .. })));
    assert_eq!(bench.outcomes().len(), 1, "the disconnect's own");
}

#[test]
fn a_key_whose_message_a_crash_took_can_be_used_again_and_restored_again() {
    let config = Arc::new(config(ProtocolVersion::V5).durable(true));
    let mut machine = Machine::new(Arc::clone(&config), 1, Instant::ZERO);
    let key = key("k");
    let message = Message::to("t", "x").unwrap().qos(QoS::ExactlyOnce);
    machine.publish_keyed(Instant::ZERO, key.clone(), message.clone()).unwrap();
    let taken = |machine: &mut Machine| -> Vec<Record> {
        let actions = std::iter::from_fn(|| machine.poll_action());
        actions
            .filter_map(|it| if let Action::Store { record, .. } = it { Some(record) } else { None })
            .collect()
    };
    let mut kept = taken(&mut machine);
    assert!(matches!(kept.pop(), Some(Record::Queued { .. })), "it was not durable");
    let restore = |kept: &[Record]| {
        Machine::restore(Arc::clone(&config), 1, Instant::ZERO, Duration::ZERO, kept.to_vec())
    };
    let mut machine = restore(&kept).unwrap();
    assert!(!machine.is_known(&key));
    let again = machine.publish_keyed(Instant::ZERO, key.clone(), message).unwrap();
    assert!(matches!(again, KeyedPublication::Accepted(_)), "{again:?}");
    kept.extend(taken(&mut machine));
    let restored = restore(&kept).unwrap();
    assert!(restored.is_known(&key));
    assert_eq!(restored.session(), machine.session());
    // As a store has it: rows, in no order that the machine knows.
    let mut rows = BTreeMap::new();
    kept.iter().for_each(|record| changes(record, &mut |change| change.apply(&mut rows)));
    assert_eq!(restore(&records(&rows).unwrap()).unwrap().session(), machine.session());
}
