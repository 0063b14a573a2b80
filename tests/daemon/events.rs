//! The events of the operator's page: `GET /api/v1/events`, and the page's own files.

use std::net::SocketAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::http_client::*;
use crate::support::*;

const EVENTS: &str = "/api/v1/events";

/// An event.
#[derive(Debug)]
struct Event {
    kind: String,
    id: Option<String>,
    data: Value,
}

/// Somebody who reads events.
struct Viewer {
    stream: TcpStream,
    text: String,
}

impl Viewer {
    async fn start(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So that a viewer who does not read is soon behind.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let mut head = format!("GET {EVENTS}?{query} HTTP/1.1\r\nHost: {address}\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut viewer = Self { stream, text: String::new() };
        // It is seen once this has come.
        viewer.read_to("retry: 1000\n\n").await;
        viewer
    }

    async fn read_to(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut part = [0; 64 << 10];
            let read = timeout(PATIENCE, self.stream.read(&mut part)).await.expect("no event").unwrap();
            assert!(read > 0, "the stream has ended: {}", self.text);
            self.text += std::str::from_utf8(&part[..read]).unwrap();
        }
    }

    /// The next event of a kind. HTTP's chunks begin between events.
    async fn next(&mut self, kind: &str) -> Event {
        loop {
            let text = self.read_to("\n\n").await;
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            let (Some(of), Some(data)) = (value("event: "), value("data: ")) else { continue };
            if of == kind {
                return Event { kind: of, id: value("id: "), data: serde_json::from_str(&data).unwrap() };
            }
        }
    }
}

async fn publish(served: &Served, source: &str, frame: &rmpv::Value) {
    served.client.publish(format!("iq.frames.{source}"), pack(frame).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_seen_with_their_place_on_the_map() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut viewer = Viewer::start(served.address, "", &[]).await;
    let mut south = Viewer::start(served.address, "types=outcome&source=south.*", &[]).await;
    let place = with(&steady("a"), &[("geolocation", point(7.5, 45.5))]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", trace);
    let subject = "iq.frames.north.rx1";
    let reply = served.client.request_with_headers(subject, headers, pack(&place).into()).await.unwrap();
    let outcome = unpack(&reply.payload);
    let Event { kind, id, data } = viewer.next("outcome").await;
    assert_eq!((kind.as_str(), id.is_some(), &data["source"]), ("outcome", true, &json!("north.rx1")));
    for (key, value) in outcome.as_object().unwrap() {
        assert_eq!(&data[key], value, "{key}");
    }
    let geometries = data["geojson"]["geometry"]["geometries"].as_array().unwrap();
    let position = &outcome["position"];
    assert_eq!(geometries[0]["coordinates"], json!([position["longitude"], position["latitude"]]));
    assert_eq!(geometries[1]["coordinates"][0].as_array().unwrap().len(), 65);
    assert_eq!((&data["geojson"]["id"], &data["geojson"]["type"]), (&json!("a"), &json!("Feature")));
    assert_eq!(data["geolocation"]["coordinates"], json!([7.5, 45.5]));
    assert_eq!(data["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    // A failure has no place.
    publish(&served, "south.rx1", &frame("b", &[])).await;
    let data = south.next("outcome").await.data;
    assert_eq!((&data["frame_id"], &data["code"]), (&json!("b"), &json!("invalid_frame")));
    assert!(data.get("geojson").is_none());
    let health = viewer.next("health").await.data;
    assert_eq!((&health["status"], &health["ledger"]["lost"]), (&json!("ok"), &json!(0)));
    assert!(health["circuits"].is_array() && health["latency_ms"]["p99"].is_number(), "{health}");
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_comes_first_and_models_when_they_change() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut viewer = Viewer::start(served.address, "types=models,health", &[]).await;
    let models = viewer.next("models").await.data;
    assert_eq!(models["models"][0]["name"], "degrees");
    assert_eq!(models["models"][0]["versions"][0]["state"], "ready");
    // Somebody who comes later has it at once, and it is not said again.
    let mut later = Viewer::start(served.address, "types=models,health", &[]).await;
    assert_eq!(later.next("models").await.data, models);
    later.next("health").await;
    viewer.next("health").await;
    let truth = json!({"frame_id": "a", "position": {"latitude": 9.0, "longitude": 36.0}});
    let reply = served.client.request("iq.frames.s", pack(&steady("a")).into()).await.unwrap();
    assert_eq!(unpack(&reply.payload)["kind"], "localization");
    // The tally begins with the first prediction, and knows its truth once the prediction is kept.
    loop {
        served.client.publish("iq.truth.s", truth.to_string().into()).await.unwrap();
        if viewer.next("models").await.data["models"][0]["versions"][0]["truths"].as_u64() > Some(0) {
            break;
        }
        viewer.next("health").await;
    }
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_the_last_event_that_was_seen() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut viewer = Viewer::start(served.address, "types=outcome,dropped", &[]).await;
    for id in ["a", "b", "c"] {
        publish(&served, "s", &steady(id)).await;
    }
    let seen = viewer.next("outcome").await;
    assert_eq!(seen.data["frame_id"], "a");
    viewer.next("outcome").await;
    let last = viewer.next("outcome").await.id.unwrap();
    drop(viewer);
    served.client.request("iq.frames.s", pack(&steady("d")).into()).await.unwrap();
    let resume = [("Last-Event-ID", seen.id.as_deref().unwrap())];
    let mut again = Viewer::start(served.address, "types=outcome,dropped", &resume).await;
    for id in ["b", "c", "d"] {
        assert_eq!(again.next("outcome").await.data["frame_id"], id);
    }
    // Without an id, and with one of an earlier daemon, it begins now.
    for headers in [&[][..], &[("Last-Event-ID", "0-1")], &[("Last-Event-ID", "what")]] {
        let mut fresh = Viewer::start(served.address, "types=outcome,dropped", headers).await;
        publish(&served, "s", &steady("e")).await;
        assert_eq!(fresh.next("outcome").await.data["frame_id"], "e", "{headers:?}");
    }
    // What is not kept any more is counted.
    for n in 0..1100 {
        // One after the other, so that they end in their order.
        served.client.request("iq.frames.s", pack(&steady(&n.to_string())).into()).await.unwrap();
    }
    while again.next("outcome").await.data["frame_id"] != "1099" {}
    let resume = [("Last-Event-ID", last.as_str())];
    let mut late = Viewer::start(served.address, "types=outcome,dropped", &resume).await;
    let dropped = late.next("dropped").await.data["count"].as_u64().unwrap();
    // The first, three times the fifth, and the others, less those in the ring.
    assert_eq!(dropped, 1 + 3 + 1100 - 1024);
    let first = late.next("outcome").await.data["frame_id"].clone();
    assert_eq!(first, "76");
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_does_not_read_loses_the_oldest_and_learns_how_many() {
    if !tools_are_there() {
        return;
    }
    const FRAMES: u64 = 3000;
    let served = Served::start(&["degrees"], |settings| settings.limits.in_flight_frames = 4096).await;
    let mut stalled = Viewer::start(served.address, "", &[]).await;
    let mut reading = Viewer::start(served.address, "types=outcome", &[]).await;
    for n in 0..FRAMES {
        publish(&served, "s", &steady(&n.to_string())).await;
        // No faster than they end, so that none is dropped before it comes to a ring.
        if n % 100 == 99 {
            while reading.next("outcome").await.data["frame_id"] != n.to_string().as_str() {}
        }
    }
    let (mut seen, mut dropped) = (0, 0);
    let mut last = String::new();
    while last != (FRAMES - 1).to_string() {
        let text = stalled.read_to("\n\n").await;
        let data = text.lines().find_map(|line| line.strip_prefix("data: "));
        let Some(data) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else { continue };
        if text.contains("event: dropped\n") {
            dropped += data["count"].as_u64().unwrap();
        } else if text.contains("event: outcome\n") {
            seen += 1;
            last = data["frame_id"].as_str().unwrap().to_owned();
        }
    }
    // Health events, too, may be among what was dropped.
    assert!(dropped > 0 && (seen + dropped).abs_diff(FRAMES) < 60, "{seen} seen, {dropped} dropped");
    drop((stalled, reading));
    assert_eq!(served.end().await, [FRAMES, FRAMES, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spectra_come_while_somebody_looks_at_their_source() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut viewer = Viewer::start(served.address, "types=waterfall&source=north.*", &[]).await;
    // A tone of a tenth of full scale at an eighth of the rate below the centre.
    let tone: Vec<[f32; 2]> = (0..4096)
        .map(|n| {
            let angle = -std::f32::consts::TAU * (n % 8) as f32 / 8.0;
            [0.1 * angle.cos(), 0.1 * angle.sin()]
        })
        .collect();
    let frame = with(
        &frame("tone", &tone),
        &[
            ("sample_rate", 1e6.into()),
            ("frequency", 100e6.into()),
            ("datetime", "2026-01-01T00:00:01Z".into()),
        ],
    );
    publish(&served, "south.rx1", &frame).await;
    publish(&served, "north.rx1", &frame).await;
    let row = viewer.next("waterfall").await.data;
    assert_eq!((&row["source"], &row["frame_id"]), (&json!("north.rx1"), &json!("tone")));
    let number = |key: &str| row[key].as_f64().unwrap();
    assert_eq!((number("t0"), number("dt")), (1_767_225_601.0, 4096e-6));
    assert_eq!((number("f0"), number("df")), (99.5e6, 1e6 / 1024.0));
    let levels = BASE64_STANDARD.decode(row["rows"].as_str().unwrap()).unwrap();
    assert_eq!(levels.len(), 1024);
    let peak = levels.iter().enumerate().max_by_key(|(_, level)| **level).unwrap();
    assert_eq!(number("f0") + number("df") * peak.0 as f64, 100e6 - 125e3);
    assert!((number("floor") + number("step") * f64::from(*peak.1) + 20.0).abs() <= 0.25, "{row}");
    // Without an id of its own it is known by that of its outcome.
    let nameless = json!({"iq_data": tone, "sample_rate": 1e6});
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    // Of another source: each has a row every 40 ms at most.
    let subject = "iq.frames.north.rx2";
    let asked = served.client.request_with_headers(subject, headers, nameless.to_string().into());
    let outcome: Value = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
    let row = viewer.next("waterfall").await.data;
    assert!(outcome["frame_id"].is_string() && row["frame_id"] == outcome["frame_id"], "{row} {outcome}");
    drop(viewer);
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_mean_nothing_and_too_many_viewers_are_refused() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    for (query, parts) in [
        ("types=outcomes", &["\"outcomes\"", "outcome, waterfall"][..]),
        ("source=a..b", &["\"a..b\""]),
        ("waterfall=a..b", &["`waterfall`", "\"a..b\""]),
        ("kinds=outcome", &["kinds", "types"]),
    ] {
        let answer = call(served.address, "GET", &format!("{EVENTS}?{query}"), &[], b"").await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_request"));
        for part in parts {
            assert!(String::from_utf8_lossy(&answer.body).replace("\\\"", "\"").contains(part), "{query}");
        }
    }
    let mut viewers = Vec::new();
    for _ in 0..32 {
        viewers.push(Viewer::start(served.address, "types=outcome", &[]).await);
    }
    let answer = call(served.address, "GET", EVENTS, &[], b"").await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "too_many_viewers"));
    // One goes, another may come.
    viewers.pop();
    let entering = async {
        loop {
            publish(&served, "s", &steady("a")).await;
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            let head = format!("GET {EVENTS} HTTP/1.1\r\nHost: {}\r\n\r\n", served.address);
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut line = [0; 12];
            stream.read_exact(&mut line).await.unwrap();
            if line.ends_with(b"200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, entering).await.expect("the place stays taken");
    // Streams end with the daemon, at once.
    let stopping = std::time::Instant::now();
    served.end().await;
    assert!(stopping.elapsed() < Duration::from_secs(2), "{:?}", stopping.elapsed());
    let mut rest = Vec::new();
    viewers[0].stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_only_the_pages_own_files_are_open_and_actions_are_there() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| settings.http.token = "secret".to_owned()).await;
    let page = call(served.address, "GET", "/", &[], b"").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
    for directive in policy.split(';') {
        for source in directive.split_whitespace().skip(1) {
            assert!(["'self'", "'none'", "data:", "blob:"].contains(&source), "{policy}");
        }
    }
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.contains("data-token=\"needed\"") && !text.contains('%'), "{text}");
    let named = text.split('"').filter(|part| part.starts_with("/page/"));
    let mut count = 0;
    for path in named {
        let file = call(served.address, "GET", path, &[], b"").await;
        assert_eq!(file.status, 200, "{path}");
        let tag = file.header("etag").unwrap().to_owned();
        let again = call(served.address, "GET", path, &[("If-None-Match", &tag)], b"").await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        count += 1;
    }
    assert!(count >= 6);
    let token = [("Authorization", "Bearer secret")];
    for path in [EVENTS, "/page/nothing.js", "/metrics"] {
        assert_eq!(call(served.address, "GET", path, &[], b"").await.status, 401, "{path}");
    }
    assert_eq!(call(served.address, "GET", "/page/nothing.js", &token, b"").await.status, 404);
    let breaker = "/api/v1/control/breaker";
    assert_eq!(call(served.address, "POST", breaker, &[], b"{}").await.status, 401);
    let body = br#"{"model": "degrees", "force": "open"}"#;
    let opened = call(served.address, "POST", breaker, &token, body).await;
    assert_eq!(opened.json()["circuits"][0]["state"], "open");
    let unknown = call(served.address, "POST", "/api/v1/control/reboot", &token, b"").await;
    assert_eq!(unknown.error(), "not_found");
    assert!(unknown.json()["message"].as_str().unwrap().contains("breaker, cache, sources, models"));
    let wrong = call(served.address, "POST", breaker, &token, br#"{"model": "other"}"#).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (404, "model_not_found"));
    drop(served);
    let open = Served::start(&["degrees"], |_| ()).await;
    let refused = call(open.address, "POST", breaker, &[], b"{}").await;
    assert_eq!((refused.status, refused.error().as_str()), (403, "forbidden"));
    assert!(refused.json()["message"].as_str().unwrap().contains("http.token is empty"));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn streets_are_served_in_parts_and_a_file_that_is_no_map_is_refused_at_start() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let map = folder.path().join("town.pmtiles");
    std::fs::write(&map, [&b"PMTiles\x03"[..], &[7; 1000]].concat()).unwrap();
    let served = Served::start(&["degrees"], |settings| settings.page.basemap = map.clone()).await;
    let path = "/basemap.pmtiles";
    let part = call(served.address, "GET", path, &[("Range", "bytes=5-8")], b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"es\x03\x07"[..]));
    assert_eq!(part.header("content-range"), Some("bytes 5-8/1008"));
    assert_eq!(call(served.address, "GET", path, &[("Range", "bytes=2000-")], b"").await.status, 416);
    let page = call(served.address, "GET", "/", &[], b"").await;
    assert!(String::from_utf8_lossy(&page.body).contains("data-basemap=\"/basemap.pmtiles\""));
    drop(served);
    for (content, says) in [(Some("no map at all"), "must be a PMTiles file"), (None, "No such file")] {
        match content {
            Some(content) => std::fs::write(&map, content).unwrap(),
            None => std::fs::remove_file(&map).unwrap(),
        }
        let mut command = sferic(&["run"]);
        command.env("SFERIC__PAGE__BASEMAP", &map).env("SFERIC__HTTP__LISTEN", "127.0.0.1:0");
        let (code, _, talk) = output(&mut command).await;
        assert!(code == 1 && talk.contains("`page.basemap` is") && talk.contains(says), "{talk}");
    }
}
