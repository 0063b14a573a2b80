//! Cost of a circuit per frame: the permit, and the report of the result.
#![allow(missing_docs, clippy::unwrap_used)] // a benchmark

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sferic_actors::breaker::{Circuits, Config, Force, SharedCircuit};
use sferic_actors::frame::ModelId;

const RUN: Duration = Duration::from_millis(1);

fn circuit(config: Config) -> Arc<SharedCircuit> {
    Circuits::new(config).of(&Arc::new(ModelId {
        name: "localization".into(),
        version: "1".into(),
        digest: "0".repeat(64),
        ..Default::default()
    }))
}

fn permit(circuit: &Arc<SharedCircuit>) {
    let mut permit = circuit.admit().unwrap();
    permit.check().unwrap();
    permit.succeeded(RUN);
}

fn breaker(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker");
    let plain = circuit(Config::default());
    group.bench_function("closed", |b| b.iter(|| permit(&plain)));
    group.bench_function("closed, each of two threads", |b| {
        b.iter_custom(|iterations| {
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..iterations).for_each(|_| permit(&plain)));
                }
            });
            begun.elapsed()
        });
    });
    let failing = circuit(Config::default());
    group.bench_function("closed, after a failure", |b| {
        b.iter(|| {
            failing.admit().unwrap().failed();
            permit(&failing);
        });
    });
    let watching = circuit(Config { failure_share: 0.5, slow_share: 0.5, ..Config::default() });
    group.bench_function("closed, shares watched", |b| b.iter(|| permit(&watching)));
    plain.force(Force::Open);
    group.bench_function("open", |b| b.iter(|| plain.admit().unwrap_err()));
}

criterion_group!(benches, breaker);
criterion_main!(benches);
