use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;

use super::*;
use crate::frame::ModelId;
use crate::outcome::FailureCode;
use crate::stages::breaker::Breaker;

const QUICK: Duration = Duration::from_millis(1);

pub fn model() -> Arc<ModelId> {
    Arc::new(ModelId { name: "m".into(), version: "1".into(), ..ModelId::default() })
}

fn circuit(config: Config) -> Arc<SharedCircuit> {
    Circuits::new(config).of(&model())
}

/// Lets this many frames through and fails them.
fn fail(circuit: &Arc<SharedCircuit>, times: usize) {
    (0..times).for_each(|_| circuit.admit().unwrap().failed());
}

#[tokio::test(start_paused = true)]
async fn opens_refuses_probes_and_closes() {
    let circuit = circuit(Config::default());
    fail(&circuit, 3);
    let refused = circuit.admit().unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (FailureCode::ModelUnavailable, "the circuit of m@1 is open: 3 failures in a row")
    );
    let wait = refused.retry_after.unwrap();
    assert!(
        wait >= Duration::from_secs(48) && wait <= Duration::from_secs(72),
        "{wait:?} is not 60 s ± 20 %"
    );
    tokio::time::advance(wait - Duration::from_nanos(1)).await;
    assert!(circuit.admit().is_err());

    tokio::time::advance(Duration::from_nanos(1)).await;
    let (mut first, mut second) = (circuit.admit().unwrap(), circuit.admit().unwrap());
    let refused = circuit.admit().unwrap_err();
    assert_eq!(
        refused.retry_after, None,
        "as many probes as must succeed are let through; when one ends is not known"
    );
    assert_eq!(refused.message, "the circuit of m@1 is half-open, and its probes are running");
    first.succeeded(QUICK);
    assert_eq!(circuit.state().0, CircuitState::HalfOpen);
    second.succeeded(QUICK);
    assert_eq!(circuit.state().0, CircuitState::Closed);
    let CircuitCounts { openings, refused, probes, failures, slow } = circuit.stats().counts;
    assert_eq!((openings, refused, probes, failures, slow), (1, 3, 2, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_doubles_the_wait_up_to_eight_times_until_it_closes() {
    let circuit = circuit(Config { success_threshold: 1, ..Config::default() });
    fail(&circuit, 3);
    let wait = || circuit.admit().unwrap_err().retry_after.unwrap();
    for factor in [1, 2, 4, 8, 8] {
        let share = wait().as_secs_f64() / (60.0 * f64::from(factor));
        assert!((0.8..=1.2).contains(&share), "{factor}: {share}");
        tokio::time::advance(wait()).await;
        fail(&circuit, 1);
        assert!(circuit.admit().unwrap_err().message.ends_with(": a probe failed"));
    }
    tokio::time::advance(wait()).await;
    circuit.admit().unwrap().succeeded(QUICK);
    fail(&circuit, 3);
    assert!(wait() <= Duration::from_secs(72));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_releases_its_place() {
    let circuit = circuit(Config { failure_threshold: 1, success_threshold: 1, ..Config::default() });
    fail(&circuit, 1);
    tokio::time::advance(Duration::from_secs(73)).await;
    let probe = circuit.admit().unwrap();
    assert!(circuit.admit().is_err());
    drop(probe);
    fail(&circuit, 1);
    assert!(matches!(circuit.state().0, CircuitState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_the_failures_in_a_row() {
    let circuit = circuit(Config::default());
    for _ in 0..10 {
        fail(&circuit, 2);
        circuit.admit().unwrap().succeeded(QUICK);
    }
    assert_eq!(circuit.state().0, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_share_opens_it_from_min_calls_on() {
    let shares = Config { failure_threshold: 100, failure_share: 0.5, min_calls: 10, ..Config::default() };
    let failing = circuit(shares.clone());
    let slow = circuit(Config { failure_share: 0.0, slow_share: 0.5, ..shares });
    for n in 0..10 {
        for circuit in [&failing, &slow] {
            assert_eq!(circuit.state().0, CircuitState::Closed, "{n} calls are not enough");
        }
        let (mut good, mut bad) = (failing.admit().unwrap(), slow.admit().unwrap());
        // A run of exactly the limit is slow.
        bad.succeeded(Duration::from_millis(249 + n % 2));
        if n % 2 == 0 { good.failed() } else { good.succeeded(Duration::from_secs(1)) }
    }
    assert_eq!(failing.admit().unwrap_err().message, "the circuit of m@1 is open: 5 of 10 calls failed");
    assert_eq!(slow.admit().unwrap_err().message, "the circuit of m@1 is open: 5 of 10 calls were slow");
    assert_eq!(
        (failing.stats().counts.slow, slow.stats().counts.slow),
        (5, 5),
        "slow calls are counted without slow_share too"
    );
    tokio::time::advance(Duration::from_secs(73)).await;
    slow.admit().unwrap().succeeded(Duration::from_secs(1));
    assert_eq!(slow.admit().unwrap_err().message, "the circuit of m@1 is open: a probe was slow");
}

#[tokio::test(start_paused = true)]
async fn permits_from_before_it_opened_do_not_count_and_are_not_to_be_begun() {
    let circuit = circuit(Config { failure_threshold: 1, success_threshold: 1, ..Config::default() });
    let (mut early, mut late) = (circuit.admit().unwrap(), circuit.admit().unwrap());
    assert!(early.check().is_ok());
    fail(&circuit, 1);
    assert_eq!(early.check().unwrap_err().code, FailureCode::ModelUnavailable);
    tokio::time::advance(Duration::from_secs(73)).await;
    assert!(early.check().is_err(), "no probe");
    early.succeeded(QUICK);
    assert_eq!(circuit.state().0, CircuitState::HalfOpen);
    circuit.admit().unwrap().succeeded(QUICK);
    assert!(late.check().is_ok());
    late.failed();
    assert_eq!(circuit.state().0, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_opens_for_good_closes_and_resets() {
    let circuit = circuit(Config::default());
    fail(&circuit, 1);
    circuit.force(Force::Open);
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    let refused = circuit.admit().unwrap_err();
    assert_eq!(
        (refused.message.as_str(), refused.retry_after),
        ("the circuit of m@1 is open: opened by hand", None)
    );
    circuit.force(Force::Close);
    fail(&circuit, 2);
    assert_eq!(circuit.state().0, CircuitState::Closed, "the failures in a row restarted at 0");
    circuit.force(Force::Reset);
    assert_eq!(circuit.stats().counts, CircuitCounts::default());
    fail(&circuit, 3);
    assert!(circuit.admit().is_err(), "and it works as before");
}

#[tokio::test(start_paused = true)]
async fn any_length_can_be_configured() {
    let circuit = circuit(Config {
        open_for: Duration::MAX,
        window: Duration::ZERO,
        slow_share: 1.0,
        min_calls: 0,
        ..Config::default()
    });
    circuit.admit().unwrap().succeeded(QUICK);
    fail(&circuit, 3);
    assert!(circuit.admit().unwrap_err().retry_after.unwrap() <= LONGEST_OPEN_FOR.mul_f64(1.2));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_wakes_a_circuit_when_its_open_time_ends() {
    let circuits = Circuits::new(Config::default());
    let circuit = circuits.of(&model());
    let mut changed = circuits.watch();
    let (breaker, _) = Actor::spawn(None, Breaker, Arc::clone(&circuits)).await.unwrap();
    fail(&circuit, 3);
    assert!(circuits.are_all_open());
    let seen = async {
        changed.changed().await.unwrap();
        // Nothing queries the circuit before its open time ends.
        changed.changed().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(73), seen).await.expect("it is not woken");
    assert_eq!(circuit.state().0, CircuitState::HalfOpen);
    breaker.stop_and_wait(None, None).await.unwrap();
}
