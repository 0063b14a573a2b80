use std::time::Duration;

use super::core::Circuit;
use super::*;

fn model() -> Arc<ModelId> {
    Arc::new(ModelId { name: "m".into(), version: "1".into(), digest: String::new() })
}

#[tokio::test(start_paused = true)]
async fn opens_refuses_probes_and_closes() {
    let circuits = Circuits::new(Config::default());
    let model = model();
    for _ in 0..3 {
        circuits.admit(&model).unwrap().failed();
    }
    let refused = circuits.admit(&model).unwrap_err();
    assert_eq!(refused.code, FailureCode::ModelUnavailable);
    let wait = refused.retry_after.unwrap();
    assert!(wait >= Duration::from_secs(48) && wait <= Duration::from_secs(72), "{wait:?} is not 60 s ± 20 %");

    tokio::time::advance(wait).await;
    let (first, second) = (circuits.admit(&model).unwrap(), circuits.admit(&model).unwrap());
    assert_eq!(circuits.admit(&model).unwrap_err().retry_after, None, "only as many probes as must succeed");
    first.succeeded();
    assert_eq!(circuits.states()[0].1, State::HalfOpen);
    second.succeeded();
    assert_eq!(circuits.states()[0].1, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_again_and_a_dropped_one_gives_its_place_back() {
    let circuits = Circuits::new(Config { failure_threshold: 1, success_threshold: 1, ..Config::default() });
    let model = model();
    circuits.admit(&model).unwrap().failed();
    tokio::time::advance(Duration::from_secs(73)).await;
    let probe = circuits.admit(&model).unwrap();
    assert!(circuits.admit(&model).is_err());
    drop(probe);
    circuits.admit(&model).unwrap().failed();
    assert!(matches!(circuits.states()[0].1, State::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_the_run_of_failures() {
    let now = Instant::now();
    let mut circuit = Circuit::new(Config::default());
    for _ in 0..10 {
        circuit.failed(Admitted::Freely, now, 0.0);
        circuit.failed(Admitted::Freely, now, 0.0);
        circuit.succeeded(Admitted::Freely, now);
    }
    assert_eq!(circuit.state(now), State::Closed);
}
