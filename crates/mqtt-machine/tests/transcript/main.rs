//! Transcripts: what is recorded is read as it was, replays to the same outputs, and holds no secret.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod inputs;
mod redaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt_machine::transcript::{
    Call, Recorder, Recording, Replay, ReplayError, Said, StopReason, Transcript, What, Wrong,
};
use mqtt_machine::{
    Command, Config, Event, Input, Instant, Machine, Message, Output, QoS, ReasonCode, Receipt, Reply,
    Server, TransportEvent, TransportId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use inputs::{Step, config, input, record, script};

/// Does a script with a machine as a driver would, and tells what came of it.
fn run(recorder: &mut Recorder, steps: Vec<Step>) -> Vec<String> {
    let (mut left, mut receipts, mut seen) = (BytesMut::new(), Vec::new(), Vec::new());
    for step in steps {
        seen.push(match step {
            Step::Input(at, input) => match recorder.handle(at, input) {
                Reply::Unread(bytes) => {
                    left = bytes;
                    format!("{left:?}")
                }
                reply => format!("{reply:?}"),
            },
            Step::More(at, id, bytes) => {
                left.extend_from_slice(&bytes);
                recorder.handle_input(at, id, &mut left);
                format!("{left:?}")
            }
            Step::Transmit(at, room) => {
                let mut output = Output::with_mark(room);
                recorder.transmit(at, &mut output);
                format!("{output:?}")
            }
            Step::PollAction => format!("{:?}", recorder.poll_action()),
            Step::PollEvent => {
                let event = recorder.poll_event();
                let seen = format!("{event:?}");
                if let Some(Event::Message { receipt, .. }) = event {
                    receipts.push(receipt);
                }
                seen
            }
            Step::Settle(at) => {
                if !receipts.is_empty() {
                    recorder.settle(at, receipts.remove(0), ReasonCode::Success);
                }
                String::new()
            }
        });
        seen.push(format!("{:?} {}", recorder.poll_timeout(), recorder.read_capacity()));
    }
    seen
}

fn recorded(config: Config, seed: u64, recording: Recording, steps: Vec<Step>) -> Bytes {
    let mut recorder = Recorder::new(Arc::new(config), seed, Instant::ZERO, Some(recording));
    run(&mut recorder, steps);
    recorder.take_recorded()
}

/// Replays whatever can be read, as a fuzz target does.
fn replay_anything(bytes: &[u8]) {
    let Ok(transcript) = Transcript::new(Bytes::copy_from_slice(bytes)) else { return };
    let _ = Replay::verify(&transcript);
    let _ = Replay::renew(&transcript);
    let Ok(mut replay) = Replay::new(&transcript) else { return };
    for entry in transcript.entries().map_while(Result::ok) {
        let _ = replay.apply(entry.at, entry.call);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_input_is_read_as_it_was_recorded(
        config in config(),
        seed in any::<u64>(),
        start in any::<u64>(),
        inputs in vec((any::<u64>(), input()), 1..20),
    ) {
        let start = Instant::from_micros(start);
        let recording = Recording::new().including_secrets();
        let mut recorder = Recorder::new(Arc::new(config.clone()), seed, start, Some(recording));
        let mut expected = Vec::new();
        for (at, input) in inputs {
            let at = Instant::from_micros(at);
            expected.push((at, match &input {
                Input::Bytes { id, bytes } => (id.to_u64(), format!("{bytes:?}")),
                input => (0, format!("{input:?}")),
            }));
            recorder.handle(at, input);
        }
        let bytes = recorder.take_recorded();
        let transcript = Transcript::new(bytes.clone()).unwrap();
        let header = transcript.header();
        prop_assert_eq!(&*header.config, &config);
        prop_assert_eq!((header.seed, header.start, header.redacted), (seed, start, false));
        let entries: Vec<_> = transcript.entries().map(Result::unwrap).map(|entry| {
            (entry.at, match entry.call {
                Call::Input(input) => (0, format!("{input:?}")),
                Call::Bytes { id, bytes, .. } => (id.to_u64(), format!("{bytes:?}")),
                call => panic!("{call}"),
            })
        }).collect();
        // Bytes that repeat what was left are told by what is new in them; that is the next property's matter.
        for (entry, expected) in entries.iter().zip(&expected) {
            prop_assert_eq!(entry.0, expected.0);
            prop_assert!(entry.1 == expected.1 || expected.1.1.ends_with(&entry.1.1[2..]), "{:?}", entry);
        }
        prop_assert_eq!(entries.len(), expected.len());
        // Reading loses nothing: written again it is the same, secrets included, which `Debug` does not show.
        prop_assert_eq!(Replay::renew(&transcript).unwrap(), bytes);
    }

    #[test]
    fn records_are_read_as_they_were_recorded(config in config(), records in vec(record(), 0..10)) {
        // Records that are no session are refused, after they were read.
        let away = Duration::from_secs(7);
        let recording = Some(Recording::new());
        let config = Arc::new(config);
        let restored = Recorder::restore(config.clone(), 1, Instant::ZERO, away, records.clone(), recording);
        let plain = Machine::restore(config, 1, Instant::ZERO, away, records.clone());
        prop_assert_eq!(restored.as_ref().err(), plain.as_ref().err());
        if let (Ok(mut recorder), Ok(machine)) = (restored, plain) {
            let transcript = Transcript::new(recorder.take_recorded()).unwrap();
            prop_assert_eq!(transcript.records().collect::<Vec<_>>(), records);
            prop_assert_eq!(Replay::new(&transcript).unwrap().machine().session(), machine.session());
        }
    }

    #[test]
    fn a_script_replays_to_the_same_outputs_and_recording_changes_none(
        config in config(),
        seed in any::<u64>(),
        redacted in any::<bool>(),
        steps in script(),
    ) {
        let recording = if redacted { Recording::new() } else { Recording::new().including_secrets() };
        let config = Arc::new(config);
        let mut recorder = Recorder::new(config.clone(), seed, Instant::ZERO, Some(recording));
        let seen = run(&mut recorder, steps.clone());
        prop_assert_eq!(seen, run(&mut Recorder::new(config, seed, Instant::ZERO, None), steps));
        let bytes = recorder.take_recorded();
        let transcript = Transcript::new(bytes.clone()).unwrap();
        match Replay::verify(&transcript) {
            Ok(count) => prop_assert_eq!(count, transcript.entries().count()),
            Err(error) => prop_assert!(false, "{}", error),
        }
        prop_assert_eq!(Replay::renew(&transcript).unwrap(), bytes);
    }

    #[test]
    fn any_bytes_are_read_and_replayed_without_a_panic(
        config in config(),
        steps in script(),
        noise in vec(any::<u8>(), 0..200),
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        replay_anything(&noise);
        let recording = Recording::new().including_secrets();
        let mut bytes = recorded(config, 1, recording, Vec::new()).to_vec();
        let head = bytes.len();
        bytes.extend_from_slice(&noise);
        replay_anything(&bytes);
        bytes.truncate(head);
        let whole = recorded(Config::new(Server::new("s")), 1, recording, steps);
        let mut bytes = whole.to_vec();
        for (index, byte, change) in changes {
            let at = index.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte & 7),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        replay_anything(&bytes);
    }
}

/// A connection on which a message of QoS 1 comes and one of QoS 2 goes, recorded.
fn scenario(recording: Recording) -> Recorder {
    let config = Config::new(Server::new("s")).client_id("c");
    let mut recorder = Recorder::new(Arc::new(config), 1, Instant::from_micros(3), Some(recording));
    let at = Instant::from_micros;
    let id = TransportId::new(1);
    recorder.connect(at(10)).unwrap();
    assert!(recorder.poll_action().is_some());
    recorder.handle_transport(at(20), id, TransportEvent::Opened);
    let mut output = Output::new();
    recorder.transmit(at(30), &mut output);
    recorder.handle_input(at(40), id, &mut BytesMut::from(&[0x20, 3, 0, 0, 0][..]));
    assert!(recorder.poll_event().is_some());
    recorder.publish(at(50), Message::to("t", "out").unwrap().qos(QoS::ExactlyOnce)).unwrap();
    recorder.transmit(at(60), &mut output);
    let publish = &[0x32, 9, 0, 1, b'i', 0, 5, 0, b'h', b'e', b'y'][..];
    let mut input = BytesMut::from(&publish[..6]);
    recorder.handle_input(at(70), id, &mut input);
    input.extend_from_slice(&publish[6..]);
    recorder.handle_input(at(80), id, &mut input);
    let Some(Event::Message { receipt, .. }) = recorder.poll_event() else { panic!("no message") };
    recorder.settle(at(90), receipt, ReasonCode::Success);
    recorder.transmit(at(100), &mut output);
    recorder.handle_transport(at(110), id, TransportEvent::Closed(None));
    assert!(matches!(recorder.poll_event(), Some(Event::Disconnected(_))));
    recorder.handle_timeout(at(20_000_000));
    recorder
}

/// Where each entry begins, and where the last one ends.
fn places(transcript: &Transcript) -> Vec<usize> {
    let mut entries = transcript.entries();
    let mut places = vec![entries.position()];
    while let Some(entry) = entries.next() {
        entry.unwrap();
        places.push(entries.position());
    }
    places
}

fn difference(bytes: Vec<u8>) -> Option<(usize, What)> {
    let transcript = Transcript::new(bytes).unwrap();
    match Replay::verify(&transcript) {
        Err(ReplayError::Differs(difference)) => Some((difference.entry, difference.what)),
        _ => None,
    }
}

#[test]
fn a_changed_output_is_reported_at_its_entry() {
    let bytes = scenario(Recording::new()).take_recorded();
    let transcript = Transcript::new(bytes.clone()).unwrap();
    let places = places(&transcript);
    assert_eq!(Replay::verify(&transcript), Ok(places.len() - 1));
    let calls: Vec<_> = transcript.entries().map(|entry| entry.unwrap().call).collect();
    for (index, call) in calls.iter().enumerate() {
        // An entry ends with its digest, or with the number of events that wait.
        let mut changed = bytes.to_vec();
        changed[places[index + 1] - 1] ^= 1;
        let expected = match call {
            Call::PollAction => What::Action,
            Call::PollEvent => What::Event,
            _ => What::EventCount,
        };
        assert_eq!(difference(changed), Some((index, expected)), "{call}");
    }
}

#[test]
fn a_changed_input_is_reported_where_it_first_shows_and_never_before() {
    let bytes = scenario(Recording::new()).take_recorded();
    let transcript = Transcript::new(bytes.clone()).unwrap();
    let places = places(&transcript);
    for (index, place) in places.windows(2).enumerate() {
        for at in place[0]..place[1] {
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                let first = difference(changed);
                assert!(first.is_none_or(|(entry, _)| entry >= index), "{first:?} of a change in {index}");
            }
        }
    }
    // A bit of the payload that came shows when its message is polled.
    let at = bytes.windows(3).position(|part| part == b"hey").unwrap();
    let came = places.iter().position(|place| *place > at).unwrap() - 1;
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    assert_eq!(difference(changed), Some((came + 1, What::Event)));
    // One of the payload that goes shows when it is written.
    let at = bytes.windows(3).position(|part| part == b"out").unwrap();
    let came = places.iter().position(|place| *place > at).unwrap() - 1;
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    assert_eq!(difference(changed), Some((came + 1, What::Bytes)));
}

#[test]
fn a_difference_says_what_was_recorded_and_what_came() {
    let mut bytes = scenario(Recording::new()).take_recorded().to_vec();
    let at = bytes.windows(3).position(|part| part == b"out").unwrap();
    bytes[at] ^= 1;
    let error = Replay::verify(&Transcript::new(bytes).unwrap()).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "entry 7 at 0.000060s differs in the bytes for the transport: recorded was 11 bytes, digest "
        ),
        "{error}"
    );
}

#[test]
fn bytes_that_were_left_are_recorded_once() {
    let bytes = scenario(Recording::new()).take_recorded();
    let transcript = Transcript::new(bytes).unwrap();
    let parts: Vec<_> = transcript
        .entries()
        .filter_map(|entry| match entry.unwrap().call {
            Call::Bytes { continued, bytes, .. } => Some((continued, bytes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [(false, 5), (false, 6), (true, 5)]);
}

#[test]
fn messages_that_are_taken_together_are_recorded_one_by_one() {
    let mut recorder = scenario(Recording::new());
    assert!(recorder.poll_action().is_some());
    let (id, at) = (TransportId::new(2), Instant::from_micros(30_000_000));
    recorder.handle_transport(at, id, TransportEvent::Opened);
    recorder.transmit(at, &mut Output::new());
    let qos_0 = |payload: u8| [0x30, 5, 0, 1, b't', 0, payload];
    let qos_1 = [0x32, 7, 0, 1, b't', 0, 9, 0, b'2'];
    let mut input = BytesMut::from(&[0x20, 3, 0, 0, 0][..]);
    input.extend(qos_0(b'1').into_iter().chain(qos_1).chain(qos_0(b'3')));
    recorder.handle_input(at, id, &mut input);
    recorder.poll_messages(|message, _| panic!("the connection is told before {message:?}"));
    assert!(matches!(recorder.poll_event(), Some(Event::Connected(_))));
    let (mut payloads, mut receipts) = (Vec::new(), Vec::new());
    recorder.poll_messages(|message, receipt| {
        payloads.push(message.payload_lossy());
        receipts.push(receipt);
    });
    assert_eq!(payloads, ["1", "2", "3"]);
    assert_eq!(recorder.poll_event(), None);
    let held = receipts.iter().map(Receipt::bytes).sum::<usize>();
    assert_eq!(recorder.metrics().incoming_bytes, held);
    let last = receipts.pop().unwrap();
    let all = receipts.into_iter().rev().fold(last, |mut later, receipt| {
        later.merge(receipt).unwrap();
        later
    });
    recorder.settle(at, all, ReasonCode::Success);
    assert_eq!(recorder.metrics().incoming_bytes, 0);
    let transcript = Transcript::new(recorder.take_recorded()).unwrap();
    let taken = |call: &Call| matches!(call, Call::PollEvent);
    let calls: Vec<_> = transcript.entries().map(|entry| entry.unwrap().call).collect();
    assert_eq!(calls.iter().filter(|call| taken(call)).count(), 3 + 4, "3 of them before");
    assert_eq!(Replay::verify(&transcript), Ok(calls.len()));
}

#[test]
fn a_large_frame_that_comes_in_small_parts_is_recorded_once() {
    let mut recorder = scenario(Recording::new());
    assert!(recorder.poll_action().is_some());
    let (id, at) = (TransportId::new(2), Instant::from_micros(30_000_000));
    recorder.handle_transport(at, id, TransportEvent::Opened);
    recorder.transmit(at, &mut Output::new());
    let mut bytes = BytesMut::from(&[0x20, 3, 1, 0, 0, 0x30, 0xC0, 0x9A, 0x0C, 0, 1, b't', 0][..]);
    // A remaining length of 200,000.
    bytes.extend((0..199_996_u32).map(|byte| (byte % 251) as u8));
    let length = bytes.len();
    let mut input = BytesMut::new();
    while !bytes.is_empty() {
        input.extend_from_slice(&bytes.split_to(bytes.len().min(1_000)));
        recorder.handle_input(at, id, &mut input);
    }
    assert!(matches!(recorder.poll_event(), Some(Event::Connected(_))));
    let Some(Event::Message { message, .. }) = recorder.poll_event() else { panic!("no message") };
    assert_eq!(message.payload.len(), 199_996);
    // Other bytes of the same length are not taken for what was left.
    for byte in [b'a', b'b'] {
        let mut part = BytesMut::from(&[0x30, 0xC0, 0x9A, 0x0C][..]);
        part.resize(70_000, byte);
        recorder.handle_input(at, id, &mut part);
    }
    let bytes = recorder.take_recorded();
    assert!((length + 140_000..length + 150_000).contains(&bytes.len()), "{} bytes", bytes.len());
    let transcript = Transcript::new(bytes).unwrap();
    assert_eq!(Replay::verify(&transcript), Ok(transcript.entries().count()));
}

#[test]
fn a_cut_transcript_replays_as_far_as_it_goes() {
    let bytes = scenario(Recording::new()).take_recorded();
    let transcript = Transcript::new(bytes.clone()).unwrap();
    let places = places(&transcript);
    for length in 0..bytes.len() {
        let Ok(cut) = Transcript::new(bytes.slice(..length)) else {
            assert!(length < places[0]);
            continue;
        };
        let whole = places.iter().filter(|place| **place <= length).count() - 1;
        match Replay::verify(&cut) {
            Ok(count) => assert!(count == whole || count == whole + 1),
            Err(ReplayError::Read(error)) => {
                assert_eq!(error.what, Wrong::Truncated);
                assert!((places[whole]..=length).contains(&error.at));
                assert_eq!(cut.entries().count(), whole + 1);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_no_transcript_is_named_with_its_place() {
    let error = |bytes: &[u8]| Transcript::new(Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!((error(b"GIF89a").at, error(b"GIF89a").what), (0, Wrong::NotATranscript));
    assert_eq!((error(b"mqtt-rec\x02").at, error(b"mqtt-rec\x02").what), (8, Wrong::Version(2)));
    // A length of 2^63 with two bytes behind it, and a count of as many servers.
    let lying = b"mqtt-rec\x01\0\0\0\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01ab";
    assert_eq!(error(lying).what, Wrong::Truncated);
    let lying = b"mqtt-rec\x01\0\0\0\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0\0\0";
    assert_eq!(error(lying).what, Wrong::Truncated);
    assert_eq!(error(lying).to_string(), "behind 25 bytes: the transcript ends within a field");
    let mut unknown = recorded(Config::new(Server::new("s")), 1, Recording::new(), Vec::new()).to_vec();
    let length = unknown.len();
    unknown.extend_from_slice(&[99, 0, 0]);
    let entry = Transcript::new(unknown).unwrap().entries().next().unwrap().unwrap_err();
    assert_eq!((entry.at, entry.what), (length, Wrong::Unknown { what: "call", code: 99 }));
}

#[test]
fn a_full_buffer_ends_the_recording_with_a_marker_and_not_the_machine() {
    let whole = scenario(Recording::new()).take_recorded();
    let places = places(&Transcript::new(whole.clone()).unwrap());
    for limit in 0..whole.len() {
        let mut recorder = scenario(Recording::new().buffer(limit));
        assert_eq!(recorder.stopped(), Some(StopReason::BufferFull));
        let bytes = recorder.take_recorded();
        assert_eq!(recorder.recorded(), 0);
        // The machine went on all the same.
        assert!(matches!(recorder.poll_action(), Some(mqtt_machine::Action::OpenTransport { .. })));
        if limit < places[0] {
            assert!(bytes.is_empty());
            continue;
        }
        let transcript = Transcript::new(bytes).unwrap();
        let entries = transcript.entries().map(Result::unwrap).collect::<Vec<_>>();
        assert!(matches!(entries.last().unwrap().call, Call::Stop(StopReason::BufferFull)));
        assert_eq!(entries.len(), places.iter().filter(|place| **place <= limit).count());
        assert_eq!(Replay::verify(&transcript), Ok(entries.len()));
    }
    // One that is emptied in time takes any number of entries.
    let mut recorder = scenario(Recording::new());
    let mut bytes = BytesMut::from(&recorder.take_recorded()[..]);
    for micros in 0..100 {
        recorder.handle_timeout(Instant::from_micros(30_000_000 + micros));
        bytes.extend_from_slice(&recorder.take_recorded());
    }
    recorder.stop_recording();
    recorder.handle_timeout(Instant::from_micros(40_000_000));
    bytes.extend_from_slice(&recorder.take_recorded());
    let transcript = Transcript::new(bytes).unwrap();
    assert_eq!(Replay::verify(&transcript), Ok(places.len() - 1 + 100 + 1));
    let last = transcript.entries().last().unwrap().unwrap();
    assert!(matches!(last.call, Call::Stop(StopReason::Asked)));
}

#[test]
fn a_recorder_without_a_recording_is_a_machine() {
    let config = Arc::new(Config::new(Server::new("s")));
    let mut recorder = Recorder::new(config.clone(), 1, Instant::ZERO, None);
    let reply = recorder.handle(Instant::ZERO, Input::Command(Command::Connect));
    assert!(matches!(reply, Reply::Done));
    assert_eq!((recorder.recorded(), recorder.stopped()), (0, None));
    assert!(recorder.take_recorded().is_empty());
    let mut machine = Machine::new(config, 1, Instant::ZERO);
    machine.connect(Instant::ZERO).unwrap();
    assert_eq!(machine.poll_timeout(), recorder.poll_timeout());
    assert_eq!(machine.poll_action(), recorder.poll_action());
    assert_eq!(recorder.memory_used(), machine.memory_used());
}

#[test]
fn the_outputs_of_today_replace_those_of_yesterday() {
    let bytes = scenario(Recording::new()).take_recorded();
    let mut old = bytes.to_vec();
    let transcript = Transcript::new(bytes.clone()).unwrap();
    for place in &places(&transcript)[1..] {
        old[place - 1] ^= 1;
    }
    let old = Transcript::new(old).unwrap();
    assert!(Replay::verify(&old).is_err());
    assert_eq!(Replay::renew(&old).unwrap(), bytes);
    let said: Vec<_> = transcript.entries().filter_map(|entry| Some(entry.unwrap().observed?.said)).collect();
    assert!(said.iter().any(|said| matches!(said, Said::Wrote(..))));
}
