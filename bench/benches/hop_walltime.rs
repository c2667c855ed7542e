//! How long a message takes from one worker to another and back: half of it is a hop.

use aip_bench::hop::Hop;
use criterion::{Criterion, criterion_group, criterion_main};

fn hops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("there_and_back");
    for (name, awake) in [("awake", true), ("asleep", false)] {
        let hop = Hop::new(awake).expect("two workers begin");
        group.bench_function(name, |bencher| bencher.iter_custom(|times| hop.pass(times)));
    }
    group.finish();
}

criterion_group!(benches, hops);
criterion_main!(benches);
