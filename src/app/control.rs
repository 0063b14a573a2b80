//! The control endpoints and the statistics of the NATS micro service.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sferic_actors::breaker::CircuitState;
use sferic_actors::pipeline::SharedState;
use sferic_onnx::{Version, VersionState};
use sferic_samples::BufferPool;
use sferic_telemetry::metrics::Recorded;

use super::{Readiness, Unseen, endpoints};
use crate::canary::Canaries;
use crate::models::ModelService;
use crate::models::requests::to_value;
use crate::nats::{
    Connection, Endpoint, Health, InputSwitch, MemberInput, Metadata, ModelHealth, Service, SessionInput,
};
use crate::usage::UsageMeter;

/// State that the endpoints read.
pub struct Control {
    pub shared_state: Arc<SharedState>,
    pub models: Arc<ModelService>,
    pub canaries: Arc<Canaries>,
    pub recorded: Arc<Recorded>,
    pub readiness: Arc<Readiness>,
    pub unseen: Arc<Unseen>,
    pub buffers: BufferPool,
    pub usage: Arc<UsageMeter>,
    pub input: InputSwitch,
    pub prefix: String,
    pub queue_group: String,
    /// Where the frames of sessions come from.
    pub sessions: SessionInput,
    /// Identifies this process among the members, also when its NATS client is replaced.
    pub instance: String,
}

impl Control {
    /// Starts the service.
    pub async fn serve(self: &Arc<Self>, connection: &Connection) -> anyhow::Result<Service> {
        let described = Arc::clone(self);
        let read = move || {
            let Self { prefix, queue_group, instance, sessions, .. } = &*described;
            let mut metadata: HashMap<_, _> =
                [("prefix", prefix), ("queue_group", queue_group), ("instance", instance)].into();
            if *sessions.gathers.borrow() && *sessions.in_use.borrow() {
                metadata.insert("session_subject", &sessions.subject);
            }
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()
        };
        let (in_use, mut gathers) = (self.sessions.in_use.subscribe(), self.sessions.gathers.clone());
        gathers.mark_unchanged();
        let metadata = Metadata { read: Box::new(read), changed: [in_use, gathers] };
        let counted = Arc::clone(self);
        Service::start(connection, metadata, self.endpoints(), move || counted.statistics()).await
    }

    /// The control endpoints.
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let (asked, shared_state) = (Arc::clone(self), &self.shared_state);
        let mut all = vec![
            Endpoint::new("health", move |_| std::future::ready(to_value(&asked.health()))),
            endpoints::breaker(&shared_state.circuits),
            endpoints::cache(&shared_state.cache),
            endpoints::sources(&shared_state.gathering),
        ];
        all.extend(endpoints::models(&self.models, &self.recorded, &self.canaries));
        all.extend([endpoints::split(&self.canaries), endpoints::shadow(&self.canaries)]);
        all
    }

    /// The answer of `sferic.health`.
    pub fn health(&self) -> Health {
        let circuits = self.shared_state.circuits.all();
        let model = |name: &str, known: &Version| {
            let (version, name) = (known.version.clone(), name.to_owned());
            let circuit = known.model().and_then(|model| {
                let circuit = circuits.iter().find(|circuit| circuit.model() == model.id());
                circuit.map(|circuit| circuit.state().0)
            });
            let state = match circuit {
                None | Some(CircuitState::Closed) => known.state.name(),
                Some(state) => state.name(),
            };
            let reason =
                if let VersionState::Failed(reason) = &known.state { Some(reason.clone()) } else { None };
            ModelHealth { name, version, state, reason }
        };
        let (status, reason) = self.readiness.now();
        let catalog = self.models.catalog();
        let models = catalog
            .all()
            .flat_map(|(name, versions)| versions.versions.iter().map(move |known| (name, known)));
        let mut models: Vec<_> = models.map(|(name, known)| model(name, known)).collect();
        models.sort_by_key(|model| model.state == "failed");
        Health {
            status,
            reason,
            version: env!("CARGO_PKG_VERSION"),
            models,
            ledger: self.shared_state.ledger.counts(),
        }
    }

    /// The statistics for `$SRV.STATS`.
    pub fn statistics(&self) -> Value {
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
            "process": self.usage.read(),
        })
    }
}
