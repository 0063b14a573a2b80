//! `sferic publish` without a subscriber, with refusals of the server, and with other responders.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::StreamExt;
use sferic::nats::PrivateServer;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::*;

/// Users with restricted permissions; without a user name it is `all`.
pub const USERS: &str = r#"
no_auth_user: all
authorization {
  users = [
    {user: all, password: pw}
    {user: "odd:name", password: "p@ss/w%rd"}
    {user: mute, password: pw, permissions: {publish: {deny: ["iq.frames.>"]}, subscribe: ">"}}
    {user: deaf, password: pw, permissions: {publish: ">", subscribe: {allow: ["_INBOX.>", "iq.failures.>"]}}}
    {user: plain, password: pw,
     permissions: {publish: {allow: ["iq.frames.>"]}, subscribe: {allow: ["iq.truth"]}}}
    {user: own, password: pw, permissions: {publish: ">", subscribe: {allow: ["answers.own.>"]}}}
  ]
}
"#;

/// A server with such a configuration.
pub async fn server_with(configuration: &str) -> (PrivateServer, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("server.conf");
    std::fs::write(&file, configuration).unwrap();
    (PrivateServer::start(&["-c", file.to_str().unwrap()]).await.unwrap(), folder)
}

/// The address with what signs in as a user.
pub fn sign_in(url: &str, user: &str) -> String {
    url.replacen("://", &format!("://{user}@"), 1)
}

/// A recording of so many frames of 16 samples.
fn recording(folder: &TempDir, frames: usize) -> PathBuf {
    let path = folder.path().join("ramp.cu8");
    std::fs::write(&path, (0..frames * 32).map(|n| (n * 7) as u8).collect::<Vec<_>>()).unwrap();
    path
}

fn publish(url: &str, arguments: &[&str]) -> (Command, TempDir) {
    let folder = TempDir::new().unwrap();
    let mut command = sferic(&[
        "publish",
        "--url",
        url,
        "--source",
        "t.rx",
        "--frame-samples",
        "16",
        "--sample-rate",
        "48000",
    ]);
    command.args(arguments).arg(recording(&folder, 3));
    (command, folder)
}

pub async fn published(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let (mut command, _folder) = publish(url, arguments);
    output(&mut command).await
}

#[tokio::test]
async fn frames_wait_for_a_subscriber_and_arrive_once() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let (mut command, _folder) = publish(server.url(), &["--rate", "20"]);
    let publishing = tokio::spawn(async move { output(&mut command).await });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!publishing.is_finished(), "nobody listens yet");
    let mut frames = client.subscribe("iq.frames.>").await.unwrap();
    let (code, _, err) = publishing.await.unwrap();
    assert_eq!(code, 0, "{err}");
    assert_eq!(err.matches("no daemon listens on iq.frames.t.rx yet; waiting up to 30s").count(), 1, "{err}");
    assert!(!err.contains("late"), "the schedule begins when somebody listens: {err}");
    client.flush().await.unwrap();
    for seq in 0..3 {
        let frame = tokio::time::timeout(PATIENCE, frames.next()).await.unwrap().unwrap();
        let frame: rmpv::Value = rmp_serde::from_slice(&frame.payload).unwrap();
        assert_eq!(frame["seq"], seq.into());
    }
    let more = tokio::time::timeout(Duration::from_millis(300), frames.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn without_a_subscriber_it_fails_and_says_what_to_start() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    for (arguments, at_least) in [(&["--patience", "0"][..], 0), (&["--patience", "700ms", "--wait"], 700)] {
        let began = Instant::now();
        let (code, out, err) = published(server.url(), arguments).await;
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains("no daemon listens on iq.frames.t.rx: start one with `sferic run`"), "{err}");
        assert!(!err.contains("sent in"), "nothing was sent: {err}");
        assert!(
            began.elapsed() >= Duration::from_millis(at_least) && began.elapsed() < Duration::from_secs(20)
        );
    }
}

#[tokio::test]
async fn server_daemon_and_publisher_may_be_started_at_once() {
    if !tools_are_there() {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let url = format!("nats://127.0.0.1:{port}");
    let program = sferic_tools::places("bin/nats-server").find(|path| path.is_file()).unwrap();
    let _server = Command::new(program)
        .args(["--addr", "127.0.0.1", "--port", &port])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _daemon = sferic(&["run", "--url", &url])
        .env("SFERIC__HTTP__LISTEN", "")
        .env("SFERIC__LIMITS__TIMEOUT", "20s")
        .spawn()
        .unwrap();
    let folder = TempDir::new().unwrap();
    let (code, scenes, err) =
        output(&mut sferic(&["simulate", "--out", folder.path().to_str().unwrap(), "--scenes", "2"])).await;
    assert_eq!(code, 0, "{err}");
    let mut command = sferic(&["publish", "--url", &url, "--source", "north.rx2", "--wait", "--json"]);
    let (code, out, err) = output(command.args(scenes.lines())).await;
    assert_eq!((code, out.lines().count()), (0, 2), "{out}{err}");
}

#[tokio::test]
async fn a_refusal_of_the_server_is_an_error_at_once_with_its_text() {
    if !tools_are_there() {
        return;
    }
    let (server, _folder) = server_with(USERS).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let _hearer = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    for (user, arguments, words) in [
        ("mute:pw", &[][..], r#"Permissions Violation for Publish to "iq.frames.t.rx""#),
        ("mute:pw", &["--wait"], r#"Permissions Violation for Publish to "iq.frames.t.rx""#),
        ("plain:pw", &["--wait"], r#"Permissions Violation for Subscription to "_INBOX."#),
        ("plain:pw", &["--wait"], "set nats.inbox_prefix"),
        ("all:wrong", &[], "nats.user and nats.password"),
    ] {
        let began = Instant::now();
        let (code, out, err) = published(&sign_in(server.url(), user), arguments).await;
        assert_eq!((code, out.as_str()), (1, ""), "{user} {arguments:?}: {err}");
        assert!(
            err.contains(words) && !err.contains("sent in") && !err.contains("wrong"),
            "{user} {arguments:?}: {err}"
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{user} {arguments:?} took {:?}", began.elapsed());
    }
    // Who may publish frames and nothing else needs no inbox where nothing is waited for.
    let (code, _, err) = published(&sign_in(server.url(), "plain:pw"), &[]).await;
    assert!(code == 0 && err.contains("3 frames sent"), "{err}");
}

#[tokio::test]
async fn credentials_in_the_url_sign_in_and_are_never_shown() {
    if !tools_are_there() {
        return;
    }
    let (users, _folder) = server_with(USERS).await;
    let token = PrivateServer::start(&["--auth", "s3cr3t:word"]).await.unwrap();
    for (server, secret) in [(&users, "odd%3Aname:p%40ss%2Fw%25rd"), (&token, "s3cr3t%3Aword")] {
        let url = sign_in(server.url(), secret);
        // It fails only for want of a subscriber.
        let (code, out, err) = published(&url, &["--patience", "0"]).await;
        assert!(code == 1 && err.contains("no daemon listens"), "{err}");
        let (_, listening, talk) = output(&mut sferic(&["doctor", "--url", &url])).await;
        assert!(listening.contains("version") && listening.contains("nats://***@127.0.0.1"), "{listening}");
        for text in [out, err, listening, talk] {
            assert!(!text.contains("s3cr3t") && !text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
        }
    }
    let (code, out, err) = output(&mut sferic(&["doctor", "--url", &sign_in(token.url(), "s3cr3t")])).await;
    let line = out.lines().find(|line| line.contains("NATS server")).unwrap_or_default();
    assert_eq!(code, 1, "{err}");
    assert!(
        line.starts_with("missing") && line.contains("nats.token") && !line.contains("start a"),
        "{line}"
    );
    assert_eq!(line.matches("authorization violation").count(), 1, "{line}");
}

#[tokio::test]
async fn outcomes_arrive_on_a_configured_inbox_prefix() {
    if !tools_are_there() {
        return;
    }
    let (server, _folder) = server_with(USERS).await;
    let _daemon = Daemon::start(server.url(), &[("LIMITS__TIMEOUT", "20s")]).await;
    let (mut command, _folder) =
        publish(&sign_in(server.url(), "own:pw"), &["--wait", "--json", "--model", "none"]);
    let (code, out, err) = output(command.env("SFERIC__NATS__INBOX_PREFIX", "answers.own")).await;
    assert_eq!((code, out.matches("model_not_found").count()), (0, 3), "{out}{err}");
}

#[tokio::test]
async fn answers_that_are_no_outcome_are_ignored() {
    if !tools_are_there() {
        return;
    }
    let store = TempDir::new().unwrap();
    let server =
        PrivateServer::start(&["--jetstream", "--store_dir", store.path().to_str().unwrap()]).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client.clone());
    let stream = async_nats::jetstream::stream::Config {
        name: "KEPT".into(),
        subjects: vec!["iq.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(stream).await.unwrap();
    // Beside the stream's acknowledgement somebody else answers too, before the outcome comes.
    let mut frames = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(frame) = frames.next().await {
            let reply = frame.reply.unwrap();
            let said = rmp_serde::to_vec_named(&serde_json::json!({"hello": "\u{9b}2J"})).unwrap();
            client.publish(reply.clone(), said.into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let outcome =
                serde_json::json!({"source": "t.rx\n\u{202e}", "code": "overloaded", "message": "none"});
            client.publish(reply, rmp_serde::to_vec_named(&outcome).unwrap().into()).await.unwrap();
        }
    });
    for arguments in [&["--wait"][..], &["--wait", "--json"]] {
        let (code, out, err) = published(server.url(), arguments).await;
        assert_eq!((code, out.lines().count()), (0, 3), "{out}{err}");
        assert!(out.contains(r"t.rx\u000a\u202e") || out.contains(r"t.rx\n\u202e"), "{out}");
        assert_eq!(
            err.matches("an answer to frame 0 is not an outcome: has neither `kind` nor `code`").count(),
            1,
            "{err}"
        );
        assert!(
            err.contains("0 predictions, 3 failures (overloaded 3), 0 lost") && !err.contains("stream"),
            "{err}"
        );
    }
    answering.abort();
}
