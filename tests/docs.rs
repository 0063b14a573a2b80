//! Holds the documentation to the code: the tables of `docs/protocol.md` to the types and to real messages,
//! in both directions; and the links and paths of every page, see `pages`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test may panic

#[path = "docs/pages.rs"]
mod pages;
#[path = "daemon/support.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use the rest")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_nats::HeaderMap;
use futures::StreamExt;
use serde_json::{Value, json};
use sferic::nats::HealthStatus;
use sferic_actors::breaker::CircuitState;
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::FailureCode;
use sferic_samples::Datatype;
use sferic_wire::{self as wire, FrameMessage};
use support::*;

type Names = BTreeSet<String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table under a heading of the protocol's page: the name in the first cell, and the other
/// cells.
fn table(heading: &str) -> BTreeMap<String, Vec<String>> {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let mut lines = page.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "no heading {heading:?}");
    let rows = lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let mut table = BTreeMap::new();
    for row in rows {
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap().trim_end_matches('`').to_owned();
        let word = |cell: &str| {
            let word = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            word.filter(|word| !word.contains('`')).unwrap_or(cell).to_owned()
        };
        let cells = cells.map(word).collect();
        assert_eq!(table.insert(name, cells), None, "twice under {heading:?}: {row}");
    }
    assert!(!table.is_empty(), "no table under {heading:?}");
    table
}

fn names(heading: &str) -> Names {
    table(heading).into_keys().collect()
}

#[track_caller]
fn assert_documented(heading: &str, found: &Names, documented: &Names) {
    let missing: Vec<_> = found.difference(documented).collect();
    let surplus: Vec<_> = documented.difference(found).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{heading:?}: not documented {missing:?}, documented only {surplus:?}"
    );
}

/// The words in back-ticks.
fn quoted(cell: &str) -> Names {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn keys(object: &Value) -> Names {
    object.as_object().unwrap_or_else(|| panic!("no map: {object}")).keys().cloned().collect()
}

/// The fields of a type whose `Debug` is derived and whose values are all `None`.
fn fields(debug: &str) -> Names {
    let body = debug.split_once('{').unwrap().1.rsplit_once('}').unwrap().0;
    body.split(',')
        .map(|field| {
            field.split_once(": None").unwrap_or_else(|| panic!("{field:?} in {debug}")).0.trim().to_owned()
        })
        .collect()
}

#[test]
fn frame_keys_are_those_that_are_read() {
    let documented = names("## Frame");
    let empty = [0x80];
    let body = wire::read(&empty, Encoding::MessagePack).unwrap();
    assert_documented("## Frame", &fields(&format!("{body:?}")), &documented);
    // No key takes a map of this kind, and keys that are not read take anything.
    let wrong = |key: &str| rmp_serde::to_vec_named(&json!({key: {"x": 1}})).unwrap();
    for key in &documented {
        let error = wire::read(&wrong(key), Encoding::MessagePack)
            .err()
            .unwrap_or_else(|| panic!("`{key}` is not read"))
            .to_string();
        assert!(error.starts_with(&format!("`{key}")), "{error}");
    }
    assert!(wire::read(&wrong("no_such_key"), Encoding::MessagePack).is_ok());
}

#[test]
fn frames_that_are_written_have_documented_keys() {
    let geolocation = sferic_samples::Geolocation::point(7.6, 45.0);
    let frame = FrameMessage {
        frame_id: "f",
        seq: Some(1),
        datetime: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        datatype: "ci8",
        sample_rate: Some(48e3),
        num_channels: 1,
        frequency: Some(1e6),
        geolocation: Some(&geolocation),
        session_size: Some(1),
        model: Some("m"),
        timeout_ms: Some(1),
        cache_enabled: Some(false),
        samples: &[0, 0],
    };
    let message: rmpv::Value = rmp_serde::from_slice(&frame.encode().unwrap()).unwrap();
    let written: Names =
        message.as_map().unwrap().iter().map(|(key, _)| key.as_str().unwrap().to_owned()).collect();
    let unknown: Vec<_> = written.difference(&names("## Frame")).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn datatypes_are_all_there() {
    let all: Names = Datatype::ALL.map(|datatype| datatype.name().to_owned()).into();
    assert_documented("### Datatypes", &all, &names("### Datatypes"));
}

#[test]
fn failure_codes_have_their_number_and_say_whether_to_try_again() {
    let heading = "### Failure codes";
    let documented = table(heading);
    let all: Names = FailureCode::ALL.map(|code| code.as_str().to_owned()).into();
    assert_documented(heading, &all, &documented.keys().cloned().collect());
    for code in FailureCode::ALL {
        let [service_code, retryable, ..] = documented[code.as_str()].as_slice() else { panic!("{code:?}") };
        assert_eq!(*service_code, code.service_code().to_string(), "{code:?}");
        assert_eq!(retryable, if code.is_retryable() { "yes" } else { "no" }, "{code:?}");
    }
}

/// A frame with all that is echoed, and all headers that are passed on. It is JSON, because outcomes with
/// `bin` cannot be read as JSON values.
fn full(id: &str, model: &str) -> (Vec<u8>, HeaderMap) {
    let (payload, mut headers) = as_json(&json!({
        "frame_id": id,
        "iq_data": vec![[0.5, 0.25]; 64],
        "model": model,
        "seq": 7,
        "session_id": "s",
        "datetime": "2026-11-25T05:00:00Z",
        "frequency": 868.3e6,
    }));
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    headers.insert("tracestate", "a=b");
    headers.insert("baggage", "k=v");
    (payload, headers)
}

fn header_names(reply: &Reply) -> Names {
    reply.headers.iter().map(|(name, _)| name.to_string()).collect()
}

/// The headers whose row says something in a column.
fn documented_headers(column: usize) -> Names {
    table("## Headers").into_iter().filter(|(_, cells)| cells[column] != "–").map(|(name, _)| name).collect()
}

#[tokio::test]
async fn outcomes_have_the_documented_keys_and_headers() {
    if !tools_are_there() {
        return;
    }
    // A session that computes features itself has no `preprocess_wait`.
    let models = ["degrees", "classes", "tensors"];
    let world = World::start(&models, &[("PREPROCESS__WORKERS", "1")]).await;
    let mut published = world.client.subscribe("iq.*.>").await.unwrap();
    let mut outcome = async || loop {
        let message = tokio::time::timeout(PATIENCE, published.next()).await.expect("no outcome").unwrap();
        if !message.subject.starts_with("iq.frames.") {
            return Reply::of(message);
        }
    };

    let documented = table("## Prediction");
    let of_kind = |kind: &str| -> Names {
        documented
            .iter()
            .filter(|(_, cells)| ["all", kind].contains(&cells[0].as_str()))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut parts: BTreeMap<&str, Value> = BTreeMap::new();
    for (model, kind) in [("degrees", "localization"), ("classes", "classification"), ("tensors", "tensors")]
    {
        let (payload, headers) = full(model, model);
        let reply = world.ask_raw(payload, headers).await;
        assert_eq!(reply.body["kind"], kind, "{}", reply.body);
        assert_documented(kind, &keys(&reply.body), &of_kind(kind));
        for reply in [reply, outcome().await] {
            assert_documented("## Headers", &header_names(&reply), &documented_headers(1));
            for part in ["position", "uncertainty", "ellipse", "stages_ms"] {
                parts.extend(reply.body.get(part).map(|value| (part, value.clone())));
            }
            parts.extend(reply.body.get("labels").map(|labels| ("labels", labels[0].clone())));
            parts.extend(
                reply.body.get("tensors").map(|tensors| {
                    ("tensors", tensors.as_object().unwrap().values().next().unwrap().clone())
                }),
            );
        }
    }
    for part in ["position", "uncertainty", "ellipse", "labels", "tensors", "stages_ms"] {
        assert_documented(part, &keys(&parts[part]), &names(&format!("### {part}")));
    }
    let kinds: Names = documented.values().map(|cells| cells[0].clone()).collect();
    assert_documented(
        "kinds",
        &kinds,
        &["all", "localization", "classification", "tensors"].map(str::to_owned).into(),
    );

    // What a frame's headers do: those that are passed on are on the outcomes above, one is the frame's id.
    let (_, mut headers) = full("headers", "degrees");
    headers.insert("Nats-Msg-Id", "by-its-header");
    let (payload, _) = as_json(&json!({"iq_data": vec![[0.5, 0.25]; 64]}));
    let sent: Names = headers.iter().map(|(name, _)| name.to_string()).collect();
    assert_documented("## Headers", &sent, &documented_headers(0));
    let reply = world.ask_raw(payload, headers).await;
    assert_eq!(reply.body["frame_id"], "by-its-header");
    outcome().await;

    let (payload, headers) = full("failed", "no-such-model");
    let reply = world.ask_raw(payload, headers).await;
    assert_documented("## Failure", &keys(&reply.body), &names("## Failure"));
    assert_documented("## Headers", &header_names(&reply), &documented_headers(2));
    let copy = outcome().await;
    assert_eq!(copy.body, reply.body);
    assert_documented("## Headers", &header_names(&copy), &documented_headers(1));
}

#[tokio::test]
async fn control_answers_have_the_documented_keys() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let health = world.health().await;
    let mut in_health = keys(&health);
    // Only where something is wrong.
    in_health.insert("reason".to_owned());
    assert_documented("## Health", &in_health, &names("## Health"));
    assert_documented("### ledger", &keys(&health["ledger"]), &names("### ledger"));
    let statuses: Names = HealthStatus::ALL.map(|status| status.as_str().to_owned()).into();
    assert_documented("status", &statuses, &quoted(&table("## Health")["status"][0]));
    let [closed, open, half_open] =
        [CircuitState::Closed, CircuitState::Open { until: None }, CircuitState::HalfOpen]
            .map(|state| state.name().to_owned());
    let mut of_models = keys(&health["models"][0]);
    of_models.extend([open.clone(), half_open.clone()]);
    of_models.extend(["reason", "loading", "ready", "failed", "draining", "unloaded"].map(str::to_owned));
    assert_documented("models", &of_models, &quoted(&table("## Health")["models"][0]));
    assert_documented("state", &[closed, open, half_open].into(), &quoted(&table("## Circuits")["state"][0]));

    let ask = async |subject: &str| -> Value {
        let answer = world.client.request(subject.to_owned(), "".into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    };
    let circuits = ask("sferic.breaker").await;
    assert_documented("## Circuits", &keys(&circuits["circuits"][0]), &names("## Circuits"));

    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let info = ask("$SRV.INFO.sferic").await;
    let endpoints: Names = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["subject"].as_str().unwrap().to_owned())
        .collect();
    let subjects: Names = page
        .lines()
        .filter(|line| line.starts_with("| `sferic."))
        .map(|line| line.trim_start_matches("| `").split('`').next().unwrap().to_owned())
        .collect();
    assert_documented("## Subjects", &endpoints, &subjects);
    let documented = names("## Subjects");
    let others =
        documented.iter().flat_map(|names| names.split("`, `")).filter(|name| !name.starts_with("sferic."));
    let frames = ["frames", "predictions", "failures", "truth"].map(|kind| format!("iq.{kind}.<source>"));
    let service = ["PING", "INFO", "STATS"].map(|verb| format!("$SRV.{verb}"));
    let others_of_ours = ["iq.batch", "iq.sessions.<session>.<source>"].map(str::to_owned);
    let expected = frames.into_iter().chain(others_of_ours).chain(service).collect();
    assert_documented("## Subjects", &expected, &others.map(str::to_owned).collect());
    for name in keys(&world.statistics().await) {
        assert!(page.contains(&format!("`{name}`")), "`{name}` of $SRV.STATS is not in the page");
    }
}
