//! What the control endpoints are asked for, and what they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sferic_actors::breaker::{Circuits, Force, SharedCircuit};
use sferic_actors::cache::CacheStore;
use sferic_actors::frame::ModelId;
use sferic_actors::gather::{Gathering, SourceRecord};
use sferic_telemetry::metrics::Recorded;

use crate::canary::Canaries;
use crate::models::ModelService;
use crate::models::requests::{self, read, to_value};
use crate::nats::{ControlError, Endpoint};

/// Request of `sferic.breaker`; an empty one lists every circuit.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of `model` and `force`, or nothing")]
struct BreakerRequest {
    /// `name` or `name@version`; absent: all.
    model: Option<String>,
    force: Option<Force>,
}

/// Request of `sferic.cache`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of `clear` and `model`, or nothing")]
struct CacheRequest {
    clear: Option<bool>,
    /// `name` or `name@version`; absent: all.
    model: Option<String>,
}

/// What was seen of the sources of gathered frames, the latest first.
pub fn sources(gathering: &Arc<Gathering>) -> Endpoint {
    let gathering = Arc::clone(gathering);
    Endpoint::new("sources", move |_| {
        let book = gathering.book();
        let common = book.common_offset();
        let sources: Vec<_> = book.iter().map(|(source, record)| source_of(source, record, common)).collect();
        std::future::ready(Ok(json!({"sources": sources})))
    })
}

fn source_of(source: &str, record: &SourceRecord, common_offset: f64) -> Value {
    let left_out: BTreeMap<_, _> =
        record.left_out.iter().map(|(reason, count)| (reason.as_str(), count)).collect();
    let datetime = record.datetime_ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
    json!({
        "source": source,
        "frames": record.frames,
        "left_out": left_out,
        "geolocation": record.place,
        "datetime": datetime.map(|time| format!("{time:.9}")),
        "level_db": record.level_db,
        "clock": record.clock.map(|clock| json!({
            "offset_s": clock.offset_s - common_offset,
            "drift": clock.drift,
            "residual_s": clock.residual_s,
            "observations": clock.observations,
            "jumps": clock.jumps,
        })),
    })
}

/// The endpoints about models: the list, one of them, and changes.
pub fn models(
    models: &Arc<ModelService>,
    recorded: &Arc<Recorded>,
    canaries: &Arc<Canaries>,
) -> Vec<Endpoint> {
    let listing = Arc::clone(models);
    let (asked, recorded, canaries) = (Arc::clone(models), Arc::clone(recorded), Arc::clone(canaries));
    let mut endpoints = vec![
        Endpoint::new("models", move |_| std::future::ready(Ok(listing.list()))),
        Endpoint::new("models.info", move |request| {
            let info = requests::info(&asked, &recorded, &request);
            std::future::ready(info.map(|info| canaries.with_truth(info)))
        }),
    ];
    for name in requests::CHANGES {
        let models = Arc::clone(models);
        endpoints.push(Endpoint::new(name, move |request| {
            let models = Arc::clone(&models);
            async move { requests::change(&models, name, &request).await }
        }));
    }
    endpoints
}

/// The endpoint `sferic.models.split`.
pub fn split(canaries: &Arc<Canaries>) -> Endpoint {
    let canaries = Arc::clone(canaries);
    Endpoint::new("models.split", move |request| std::future::ready(canaries.split(&request)))
}

/// The endpoint `sferic.models.shadow`.
pub fn shadow(canaries: &Arc<Canaries>) -> Endpoint {
    let canaries = Arc::clone(canaries);
    Endpoint::new("models.shadow", move |request| std::future::ready(canaries.shadow(&request)))
}

/// The endpoint `sferic.breaker`.
pub fn breaker(circuits: &Arc<Circuits>) -> Endpoint {
    let circuits = Arc::clone(circuits);
    Endpoint::new("breaker", move |request| std::future::ready(force(&circuits, &request)))
}

/// The endpoint `sferic.cache`.
pub fn cache(cache: &Arc<CacheStore>) -> Endpoint {
    let cache = Arc::clone(cache);
    Endpoint::new("cache", move |request| std::future::ready(cached(&cache, &request)))
}

/// Executes a request about circuits and answers with those it selects.
fn force(circuits: &Circuits, request: &Bytes) -> Result<Value, ControlError> {
    let BreakerRequest { model, force } = read(request)?;
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

fn cached(cache: &CacheStore, request: &Bytes) -> Result<Value, ControlError> {
    let CacheRequest { clear, model } = read(request)?;
    let cleared = match (clear.unwrap_or_default(), &model) {
        (true, _) => Some(cache.clear(|id| model.as_ref().is_none_or(|asked| is_meant(id, asked)))),
        (false, None) => None,
        (false, Some(model)) => {
            let message =
                format!("`model` is {model:?}, but `clear` is not true: statistics are of all models");
            return Err(ControlError::new(400, message));
        }
    };
    let mut answer = to_value(&cache.stats())?;
    if let Some(cleared) = cleared {
        answer["cleared"] = cleared.into();
    }
    Ok(answer)
}

fn is_meant(model: &ModelId, asked: &str) -> bool {
    match asked.split_once('@') {
        Some((name, version)) => model.name == name && model.version == version,
        None => model.name == asked,
    }
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
                ..ModelId::default()
            }));
        }
        circuits
    }

    #[tokio::test]
    async fn circuits_are_forced_by_name_by_version_or_all_at_once() {
        let circuits = circuits();
        let states = |request: &str| {
            let answer = force(&circuits, &Bytes::from(request.to_owned())).unwrap();
            let states: Vec<_> =
                answer["circuits"].as_array().unwrap().iter().map(|each| each["state"].clone()).collect();
            json!(states)
        };
        assert_eq!(states(""), json!(["closed", "closed"]));
        assert_eq!(states(r#"{"model": "a@2", "force": "open"}"#), json!(["open"]));
        assert_eq!(states("{}"), json!(["closed", "open"]));
        assert_eq!(states(r#"{"force": "open"}"#), json!(["open", "open"]));
        assert_eq!(states(r#"{"model": "a", "force": "close"}"#), json!(["closed", "closed"]));
        let all = force(&circuits, &Bytes::from_static(br#"{"model": "a@2"}"#)).unwrap();
        assert_eq!(all["circuits"][0]["openings"], 1, "it was open already the second time");
        assert_eq!(states(r#"{"force": "reset"}"#), json!(["closed", "closed"]));
        assert_eq!(force(&circuits, &Bytes::new()).unwrap()["circuits"][1]["openings"], 0);
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
            let refusal = force(&circuits(), &Bytes::from(request)).unwrap_err();
            assert_eq!(refusal.code(), code, "{refusal:?}");
            for part in parts {
                assert!(refusal.message().contains(part), "{part:?} is not in {refusal:?}");
            }
        }
    }
}
