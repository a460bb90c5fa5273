//! Owns what holds for any bytes that are read as a transcript. It must not know what its machine owes anybody.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_machine::transcript::{Recorder, Recording, Replay, Transcript};
use mqtt_machine::{Config, Instant, Server};

/// Whatever can be read is replayed without a panic, and what today's machine makes of it replays to itself. The bytes
/// are tried as a whole file, and as entries behind a header that is valid.
pub(crate) fn replay(data: &[u8]) {
    replay_file(Bytes::copy_from_slice(data));
    let config = Arc::new(Config::new(Server::new("fuzz")).client_id("fuzz"));
    let mut file = BytesMut::new();
    let recording = Some(Recording::new());
    file.extend_from_slice(&Recorder::new(config, 7, Instant::ZERO, recording).take_recorded());
    file.extend_from_slice(data);
    replay_file(file.freeze());
}

fn replay_file(file: Bytes) {
    let Ok(transcript) = Transcript::new(file) else { return };
    let _ = Replay::verify(&transcript);
    let Ok(mut replay) = Replay::new(&transcript) else { return };
    for entry in transcript.entries().map_while(Result::ok) {
        let _ = replay.apply(entry.at, entry.call);
    }
    let Ok(renewed) = Replay::renew(&transcript) else { return };
    let renewed = Transcript::new(renewed).expect("what was written can be read");
    Replay::verify(&renewed).expect("the same calls give the same outputs");
}
