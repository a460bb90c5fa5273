//! Which filter a topic belongs to, among few and among many: by time, so with what the processor's caches miss.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mqtt_machine_benches::{Filters, SIZES};

/// Topics that are looked up in turn, and never the same one soon again.
const TOPICS: usize = 100_000;

fn find(criterion: &mut Criterion) {
    for filters in Filters::ALL {
        let mut group = criterion.benchmark_group(format!("find a filter among {}", filters.name()));
        for size in SIZES.map(|size| size.max(filters.least())) {
            let (map, topics) = (filters.map(size), filters.topics(size, TOPICS));
            // Far from one to the next, and past all of them.
            let (mut next, stride) = (0, 61_803);
            group.bench_function(format!("{size} filters"), |bencher| {
                bencher.iter(|| {
                    next = (next + stride) % topics.len();
                    map.matches(black_box(&topics[next]), |number| _ = black_box(number));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, find);
criterion_main!(benches);
