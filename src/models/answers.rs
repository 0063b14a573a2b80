//! Descriptions of the models as JSON: all versions, or one of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sferic_actors::gather::{GatherRules, Receivers};
use sferic_actors::ports::LoadedModel;
use sferic_models::{GatheredInput, GatheredKind, ModelInput, ModelInputSource};
use sferic_onnx::{Version, VersionState};
use sferic_telemetry::metrics::Recorded;

use super::service::ModelService;
use crate::nats::ControlError;

impl ModelService {
    /// Every model with its versions.
    pub fn list(&self) -> Value {
        let catalog = self.catalog();
        let models = catalog.all().map(|(name, of)| {
            let aliases = self.aliases(name, of);
            let versions: Vec<_> = of.versions.iter().map(|known| version(known, &aliases)).collect();
            let (split, shadow) = self.traffic().view(name);
            json!({
                "name": name,
                "active": of.active,
                "previous": of.previous,
                "versions": versions,
                "split": split,
                "shadow": shadow,
            })
        });
        json!({"models": models.collect::<Vec<_>>()})
    }

    /// One version, the active one where none is given, with what `recorded` counted of it.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn info(&self, name: &str, asked: Option<&str>, recorded: &Recorded) -> Result<Value, ControlError> {
        let catalog = self.catalog();
        let versions = catalog.of(name).ok_or_else(|| Self::unknown(&catalog, name))?;
        let number = asked.or(versions.active.as_deref());
        let known = number.and_then(|number| versions.get(number)).ok_or_else(|| {
            let there: Vec<_> = versions.versions.iter().map(|known| known.version.as_str()).collect();
            let asked = number.unwrap_or("an active one").escape_debug();
            ControlError::new(404, format!("no version {asked} of {name}; there are {}", there.join(", ")))
        })?;
        let mut answer = version(known, &self.aliases(name, versions));
        let mut add = |key: &str, value: Value| answer[key] = value;
        add("model", name.into());
        add("active", (versions.active.as_deref() == Some(&known.version)).into());
        if let Some(model) = known.model() {
            let ports = |ports: &[sferic_models::Port]| ports.iter().map(port).collect::<Vec<_>>();
            add("inputs", ports(model.inputs()).into());
            add("outputs", ports(model.outputs()).into());
            add("features", features(model.given()));
            add("gather", model.gather().map_or(Value::Null, |rules| gather(rules)));
            add("providers", model.providers().iter().map(|each| each.name()).collect::<Vec<_>>().into());
            add("shares", serde_json::to_value(model.dispatch()).unwrap_or_default());
            let after = model.dispatch().map(|dispatch| dispatch.nodes());
            add("nodes", json!({"before": model.nodes(), "after": after}));
            let costs = model.costs().iter();
            let costs: Vec<_> = costs.map(|cost| json!({"batch": cost.batch, "ms": ms(cost.run)})).collect();
            add("warm_up", costs.into());
            add("max_batch", model.max_batch().into());
            let served = recorded.of_model(name, &known.version);
            add("predictions", served.predictions.into());
            add("failures", served.failures.into());
            let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| served.inference.quantile(q).map(|s| s * 1e3));
            add("inference_ms", json!({"p50": p50, "p95": p95, "p99": p99}));
        }
        Ok(answer)
    }
}

fn version(known: &Version, aliases: &BTreeMap<String, String>) -> Value {
    let names = aliases.iter().filter(|(_, means)| **means == known.version).map(|(alias, _)| alias);
    let reason = if let VersionState::Failed(reason) = &known.state { Some(reason) } else { None };
    json!({
        "version": known.version,
        "state": known.state.name(),
        "reason": reason,
        "digest": known.model().map(|model| &model.id().digest),
        "aliases": names.collect::<Vec<_>>(),
        "loaded_at": known.loaded_at.map(sferic_wire::timestamp),
    })
}

fn port(port: &sferic_models::Port) -> Value {
    use sferic_models::{Axis, Elements};
    let dtype = match port.elements {
        Elements::Numbers(dtype) => dtype.name(),
        Elements::Strings => "string",
        Elements::ScoreMaps => "sequence of maps",
        Elements::Unsupported => "unsupported",
    };
    let axes = port.axes.iter().map(|axis| match axis {
        Axis::Fixed(length) => json!(length),
        Axis::Free(name) => json!(name),
    });
    json!({"name": port.name, "dtype": dtype, "shape": axes.collect::<Vec<_>>()})
}

fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// How it gathers: the keys of `[gather]`.
fn gather(rules: &GatherRules) -> Value {
    let window_ms = ms(rules.window);
    let mut keys = json!({"window_ms": window_ms, "min_receivers": rules.min_receivers});
    match &rules.receivers {
        Receivers::Listed(sources) => keys["receivers"] = json!(sources),
        Receivers::Any(most) => keys["max_receivers"] = json!(most),
    }
    keys
}

/// The keys of an input of a gathered model.
fn gathered(input: &GatheredInput) -> Value {
    let kind = |kind: &str| json!({"kind": kind});
    match &input.kind {
        GatheredKind::Computed(features, _) => serde_json::to_value(features).unwrap_or_default(),
        GatheredKind::Given(input) => {
            json!({"kind": "tensor", "shape": input.shape, "dtype": input.dtype.name()})
        }
        GatheredKind::Mask => kind("mask"),
        GatheredKind::Receivers => kind("receivers"),
        GatheredKind::Arrival => kind("arrival"),
        GatheredKind::Correlation(correlation) => {
            let mut keys = serde_json::to_value(correlation).unwrap_or_default();
            keys["kind"] = "correlation".into();
            keys
        }
        GatheredKind::LagStep(_) => kind("lag_step"),
        GatheredKind::Scatter => kind("scatter"),
    }
}

/// What the model gets: the keys of `[features]`, of several inputs those of `[[inputs]]`.
fn features(given: &sferic_models::Inputs) -> Value {
    let one = |input: &ModelInput| match &input.source {
        ModelInputSource::Computed(features, _) => serde_json::to_value(features).unwrap_or_default(),
        ModelInputSource::Given(input) => {
            json!({"kind": "tensor", "shape": input.shape, "dtype": input.dtype.name()})
        }
        ModelInputSource::Gathered(input) => gathered(input),
    };
    let named = |input| {
        let mut keys = one(input);
        keys["name"] = ModelInput::name(input).into();
        keys
    };
    let mut inputs = given.iter();
    match (inputs.next(), inputs.len()) {
        (Some(only), 0) => one(only),
        _ => given.iter().map(named).collect::<Vec<_>>().into(),
    }
}
