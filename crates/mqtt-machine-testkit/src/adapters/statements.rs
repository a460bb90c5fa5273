//! Owns the numbered statements that need a socket, against a server that says exactly what is written down. Each scenario
//! names those that it holds. It must not know how the machine decides them.

use mqtt_machine_client::{ConnectError, EndReason, ProtocolVersion};

use super::bench::{Bench, V5, VERSIONS};
use super::peers::{Server, connack};

// 5.0: MQTT-4.5.0-2
// 3.1.1: MQTT-4.5.0-2
pub(super) fn messages_that_the_application_ignores_are_acknowledged(bench: &Bench) {
    for version in VERSIONS {
        let (qos_1, qos_2): (&[u8], &'static [u8]) = match version {
            V5 => (&[0x32, 7, 0, 1, b'a', 0, 7, 0, b'x'], &[0x34, 7, 0, 1, b'a', 0, 8, 0, b'x']),
            _ => (&[0x32, 6, 0, 1, b'a', 0, 7, b'x'], &[0x34, 6, 0, 1, b'a', 0, 8, b'x']),
        };
        let dialogue = vec![(4, qos_2), (4, &[0x62, 2, 0, 8][..]), (4, &[])];
        let server = Server::scripted(bench, &[connack(version), qos_1].concat(), dialogue);
        let client = bench.connect(server.once(version));
        bench.until("the dialogue is over", || server.answered() == 3);
        assert_eq!(client.unrouted(), 2);
        bench.disconnect(&client);
        let expected = [&[0x40, 2, 0, 7][..], &[0x50, 2, 0, 8], &[0x70, 2, 0, 8], &[0xE0, 0]].concat();
        assert_eq!(server.end(), expected, "{version}");
    }
}

// 5.0: MQTT-3.14.4-1, MQTT-3.14.4-2
// 3.1.1: MQTT-3.14.4-1, MQTT-3.14.4-2
pub(super) fn after_disconnect_the_socket_is_closed_and_nothing_more_was_written(bench: &Bench) {
    for version in VERSIONS {
        let server = Server::scripted(bench, connack(version), Vec::new());
        let client = bench.connect(server.once(version));
        bench.disconnect(&client);
        assert_eq!(server.end(), [0xE0, 0], "{version}");
    }
}

// 5.0: MQTT-3.2.2-7, MQTT-4.13.2-1
// 3.1.1: MQTT-3.2.2-5
pub(super) fn after_a_refusal_the_socket_is_closed(bench: &Bench) {
    for (version, refusal) in [(V5, &[0x20, 3, 0, 0x87, 0][..]), (ProtocolVersion::V3_1_1, &[0x20, 2, 0, 5])]
    {
        let server = Server::scripted(bench, refusal, Vec::new());
        let client = bench.start(server.once(version));
        let result = bench.wait("a refusal", client.connected());
        assert!(matches!(result, Err(ConnectError::GaveUp(EndReason::Refused { .. }))), "{result:?}");
        assert_eq!(server.end(), [0_u8; 0], "{version}");
    }
}

// 5.0: MQTT-4.13.1-1, MQTT-4.13.2-1
// 3.1.1: MQTT-4.8.0-1
pub(super) fn after_a_violation_or_a_disconnect_of_the_server_the_socket_is_closed(bench: &Bench) {
    for (version, greeting, answer) in [
        // A PUBACK with identifier 0.
        (V5, &[0x20, 3, 0, 0, 0, 0x40, 2, 0, 0][..], &[0xE0, 1, 0x82][..]),
        (ProtocolVersion::V3_1_1, &[0x20, 2, 0, 0, 0x40, 2, 0, 0], &[]),
        // The server is shutting down, and leaves the closing to us.
        (V5, &[0x20, 3, 0, 0, 0, 0xE0, 1, 0x8B], &[]),
    ] {
        let server = Server::scripted(bench, greeting, Vec::new());
        let _client = bench.start(server.once(version));
        assert_eq!(server.end(), answer, "{version}");
    }
}
