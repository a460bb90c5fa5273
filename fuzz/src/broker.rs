//! Owns what holds for the model broker and any bytes of its clients.

use core::time::Duration;

use bytes::BytesMut;
use mqtt_machine::packet::{Connect, Packet, Sender};
use mqtt_machine::{Instant, ProtocolVersion, wire};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use mqtt_machine_testkit::generate::{self, Choices};

/// Two connections, each greeted or not, that say whatever they like: no panic, and nothing that the broker says is
/// malformed.
pub(crate) fn bytes(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let version = crate::version(choice);
    let mut broker = Broker::new(BrokerConfig::new(), 7);
    let mut now = Instant::ZERO;
    let conns = [ConnId::new(1), ConnId::new(2)];
    let mut said = [BytesMut::new(), BytesMut::new()];
    for (index, conn) in conns.into_iter().enumerate() {
        broker.open(now, conn);
        if choice & (0x80 >> index) == 0 {
            broker.handle_input(now, conn, &connect(version, ["one", "two"][index]));
        }
    }
    while let Some((&step, after)) = rest.split_first() {
        let index = usize::from(step & 1);
        let count = usize::from(step >> 2).min(after.len());
        let (chunk, after) = after.split_at(count);
        rest = after;
        if step & 2 == 0 {
            broker.handle_input(now, conns[index], chunk);
        } else {
            now += Duration::from_secs(u64::from(step >> 2));
            broker.handle_timeout(now);
        }
        for (conn, said) in conns.iter().zip(&mut said) {
            said.extend_from_slice(&broker.poll_output(*conn));
        }
        while broker.poll_close().is_some() {}
    }
    // Only a connection that was greeted speaks a version that is known here.
    for (index, said) in said.iter_mut().enumerate() {
        if choice & (0x80 >> index) == 0 {
            check(said, version);
        }
    }
}

/// Two greeted clients that send valid packets, in any order, cut anywhere: what the broker says is never malformed.
pub(crate) fn packets(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let version = crate::version(choice);
    let mut broker = Broker::new(BrokerConfig::new(), 7);
    let mut now = Instant::ZERO;
    let conns = [ConnId::new(1), ConnId::new(2)];
    let mut said = [BytesMut::new(), BytesMut::new()];
    for (conn, client_id) in conns.into_iter().zip(["one", "two"]) {
        broker.open(now, conn);
        broker.handle_input(now, conn, &connect(version, client_id));
    }
    let mut left = data.iter().copied();
    // Each packet takes some of the fuzzer's bytes, so their end is the end.
    while left.len() > 0 {
        let mut draw = || left.next().unwrap_or(0);
        let mut choices = Choices::drawn(&mut draw);
        let conn = conns[choices.size(0..=1)];
        let packet = generate::packet(&mut choices, version, Sender::Client);
        let bytes = generate::encoded(&packet.packet(), version);
        broker.handle_input(now, conn, &bytes);
        if choices.one_in(8) {
            now += Duration::from_secs(u64::from(choices.byte()));
            broker.handle_timeout(now);
        }
        for (conn, said) in conns.iter().zip(&mut said) {
            said.extend_from_slice(&broker.poll_output(*conn));
        }
        while broker.poll_close().is_some() {}
    }
    for said in &mut said {
        check(said, version);
    }
}

fn connect(version: ProtocolVersion, client_id: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    let connect = Connect { clean_start: false, ..Connect::new(version, client_id) };
    wire::encode(&Packet::Connect(connect), version, &mut bytes).expect("a valid CONNECT");
    bytes
}

fn check(said: &mut BytesMut, version: ProtocolVersion) {
    while let Some(header) = wire::frame_header(said, u32::MAX).expect("a fixed header of the broker's") {
        assert!(header.frame_len() <= said.len(), "the broker said a part of a packet");
        let frame = said.split_to(header.frame_len());
        let packet = wire::decode(&frame, version, Sender::Server);
        assert!(packet.is_ok(), "{packet:?}: {frame:02x?}");
    }
}
