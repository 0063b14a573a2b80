//! What `/metrics`, `/health` and `/ready` say of a daemon under load.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use sferic::app::App;
use sferic::nats::PrivateServer;
use sferic_telemetry::metrics::catalogue;

use crate::model_service::add;
use crate::support::*;

/// A scrape: the value of every series, by its name with labels.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Prometheus's own opinion of a page; `None` where its tool is not there.
fn promtool(page: &str) -> Option<(bool, String)> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .inspect_err(|error| eprintln!("not checked by promtool: {error}"))
        .ok()?;
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_holds_every_metric_and_the_outcome_law() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    // Copies: a version is added later.
    let models = tempfile::TempDir::new().unwrap();
    add(models.path(), "degrees/1", "degrees/1");
    add(models.path(), "slow/1", "slow/1");
    let mut settings = settings(&server, &models, "degrees");
    settings.http.listen = "127.0.0.1:0".into();
    settings.limits.per_source_share = 2.0 / 256.0;
    settings.telemetry.max_sources = 1;
    let records = tempfile::TempDir::new().unwrap();
    settings.record.folder = records.path().to_owned();
    // Nobody is there; the metrics of the export are.
    settings.telemetry.otlp_endpoint = "http://127.0.0.1:9".into();
    let app = App::start(&settings).await.unwrap();
    app.ready().await;
    let address = app.http_address().unwrap();
    let client = client(server.url()).await;
    let ask = async |source: &str, payload: Vec<u8>| {
        Reply::of(client.request(format!("iq.frames.{source}"), payload.into()).await.unwrap())
    };
    for n in 0..5 {
        let reply = ask("m", pack(&steady(&n.to_string()))).await;
        assert_eq!(reply.body["_cache_hit"], n > 0, "{}", reply.body);
    }
    assert_eq!(ask("m", b"\xc1".to_vec()).await.body["code"], "invalid_frame");
    // Two frames of a source are its share, one being not enough for the asker above, who has the reply
    // before the frame's place is free; the third of three at once is shed.
    let unhurried =
        [("model", "slow".into()), ("timeout_ms", 60_000.into()), ("cache_enabled", false.into())];
    let slow = pack(&with(&steady("slow"), &unhurried));
    for source in ["a", "b"] {
        let (first, second, third) =
            tokio::join!(ask(source, slow.clone()), ask(source, slow.clone()), ask(source, slow.clone()));
        let codes = [first, second, third].map(|reply| reply.body["code"].as_str().map(str::to_owned));
        assert_eq!(codes.iter().flatten().collect::<Vec<_>>(), ["overloaded"], "{codes:?}");
    }

    // A reply is there before its frame's account is closed, and that before the session has let go of the
    // frame.
    let ended = async {
        app.shared_state().ledger.idle().await;
        while app.shared_state().admission.in_use() != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("frames stay in flight");
    // The scrape itself is seen by the next one.
    get(address, "/health", "").await;
    let (status, page) = get(address, "/metrics", "").await;
    assert_eq!(status, 200);
    if let Some((passed, said)) = promtool(&page) {
        assert!(passed && said.is_empty(), "promtool: {said}\n{page}");
    }
    let series = series(&page);
    let count = |name: &str| *series.get(name).unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    assert_eq!(count(r#"sferic_frames_total{outcome="prediction"}"#), 9.0);
    assert_eq!(count(r#"sferic_frames_total{outcome="invalid_frame"}"#), 1.0);
    assert_eq!(count(r#"sferic_frames_total{outcome="overloaded"}"#), 2.0);
    let ended: f64 = series
        .iter()
        .filter(|(name, _)| name.starts_with("sferic_frames_total{"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(count("sferic_frames_received_total"), ended, "nothing is in flight");
    assert_eq!(count(r#"sferic_frames_shed_total{reason="source_share",source="a"}"#), 1.0);
    assert_eq!(
        count(r#"sferic_frames_shed_total{reason="source_share",source="other"}"#),
        1.0,
        "one source has its own label"
    );
    assert_eq!(count(r#"sferic_model_frames_total{model="degrees",version="1",outcome="prediction"}"#), 5.0);
    assert_eq!(count(r#"sferic_model_active{model="degrees",version="1"}"#), 1.0);
    assert_eq!(count(r#"sferic_http_duration_seconds_count{route="/health",status="200"}"#), 1.0);
    assert_eq!(count(r#"sferic_stage_duration_seconds_count{stage="decode"}"#), 9.0);
    assert_eq!(count(r#"sferic_stage_duration_seconds_count{stage="publish"}"#), 12.0);
    assert_eq!(count(r#"sferic_frame_duration_seconds_count{outcome="failure"}"#), 3.0);
    assert_eq!(
        (
            count(r#"sferic_cache_lookups_total{result="hit"}"#),
            count(r#"sferic_cache_lookups_total{result="miss"}"#)
        ),
        (4.0, 1.0)
    );
    assert!(
        count(r#"sferic_frame_duration_seconds_sum{outcome="prediction"}"#) > 1.0,
        "the slow model takes two seconds"
    );
    assert_eq!(count(r#"sferic_breaker_state{model="slow",version="1",state="closed"}"#), 1.0);
    assert_eq!(count("sferic_in_flight_frames"), 0.0);
    assert_eq!((count("sferic_nats_connected"), count(r#"sferic_status{status="ok"}"#)), (1.0, 1.0));

    // A version that a split tries and that sees copies, and a truth.
    add(models.path(), "degrees/2", "degrees/1");
    for (endpoint, request) in [
        ("load", json!({"model": "degrees", "version": 2})),
        ("split", json!({"model": "degrees", "weights": {"1": 9, "2": 1}})),
        ("shadow", json!({"model": "degrees", "version": 2})),
    ] {
        let request = request.to_string().into();
        let answer = client.request(format!("sferic.models.{endpoint}"), request).await.unwrap();
        let error = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
        assert_eq!(error, None, "{endpoint}");
    }
    let truth = json!({"frame_id": "0", "position": {"latitude": 45, "longitude": 7}});
    client.publish("iq.truth.m", truth.to_string().into()).await.unwrap();
    let mut page = String::new();
    let truths = async {
        while !page.contains(r#"sferic_model_truths_total{model="degrees",version="1"} 1"#) {
            page = get(address, "/metrics", "").await.1;
        }
    };
    tokio::time::timeout(PATIENCE, truths).await.expect("the truth does not come");

    // Nothing was lost, and there are no streams; every other metric has a value.
    let has_value = |name: &str| name != "sferic.frames.lost" && !name.starts_with("sferic.stream.");
    for metric in catalogue::ALL.iter().filter(|metric| has_value(metric.name)) {
        let linux_only = ["sferic.process.cpu.time", "process.resident_memory"].contains(&metric.name)
            && !cfg!(target_os = "linux");
        assert!(
            linux_only || page.contains(&format!("# TYPE {} ", metric.prometheus_name())),
            "{} is not in\n{page}",
            metric.name
        );
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_follow_the_daemon_and_a_used_port_is_reported() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["degrees"]);
    let mut settings = settings(&server, &models, "degrees");
    settings.http.listen = "127.0.0.1:0".into();
    let app = App::start(&settings).await.unwrap();
    app.ready().await;
    let address = app.http_address().unwrap();
    assert_eq!(get(address, "/health", "").await, (200, r#"{"status":"alive"}"#.into()));
    let (status, ready) = get(address, "/ready", "").await;
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(
        (status, &ready["status"], &ready["models"][0]["state"]),
        (200, &"ok".into(), &"ready".into())
    );
    assert_eq!(get(address, "/nothing", "").await.0, 404);
    let (status, page) = get(address, "/metrics", "application/openmetrics-text; version=1.0.0").await;
    assert!(status == 200 && page.ends_with("# EOF\n"), "{page}");

    settings.http.listen = address.to_string();
    let error = App::start(&settings).await.err().expect("it shares a port");
    let error = format!("{error:#}");
    assert!(error.contains("http.listen") && error.contains(&address.to_string()), "{error}");
    app.shut_down().await;
}
