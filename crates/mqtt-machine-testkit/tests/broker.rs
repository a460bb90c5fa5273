//! The model broker against raw packets: what it answers, what it holds against a client, and its faults.

use std::time::Duration;

use bytes::BytesMut;
use mqtt_machine::packet::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketType, Properties, PropertiesBuf, Property, Publish,
    Sender, Subscribe, SubscribeFilter, Topic, Will,
};
use mqtt_machine::{
    Instant, PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions, TopicFilter,
    wire,
};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId, Plan};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// One broker, driven by hand: connection `n` is the client of that number.
struct Bench {
    broker: Broker,
    now: Instant,
    version: ProtocolVersion,
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn list(properties: &[Property<'_>]) -> PropertiesBuf {
    properties.iter().fold(PropertiesBuf::new(), |list, property| list.with(*property).unwrap())
}

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, packet_id: Option<u16>) -> Publish<'a> {
    let (topic, packet_id) = (Topic::new(topic).unwrap_or_default(), packet_id.map(id));
    Publish { dup: false, qos, retain: false, topic, packet_id, properties: Properties::EMPTY, payload }
}

fn ack<'a>(kind: AckKind, number: u16) -> Packet<'a> {
    Packet::Ack(Ack::new(kind, id(number)))
}

impl Bench {
    fn new(config: BrokerConfig, version: ProtocolVersion) -> Self {
        Self { broker: Broker::new(config, 1), now: Instant::ZERO, version }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.broker.handle_timeout(self.now);
    }

    fn send(&mut self, conn: u64, packet: &Packet<'_>) {
        let mut bytes = BytesMut::new();
        wire::encode(packet, self.version, &mut bytes).unwrap();
        self.broker.handle_input(self.now, ConnId::new(conn), &bytes);
    }

    fn open(&mut self, conn: u64, connect: Connect<'_>) {
        self.broker.open(self.now, ConnId::new(conn));
        self.send(conn, &Packet::Connect(connect));
    }

    /// Connects with a clean start, and takes the CONNACK.
    fn connect(&mut self, conn: u64, client_id: &str) {
        self.open(conn, Connect::new(self.version, client_id));
        assert_eq!(self.take(conn), ["CONNACK Success"]);
    }

    fn subscribe(&mut self, conn: u64, filter: &str, options: SubscriptionOptions) {
        let filters = vec![SubscribeFilter { filter, options }];
        self.send(
            conn,
            &Packet::Subscribe(Subscribe { packet_id: id(1), properties: Properties::EMPTY, filters }),
        );
        let suback = self.take(conn);
        assert!(suback[0].starts_with("SUBACK"), "{suback:?}");
    }

    fn closed(&mut self, conn: u64) -> bool {
        let closed: Vec<ConnId> = std::iter::from_fn(|| self.broker.poll_close()).collect();
        closed.contains(&ConnId::new(conn))
    }

    /// What was sent to the client, each packet in a few words.
    fn take(&mut self, conn: u64) -> Vec<String> {
        let mut bytes = BytesMut::from(&self.broker.poll_output(ConnId::new(conn))[..]);
        let mut packets = Vec::new();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            packets.push(match wire::decode(&frame, self.version, Sender::Server).unwrap() {
                Packet::ConnAck(it) if it.session_present => "CONNACK session present".to_owned(),
                Packet::ConnAck(it) => format!("CONNACK {}", it.reason.name()),
                Packet::Publish(it) => {
                    let text = std::str::from_utf8(it.payload).unwrap();
                    let (dup, retain) =
                        (if it.dup { " dup" } else { "" }, if it.retain { " retain" } else { "" });
                    format!("PUBLISH {text} qos {}{dup}{retain}", it.qos)
                }
                Packet::Ack(it) => format!("{} {} {}", it.kind.packet_type(), it.packet_id, it.reason.name()),
                Packet::SubAck(it) => format!("SUBACK {:?}", it.codes),
                Packet::Disconnect(it) => format!("DISCONNECT {}", it.reason.name()),
                other => other.packet_type().name().to_owned(),
            });
        }
        assert!(bytes.is_empty());
        packets
    }
}

fn plain(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions::new(qos)
}

#[test]
fn any_chunking_of_the_input_gives_the_same_output() {
    let mut bytes = BytesMut::new();
    wire::encode(&Packet::Connect(Connect::new(V5, "a")), V5, &mut bytes).unwrap();
    for number in 1..=3 {
        let publish = publish("t", b"x", QoS::ExactlyOnce, Some(number));
        wire::encode(&Packet::Publish(publish), V5, &mut bytes).unwrap();
        wire::encode(&ack(AckKind::PubRel, number), V5, &mut bytes).unwrap();
    }
    let run = |chunk: usize| {
        let mut broker = Broker::new(BrokerConfig::new(), 1);
        broker.open(Instant::ZERO, ConnId::new(1));
        bytes.chunks(chunk).for_each(|part| broker.handle_input(Instant::ZERO, ConnId::new(1), part));
        broker.poll_output(ConnId::new(1))
    };
    let whole = run(bytes.len());
    for chunk in 1..bytes.len() {
        assert_eq!(run(chunk), whole);
    }
}

#[test]
fn a_second_connect_and_a_first_packet_that_is_none_end_the_connection() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    bench.send(1, &Packet::Connect(Connect::new(V5, "a")));
    assert_eq!(bench.take(1), ["DISCONNECT Protocol Error"]);
    assert!(bench.closed(1));
    bench.broker.open(bench.now, ConnId::new(2));
    bench.send(2, &Packet::PingReq);
    assert!(bench.take(2).is_empty());
    assert!(bench.closed(2));
    assert_eq!(bench.broker.log().violations().count(), 2);
}

#[test]
fn what_is_malformed_is_answered_with_its_code_in_5_0_and_a_close_before() {
    for (bytes, code) in [
        (&[0x36, 0][..], "DISCONNECT Malformed Packet"),
        (&[0x32, 6, 0, 1, b't', 0, 0, 0], "DISCONNECT Protocol Error"),
        (&[0x30, 4, 0, 1, b'#', 0], "DISCONNECT Malformed Packet"),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], "DISCONNECT Packet too large"),
        (&[0x30, 6, 0, 0, 3, 0x23, 0, 17], "DISCONNECT Topic Alias invalid"),
        (&[0x30, 6, 0, 0, 3, 0x23, 0, 1], "DISCONNECT Protocol Error"),
    ] {
        let mut bench = Bench::new(BrokerConfig::new().maximum_packet_size(1_000), V5);
        bench.connect(1, "a");
        bench.broker.handle_input(bench.now, ConnId::new(1), bytes);
        assert_eq!(bench.take(1), [code], "{bytes:X?}");
        assert!(bench.closed(1));
    }
    let mut bench = Bench::new(BrokerConfig::new(), ProtocolVersion::V3_1_1);
    bench.connect(1, "a");
    bench.broker.handle_input(bench.now, ConnId::new(1), &[0x36, 0]);
    assert!(bench.take(1).is_empty());
    assert!(bench.closed(1));
}

#[test]
fn qos_2_is_accepted_once_however_often_it_is_sent() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    let mut packet = publish("t", b"x", QoS::ExactlyOnce, Some(7));
    bench.send(1, &Packet::Publish(packet.clone()));
    packet.dup = true;
    bench.send(1, &Packet::Publish(packet.clone()));
    assert_eq!(bench.take(1), ["PUBREC 7 No matching subscribers", "PUBREC 7 Success"]);
    bench.send(1, &ack(AckKind::PubRel, 7));
    bench.send(1, &ack(AckKind::PubRel, 7));
    assert_eq!(bench.take(1), ["PUBCOMP 7 Success", "PUBCOMP 7 Packet Identifier not found"]);
    assert_eq!(bench.broker.log().count("t", b"x"), 1);
}

#[test]
fn an_identifier_in_use_is_refused_and_written_down() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    bench.send(1, &Packet::Publish(publish("t", b"x", QoS::ExactlyOnce, Some(7))));
    bench.send(1, &Packet::Publish(publish("t", b"y", QoS::AtLeastOnce, Some(7))));
    let filters = vec![SubscribeFilter { filter: "t", options: plain(QoS::AtMostOnce) }];
    bench.send(1, &Packet::Subscribe(Subscribe { packet_id: id(7), properties: Properties::EMPTY, filters }));
    let answers = bench.take(1);
    assert_eq!(answers[1], "PUBACK 7 Packet Identifier in use");
    assert_eq!(answers[2], "SUBACK [PacketIdentifierInUse]");
    assert_eq!(bench.broker.log().count("t", b"y"), 0);
    assert!(bench.broker.log().violations().count() >= 2);
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    let mut bench = Bench::new(BrokerConfig::new().receive_maximum(2), V5);
    bench.connect(1, "a");
    for number in 1..=2 {
        bench.send(1, &Packet::Publish(publish("t", b"x", QoS::ExactlyOnce, Some(number))));
    }
    bench.send(1, &ack(AckKind::PubRel, 1));
    bench.take(1);
    for number in 3..=4 {
        bench.send(1, &Packet::Publish(publish("t", b"x", QoS::ExactlyOnce, Some(number))));
    }
    assert_eq!(bench.take(1), ["PUBREC 3 No matching subscribers", "DISCONNECT Receive Maximum exceeded"]);
}

#[test]
fn a_session_resends_what_is_in_flight_in_order_with_dup_within_the_clients_receive_maximum() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    let properties = list(&[Property::SessionExpiryInterval(100), Property::ReceiveMaximum(2)]);
    let connect = |clean| {
        let mut connect = Connect::new(V5, "a");
        connect.clean_start = clean;
        connect.properties = properties.as_properties();
        connect
    };
    bench.open(1, connect(true));
    bench.take(1);
    bench.subscribe(1, "t", plain(QoS::ExactlyOnce));
    bench.connect(2, "b");
    for (number, text) in [(1, "1"), (2, "2"), (3, "3")] {
        bench.send(2, &Packet::Publish(publish("t", text.as_bytes(), QoS::ExactlyOnce, Some(number))));
    }
    assert_eq!(bench.take(1), ["PUBLISH 1 qos 2", "PUBLISH 2 qos 2"]);
    bench.send(1, &ack(AckKind::PubRec, 2));
    bench.broker.closed(bench.now, ConnId::new(1));
    bench.pass(99);
    bench.open(3, connect(false));
    let resumed = ["CONNACK session present", "PUBLISH 1 qos 2 dup", "PUBREL 2 Success"];
    assert_eq!(bench.take(3), resumed);
    bench.send(3, &ack(AckKind::PubComp, 2));
    assert_eq!(bench.take(3), ["PUBLISH 3 qos 2"]);
    bench.broker.closed(bench.now, ConnId::new(3));
    bench.pass(101);
    bench.open(4, connect(false));
    assert_eq!(bench.take(4), ["CONNACK Success"]);
    // The publisher has been silent for long.
    let late = |reason| reason == ReasonCode::KeepAliveTimeout;
    assert!(bench.broker.log().violations().all(|violation| late(violation.reason)));
}

#[test]
fn a_clean_session_of_3_1_1_ends_with_its_connection_and_another_stays() {
    for (clean, present) in [(true, false), (false, true)] {
        let mut bench = Bench::new(BrokerConfig::new(), ProtocolVersion::V3_1_1);
        let connect = Connect { clean_start: clean, ..Connect::new(bench.version, "a") };
        bench.open(1, connect.clone());
        bench.send(
            1,
            &Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY }),
        );
        bench.open(2, Connect { clean_start: false, ..connect });
        assert_eq!(bench.take(2) == ["CONNACK session present"], present);
    }
}

#[test]
fn the_second_connection_takes_over_and_the_first_is_told() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    bench.connect(2, "a");
    assert_eq!(bench.take(1), ["DISCONNECT Session taken over"]);
    assert!(bench.closed(1));
    assert_eq!(bench.broker.conn_of("a"), Some(ConnId::new(2)));
}

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection_with_the_will() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    let mut connect = Connect::new(V5, "a");
    connect.keep_alive = 10;
    connect.will = Some(Will {
        topic: "w",
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::EMPTY,
    });
    bench.open(1, connect);
    bench.take(1);
    assert_eq!(bench.broker.poll_timeout(), Some(Instant::ZERO + Duration::from_secs(15)));
    bench.pass(14);
    bench.send(1, &Packet::PingReq);
    bench.pass(14);
    assert_eq!(bench.take(1), ["PINGRESP"]);
    bench.pass(1);
    assert_eq!(bench.take(1), ["DISCONNECT Keep Alive timeout"]);
    assert_eq!(bench.broker.log().count("w", b"gone"), 1);
}

#[test]
fn a_will_waits_for_its_delay_and_a_normal_disconnect_discards_it() {
    let properties = list(&[Property::WillDelayInterval(30)]);
    let expiry = list(&[Property::SessionExpiryInterval(100)]);
    let connect = || {
        let mut connect = Connect::new(V5, "a");
        connect.properties = expiry.as_properties();
        let properties = properties.as_properties();
        connect.will =
            Some(Will { topic: "w", payload: b"gone", qos: QoS::AtMostOnce, retain: false, properties });
        connect
    };
    for (reason, count) in
        [(None, 1), (Some(ReasonCode::DisconnectWithWill), 1), (Some(ReasonCode::Success), 0)]
    {
        let mut bench = Bench::new(BrokerConfig::new(), V5);
        bench.open(1, connect());
        match reason {
            Some(reason) => {
                bench.send(1, &Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY }));
            }
            None => bench.broker.closed(bench.now, ConnId::new(1)),
        }
        bench.pass(29);
        assert_eq!(bench.broker.log().count("w", b"gone"), 0);
        bench.pass(1);
        assert_eq!(bench.broker.log().count("w", b"gone"), count);
    }
}

#[test]
fn retained_messages_follow_the_retain_handling() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    let mut packet = publish("t", b"kept", QoS::AtMostOnce, None);
    packet.retain = true;
    bench.send(1, &Packet::Publish(packet));
    for (handling, first, again) in
        [(RetainHandling::Send, 1, 1), (RetainHandling::SendIfNew, 1, 0), (RetainHandling::DoNotSend, 0, 0)]
    {
        bench.connect(2, "b");
        for expected in [first, again] {
            let options = SubscriptionOptions { retain_handling: handling, ..plain(QoS::AtMostOnce) };
            let filters = vec![SubscribeFilter { filter: "#", options }];
            bench.send(
                2,
                &Packet::Subscribe(Subscribe { packet_id: id(1), properties: Properties::EMPTY, filters }),
            );
            let retained = bench.take(2).iter().filter(|it| *it == "PUBLISH kept qos 0 retain").count();
            assert_eq!(retained, expected, "{handling:?}");
        }
        bench.broker.closed(bench.now, ConnId::new(2));
    }
}

#[test]
fn no_local_shared_and_dollar_topics_are_routed_as_the_specification_says() {
    let mut bench = Bench::new(BrokerConfig::new(), V5);
    bench.connect(1, "a");
    bench.connect(2, "b");
    bench.subscribe(1, "#", SubscriptionOptions { no_local: true, ..plain(QoS::AtMostOnce) });
    bench.send(1, &Packet::Publish(publish("t", b"own", QoS::AtMostOnce, None)));
    bench.send(2, &Packet::Publish(publish("$t", b"dollar", QoS::AtMostOnce, None)));
    assert!(bench.take(1).is_empty());
    bench.subscribe(1, "$share/g/s", plain(QoS::AtMostOnce));
    bench.subscribe(2, "$share/g/s", plain(QoS::AtMostOnce));
    for _ in 0..4 {
        bench.send(1, &Packet::Publish(publish("s", b"x", QoS::AtMostOnce, None)));
    }
    assert_eq!((bench.take(1).len(), bench.take(2).len()), (2, 2));
}

#[test]
fn a_queue_is_bounded_and_what_does_not_fit_is_logged() {
    let mut bench = Bench::new(BrokerConfig::new().max_queued(3), V5);
    let expiry = list(&[Property::SessionExpiryInterval(100)]);
    bench.open(1, Connect { properties: expiry.as_properties(), ..Connect::new(V5, "a") });
    bench.take(1);
    bench.subscribe(1, "t", plain(QoS::AtLeastOnce));
    bench.broker.closed(bench.now, ConnId::new(1));
    bench.connect(2, "b");
    for number in 1..=5 {
        bench.send(2, &Packet::Publish(publish("t", b"x", QoS::AtLeastOnce, Some(number))));
    }
    assert_eq!(bench.broker.owed_to("a"), 3);
    assert_eq!(bench.broker.log().dropped().count(), 2);
}

#[test]
fn refusals_have_the_form_of_the_version() {
    let config = || BrokerConfig::new().versions(&[ProtocolVersion::V3_1_1]);
    let mut bench = Bench::new(config(), V5);
    bench.open(1, Connect::new(V5, "a"));
    assert_eq!(bench.take(1), ["CONNACK Unsupported Protocol Version"]);
    let mut bench = Bench::new(config(), ProtocolVersion::V3_1);
    bench.open(1, Connect::new(ProtocolVersion::V3_1, "a"));
    assert_eq!(&bench.broker.poll_output(ConnId::new(1))[..], [0x20, 2, 0, 1]);
    assert!(bench.closed(1));
    // A level that does not exist.
    bench.broker.open(bench.now, ConnId::new(2));
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 1, b'a'];
    bench.broker.handle_input(bench.now, ConnId::new(2), &connect);
    assert_eq!(&bench.broker.poll_output(ConnId::new(2))[..2], [0x20, 3]);
    assert!(bench.closed(2));
}

#[test]
fn plans_cut_refuse_and_stay_silent() {
    let mut bench = Bench::new(BrokerConfig::new(), ProtocolVersion::V3_1_1);
    bench.broker.plan(Plan::refuse(ReasonCode::Banned));
    bench.broker.plan(Plan::silence());
    bench.broker.plan(Plan::close_before_connack());
    bench.broker.plan(Plan::cut_after_received(5));
    bench.broker.plan(Plan::cut_after_sent(3));
    let connect = || Connect::new(ProtocolVersion::V3_1_1, "a");
    bench.open(1, connect());
    assert_eq!(bench.take(1), ["CONNACK Server unavailable"]);
    assert!(bench.closed(1));
    bench.open(2, connect());
    assert!(bench.take(2).is_empty() && !bench.closed(2));
    bench.open(3, connect());
    assert!(bench.take(3).is_empty() && bench.closed(3));
    bench.open(4, connect());
    assert!(bench.take(4).is_empty() && bench.closed(4));
    bench.open(5, connect());
    assert_eq!(&bench.broker.poll_output(ConnId::new(5))[..], [0x20, 2, 0]);
    assert!(bench.closed(5));
}

#[test]
fn delayed_output_leaves_in_its_time_and_order() {
    let mut bench = Bench::new(BrokerConfig::new().delay(Duration::from_secs(2)), V5);
    bench.open(1, Connect::new(V5, "a"));
    bench.pass(1);
    bench.send(1, &Packet::PingReq);
    assert!(bench.take(1).is_empty());
    assert_eq!(bench.broker.poll_timeout(), Some(Instant::ZERO + Duration::from_secs(2)));
    bench.pass(1);
    assert_eq!(bench.take(1), ["CONNACK Success"]);
    bench.pass(1);
    assert_eq!(bench.take(1), ["PINGRESP"]);
}

#[test]
fn denied_topics_are_refused_in_5_0_and_swallowed_before() {
    let config = || BrokerConfig::new().deny(TopicFilter::new("no/#").unwrap());
    for (version, answer) in [(V5, "PUBACK 1 Not authorized"), (ProtocolVersion::V3_1_1, "PUBACK 1 Success")]
    {
        let mut bench = Bench::new(config(), version);
        bench.connect(1, "a");
        bench.send(1, &Packet::Publish(publish("no/x", b"x", QoS::AtLeastOnce, Some(1))));
        assert_eq!(bench.take(1), [answer]);
        assert_eq!(bench.broker.log().accepted().count(), 0);
        assert_eq!(bench.broker.log().sent_by("a", PacketType::Publish).count(), 1);
    }
}
