//! Owns the proof that `decode` prints what packets say, and what is wrong with those that are none. It must not know how.

use std::io::Write;
use std::process::{Command, Stdio};

use etherparse::PacketBuilder;

/// What is printed, and the exit code.
fn decode(arguments: &[&str], input: &[u8]) -> (String, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"))
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn every_field_of_a_packet_is_printed_without_secrets() {
    let properties = "0c 11 00000e10 26 0001 61 0001 62";
    let connect =
        format!("10 27 0004 4d515454 05 c2 003c {properties} 0002 6d65 0002 7573 0006 736563726574");
    let (text, code) = decode(&[connect.as_str()], b"");
    assert_eq!(code, 0, "{text}");
    for line in [
        "CONNECT at byte 0, 41 bytes",
        "  protocol version: 5.0",
        "  clean start: yes",
        "  keep alive: 60 s",
        "  SessionExpiryInterval: 3600 s",
        "  UserProperty: \"a\" = \"b\"",
        "  client identifier: \"me\"",
        "  user name: \"us\"",
        "  password: (6 bytes)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
    let (text, _) = decode(&["--show-secrets", &connect], b"");
    assert!(text.contains("\"secret\""), "{text}");
}

#[test]
fn what_is_wrong_is_told_with_the_rule_and_the_rest_goes_on() {
    // A PUBLISH with both QoS bits, a PINGRESP, and half of a PUBACK.
    let (text, code) = decode(&["--from", "server", "36 05 0001 61 0001", "d0 00", "40 02 00"], b"");
    assert_eq!(code, 1);
    for part in ["MQTT-3.3.1-4", "field: QoS", "PINGRESP at byte 7", "incomplete at byte 9"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (text, code) = decode(&["00 00 c0 00 00 00 00 00 c0 00"], b"");
    assert_eq!(
        (code, text.matches("PINGREQ").count()),
        (1, 1),
        "after two in a row nothing is told apart\n{text}"
    );
    assert_eq!(decode(&["zz"], b"").1, 2);
    assert_eq!(decode(&[""], b"").1, 2);
}

#[test]
fn bytes_come_from_standard_input_too() {
    assert!(decode(&["--raw"], &[0xC0, 0]).0.starts_with("PINGREQ"));
    assert!(decode(&[], b"0xe0, 0x00\n").0.starts_with("DISCONNECT"));
    let (text, _) = decode(&["-V", "3.1.1", "30 05 0003 612f62"], b"");
    assert!(text.contains("topic: \"a/b\"") && text.contains("payload: empty"), "{text}");
}

/// A capture of these segments: whether the client sends it, its sequence number, its payload.
fn capture(segments: &[(bool, u32, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (up, sequence, payload) in segments {
        let (from, to) = if *up { (40_000, 1883) } else { (1883, 40_000) };
        let ([source, target], time_to_live) = (if *up { [1, 2] } else { [2, 1] }, 64);
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = builder.ipv4([127, 0, 0, source], [127, 0, 0, target], time_to_live);
        let builder = builder.tcp(from, to, *sequence, 1_000);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        let length = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, length, length] {
            file.extend_from_slice(&u32::to_le_bytes(word));
        }
        file.extend_from_slice(&frame);
    }
    file
}

#[test]
fn connections_of_a_capture_are_put_together() {
    let connect = *b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01a";
    let (head, tail) = connect.split_at(5);
    let bytes = capture(&[
        (true, 100, head),
        // Early, and again.
        (true, 115, &[0xC0, 0]),
        (true, 105, tail),
        (true, 105, tail),
        (false, 7, &[0x20, 2, 0, 0, 0xD0]),
        (false, 12, &[0]),
    ]);
    let path = std::env::temp_dir().join(format!("mqtt-machine-decode-{}.pcap", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let (text, code) = decode(&["--pcap", path.to_str().unwrap()], b"");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code, 0, "{text}");
    let named = |line: &&str| line.contains(" at byte ");
    let packets: Vec<&str> =
        text.lines().filter(named).map(|line| line.split_once(" at ").unwrap().0).collect();
    let shown = ["-> CONNECT", "-> PINGREQ", "<- CONNACK", "<- PINGRESP"];
    assert_eq!(packets, shown.map(|line| format!("127.0.0.1:40000 {line}")), "{text}");
}
