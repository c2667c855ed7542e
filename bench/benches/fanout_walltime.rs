//! Time that the relay takes for one object, from received bytes to queued bytes.

use std::hint::black_box;

use aip_bench::Stage;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for subscribers in [1, 10, 100, 1_000] {
        let mut stage = Stage::new(subscribers, 1_200);
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_function(BenchmarkId::new("object_1200", subscribers), |bencher| {
            bencher.iter(|| black_box(stage.forward()));
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
