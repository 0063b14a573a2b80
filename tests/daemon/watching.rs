//! `sferic watch`: hostile messages, and refusals of the server.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sferic::nats::PrivateServer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::publishing::{USERS, server_with, sign_in};
use crate::support::*;
use crate::wire::Wire;

/// `sferic watch` that listens; its end by `--count`.
struct Watch {
    process: Child,
    talk: Lines<BufReader<ChildStderr>>,
    wire: Wire,
}

impl Watch {
    async fn start(server: &PrivateServer, arguments: &[&str]) -> Self {
        let mut command = sferic(&["watch", "--url", server.url()]);
        let mut process =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let talk = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut watch = Self { process, talk, wire: Wire::connect(server.url()).await };
        watch.says("listening to").await;
        watch
    }

    /// The next message that contains this.
    async fn says(&mut self, part: &str) {
        let line = tokio::time::timeout(PATIENCE, self.talk.next_line())
            .await
            .expect("it says nothing")
            .unwrap()
            .unwrap_or_default();
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }

    async fn send(&mut self, subject: &str, header: Option<&[u8]>, message: &serde_json::Value) {
        let payload = rmp_serde::to_vec_named(message).unwrap();
        self.wire.send(&Wire::message(subject.as_bytes(), b"", header, &payload)).await;
        self.wire.ping().await;
    }

    /// What it printed, once it has ended.
    async fn printed(mut self) -> String {
        let mut text = String::new();
        let reading = async {
            self.process.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
            assert!(self.process.wait().await.unwrap().success());
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it does not end");
        text
    }
}

fn classification(source: &str, label: &str) -> serde_json::Value {
    json!({
        "frame_id": "f", "source": source, "kind": "classification",
        "labels": [{"label": label, "score": 0.5}],
        "model": label, "model_version": "1", "stages_ms": {label: 1.0}, "inference_time_ms": 2.0,
    })
}

#[tokio::test]
async fn text_of_senders_stays_within_its_line() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let evil = "x\u{1b}]0;title\u{7}\u{7f}\u{9b}2J\u{2028}\u{2029}\u{202e}\r\nnorth #1  all is well";
    for arguments in [&[][..], &["--json"], &["--stages"], &["--stages", "--json"], &["--geojson"]] {
        let count = if arguments.contains(&"--stages") { "1" } else { "2" };
        let mut watch = Watch::start(&server, &[arguments, &["--count", count]].concat()).await;
        let mut fix = classification(evil, evil);
        fix["position"] = json!({"latitude": 1.0, "longitude": 2.0});
        let position = &fix["position"];
        let failure =
            json!({"frame_id": evil, "source": "s", "code": evil, "message": evil, "position": position});
        watch.send("iq.predictions.s", None, &fix).await;
        watch.send("iq.failures.s", None, &failure).await;
        let printed = watch.printed().await;
        assert_eq!(printed.lines().count().to_string(), count, "{arguments:?}: {printed}");
        let is_harmless = |c: char| c == '\n' || !(c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(c));
        assert!(
            printed.chars().all(is_harmless) && printed.contains(r"\u007f\u009b2J\u2028"),
            "{arguments:?}: {printed:?}"
        );
        if arguments == ["--json"] {
            let outcome: serde_json::Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
            assert_eq!(outcome, fix, "escaped, it is the same");
        }
    }
}

#[tokio::test]
async fn outcomes_are_lines_of_csv_and_fixes_are_events() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let mut fix = classification("north.rx2", "am");
    fix["position"] = json!({"latitude": 1.5, "longitude": -2.5});
    fix["uncertainty"] = json!({"sigma_x": 10.0, "sigma_y": 10.0, "theta": 0.0});
    for (argument, count) in [("--csv", "2"), ("--cot", "1")] {
        let mut watch = Watch::start(&server, &[argument, "--count", count]).await;
        watch.send("iq.predictions.s", None, &classification("a,b", "am")).await;
        watch.send("iq.predictions.s", None, &fix).await;
        let printed = watch.printed().await;
        let lines: Vec<&str> = printed.lines().collect();
        if argument == "--csv" {
            assert_eq!(lines.len(), 3, "{printed}");
            assert!(
                lines[0].starts_with("timestamp,source,seq,") && lines[1].contains("\"a,b\""),
                "{printed}"
            );
            assert!(lines[2].contains("north.rx2") && lines[2].contains("1.5,-2.5,10.0,10.0"), "{printed}");
        } else {
            assert_eq!(lines.len(), 1, "{printed}");
            assert!(
                lines[0].contains("lat=\"1.5000000\" lon=\"-2.5000000\"") && lines[0].contains("ce=\"24.5\""),
                "{printed}"
            );
        }
    }
}

#[tokio::test]
async fn messages_that_are_no_outcome_are_reported_and_not_printed() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let mut watch = Watch::start(&server, &["--subject", "iq.>", "--count", "1"]).await;
    watch.send("iq.frames.s", None, &json!({"frame_id": "f", "tensors": {}, "model": "m"})).await;
    watch.says("iq.frames.s: not an outcome: has neither `kind` nor `code`").await;
    watch.send("iq.predictions.s", None, &classification("s", "am")).await;
    assert_eq!(watch.printed().await, "s f  am 0.500  am@1  2.0 ms\n");
}

#[tokio::test]
async fn a_message_that_ends_the_client_does_not_end_the_watching() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let mut watch = Watch::start(&server, &["--count", "2"]).await;
    for n in 0..2 {
        watch.send("iq.predictions.s", Some(b"NATS/1.0\r\nNote: one\rtwo\r\n\r\n"), &json!({})).await;
        watch.says("outcomes of the time between are missing").await;
        // The subscription of the new client may be on its way still.
        tokio::time::sleep(Duration::from_millis(500)).await;
        watch.send("iq.predictions.s", None, &classification("s", ["am", "fm"][n])).await;
    }
    assert_eq!(watch.printed().await, "s f  am 0.500  am@1  2.0 ms\ns f  fm 0.500  fm@1  2.0 ms\n");
}

#[tokio::test]
async fn a_refused_subject_ends_watch_at_once() {
    if !tools_are_there() {
        return;
    }
    let (server, _folder) = server_with(USERS).await;
    for arguments in [&[][..], &["--subject", "iq.predictions.>"]] {
        let mut command = sferic(&["watch", "--url", &sign_in(server.url(), "deaf:pw")]);
        let ended = tokio::time::timeout(Duration::from_secs(5), output(command.args(arguments)));
        let (code, out, err) = ended.await.expect("it goes on waiting");
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(
            err.contains(
                r#"refuses the subscription: Permissions Violation for Subscription to "iq.predictions.>""#
            ),
            "{err}"
        );
    }
}
