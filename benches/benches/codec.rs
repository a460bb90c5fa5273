//! Decoding and encoding of single packets.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_machine::packet::Sender;
use mqtt_machine::wire;
use mqtt_machine_benches::cases;

fn codec(criterion: &mut Criterion) {
    let cases = cases();
    let mut decode = criterion.benchmark_group("decode");
    for case in &cases {
        decode.throughput(Throughput::Bytes(case.frame.len() as u64));
        decode.bench_function(&case.name, |bencher| {
            bencher.iter(|| {
                let packet = wire::decode(black_box(&case.frame), case.version, Sender::Server);
                black_box(packet).is_ok()
            });
        });
    }
    decode.finish();
    let mut encode = criterion.benchmark_group("encode");
    for case in &cases {
        let packet = case.packet();
        let mut out = BytesMut::with_capacity(64 << 10);
        encode.throughput(Throughput::Bytes(case.frame.len() as u64));
        encode.bench_function(&case.name, |bencher| {
            bencher.iter(|| {
                out.clear();
                wire::encode(black_box(&packet), case.version, &mut out)
            });
        });
    }
    encode.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
