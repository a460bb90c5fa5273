//! The fuzzer of brokers against the model broker in memory: the broker comes out clean, and one with a planted fault
//! does not.

use std::collections::BTreeSet;
use std::time::Duration;

use mqtt_machine::{Instant, ProtocolVersion};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use mqtt_machine_testkit::fuzz_broker::{Campaign, Case, Class, Conversation, Finding, Kind, Verdict};

const PATIENCE: Duration = Duration::from_secs(2);

/// A broker with something between it and the network.
struct Rig {
    broker: Broker,
    now: Instant,
    conns: u64,
    /// Changes a chunk on its way to the broker.
    inbound: fn(&[u8]) -> Vec<u8>,
    /// Changes a chunk on its way to the client.
    outbound: fn(&[u8]) -> Vec<u8>,
}

impl Rig {
    fn new(config: BrokerConfig) -> Self {
        Self {
            broker: Broker::new(config, 1),
            now: Instant::ZERO,
            conns: 0,
            inbound: <[u8]>::to_vec,
            outbound: <[u8]>::to_vec,
        }
    }

    /// One case to its end, time jumping to the next deadline whenever nothing moves.
    fn run(&mut self, case: &Case) -> Verdict {
        self.conns += 1;
        let conn = ConnId::new(self.conns);
        self.now += Duration::from_millis(1);
        self.broker.open(self.now, conn);
        let mut conversation = Conversation::new(case, PATIENCE, self.now);
        for _ in 0..100_000 {
            if let Some(verdict) = conversation.verdict() {
                self.broker.closed(self.now, conn);
                while self.broker.poll_close().is_some() {}
                return verdict;
            }
            let mut moved = false;
            if let Some(bytes) = conversation.poll_output(self.now) {
                moved = true;
                self.broker.handle_input(self.now, conn, &(self.inbound)(&bytes));
            }
            let bytes = self.broker.poll_output(conn);
            if !bytes.is_empty() {
                moved = true;
                conversation.handle_input(self.now, &(self.outbound)(&bytes));
            }
            while let Some(closed) = self.broker.poll_close() {
                if closed == conn {
                    conversation.handle_closed();
                }
            }
            if !moved {
                let broker = self.broker.poll_timeout().unwrap_or(conversation.poll_timeout());
                self.now = self.now.max(broker.min(conversation.poll_timeout()));
                self.broker.handle_timeout(self.now);
                conversation.handle_timeout(self.now);
            }
        }
        panic!("a case without end:\n{case}");
    }

    /// A whole run; what was found, and whether each file is its case again.
    fn campaign(&mut self, seed: u64, cases: u64) -> (Campaign, Vec<Finding>) {
        let mut campaign = Campaign::new(seed, &ProtocolVersion::ALL);
        for version in ProtocolVersion::ALL {
            let verdict = self.run(&campaign.health(version));
            assert!(verdict.complaints.is_empty() || self.is_bent(), "{verdict:?}");
            if let Some(capabilities) = verdict.capabilities {
                campaign.learn(capabilities);
            }
        }
        let mut findings = Vec::new();
        while campaign.cases() < cases {
            let case = campaign.next_case();
            assert_eq!(case.to_string().parse(), Ok(case.clone()));
            let verdict = self.run(&case);
            findings.extend(campaign.record(&case, &verdict));
        }
        (campaign, findings)
    }

    fn is_bent(&self) -> bool {
        (self.inbound)(b"\xC0\0") != b"\xC0\0" || (self.outbound)(b"\xD0\0") != b"\xD0\0"
    }
}

fn assert_clean(config: BrokerConfig, seed: u64, cases: u64) -> Campaign {
    let (campaign, findings) = Rig::new(config).campaign(seed, cases);
    let files: Vec<_> = findings.iter().take(5).map(|it| it.file.as_str()).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), files.join("\n"));
    campaign
}

#[test]
fn the_model_broker_comes_out_clean() {
    let campaign = assert_clean(BrokerConfig::new(), 1, 9_000);
    let table = campaign.summary();
    for tried in
        ["sequence", "mutation", "second-connect", "topic-alias-above-maximum", "qos-3", "filter-empty"]
    {
        assert!(table.contains(tried), "{tried} was never tried:\n{table}");
    }
}

#[test]
fn a_model_broker_that_allows_little_comes_out_clean() {
    let mut config = BrokerConfig::new()
        .receive_maximum(3)
        .maximum_packet_size(200_000)
        .maximum_qos(mqtt_machine::QoS::AtLeastOnce);
    config.retain_available = false;
    config.wildcard_subscriptions = false;
    config.subscription_identifiers = false;
    config.shared_subscriptions = false;
    config.topic_alias_maximum = 0;
    let (_, findings) = Rig::new(config).campaign(2, 4_000);
    // What 5.0 says in its CONNACK, 3.x cannot say: there a valid request may be refused.
    let files: Vec<_> = findings
        .iter()
        .filter(|it| it.case.version == ProtocolVersion::V5)
        .map(|it| it.file.as_str())
        .collect();
    assert!(files.is_empty(), "{}", files.join("\n"));
}

#[test]
fn every_rule_of_a_client_is_tried_in_a_run() {
    use mqtt_machine::packet::Sender;
    use mqtt_machine_testkit::generate::{BrokenRule, Choices};
    let mut choices = Choices::from_seed(1);
    let mut campaign = Campaign::new(5, &[ProtocolVersion::V5, ProtocolVersion::V3_1_1]);
    let mut tried = BTreeSet::new();
    for _ in 0..20_000 {
        let case = campaign.next_case();
        if case.kind == Kind::Broken {
            tried.insert(case.name);
        }
    }
    for rule in BrokenRule::all() {
        let can_break = [ProtocolVersion::V5, ProtocolVersion::V3_1_1].into_iter().any(|version| {
            (0..2_000).any(|_| rule.break_it(&mut choices, version, Sender::Client).is_some())
        });
        let needs_auth = rule.name == "authentication-data-without-method";
        assert!(!can_break || needs_auth || tried.contains(rule.name), "{} was never tried", rule.name);
    }
}

/// Runs until something of this class is found; the number of cases that it took.
fn cases_until(rig: &mut Rig, class: Class) -> u64 {
    let mut campaign = Campaign::new(1, &[ProtocolVersion::V5, ProtocolVersion::V3_1_1]);
    for number in 1..=2_000 {
        let case = campaign.next_case();
        let verdict = rig.run(&case);
        let found = campaign.record(&case, &verdict);
        if let Some(finding) = found.iter().find(|it| it.complaint.class == class) {
            // The file shows it again.
            let again: Case = finding.file.parse().unwrap();
            let verdict = rig.run(&again);
            assert!(verdict.complaints.iter().any(|it| it.class == class), "{}\n{verdict:?}", finding.file);
            return number;
        }
    }
    panic!("{class} was not found in 2,000 cases:\n{}", campaign.summary());
}

/// Whether a chunk to the client is one packet that begins with this byte.
fn is(bytes: &[u8], first: u8) -> bool {
    bytes.first() == Some(&first)
}

#[test]
fn a_broker_that_acknowledges_another_packet_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    rig.outbound = |bytes| {
        let mut bytes = bytes.to_vec();
        if is(&bytes, 0x40) {
            bytes[3] ^= 0x40;
        }
        bytes
    };
    cases_until(&mut rig, Class::WrongAnswer);
}

#[test]
fn a_broker_that_forgets_to_answer_a_ping_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    rig.outbound = |bytes| if bytes == b"\xD0\0" { Vec::new() } else { bytes.to_vec() };
    cases_until(&mut rig, Class::WrongAnswer);
}

#[test]
fn a_broker_that_answers_with_garbage_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    rig.outbound = |bytes| {
        let mut bytes = bytes.to_vec();
        if is(&bytes, 0x90) {
            bytes[0] = 0x91;
        }
        bytes
    };
    cases_until(&mut rig, Class::Malformed);
}

#[test]
fn a_broker_that_overlooks_flags_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    // What has wrong flags never reaches the strict broker: it looks as if it were taken.
    rig.inbound = |bytes| {
        let is_broken = bytes.len() > 1 && bytes[0] >> 4 == 0xC && bytes[0] & 0x0F != 0;
        if is_broken { Vec::new() } else { bytes.to_vec() }
    };
    cases_until(&mut rig, Class::Accepted);
}

#[test]
fn a_broker_that_keeps_a_bad_connection_open_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    // From the first packet of type 0 on it swallows everything, and stays.
    rig.inbound = |bytes| {
        if bytes.first().is_some_and(|it| it >> 4 == 0) { b"\x30\x7F".to_vec() } else { bytes.to_vec() }
    };
    cases_until(&mut rig, Class::NotClosed);
}

#[test]
fn a_broker_that_refuses_what_is_valid_is_found() {
    let mut config = BrokerConfig::new();
    config.denied.push(mqtt_machine::TopicFilter::new("fz/#").unwrap());
    cases_until(&mut Rig::new(config), Class::Refused);
}

#[test]
fn a_broker_that_says_the_wrong_code_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    rig.outbound = |bytes| if bytes == b"\xE0\x01\x81" { b"\xE0\x01\x8B".to_vec() } else { bytes.to_vec() };
    cases_until(&mut rig, Class::WrongCode);
}

#[test]
fn a_broker_that_loses_a_message_is_found() {
    let mut rig = Rig::new(BrokerConfig::new());
    // Deliveries of QoS 1 alone in their chunk never arrive.
    rig.outbound = |bytes| if is(bytes, 0x32) { Vec::new() } else { bytes.to_vec() };
    cases_until(&mut rig, Class::WrongAnswer);
}
