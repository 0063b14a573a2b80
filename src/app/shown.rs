//! The state of the daemon as the operator's page shows it.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::control::Control;
use crate::canary::Canaries;
use crate::events::State;
use crate::models::ModelService;

/// Where events read it.
pub fn state(control: Arc<Control>) -> State {
    let (models, canaries) = (Arc::clone(&control.models), Arc::clone(&control.canaries));
    State {
        health: Box::new(move || health(&control)),
        models: Box::new(move || with_truth(&models, &canaries)),
    }
}

/// The answer of `sferic.health`, the time, and beside them what the statistics of `$SRV.STATS` have and how
/// long predictions take.
fn health(control: &Control) -> Value {
    let mut health = json!(control.health());
    health["time"] = sferic_wire::timestamp(SystemTime::now()).into();
    let statistics = control.statistics();
    for key in ["in_flight", "cache", "pool", "breaker", "process"] {
        health[key] = statistics[key].clone();
    }
    let circuits = control.shared_state.circuits.all();
    health["circuits"] = circuits.iter().map(|circuit| json!(circuit.stats())).collect();
    let (_, _, times) = control.recorded.ended();
    let milliseconds = [0.5, 0.95, 0.99].map(|share| times.quantile(share).map(|seconds| seconds * 1e3));
    let [p50, p95, p99] = milliseconds;
    health["latency_ms"] = json!({"p50": p50, "p95": p95, "p99": p99});
    health
}

/// The list of models, and of each version how it did where the truth is known.
fn with_truth(models: &ModelService, canaries: &Canaries) -> Value {
    let mut list = models.list();
    let each = list["models"].as_array_mut().into_iter().flatten();
    for model in each {
        let name = model["name"].clone();
        for version in model["versions"].as_array_mut().into_iter().flatten() {
            let known = canaries.with_truth(json!({"model": name, "version": version["version"]}));
            for key in ["truths", "error", "coverage", "promised_coverage"] {
                if let Some(value) = known.get(key) {
                    version[key] = value.clone();
                }
            }
        }
    }
    list
}
