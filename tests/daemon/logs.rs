//! What the daemon writes to standard error about frames.

use async_nats::HeaderMap;
use sferic::nats::PrivateServer;

use crate::support::*;

#[tokio::test]
async fn a_repeated_fault_is_logged_once_a_second_with_its_trace_and_without_samples() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["poison"]);
    let settings = [
        ("MODELS__REPOSITORY", models.path().to_str().unwrap()),
        ("MODELS__DEFAULT", "poison"),
        ("BREAKER__FAILURE_THRESHOLD", "1000"),
        ("TELEMETRY__LOG_FORMAT", "json"),
    ];
    let mut daemon = Daemon::start_piped(server.url(), &settings).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let poison = pack(&frame("bad", &[[-0.95, 0.1]; 16]));
    for n in 0..50 {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("00-{:032x}-b7ad6b7169203331-01", 0xa0 + n));
        let reply = client.request_with_headers("iq.frames.l", headers, poison.clone().into()).await.unwrap();
        assert_eq!(Reply::of(reply).body["code"], "inference_failed");
    }
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{line}")));
    let logged: Vec<_> = lines.filter(|line| line["fields"]["message"] == "frame failed").collect();
    assert!((1..25).contains(&logged.len()), "{} lines:\n{log}", logged.len());
    let first = &logged[0]["fields"];
    for (key, expected) in
        [("trace_id", format!("{:032x}", 0xa0)), ("frame_id", "bad".into()), ("source", "l".into())]
    {
        assert_eq!(first[key], expected, "{first}");
    }
    assert_eq!((&logged[0]["level"], &first["code"]), (&"WARN".into(), &"inference_failed".into()));
    let suppressed: u64 = logged.iter().map(|line| line["fields"]["suppressed"].as_u64().unwrap()).sum();
    assert!(logged.len() as u64 + suppressed <= 50);
    assert!(!log.contains("0.95"), "a sample is in the log:\n{log}");
}

#[tokio::test]
async fn text_of_senders_stays_within_its_log_line() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["degrees"]);
    let source = "x\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{7}";
    for format in ["text", "json"] {
        let settings = [
            ("MODELS__REPOSITORY", models.path().to_str().unwrap()),
            ("MODELS__DEFAULT", "degrees"),
            ("TELEMETRY__LOG", "debug"),
            ("TELEMETRY__LOG_FORMAT", format),
        ];
        let mut daemon = Daemon::start_piped(server.url(), &settings).await;
        let client = async_nats::connect(server.url()).await.unwrap();
        let reply = client.request(format!("iq.frames.{source}"), vec![0xc1].into()).await.unwrap();
        assert_eq!(Reply::of(reply).body["source"], source);
        daemon.signal("TERM").await;
        let log = daemon.stderr_to_its_end().await;
        let line = log.lines().find(|line| line.contains("frame failed")).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("2J"), "the source is in it: {line}");
        assert_eq!(log.chars().find(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}')), None, "{log:?}");
        if format == "json" {
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["fields"]["source"], source);
        }
    }
}
