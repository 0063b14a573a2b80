//! Cost of the cache per missed frame, without its hash: the lookup, and the insertion into a full cache.
#![allow(missing_docs)] // a benchmark

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sferic_actors::account::ledger::Ledger;
use sferic_actors::cache::{AdmissionPolicy, CacheKey, CacheStore, Config, Found};
use sferic_actors::frame::{Envelope, Priority};
use sferic_actors::outcome::{Answer, Label};
use sferic_actors::reply::{Flight, Member, OutcomeQueue, Responder, Unanswered};
use tokio::time::Instant;

/// Longer than any of this.
const BUDGET: Duration = Duration::from_secs(3600);

fn flight() -> Arc<Flight> {
    let now = Instant::now();
    let unanswered = Unanswered::new(
        Envelope::default(),
        None,
        now,
        Arc::<Ledger>::default().open(),
        None,
        OutcomeQueue::new(1),
    );
    let responder = Responder::new(unanswered, BUDGET);
    Flight::new(Member { responder, received_at: now, deadline: now + BUDGET, priority: Priority::default() })
}

/// Number `n` of keys spread like hashes (SplitMix64, G. L. Steele, D. Lea and C. H. Flood, OOPSLA 2014).
fn key(n: u64) -> CacheKey {
    let mut key = CacheKey::default();
    for (word, bytes) in key.chunks_exact_mut(8).enumerate() {
        let mut z = (4 * n + word as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    key
}

fn cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache");
    let flight = flight();
    for admission in [AdmissionPolicy::TinyLfu, AdmissionPolicy::Lru] {
        let store = CacheStore::new(&Config { admission, ..Config::default() });
        let mut frames = 0;
        let mut miss = || {
            let key = key(frames);
            frames += 1;
            let labels = ["am", "fm", "psk"].map(|label| Label { label: label.into(), score: Some(0.3) });
            let answer = Arc::new(Answer::Classification(labels.into()));
            assert!(
                matches!(store.find(key, &flight, Instant::now()), Found::Nothing),
                "a frame seen before"
            );
            store.finish(key, &flight, &Arc::default(), &answer, Instant::now());
        };
        (0..4 * Config::default().max_entries).for_each(|_| miss());
        group.bench_function(format!("a miss, {admission:?}"), |b| b.iter(&mut miss));
    }
    group.bench_function("that, less the cache", |b| {
        b.iter(|| {
            let labels = ["am", "fm", "psk"].map(|label| Label { label: label.into(), score: Some(0.3) });
            std::hint::black_box((
                key(7),
                Arc::new(Answer::Classification(labels.into())),
                Instant::now(),
                Instant::now(),
            ));
        });
    });
}

criterion_group!(benches, cache);
criterion_main!(benches);
