//! Models of a real MLflow server: an alias that moves changes what serves.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::support::*;

/// Its servers start, each with seconds of imports.
const START: Duration = Duration::from_secs(200);

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_mlflow_that_moves_makes_its_version_active() {
    let below = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = sferic_tools::places("judges/mlflow/bin/python")
        .chain([below.join(".tools/judges/mlflow/bin/python")]);
    let Some(python) = python.find(|path| path.exists()).filter(|_| tools_are_there()) else {
        return sferic_tools::skip("MLflow is not there; run ops/setup judges");
    };
    let folder = tempfile::TempDir::new().unwrap();
    let files = folder.path().join("mlflow");
    std::fs::create_dir(&files).unwrap();
    let mut judge = Command::new(python)
        .arg(below.join("ops/judges/mlflow_server.py"))
        .arg(&files)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(judge.stdout.take().unwrap()).lines();
    let mut input = judge.stdin.take().unwrap();
    let mut answer = async || -> Value {
        let line = tokio::time::timeout(START, output.next_line()).await.expect("no answer in time").unwrap();
        serde_json::from_str(&line.expect("the judge ended, and says above why")).unwrap()
    };
    let url = answer().await["open"].as_str().unwrap().to_owned();
    let mut asked = async |command: &str| {
        input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        answer().await
    };
    asked("log degrees").await;
    asked("alias degrees live 1").await;

    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let repository = folder.path().join("models");
    std::fs::create_dir(&repository).unwrap();
    let source = format!(r#"[{{ kind = "mlflow", url = "{url}", model = "degrees", alias = "live" }}]"#);
    let settings = [
        ("MODELS__SOURCES", source.as_str()),
        ("MODELS__REPOSITORY", repository.to_str().unwrap()),
        ("MODELS__DEFAULT", "degrees"),
    ];
    // The repository is empty: what serves comes from MLflow.
    let _daemon = Daemon::start(server.url(), &settings).await;
    let active = async || {
        let answer = client.request("sferic.models", "".into()).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()["models"][0].clone()
    };
    let becomes = async |version: &str| {
        let there = async { while active().await["active"] != version {} };
        tokio::time::timeout(2 * PATIENCE, there).await.unwrap_or_else(|_| panic!("{version} is not active"));
    };
    becomes("1").await;
    asked("log degrees").await;
    asked("alias degrees live 2").await;
    becomes("2").await;
    let aliases = &active().await["versions"][1]["aliases"];
    assert_eq!(aliases, &json!(["champion", "live"]));
    let asking = pack(&with(&steady("7"), &[("model", "degrees@live".into())]));
    let outcome = Reply::of(client.request("iq.frames.rx", asking.into()).await.unwrap()).body;
    assert_eq!(outcome["model_version"], "2", "{outcome}");
    // One that cannot be used changes nothing, and the alias that goes back changes it back.
    asked("log degrees bare").await;
    asked("alias degrees live 3").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let model = active().await;
    assert_eq!((&model["active"], &model["previous"]), (&json!("2"), &json!("1")), "{model}");
    asked("alias degrees live 1").await;
    becomes("1").await;
    drop(input);
    assert!(tokio::time::timeout(START, judge.wait()).await.expect("it does not end").unwrap().success());
}
