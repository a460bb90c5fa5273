//! The whole machine: a publish call to the end of its exchange, and bytes to a settled message.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_machine::{PacketId, ProtocolVersion, QoS};
use mqtt_machine_benches::{Acknowledgements, Rig};

/// How many messages are on their way at once.
const BATCH: u16 = 100;

fn machine(criterion: &mut Criterion) {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut publish = criterion.benchmark_group(format!("publish, {version}"));
        publish.throughput(Throughput::Elements(u64::from(BATCH)));
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut rig = Rig::new(version);
            let answers = Acknowledgements::new(qos, version, BATCH);
            let mut next = PacketId::MIN;
            publish.bench_function(format!("QoS {qos}"), |bencher| {
                bencher.iter(|| {
                    rig.publish(qos, BATCH);
                    let mut ended = 0;
                    for bytes in answers.of(next, BATCH) {
                        ended += rig.receive(bytes);
                    }
                    if qos == QoS::AtMostOnce {
                        ended += rig.receive(&[]);
                    } else {
                        (0..BATCH).for_each(|_| next = next.next());
                    }
                    assert_eq!(ended, usize::from(BATCH));
                });
            });
        }
        publish.finish();
        let mut receive = criterion.benchmark_group(format!("receive, {version}"));
        receive.throughput(Throughput::Elements(u64::from(BATCH)));
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut rig = Rig::new(version);
            let bytes = rig.publications(qos, BATCH);
            receive.bench_function(format!("QoS {qos}"), |bencher| {
                bencher.iter(|| assert_eq!(rig.receive(&bytes), usize::from(BATCH)));
            });
        }
        receive.finish();
    }
}

criterion_group!(benches, machine);
criterion_main!(benches);
