//! The control endpoints and the statistics of the NATS micro service.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sferic_actors::breaker::{CircuitState, Circuits, Force, SharedCircuit};
use sferic_actors::frame::ModelId;
use sferic_actors::pipeline::SharedState;
use sferic_onnx::{Catalog, RefusedBundle};
use sferic_samples::BufferPool;

use super::{Readiness, Unseen};
use crate::nats::{
    Connection, ControlError, Endpoint, Health, InputSwitch, MemberInput, ModelHealth, Service,
};

/// State that the endpoints read.
pub struct Control {
    pub shared_state: Arc<SharedState>,
    pub catalog: Arc<Catalog>,
    pub readiness: Arc<Readiness>,
    pub unseen: Arc<Unseen>,
    pub buffers: BufferPool,
    pub input: InputSwitch,
    pub prefix: String,
    pub queue_group: String,
    /// Identifies this process among the members, also when its NATS client is replaced.
    pub instance: String,
}

impl Control {
    /// Starts the service.
    pub async fn serve(self: &Arc<Self>, connection: &Connection) -> anyhow::Result<Service> {
        let metadata =
            [("prefix", &self.prefix), ("queue_group", &self.queue_group), ("instance", &self.instance)];
        let metadata: HashMap<_, _> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let (asked, circuits, counted) =
            (Arc::clone(self), Arc::clone(&self.shared_state.circuits), Arc::clone(self));
        let endpoints = vec![
            Endpoint::new("health", move |_| std::future::ready(to_value(&asked.health()))),
            Endpoint::new("breaker", move |request| std::future::ready(breaker(&circuits, &request))),
        ];
        Service::start(connection, metadata, endpoints, move || counted.statistics()).await
    }

    /// The answer of `sferic.health`.
    pub fn health(&self) -> Health {
        let state = |model: &Arc<ModelId>| match self.shared_state.circuits.of(model).state().0 {
            CircuitState::Closed => "ready",
            state => state.name(),
        };
        let (status, reason) = self.readiness.now();
        let models = self.catalog.models().iter().map(|model| {
            let id = model.id();
            ModelHealth { name: id.name.clone(), version: id.version.clone(), state: state(id), reason: None }
        });
        let failed =
            self.catalog.refused().iter().cloned().map(|RefusedBundle { name, version, reason, .. }| {
                ModelHealth { name, version, state: "failed", reason: Some(reason) }
            });
        let models = models.chain(failed).collect();
        Health {
            status,
            reason,
            version: env!("CARGO_PKG_VERSION"),
            models,
            ledger: self.shared_state.ledger.counts(),
        }
    }

    /// The statistics for `$SRV.STATS`.
    fn statistics(&self) -> Value {
        let (frames, bytes) = self.shared_state.admission.in_use();
        json!({
            "input": MemberInput {
                prefix: self.prefix.clone(),
                queue_group: self.queue_group.clone(),
                state: self.input.state(),
            },
            "ledger": self.shared_state.ledger.counts(),
            "unseen": self.unseen.frames(),
            "in_flight": {"frames": frames, "bytes": bytes},
            "cache": self.shared_state.cache.stats(),
            "preprocess": {
                "waiting": self.shared_state.frames.depth(),
                "shed": self.shared_state.frames.shed_count(),
            },
            "pool": self.shared_state.queue.stats(),
            "breaker": self.shared_state.circuits.stats(),
            "buffers": self.buffers.stats(),
        })
    }
}

/// Request of `sferic.breaker`; an empty one lists every circuit.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of `model` and `force`, or nothing")]
struct BreakerRequest {
    /// `name` or `name@version`; absent: all.
    model: Option<String>,
    force: Option<Force>,
}

/// Executes a request and answers with the circuits it selects.
fn breaker(circuits: &Circuits, request: &Bytes) -> Result<Value, ControlError> {
    let BreakerRequest { model, force } = match request.as_ref() {
        [] => BreakerRequest::default(),
        text => serde_json::from_slice(text).map_err(|error| ControlError::new(400, error))?,
    };
    let all = circuits.all();
    let meant =
        |circuit: &&Arc<SharedCircuit>| model.as_ref().is_none_or(|asked| is_meant(circuit.model(), asked));
    let chosen: Vec<_> = all.iter().filter(meant).collect();
    if let (Some(asked), []) = (&model, chosen.as_slice()) {
        let there: Vec<_> = all.iter().map(|circuit| circuit.model().to_string()).collect();
        return Err(ControlError::new(
            404,
            format_args!("`model` is {asked:?}, must be one of {}, or a name alone", there.join(", ")),
        ));
    }
    if let Some(force) = force {
        chosen.iter().for_each(|circuit| circuit.force(force));
    }
    to_value(&json!({"circuits": chosen.iter().map(|circuit| circuit.stats()).collect::<Vec<_>>()}))
}

fn is_meant(model: &ModelId, asked: &str) -> bool {
    match asked.split_once('@') {
        Some((name, version)) => model.name == name && model.version == version,
        None => model.name == asked,
    }
}

fn to_value(answer: &impl serde::Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(answer).map_err(|error| ControlError::new(500, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuits() -> Arc<Circuits> {
        let circuits = Circuits::new(Default::default());
        for version in ["1", "2"] {
            circuits.of(&Arc::new(ModelId {
                name: "a".into(),
                version: version.into(),
                digest: String::new(),
            }));
        }
        circuits
    }

    #[tokio::test]
    async fn circuits_are_forced_by_name_by_version_or_all_at_once() {
        let circuits = circuits();
        let states = |request: &str| {
            let answer = breaker(&circuits, &Bytes::from(request.to_owned())).unwrap();
            let states: Vec<_> =
                answer["circuits"].as_array().unwrap().iter().map(|each| each["state"].clone()).collect();
            json!(states)
        };
        assert_eq!(states(""), json!(["closed", "closed"]));
        assert_eq!(states(r#"{"model": "a@2", "force": "open"}"#), json!(["open"]));
        assert_eq!(states("{}"), json!(["closed", "open"]));
        assert_eq!(states(r#"{"force": "open"}"#), json!(["open", "open"]));
        assert_eq!(states(r#"{"model": "a", "force": "close"}"#), json!(["closed", "closed"]));
        let all = breaker(&circuits, &Bytes::from_static(br#"{"model": "a@2"}"#)).unwrap();
        assert_eq!(all["circuits"][0]["openings"], 1, "it was open already the second time");
        assert_eq!(states(r#"{"force": "reset"}"#), json!(["closed", "closed"]));
        assert_eq!(breaker(&circuits, &Bytes::new()).unwrap()["circuits"][1]["openings"], 0);
    }

    #[tokio::test]
    async fn a_wrong_request_is_refused_with_its_value_and_what_is_allowed() {
        for (request, code, parts) in [
            (r#"{"model": "b"}"#, 404, &["\"b\"", "a@1, a@2"][..]),
            (r#"{"model": "a@3"}"#, 404, &["\"a@3\"", "a@1, a@2"]),
            (r#"{"force": "shut"}"#, 400, &["`shut`", "`open`, `close`, `reset`"]),
            (r#"{"forse": "open"}"#, 400, &["`forse`", "`model`", "`force`"]),
            (r#"{"model": 3}"#, 400, &["`3`", "a string"]),
            ("[]\n", 400, &["an object of `model` and `force`, or nothing"]),
            ("open", 400, &["expected value"]),
        ] {
            let refusal = breaker(&circuits(), &Bytes::from(request)).unwrap_err();
            assert_eq!(refusal.code(), code, "{refusal:?}");
            for part in parts {
                assert!(refusal.message().contains(part), "{part:?} is not in {refusal:?}");
            }
        }
    }
}
