//! Time of the hot paths: what `aip-instructions` counts, by the clock.

use aip_bench::scenario;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paths");
    for (name, _) in scenario::ALL {
        let (Some(mut scenario), Some(times)) = (scenario::scenario(name), scenario::times(name))
        else {
            continue;
        };
        group.throughput(Throughput::Elements(times));
        group.bench_function(name, |bencher| bencher.iter(&mut scenario));
    }
    group.finish();
}

criterion_group!(benches, paths);
criterion_main!(benches);
