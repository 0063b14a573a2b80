//! The traces a collector gets.

use std::collections::{BTreeMap, HashSet};
use std::process::Stdio;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use futures::{StreamExt, stream};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use sferic::app::App;
use sferic::nats::PrivateServer;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::receiver::{Received, Receiver, text};
use crate::support::*;

const REMOTE: u32 = 0x300;

fn traced(traceparent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", traceparent);
    headers.insert("tracestate", "vendor=1");
    headers.insert("baggage", "k=v");
    headers
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_root(span: &Span) -> bool {
    span.name.starts_with("process ")
}

fn roots(received: &Received) -> usize {
    received.spans.iter().filter(|(_, span)| is_root(span)).count()
}

/// Publishes frames under known traces and checks the tree of each.
async fn every_trace_is_complete(receiver: Receiver, protocol: &str, frames: usize) {
    let endpoint = receiver.endpoint();
    let settings = [
        ("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
        ("TELEMETRY__OTLP_PROTOCOL", protocol),
        ("TELEMETRY__METRICS_INTERVAL", "100ms"),
        ("LIMITS__TIMEOUT", "30s"),
        ("POOL__MAX_BATCH_DELAY", "20ms"),
        ("POOL__SESSIONS", "1"),
    ];
    let world = World::start(&["degrees"], &settings).await;
    let ask = async |n: usize| {
        let (trace, span) = (format!("{:032x}", 0xa000_0000 + n), format!("{:016x}", 0xb000_0000 + n));
        // Every tenth may come from the cache.
        let sent = with(&steady(&format!("f-{n}")), &[("cache_enabled", n.is_multiple_of(10).into())]);
        let reply = world.ask_raw(pack(&sent), traced(&format!("00-{trace}-{span}-01"))).await;
        assert!(reply.body["position"].is_object(), "{}", reply.body);
        assert_eq!((reply.header("tracestate"), reply.header("baggage")), (Some("vendor=1"), Some("k=v")));
        (trace, span, reply)
    };
    let replies = join_all((0..frames).map(ask)).await;

    let received = receiver.wait("a trace of every frame", |received| roots(received) == frames).await;
    let received: Vec<Span> = received
        .spans
        .iter()
        .map(|(service, span)| (service == "sferic").then(|| span.clone()).unwrap())
        .collect();
    let runs: BTreeMap<_, _> =
        received.iter().filter(|span| span.name == "run").map(|span| (span.span_id.clone(), span)).collect();
    let mut linked = HashSet::new();
    for (trace, parent, reply) in &replies {
        let spans: Vec<_> = received.iter().filter(|span| hex(&span.trace_id) == *trace).collect();
        let hit = reply.body["_cache_hit"] == true;
        let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        let all = [
            "cache",
            "decode",
            "features",
            "inference",
            "process iq.frames.{source}",
            "publish iq.predictions.{source}",
            "queue",
        ];
        let of_a_hit = ["cache", "decode", "process iq.frames.{source}", "publish iq.predictions.{source}"];
        assert_eq!(names, if hit { &of_a_hit[..] } else { &all[..] }, "{trace}");

        let root = spans.iter().find(|span| is_root(span)).unwrap();
        assert_eq!((hex(&root.parent_span_id), root.kind()), (parent.clone(), SpanKind::Consumer));
        assert_eq!((root.flags, root.trace_state.as_str()), (REMOTE | 1, "vendor=1"));
        assert!(
            root.status.as_ref().is_none_or(|status| status.code() == StatusCode::Unset)
                && root.events.is_empty(),
            "{root:?}"
        );
        for (key, expected) in [
            ("messaging.system", "nats"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "iq.frames.t.rx"),
            ("messaging.consumer.group.name", "sferic"),
            ("messaging.message.id", reply.body["frame_id"].as_str().unwrap()),
            ("sferic.source", "t.rx"),
            ("sferic.outcome", "prediction"),
            ("sferic.kept", "sampled"),
            ("sferic.model", "degrees"),
            ("sferic.model.version", "1"),
            ("sferic.datatype", "cf32_le"),
            ("sferic.samples", "64"),
            ("sferic.batch.size", &reply.body["batch_size"].to_string()),
            ("sferic.cache.hit", &hit.to_string()),
        ] {
            assert_eq!(text(&root.attributes, key).as_deref(), Some(expected), "{key}");
        }
        let size: usize = text(&root.attributes, "messaging.message.body.size").unwrap().parse().unwrap();
        assert!(size > 64 * 8, "{size}");

        for span in spans.iter().filter(|span| !is_root(span)) {
            assert_eq!(span.parent_span_id, root.span_id, "{}", span.name);
            let within = root.start_time_unix_nano <= span.start_time_unix_nano
                && span.start_time_unix_nano <= span.end_time_unix_nano
                && span.end_time_unix_nano <= root.end_time_unix_nano;
            assert!(within, "{} is not within its frame: {span:?} {root:?}", span.name);
        }
        let publish = spans.iter().find(|span| span.name.starts_with("publish ")).unwrap();
        assert_eq!(
            reply.header("traceparent"),
            Some(format!("00-{trace}-{}-01", hex(&publish.span_id)).as_str())
        );
        assert_eq!(publish.kind(), SpanKind::Producer);
        assert_eq!(
            text(&publish.attributes, "messaging.destination.name").as_deref(),
            Some("iq.predictions.t.rx")
        );
        assert_eq!(text(&publish.attributes, "messaging.operation.type").as_deref(), Some("send"));

        let Some(inference) = spans.iter().find(|span| span.name == "inference") else { continue };
        let [to_run] = &inference.links[..] else { panic!("{inference:?}") };
        let run = runs.get(&to_run.span_id).unwrap_or_else(|| panic!("no run {}", hex(&to_run.span_id)));
        assert_eq!(run.trace_id, to_run.trace_id);
        let back = run
            .links
            .iter()
            .filter(|link| link.span_id == inference.span_id && link.trace_id == inference.trace_id)
            .count();
        assert_eq!(back, 1, "the run is linked to each of its frames: {run:?}");
        assert_eq!(text(&run.attributes, "sferic.batch.size"), Some(reply.body["batch_size"].to_string()));
        assert!(linked.insert(inference.span_id.clone()));
    }
    let links: usize = runs.values().map(|run| run.links.len()).sum();
    assert_eq!(links, linked.len(), "a run is linked to its frames and to nothing else");
    assert!(runs.values().any(|run| run.links.len() > 1), "no batch was run");
    let traces: HashSet<_> = replies.iter().map(|(trace, ..)| trace.as_str()).collect();
    assert!(
        runs.values()
            .all(|run| run.parent_span_id.is_empty() && !traces.contains(hex(&run.trace_id).as_str()))
    );
    let ids: HashSet<_> = received.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), received.len());

    let predictions = |received: &Received| {
        let frames = received.metrics.iter().find(|metric| metric.name == "sferic.frames")?;
        let Some(metric::Data::Sum(sum)) = &frames.data else { panic!("{frames:?}") };
        let of = |point: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            text(&point.attributes, "outcome").as_deref() == Some("prediction")
        };
        let number_data_point::Value::AsDouble(count) = sum.data_points.iter().find(of)?.value? else {
            panic!("{sum:?}")
        };
        (sum.is_monotonic && sum.aggregation_temporality == 2).then_some(count)
    };
    let received = receiver
        .wait("every prediction in the metrics", |received| predictions(received) == Some(frames as f64))
        .await;
    let stages = received.metrics.iter().find(|metric| metric.name == "sferic.stage.duration").unwrap();
    let Some(metric::Data::Histogram(stages)) = &stages.data else { panic!("{stages:?}") };
    let decode = stages
        .data_points
        .iter()
        .find(|point| text(&point.attributes, "stage").as_deref() == Some("decode"))
        .unwrap();
    assert_eq!((decode.count, decode.bucket_counts.iter().sum::<u64>()), (frames as u64, frames as u64));
    assert!(!decode.exemplars.is_empty(), "{decode:?}");
    for exemplar in &decode.exemplars {
        assert!(traces.contains(hex(&exemplar.trace_id).as_str()), "{exemplar:?}");
    }
}

#[tokio::test]
async fn every_trace_is_complete_over_grpc() {
    if tools_are_there() {
        every_trace_is_complete(Receiver::grpc(), "grpc", 100).await;
    }
}

#[tokio::test]
async fn every_trace_is_complete_over_http() {
    if tools_are_there() {
        every_trace_is_complete(Receiver::http(), "http", 20).await;
    }
}

#[tokio::test]
async fn failures_and_slow_frames_are_kept_without_sampling() {
    if !tools_are_there() {
        return;
    }
    let receiver = Receiver::grpc();
    let endpoint = receiver.endpoint();
    let settings = [
        ("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
        ("TELEMETRY__SAMPLE_RATIO", "0.0"),
        ("TELEMETRY__SLOW_FRAME", "1s"),
        ("LIMITS__TIMEOUT", "30s"),
    ];
    let world = World::start(&["degrees", "slow"], &settings).await;
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let quick = world.ask(&steady("quick")).await;
    assert!(quick.header("traceparent").unwrap().ends_with("-00"), "{quick:?}");
    let quick = world.ask_raw(pack(&steady("traced")), traced(unsampled)).await;
    assert_eq!(quick.header("traceparent"), Some(unsampled), "nothing of ours is there to hang on to");
    let failed = world.ask_raw(b"\xc1".to_vec(), traced(unsampled)).await;
    let slow = world.ask(&with(&steady("slow"), &[("model", "slow".into())])).await;
    let sampled = world.ask_raw(pack(&steady("sampled")), traced(&unsampled.replace("-00", "-01"))).await;
    for kept in [&failed, &slow, &sampled] {
        assert!(kept.header("traceparent").unwrap().ends_with("-01"), "what is recorded says so: {kept:?}");
    }

    let received = receiver.wait("the traces that are kept", |received| roots(received) == 3).await;
    let root = |kept: &str| {
        let found = received.spans.iter().find(|(_, span)| {
            is_root(span) && text(&span.attributes, "sferic.kept").as_deref() == Some(kept)
        });
        &found.unwrap_or_else(|| panic!("no frame is {kept}")).1
    };
    let failure = root("failed");
    assert_eq!(hex(&failure.parent_span_id), "b7ad6b7169203331");
    assert_eq!(text(&failure.attributes, "sferic.outcome").as_deref(), Some("invalid_frame"));
    assert_eq!(text(&failure.attributes, "error.type").as_deref(), Some("invalid_frame"));
    let status = failure.status.as_ref().unwrap();
    assert!(status.code == 2 && status.message == failed.body["message"].as_str().unwrap(), "{status:?}");
    assert_eq!(text(&failure.events[0].attributes, "exception.type").as_deref(), Some("invalid_frame"));
    assert_eq!(text(&root("slow").attributes, "sferic.model").as_deref(), Some("slow"));
    assert!(root("slow").parent_span_id.is_empty());
    root("sampled");
}

#[tokio::test]
async fn a_lost_collector_costs_no_frame_and_little_memory() {
    if !tools_are_there() {
        return;
    }
    let receiver = Receiver::grpc();
    let endpoint = receiver.endpoint();
    let settings = [
        ("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
        ("TELEMETRY__METRICS_INTERVAL", "100ms"),
        ("LIMITS__TIMEOUT", "30s"),
        ("CACHE__ENABLED", "false"),
        ("HTTP__LISTEN", "127.0.0.1:0"),
        ("SHUTDOWN__TIMEOUT", "2s"),
    ];
    let mut world = World::start(&["degrees"], &settings).await;
    let load = async |world: &World, frames: usize| {
        let ask =
            async |n: usize| assert!(world.ask(&steady(&n.to_string())).await.body["position"].is_object());
        stream::iter(0..frames).map(ask).buffer_unordered(32).collect::<Vec<_>>().await;
    };
    load(&world, 3000).await;
    receiver.wait("traces", |received| roots(received) > 0).await;
    let before = world.daemon.resident_bytes();
    drop(receiver);
    load(&world, 6000).await;
    let after = world.daemon.resident_bytes();
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (9000, 0, 0));
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + 10_000_000, "{before} bytes before, {after} after");
    }
    world.daemon.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(15), world.daemon.ended())
        .await
        .expect("it waits for the collector");
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_collector_gets_the_queued_spans() {
    if !tools_are_there() {
        return;
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["degrees"]);
    let mut settings = settings(&server, &models, "degrees");
    settings.http.listen = "127.0.0.1:0".into();
    settings.telemetry.otlp_endpoint = format!("http://{nobody}");
    let app = App::start(&settings).await.unwrap();
    app.ready().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    client.request("iq.frames.t", pack(&steady("early")).into()).await.unwrap();
    let address = app.http_address().unwrap();
    let taken = async {
        app.shared_state().ledger.idle().await;
        while !get(address, "/metrics", "").await.1.contains("sferic_queue_depth{queue=\"traces\"} 0") {}
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the spans stay in the queue");
    let receiver = Receiver::grpc_at(nobody);
    receiver.wait("the early frame's trace", |received| roots(received) == 1).await;
    app.shut_down().await;
}

#[tokio::test]
async fn a_collector_over_tls_is_verified_by_its_certificate() {
    if !tools_are_there() {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let receiver = Receiver::grpc_over_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    let server = PrivateServer::start(&[]).await.unwrap();
    let endpoint = format!("https://localhost:{}", receiver.address.port());
    // What the system has as its roots is one file here.
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), made.cert.pem()).unwrap();
    let settings = [("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())];
    let daemon = Daemon::start_in(server.url(), &settings, &[("SSL_CERT_FILE", roots.path())]).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    client.request("iq.frames.t.rx", pack(&steady("secret")).into()).await.unwrap();
    receiver.wait("its trace", |received| self::roots(received) == 1).await;
    drop(daemon);
}

#[tokio::test]
async fn a_publisher_in_python_and_the_daemon_are_one_trace() {
    if !tools_are_there() {
        return;
    }
    let Some(packages) = sferic_tools::places("opentelemetry-python").find(|path| path.is_dir()) else {
        return sferic_tools::skip(
            "OpenTelemetry's Python client is not there; run ops/setup opentelemetry-python",
        );
    };
    let receiver = Receiver::http();
    let endpoint = receiver.endpoint();
    let settings = [("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()), ("TELEMETRY__OTLP_PROTOCOL", "http")];
    let world = World::start(&["degrees"], &settings).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/publisher.py");
    let mut python = Command::new("python3");
    python.args([script, world.server.url(), &endpoint]).env("PYTHONPATH", packages);
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    python.stdin.take().unwrap().write_all(&pack(&steady("python"))).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, python.wait_with_output())
        .await
        .expect("the publisher does not end")
        .unwrap();
    assert!(ended.status.success(), "see its own words above");
    let headers: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();

    let received = receiver.wait("both services' spans", |received| received.spans.len() == 9).await;
    let of = |service: &str, name: &str| {
        let found = received.spans.iter().find(|(from, span)| from == service && span.name.starts_with(name));
        &found.unwrap_or_else(|| panic!("no span {name} of {service}")).1
    };
    let (record, root, publish) =
        (of("publisher", "record"), of("sferic", "process "), of("sferic", "publish "));
    assert_eq!((&root.trace_id, &root.parent_span_id), (&record.trace_id, &record.span_id));
    assert_eq!(headers["traceparent"], format!("00-{}-{}-01", hex(&record.trace_id), hex(&publish.span_id)));
    let apart = received
        .spans
        .iter()
        .filter(|(_, span)| span.trace_id != record.trace_id)
        .map(|(_, span)| span.name.as_str());
    assert_eq!(apart.collect::<Vec<_>>(), ["run"], "all but the run is one trace");
}
