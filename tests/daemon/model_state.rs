//! What is active, split and shadowed, over a restart and in a fleet.

use std::path::Path;
use std::time::Duration;

use async_nats::Client;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::model_service::add;
use crate::support::*;

/// Versions 1 and 2 of `m`, and a server.
struct World {
    folder: TempDir,
    _store: TempDir,
    server: PrivateServer,
    client: Client,
}

impl World {
    async fn new(second: &str) -> Self {
        let (folder, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        add(folder.path(), "m/1", "degrees/1");
        add(folder.path(), "m/2", second);
        let arguments = ["--jetstream", "--store_dir", store.path().to_str().unwrap()];
        let server = PrivateServer::start(&arguments).await.unwrap();
        let client = client(server.url()).await;
        Self { folder, _store: store, server, client }
    }

    /// A daemon with these versions, whose state is kept there.
    async fn daemon(&self, state: &str) -> Daemon {
        self.daemon_of(self.folder.path(), state).await
    }

    async fn daemon_of(&self, repository: &Path, state: &str) -> Daemon {
        let settings = [
            ("MODELS__REPOSITORY", repository.to_str().unwrap()),
            ("MODELS__DEFAULT", "m"),
            ("MODELS__STATE", state),
            ("MODELS__CANARY__LATENCY", "100"),
            ("CACHE__ENABLED", "false"),
            ("LIMITS__TIMEOUT", "10s"),
        ];
        Daemon::start(self.server.url(), &settings).await
    }

    async fn ask(&self, endpoint: &str, request: Value) -> Value {
        let answer =
            self.client.request(format!("sferic.{endpoint}"), request.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// `m` as each of the daemons lists it.
    async fn listed(&self) -> Vec<Value> {
        let all = sferic(&["models", "list", "--json", "--url", self.server.url()]);
        let (code, out, err) = output(&mut { all }).await;
        assert_eq!(code, 0, "{err}");
        let model = |line: &str| serde_json::from_str::<Value>(line).unwrap()["models"][0].clone();
        out.lines().map(model).collect()
    }

    /// Waits until each of so many daemons lists `m` so.
    async fn all(&self, daemons: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut last = Vec::new();
        let waiting = async {
            loop {
                last = self.listed().await;
                if last.len() == daemons && last.iter().all(&is) {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{last:?}");
        last
    }
}

async fn end(mut daemon: Daemon) {
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_what_is_active_split_and_shadowed_in_a_file() {
    if !tools_are_there() {
        return;
    }
    let world = World::new("degrees/1").await;
    let kept = TempDir::new().unwrap();
    let file = kept.path().join("state").join("models.json");
    let state = file.to_str().unwrap();
    let daemon = world.daemon(state).await;
    world.all(1, |model| model["active"] == "2").await;
    world.ask("models.promote", json!({"version": 1})).await;
    let split = json!({"weights": {"1": 3, "2": 1}, "steps": [25, 50], "for": "1h", "key": "source"});
    world.ask("models.split", split).await;
    world.ask("models.shadow", json!({"version": 2, "share": 0.5})).await;
    let is_kept = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("0.5"));
    let keeping = async {
        while !is_kept() {
            tokio::time::sleep(Duration::from_millis(20)).await
        }
    };
    tokio::time::timeout(PATIENCE, keeping).await.expect("the state is not kept");
    end(daemon).await;
    // Without it the highest would be active.
    let daemon = world.daemon(state).await;
    let model = world.all(1, |model| model["active"] == "1").await.remove(0);
    assert_eq!(model["previous"], "2");
    assert_eq!(model["split"], json!({"key": "source", "weights": {"1": 0.75, "2": 0.25}}), "{model}");
    assert_eq!(model["shadow"], json!({"version": "2", "share": 0.5}));
    let split = &world.ask("models.split", json!({})).await["split"];
    assert_eq!(
        (&split["step"], &split["for_s"], &split["min_frames"]),
        (&json!(25.0), &json!(3600.0), &json!(100))
    );
    // What is changed last is kept, also in a file that was lost meanwhile.
    std::fs::remove_file(&file).unwrap();
    world.ask("models.shadow", json!({"version": null})).await;
    end(daemon).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"active\": \"1\"") && text.contains("\"shadow\": null"), "{text}");
    // A version that is not there any more: what can be had serves, and the state waits for it.
    let gone = kept.path().join("gone");
    std::fs::rename(world.folder.path().join("m/1"), &gone).unwrap();
    let daemon = world.daemon(state).await;
    world.all(1, |model| model["active"] == "2").await;
    std::fs::rename(&gone, world.folder.path().join("m/1")).unwrap();
    world.all(1, |model| model["active"] == "1").await;
    end(daemon).await;
    std::fs::write(&file, "no state").unwrap();
    let mut refused = sferic(&["run", "--url", world.server.url()]);
    refused.env("SFERIC__MODELS__STATE", state).env("SFERIC__MODELS__REPOSITORY", world.folder.path());
    refused.env("SFERIC__MODELS__DEFAULT", "m").env("SFERIC__HTTP__LISTEN", "");
    let (code, _, err) = output(&mut refused).await;
    assert!(code == 1 && err.contains("models.state") && err.contains("models.json"), "{code}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_bucket_every_daemon_follows() {
    if !tools_are_there() {
        return;
    }
    let world = World::new("nan/1").await;
    let others = TempDir::new().unwrap();
    add(others.path(), "m/1", "degrees/1");
    let _first = (world.daemon("kv:state").await, world.daemon("kv:state").await);
    world.ask("models.promote", json!({"version": 1})).await;
    world.all(2, |model| model["active"] == "1").await;
    world.ask("models.split", json!({"weights": {"1": 9, "2": 1}, "key": "frame"})).await;
    world.all(2, |model| model["split"]["weights"]["2"] == 0.1).await;
    // One that comes later, and has not the canary yet.
    let late = world.daemon_of(others.path(), "kv:state").await;
    world.all(3, |model| model["active"] == "1").await;
    add(others.path(), "m/2", "nan/1");
    world.all(3, |model| model["split"]["weights"]["2"] == 0.1).await;
    // Whoever finds the canary worse, all roll it back.
    for n in 0..1000 {
        let frame = pack(&steady(&n.to_string()));
        world.client.request("iq.frames.rx", frame.into()).await.unwrap();
        if n % 50 == 49 && world.listed().await.iter().any(|model| model["split"].is_null()) {
            break;
        }
    }
    world.all(3, |model| model["split"].is_null()).await;
    end(late).await;
    // A bucket that is lost is written again; who starts then does not decide.
    let jetstream = async_nats::jetstream::new(world.client.clone());
    jetstream.delete_key_value("state").await.unwrap();
    let _late = world.daemon("kv:state").await;
    let listed = world.all(3, |model| model["active"] == "1").await;
    assert!(listed.iter().all(|model| model["previous"] == "2"), "{listed:?}");
    // A request for what is not there holds up nobody.
    let refused = world.ask("models.split", json!({"model": "other"})).await;
    assert_eq!(refused["message"], "no model `other`; there are m");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_wrong_changes_nothing() {
    if !tools_are_there() {
        return;
    }
    let world = World::new("degrees/1").await;
    let _daemon = world.daemon("kv:state").await;
    world.ask("models.promote", json!({"version": 1})).await;
    let jetstream = async_nats::jetstream::new(world.client.clone());
    let wrong = |split: Value, shadow: Value| json!({"m": {"active": "2", "split": split, "shadow": shadow}});
    let split = |weight: f64, steps: Value, step: u64| {
        json!({
            "key": "frame",
            "baseline": "2",
            "canaries": [["1", weight]],
            "rest": 1.0,
            "steps": steps,
            "min_frames": 0,
            "step": step,
            "step_began_ms": 0,
        })
    };
    for document in [
        wrong(split(-5.0, json!([]), 0), Value::Null),
        wrong(split(1.0, json!([400.0]), 0), Value::Null),
        wrong(split(1.0, json!([5.0, 50.0]), 7), Value::Null),
        wrong(Value::Null, json!({"version": "1", "share": -3.0})),
        wrong(Value::Null, json!({"version": "2", "share": 1.0})),
    ] {
        let store = async { jetstream.get_key_value("state").await };
        let store = store.await.unwrap();
        store.put("models", document.to_string().into()).await.unwrap();
        // Two looks.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let model = &world.listed().await[0];
        assert_eq!((&model["active"], &model["split"]), (&json!("1"), &Value::Null), "{document}");
    }
}
