use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::frame::ModelId;
use crate::outcome::{Answer, Label};

/// A key as uniform as a SHA-256, by a finaliser of splitmix64.
pub fn key(n: u64) -> CacheKey {
    let mut key = [0; 32];
    for (part, salt) in key.chunks_mut(8).zip(1u64..) {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt << 60 | salt);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(z ^ z >> 31).to_le_bytes());
    }
    key
}

fn answer(labels: usize) -> Arc<Answer> {
    Arc::new(Answer::Classification(vec![Label { label: "tone".into(), score: Some(1.0) }; labels]))
}

fn config(max_entries: usize, admission: AdmissionPolicy) -> Config {
    Config { max_entries, admission, ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn evicts_by_number_by_bytes_and_by_age() {
    for admission in [AdmissionPolicy::TinyLfu, AdmissionPolicy::Lru] {
        let config = Config {
            max_entries: 2,
            max_bytes: 8000,
            ttl: Duration::from_secs(10),
            admission,
            ..Config::default()
        };
        let store = CacheStore::new(&config);
        let put = |n, labels| store.insert(key(n), &Arc::default(), answer(labels), Instant::now());
        let has = |n| store.get(&key(n), Instant::now()).is_some();

        put(1, 1);
        put(2, 1);
        assert!(has(1), "now 2 is the least recently used");
        put(3, 1);
        assert!(has(1) && !has(2) && has(3));
        let Evicted { size, not_admitted, .. } = store.stats().evicted;
        assert_eq!(size + not_admitted, 1);

        // An entry that fits beside no other, and is asked for more often than all it would evict.
        let large = if admission == AdmissionPolicy::Lru { 220 } else { 105 };
        (0..9).for_each(|_| assert!(!has(4)));
        put(4, large);
        assert!(has(4) && store.stats().bytes <= 8000);
        put(5, 300);
        assert!(has(4) && !has(5), "an entry that never fits evicts nothing");

        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!has(4) && !has(3) && !has(1));
        let stats = store.stats();
        assert_eq!((stats.entries, stats.bytes), (0, 0), "{stats:?}");
        assert!(stats.evicted.age >= 1, "{stats:?}");
    }
}

#[tokio::test]
async fn an_empty_cache_has_a_hit_rate_of_zero() {
    let store = CacheStore::new(&Config::default());
    assert_eq!(store.stats(), CacheStats::default());
    assert!(store.get(&key(1), Instant::now()).is_none());
    store.insert(key(1), &Arc::default(), answer(1), Instant::now());
    for _ in 0..3 {
        assert!(store.get(&key(1), Instant::now()).is_some());
    }
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses, stats.hit_rate, stats.entries), (3, 1, 0.75, 1));
}

/// Looks up each key and computes misses; returns the hit rate.
fn hit_rate(admission: AdmissionPolicy, capacity: usize, keys: impl Iterator<Item = u64>) -> f64 {
    let (store, answer, now) = (CacheStore::new(&config(capacity, admission)), answer(1), Instant::now());
    for n in keys {
        if store.get(&key(n), now).is_none() {
            store.insert(key(n), &Arc::default(), Arc::clone(&answer), now);
        }
    }
    store.stats().hit_rate
}

/// Uniform numbers in [0, 1), always the same ones.
fn uniform() -> impl Iterator<Item = f64> {
    (1u64..).map(|n| (u64::from_le_bytes(key(n)[..8].try_into().unwrap()) >> 11) as f64 / (1u64 << 53) as f64)
}

/// Keys below `keys`, the one of rank r asked for in proportion to 1/r.
fn zipf(keys: usize) -> impl Iterator<Item = u64> {
    let sums: Vec<f64> = (1..=keys)
        .scan(0.0, |sum, rank| Some(std::mem::replace(sum, *sum + 1.0 / rank as f64) + 1.0 / rank as f64))
        .collect();
    let all = sums[keys - 1];
    uniform().map(move |u| sums.partition_point(|&sum| sum <= u * all) as u64)
}

#[test]
fn on_a_zipf_stream_it_does_at_least_as_well_as_lru() {
    for capacity in [100, 1000] {
        let rate = |policy| hit_rate(policy, capacity, zipf(10 * capacity).take(100 * capacity));
        let (default, lru) = (rate(AdmissionPolicy::default()), rate(AdmissionPolicy::Lru));
        assert!(default >= lru + 0.02, "{default} and {lru} with room for {capacity}");
        assert!((0.5..0.8).contains(&lru), "{lru}");
    }
}

#[test]
fn what_is_seen_once_does_not_push_out_what_is_asked_for_often() {
    let capacity = 1000;
    // Nine of ten frames are new; the tenth is one of a set, a third of the capacity, that repeats.
    let often = |n: u64| if n.is_multiple_of(10) { n / 10 % (capacity as u64 / 3) } else { n + (1 << 40) };
    let rate = |policy| hit_rate(policy, capacity, (0..100_000).map(often));
    let (default, lru) = (rate(AdmissionPolicy::default()), rate(AdmissionPolicy::Lru));
    assert!(default > 0.085, "nearly all that can hit do: {default} of 0.097");
    assert!(lru < 0.01, "which LRU does not: {lru}");
}

#[test]
fn a_frame_sent_again_after_less_than_half_the_room_is_a_hit() {
    let (capacity, after) = (1000, 200);
    let twice = || (0..20_000).flat_map(move |n| [Some(n), u64::checked_sub(n, after)]).flatten();
    for policy in [AdmissionPolicy::TinyLfu, AdmissionPolicy::Lru] {
        let rate = hit_rate(policy, capacity, twice());
        assert!(rate > 0.49, "{policy:?}: {rate}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u64),
    Put { key: u64, labels: usize },
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40u64).prop_map(Step::Ask),
        4 => (0..40u64, 0..60usize).prop_map(|(key, labels)| Step::Put { key, labels }),
        1 => (0..400u64).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// In any sequence: no bound is exceeded, no answer is returned that was not inserted, a later answer is
    /// never replaced by an earlier one, and every eviction is counted.
    #[test]
    fn bounds_hold_and_answers_are_the_latest(
        steps in steps(),
        max_entries in 1..20usize,
        max_bytes in 1..20_000usize,
        lru in any::<bool>(),
    ) {
        let admission = if lru { AdmissionPolicy::Lru } else { AdmissionPolicy::TinyLfu };
        let ttl = Duration::from_millis(1000);
        let config = Config { max_entries, max_bytes, ttl, admission, ..Config::default() };
        let store = CacheStore::new(&config);
        let mut now = Instant::now();
        let mut put: HashMap<u64, (Arc<Answer>, Instant)> = HashMap::new();
        for step in steps {
            match step {
                Step::Wait { ms } => now += Duration::from_millis(ms),
                Step::Put { key: n, labels } => {
                    let answer = answer(labels);
                    put.insert(n, (Arc::clone(&answer), now));
                    store.insert(key(n), &Arc::default(), answer, now);
                }
                Step::Ask(n) => if let Some(found) = store.get(&key(n), now) {
                    let (latest, since) = &put[&n];
                    prop_assert!(Arc::ptr_eq(&found, latest));
                    prop_assert!(now < *since + config.ttl);
                },
            }
            let stats = store.stats();
            prop_assert!(stats.entries <= max_entries && stats.bytes <= max_bytes, "{:?}", stats);
            prop_assert_eq!(stats.entries == 0, stats.bytes == 0);
            let holders: usize = put.values().filter(|(answer, _)| Arc::strong_count(answer) > 1).count();
            prop_assert_eq!(stats.entries, holders, "a cached answer is counted, and any other is freed");
        }
    }
}

#[tokio::test]
async fn answers_are_cleared_by_their_model() {
    let store = CacheStore::new(&Config::default());
    let model = |name: &str| Arc::new(ModelId { name: name.into(), ..ModelId::default() });
    let now = Instant::now();
    for n in 0..10 {
        store.insert(key(n), &model(if n < 3 { "a" } else { "b" }), answer(1), now);
    }
    assert_eq!(store.clear(|model| model.name == "a"), 3);
    assert!(store.get(&key(0), now).is_none() && store.get(&key(9), now).is_some());
    assert_eq!(store.clear(|_| true), 7);
    assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
}
